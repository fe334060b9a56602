"""The first-order optimizers: PyTorch's names, defaults and arithmetic. What each computes is in ops.updates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import ops
from ..engine import Tensor
from ..errors import ConfigError
from .optimizer import Optimizer, Tensors
from .settings import Setting, upload

Params = Iterable[Any] | None
Betas = tuple[float, float]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum or Nesterov's (Sutskever et al. 2013)."""

    name, remembers, options = "sgd", ("m",), ("nesterov",)
    momentum = Setting("[0, 1)")

    def __init__(
        self, params: Params = None, *, lr: float = 1e-3, momentum: float = 0.0, nesterov: bool = False, **common: Any
    ) -> None:
        if nesterov and not momentum:
            raise ConfigError("SGD: nesterov=True needs a momentum above 0, for example momentum=0.9")
        self.nesterov = bool(nesterov)
        super().__init__(params, lr=lr, **common)
        self.momentum = momentum

    def rule(self, p: Tensor, g: Tensor, memory: Tensors, t: Tensor, lr: Tensor, decay: Tensor) -> Tensors:
        return ops.sgd(p, g, *memory, lr, *self.read("momentum"), decay, nesterov=self.nesterov)


class Adagrad(Optimizer):
    """Step sizes from the sum of squared gradients (Duchi et al. 2011)."""

    name, remembers = "adagrad", ("v",)
    eps = Setting("(0, inf)")

    def __init__(self, params: Params = None, *, lr: float = 1e-2, eps: float = 1e-10, **common: Any) -> None:
        super().__init__(params, lr=lr, **common)
        self.eps = eps

    def rule(self, p: Tensor, g: Tensor, memory: Tensors, t: Tensor, lr: Tensor, decay: Tensor) -> Tensors:
        return ops.adagrad(p, g, *memory, lr, *self.read("eps"), decay)


class RMSprop(Optimizer):
    """Step sizes from a moving average of squared gradients (Tieleman and Hinton 2012)."""

    name, remembers = "rmsprop", ("v", "m")
    alpha = Setting("[0, 1)")
    eps = Setting("(0, inf)")
    momentum = Setting("[0, 1)")

    def __init__(
        self, params: Params = None, *, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, momentum: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(params, lr=lr, **common)
        self.alpha, self.eps, self.momentum = alpha, eps, momentum

    def rule(self, p: Tensor, g: Tensor, memory: Tensors, t: Tensor, lr: Tensor, decay: Tensor) -> Tensors:
        return ops.rmsprop(p, g, *memory, lr, *self.read("alpha", "eps", "momentum"), decay)


class WithBetas(Optimizer):
    """What remembers the gradient with beta1 and its square (Lion: the gradient again) with beta2."""

    beta1 = Setting("[0, 1)")
    beta2 = Setting("[0, 1)")

    def __init__(self, params: Params, *, betas: Betas, **common: Any) -> None:
        super().__init__(params, **common)
        self.betas = betas

    @property
    def betas(self) -> Betas:
        return self.beta1, self.beta2

    @betas.setter
    def betas(self, betas: Betas) -> None:
        self.beta1, self.beta2 = betas


class Adam(WithBetas):
    """Moving averages of the gradient and its square, corrected for their start at zero (Kingma and Ba 2015)."""

    name, remembers = "adam", ("m", "v")
    eps = Setting("(0, inf)")
    decoupled = False

    def __init__(
        self, params: Params = None, *, lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8, **common: Any
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, **common)
        self.eps = eps

    def rule(self, p: Tensor, g: Tensor, memory: Tensors, t: Tensor, lr: Tensor, decay: Tensor) -> Tensors:
        return ops.adam(p, g, *memory, t, lr, *self.read("beta1", "beta2", "eps"), decay, decoupled=self.decoupled)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name, decoupled = "adamw", True

    def __init__(self, params: Params = None, *, weight_decay: float = 1e-2, **common: Any) -> None:
        super().__init__(params, weight_decay=weight_decay, **common)


class NAdam(WithBetas):
    """Adam with Nesterov's momentum (Dozat 2016)."""

    name, remembers, options = "nadam", ("m", "v"), ("decoupled_weight_decay",)
    eps = Setting("(0, inf)")
    momentum_decay = Setting("[0, inf)")

    def __init__(
        self, params: Params = None, *, lr: float = 2e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
        momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, **common: Any,
    ) -> None:
        self.decoupled_weight_decay = bool(decoupled_weight_decay)
        super().__init__(params, lr=lr, betas=betas, **common)
        self.eps, self.momentum_decay = eps, momentum_decay

    def initial(self) -> dict[str, list[Tensor]]:
        product_of_momenta = [upload(1.0, group.vector.device, np.float64) for group in self.groups]
        return {**super().initial(), "mu": product_of_momenta}

    def rule(self, p: Tensor, g: Tensor, memory: Tensors, t: Tensor, lr: Tensor, decay: Tensor) -> Tensors:
        settings = self.read("beta1", "beta2", "eps")
        return ops.nadam(
            p, g, *memory, t, lr, *settings, decay, *self.read("momentum_decay"), decoupled=self.decoupled_weight_decay
        )


class Lion(WithBetas):
    """The sign of an interpolated momentum, decoupled weight decay (Chen et al. 2023); lr about a tenth of Adam's."""

    name, remembers = "lion", ("m",)

    def __init__(self, params: Params = None, *, lr: float = 1e-4, betas: Betas = (0.9, 0.99), **common: Any) -> None:
        super().__init__(params, lr=lr, betas=betas, **common)

    def rule(self, p: Tensor, g: Tensor, memory: Tensors, t: Tensor, lr: Tensor, decay: Tensor) -> Tensors:
        return ops.lion(p, g, *memory, lr, *self.read("beta1", "beta2"), decay)
