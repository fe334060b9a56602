"""From a data set to a trained model: split, encode, build the net, train, score. What `gpunet-train` does."""

from __future__ import annotations

import copy
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .. import losses, nn, optim
from ..data.dataset import Dataset
from ..data.files import check_fits
from ..data.sparse import Csr
from ..data.splits import split
from ..data.table import Table
from ..devices import Device
from ..devices import device as open_device
from ..errors import ConfigError, DataError, did_you_mean
from ..tabular import ArrayEncoder, Encoder, SparseEncoder, Target
from .callbacks import Callback
from .checkpoint import Checkpoint
from .history import History
from .model import Model
from .trainer import Trainer, auto_batch_size

MOST_VALIDATION_ROWS = 10_000


@dataclass(frozen=True)
class Recipe:
    """Every choice of a training run; the defaults train well on most tables and on MNIST."""

    hidden: tuple[int, ...] = (128, 64)
    activation: str = "relu"
    dropout: float = 0.0
    norm: str | None = None
    optimizer: str = "adamw"
    lr: float | None = None  # None: the optimizer's own in DEFAULT_LR
    weight_decay: float | None = None
    schedule: str = "one_cycle"
    epochs: int | None = None  # None: see default_epochs
    batch_size: int | None = None
    patience: int | None = None
    max_seconds: float | None = None
    validation: float = 0.2  # of the rows that are not test rows, at most MOST_VALIDATION_ROWS
    test: float = 0.2  # used when the data bring no test set of their own
    task: Literal["auto", "classification", "regression"] = "auto"
    seed: int = 0
    device: str | None = None  # None: GPUNET_DEVICE, else "auto"
    precision: str = "float32"  # of products: see Trainer
    autotune: bool = False


DEFAULT_LR = {
    "sgd": 0.05,
    "adagrad": 0.02,
    "rmsprop": 1e-3,
    "adam": 2e-3,
    "adamw": 2e-3,
    "nadam": 2e-3,
    "lion": 2e-4,
    "lbfgs": 1.0,
}


