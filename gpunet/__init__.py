"""gpunet trains, explains and ships multilayer perceptrons, on CPUs and on NVIDIA GPUs.

Nothing is loaded before it is used, so `import gpunet` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what `__getattr__` does, for type checkers and editors; a test keeps the two alike
    from . import data, devices, engine, errors, estimators, graph, losses, metrics, nn, ops, optim, presets, rng, tabular
    from . import train, viz
    from .devices.environment import env
    from .devices.select import device
    from .engine.node import no_grad
    from .engine.op import composite, op
    from .engine.tape import grad
    from .engine.tensor import Tensor, tensor
    from .estimators import MLPClassifier, MLPRegressor
    from .graph.check import check_grads, jacobian
    from .graph.compile import compile
    from .train import Trainer
    from .train.model import Model, load

__version__ = "0.1.0"

__all__ = [
    "MLPClassifier", "MLPRegressor", "Model", "Tensor", "Trainer",
    "check_grads", "compile", "composite", "device", "env", "grad", "jacobian", "load", "no_grad", "op", "tensor",
    "data", "devices", "engine", "errors", "estimators", "graph", "losses", "metrics", "nn", "ops", "optim", "presets",
    "rng", "tabular", "train", "viz",
]  # fmt: skip

# fmt: off
_HOMES = {  # every other name of __all__ is a module
    "engine":              ("Tensor", "composite", "grad", "no_grad", "op", "tensor"),
    "graph.check":         ("check_grads", "jacobian"),
    "graph.compile":       ("compile",),
    "devices.select":      ("device",),
    "devices.environment": ("env",),
    "estimators":          ("MLPClassifier", "MLPRegressor"),
    "train":               ("Trainer",),
    "train.model":         ("Model", "load"),
}
# fmt: on
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'gpunet' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    home = _HOME_OF.get(name)
    if home == "engine":
        import_module("gpunet.ops")  # hangs the operators on Tensor
    value = import_module(f"gpunet.{name}") if home is None else getattr(import_module(f"gpunet.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
