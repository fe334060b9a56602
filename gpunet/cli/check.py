"""gpunet-train check: what would be done to each column, and the sanity checks before a long run."""

from __future__ import annotations

from typing import Any

import click

from .rundir import to_json
from .train import Show, _options, data_options, read, recipe, resolve


@click.command()
@data_options
@click.option("--json", "as_json", is_flag=True, help="As one JSON object on stdout.")
@_options
def command(data: str | None, file: str | None, assignments: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Show what would be done to each column of DATA, and go through the checks of the CS231n lectures before a long run.

    Initial loss against chance; activations by layer; gradients against difference quotients; 20 rows learnt by heart; loss
    against zeroed inputs; dead or saturated units; updates against weights; rows that are in two sets. Each is PASS or
    WARN with advice. Takes the options of `train`; exits with 0 whatever it finds.
    """
    resolved = resolve(data, file, assignments, options)
    return before(read(resolved), resolved, Show(as_json, False), sanity=True, to_stdout=True)


def before(dataset: Any, settings: dict[str, Any], show: Show, *, sanity: bool, to_stdout: bool = False) -> int:
    """The report; on stderr where a run follows."""
    from ..train import recipe as recipes
    from ..train import sanity as checks

    chosen = recipe(settings)
    data = recipes.prepare(dataset, settings["data.target"], chosen)

    def say(line: str) -> None:
        if not show.quiet and not (to_stdout and show.as_json):
            click.echo(line, err=not to_stdout)

    columns = treatments(data.encoder)
    say(f"{dataset.name}: {dataset.rows:,} rows · {_target(data.target)}")
    wide = min(40, max((len(name) for name, _ in columns), default=0))
    for name, what in columns:
        say(f"  {name:{wide}}  {what}")
    for note in (*dataset.notes, *filter(None, [getattr(dataset.x, "layout", "")])):
        say(f"  {note}")
    findings = []
    if sanity:
        for finding in checks.suite(subject(data, chosen)):
            findings.append(finding)
            say(str(finding))
        warned = sum(not f.passed for f in findings)
        say(f"{len(findings) - warned} passed" + (f", {warned} to look at" if warned else ""))
    if to_stdout and show.as_json:
        report = {
            "data": dataset.name, "rows": dataset.rows, "task": data.target.task, "classes": data.target.classes,
            "columns": [{"name": name, "treatment": what} for name, what in columns], "notes": data.notes,
            "layout": getattr(dataset.x, "layout", "") or None,
            "checks": [f.to_dict() for f in findings],
        }  # fmt: skip
        click.echo(to_json(report))
    return 0


def treatments(encoder: Any) -> list[tuple[str, str]]:
    """(column, what is done to it)."""
    if hasattr(encoder, "describe"):
        return [(name, what) for name, _, what in encoder.describe()]
    scaled = "as pixels: one mean and deviation for all" if encoder.pixels else "standardised one by one"
    return [(f"{encoder.columns} columns", scaled)]


def _target(target: Any) -> str:
    if target.classes is None:
        return f"regression ({target.reason})"
    shown = ", ".join(map(str, target.classes[:8])) + (", ..." if len(target.classes) > 8 else "")
    return f"{len(target.classes)} classes: {shown} ({target.reason})"


def subject(data: Any, chosen: Any) -> Any:
    from .. import losses
    from ..devices import device
    from ..train import recipe as recipes
    from ..train import sanity
    from ..train.trainer import auto_batch_size

    classes = data.target.classes
    return sanity.Subject(
        build=lambda: recipes.build(data, chosen), loss=losses.cross_entropy if classes is not None else losses.mse,
        optimizer=lambda: recipes.recipe_optimizer(chosen), train=data.train, validation=data.validation,
        classes=None if classes is None else len(classes), batch_size=chosen.batch_size or auto_batch_size(len(data.train[0])),
        activation=chosen.activation, device=device(chosen.device), seed=chosen.seed,
    )  # fmt: skip
