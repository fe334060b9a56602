"""Named recipes for tables: how columns are encoded, the net, its loss, its optimizer, and how it is trained.

    preset = presets.get("realmlp")
    encoder = preset.encode(table, rows, target)        # fitted on the training rows only
    net = preset.build(encoder, target, hidden=(256, 256))
    trainer = Trainer(net, preset.loss(target), preset.optimizer(target, lr=0.02))
    trainer.fit((encoder.transform(table.take(rows)), target.encode(y)), **{**preset.fit, "epochs": 64})

| preset      | columns                                  | net                                 | trained by                             |
|-------------|------------------------------------------|-------------------------------------|----------------------------------------|
| "default"   | quartiles, smooth clip, embeddings       | RealMLP's, 3 x 128, with ramps      | Adam, coslog4, 64 epochs, 3 or 6 folds |
| "realmlp"   | quartiles, smooth clip, embeddings       | RealMLP-TD: 3 x 256                 | Adam, coslog4, 256 epochs, best epoch  |
| "realmlp-s" | the same, all categories one-hot         | RealMLP-TD-S: 3 x 256               | Adam, coslog4, 256 epochs, best epoch  |
| "classic"   | standardised, one-hot                    | scikit-learn's: 100, ReLU           | Adam, until the loss stands still      |
| "cs231n"    | standardised, one-hot                    | the lecture's: 100, ReLU            | SGD with momentum, lr falling          |

RealMLP: D. Holzmueller, L. Grinsztajn, I. Steinwart, "Better by default", NeurIPS 2024, tables A.1 and A.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from . import losses, nn, optim
from .data.table import Table
from .errors import ConfigError, did_you_mean
from .tabular import ArrayEncoder, Encoder, RobustEncoder, SparseEncoder, Target

AnyEncoder = Encoder | ArrayEncoder | SparseEncoder
Rows = Any  # indices, a slice or a mask, as NumPy takes them; None for all


@dataclass(frozen=True)
class Preset:
    """A recipe in five parts.

    Attributes:
        name: as `get` takes it.
        encode: (x, rows, target) -> an encoder fitted on these rows of a Table or array x (rows=None: all).
        build: (encoder, target, **overrides) -> the net. Overrides of all presets: hidden (widths), activation, dropout;
            of "classic" and "cs231n" also norm, residual, init.
        loss: target -> a loss for Trainer.
        optimizer: (target, **overrides) -> an unbound optimizer. Overrides: optimizer (a name or class), lr,
            weight_decay, schedule, and what that optimizer takes besides.
        fit: arguments of Trainer.fit.
        validation: share of the rows that `fit` needs held out to choose the epoch by; 0: none.
        n_ensemble: nets whose predictions are averaged. cv: folds, each of which judges a net trained on the others;
            all of these nets are averaged; or, of the number of rows, (parts, folds): the rows in so many parts, of which the
            first few judge. None: one split, by `validation`.
        to_the_end: whether several nets that predict values keep their last epoch's weights, not the best one's: what each
            has learned too much goes away in their mean.
        snapshot: the share of the epochs after which such nets are kept too (where a cycle of the learning rate ends; 0: none).
            If they were as good then, by the rows held out, both count.
        patience: the share of the epochs after which training stops if none of them was better on the rows held out;
            None: never. Nets that go to the end have none.
    """

    name: str
    encode: Callable[[Any, Rows, Target], AnyEncoder]
    build: Callable[..., nn.Module]
    loss: Callable[[Target], losses.Loss]
    optimizer: Callable[..., optim.Optimizer]
    fit: Mapping[str, Any] = field(default_factory=dict)
    validation: float = 0.2
    n_ensemble: int = 1
    cv: int | Callable[[int], tuple[int, int]] | None = None
    to_the_end: bool = False
    snapshot: float = 0.0
    patience: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fit", MappingProxyType(dict(self.fit)))


def get(name: str | Preset | None = None) -> Preset:
    """The preset of this name; None is the default one."""
    if isinstance(name, Preset):
        return name
    key = DEFAULT if name is None else name
    if key not in PRESETS:
        raise ConfigError(f'no preset "{key}".{did_you_mean(str(key), PRESETS)}')
    return PRESETS[key]


# ---------------------------------------------------------------- RealMLP

LR = {"classification": 0.04, "regression": 0.2}
SMALL_LR = {"classification": 0.04, "regression": 0.07}
ACTIVATION = {"classification": "selu", "regression": "mish"}
PERIODIC = {"frequencies": 16, "width": 4, "sigma": 0.1}
WEIGHT_DECAY = 0.02
LABEL_SMOOTHING = 0.1
# fmt: off
LR_FACTORS = [  # of parameters by name, whatever layer they are in; the first match wins
    #     match                  lr factor
    ("*.periodic.*",             0.1),
    ("*.ramps.*",                0.1),
    ("*.factor",                 6.0),
    ("*.strength",               0.1),
    ("*.bias",                   0.1),
]
# fmt: on
REALMLP_FIT = {
    "epochs": 256,
    "batch_size": 256,
    "drop_last": True,
    "ties": "last",
    "measure_train": False,
    "dropout_schedule": "flat_cos",
}  # fmt: skip


def _table(x: Any) -> Table:
    return x if isinstance(x, Table) else Table.from_array(x) if isinstance(x, np.ndarray) else Table.from_frame(x)


def _robust(
    x: Any, rows: Rows, target: Target, *, one_hot: int | None = 8, pairs: bool = False
) -> AnyEncoder:
    if isinstance(x, np.ndarray) and x.dtype == np.uint8:
        return ArrayEncoder.fit(x, rows=rows)
    return RobustEncoder.fit(_table(x), rows=rows, one_hot=one_hot, pairs=pairs)


def outputs_of(target: Target) -> int:
    """Logits, one for each class; or values, one for each column of the target."""
    return len(target.classes) if target.classes is not None else len(target.center)


def realmlp(
    encoder: AnyEncoder,
    target: Target,
    *,
    hidden: Sequence[int] = (256, 256, 256),
    activation: str | None = None,
    dropout: float = 0.15,
    periodic: Mapping[str, Any] | None = PERIODIC,
    piecewise: Mapping[str, Any] | None = None,
    most_periodic: int | None = None,
) -> nn.Module:
    """Columns, scale, blocks of (linear, activation of trained strength, dropout), linear; values are clamped.

    More columns of numbers than `most_periodic` have no periodic embedding.
    """
    act = activation or ACTIVATION[target.task]
    if most_periodic is not None and _roles(encoder).count("number") > most_periodic:
        periodic = None
    first = _entrance(encoder, periodic, piecewise)
    layers: list[nn.Module] = [first, nn.Scale(first.outputs)]
    for k, m in zip([first.outputs, *hidden[:-1]], hidden, strict=True) if hidden else ():
        layers += [nn.NTKLinear(k, m, init="data"), nn.ParametricActivation(m, act)]
        layers += [nn.Dropout(dropout)] if dropout else []
    layers.append(nn.NTKLinear(hidden[-1] if hidden else first.outputs, outputs_of(target), init="data"))
    if target.classes is None:
        layers.append(nn.Clamp(target.low, target.high))
    return nn.Sequential(*layers)


def realmlp_small(
    encoder: AnyEncoder,
    target: Target,
    *,
    hidden: Sequence[int] = (256, 256, 256),
    activation: str | None = None,
    dropout: float = 0.0,
) -> nn.Module:
    """Columns, scale, blocks of (linear, activation), linear; the last layer begins at zero."""
    act = activation or ACTIVATION[target.task]
    first = _entrance(encoder)
    layers: list[nn.Module] = [first, nn.Scale(first.outputs)]
    for k, m in zip([first.outputs, *hidden[:-1]], hidden, strict=True) if hidden else ():
        layers += [nn.NTKLinear(k, m, init="normal"), nn.BY_NAME[act]()]
        layers += [nn.Dropout(dropout)] if dropout else []
    layers.append(nn.NTKLinear(hidden[-1] if hidden else first.outputs, outputs_of(target), init="zeros"))
    return nn.Sequential(*layers)


def _roles(encoder: AnyEncoder) -> list[str]:
    return [*encoder.roles] if isinstance(encoder, RobustEncoder) else ["number"] * len(encoder.output_names)


def _entrance(
    encoder: AnyEncoder, periodic: Mapping[str, Any] | None = None, piecewise: Mapping[str, Any] | None = None
) -> nn.Columns:
    """The columns; embedded each for itself, unless they are many of one kind (pixels, words), of which one tells little."""
    roles = _roles(encoder)
    if isinstance(encoder, SparseEncoder) or isinstance(encoder, ArrayEncoder) and encoder.pixels:
        periodic = piecewise = None
    return nn.Columns(
        roles.count("number"), roles.count("mark"), encoder.codes if isinstance(encoder, RobustEncoder) else (),
        embedding=None if periodic is None else dict(periodic),
        piecewise=None if piecewise is None else dict(piecewise),
    )  # fmt: skip


def _smoothed(target: Target) -> losses.Loss:
    return losses.mse if target.classes is None else partial(losses.cross_entropy, label_smoothing=LABEL_SMOOTHING)


def _adam(
    target: Target,
    *,
    rates: Mapping[str, float] = LR,
    optimizer: str = "adamw",
    lr: float | None = None,
    weight_decay: float = WEIGHT_DECAY,
    schedule: Any = "coslog4",
    **settings: Any,
) -> optim.Optimizer:
    """Adam with decoupled weight decay. A group's decay is scaled by its factor too, as pytabkit does; biases have none."""
    groups = [
        {
            "match": match,
            "lr_factor": by,
            "weight_decay": 0.0 if match == "*.bias" else weight_decay * by,
            "optional": True,
        }
        for match, by in LR_FACTORS
    ]
    given = {
        "lr": rates[target.task] if lr is None else lr, "betas": (0.9, 0.95), "weight_decay": weight_decay,
        "schedule": schedule, "weight_decay_schedule": "flat_cos", "groups": groups,
    } | settings  # fmt: skip
    return optim.get(optimizer)(**given)


