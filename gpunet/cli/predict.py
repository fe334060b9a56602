"""gpunet-train predict: the rows of a file through a trained model."""

from __future__ import annotations

import sys
from typing import Any

import click

from . import source


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.argument("data")
@click.option("--out", "-o", metavar="FILE", default="-", help='A CSV file; "-" is stdout.')
@click.option("--proba", is_flag=True, help="Also the probability of each class.")
@click.option("--device", "-d", help="auto, cpu, cuda or cuda:1.  [default: GPUNET_DEVICE, else auto]")
@click.option(
    "--header/--no-header", default=None, help="Whether a CSV's first line names the columns.  [default: found out]"
)
@click.option("--delimiter", metavar="CHAR", help="Of a CSV.  [default: found out]")
def command(
    model: str, data: str, out: str, proba: bool, device: str | None, header: bool | None, delimiter: str | None
) -> int:
    """Write one line for each row of DATA: the predicted class or value. MODEL is a run directory or a .gpunet file.

    Columns are found by name; further ones, the target's too, are ignored.
    """
    from ..data.csv import write_csv
    from ..data.table import Table
    from ..train.model import load

    loaded = load(model, device=device)
    rows = source.read(data, header=header, delimiter=delimiter)
    x = rows.test_x if rows.y is not None and rows.test_x is not None else rows.x
    if isinstance(x, Table) and loaded.info.get("target") in x.names and len(x.names) > 1:
        x = x.drop(loaded.info["target"])
    before = len(loaded.encoder.notes)
    names: list[str] = ["prediction"]
    columns: list[Any] = [loaded.predict(x)]
    if proba:
        p = loaded.predict_proba(x)
        names += [f"p({c})" for c in loaded.classes or []]
        columns += list(p.T)
    for note in loaded.encoder.notes[before:]:
        click.echo(f"note: {note}", err=True)
    write_csv(sys.stdout if out == "-" else out, names, columns)
    if out != "-":
        click.echo(f"{len(columns[0]):,} rows in {out}", err=True)
    return 0
