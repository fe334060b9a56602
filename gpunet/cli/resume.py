"""gpunet-train resume: go on with a run that was cut off, with the bits of the run never interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from . import config, rundir
from .train import Show, line, output_options, read, tell, train


@click.command()
@click.argument("run", required=False, default=None, type=click.Path(path_type=Path))
@click.option("--data", metavar="FILE", help="Where the data are now.  [default: where they were]")
@click.option(
    "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Change a key of the configuration; needs --force."
)
@click.option("--force", is_flag=True, help="Go on although data, options, code or machine have changed.")
@output_options
def command(
    run: Path | None, data: str | None, assignments: tuple[str, ...], force: bool, as_json: bool, quiet: bool, verbose: bool
) -> int:
    """Go on with RUN, a run directory; without it, with the one under runs/ that was saved last.

    Whatever the end was (Ctrl-C, SIGTERM, SIGKILL, a power cut), the resumed run ends with the same model, bit for bit, as
    if nothing had happened. Where that cannot be promised, since the data, the options, the code or the machine changed,
    it says so and does not start, unless --force is given.
    """
    from ..tabular.phrases import plural
    from ..train import checkpoint

    path = rundir.newest() if run is None else run
    show = Show(as_json, quiet, verbose)
    with rundir.RunDirectory(path, quiet=quiet) as directory:
        _, about = checkpoint.read(path / rundir.LAST)
        settings = settings_of(about, assignments, data, path)
        if not assignments and not force and _finished(path):
            found = json.loads((path / "summary.json").read_text())
            directory.say(f"{path}: finished already, after {plural(found['epochs'], 'epoch')}")
            if found["stopped"] == "finished":
                more = f"train.epochs={2 * found['epochs']}"
                directory.say(f"more   {line('resume', path, '--set', more, '--force')}")
            tell(found, directory, settings["data.path"], show)
            return 0
        directory.say(f"resuming {path}")
        return train(read(settings), settings, directory, show, resume="force" if force else True)


def settings_of(about: dict[str, Any], assignments: tuple[str, ...], data: str | None, path: Path) -> dict[str, Any]:
    """The run's configuration; its data where they are seen from here."""
    saved = about.get("config")
    if not isinstance(saved, dict) or set(saved) != set(config.KEYS):
        raise ConfigError(f"{path / rundir.LAST}: its configuration is not of this version of gpunet-train")
    settings = config.resolve(None, assignments, {}, base=saved)
    settings["data.path"] = data or _seen_from_here(settings["data.path"], about)
    if isinstance(settings["data.test"], str):
        settings["data.test"] = _seen_from_here(settings["data.test"], about)
    return settings


def _seen_from_here(name: str, about: dict[str, Any]) -> str:
    there = os.path.join(about.get("folder", ""), name)
    return name if name in ("-", "digits") or os.path.exists(name) or not os.path.exists(there) else there


def _finished(path: Path) -> bool:
    try:
        found = json.loads((path / "summary.json").read_text())
        return found["stopped"] not in ("interrupted", "terminated") and "epochs" in found
    except (OSError, ValueError, KeyError, TypeError):
        return False