# ---------------------------------------------------------------- plain nets


def _standardised(x: Any, rows: Rows, target: Target) -> AnyEncoder:
    return ArrayEncoder.fit(x, rows=rows) if isinstance(x, np.ndarray) else Encoder.fit(_table(x), rows=rows)


def plain(
    encoder: AnyEncoder, target: Target, *, hidden: Sequence[int] = (100,), activation: str = "relu", **settings: Any
) -> nn.Module:
    """An nn.MLP of these hidden layers."""
    return nn.MLP(len(encoder.output_names), *hidden, outputs_of(target), activation=activation, **settings)


def _usual(target: Target) -> losses.Loss:
    return losses.mse if target.classes is None else losses.cross_entropy


def _with_defaults(target: Target, *, defaults: Mapping[str, Any], **overrides: Any) -> optim.Optimizer:
    """The optimizer of the defaults, whose settings hold for no other one but lr, weight decay and schedule."""
    name = overrides.pop("optimizer", defaults["optimizer"])
    kept = defaults if name == defaults["optimizer"] else {k: defaults[k] for k in defaults if k in _COMMON}
    return optim.get(name)(**{k: v for k, v in {**kept, **overrides}.items() if k != "optimizer"})


_COMMON = ("lr", "weight_decay", "schedule")

