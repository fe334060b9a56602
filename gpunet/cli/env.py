"""gpunet-train env: what was found on this machine, to paste into a bug report."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def command(as_json: bool) -> int:
    """Show what was found on this machine, what is missing, and the command that mends it."""
    from ..devices.environment import env

    found = env()
    click.echo(json.dumps(found.to_dict()) if as_json else str(found))
    return 0
