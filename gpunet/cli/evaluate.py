"""gpunet-train eval: scores of a trained model on rows whose answers are known."""

from __future__ import annotations

import click

from . import source


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.argument("data")
@click.option("--target", metavar="COLUMN", help="The column with the answers.  [default: the one it was trained on]")
@click.option("--json", "as_json", is_flag=True, help="Results as one JSON object on stdout.")
@click.option("--device", "-d", help="auto, cpu, cuda or cuda:1.  [default: GPUNET_DEVICE, else auto]")
@click.option(
    "--header/--no-header", default=None, help="Whether a CSV's first line names the columns.  [default: found out]"
)
@click.option("--delimiter", metavar="CHAR", help="Of a CSV.  [default: found out]")
def command(
    model: str,
    data: str,
    target: str | None,
    as_json: bool,
    device: str | None,
    header: bool | None,
    delimiter: str | None,
) -> int:
    """Score MODEL, a run directory or a .gpunet file, on DATA. Data with a test set of their own are scored on that."""
    from ..errors import ConfigError
    from ..train.model import load
    from ..train.recipe import answers
    from .rundir import to_json

    loaded = load(model, device=device)
    read = source.read(data, header=header, delimiter=delimiter)
    column = target or (loaded.info.get("target") if read.y is None else None)
    x, y, test = answers(read, column)
    if target is not None and read.y is not None:
        raise ConfigError(f"{data} brings its own answers; leave --target out")
    x, y = test if test is not None else (x, y)
    scores = loaded.evaluate(x, y)
    if as_json:
        click.echo(
            to_json({"model": model, "data": data, "rows": len(y), **{f"test.{k}": v for k, v in scores.items()}})
        )
    else:
        click.echo("   ".join(f"{name} {value:.4f}" for name, value in scores.items()) + f"   {len(y):,} rows")
    return 0
