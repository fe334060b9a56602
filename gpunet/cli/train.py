"""gpunet-train train: a data file in, a trained model out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from . import config, source
from .rundir import BEST, LAST, RunDirectory, to_json

ASKED_TO_END = {"interrupted": 130, "terminated": 143}  # and the exit code of each


def _options(command: Any) -> Any:
    """An option for each key of the configuration that has one; values are checked all together, in config.py."""
    for name, key in reversed(config.KEYS.items()):
        if key.options:
            switch = "/" in key.options
            default = key.auto or _shown(key.default)
            click.option(
                *key.options.split(), config.parameter(name), default=None, is_flag=switch or None,
                metavar=key.metavar or None, help=f"{key.help}  [default: {default}]",
            )(command)  # fmt: skip
    return command


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def data_options(command: Any) -> Any:
    """DATA, --config and --set: what `resolve` puts together with the flags."""
    click.option(
        "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="A key of the configuration, such as optimizer.lr=1e-3."
    )(command)
    click.option("--config", "-c", "file", metavar="FILE", help='A YAML file, as `init` writes it; "-" is stdin.')(command)
    return click.argument("data", required=False, default=None)(command)


def resolve(data: str | None, file: str | None, assignments: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    resolved = config.resolve(file, assignments, {**options, config.parameter("data.path"): data})
    if resolved["data.path"] is None:
        raise ConfigError("Missing argument DATA, or data.path in --config")
    return resolved


def output_options(command: Any) -> Any:
    click.option("--json", "as_json", is_flag=True, help="Results as one JSON object on stdout.")(command)
    click.option("--quiet", "-q", is_flag=True, help="No progress.")(command)
    click.option("--verbose", "-v", is_flag=True, help="What is done to each column, and every setting.")(command)
    return command


@click.command()
@data_options
@click.option(
    "--out", "-o", metavar="DIR", type=click.Path(path_type=Path),
    help="Run directory, which must not exist.  [default: runs/NAME-1, -2, ...]",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Go through the checks of `gpunet-train check` first.")
@click.option("--dry-run", is_flag=True, help="Read the data, check every setting, show what would be trained, and stop.")
@_options
@output_options
def command(data: str | None, file: str | None, assignments: tuple[str, ...], out: Path | None, **options: Any) -> int:
    """Train a net on DATA: a table (CSV, Parquet, Arrow, JSON lines), arrays (NPZ, NPY, libsvm), images (IDX, CIFAR-10), a
    folder of them, or the word "digits". "-" is stdin.

    Flags go before --set, --set before --config. Progress goes to stderr, results to stdout. The run directory holds
    best.gpunet (the model), last.ckpt (to resume from), config.yaml, metrics.csv, metrics.jsonl, summary.json, env.json,
    log.txt, and with gpunet[plot] report.html and plots/.
    """
    resolved = resolve(data, file, assignments, options)
    show = Show(options["as_json"], options["quiet"], options["verbose"])
    dataset = read(resolved)
    if options["check"] or options["dry_run"]:
        from . import check

        failed = check.before(dataset, resolved, show, sanity=options["check"])
        if options["dry_run"]:
            return failed
    with RunDirectory.claim(out, dataset.name, quiet=show.quiet) as directory:
        return train(dataset, resolved, directory, show)


class Show:
    """How much is shown, and where."""

    def __init__(self, as_json: bool, quiet: bool, verbose: bool = False) -> None:
        self.as_json, self.quiet, self.verbose = as_json, quiet, verbose and not quiet


def read(settings: dict[str, Any]) -> Any:
    """The data set, with the test file's rows where one is given."""
    how = {name: settings[f"data.{name}"] for name in ("header", "delimiter", "on_bad_row")}
    found = source.read(settings["data.path"], digits_split=settings["data.split"], **how)
    test_file = settings["data.test"]
    if isinstance(test_file, str):
        other = source.read(test_file, **how)
        if type(other.x) is not type(found.x):
            raise ConfigError(f"--test {test_file} is not the kind of data that {settings['data.path']} is")
        found.test_x, found.test_y = other.x, other.y
    if settings["data.columns"] is not None:
        found.x = _as_asked(found.x, settings["data.columns"])
        found.test_x = None if found.test_x is None else _as_asked(found.test_x, settings["data.columns"])
    return found


def _as_asked(x: Any, columns: str) -> Any:
    from ..data.table import Table
    from ..tabular.asked import parsed, retyped

    if not isinstance(x, Table):
        raise ConfigError(f"--columns {columns}: the data are no table, so that no column has a name")
    return retyped(x, parsed(columns))


def recipe(settings: dict[str, Any]) -> Any:
    from ..train.recipe import Recipe

    def section(name: str, *keys: str) -> dict[str, Any]:
        return {key: settings[f"{name}.{key}"] for key in keys}

    test, norm = settings["data.test"], settings["model.norm"]
    return Recipe(
        hidden=tuple(settings["model.hidden"]), norm=None if norm == "none" else norm,
        test=0.0 if isinstance(test, str) else test, optimizer=settings["optimizer.name"],
        **section("data", "validation", "task"), **section("model", "activation", "dropout"),
        **section("optimizer", "lr", "weight_decay", "schedule"),
        **section("train", "epochs", "batch_size", "patience", "max_seconds", "seed", "device", "precision", "autotune"),
    )  # fmt: skip


