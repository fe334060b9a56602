"""A loss says how wrong predictions are: one number, the mean over the rows, sum(weight * loss) / sum(weight).

Every loss takes (predictions, targets, *, weight=None, ...) and is made of ops alone. Predictions of classes are
logits; `weight` [n] is one number for each row. Shapes must agree exactly: nothing is broadcast, nothing is promoted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from . import ops
from .engine import Tensor
from .errors import ConfigError, DTypeError, ShapeError, did_you_mean

Loss = Callable[..., Tensor]


# ---------------------------------------------------------------- classes


def cross_entropy(
    predictions: Tensor, targets: Tensor, *, weight: Tensor | None = None, label_smoothing: float = 0.0,
    class_weight: Tensor | None = None,
) -> Tensor:
    """-log softmax of the right class.

    Args:
        predictions: logits [n, c].
        targets: classes [n] (integers), or their probabilities [n, c] (floats).
        label_smoothing: e in [0, 1]: the target becomes (1 - e) * target + e / c (Szegedy et al. 2016).
        class_weight: [c]; the mean divides by the summed weights of the rows' classes, of soft targets as of integers.
    """
    classes = _check_classes("cross_entropy", predictions, targets, soft=True)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ConfigError(f"cross_entropy: label_smoothing must lie in [0, 1], got {label_smoothing}")
    hard = targets.ndim == 1
    if class_weight is not None:
        _check_weight("cross_entropy", "class_weight", class_weight, predictions, classes)
    if hard and (class_weight is None or not label_smoothing):
        rows = ops.softmax_cross_entropy(predictions, targets, smoothing=float(label_smoothing))
        if class_weight is None:
            return _mean("cross_entropy", rows, weight)
        mass = ops.gather(class_weight, targets)
        return _mean("cross_entropy", mass * rows, weight, mass)
    target = ops.one_hot(targets, n=classes, dtype=predictions.dtype) if hard else targets
    smooth = (1.0 - label_smoothing) * target + label_smoothing / classes if label_smoothing else target
    logp = ops.log_softmax(predictions)
    if class_weight is None:
        return _mean("cross_entropy", -ops.sum(smooth * logp, axis=-1), weight)
    mass = ops.sum(target * class_weight, axis=-1)
    return _mean("cross_entropy", -ops.sum(smooth * class_weight * logp, axis=-1), weight, mass)


def hinge(predictions: Tensor, targets: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Multiclass hinge: the sum over j != t of max(0, z_j - z_t + 1) (Weston and Watkins 1999; the SVM loss of CS231n).

    predictions: scores [n, c]; targets: classes [n] (integers).
    """
    classes = _check_classes("hinge", predictions, targets, soft=False)
    right = ops.reshape(ops.pick(predictions, targets), shape=(-1, 1))
    margin = 1.0 - ops.one_hot(targets, n=classes, dtype=predictions.dtype)
    return _mean("hinge", ops.sum(ops.relu(predictions - right + margin), axis=-1), weight)


def bce_with_logits(
    predictions: Tensor, targets: Tensor, *, weight: Tensor | None = None, pos_weight: Tensor | float | None = None
) -> Tensor:
    """Binary cross-entropy: -t log s(z) - (1 - t) log(1 - s(z)) with the sigmoid s; the mean over rows and labels.

    Args:
        predictions: logits [n, k]. targets: 0, 1 or between, same shape; integers and bools are taken as numbers.
        pos_weight: a number or [k]; what a positive counts for (below 1: precision, above 1: recall).
    """
    if targets.dtype.kind in "iub":
        targets = ops.cast(targets, dtype=predictions.dtype)
    _check_same("bce_with_logits", predictions, targets)
    positive = targets * ops.softplus(-predictions)
    if pos_weight is not None:
        positive = pos_weight * positive
    return _mean("bce_with_logits", positive + (1.0 - targets) * ops.softplus(predictions), weight)


# ---------------------------------------------------------------- numbers


