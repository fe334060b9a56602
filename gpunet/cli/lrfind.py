"""gpunet-train lr-find: a learning rate read off a range test, or "unsure"."""

from __future__ import annotations

from typing import Any

import click

from .rundir import to_json
from .train import _options, data_options, line, read, recipe, resolve


@click.command()
@data_options
@click.option("--json", "as_json", is_flag=True, help="As one JSON object, with the curves, on stdout.")
@_options
def command(data: str | None, file: str | None, assignments: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Train a little on DATA at ever higher learning rates (Smith 2017), three times, and suggest one; or say "unsure".

    It takes the options of `train`. The suggestion is a peak rate, for a schedule such as one_cycle.
    """
    from ..train import lrfind
    from ..train import recipe as recipes
    from .check import subject

    resolved = resolve(data, file, assignments, options)
    chosen = recipe(resolved)
    prepared = recipes.prepare(read(resolved), resolved["data.target"], chosen)
    on = subject(prepared, chosen)
    found = lrfind.find(
        on.build, on.loss, on.optimizer, on.train, batch_size=on.batch_size, device=on.device, seed=on.seed
    )
    if as_json:
        curves = [{"lr": rates.tolist(), "loss": losses.tolist()} for rates, losses in found.curves]
        click.echo(to_json({"lr": found.lr, "sure": found.lr is not None, "why": found.why, "curves": curves}))
    else:
        click.echo(str(found))
        if found.lr is not None:
            target = ("--target", resolved["data.target"]) if resolved["data.target"] else ()
            click.echo(f"next   {line(resolved['data.path'], *target, '--lr', f'{found.lr:.1e}')}", err=True)
    return 0
