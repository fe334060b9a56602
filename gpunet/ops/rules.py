"""Shape and dtype rules: what comes out, known before it is computed. They see Specs, or arrays in their place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine import DEFAULT_DTYPE, Spec
from ..errors import DTypeError, ShapeError

BOOL, INT = np.dtype(np.bool_), np.dtype(np.int64)


def same(x: Any, *_: Any, **__: Any) -> Spec:
    return Spec(x.shape, x.dtype)


def common_shape(*xs: Any) -> tuple[int, ...]:
    shape = xs[0].shape
    for x in xs[1:]:
        if not shape:
            shape = x.shape
        elif x.shape and x.shape != shape:
            try:
                shape = np.broadcast_shapes(shape, x.shape)
            except ValueError:
                listed = " and ".join(str(tuple(x.shape)) for x in xs)
                raise ShapeError(f"the shapes {listed} do not broadcast together") from None
    return shape


def common_dtype(x: Any, y: Any) -> np.dtype[Any]:
    """A float beats an integer; two different floats are an error, never a silent promotion."""
    a, b = x.dtype, y.dtype
    if a == b:
        return a
    if a.kind == b.kind == "f":
        raise DTypeError(f"mixed floating point types: {a} and {b}. Convert one with .cast(dtype=...)")
    return a if a.kind == "f" else b if b.kind == "f" else np.result_type(a, b)


def broadcast(x: Any, y: Any) -> Spec:
    if x.shape == y.shape and x.dtype == y.dtype:
        return Spec(x.shape, x.dtype)
    return Spec(common_shape(x, y), common_dtype(x, y))


def broadcast_float(x: Any, y: Any) -> Spec:
    """As `broadcast`; integers give the default float (true division)."""
    spec = broadcast(x, y)
    return spec if spec.dtype.kind == "f" else Spec(spec.shape, DEFAULT_DTYPE)


def as_float(x: Any, **_: Any) -> Spec:
    return Spec(x.shape, x.dtype if x.dtype.kind == "f" else DEFAULT_DTYPE)


def compare(x: Any, y: Any) -> Spec:
    common_dtype(x, y)
    return Spec(common_shape(x, y), BOOL)


def choice(condition: Any, x: Any, y: Any) -> Spec:
    return Spec(common_shape(condition, x, y), common_dtype(x, y))


def axes_of(ndim: int, axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The axes meant, counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    listed = axis if isinstance(axis, tuple) else (axis,)
    for a in listed:
        if not -ndim <= a < ndim:
            raise ShapeError(f"axis {a} of an array with {ndim} axes; there are {-ndim} to {ndim - 1}")
    return tuple(a % ndim for a in listed)


def summed(x: Any, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Spec:
    """As `reduced`; what is counted in integers is counted in int64."""
    spec = reduced(x, axis=axis, keepdims=keepdims)
    return Spec(spec.shape, INT) if spec.dtype.kind in "biu" else spec


def extreme(x: Any, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Spec:
    if any(x.shape[a] == 0 for a in axes_of(len(x.shape), axis)):
        raise ShapeError(f"an extreme over no elements: shape {tuple(x.shape)}, axis {axis}")
    return reduced(x, axis=axis, keepdims=keepdims)


def reduced(x: Any, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Spec:
    axes = axes_of(len(x.shape), axis)
    return Spec(tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes), x.dtype)


def averaged(x: Any, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Spec:
    return as_float(reduced(x, axis=axis, keepdims=keepdims))


def indexed(x: Any, *, axis: int | None, keepdims: bool = False) -> Spec:
    return Spec(extreme(x, axis=axis, keepdims=keepdims).shape, INT)


def product(x: Any, y: Any) -> Spec:
    """Matrices, or stacks of them whose leading axes broadcast."""
    if len(x.shape) < 2 or len(y.shape) < 2 or x.shape[-1] != y.shape[-2]:
        raise ShapeError(f"{tuple(x.shape)} @ {tuple(y.shape)}: columns of the left and rows of the right must agree")
    lead = common_shape(Spec(x.shape[:-2], x.dtype), Spec(y.shape[:-2], y.dtype))
    return Spec((*lead, x.shape[-2], y.shape[-1]), common_dtype(x, y))


def reshaped(x: Any, *, shape: tuple[int, ...]) -> Spec:
    if math.prod(shape) != math.prod(x.shape) or any(n < 0 for n in shape):
        raise ShapeError(f"{tuple(x.shape)} has {math.prod(x.shape)} elements, {tuple(shape)} has {math.prod(shape)}")
    return Spec(tuple(shape), x.dtype)


def broadcasted(x: Any, *, shape: tuple[int, ...]) -> Spec:
    if common_shape(x, Spec(tuple(shape), x.dtype)) != tuple(shape):
        raise ShapeError(f"{tuple(x.shape)} does not broadcast to {tuple(shape)}")
    return Spec(tuple(shape), x.dtype)
