"""The layers. Shapes: x is [rows, columns]; a layer's weight is [inputs, outputs]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import ops, rng
from ..devices import select
from ..engine import Tensor
from ..errors import ConfigError, ShapeError
from . import init
from .module import Module, build, describe, layer


def _state(value: Any, dtype: Any) -> Tensor:
    device = select.device("cpu")
    return Tensor(device.upload(np.array(value, dtype)), device)


def _positive(**sizes: int) -> None:
    for name, n in sizes.items():
        if int(n) != n or n < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, got {n!r}")


@layer
class Linear(Module):
    """The fully-connected layer: activation(x @ weight + bias).

    Args:
        inputs, outputs: columns in and out.
        bias: whether there is one; it starts at 0.
        activation: applied in the same kernel. init: an initialiser's name; "auto" is the one suited to the activation.
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool = True, activation: str = "identity", init: str = "auto"
    ) -> None:
        _positive(inputs=inputs, outputs=outputs)
        ops.activations.lookup(activation)
        self.inputs, self.outputs, self.has_bias, self.activation, self.init = (
            int(inputs),
            int(outputs),
            bool(bias),
            activation,
            init,
        )
        self.declare("weight", (self.inputs, self.outputs), init=_resolve(init, activation))
        if bias:
            self.declare("bias", (self.outputs,), init="zeros")

    def forward(self, x: Tensor) -> Tensor:
        if not x.ndim or x.shape[-1] != self.inputs:
            raise ShapeError(f"{describe(self)} got {x.shape[-1] if x.ndim else 'no'} columns; it takes {self.inputs}")
        if x.dtype.kind != "f":  # pixels, counts
            x = ops.cast(x, dtype=self.weight.dtype)
        return ops.linear(x, self.weight, self.bias if self.has_bias else None, act=self.activation)

    def config(self) -> dict[str, Any]:
        return {
            "layer": "Linear",
            "inputs": self.inputs,
            "outputs": self.outputs,
            "bias": self.has_bias,
            "activation": self.activation,
            "init": self.init,
        }

    def __repr__(self) -> str:
        extra = ("" if self.has_bias else ", bias=False") + (
            "" if self.activation == "identity" else f", activation={self.activation!r}"
        )
        return f"Linear({self.inputs}, {self.outputs}{extra})"


FC = Linear


def _resolve(name: str, activation: str) -> str:
    chosen = init.suited_to(activation) if name == "auto" else name
    init.get(chosen)
    return chosen


@layer
class Maxout(Module):
    """The largest of `pieces` linear maps, unit by unit (Goodfellow et al. 2013)."""

    fields = ("inputs", "outputs", "pieces", "init")

    def __init__(self, inputs: int, outputs: int, *, pieces: int = 2, init: str = "he") -> None:
        _positive(inputs=inputs, outputs=outputs, pieces=pieces)
        self.inputs, self.outputs, self.pieces, self.init = int(inputs), int(outputs), int(pieces), init
        self.linear = Linear(inputs, outputs * pieces, init=init)

    def forward(self, x: Tensor) -> Tensor:
        z = self.linear(x)
        return ops.max(ops.reshape(z, shape=(*z.shape[:-1], self.outputs, self.pieces)), axis=-1)


BY_NAME: dict[str, type[Module]] = {}  # activation -> its layer


class _Activation(Module):
    """A subclass that names an activation of ops.activations is its layer."""

    act = ""

    def __init_subclass__(cls, *, act: str = "") -> None:
        if act:
            cls.act = act
            BY_NAME[act] = layer(cls)

    def forward(self, x: Tensor) -> Tensor:
        return ops.activate(x, self.act)


# fmt: off
class ReLU(_Activation, act="relu"): ...
class SELU(_Activation, act="selu"): ...
class Sigmoid(_Activation, act="sigmoid"): ...
class Tanh(_Activation, act="tanh"): ...
class Softplus(_Activation, act="softplus"): ...
class GELU(_Activation, act="gelu"): ...
class SiLU(_Activation, act="silu"): ...
class Mish(_Activation, act="mish"): ...
class Identity(_Activation, act="identity"): ...
# fmt: on


class _Scaled(_Activation):
    """An activation with a parameter alpha."""

    fields = ("alpha",)

    def __init__(self, alpha: float) -> None:
        if alpha < 0:
            raise ConfigError(f"{type(self).__name__}: alpha must not be negative, got {alpha}")
        self.alpha = float(alpha)

    def forward(self, x: Tensor) -> Tensor:
        return ops.activate(x, self.act, self.alpha)


class LeakyReLU(_Scaled, act="leaky_relu"):
    def __init__(self, alpha: float = 0.01) -> None:
        super().__init__(alpha)


class ELU(_Scaled, act="elu"):
    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)


@layer
class Dropout(Module):
    """In training, zeroes each value with probability `rate` and scales the rest; otherwise passes x on.

    The mask depends on the seed, the layer's path and the number of the draw only: equal on every device.
    """

    fields = ("rate",)

    def __init__(self, rate: float = 0.5) -> None:
        if not 0 <= rate < 1:
            raise ConfigError(f"Dropout: the rate is a probability in [0, 1), got {rate}")
        self.rate = float(rate)
        self.level = _state(rate, np.float64)  # a Tensor, so that a schedule may change it
        self.draws = _state(0, np.int64)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        made = ops.dropout(x, self.level, self.draws, seed=self._seed, stream=rng.stream(self.path))
        self.draws.assign(self.draws + 1)
        return made


