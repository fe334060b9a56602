"""What the classifier and the regressor share: rows in, columns encoded, nets trained, one model out."""

from __future__ import annotations

import copy
import numbers
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import losses, nn
from ..data.batches import load
from ..data.sparse import Csr
from ..data.table import Table
from ..errors import ConfigError, DataError, ShapeError
from ..tabular import Encoder, SparseEncoder, Target
from ..tabular.asked import retyped
from ..train import History, Trainer
from ..train.forward import Forward
from ..train.model import Model
from ..train.together import concurrency, train_together
from .calibrate import temperature
from .contract import BaseEstimator, NotFittedError
from .folds import Fold, Indices, one, several
from .judge import Judge, judge
from .rows import (
    Rows,
    canonical,
    check_finite_cells,
    columns_of,
    is_frame,
    names_of,
    read_weight,
    read_x,
    read_y,
    rows_of,
)
from .settings import Penalised, Settings, loss, settings
from .snapshot import Snapshot, earlier

Array = npt.NDArray[Any]


class Columns(list[tuple[str, str, str]]):
    """(column, kind, what is done to it); printed as a table."""

    def __str__(self) -> str:
        wide = [max((len(row[i]) for row in self), default=0) for i in (0, 1)]
        return "\n".join(f"{name:{wide[0]}}  {kind:{wide[1]}}  {done}" for name, kind, done in self)


