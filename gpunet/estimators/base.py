"""What the classifier and the regressor share: rows in, columns encoded, nets trained, one model out."""

from __future__ import annotations

import copy
import inspect
import numbers
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import losses, nn, ops, presets
from ..data.batches import load
from ..data.sparse import Csr
from ..data.splits import split
from ..data.table import Table
from ..engine import Tensor
from ..errors import ConfigError, DataError, ShapeError
from ..tabular import Encoder, SparseEncoder, Target
from ..train import History, Trainer
from ..train.forward import Forward
from ..train.model import Model
from ..train.together import train_together
from .calibrate import temperature
from .contract import BaseEstimator, NotFittedError
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
    retyped,
    rows_of,
)

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

PATIENCE = 10  # scikit-learn's n_iter_no_change
MOST_VALIDATION_ROWS = 10_000
ACTIVATIONS = {"logistic": "sigmoid"}  # scikit-learn's names
LOSSES = {"log_loss": "cross_entropy", "squared_error": "mse", "absolute_error": "mae"}
SCHEDULES = {"adaptive": {"name": "plateau", "patience": PATIENCE, "gamma": 0.2}}


class Penalised:
    """scikit-learn's alpha: a loss plus alpha / 2 times the sum of squared weights, over the rows of the batch.

    Only where it is differentiated: what judges an epoch is the loss alone.
    """

    def __init__(self, loss: Any, net: nn.Module, alpha: float) -> None:
        self.loss, self.net, self.alpha = loss, net, float(alpha)

    def __call__(self, outputs: Tensor, targets: Tensor, **weight: Any) -> Tensor:
        loss = self.loss(outputs, targets, **weight)
        if not outputs.tracked:
            return loss
        squares = [ops.sum(ops.square(t)) for t in self.net.parameters() if t.ndim > 1]
        return loss + self.alpha / (2 * outputs.shape[0]) * sum(squares[1:], squares[0])


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
            vars(self).clear()
            vars(self).update(before)
            raise

    def _fit(self, X: Any, y: Any, sample_weight: Any, eval_set: Any) -> Any:
        settings = self._settings()
        going_on = self.warm_start and hasattr(self, "model_")
        rows = self._rows(X, y, sample_weight, keep=going_on)
        target = self.model_.target if going_on else self._target(rows.y)
        codes = self._codes(target, rows.y)
        if self.shuffle:
            rows = canonical(rows, codes)
            codes = self._codes(target, rows.y)
        rows = self._balanced(rows, target, codes)
        seed = self._live()[0].seed if going_on else self._seed()
        held_out = None if eval_set is None else self._eval_rows(eval_set, target)
        folds = self._folds(rows, codes, target, settings, seed, held_out)
        if not going_on:
            self._learn_columns(X, rows, folds, target, settings)
            self._trainers = [self._trainer(settings, seed + i) for i in range(len(folds) * settings["n_ensemble"])]
        elif len(self._live()) != len(folds) * settings["n_ensemble"]:
            raise ConfigError("warm_start: cv and n_ensemble must stay as they were in the first fit")

        def train(i: int) -> None:
            part, validation = folds[i // settings["n_ensemble"]]
            self._train(self._trainers[i], rows.take(part), validation, settings)

        watched = self.callbacks or self.verbose  # by what expects one net after the other
        train_together(self._trainers, train, at_a_time=1 if watched else None)
        self._finish([validation for _, validation in folds])
        return self

    def _continue(self, X: Any, y: Any, sample_weight: Any, target: Callable[[Array], Target]) -> Any:
        """One epoch over these rows, from where training stood; `target` makes the target of the first rows."""
        with self._whole():
            return self._one_epoch(X, y, sample_weight, target)

    def _one_epoch(self, X: Any, y: Any, sample_weight: Any, target: Callable[[Array], Target]) -> Any:
        settings = self._settings()
        if self.cv is not None or settings["n_ensemble"] > 1:
            raise ConfigError("partial_fit trains one net on the rows it gets: leave cv and n_ensemble out")
        first = not hasattr(self, "model_")
        rows = self._rows(X, y, sample_weight, keep=not first)
        made = target(rows.y) if first else self.target_
        codes = self._codes(made, rows.y)
        rows = self._balanced(rows, made, codes)
        if first:
            self._learn_columns(X, rows, [(np.arange(len(rows)), None)], made, settings)
            settings["optimizer"]["schedule"] = "constant"  # how long it will go on is not known
            self._trainers = [self._trainer(settings, self._seed())]
        [trainer] = self._live()
        settings["fit"] = {"epochs": 1, "restore_best": False, "batch_size": settings["fit"].get("batch_size")}
        trainer.seed += 1  # another order of the rows in each call
        before = getattr(self, "n_iter_", 0)
        self._train(trainer, rows, None, settings | {"judge": None})
        curve = self.history_ if before else None
        self._finish([None])
        if curve is not None:
            curve.add(self.history_.at(1))
            self.history_, self.histories_ = curve, [curve]
        self.n_iter_ = before + 1
        return self

    def _settings(self) -> dict[str, Any]:
        """The preset and what the parameters change in it, checked before any data are looked at."""
        preset = presets.get(self.preset)
        hidden = self.hidden_layer_sizes
        hidden = None if hidden is None else tuple(int(n) for n in np.atleast_1d(np.asarray(hidden, np.int64)))
        net = _given(
            hidden=hidden, activation=ACTIVATIONS.get(self.activation, self.activation), dropout=self.dropout,
            norm=self.norm, residual=self.residual,
        )  # fmt: skip
        _check_taken(net, preset)
        if self.activation is not None:
            ops.activations.lookup(net["activation"])
        schedule = self.learning_rate
        schedule = SCHEDULES.get(schedule, schedule) if isinstance(schedule, str) else schedule
        betas = tuple(b or usual for b, usual in zip((self.beta_1, self.beta_2), (0.9, 0.999), strict=True))
        decay = 0.0 if self.weight_decay is None and self.alpha is not None else self.weight_decay
        optimizer = _given(
            optimizer=self.solver, lr=self.learning_rate_init, schedule=schedule, weight_decay=decay,
            momentum=self.momentum, nesterov=self.nesterovs_momentum, eps=self.epsilon, clip_norm=self.clip_norm,
            betas=None if self.beta_1 is None and self.beta_2 is None else betas,
        )  # fmt: skip
        validation, patience = preset.validation, self.n_iter_no_change
        if self.early_stopping:
            validation, patience = validation or 0.1, patience or PATIENCE
        if self.validation_fraction is not None and validation:
            validation = self.validation_fraction
        if self.early_stopping is False:
            validation = 0.0
        if not 0 <= validation < 1:
            raise ConfigError(f"validation_fraction: a share of the rows between 0 and 1, got {validation!r}")
        fit = dict(preset.fit) | _given(
            epochs=self.max_iter, batch_size=None if self.batch_size == "auto" else self.batch_size,
            patience=patience, min_delta=self.tol, max_seconds=self.max_seconds, average=self.average,
        )  # fmt: skip
        members = preset.n_ensemble if self.n_ensemble is None else self.n_ensemble
        _check_counts(max_iter=fit.get("epochs", 1), n_ensemble=members, n_iter_no_change=patience or 1)
        own = self.cv is None and self.n_ensemble is None and validation  # the preset's folds stand for its one split
        return {
            "preset": preset, "net": net, "optimizer": optimizer, "validation": validation, "fit": fit,
            "n_ensemble": int(members), "judge": self._judge(), "cv": preset.cv if own else self.cv,
        }  # fmt: skip

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

    def _eval_rows(self, eval_set: Any, target: Target) -> Rows:
        parts = list(eval_set) if isinstance(eval_set, (tuple, list)) else []
        if len(parts) == 1 and isinstance(parts[0], (tuple, list)):  # LightGBM's list of pairs
            parts = list(parts[0])
        if not 2 <= len(parts) <= 3:
            raise ConfigError(f"eval_set: (X, y) or (X, y, sample_weight), got {type(eval_set).__name__}")
        x = read_x(parts[0], type(self).__name__)
        weight = read_weight(parts[2], rows_of(x)) if len(parts) == 3 else None
        return Rows(x, read_y(parts[1], rows_of(x), "eval_set"), weight, np.arange(rows_of(x)))

    def _folds(
        self, rows: Rows, codes: Array, target: Target, settings: dict[str, Any], seed: int, held_out: Rows | None
    ) -> list[tuple[Indices, Rows | None]]:
        """(training rows, rows that judge) of each fold; of the only one without `cv`."""
        strata = codes if target.task == "classification" else None
        every = np.arange(len(rows))
        cv = settings["cv"]
        if self.cv is None and cv is not None:
            cv = None if held_out is not None or len(rows) < 2 * cv else cv
        if cv is None:
            if held_out is not None or not settings["validation"]:
                return [(every, held_out)]
            share = min(settings["validation"], MOST_VALIDATION_ROWS / len(rows))
            train, other = _split(len(rows), (1 - share, share), seed, strata)
            return [(train, rows.take(other) if len(other) else None)]
        if held_out is not None:
            raise ConfigError("cv holds rows out itself; leave eval_set out, or cv")
        if isinstance(cv, (int, np.integer)):
            if not 2 <= cv <= len(rows):
                raise ConfigError(f"cv: from 2 to the number of rows ({len(rows):,}), got {cv}")
            parts = _split(len(rows), [1 / int(cv)] * int(cv), seed, strata)
            return [(np.setdiff1d(every, part), rows.take(np.sort(part))) for part in parts if len(part)]
        given = cv.split(np.zeros((int(rows.source.max()) + 1, 1))) if hasattr(cv, "split") else cv
        folds = []
        for train, test in given:
            inside, outside = (np.flatnonzero(np.isin(rows.source, part)) for part in (train, test))
            folds.append((inside, rows.take(outside) if len(outside) else None))
        if not folds or not all(len(train) for train, _ in folds):
            raise ConfigError("cv: pairs (training rows, other rows) are expected, with rows in each training part")
        return folds

    def _learn_columns(
        self, X: Any, rows: Rows, folds: list[tuple[Indices, Rows | None]], target: Target, settings: dict[str, Any]
    ) -> None:
        """The encoder and the target, of training rows; of all rows where each trains some member."""
        training = folds[0][0] if len(folds) == 1 else np.arange(len(rows))
        if target.task == "regression":
            target = self._target(rows.y[training])
        if isinstance(rows.x, Csr):
            encoder: Any = SparseEncoder.fit(rows.x, rows=training)
        else:
            encoder = settings["preset"].encode(rows.x, training, _plain(target))
        names = names_of(X)
        given = read_x(X, type(self).__name__)
        self.n_features_in_ = columns_of(given)
        self._names = given.names if isinstance(given, Table) else None
        if names is not None:
            self.feature_names_in_ = np.array(names, object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.encoder_, self.target_ = encoder, target
        self.notes_ = [*encoder.notes, *target.notes]

    def _trainer(self, settings: dict[str, Any], seed: int, net: nn.Module | None = None) -> Trainer:
        preset, target = settings["preset"], _plain(self.target_)
        shape = dict(settings["net"])
        if isinstance(self.encoder_, SparseEncoder) and "periodic" in inspect.signature(preset.build).parameters:
            shape["periodic"] = None  # an embedding of each column, most of which are 0
        net = net or preset.build(self.encoder_, target, **shape)
        optimizer = preset.optimizer(target, **settings["optimizer"])
        loss = self._loss(preset)
        if self.alpha:
            loss = Penalised(loss, net, self.alpha)
        return Trainer(net, loss, optimizer, device=self.device, seed=seed, metrics=self._metrics(settings))

    def _loss(self, preset: presets.Preset) -> Any:
        if self.loss is not None:
            return losses.get(LOSSES.get(self.loss, self.loss) if isinstance(self.loss, str) else self.loss)
        return losses.bce_with_logits if self.target_.task == "multilabel" else preset.loss(self.target_)

    def _judge(self) -> Judge | None:
        """Of the metric that chooses the best epoch; None for the preset's choice."""
        if self.scoring is None or self.scoring == "loss":
            return None
        return judge(self.scoring)

    def _metrics(self, settings: dict[str, Any]) -> list[Judge]:
        usual = [judge(name) for name in self._usual_metrics()]
        chosen = settings["judge"]
        named = {m.__name__: m for m in [*usual, *([chosen] if chosen is not None else [])]}
        for m in named.values():
            m.target = self.target_
        return list(named.values())

    def _train(self, trainer: Trainer, train: Rows, validation: Rows | None, settings: dict[str, Any]) -> None:
        fit = dict(settings["fit"])
        if trainer.optimizer.full_batch:
            fit.pop("batch_size", None)
        elif isinstance(fit.get("batch_size"), (int, np.integer)):
            fit["batch_size"] = min(int(fit["batch_size"]), len(train))
        prefix = "" if validation is None else "val_"
        monitor = fit.pop("monitor", None)
        monitor = monitor if validation is not None or monitor is None else monitor.removeprefix("val_")
        if settings["judge"] is not None:
            if validation is None:
                raise ConfigError(
                    f"scoring={settings['judge'].__name__!r} needs rows that judge: eval_set, or early_stopping=True"
                )
            monitor = prefix + settings["judge"].__name__
        elif self._judged_by_loss():
            monitor = prefix + "loss"
        trainer.fit(
            self._encoded(train), validation=None if validation is None else self._encoded(validation, known=True),
            shuffle=self.shuffle, monitor=monitor, callbacks=tuple(self.callbacks or ()),
            show_progress=_progress(self.verbose), **fit,
        )  # fmt: skip
        trainer.release()

    def _encoded(self, rows: Rows, known: bool = False) -> tuple[Any, ...]:
        x = self._named(rows.x) if known else rows.x
        y = self.target_.encode(self._answers(rows.y))
        return self.encoder_.transform(x), y, rows.weight

    def _answers(self, y: Array) -> Array:
        return y

    def _finish(self, judged_by: Sequence[Rows | None]) -> None:
        """One model of all nets: each fold's are averaged and made honest, then the folds are averaged."""
        each = len(self._trainers) // len(judged_by)
        folds = [self._trainers[i : i + each] for i in range(0, len(self._trainers), each)]
        self.temperature_ = self._temperature(folds, judged_by)
        nets = [self._joined([trainer.model for trainer in fold]) for fold in folds]
        if self.temperature_ is not None:
            nets = [nn.Sequential(copy.deepcopy(net), nn.Temperature(self.temperature_)) for net in nets]
        self.model_ = Model(self._joined(nets), self.encoder_, self.target_, info=self._info())
        self.histories_ = [trainer.history for trainer in self._trainers]
        self.history_ = self.histories_[0]
        self.n_iter_ = max(history.epochs for history in self.histories_)

    def _joined(self, nets: list[nn.Module]) -> nn.Module:
        if len(nets) == 1:
            return nets[0]
        average = "probabilities" if self.target_.task == "classification" else "outputs"
        return nn.Ensemble(*[copy.deepcopy(net) for net in nets], average=average).to(nets[0].device)

    def _temperature(self, folds: list[list[Trainer]], judged_by: Sequence[Rows | None]) -> float | None:
        """What the logits are divided by; None where no rows tell, or nothing is to be told."""
        if not self._calibrates() or any(rows is None for rows in judged_by):
            return None
        parts = []
        for fold, rows in zip(folds, judged_by, strict=True):
            assert rows is not None
            x, y, weight = self._encoded(rows, known=True)
            net = self._joined([trainer.model for trainer in fold])
            z = fold[0].predict(x) if len(fold) == 1 else Forward(net.eval())(load(x, net.device, net.dtype))
            parts.append((z, y, np.ones(len(y)) if weight is None else weight))
        z, y, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
        return temperature(z, y, weight, self.target_.task)

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
        return self._typed(
            Table(tuple(type(c)(n, c.kind, c.values) for n, c in zip(names, table.columns, strict=True)))
        )

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

    def _linears(self) -> list[nn.Linear]:
        return [m for _, m in self._fitted().net.modules() if isinstance(m, nn.Linear)]

    @property
    def coefs_(self) -> list[Array]:
        """The weight [inputs, outputs] of each linear layer."""
        return [np.array(m.weight.numpy()) for m in self._linears()]

    @property
    def intercepts_(self) -> list[Array]:
        return [np.array(m.bias.numpy()) for m in self._linears() if m.has_bias]

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
            settings = self._settings()
            self._trainers = [self._trainer(settings, seed, net) for net, _, seed in self._halted]
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


def _check_taken(net: dict[str, Any], preset: presets.Preset) -> None:
    """That the preset's net has what is asked for."""
    known = inspect.signature(preset.build).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return
    for name in net:
        if name not in known:
            raise ConfigError(f'preset "{preset.name}" has no {name}; "classic" and "cs231n" have')


def _check_counts(**counts: Any) -> None:
    for name, n in counts.items():
        if not isinstance(n, (int, float, np.number)) or n < 1 or n != int(n):
            raise ConfigError(f"{name}: a whole number of at least 1, got {n!r}")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _progress(verbose: Any) -> Any:
    return verbose if isinstance(verbose, str) else "auto" if verbose else False


def _split(n: int, fractions: Sequence[float], seed: int, strata: Array | None) -> tuple[Indices, ...]:
    """`split`; its warning of classes with one row is the target's note."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return split(n, fractions, seed=seed, stratify=strata)
    except DataError:  # every class has one row
        return split(n, fractions, seed=seed)
