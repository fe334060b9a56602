"""gpunet-train lecture: the book of the lecture that gpunet implements, computed on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(context_settings={"show_default": True})
@click.option(
    "--images", metavar="DATA", default="digits", help="Of rows 10 and 11: a folder of MNIST or CIFAR-10 files."
)
@click.option(
    "--out", "-o", metavar="FILE", type=click.Path(path_type=Path), default=Path("lecture.html"), help="The page."
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def command(images: str, out: Path, force: bool, quiet: bool) -> int:
    """Write one HTML page: the sixteen rows of CS231n's lecture 4, each computed live, with its picture and its code."""
    from ..errors import ConfigError
    from ..viz import lecture
    from . import source

    if out.exists() and not force:
        raise ConfigError(f"{out}: exists already. Another name by --out, or --force")
    dataset = source.read(images)
    lecture.save(
        out, dataset, force=force, tell=lambda line: None if quiet else print(line, file=sys.stderr, flush=True)
    )
    click.echo(f"page   {out}")
    return 0