@layer
class BatchNorm1d(Module):
    """Normalises each column over the batch (Ioffe and Szegedy 2015); in evaluation by running statistics.

    momentum is the share of the new batch in the running mean and (unbiased) variance.
    """

    fields = ("features", "momentum", "eps")

    def __init__(self, features: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        _positive(features=features)
        self.features, self.momentum, self.eps = int(features), float(momentum), float(eps)
        self.declare("gamma", (self.features,), init="ones")
        self.declare("beta", (self.features,), init="zeros")
        self.mean, self.var = _state(np.zeros(features), np.float32), _state(np.ones(features), np.float32)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.features:
            raise ShapeError(f"{describe(self)} got the shape {x.shape}; it takes [rows, {self.features}]")
        if not self.training:
            return (x - self.mean) / ops.sqrt(self.var + self.eps) * self.gamma + self.beta
        n = x.shape[0]
        if n < 2:
            raise ShapeError(
                f"{describe(self)} got a batch of {n} row; its statistics need at least 2 (drop the last batch or call eval())"
            )
        y, mean, var = ops.batch_norm(x, self.gamma, self.beta, eps=self.eps)
        self.mean.assign(self.mean + self.momentum * (mean.detach() - self.mean))
        self.var.assign(self.var + self.momentum * (var.detach() * (n / (n - 1)) - self.var))
        return y


@layer
class LayerNorm(Module):
    """Normalises each row over its columns (Ba et al. 2016)."""

    fields = ("features", "eps")

    def __init__(self, features: int, *, eps: float = 1e-5) -> None:
        _positive(features=features)
        self.features, self.eps = int(features), float(eps)
        self.declare("gamma", (self.features,), init="ones")
        self.declare("beta", (self.features,), init="zeros")

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (self.features,):
            raise ShapeError(f"{describe(self)} got the shape {x.shape}; it takes {self.features} columns")
        return ops.layer_norm(x, self.gamma, self.beta, eps=self.eps)


@layer
class Embedding(Module):
    """A trainable row of `width` numbers for each of `count` codes; takes integers of any shape."""

    fields = ("count", "width")

    def __init__(self, count: int, width: int) -> None:
        _positive(count=count, width=width)
        self.count, self.width = int(count), int(width)
        self.declare("weight", (self.count, self.width), init="normal")

    def forward(self, x: Tensor) -> Tensor:
        return ops.gather(self.weight, ops.cast(x, dtype=np.int64) if x.dtype == np.uint8 else x)


@layer
class Flatten(Module):
    """Each row's values as one line: [n, 8, 8] becomes [n, 64]."""

    def forward(self, x: Tensor) -> Tensor:
        return (
            ops.reshape(x, shape=(x.shape[0], -1))
            if x.size
            else ops.reshape(x, shape=(x.shape[0], int(np.prod(x.shape[1:]))))
        )


@layer
class Sequential(Module):
    """Layers one after the other; `net[0]` is the first."""

    def __init__(self, *layers: Module | dict[str, Any]) -> None:
        for i, one in enumerate(layers):
            made = build(one) if isinstance(one, dict) else one
            if not isinstance(made, Module):
                raise ConfigError(
                    f"Sequential: layer {i} is a {type(made).__name__}; nn modules wanted (nn.ReLU(), not relu)"
                )
            setattr(self, str(i), made)

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __getitem__(self, index: int) -> Module:
        return [child for _, child in self.children()][index]

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self.children())

    def forward(self, x: Tensor) -> Tensor:
        before: Module | None = None
        for child in self:
            try:
                x = child(x)
            except ShapeError as error:
                if before is None or " from " in str(error) or not str(error).startswith("layer "):
                    raise
                said, _, wants = str(error).partition(";")
                raise ShapeError(f"{said} from {describe(before)};{wants}") from None
            before = child
        return x

    def settle(self, x: Tensor) -> Tensor:
        for child in self:
            x = child.settle(x)
        return x

    def config(self) -> dict[str, Any]:
        return {"layer": "Sequential", "layers": [child.config() for child in self]}

    def __repr__(self) -> str:
        return (
            "Sequential(\n"
            + "".join(f"  ({name}): {child!r}\n".replace("\n ", "\n   ") for name, child in self.children())
            + ")"
        )


@layer
class Residual(Module):
    """x + inner(x) (He et al. 2016); the inner module keeps the shape."""

    def __init__(self, inner: Module | dict[str, Any]) -> None:
        self.inner = build(inner) if isinstance(inner, dict) else inner

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        if y.shape != x.shape:
            raise ShapeError(
                f"{describe(self)}: the inner module turns {x.shape} into {y.shape}; the shapes must agree to be added"
            )
        return x + y

    def config(self) -> dict[str, Any]:
        return {"layer": "Residual", "inner": self.inner.config()}

    def __repr__(self) -> str:
        return f"Residual({self.inner!r})"


def hidden_block(
    inputs: int, outputs: int, *, activation: str, norm: str | None, dropout: float, init: str
) -> Sequence[Module]:
    """Linear, norm, activation, dropout. Without a norm the activation runs in the linear kernel."""
    if norm is None:
        parts: list[Module] = [Linear(inputs, outputs, activation=activation, init=init)]
    else:
        if norm not in ("batch", "layer"):
            raise ConfigError(f'norm must be "batch", "layer" or None, got {norm!r}')
        chosen = _resolve(init, activation)  # a bias before a norm would only be noise under Adam
        made = BatchNorm1d(outputs) if norm == "batch" else LayerNorm(outputs)
        parts = [Linear(inputs, outputs, bias=norm != "batch", init=chosen), made, BY_NAME[activation]()]
    return [*parts, Dropout(dropout)] if dropout else parts


def is_activated(module: Module) -> bool:
    """Whether what it gives comes out of an activation."""
    if isinstance(module, (_Activation, _Scaled)):
        return not isinstance(module, Identity)
    return isinstance(module, Linear) and module.activation != "identity"
