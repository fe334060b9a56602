"""gpunet-train train: a data file in, a trained model out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from . import rundir, source


def _widths(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in value.replace("x", ",").split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"widths such as 256,128 wanted, got {value!r}") from None
    if any(n < 1 for n in widths):
        raise click.BadParameter(f"widths are at least 1, got {value!r}")
    return widths


@click.command(context_settings={"show_default": True})
@click.argument("data")
@click.option("--target", metavar="COLUMN", help="The column to predict (tables).")
@click.option(
    "--test",
    metavar="FILE|FRACTION",
    default="0.2",
    help="Test rows: a file, or a share of DATA; data with a test set of their own use that.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    help="Share of the other rows that chooses the best epoch.",
)
@click.option(
    "--task", type=click.Choice(["auto", "classification", "regression"]), default="auto", help="What the target is."
)
@click.option(
    "--hidden",
    metavar="WIDTHS",
    callback=_widths,
    default="128,64",
    help='Hidden widths, such as 256,128; "" for a linear model.',
)
@click.option("--activation", default="relu", help="Activation after each hidden layer.")
@click.option(
    "--dropout", type=click.FloatRange(0, 1, max_open=True), default=0.0, help="Dropout rate after each hidden layer."
)
@click.option(
    "--norm",
    type=click.Choice(["none", "batch", "layer"]),
    default="none",
    help="Normalisation before each activation.",
)
@click.option("--optimizer", default="adamw", help="sgd, adagrad, rmsprop, adam, adamw, nadam, lion or lbfgs.")
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    help="Peak learning rate.  [default: the optimizer's, 0.002 for adamw]",
)
@click.option(
    "--weight-decay", type=click.FloatRange(0), help="Weight decay.  [default: the optimizer's, 0.01 for adamw]"
)
@click.option("--schedule", default="one_cycle", help="constant, cosine, one_cycle, coslog4, flat_cos, ...")
@click.option(
    "--epochs", type=click.IntRange(1), help="Passes over the training rows.  [default: 15 to 60, by their number]"
)
@click.option("--batch-size", "-b", type=click.IntRange(1), help="Rows a step.  [default: 16 to 256, by their number]")
@click.option(
    "--patience", type=click.IntRange(0), help="Stop after so many epochs without improvement.  [default: never]"
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the split, the weights, the batches and dropout.")
@click.option("--device", "-d", help="auto, cpu, cuda or cuda:1.  [default: GPUNET_DEVICE, else auto]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "tf32", "bf16"]),
    default="float32",
    help="Of products; tf32 and bf16 on an NVIDIA GPU only.",
)
@click.option("--autotune", is_flag=True, help="Time the GPU library's algorithms for each product once.")
@click.option(
    "--out",
    "-o",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Run directory, which must not exist.  [default: runs/NAME-1, -2, ...]",
)
@click.option(
    "--split",
    "digits_split",
    type=click.Choice(["random", "official"]),
    default="random",
    help="Of the embedded digits: by seed, or disjoint writers.",
)
@click.option(
    "--header/--no-header", default=None, help="Whether a CSV's first line names the columns.  [default: found out]"
)
@click.option("--delimiter", metavar="CHAR", help="Of a CSV.  [default: found out]")
@click.option(
    "--on-bad-row", type=click.Choice(["error", "skip"]), default="error", help="What a CSV line of another length is."
)
@click.option("--json", "as_json", is_flag=True, help="Results as one JSON object on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def command(data: str, **options: Any) -> int:
    """Train a net on DATA: a CSV, NPZ, NPY or IDX file, a folder of MNIST or CIFAR-10 files, or the word "digits".

    Progress goes to stderr, results to stdout. The run directory holds best.gpunet (the model), metrics.csv,
    summary.json and env.json.
    """
    from ..train.recipe import Recipe, train

    quiet, as_json = options["quiet"], options["as_json"]
    fraction, test_file = _test(options["test"])
    dataset = _read(data, options, test_file)
    recipe = Recipe(
        test=fraction, norm=None if options["norm"] == "none" else options["norm"],
        **{k: options[k] for k in (
            "validation", "task", "hidden", "activation", "dropout", "optimizer", "lr", "weight_decay", "schedule", "epochs", "batch_size",
            "patience", "seed", "device", "precision", "autotune",
        )},
    )  # fmt: skip
    directory = rundir.claim(options["out"], dataset.name)
    try:
        run = train(
            dataset, target=options["target"], recipe=recipe, show_progress=False if quiet else "auto",
            announce=None if quiet else lambda *given: _announce(dataset, *given),
        )  # fmt: skip
    except BaseException:
        rundir.release(directory)
        raise
    model = rundir.write(directory, run)
    summary = rundir.summary(run, model)
    if as_json:
        click.echo(rundir.to_json(summary))
    else:
        _report(summary, directory, data)
    return 130 if run.history.stopped == "interrupted" else 0


def _test(value: str) -> tuple[float, str | None]:
    try:
        fraction = float(value)
    except ValueError:
        return 0.0, value
    if not 0 <= fraction < 1:
        raise click.BadParameter(f"a file, or a fraction in [0, 1), got {value}", param_hint="--test")
    return fraction, None


def _read(data: str, options: dict[str, Any], test_file: str | None) -> Any:
    how = {k: options[k] for k in ("header", "delimiter", "on_bad_row")}
    found = source.read(data, digits_split=options["digits_split"], **how)
    if test_file is not None:
        other = source.read(test_file, **how)
        if type(other.x) is not type(found.x):
            raise ConfigError(f"--test {test_file} is not the kind of data that {data} is")
        found.test_x, found.test_y = other.x, other.y
    return found


def _announce(dataset: Any, data: Any, net: Any, device: Any, recipe: Any) -> None:
    from .. import __version__
    from ..tabular import Encoder

    def say(text: str) -> None:
        click.echo(text, err=True)

    say(f"gpunet {__version__} · {device.description}")
    columns = len(data.encoder.names) if isinstance(data.encoder, Encoder) else data.train[0].shape[1]
    target = f"{len(data.target.classes)} classes" if data.target.classes is not None else "regression"
    why = f" ({data.target.reason})" if dataset.y is None else ""
    parts = {
        "train": data.train[0],
        "validation": data.validation and data.validation[0],
        "test": data.test and data.test[1],
    }
    counts = " / ".join(f"{name} {len(part):,}" for name, part in parts.items() if part is not None)
    say(f"{dataset.name}: {columns} columns · {target}{why} · {counts}")
    for note in data.notes:
        say(f"  {note}")
    hidden = len(recipe.hidden)
    parameters = sum(t.size for t in net.parameters())
    widths = "-".join(map(str, net.widths))
    say(f"MLP {widths} ({hidden} hidden layer{'s' * (hidden != 1)}, {parameters:,} parameters) · {recipe.optimizer}")


def _report(summary: dict[str, Any], directory: Path, data: str) -> None:
    test = [f"{name.removeprefix('test.')} {value:.4f}" for name, value in summary.items() if name.startswith("test.")]
    if test:
        click.echo(f"test {'   '.join(test)}   {summary['seconds']:.1f} s in all")
    click.echo(f"model  {summary['model']}")
    click.echo(f"next   gpunet-train predict {directory} {'your.csv' if data == 'digits' else data} -o out.csv")
    if summary["stopped"] == "interrupted":
        click.echo("interrupted: the model has the weights of its best epoch so far", err=True)
    sys.stdout.flush()
