"""The two estimators: a multilayer perceptron that predicts classes, and one that predicts values."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import losses, metrics
from ..errors import ConfigError, DataError
from ..tabular import Target
from .base import MLP
from .contract import ClassifierMixin, DataConversionWarning, RegressorMixin
from .judge import probabilities
from .rows import Rows

Array = npt.NDArray[Any]


class MLPClassifier(ClassifierMixin, MLP):
    """Predicts classes, or 0 and 1 for each of several labels, from a table as it is.

        clf = gpunet.MLPClassifier().fit(df.drop(columns="income"), df["income"])
        clf.predict_proba(new); print(clf.columns_); clf.history_["val_loss"]; clf.save("income.gpunet")

    None leaves a choice to the preset. Names are scikit-learn's.

    Args:
        preset: the recipe, a name of gpunet.presets ("realmlp", "realmlp-s", "classic" for scikit-learn's own,
            "cs231n") or a Preset; None is the best for most tables.
        hidden_layer_sizes, activation, dropout, norm ("batch", "layer"), residual: the net.
        loss: a name of gpunet.losses, or a function (outputs, targets, weight=) -> scalar Tensor.
        class_weight: "balanced", or {class: weight}.
        solver: a name of gpunet.optim. learning_rate_init: its step. learning_rate: a schedule, "cosine",
            "one_cycle", "adaptive", ... weight_decay, clip_norm, momentum, nesterovs_momentum, beta_1, beta_2,
            epsilon: as the solver takes them. alpha: scikit-learn's L2 penalty, for solvers that do not decouple it.
        max_iter: epochs, at most. batch_size: rows a step. average: decay of a moving average of the weights.
        early_stopping: True holds rows out and stops after n_iter_no_change epochs without an improvement by more
            than tol; False holds none out. With or without it the best epoch's weights are kept, unless the preset
            trains to the end: the default does for averaged nets of values, where scoring or patience do not say otherwise.
        validation_fraction: the share of rows held out. scoring: what judges: "loss", a name of gpunet.metrics, or
            a function (y_true, probabilities) -> float.
        max_seconds: training stops after the epoch it ends in.
        n_ensemble: nets of different seeds whose probabilities are averaged. cv: a number of folds, a splitter, or
            pairs of row numbers: a net (or n_ensemble) for each fold, judged by the rows it does not see. A preset may
            have folds of its own; n_ensemble=1, validation_fraction or an eval_set leave one net.
        columns: {name: "numeric", "categorical" or "drop"}, where a column is not what it looks like; see columns_. What is
            left out as an identifier (texts nearly all different, numbers of the rows) is kept if it is named here.
        calibrate: take label smoothing back, and divide the logits by a temperature that fits the held-out rows (Guo et
            al. 2017). Several folds' nets, each honest, are then averaged as logarithms of their probabilities.
        callbacks, verbose (True, "bar", "lines"), warm_start (fit goes on where it stood, the optimizer too),
        shuffle, random_state, device ("auto", "cpu", "cuda", "cuda:1").

    Attributes:
        classes_, n_features_in_, feature_names_in_ (of a frame), n_iter_, n_outputs_, n_layers_, coefs_, intercepts_.
        history_: lists by name, one entry an epoch ("loss", "val_loss", "val_accuracy"); histories_: of each net.
        columns_: what is done to each column. notes_: what was left out or filled in. model_: a gpunet.Model.
    """

    def __init__(
        self,
        *,
        preset: Any = None,
        hidden_layer_sizes: Sequence[int] | int | None = None,
        activation: str | None = None,
        dropout: float | None = None,
        norm: str | None = None,
        residual: bool | None = None,
        loss: str | Callable[..., Any] | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        solver: str | None = None,
        learning_rate_init: float | None = None,
        learning_rate: Any = None,
        alpha: float | None = None,
        weight_decay: float | None = None,
        momentum: float | None = None,
        nesterovs_momentum: bool | None = None,
        beta_1: float | None = None,
        beta_2: float | None = None,
        epsilon: float | None = None,
        clip_norm: float | None = None,
        max_iter: int | None = None,
        batch_size: int | str | None = None,
        shuffle: bool = True,
        average: float | None = None,
        early_stopping: bool | None = None,
        validation_fraction: float | None = None,
        n_iter_no_change: int | None = None,
        tol: float | None = None,
        scoring: str | Callable[..., float] | None = None,
        max_seconds: float | None = None,
        n_ensemble: int | None = None,
        cv: Any = None,
        columns: Mapping[str, str] | None = None,
        calibrate: bool | None = None,
        callbacks: Sequence[Any] | None = None,
        verbose: bool | str = False,
        warm_start: bool = False,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        self.preset = preset
        self.hidden_layer_sizes, self.activation, self.dropout = hidden_layer_sizes, activation, dropout
        self.norm, self.residual, self.loss, self.class_weight = norm, residual, loss, class_weight
        self.solver, self.learning_rate_init, self.learning_rate = solver, learning_rate_init, learning_rate
        self.alpha, self.weight_decay, self.clip_norm = alpha, weight_decay, clip_norm
        self.momentum, self.nesterovs_momentum = momentum, nesterovs_momentum
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.max_iter, self.batch_size, self.shuffle, self.average = max_iter, batch_size, shuffle, average
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.n_iter_no_change, self.tol, self.scoring, self.max_seconds = n_iter_no_change, tol, scoring, max_seconds
        self.n_ensemble, self.cv, self.columns, self.calibrate = n_ensemble, cv, columns, calibrate
        self.callbacks, self.verbose, self.warm_start = callbacks, verbose, warm_start
        self.random_state, self.device = random_state, device

    def predict(self, X: Any) -> Array:
        """The class of each row, in the type it had; [rows, labels] of 0 and 1 for labels."""
        return self._named_classes(self._outputs(X))

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Probabilities [rows, classes], in the order of classes_; of labels, each for itself."""
        z = self._outputs(X)
        return probabilities(self.target_.task, z)

    def predict_log_proba(self, X: Any) -> npt.NDArray[np.float64]:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.predict_proba(X)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy; of labels, the share of rows with all labels right."""
        predicted, true = self.predict(X), np.asarray(y)
        right = predicted == true.reshape(predicted.shape)
        return float(np.average(right.all(axis=1) if right.ndim == 2 else right, weights=sample_weight))

    def _named_classes(self, z: Array) -> Array:
        if self.target_.task == "multilabel":
            return (z > 0).astype(np.int64)
        return np.asarray(self.classes_[z.argmax(axis=1)])

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> MLPClassifier:
        """One more epoch, over these rows, from where the weights and the optimizer stand.

        The first call learns what to do with the columns, and needs `classes` unless its y has all of them. The
        learning rate has no schedule.
        """

        def target(first: Array) -> Target:
            if classes is None or first.ndim == 2:
                return self._target(first)
            every = np.unique(np.asarray(classes))
            made = Target.fit(every, task="classification")
            self.classes_ = _classes(every, made)
            return made

        return self._continue(X, y, sample_weight, target)

    # ------------------------------------------------------------------ the target

    def _judged_by_loss(self) -> bool:
        """Also where classes have weights: the accuracy of a few heavy rows is too coarse."""
        return super()._judged_by_loss() or self.class_weight is not None

    def _calibrates(self) -> bool:
        return self.calibrate is not False

    def _rows(self, X: Any, y: Any, sample_weight: Any, keep: bool) -> Rows:
        shape: tuple[int, ...] = tuple(getattr(y, "shape", ()))
        if len(shape) == 2 and shape[1] == 1:
            warnings.warn(
                "A column-vector y was passed when a 1d array was expected: y.ravel()",
                DataConversionWarning,
                stacklevel=4,
            )
        return super()._rows(X, y, sample_weight, keep)

    def _target(self, y: Array) -> Target:
        if y.ndim == 2:
            self.classes_ = np.arange(y.shape[1])
            return Target.fit(y, task="multilabel")
        if y.dtype.kind == "f" and (y != np.floor(y)).any():
            raise DataError("Unknown label type: continuous. The target has fractions: use MLPRegressor")
        target = Target.fit(y, task="classification")
        self.classes_ = _classes(y, target)
        return target

    def _usual_metrics(self) -> tuple[str, ...]:
        return () if self.target_.task == "multilabel" else ("accuracy",)

    def _balanced(self, rows: Rows, target: Target, codes: Array) -> Rows:
        """Weights of the rows by class_weight."""
        if self.class_weight is None:
            return rows
        if target.task == "multilabel":
            raise ConfigError('class_weight is for classes. For labels: loss="bce" with a pos_weight of your own')
        counts = np.bincount(codes, rows.weight, minlength=len(self.classes_))
        if self.class_weight == "balanced":
            return rows.weighted((counts.sum() / (len(counts) * np.maximum(counts, 1e-300)))[codes])
        if not isinstance(self.class_weight, Mapping):
            raise ConfigError(f'class_weight: "balanced" or {{class: weight}}, got {self.class_weight!r}')
        known = self.classes_.tolist()
        unknown = [c for c in self.class_weight if c not in known]
        if unknown:
            raise ConfigError(f"class_weight: no class {unknown[0]!r}; the classes are {known[:20]}")
        factors = np.array([float(self.class_weight.get(c, 1.0)) for c in known])
        if not np.isfinite(factors).all() or (factors < 0).any() or not factors[codes].any():
            raise ConfigError("class_weight: finite numbers of at least 0 are expected, and not all 0")
        return rows.weighted(factors[codes])

    def _more_tags(self) -> dict[str, Any]:
        return {**super()._more_tags(), "multilabel": True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, MLP):
    """Predicts values, one or several for each row, or quantiles of them, from a table as it is.

        reg = gpunet.MLPRegressor(loss="quantile:0.1,0.5,0.9").fit(df.drop(columns="price"), df["price"])

    Args and attributes are MLPClassifier's, without those of classes; beside these:

        loss: "squared_error", "absolute_error", "huber:1.5", "poisson" (of counts; predict gives rates),
            "quantile:0.1,0.5,0.9" (predict gives a column for each), or a function.
        scoring: "loss", "r2", "rmse", "mae", or a function (y_true, y_pred) -> float, in the target's own unit.
    """

    def __init__(
        self,
        *,
        preset: Any = None,
        hidden_layer_sizes: Sequence[int] | int | None = None,
        activation: str | None = None,
        dropout: float | None = None,
        norm: str | None = None,
        residual: bool | None = None,
        loss: str | Callable[..., Any] | None = None,
        solver: str | None = None,
        learning_rate_init: float | None = None,
        learning_rate: Any = None,
        alpha: float | None = None,
        weight_decay: float | None = None,
        momentum: float | None = None,
        nesterovs_momentum: bool | None = None,
        beta_1: float | None = None,
        beta_2: float | None = None,
        epsilon: float | None = None,
        clip_norm: float | None = None,
        max_iter: int | None = None,
        batch_size: int | str | None = None,
        shuffle: bool = True,
        average: float | None = None,
        early_stopping: bool | None = None,
        validation_fraction: float | None = None,
        n_iter_no_change: int | None = None,
        tol: float | None = None,
        scoring: str | Callable[..., float] | None = None,
        max_seconds: float | None = None,
        n_ensemble: int | None = None,
        cv: Any = None,
        columns: Mapping[str, str] | None = None,
        callbacks: Sequence[Any] | None = None,
        verbose: bool | str = False,
        warm_start: bool = False,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        self.preset = preset
        self.hidden_layer_sizes, self.activation, self.dropout = hidden_layer_sizes, activation, dropout
        self.norm, self.residual, self.loss = norm, residual, loss
        self.solver, self.learning_rate_init, self.learning_rate = solver, learning_rate_init, learning_rate
        self.alpha, self.weight_decay, self.clip_norm = alpha, weight_decay, clip_norm
        self.momentum, self.nesterovs_momentum = momentum, nesterovs_momentum
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.max_iter, self.batch_size, self.shuffle, self.average = max_iter, batch_size, shuffle, average
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.n_iter_no_change, self.tol, self.scoring, self.max_seconds = n_iter_no_change, tol, scoring, max_seconds
        self.n_ensemble, self.cv, self.columns = n_ensemble, cv, columns
        self.callbacks, self.verbose, self.warm_start = callbacks, verbose, warm_start
        self.random_state, self.device = random_state, device

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """Values in the target's unit: [rows], or [rows, k]; of several quantiles, no higher one below a lower one."""
        z = self._outputs(X)
        values = self.target_.decode_values(z)
        levels = self._levels()
        if levels is not None:  # sorting never makes the loss larger (Chernozhukov et al. 2010)
            values[:, np.argsort(levels)] = np.sort(values, axis=1)
        return values

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2, the mean over the columns; of several quantiles, of the one nearest to the median."""
        predicted, levels = self.predict(X), self._levels()
        if levels is not None:
            predicted = predicted[:, int(np.argmin(np.abs(levels - 0.5)))]
        true = np.asarray(y, np.float64).reshape(predicted.shape)
        return metrics.r2(true, predicted, sample_weight=sample_weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """One more epoch, over these rows, from where the weights and the optimizer stand.

        The first call learns what to do with the columns and the scale of y. The learning rate has no schedule.
        """
        return self._continue(X, y, sample_weight, self._target)

    def _levels(self) -> npt.NDArray[np.float64] | None:
        """The quantiles asked for, if they are several: then each is a column of the target."""
        if not isinstance(self.loss, str) or not self.loss.startswith("quantile:") or "," not in self.loss:
            return None
        return np.array(losses.get(self.loss).keywords["q"])  # type: ignore[attr-defined]

    def _answers(self, y: Array) -> Array:
        levels = self._levels()
        if levels is None:
            return y
        if y.ndim != 1:
            raise ConfigError(
                f"several quantiles of one value for each row, not of y {y.shape}. One regressor for each column"
            )
        return np.repeat(y[:, None], len(levels), axis=1)

    def _judged_by_loss(self) -> bool:
        """Also where a loss was asked for: what it is least at is what is wanted."""
        return super()._judged_by_loss() or self.loss is not None

    def _target(self, y: Array) -> Target:
        return Target.fit(self._answers(y), task="regression", link="log" if self.loss == "poisson" else "identity")

    def _usual_metrics(self) -> tuple[str, ...]:
        return ("rmse", "r2") if self._levels() is None else ()

    def _more_tags(self) -> dict[str, Any]:
        return {**super()._more_tags(), "multioutput": True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _classes(y: Array, target: Target) -> Array:
    """The target's classes in the type of y."""
    assert target.classes is not None
    kind = y.dtype if y.dtype.kind in "biufU" else None
    values = np.array(target.classes)
    return values.astype(kind) if kind is not None else values.astype(object) if values.dtype.kind == "U" else values