def mse(predictions: Tensor, targets: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """The mean squared error."""
    _check_same("mse", predictions, targets)
    return _mean("mse", ops.square(predictions - targets), weight)


def mae(predictions: Tensor, targets: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """The mean absolute error."""
    _check_same("mae", predictions, targets)
    return _mean("mae", ops.abs(predictions - targets), weight)


def huber(predictions: Tensor, targets: Tensor, *, weight: Tensor | None = None, delta: float = 1.0) -> Tensor:
    """Half the square of errors up to delta, linear beyond (Huber 1964)."""
    _check_same("huber", predictions, targets)
    if not delta > 0.0:
        raise ConfigError(f"huber: delta must be above 0, got {delta}")
    error = predictions - targets
    size = ops.abs(error)
    return _mean("huber", ops.where(size <= delta, 0.5 * ops.square(error), delta * (size - 0.5 * delta)), weight)


def poisson(predictions: Tensor, targets: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Poisson negative log-likelihood of counts, without the term of the counts alone; predictions are log rates."""
    _check_same("poisson", predictions, targets)
    return _mean("poisson", ops.exp(predictions) - targets * predictions, weight)


def quantile(
    predictions: Tensor, targets: Tensor, *, weight: Tensor | None = None, q: float | Sequence[float] = 0.5
) -> Tensor:
    """The pinball loss, least at the q-quantile (Koenker and Bassett 1978).

    q: in (0, 1); or one for each column of predictions [n, k], and then targets may be one column [n, 1].
    """
    levels = np.atleast_1d(np.asarray(q, np.float64))
    if levels.ndim > 1 or not levels.size or not np.all((levels > 0.0) & (levels < 1.0)):
        raise ConfigError(f"quantile: q must lie in (0, 1), got {q}")
    if levels.size == 1:
        _check_same("quantile", predictions, targets)
        level: Any = float(levels[0])
    else:
        _check_columns(predictions, targets, levels.size)
        level = Tensor(predictions.device.upload(levels.astype(predictions.dtype)), predictions.device)
    error = targets - predictions
    return _mean("quantile", ops.maximum(level * error, (level - 1.0) * error), weight)


# ---------------------------------------------------------------- by name

# fmt: off
LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy, "hinge": hinge, "bce_with_logits": bce_with_logits, "bce": bce_with_logits,
    "mse": mse, "mae": mae, "huber": huber, "poisson": poisson, "quantile": quantile,
}
# fmt: on
_NUMBER = {"cross_entropy": "label_smoothing", "huber": "delta", "quantile": "q"}  # what a name may carry: huber:1.5


def get(loss: str | Loss) -> Loss:
    """The loss called "mse", "huber:1.5", "quantile:0.1,0.5,0.9", ...; a callable is its own loss."""
    if callable(loss):
        return loss
    name, colon, text = loss.partition(":")
    if name not in LOSSES:
        raise ConfigError(f'no loss "{name}".{did_you_mean(name, LOSSES)}')
    if not colon:
        return LOSSES[name]
    if name not in _NUMBER:
        raise ConfigError(f'loss "{loss}": {name} takes no number; {", ".join(_NUMBER)} do')
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f'loss "{loss}": "{text}" is not a number. For example: {name}:0.5') from None
    if len(numbers) > 1 and name != "quantile":
        raise ConfigError(f'loss "{loss}": {name} takes one number, got {len(numbers)}')
    setting: Any = numbers if len(numbers) > 1 else numbers[0]
    return partial(LOSSES[name], **{_NUMBER[name]: setting})


def plain(loss: Loss) -> Loss:
    """The function behind "huber:1.5" and the like."""
    return loss.func if isinstance(loss, partial) else loss


def smoothing(loss: Loss) -> float:
    """By how much the loss smooths labels."""
    return float(getattr(loss, "keywords", {}).get("label_smoothing", 0.0))


def takes_values(loss: Loss) -> bool:
    """Whether its targets are numbers of the predictions' dtype; integers may be converted for it."""
    return plain(loss) in (mse, mae, huber, poisson, quantile)


# ---------------------------------------------------------------- mean and checks


def _mean(name: str, losses: Tensor, weight: Tensor | None, mass: Tensor | None = None) -> Tensor:
    """sum(weight * losses) / sum(weight * mass), for losses [n, ...]; mass [n] is 1 unless classes have weights.

    A batch whose weights are all 0 has the loss 0.
    """
    if losses.ndim > 1 and weight is not None:
        losses = ops.mean(losses, axis=tuple(range(1, losses.ndim)))
    if weight is None:
        return ops.mean(losses) if mass is None else ops.sum(losses) / _positive(ops.sum(mass))
    _check_weight(name, "weight", weight, losses, losses.shape[0])
    return ops.sum(weight * losses) / _positive(ops.sum(weight if mass is None else weight * mass))


def _positive(total: Tensor) -> Tensor:
    return ops.maximum(total, float(np.finfo(total.dtype).tiny))


def _check_floats(name: str, predictions: Tensor, targets: Tensor) -> None:
    if predictions.dtype.kind != "f":
        raise DTypeError(f"{name}: predictions are {predictions.dtype}, floating point wanted")
    if targets.dtype.kind != "f":
        raise DTypeError(f"{name}: targets are {targets.dtype}, floating point wanted. {_cast('y', predictions)}")
    if targets.dtype != predictions.dtype:
        both = f"predictions are {predictions.dtype}, targets {targets.dtype}"
        raise DTypeError(f"{name}: mixed floating point types: {both}. {_cast('y', predictions)}")


def _check_rows(name: str, predictions: Tensor, targets: Tensor) -> None:
    if not predictions.ndim or not predictions.size:
        raise ShapeError(f"{name}: no rows: predictions {predictions.shape}, targets {targets.shape}")


def _check_same(name: str, predictions: Tensor, targets: Tensor) -> None:
    _check_floats(name, predictions, targets)
    p, t = predictions.shape, targets.shape
    if p == t:
        return _check_rows(name, predictions, targets)
    if p[:1] == t[:1] and {p[1:], t[1:]} == {(), (1,)}:
        wide = max(p[0], t[0])
        mend = "y[:, None] or net(x)[:, 0]" if len(p) == 2 else "y[:, 0] or net(x)[:, None]"
        raise ShapeError(f"{name}: predictions {p} and targets {t} would broadcast to {(wide, wide)}. Use {mend}")
    raise ShapeError(f"{name}: predictions {p} and targets {t} must have the same shape")


def _check_columns(predictions: Tensor, targets: Tensor, columns: int) -> None:
    """Several quantiles: predictions [n, columns], targets the same or one column."""
    _check_floats("quantile", predictions, targets)
    _check_rows("quantile", predictions, targets)
    p, t = predictions.shape, targets.shape
    if len(p) != 2 or p[1] != columns:
        raise ShapeError(f"quantile: {columns} quantiles need predictions (n, {columns}), got {p}")
    if t not in (p, (p[0], 1)):
        mend = ". Use y[:, None]" if t == p[:1] else ""
        raise ShapeError(f"quantile: predictions {p} need targets {(p[0], 1)} or {p}, got {t}{mend}")


def _check_classes(name: str, predictions: Tensor, targets: Tensor, *, soft: bool) -> int:
    """The number of classes, after the checks of a classifier's loss; `soft` targets are probabilities."""
    p, t = predictions.shape, targets.shape
    if predictions.ndim != 2:
        raise ShapeError(f"{name}: predictions (n, classes) wanted, got {p}")
    if p[1] < 2:
        raise ShapeError(f"{name}: predictions {p}: of one class. Two classes need two columns, or bce_with_logits")
    if soft and t == p:
        _check_floats(name, predictions, targets)
    elif t != p[:1]:
        mend = ". Use y[:, 0]" if t == (p[0], 1) else ""
        raise ShapeError(f"{name}: predictions {p} need targets ({p[0]},){f' or {p}' if soft else ''}, got {t}{mend}")
    elif targets.dtype.kind not in "iu":
        also = f", or give class probabilities of shape {p}" if soft else ""
        wrong = f"targets {t} are classes, integers wanted, got {targets.dtype}"
        raise DTypeError(f"{name}: {wrong}. Use y.cast(dtype='int64'){also}")
    _check_rows(name, predictions, targets)
    return p[1]


def _check_weight(name: str, what: str, weight: Tensor, like: Tensor, length: int) -> None:
    if weight.shape != (length,):
        raise ShapeError(f"{name}: {what} must have the shape ({length},), got {weight.shape}")
    if weight.dtype != like.dtype:
        raise DTypeError(f"{name}: {what} is {weight.dtype}, predictions are {like.dtype}. {_cast(what, like)}")


def _cast(name: str, like: Tensor) -> str:
    return f"Use {name}.cast(dtype='{like.dtype}')"