# scikit-learn adds alpha / rows-of-the-batch times each weight to the gradient: alpha = 1e-4, 200 rows
CLASSIC = {
    "optimizer": "adam", "lr": 1e-3, "weight_decay": 1e-4 / 200, "groups": [{"match": "*.bias", "weight_decay": 0.0}],
}  # fmt: skip
CLASSIC_FIT = {
    "epochs": 200, "batch_size": 200, "monitor": "loss", "patience": 10, "min_delta": 1e-4, "restore_best": False,
    "measure_train": False,
}  # fmt: skip
# the course's net for CIFAR-10: 0.95 an epoch over 20 epochs, L2 on weights only
CS231N = {
    "optimizer": "sgd", "lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-3, "schedule": "step:0.05,0.95",
    "groups": [{"match": "*.bias", "weight_decay": 0.0}],
}  # fmt: skip
CS231N_FIT = {"epochs": 20, "batch_size": 200}


# ---------------------------------------------------------------- the table

# ---------------------------------------------------------------- the default; docs/tabular.md says why

PIECEWISE = {"bins": 16, "width": 4}
MOST_PERIODIC = 32  # columns
PATIENCE = 0.375  # coslog4's cycles end after 0.2, 0.47 and 1 of the run: who learned nothing in one will hardly in the next
THIRD_CYCLE = 7 / 15


def few_rows_a_step(rows: int) -> int:
    """64 rows up to 1,024; 128 up to 16,384; then 256."""
    return 64 if rows <= 1024 else 128 if rows <= 16_384 else 256


def folds(rows: int) -> tuple[int, int]:
    """6 folds up to 4,096 rows; then 3 of 8 parts: fewer nets, for their time, and more rows for each."""
    return (6, 6) if rows <= 4096 else (8, 3)


def judged_by(rows: int) -> str | None:
    """The loss up to 1,024 rows, of which too few are held out to count; then the first metric: accuracy or RMSE."""
    return "val_loss" if rows <= 1024 else None


DEFAULT_FIT = REALMLP_FIT | {"epochs": 64, "batch_size": few_rows_a_step, "monitor": judged_by}

# fmt: off
PRESETS = {preset.name: preset for preset in (
    #      name         encode                         build          loss       optimizer                               fit
    Preset("default",   partial(_robust, pairs=True),  partial(realmlp, hidden=(128, 128, 128), piecewise=PIECEWISE,
                                                               most_periodic=MOST_PERIODIC),
           _smoothed, _adam,                                                                                             DEFAULT_FIT,
           cv=folds, to_the_end=True, snapshot=THIRD_CYCLE, patience=PATIENCE),
    Preset("realmlp",   _robust,                       realmlp,       _smoothed, _adam,                                  REALMLP_FIT),
    Preset("realmlp-s", partial(_robust, one_hot=None), realmlp_small, _smoothed,
           partial(_adam, rates=SMALL_LR, weight_decay=0.0),                                                             REALMLP_FIT),
    Preset("classic",   _standardised,                 partial(plain, init="glorot_uniform"), _usual,
           partial(_with_defaults, defaults=CLASSIC),                                                                    CLASSIC_FIT, 0.0),
    Preset("cs231n",    _standardised,                 plain,         _usual,
           partial(_with_defaults, defaults=CS231N),                                                                     CS231N_FIT),
)}
# fmt: on
DEFAULT = "default"
