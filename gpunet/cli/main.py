"""The door of gpunet-train: finds the subcommand, and turns errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import signal
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from .. import __version__

# name -> module, and its line in --help; nothing of it is imported before it is asked for
# fmt: off
COMMANDS = {
    "train":      ("gpunet.cli.train",      "Train a net on a data file, an image folder, or the embedded digits."),
    "resume":     ("gpunet.cli.resume",     "Go on with a run that was cut off, bit for bit."),
    "eval":       ("gpunet.cli.evaluate",   "Score a trained model on a file whose answers are known."),
    "predict":    ("gpunet.cli.predict",    "Predict the rows of a file with a trained model."),
    "inspect":    ("gpunet.cli.inspect",    "Show what a model is: columns, layers, training, versions."),
    "compare":    ("gpunet.cli.compare",    "Lay runs side by side: results, and the settings in which they differ."),
    "plot":       ("gpunet.cli.plot",       "Draw the pictures of a run, and write its report."),
    "check":      ("gpunet.cli.check",      "Show what would be done to each column, and whether a net can learn from it."),
    "lr-find":    ("gpunet.cli.lrfind",     "Suggest a learning rate, or say that the data do not tell."),
    "init":       ("gpunet.cli.init",       "Write a configuration for a data file, to edit and train with."),
    "lecture":    ("gpunet.cli.lecture",    "Write the lecture on neural networks as one page, each picture computed here."),
    "env":        ("gpunet.cli.env",        "Show what was found on this machine, what is missing, and how to mend it."),
    "bench":      ("gpunet.cli.bench",      "Time training steps and predictions on this machine."),
    "completion": ("gpunet.cli.completion", "Print the completion script of a shell."),
}
# fmt: on


class _Commands(click.Group):
    """`gpunet-train DATA ...` is short for `gpunet-train train DATA ...`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return importlib.import_module(COMMANDS[name][0]).command if name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, and files, for DATA may come first."""
        return [*super().shell_complete(ctx, incomplete), CompletionItem(incomplete, type="file")]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in COMMANDS and args[0] not in ("--help", "-h", "--version"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=0.75)
            if near and not os.path.exists(args[0]):
                ctx.fail(f'no command and no file "{args[0]}". Did you mean "{near[0]}"?')
            args = ["train", *args]
        return super().parse_args(ctx, args)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Train multilayer perceptrons: a data file in, a model out.

    \b
      gpunet-train digits                       the embedded handwritten digits
      gpunet-train data.csv --target price      a table; strings and blanks as they are
      gpunet-train path/to/mnist/               a folder of images
      gpunet-train resume                       go on with the run that was cut off
      gpunet-train predict runs/data-1 new.csv -o out.csv

    `gpunet-train DATA` is short for `gpunet-train train DATA`; see `gpunet-train train --help` for its options.
    """


def main(argv: list[str] | None = None) -> Any:
    """Run the command. Exit codes: 0 ok, 1 failure, 2 usage, 3 data, 4 device, 5 diverged, 130 and 143 interrupted."""
    from ..errors import GpunetError

    with contextlib.suppress(ValueError):  # only the main thread can
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(args=argv, prog_name="gpunet-train", standalone_mode=False)
        sys.stdout.flush()  # a reader that has gone is noticed here, not at exit
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except GpunetError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except Terminated:
        click.echo("terminated", err=True)
        code = 143
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = 130
    except BrokenPipeError:  # the reader of our stdout has gone, as in `| head`
        code = _without_stdout()
    except OSError as error:
        click.echo(f"error: {error.filename or 'stdout'}: {error.strerror or error}", err=True)
        code = _without_stdout()
    sys.exit(code if isinstance(code, int) else 0)


class Terminated(BaseException):
    """SIGTERM: the clean-up on the way out is done, as for Ctrl-C."""


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


def _without_stdout() -> int:
    """What stdout did not take is dropped, for Python would try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    main()