class MLP(BaseEstimator):
    """Subclasses say what is predicted, by `_target` and the methods beside it."""

    model_: Model
    encoder_: Any
    target_: Target
    history_: History
    histories_: list[History]
    n_iter_: int

    def _target(self, y: Array) -> Target:
        raise NotImplementedError

    def _judged_by_loss(self) -> bool:
        """Whether the loss chooses the best epoch, and no metric of the preset's."""
        return isinstance(self.scoring, str) and self.scoring == "loss"

    def _usual_metrics(self) -> tuple[str, ...]:
        raise NotImplementedError

    # ------------------------------------------------------------------ fit

    def fit(self, X: Any, y: Any, sample_weight: Any = None, eval_set: Any = None) -> Any:
        """Learn from a table as it is.

        Args:
            X: a frame (pandas, polars, pyarrow), a dict of columns, or an array [rows, columns]; text, blanks and
                dates may be in it.
            y: [rows], or [rows, k] for labels (0 and 1) and several values.
            sample_weight: [rows], at least 0. Whole numbers count rows: 3 is the row three times.
            eval_set: (X, y) or (X, y, sample_weight) that choose the best epoch, instead of rows held out.

        Raises:
            DataError, ShapeError: the table or the answers cannot be learned from; the message says where and why.
            ConfigError: a setting that does not exist. DivergedError: NaN in training.
        """
        with self._whole():
            return self._fit(X, y, sample_weight, eval_set)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """All of a fit or nothing: an error leaves what was learned before."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _fit(self, X: Any, y: Any, sample_weight: Any, eval_set: Any) -> Any:
        asked = settings(self)
        going_on = self.warm_start and hasattr(self, "model_")
        given = X if going_on else read_x(X, type(self).__name__)
        rows = self._rows(given, y, sample_weight, keep=going_on)
        target = self.model_.target if going_on else self._target(rows.y)
        codes = self._codes(target, rows.y)
        if self.shuffle:
            rows = canonical(rows, codes)
            codes = self._codes(target, rows.y)
        rows = self._balanced(rows, target, codes)
        seed = self._live()[0].seed if going_on else self._seed()
        held_out = None if eval_set is None else self._eval_rows(eval_set)
        found = self._folds(rows, codes if target.task == "classification" else None, asked, seed, held_out)
        if not going_on:
            self._learn_columns(names_of(X), given, rows, found, target, asked)
            self._trainers = [self._trainer(asked, seed + i) for i in range(len(found) * asked.members)]
        elif len(self._live()) != len(found) * asked.members:
            raise ConfigError(
                "warm_start: cv and n_ensemble must stay as they were in the first fit; give cv= a number where the preset "
                "makes it of the rows"
            )
        self._train(rows, found, held_out, asked)
        return self

    def _continue(self, X: Any, y: Any, sample_weight: Any, target: Callable[[Array], Target]) -> Any:
        """One epoch over these rows, from where training stood; `target` makes the target of the first rows."""
        with self._whole():
            return self._one_epoch(X, y, sample_weight, target)

    def _one_epoch(self, X: Any, y: Any, sample_weight: Any, target: Callable[[Array], Target]) -> Any:
        asked = settings(self)
        first = not hasattr(self, "model_")
        if first and (self.cv is not None or asked.members > 1):
            raise ConfigError("partial_fit begins with one net, for the rows it gets: leave cv and n_ensemble out")
        given = read_x(X, type(self).__name__) if first else X
        rows = self._rows(given, y, sample_weight, keep=not first)
        made = target(rows.y) if first else self.target_
        rows = self._balanced(rows, made, self._codes(made, rows.y))
        every: Fold = np.arange(len(rows)), None
        if first:
            self._learn_columns(names_of(X), given, rows, [every], made, asked)
            asked.optimizer["schedule"] = "constant"  # how long it will go on is not known
            self._trainers = [self._trainer(asked, self._seed())]
        for trainer in self._live():
            trainer.seed += 1  # another order of the rows in each call
        before, curve = (0, None) if first else (self.n_iter_, self.history_)
        kept = {"epochs": 1, "restore_best": False, "batch_size": asked.fit.get("batch_size")}
        self._train(rows, [every] * len(self._trainers), None, replace(asked, fit=kept, judge=None, members=1))
        if curve is not None:
            curve = copy.deepcopy(curve)  # an error may still bring the old one back
            curve.add(self.history_.at(1))
            self.history_, self.histories_[0] = curve, curve
        self.n_iter_ = before + 1
        return self

    def _rows(self, X: Any, y: Any, sample_weight: Any, keep: bool) -> Rows:
        x = self._read(X) if keep else read_x(X, type(self).__name__)
        if not keep:
            x = retyped(x, self.columns) if self.columns and isinstance(x, Table) else x
            check_finite_cells(x)
        count = rows_of(x)
        answers = read_y(y, count, type(self).__name__)
        weight = read_weight(sample_weight, count)
        rows = Rows(x, answers, weight, np.arange(count))
        rows = rows if weight is None else rows.take(np.flatnonzero(weight))
        if len(rows) < 2:
            raise DataError(f"n_samples={len(rows)}: nothing can be learned from one sample; two at least are needed")
        return rows

    def _codes(self, target: Target, y: Array) -> Array:
        """The answers as the numbers that rows are sorted and stratified by."""
        return target.encode(y) if target.task != "regression" else np.asarray(y, np.float64)

    def _balanced(self, rows: Rows, target: Target, codes: Array) -> Rows:
        return rows

    def _eval_rows(self, eval_set: Any) -> Rows:
        parts = list(eval_set) if isinstance(eval_set, (tuple, list)) else []
        if len(parts) == 1 and isinstance(parts[0], (tuple, list)):  # LightGBM's list of pairs
            parts = list(parts[0])
        if not 2 <= len(parts) <= 3:
            raise ConfigError(f"eval_set: (X, y) or (X, y, sample_weight), got {type(eval_set).__name__}")
        x = read_x(parts[0], type(self).__name__)
        weight = read_weight(parts[2], rows_of(x)) if len(parts) == 3 else None
        return Rows(x, read_y(parts[1], rows_of(x), "eval_set"), weight, np.arange(rows_of(x)))

    def _folds(self, rows: Rows, strata: Any, asked: Settings, seed: int, held_out: Rows | None) -> list[Fold]:
        """The rows that train and judge each fold's nets; without folds, the only pair."""
        if self.cv is not None and held_out is not None:
            raise ConfigError("cv holds rows out itself; leave eval_set out, or cv")
        if self.cv is not None:
            return several(self.cv, rows.source, seed, strata)
        if held_out is not None or not asked.validation:
            return [(np.arange(len(rows)), None)]
        if asked.cv is not None:  # the preset's
            parts, count = asked.cv(len(rows)) if callable(asked.cv) else (asked.cv, asked.cv)
            if len(rows) >= 2 * parts:
                return several(parts, rows.source, seed, strata)[:count]
        return [one(len(rows), asked.validation, seed, strata)]

    def _learn_columns(
        self, names: list[str] | None, given: Any, rows: Rows, folds: list[Fold], target: Target, asked: Settings
    ) -> None:
        """The encoder and the target, of training rows; of all rows where each trains some member."""
        training = folds[0][0] if len(folds) == 1 else np.arange(len(rows))
        if target.task == "regression":
            target = self._target(rows.y[training])
        if isinstance(rows.x, Csr):
            encoder: Any = SparseEncoder.fit(rows.x, rows=training)
        else:
            encoder = asked.preset.encode(rows.x, training, _plain(target))
        self.n_features_in_ = columns_of(given)
        self._names = given.names if isinstance(given, Table) else None
        if names is not None:
            self.feature_names_in_ = np.array(names, object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.encoder_, self.target_ = encoder, target
        self.notes_ = [*encoder.notes, *target.notes]

    def _trainer(self, asked: Settings, seed: int, net: nn.Module | None = None) -> Trainer:
        preset, target = asked.preset, _plain(self.target_)
        net = net or preset.build(self.encoder_, target, **asked.net)
        wanted = loss(self, self.target_.task, preset.loss(target))
        if self.alpha:
            wanted = Penalised(wanted, net, self.alpha)
        optimizer = preset.optimizer(target, **asked.optimizer)
        return Trainer(net, wanted, optimizer, device=self.device, seed=seed, metrics=self._metrics(asked))

    def _metrics(self, asked: Settings) -> list[Judge]:
        metrics = {m.__name__: m for m in [*map(judge, self._usual_metrics()), *([asked.judge] if asked.judge else [])]}
        return [copy.copy(m).of(self.target_) for m in metrics.values()]

    def _train(self, rows: Rows, found: list[Fold], held_out: Rows | None, asked: Settings) -> None:
        """Train each fold's nets and make one model of them."""
        whole = self._encoded(rows)
        judge = None if held_out is None else self._encoded(replace(held_out, x=self._named(held_out.x)))

        def judged(fold: Fold) -> Any:
            return judge if fold[1] is None else _part(whole, fold[1])

        nets = list(zip(self._trainers, [fold for fold in found for _ in range(asked.members)], strict=True))
        # callbacks and progress expect one net after the other
        nbytes = sum(part.nbytes for part in whole if part is not None)
        at_a_time = 1 if self.callbacks or self.verbose else concurrency(self._trainers, nbytes=nbytes)
        fit = dict(asked.fit)
        chosen = self.scoring is not None or self.early_stopping or self.n_iter_no_change is not None
        to_the_end = len(nets) > 1 and asked.preset.to_the_end and self.target_.task == "regression" and not chosen
        if to_the_end:
            fit |= {"restore_best": False, "patience": None}
        kept = [Snapshot(round(to_the_end * asked.preset.snapshot * fit.get("epochs", 1))) for _ in nets]
        if self.max_seconds is not None:
            fit["max_seconds"] = self.max_seconds / -(-len(nets) // at_a_time)

        def train(i: int) -> None:
            trainer, fold = nets[i]
            self._fit_one(trainer, _part(whole, fold[0]), judged(fold), replace(asked, fit=fit), kept[i])
            if trainer.history.stopped == "interrupted" and len(nets) > 1:
                raise KeyboardInterrupt  # a part of the nets is not what was asked for

        train_together(self._trainers, train, at_a_time=at_a_time)
        models = [*(trainer.model for trainer in self._trainers), *earlier(self._trainers, kept)]
        folds = [models[i : i + asked.members] for i in range(0, len(models), asked.members)]
        self._finish(folds, [judged(fold) for fold in found] if self._calibrates() else [])

    def _fit_one(self, trainer: Trainer, train: Any, validation: Any, asked: Settings, kept: Snapshot) -> None:
        fit, rows = dict(asked.fit), len(train[0])
        if trainer.optimizer.full_batch:
            fit.pop("batch_size", None)
        elif isinstance(fit.get("batch_size"), (int, np.integer)):
            fit["batch_size"] = min(int(fit["batch_size"]), rows)
        prefix, monitor = "" if validation is None else "val_", fit.pop("monitor", None)
        monitor = monitor(rows) if callable(monitor) else monitor
        monitor = monitor if validation is not None or monitor is None else monitor.removeprefix("val_")
        if asked.judge is not None and validation is None:
            raise ConfigError(
                f"scoring={asked.judge.__name__!r} needs rows that judge: eval_set, or early_stopping=True"
            )
        if asked.judge is not None:
            monitor = prefix + asked.judge.__name__
        elif self._judged_by_loss():
            monitor = prefix + "loss"
        trainer.fit(
            train, validation=validation, shuffle=self.shuffle, monitor=monitor, callbacks=(*(self.callbacks or ()), kept),
            show_progress=_progress(self.verbose), **fit,
        )  # fmt: skip
        trainer.release()

    def _encoded(self, rows: Rows) -> tuple[Any, ...]:
        return self.encoder_.transform(rows.x), self.target_.encode(self._answers(rows.y)), rows.weight

    def _answers(self, y: Array) -> Array:
        return y

    def _finish(self, folds: list[list[nn.Module]], judges: Sequence[Any]) -> None:
        """One model of all nets: each fold's are averaged and made honest, then the folds are averaged.

        A mean of honest probabilities is honest only where they agree, and else not sure enough (Ranjan and Gneiting 2010);
        that of their logarithms is nearly so.
        """
        nets = [self._joined(fold) for fold in folds]
        if judges and (smoothing := losses.smoothing(self._trainers[0].loss)):
            nets = [nn.Sequential(copy.deepcopy(net), nn.Unsmooth(smoothing)).to(net.device) for net in nets]
        self.temperature_ = self._temperature(nets, judges)
        if self.temperature_ is not None:
            nets = [self._cooled(net, self.temperature_) for net in nets]
        net = self._joined(nets, average=None if self.temperature_ is None else "outputs")
        self.model_ = Model(net, self.encoder_, self.target_, info=self._info())
        self.histories_ = [trainer.history for trainer in self._trainers]
        self.history_ = self.histories_[0]
        self.n_iter_ = max(history.epochs for history in self.histories_)

    def _cooled(self, net: nn.Module, temperature: float) -> nn.Module:
        return nn.Sequential(copy.deepcopy(net), nn.Temperature(temperature)).to(net.device)

    def _joined(self, nets: list[nn.Module], average: str | None = None) -> nn.Module:
        if len(nets) == 1:
            return nets[0]
        average = average or ("probabilities" if self.target_.task == "classification" else "outputs")
        return nn.Ensemble(*[copy.deepcopy(net) for net in nets], average=average).to(nets[0].device)

    def _temperature(self, nets: list[nn.Module], judges: Sequence[Any]) -> float | None:
        """What the logits are divided by; None where no rows tell, or nothing is to be told."""
        if not judges or any(part is None for part in judges):
            return None
        outputs = [
            Forward(net.eval())(load(x, net.device, net.dtype)) for net, (x, *_) in zip(nets, judges, strict=True)
        ]
        answers = np.concatenate([y for _, y, _ in judges])
        weights = [np.ones(len(y)) if weight is None else weight for _, y, weight in judges]
        return temperature(np.concatenate(outputs), answers, np.concatenate(weights), self.target_.task)

    def _calibrates(self) -> bool:
        return False

    def _info(self) -> dict[str, Any]:
        from .. import __version__

        return {"estimator": type(self).__name__, "versions": {"gpunet": __version__, "numpy": np.__version__}}

    def _seed(self) -> int:
        """random_state as scikit-learn has it: a whole number, a generator, or None for NumPy's global one."""
        state = self.random_state
        if isinstance(state, numbers.Integral):
            if state < 0:
                raise ConfigError(f"random_state: a whole number of at least 0, got {state}")
            return int(state)
        if state is None:
            return int(np.random.randint(2**31))
        if isinstance(state, np.random.Generator):
            return int(state.integers(2**31))
        if isinstance(state, np.random.RandomState):
            return int(state.randint(2**31))
        raise ConfigError(f"random_state: a whole number, a NumPy generator or None, got {state!r}")

    # ------------------------------------------------------------------ predict

    def _fitted(self) -> Model:
        if not hasattr(self, "model_"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before using this estimator."
            )
        return self.model_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _read(self, X: Any) -> Any:
        """Rows to predict, as the encoder takes them: columns of a frame by name, of an array by place."""
        self._fitted()
        x, name = read_x(X, type(self).__name__), type(self).__name__
        learned_names = hasattr(self, "feature_names_in_")
        if is_frame(X) and learned_names:
            return self._named(x)
        if columns_of(x) != self.n_features_in_:
            raise ShapeError(
                f"X has {columns_of(x)} features, but {name} is expecting {self.n_features_in_} features as input"
            )
        if learned_names and not is_frame(X):
            warnings.warn(
                f"X does not have valid feature names, but {name} was fitted with feature names", stacklevel=4
            )
        elif names_of(X) is not None and not learned_names:
            warnings.warn(f"X has feature names, but {name} was fitted without feature names", stacklevel=4)
        return self._named(x)

    def _named(self, x: Any) -> Any:
        """The columns by the names that the encoder knows them by."""
        if isinstance(self.encoder_, SparseEncoder):
            return x if isinstance(x, Csr) else _as_sparse(x)
        if not isinstance(self.encoder_, Encoder):
            return x.dense() if isinstance(x, Csr) else x
        x = x.dense() if isinstance(x, Csr) else x
        table = x if isinstance(x, Table) else Table.from_array(x)
        names = self._names or []
        if hasattr(self, "feature_names_in_") and (table.names == names or not set(names).isdisjoint(table.names)):
            return self._typed(table)
        return self._typed(table.renamed(names))

    def _typed(self, table: Table) -> Table:
        """What `columns` says of those that are there; a missing one is the encoder's to tell."""
        wanted = {name: kind for name, kind in (self.columns or {}).items() if name in table.names}
        return retyped(table, wanted) if wanted else table

    def _outputs(self, X: Any) -> Array:
        model = self._fitted()
        made = model.outputs(self._read(X))
        for note in getattr(self.encoder_, "odd", ()):
            warnings.warn(note, stacklevel=4)
        return made

    # ------------------------------------------------------------------ what was learned

    @property
    def columns_(self) -> Columns:
        """What is done to each column: print it."""
        self._fitted()
        left_out = [name for name, kind in (self.columns or {}).items() if kind == "drop"]
        return Columns([*self.encoder_.describe(), *((name, "dropped", "left out, as asked for") for name in left_out)])

    @property
    def loss_curve_(self) -> list[float]:
        """The training loss of each epoch."""
        self._fitted()
        return self.history_["loss"]

    def _linears(self) -> list[Any]:
        self._fitted()
        if len(self.histories_) > 1:
            raise AttributeError(f"the model is the mean of {len(self.histories_)} nets; model_.net has them")
        return [m for _, m in self.model_.net.modules() if isinstance(m, (nn.Linear, nn.NTKLinear))]

    @property
    def coefs_(self) -> list[Array]:
        """The matrix [inputs, outputs] that each linear layer multiplies by."""
        by = [m.inputs**-0.5 if isinstance(m, nn.NTKLinear) else 1.0 for m in self._linears()]
        return [np.asarray(m.weight.numpy() * share) for m, share in zip(self._linears(), by, strict=True)]

    @property
    def intercepts_(self) -> list[Array]:
        return [np.array(m.bias.numpy()) for m in self._linears() if "bias" in vars(m)]

    @property
    def n_layers_(self) -> int:
        """Layers of units, the inputs counted, as scikit-learn does."""
        return len(self._linears()) + 1

    @property
    def n_outputs_(self) -> int:
        self._fitted()
        return self.target_.outputs

    def save(self, path: Any) -> Any:
        """Write the model as one file, without pickle; `gpunet.load(path)` predicts from the same frames."""
        return self._fitted().save(path)

    # ------------------------------------------------------------------ copies, which can go on training too

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if state.pop("_trainers", None) is not None:
            state["_halted"] = [(t.model, t.optimizer.state_dict(), t.seed) for t in self._trainers]
        return state

    def _live(self) -> list[Trainer]:
        """The trainers, with the optimizers as they stood; a copy makes them when it is asked to go on."""
        if not hasattr(self, "_trainers"):
            asked = settings(self)
            self._trainers = [self._trainer(asked, seed, net) for net, _, seed in self._halted]
            for trainer, (_, state, _) in zip(self._trainers, self._halted, strict=True):
                trainer.optimizer.load_state_dict(state)
            del self._halted
        return self._trainers

    # ------------------------------------------------------------------ scikit-learn's tags

    def _more_tags(self) -> dict[str, Any]:  # 1.5
        return {"allow_nan": True, "X_types": ["2darray", "sparse"]}

    def __sklearn_tags__(self) -> Any:  # 1.6 and later
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        return tags


def _as_sparse(x: Any) -> Csr:
    """A few dense rows for a model of sparse ones."""
    matrix = np.stack([c.values for c in x.columns], axis=1) if isinstance(x, Table) else x
    if matrix.dtype == object:
        raise DataError("the model was fitted on a sparse matrix of numbers; this table holds text")
    if np.isnan(matrix.astype(np.float64)).any():
        raise DataError("the model was fitted on a sparse matrix, which has no blanks; this array holds NaN")
    row, column = np.nonzero(matrix)
    starts = np.searchsorted(row, np.arange(len(matrix) + 1))
    return Csr(matrix[row, column].astype(np.float64), column, starts, matrix.shape[1])


def _plain(target: Target) -> Target:
    """What a preset needs to know: labels are columns of logits, as classes are."""
    return replace(target, task="classification") if target.task == "multilabel" else target


def _part(whole: tuple[Any, ...], rows: Indices) -> tuple[Any, ...]:
    """Some rows of (x, y, weight)."""
    x, y, weight = whole
    return x.take(rows) if isinstance(x, Csr) else x[rows], y[rows], None if weight is None else weight[rows]


def _progress(verbose: Any) -> Any:
    return verbose if isinstance(verbose, str) else "auto" if verbose else False
