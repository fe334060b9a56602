"""gpunet-train inspect: what a trained model is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .rundir import to_json


@click.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object on stdout.")
def command(model: str, as_json: bool) -> int:
    """Show what MODEL, a run directory or a .gpunet file, reads, computes and predicts, and how it was trained."""
    from ..nn.summary import summary
    from ..train.model import load
    from .check import treatments

    loaded = load(model)
    columns = treatments(loaded.encoder)
    inputs = next((t.shape[0] for name, t in loaded.net.named_parameters() if t.ndim == 2), 1)
    net = summary(loaded.net, (1, inputs))
    facts: dict[str, Any] = {
        "model": model, "task": loaded.task, "classes": loaded.classes, "parameters": net.parameters, "flops": net.flops, **loaded.info,
    }  # fmt: skip
    directory = Path(model)
    if directory.is_dir():
        facts["files"] = sorted(p.name for p in directory.iterdir() if not p.name.startswith("."))
    if as_json:
        facts["columns"] = [{"name": name, "treatment": what} for name, what in columns]
        click.echo(to_json(facts))
        return 0
    classes = f"{len(loaded.classes)} classes: {_listed(loaded.classes)}" if loaded.classes is not None else "values"
    click.echo(f"{model}: {loaded.task}, predicts {classes}")
    for name, what in columns:
        click.echo(f"  {name}: {what}")
    click.echo(str(net))
    for name in ("data", "target", "device", "best_epoch", "epochs", "files"):
        if facts.get(name) is not None:
            value = facts[name]
            click.echo(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    for part, called in {"validation": "best epoch", "test": "test", "recipe": "recipe", "versions": "versions"}.items():
        if facts.get(part):
            click.echo(f"{called}: " + ", ".join(f"{k} {_figure(v)}" for k, v in facts[part].items() if v is not None))
    return 0


def _listed(names: list[Any]) -> str:
    return ", ".join(map(str, names[:10])) + (", ..." if len(names) > 10 else "")


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