def as_resolved(settings: dict[str, Any], chosen: Any) -> dict[str, Any]:
    """The configuration with what was chosen for its automatic values."""
    named = {"optimizer.lr": "lr", "optimizer.weight_decay": "weight_decay"}
    named |= {f"train.{key}": key for key in ("epochs", "batch_size", "device")}
    return settings | {key: getattr(chosen, attribute) for key, attribute in named.items()}


def train(dataset: Any, settings: dict[str, Any], directory: RunDirectory, show: Show, *, resume: bool | str = False) -> int:
    """Train in this directory, and tell the results."""
    import os

    from ..data.splits import fingerprint
    from ..train.checkpoint import Checkpoint
    from ..train.recipe import train as train_recipe

    keeper = Checkpoint(
        directory.path / LAST, every=settings["run.checkpoint_every"],
        made_with={"file": {"content": fingerprint(dataset), "target": settings["data.target"]}},
    )  # fmt: skip

    def ready(data: Any, trainer: Any, chosen: Any) -> None:
        directory.config = as_resolved(settings, chosen)
        keeper.about = {"config": directory.config, "folder": os.getcwd()}
        announce(directory.say, dataset, data, trainer, chosen)
        if show.verbose:
            describe(directory.say, data, directory.config)

    callbacks: list[Any] = [directory]
    if settings["run.tensorboard"]:
        from .tensorboard import EventFiles

        callbacks.append(EventFiles(directory.path))
    with directory.recording():
        run = train_recipe(
            dataset, target=settings["data.target"], recipe=recipe(settings), callbacks=callbacks,
            show_progress=False if show.quiet else "auto", announce=ready, checkpoint=keeper, resume=resume,
            on_best=directory.keep_best,
        )  # fmt: skip
    found = directory.finish(run)
    tell(found, directory, settings["data.path"], show)
    if found["stopped"] in ASKED_TO_END:  # who waits for the end of a run does not wait for pictures of half of it
        return ASKED_TO_END[found["stopped"]]
    if settings["run.report"]:
        page = directory.draw(run)
        if page is not None and not show.as_json:
            click.echo(f"report {page}")
    return 0


def announce(say: Any, dataset: Any, data: Any, trainer: Any, chosen: Any) -> None:
    from .. import __version__
    from ..tabular import Encoder

    say(f"gpunet {__version__} · {trainer.device.description}")
    columns = len(data.encoder.names) if isinstance(data.encoder, Encoder) else data.train[0].shape[1]
    target = f"{len(data.target.classes)} classes" if data.target.classes is not None else "regression"
    why = f" ({data.target.reason})" if dataset.y is None else ""
    parts = {
        "train": data.train[0],
        "validation": data.validation and data.validation[0],
        "test": data.test and data.test[1],
    }
    counts = " / ".join(f"{name} {part.shape[0]:,}" for name, part in parts.items() if part is not None)
    say(f"{dataset.name}: {columns} columns · {target}{why} · {counts}")
    for note in data.notes:
        say(f"  {note}")
    net, hidden = trainer.model, len(chosen.hidden)
    parameters = sum(t.size for t in net.parameters())
    widths = "-".join(map(str, net.widths))
    say(f"MLP {widths} ({hidden} hidden layer{'s' * (hidden != 1)}, {parameters:,} parameters) · {chosen.optimizer}")


def describe(say: Any, data: Any, settings: dict[str, Any]) -> None:
    from .check import treatments

    for name, what in treatments(data.encoder):
        say(f"  {name}: {what}")
    for line in config.to_yaml(settings).splitlines():
        say(f"  {line}")


def tell(found: dict[str, Any], directory: RunDirectory, data: str, show: Show) -> None:
    test = [f"{name.removeprefix('test.')} {value:.4f}" for name, value in found.items() if name.startswith("test.")]
    if test:
        directory.say(f"test {'   '.join(test)}", shown=False)
    if found["stopped"] in ASKED_TO_END:
        kept = f"{BEST} has the weights of its best epoch so far" if found["best_epoch"] else "no epoch was finished"
        directory.say(f"{found['stopped']}: {kept}", shown=True)
        directory.say(f"resume {line('resume', directory.path)}", shown=True)
    if show.as_json:
        click.echo(to_json(found))
        return
    if test:
        click.echo(f"test {'   '.join(test)}   {found['seconds']:.1f} s in all")
    click.echo(f"model  {found['model']}")
    rows = "your.csv" if data in ("digits", "-") else data
    click.echo(f"next   {line('predict', directory.path, rows, '-o', 'out.csv')}")
    sys.stdout.flush()


def line(*words: object) -> str:
    """What to type, spaces in names and all."""
    return shlex.join(["gpunet-train", *map(str, words)])
