"""gpunet-train plot: the pictures of a run, and its report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # not for --help
    from ..train.recipe import Run


@click.command(context_settings={"show_default": True})
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--data", metavar="DATA", help="What RUN was trained on: its test rows are cut again, and drawn.")
@click.option(
    "--out", "-o", metavar="DIR", type=click.Path(path_type=Path), help="Where pictures go.  [default: RUN/plots]"
)
@click.option("--format", "kind", type=click.Choice(["svg", "png", "pdf"]), default="svg", help="Of the pictures.")
def command(runs: tuple[str, ...], data: str | None, out: Path | None, kind: str) -> int:
    """Draw the pictures of a RUN into its folder plots/ and write its report.html anew; of several RUNs, their curves.

    Without --data: curves and parameters by layer. With it also confusion and calibration, or residuals, and what each
    column is worth.
    """
    from ..errors import ConfigError
    from ..viz import curves, report
    from ..viz.files import save_figure
    from . import source

    folder = out or Path(runs[0]) / "plots"
    if len(runs) > 1:
        if data is not None:
            raise ConfigError("--data goes with one RUN")
        click.echo(f"plot    {save_figure(curves(*runs), folder / f'compare.{kind}')}")
        return 0
    told = report.of_directory(runs[0], source.read(data) if data is not None else None)
    for path in report.save_pictures(told, folder, kind):
        click.echo(f"plot    {path}")
    click.echo(f"report  {report.save(told, (out or Path(runs[0])) / 'report.html')}")
    return 0


def write_report(run: Run, directory: Path) -> Path | None:
    """The report at the end of a run; None, and a line in the log, where the packages it needs are not there."""
    from ..errors import ConfigError

    try:
        from ..viz import report

        return report.save(report.of_run(run, directory), directory / "report.html")
    except ConfigError as missing:
        logging.getLogger("gpunet").info("no report.html: %s", missing)
        return None
