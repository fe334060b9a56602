"""gpunet-train plot: the pictures of a run, and its report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError

if TYPE_CHECKING:  # not for --help
    from ..data.record import Dataset
    from ..train.recipe import Run

log = logging.getLogger("gpunet")


@click.command(context_settings={"show_default": True})
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--data",
    metavar="DATA",
    help="What RUN was trained on: its test rows are cut again, and drawn.  [default: where it was, if it is there unchanged]",
)
@click.option(
    "--out", "-o", metavar="DIR", type=click.Path(path_type=Path), help="Where pictures go.  [default: RUN/plots]"
)
@click.option("--format", "kind", type=click.Choice(["svg", "png", "pdf"]), default="svg", help="Of the pictures.")
def command(runs: tuple[str, ...], data: str | None, out: Path | None, kind: str) -> int:
    """Draw the pictures of a RUN into its folder plots/ and write its report.html anew; of several RUNs, their curves.

    Curves and parameters by layer; where the run's data are still there (or are given by --data) also confusion and
    calibration, or residuals, and what each column is worth.
    """
    from ..viz import curves, report
    from ..viz.files import save_figure

    folder = out or Path(runs[0]) / "plots"
    if len(runs) > 1:
        if data is not None:
            raise ConfigError("--data goes with one RUN")
        click.echo(f"plot    {save_figure(curves(*runs), folder / f'compare.{kind}')}")
        return 0
    told = report.of_directory(runs[0], _data_of(Path(runs[0]), data))
    for path in report.save_pictures(told, folder, kind):
        click.echo(f"plot    {path}")
    click.echo(f"report  {report.save(told, (out or Path(runs[0])) / 'report.html')}")
    return 0


def _data_of(run: Path, given: str | None) -> Dataset | None:
    """The data set named, read as the run's configuration says; else what the run was trained on, while it is the same."""
    from ..data.splits import fingerprint
    from ..errors import DataError, FormatError
    from ..train import checkpoint
    from . import resume, source, train
    from .rundir import LAST

    try:
        state, about = checkpoint.read(run / LAST)
        settings = resume.settings_of(about, (), given, run)
        content = state["made_with"]["file"]["content"]
    except (FormatError, ConfigError, KeyError, TypeError):  # a directory of some other maker, or of another version
        return source.read(given) if given is not None else None
    if given is None and settings["data.path"] == "-":
        return None
    try:
        dataset: Dataset = train.read(settings)
    except DataError:
        if given is not None:
            raise
        return None
    if given is None and fingerprint(dataset) != content:
        click.echo(f"note: {settings['data.path']} has changed since; what needs test rows is not drawn", err=True)
        return None
    has_test = settings["data.test"] != 0 or dataset.test_x is not None
    return dataset if has_test or given is not None else None


def write_report(run: Run, directory: Path, *, tell: Callable[[str], None] = log.info) -> Path | None:
    """report.html and plots/ at the end of a run; None, and a line told, where the packages they need are not there."""
    try:
        from ..viz import files, report

        told = report.of_run(run, directory)
        page = report.html(told)
    except ConfigError as missing:
        tell(f"no report.html: {missing}")
        return None
    report.save_pictures(told, directory / "plots")
    return files.write(directory / "report.html", page)
