"""gpunet-train compare: runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError, FormatError
from .rundir import to_json

LEFT_OUT = ("model", "rows_per_second", "monitor")


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--sort", metavar="KEY", help="Best first by this result, such as test.accuracy.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array on stdout.")
def command(runs: tuple[Path, ...], sort: str | None, as_json: bool) -> int:
    """Lay RUNS side by side: their results, and the settings in which they differ."""
    found = [{"run": str(run), **_summary(run)} for run in runs]
    settings = [_settings(run) for run in runs]
    differing = [k for k in dict.fromkeys(k for s in settings for k in s) if len({json.dumps(s.get(k)) for s in settings}) > 1]
    for row, own in zip(found, settings, strict=True):
        row.update({key: own.get(key) for key in differing})
    if sort is not None:
        if not any(sort in row for row in found):
            from ..errors import did_you_mean

            raise ConfigError(f'--sort: no result "{sort}".{did_you_mean(sort, found[0])}')
        found.sort(key=lambda row: _order(sort, row.get(sort)))
    if as_json:
        click.echo(to_json(found))
        return 0
    names = [n for n in dict.fromkeys(n for row in found for n in row) if n not in LEFT_OUT]
    rows = [[_cell(row.get(name)) for row in found] for name in names]
    wide = [max(len(name) for name in names), *(max(len(row[i]) for row in rows) for i in range(len(found)))]
    for name, cells in zip(names, rows, strict=True):
        click.echo("  ".join([f"{name:{wide[0]}}", *(f"{c:>{w}}" for c, w in zip(cells, wide[1:], strict=True))]).rstrip())
    return 0


def _order(key: str, value: Any) -> tuple[bool, float]:
    lower = any(word in key for word in ("loss", "rmse", "mae", "seconds"))
    missing = not isinstance(value, (int, float))
    return missing, 0.0 if missing else value if lower else -value


def _summary(run: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((run / "summary.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise FormatError(f"{run}: no summary.json; is it a run directory, and has the run ended?") from None
    except (OSError, ValueError, TypeError) as error:
        raise FormatError(f"{run}/summary.json: cannot be read ({error})") from None


def _settings(run: Path) -> dict[str, Any]:
    from .config import resolve

    return resolve(str(run / "config.yaml"), (), {}) if (run / "config.yaml").exists() else {}


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