def default_epochs(rows: int) -> int:
    """About a million rows seen in all, between 15 and 60 epochs; more where those would be under 1,000 steps."""
    usual = np.clip(round(1_000_000 / max(rows, 1)), 15, 60)
    steps = -(-rows // auto_batch_size(rows))
    return int(max(usual, min(500, -(-1000 // max(steps, 1)))))


@dataclass
class Data:
    """A data set cut and encoded, ready for the trainer."""

    train: tuple[Any, npt.NDArray[Any]]  # x is an array, or a Csr, which stays sparse until a batch is made of it
    validation: tuple[Any, npt.NDArray[Any]] | None
    test: tuple[Any, npt.NDArray[Any]] | None  # as read: the model encodes it as it will encode what comes later
    encoder: Encoder | ArrayEncoder | SparseEncoder
    target: Target
    notes: list[str] = field(default_factory=list)


@dataclass
class Run:
    """What training gave."""

    model: Model
    history: History
    test: dict[str, float]
    data: Data
    recipe: Recipe
    seconds: float


def prepare(dataset: Dataset, target_column: str | None, recipe: Recipe) -> Data:
    """Split and encode; whatever is learned about the columns is learned from training rows only."""
    x, y, test = answers(dataset, target_column)
    if isinstance(x, Csr) and test is not None:  # either file may lack the last columns
        width = max(x.width, test[0].width)
        x, test = replace(x, width=width), (replace(test[0], width=width), test[1])
    if isinstance(x, Csr):
        check_fits(f"{dataset.name}: the first layer's weights", x.width, (recipe.hidden or (1,))[0])
    rows = len(y)
    everything = Target.fit(y, task=recipe.task)
    codes = everything.encode(y) if everything.task == "classification" else None
    fractions = _fractions(rows, recipe, has_test=test is not None)
    with warnings.catch_warnings():  # of classes with a single row: the target notes them by name
        warnings.simplefilter("ignore")
        train, validation, held_out = split(rows, fractions, seed=recipe.seed, stratify=codes)
    target = (
        everything if codes is not None else replace(Target.fit(y[train], task="regression"), reason=everything.reason)
    )
    if test is None and len(held_out):
        test = _take(x, held_out), y[held_out]
    made = Encoder if isinstance(x, Table) else SparseEncoder if isinstance(x, Csr) else ArrayEncoder
    encoder = made.fit(x, rows=train)

    def encoded(part: npt.NDArray[np.int64]) -> tuple[Any, npt.NDArray[Any]]:
        return encoder.transform(_take(x, part)), target.encode(y[part])

    notes = [*dataset.notes, *encoder.notes, *target.notes]
    return Data(encoded(train), encoded(validation) if len(validation) else None, test, encoder, target, notes)


def answers(dataset: Dataset, column: str | None) -> tuple[Any, npt.NDArray[Any], tuple[Any, npt.NDArray[Any]] | None]:
    """x, y and the data's own test set, with the target column taken out of a table."""
    if dataset.y is not None:
        if column is not None:
            raise ConfigError(f"{dataset.name} brings its own targets; leave --target out")
        test = (dataset.test_x, dataset.test_y) if dataset.test_x is not None and dataset.test_y is not None else None
        return (
            dataset.x,
            _named(dataset.y, dataset.classes),
            None if test is None else (test[0], _named(test[1], dataset.classes)),
        )
    if not isinstance(dataset.x, Table):
        raise DataError(f"{dataset.name} holds no targets: an array named y is wanted beside x")
    if column is None:
        raise ConfigError(
            f"{dataset.name}: which column is to be predicted? --target NAME. Columns: {', '.join(dataset.x.names)}"
        )
    x, y = take_target(dataset.x, column, dataset.name)
    if not isinstance(dataset.test_x, Table):
        return x, y, None
    return x, y, take_target(dataset.test_x, column, dataset.name)


def take_target(table: Table, column: str, source: str) -> tuple[Table, npt.NDArray[Any]]:
    """The table without the column, and the column's values."""
    if column not in table.names:
        raise DataError(f'no column "{column}" in {source}.{did_you_mean(column, table.names)}')
    if len(table.names) == 1:
        raise DataError(f'{source} has no column besides the target "{column}"')
    return table.drop(column), table[column].values


def _named(y: npt.NDArray[Any], classes: Sequence[str] | None) -> npt.NDArray[Any]:
    return y if classes is None or np.asarray(y).dtype.kind not in "iu" else np.asarray(classes, dtype=object)[y]


def _take(x: Any, rows: npt.NDArray[np.int64]) -> Any:
    return x.take(rows) if isinstance(x, Table) else x[rows]


def _fractions(rows: int, recipe: Recipe, *, has_test: bool) -> tuple[float, float, float]:
    for name in ("validation", "test"):
        if not 0 <= getattr(recipe, name) < 1:
            raise ConfigError(f"{name}: a fraction in [0, 1), got {getattr(recipe, name)}")
    test = 0.0 if has_test else recipe.test
    rest = 1.0 - test
    validation = min(recipe.validation * rest, MOST_VALIDATION_ROWS / rows)
    return rest - validation, validation, test


def build(data: Data, recipe: Recipe) -> nn.MLP:
    """The net for these columns and this target."""
    outputs = len(data.target.classes) if data.target.classes is not None else data.train[1].shape[1]
    return nn.MLP(
        data.train[0].shape[1],
        *recipe.hidden,
        outputs,
        activation=recipe.activation,
        dropout=recipe.dropout,
        norm=recipe.norm,
    )


def recipe_optimizer(recipe: Recipe) -> Any:
    settings: dict[str, Any] = {"lr": recipe.lr if recipe.lr is not None else DEFAULT_LR.get(recipe.optimizer, 1e-3)}
    if recipe.weight_decay is not None:
        settings["weight_decay"] = recipe.weight_decay
    made = optim.get(recipe.optimizer)
    return made(**settings) if recipe.optimizer == "lbfgs" else made(**settings, schedule=recipe.schedule)


def train(
    dataset: Dataset,
    *,
    target: str | None = None,
    recipe: Recipe | None = None,
    callbacks: Sequence[Callback] = (),
    show_progress: bool | str = "auto",
    announce: Any = None,
    checkpoint: Checkpoint | None = None,
    resume: bool | str = False,
    on_best: Callable[[Model], None] | None = None,
) -> Run:
    """Train an MLP on a data set and score it on its test rows.

    Args:
        target: the column to predict, where the data are a table.
        announce: called with (data, trainer, recipe) once all is ready to begin; the recipe's None are filled in.
        checkpoint, resume: as Trainer.fit has them.
        on_best: called with the best model so far, whenever the state is saved and a better epoch has come.
    """
    recipe = recipe or Recipe()
    started = time.perf_counter()
    device: Device = open_device(recipe.device)
    device.check_precision(recipe.precision)  # before the work of reading and encoding
    data = prepare(dataset, target, recipe)
    net = build(data, recipe)
    loss = losses.cross_entropy if data.target.task == "classification" else losses.mse
    trainer = Trainer(
        net, loss, recipe_optimizer(recipe), device=device, seed=recipe.seed, precision=recipe.precision,
        autotune=recipe.autotune,
    )  # fmt: skip
    recipe = resolved(recipe, trainer, rows=len(data.train[0]))

    def model(net: nn.Module, history: History) -> Model:
        return Model(net, data.encoder, data.target, info=_info(dataset, target, recipe, device, history))

    if checkpoint is not None and on_best is not None:
        checkpoint.also = _best_keeper(on_best, model)
    if announce is not None:
        announce(data, trainer, recipe)
    before_fit = time.perf_counter()
    history = trainer.fit(
        data.train, validation=data.validation, epochs=recipe.epochs or 1, batch_size=recipe.batch_size,
        patience=recipe.patience, max_seconds=recipe.max_seconds, callbacks=callbacks, show_progress=show_progress,
        checkpoint=checkpoint, resume=resume,
    )  # fmt: skip
    after_fit = time.perf_counter()
    made = model(net, history)
    test = made.evaluate(*data.test) if data.test is not None else {}
    made.info["test"] = _known(test)
    around = time.perf_counter() - after_fit + before_fit - started
    return Run(made, history, test, data, recipe, history.seconds + around)


def resolved(recipe: Recipe, trainer: Trainer, *, rows: int) -> Recipe:
    """The recipe with what its None stand for: the same run comes of it."""
    optimizer = trainer.optimizer
    return replace(
        recipe, lr=optimizer.lr, weight_decay=optimizer.weight_decay, epochs=recipe.epochs or default_epochs(rows),
        batch_size=recipe.batch_size or (None if optimizer.full_batch else auto_batch_size(rows)),
        device=trainer.device.name,
    )  # fmt: skip


def _best_keeper(tell: Callable[[Model], None], model: Callable[..., Model]) -> Callable[[Trainer], None]:
    """Tells of the trainer's best model so far, once each."""
    told = [0]

    def keep(trainer: Trainer) -> None:
        if trainer.best_state is None or trainer.best_epoch == told[0]:
            return
        net = copy.deepcopy(trainer.model)  # the trainer's own goes on being trained
        net.load_state_dict(trainer.best_state)
        history = copy.copy(trainer.history)
        history.best_epoch = told[0] = trainer.best_epoch
        tell(model(net, history))

    return keep


def _known(scores: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: what cannot be told is null."""
    return {name: None if value != value else value for name, value in scores.items()}


def _info(dataset: Dataset, target: str | None, recipe: Recipe, device: Device, history: History) -> dict[str, Any]:
    """What is kept in the model's file; no times, so that equal runs give equal files."""
    from .. import __version__

    best = history.at(history.best_epoch) if history.best_epoch else {}
    return {
        "data": dataset.name,
        "target": target,
        "recipe": {**asdict(recipe), "hidden": list(recipe.hidden)},
        "device": device.kind,
        "best_epoch": history.best_epoch,
        "epochs": history.epochs,
        "validation": _known(best),
        "versions": {"gpunet": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }
