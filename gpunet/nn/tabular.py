"""Layers for tables, those of RealMLP among them (Holzmüller et al. 2024): columns in, what a net learns well from out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops, rng
from ..engine import Tensor, no_grad
from ..errors import ConfigError, ShapeError
from .layers import _positive, _state
from .module import Module, describe, layer

SMALLEST_GAP = 1e-6  # between the ends of a ramp, of the column's largest number: less is rounding in float32


@layer
class Scale(Module):
    """Each column times a trained factor, 1 at first: a soft selection of columns."""

    fields = ("features",)

    def __init__(self, features: int) -> None:
        _positive(features=features)
        self.features = int(features)
        self.declare("factor", (self.features,), init="ones")

    def forward(self, x: Tensor) -> Tensor:
        _check_columns(self, x, self.features)
        return x * self.factor


@layer
class NTKLinear(Module):
    """x @ weight / sqrt(inputs) + bias: weights of size 1, whatever the width (Jacot et al. 2018).

    Args:
        inputs, outputs: columns in and out.
        init: "data": standard normal, each unit then brought to standard deviation 1 over the training rows, and the bias
            where its kinks meet the data: minus a random mixture of its values in five rows ("he+5" of RealMLP, after
            Steinwart 2019). "normal": both standard normal. "zeros": both 0.
    """

    fields = ("inputs", "outputs", "init")

    def __init__(self, inputs: int, outputs: int, *, init: str = "normal") -> None:
        _positive(inputs=inputs, outputs=outputs)
        if init not in ("data", "normal", "zeros"):
            raise ConfigError(f'NTKLinear: init must be "data", "normal" or "zeros", got {init!r}')
        self.inputs, self.outputs, self.init = int(inputs), int(outputs), init
        drawn = "normal" if init == "data" else init
        self.declare("weight", (self.inputs, self.outputs), init=drawn)
        self.declare("bias", (self.outputs,), init=drawn)
        if init == "data":
            self.settled = _state(0, np.int64)  # a state, so that a loaded or copied layer is not drawn again

    def forward(self, x: Tensor) -> Tensor:
        _check_columns(self, x, self.inputs)
        # x is scaled, not the weights: that joins what made x, and the weights' gradient comes scaled out of its product
        return ops.linear(x * (1.0 / math.sqrt(self.inputs)), self.weight, self.bias)

    @property
    def unsettled(self) -> bool:
        return self.init == "data" and not self.settled.item()

    @no_grad()
    def settle(self, x: Tensor) -> Tensor:
        if self.unsettled:
            z = np.asarray(x.numpy(), np.float64) @ np.asarray(self.weight.numpy(), np.float64) / math.sqrt(self.inputs)
            deviation = z.std(axis=0)
            size = np.where(deviation > 0, deviation, 1.0)  # a unit that sees no difference stays as it is
            _write(self.weight, self.weight.numpy() / size)
            _write(self.bias, -self._mixture(z / size))
            _write(self.settled, 1)
        return self(x)

    def _mixture(self, z: Any, rows: int = 5) -> Any:
        """For each unit a random convex combination of its values in so many random rows."""
        drawn = rng.uniform(2 * rows * self.outputs, seed=self._seed, stream=rng.stream(f"{self.path}.mixture"))
        which, share = drawn.astype(np.float64).reshape(2, rows, self.outputs)
        share = -np.log1p(-share)  # exponential, which normalised is uniform over the simplex
        values = np.take_along_axis(z, (which * len(z)).astype(np.int64), axis=0)
        return (values * share).sum(axis=0) / np.maximum(share.sum(axis=0), np.finfo(np.float64).tiny)


@layer
class ParametricActivation(Module):
    """x + strength * (activation(x) - x), with a trained strength for each column: 1 is the activation, 0 the identity."""

    fields = ("features", "activation")

    def __init__(self, features: int, activation: str) -> None:
        _positive(features=features)
        ops.activations.lookup(activation)
        self.features, self.activation = int(features), activation
        self.declare("strength", (self.features,), init="ones")

    def forward(self, x: Tensor) -> Tensor:
        _check_columns(self, x, self.features)
        return x + self.strength * (ops.activate(x, self.activation) - x)


@layer
class PeriodicEmbedding(Module):
    """Each number as `width` numbers: itself, and linear functions of cos(2 pi (f x) + phase) at trained frequencies.

    The PBLD embedding of RealMLP, after Gorishniy et al. (2022): [n, k] becomes [n, width * k]; first come the width - 1
    functions of each column, then the columns themselves. Each column has its own frequencies ~ N(0, sigma^2).
    """

    fields = ("features", "frequencies", "width", "sigma")

    def __init__(self, features: int, *, frequencies: int = 16, width: int = 4, sigma: float = 0.1) -> None:
        _positive(features=features, frequencies=frequencies, width=width - 1)
        if not sigma > 0:
            raise ConfigError(f"PeriodicEmbedding: sigma must be above 0, got {sigma}")
        self.features, self.frequencies = int(features), int(frequencies)
        self.width, self.sigma = int(width), float(sigma)
        k, m, made = self.features, self.frequencies, self.width - 1
        self.declare("frequency", (k, 1, m), init=f"normal:{self.sigma}")
        self.declare("phase", (k, m), init=f"symmetric:{math.pi}")
        self.declare("weight", (k, m, made), init=f"symmetric:{1 / math.sqrt(m)}")
        self.declare("bias", (k, made), init=f"symmetric:{1 / math.sqrt(m)}")

    def forward(self, x: Tensor) -> Tensor:
        _check_columns(self, x, self.features)
        slope = ops.reshape(self.frequency * (2 * math.pi), shape=self.phase.shape)
        return ops.concat([ops.column_nets(x, slope, self.phase, self.weight, self.bias, act="cos"), x], axis=1)


@layer
class PiecewiseEmbedding(Module):
    """Each number as `width` trained piecewise linear functions of it (Gorishniy et al. 2022).

    [n, k] becomes [n, width * k]. A function bends at the quantiles of the column in training, and is flat beyond them:
    it is linear in `bins` ramps, each of which climbs from 0 to 1 between two neighbouring quantiles.
    """

    fields = ("features", "bins", "width")

    def __init__(self, features: int, *, bins: int = 16, width: int = 4) -> None:
        _positive(features=features, bins=bins, width=width)
        self.features, self.bins, self.width = int(features), int(bins), int(width)
        k, m = self.features, self.bins
        self.slope, self.start = _state(np.zeros((k, 1, m)), np.float32), _state(np.zeros((k, m)), np.float32)
        self.settled = _state(0, np.int64)
        self.declare("weight", (k, m, self.width), init=f"symmetric:{1 / math.sqrt(m)}")
        self.declare("bias", (k, self.width), init=f"symmetric:{1 / math.sqrt(m)}")

    def forward(self, x: Tensor) -> Tensor:
        _check_columns(self, x, self.features)
        slope = ops.reshape(self.slope, shape=self.start.shape)
        return ops.column_nets(x, slope, self.start, self.weight, self.bias, act="ramp")

    @property
    def unsettled(self) -> bool:
        return not self.settled.item()

    @no_grad()
    def settle(self, x: Tensor) -> Tensor:
        if self.unsettled:
            edges = np.stack([self._edges(column) for column in np.asarray(x.numpy(), np.float64).T])
            gap = np.diff(edges, axis=1)
            apart = gap > SMALLEST_GAP * np.maximum(np.abs(edges).max(axis=1, keepdims=True), SMALLEST_GAP)
            slope = np.where(apart, 1 / np.where(apart, gap, 1), 0.0)  # where quantiles are equal, no ramp
            _write(self.slope, slope[:, None, :])
            _write(self.start, -edges[:, :-1] * slope)
            _write(self.settled, 1)
        return self(x)

    def _edges(self, column: Any) -> Any:
        """Quantiles; of the distinct values where some coincide, for a column that is mostly 0 has thresholds too."""
        shares = np.linspace(0, 1, self.bins + 1)
        edges = np.quantile(column, shares, method="inverted_cdf")
        return edges if (np.diff(edges) > 0).all() else np.quantile(np.unique(column), shares, method="inverted_cdf")


@layer
class Columns(Module):
    """The entrance for an encoded table: `numeric` columns, then `plain` ones, then a code for each of `codes`.

    [n, numeric + plain + len(codes)] becomes [n, outputs].

    Args:
        numeric: columns that the periodic embedding reads (frequencies=0: none, they go on as they are).
        plain: columns that go on as they are.
        codes: how many codes each of the last columns has (0 to count - 1); each code is a trained row of `width` numbers.
        embedding, piecewise: settings of the PeriodicEmbedding and the PiecewiseEmbedding of the numeric columns, whose
            outputs stand side by side; None for none. Without the first the columns themselves stand in its place.
    """

    fields = ("numeric", "plain", "codes", "width", "embedding", "piecewise")

    def __init__(
        self,
        numeric: int,
        plain: int = 0,
        codes: Sequence[int] = (),
        *,
        width: int = 8,
        embedding: dict[str, Any] | None = None,
        piecewise: dict[str, Any] | None = None,
    ) -> None:
        self.numeric, self.plain, self.codes, self.width = int(numeric), int(plain), [int(c) for c in codes], int(width)
        self.embedding, self.piecewise = embedding, piecewise
        if min(self.numeric, self.plain, *self.codes, 0) < 0 or not self.numeric + self.plain + len(self.codes):
            raise ConfigError(
                f"Columns: at least one column wanted, got numeric={numeric}, plain={plain}, codes={codes}"
            )
        if self.numeric and embedding is not None:
            self.periodic = PeriodicEmbedding(self.numeric, **embedding)
        if self.numeric and piecewise is not None:
            self.ramps = PiecewiseEmbedding(self.numeric, **piecewise)
        if self.codes:
            self.declare("code", (sum(self.codes), self.width), init="normal")
            self._first = np.cumsum([0, *self.codes[:-1]])  # of each column, among the rows of `code`

    @property
    def inputs(self) -> int:
        return self.numeric + self.plain + len(self.codes)

    @property
    def outputs(self) -> int:
        each = (1 if self.embedding is None else self.periodic.width) if self.numeric else 0
        each += self.ramps.width if self.numeric and self.piecewise is not None else 0
        return self.numeric * each + self.plain + len(self.codes) * self.width

    def forward(self, x: Tensor) -> Tensor:
        _check_columns(self, x, self.inputs)
        numbers, parts = x[:, : self.numeric], []
        if self.numeric:
            parts.append(numbers if self.embedding is None else self.periodic(numbers))
        if self.numeric and self.piecewise is not None:
            parts.append(self.ramps(numbers))
        if self.plain:
            parts.append(x[:, self.numeric : self.numeric + self.plain])
        if self.codes:
            parts.append(self._embedded(x[:, -len(self.codes) :]))
        return parts[0] if len(parts) == 1 else ops.concat(parts, axis=1)

    @no_grad()
    def settle(self, x: Tensor) -> Tensor:
        if self.unsettled:
            self.ramps.settle(x[:, : self.numeric])
        return self(x)

    def _embedded(self, codes: Tensor) -> Tensor:
        first = Tensor(codes.device.upload(self._first), codes.device)
        rows = ops.gather(self.code, ops.cast(codes, dtype=np.int64) + first)
        return ops.reshape(rows, shape=(codes.shape[0], len(self.codes) * self.width))


@layer
class Clamp(Module):
    """In evaluation, outputs held within [low, high], column by column: no prediction beyond what training had."""

    fields = ("low", "high")

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        if len(low) != len(high) or any(not a <= b for a, b in zip(low, high, strict=True)):
            raise ConfigError(f"Clamp: one low for each high, and not above it; got {low} and {high}")
        self.low, self.high = [float(a) for a in low], [float(b) for b in high]

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x
        _check_columns(self, x, len(self.low))
        low, high = (Tensor(x.device.upload(np.array(v, x.dtype)), x.device) for v in (self.low, self.high))
        return ops.minimum(ops.maximum(x, low), high)


def _check_columns(module: Module, x: Tensor, wanted: int) -> None:
    if x.ndim != 2 or x.shape[1] != wanted:
        raise ShapeError(f"{describe(module)} got the shape {x.shape}; it takes [rows, {wanted}]")


def _write(t: Tensor, value: Any) -> None:
    t.assign(Tensor(t.device.upload(np.asarray(value, t.dtype)), t.device))
