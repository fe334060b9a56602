"""gpunet-train init: a configuration for a data file, to edit."""

from __future__ import annotations

import sys
from typing import Any

import click

from . import config, source


@click.command()
@click.argument("data")
@click.option("--target", metavar="COLUMN", help="The column to predict.  [default: the last one]")
@click.option("--out", "-o", metavar="FILE", default="-", help='Where to write it; "-" is stdout.')
def command(data: str, target: str | None, out: str) -> int:
    """Write a YAML configuration for DATA, with every key, its value and its meaning:  gpunet-train init DATA > run.yaml"""
    from ..data.table import Table

    dataset = source.read(data)
    settings = config.defaults() | {"data.path": data}
    head = f"gpunet-train train --config run.yaml\n{dataset.name}: {dataset.rows:,} rows"
    if isinstance(dataset.x, Table) and dataset.y is None:
        settings["data.target"] = _target(dataset.x, target, data)
        head += f"\ncolumns: {_columns(dataset.x)}"
    elif target is not None:
        from ..errors import ConfigError

        raise ConfigError(f"{data} brings its own targets; leave --target out")
    text = config.template(settings, head)
    if out == "-":
        sys.stdout.write(text)
    else:
        with open(out, "x", encoding="utf-8") as file:  # what is there was edited
            file.write(text)
        click.echo(f"next   gpunet-train train --config {out}", err=True)
    return 0


def _target(table: Any, target: str | None, source: str) -> str:
    from ..errors import DataError, did_you_mean

    if target is None:
        return str(table.names[-1])
    if target not in table.names:
        raise DataError(f'no column "{target}" in {source}.{did_you_mean(target, table.names)}')
    return target


def _columns(table: Any) -> str:
    shown = [f"{c.name} ({'numbers' if c.kind == 'numeric' else 'text'})" for c in table.columns[:50]]
    return ", ".join(shown) + (f", ... {len(table.columns)} in all" if len(table.columns) > 50 else "")
