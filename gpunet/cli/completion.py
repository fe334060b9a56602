"""gpunet-train completion: the script that lets a shell complete commands, options and files."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM, VARIABLE = "gpunet-train", "_GPUNET_TRAIN_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the completion script of a SHELL.

    \b
      bash   gpunet-train completion bash >> ~/.bashrc
      zsh    gpunet-train completion zsh >> ~/.zshrc
      fish   gpunet-train completion fish > ~/.config/fish/completions/gpunet-train.fish
    """
    from .main import cli

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, PROGRAM, VARIABLE).source())
    return 0
