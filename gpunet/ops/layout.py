"""Shapes, pieces and rows: ops that move values and compute none."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..devices import Device
from ..engine import Spec, Tensor, op
from ..errors import DTypeError, RangeError, ShapeError
from .rules import axes_of, broadcasted, reshaped

Triples = tuple[tuple[int | None, int | None, int | None], ...]  # start, stop, step of each axis


# ---------------------------------------------------------------- views


@op(shape=reshaped, view=True)
def _reshape(dev: Device, x: Any, *, shape: tuple[int, ...]) -> Any:
    return x.reshape(shape)


@_reshape.vjp
def _(g: Tensor, x_shape: Any) -> Tensor:
    return reshape(g, shape=x_shape)


def reshape(x: Tensor, *, shape: Sequence[int] | int) -> Tensor:
    """The same elements in another shape; one length may be -1."""
    wanted = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)
    if -1 in wanted:
        known = math.prod(n for n in wanted if n != -1)
        if wanted.count(-1) > 1 or not known or x.size % known:
            raise ShapeError(f"reshape: {x.shape} has {x.size} elements, which do not divide into {wanted}")
        wanted = tuple(x.size // known if n == -1 else n for n in wanted)
    return x if wanted == x.shape else _reshape(_checked(x, wanted), shape=wanted)


def _checked(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    reshaped(x, shape=shape)
    return x


def _transposed(x: Any, *, axes: tuple[int, ...]) -> Spec:
    return Spec(tuple(x.shape[a] for a in axes), x.dtype)


@op(shape=_transposed, view=True)
def _transpose(dev: Device, x: Any, *, axes: tuple[int, ...]) -> Any:
    return x.transpose(axes)


@_transpose.vjp
def _(g: Tensor, *, axes: tuple[int, ...]) -> Tensor:
    return _transpose(g, axes=tuple(axes.index(i) for i in range(len(axes))))


def transpose(x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """x with its axes in another order; all reversed by default."""
    order = tuple(reversed(range(x.ndim))) if axes is None else axes_of(x.ndim, tuple(axes))
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"transpose: axes {axes} are not an order of the {x.ndim} axes of {x.shape}")
    return _transpose(x, axes=order)


def swap_last(x: Tensor) -> Tensor:
    """The matrix transpose: the last two axes swapped."""
    return _transpose(x, axes=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


@op(shape=broadcasted, view=True)
def _broadcast_to(dev: Device, x: Any, *, shape: tuple[int, ...]) -> Any:
    return dev.xp.broadcast_to(x, shape)


@_broadcast_to.vjp
def _(g: Tensor, x_shape: Any) -> Tensor:
    return g.sum_to(shape=x_shape)


def broadcast_to(x: Tensor, *, shape: Sequence[int]) -> Tensor:
    """x repeated, without copying, to `shape` by NumPy's rules."""
    shape = tuple(shape)
    return x if shape == x.shape else _broadcast_to(x, shape=broadcasted(x, shape=shape).shape)


def _sliced(x: Any, *, index: Triples) -> Spec:
    return Spec(tuple(len(range(*builtins.slice(*t).indices(n))) for t, n in zip(index, x.shape, strict=True)), x.dtype)


@op(shape=_sliced, view=True)
def _slice(dev: Device, x: Any, *, index: Triples) -> Any:
    return x[tuple(builtins.slice(*t) for t in index)]


@_slice.vjp
def _(g: Tensor, x_shape: Any, *, index: Triples) -> Tensor:
    return _unslice(g, index=index, shape=x_shape)


@op(shape=lambda g, *, index, shape: Spec(shape, g.dtype))
def _unslice(dev: Device, out: Any, g: Any, *, index: Triples, shape: tuple[int, ...]) -> None:
    """Zeros, with g where the slice was taken."""
    out[...] = 0
    out[tuple(builtins.slice(*t) for t in index)] = g


@_unslice.vjp
def _(g: Tensor, *, index: Triples) -> Tensor:
    return _slice(g, index=index)


def slice(x: Tensor, index: Any) -> Tensor:
    """x[index], as NumPy's basic indexing (ints, slices, None, ...), or rows by an integer array along axis 0."""
    if isinstance(index, (Tensor, list, np.ndarray)):
        return gather(x, index if isinstance(index, Tensor) else Tensor(x.device.upload(_rows(index)), x.device))
    items = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(i, (Tensor, list, np.ndarray)) for i in items):
        raise ShapeError("an index array must stand alone: x[rows]. Use gather(x, rows) or pick(x, columns)")
    named = [i for i in items if i is not None and i is not Ellipsis]
    if builtins.sum(i is Ellipsis for i in items) > 1:
        raise ShapeError("an index can hold one Ellipsis (...) only")
    if len(named) > x.ndim:
        raise ShapeError(f"{len(named)} indices for a Tensor with {x.ndim} axes, shape {x.shape}")
    fill = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
    items[fill : fill + 1] = [builtins.slice(None)] * (x.ndim - len(named))
    triples, shape, axis = [], [], 0
    for item in items:
        if item is None:
            shape.append(1)
            continue
        triples.append(_triple(item, x.shape[axis], axis))
        if isinstance(item, builtins.slice):
            shape.append(len(range(*item.indices(x.shape[axis]))))
        axis += 1
    return reshape(_slice(x, index=tuple(triples)), shape=tuple(shape))


def _rows(index: Any) -> Any:
    rows = np.asarray(index)
    return rows.astype(np.int64) if not rows.size else rows


def _triple(item: Any, length: int, axis: int) -> tuple[int | None, int | None, int | None]:
    if isinstance(item, builtins.slice):
        return item.start, item.stop, item.step
    try:
        i = operator.index(item)
    except TypeError:
        raise DTypeError(f"an index is an integer, a slice, None or ..., got {type(item).__name__}") from None
    if not -length <= i < length:
        raise RangeError(f"index {i} is out of range for axis {axis} with {length} elements")
    return i % length, i % length + 1, 1


# ---------------------------------------------------------------- pieces


def _joined(*xs: Any, axis: int) -> Spec:
    rest = {x.shape[:axis] + x.shape[axis + 1 :] for x in xs}
    if len(rest) != 1 or len({x.dtype for x in xs}) != 1:
        listed = ", ".join(f"{x.dtype}{list(x.shape)}" for x in xs)
        raise ShapeError(f"concat along axis {axis}: the other axes and the dtypes must agree, got {listed}")
    return Spec((*xs[0].shape[:axis], builtins.sum(x.shape[axis] for x in xs), *xs[0].shape[axis + 1 :]), xs[0].dtype)


@op(shape=_joined)
def _concat(dev: Device, out: Any, *xs: Any, axis: int) -> None:
    at = 0
    for x in xs:
        out[(builtins.slice(None),) * axis + (builtins.slice(at, at + x.shape[axis]),)] = x
        at += x.shape[axis]


@_concat.vjp
def _(g: Tensor, shapes: Any, *, axis: int) -> Any:
    return tuple(_pieces(g, [s[axis] for s in shapes], axis))


def _pieces(x: Tensor, lengths: Sequence[int], axis: int) -> list[Tensor]:
    ends = np.cumsum(lengths).tolist()
    every = ((None, None, None),)
    return [
        _slice(x, index=every * axis + ((e - n, e, 1),) + every * (x.ndim - axis - 1))
        for e, n in zip(ends, lengths, strict=True)
    ]


def _some(xs: Sequence[Tensor], name: str) -> None:
    if not xs:
        raise ShapeError(f"{name}: no Tensors to join")


def concat(xs: Sequence[Tensor], *, axis: int = 0) -> Tensor:
    """Tensors joined along an axis they have."""
    _some(xs, "concat")
    (at,) = axes_of(xs[0].ndim, axis)
    return _concat(*xs, axis=at)


def stack(xs: Sequence[Tensor], *, axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    _some(xs, "stack")
    (at,) = axes_of(xs[0].ndim + 1, axis)
    return _concat(*[reshape(x, shape=(*x.shape[:at], 1, *x.shape[at:])) for x in xs], axis=at)


def split(x: Tensor, parts: int | Sequence[int], *, axis: int = 0) -> list[Tensor]:
    """x cut along `axis` into `parts` equal pieces, or into pieces of the given lengths; the pieces are views."""
    (at,) = axes_of(x.ndim, axis)
    length = x.shape[at]
    lengths = [length // parts] * parts if isinstance(parts, int) else list(parts)
    if builtins.sum(lengths) != length:
        raise ShapeError(
            f"split: axis {at} has {length} elements, which {parts} do not divide"
            if isinstance(parts, int)
            else f"split: {lengths} do not add up to {length}"
        )
    return _pieces(x, lengths, at)


def _widened(x: Any, *, widths: tuple[tuple[int, int], ...], value: float) -> Spec:
    if len(widths) != len(x.shape):
        raise ShapeError(f"pad: {len(widths)} pairs of widths for {len(x.shape)} axes")
    return Spec(tuple(a + n + b for n, (a, b) in zip(x.shape, widths, strict=True)), x.dtype)


@op(shape=_widened)
def pad(dev: Device, out: Any, x: Any, *, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> None:
    """x with `value` around it: (before, after) elements on each axis."""
    out[...] = value
    out[tuple(builtins.slice(a, a + n) for (a, _), n in zip(widths, x.shape, strict=True))] = x


@pad.vjp
def _(g: Tensor, x_shape: Any, *, widths: tuple[tuple[int, int], ...]) -> Tensor:
    return _slice(g, index=tuple((a, a + n, 1) for (a, _), n in zip(widths, x_shape, strict=True)))


def _packed(*xs: Any) -> Spec:
    if len({x.dtype for x in xs}) != 1:
        raise DTypeError(f"pack: one dtype wanted, got {', '.join(str(x.dtype) for x in xs)}")
    return Spec((builtins.sum(math.prod(x.shape) for x in xs),), xs[0].dtype)


@op(shape=_packed)
def pack(dev: Device, out: Any, *xs: Any) -> None:
    """Tensors of any shapes as one vector, in order: how gradients reach the optimizer."""
    at = 0
    for x in xs:
        out[at : at + x.size] = x.reshape(-1)
        at += x.size


@pack.vjp
def _(g: Tensor, shapes: Any) -> Any:
    return tuple(unpack(g, shapes))


def unpack(x: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """A vector as its pieces, which are views of it."""
    return [
        reshape(piece, shape=s) for piece, s in zip(_pieces(x, [math.prod(s) for s in shapes], 0), shapes, strict=True)
    ]


# ---------------------------------------------------------------- rows


def _integers(rows: Any, name: str) -> None:
    if rows.dtype.kind not in "iu":
        raise DTypeError(f"{name}: integer indices wanted, got {rows.dtype}")


def _gathered(x: Any, rows: Any) -> Spec:
    _integers(rows, "gather")
    return Spec(tuple(rows.shape) + tuple(x.shape[1:]), x.dtype)


@op(shape=_gathered)
def gather(dev: Device, out: Any, x: Any, rows: Any) -> None:
    """x[rows] along axis 0: the rows of a batch, or an embedding."""
    _within(dev, rows, x.shape[0], "gather")
    dev.xp.take(x, rows, axis=0, out=out)


@gather.vjp
def _(g: Tensor, rows: Tensor, x_shape: Any) -> Any:
    return scatter_add(g, rows, n=x_shape[0]), None


def _within(dev: Device, rows: Any, n: int, name: str) -> None:
    if rows.size:
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= n:
            raise RangeError(f"{name}: index {low if low < 0 else high} is out of range for {n} rows")


def _scattered(g: Any, rows: Any, *, n: int) -> Spec:
    _integers(rows, "scatter_add")
    lead = len(rows.shape)
    if tuple(g.shape[:lead]) != tuple(rows.shape):
        raise ShapeError(
            f"scatter_add: one row of values for each index wanted: {tuple(rows.shape)}, got {tuple(g.shape)}"
        )
    return Spec((n, *g.shape[lead:]), g.dtype)


@op(shape=_scattered)
def scatter_add(dev: Device, out: Any, g: Any, rows: Any, *, n: int) -> None:
    """Zeros of n rows, to which g[i] is added at rows[i]; rows may repeat."""
    _within(dev, rows, n, "scatter_add")
    out[...] = 0
    dev.scatter_add(out, rows, g)


@scatter_add.vjp
def _(g: Tensor, rows: Tensor) -> Any:
    return gather(g, rows), None


def _picked(x: Any, t: Any) -> Spec:
    _integers(t, "pick")
    if tuple(t.shape) != tuple(x.shape[:-1]):
        raise ShapeError(f"pick: one index for each row wanted: {tuple(x.shape[:-1])}, got {tuple(t.shape)}")
    return Spec(tuple(t.shape), x.dtype)


@op(shape=_picked)
def pick(dev: Device, out: Any, x: Any, t: Any) -> None:
    """x[i, t[i]]: one element of each row, along the last axis."""
    _within(dev, t, x.shape[-1], "pick")
    out[...] = dev.xp.take_along_axis(x, t[..., None], -1)[..., 0]


@pick.vjp
def _(g: Tensor, t: Tensor, x_shape: Any) -> Any:
    return reshape(g, shape=(*g.shape, 1)) * one_hot(t, n=x_shape[-1], dtype=g.dtype), None


def _hot(t: Any, *, n: int, dtype: Any) -> Spec:
    _integers(t, "one_hot")
    return Spec((*t.shape, n), np.dtype(dtype))


@op(shape=_hot)
def one_hot(dev: Device, out: Any, t: Any, *, n: int, dtype: Any = np.float32) -> None:
    """1 at t[i] in row i of n columns, else 0."""
    _within(dev, t, n, "one_hot")
    out[...] = t[..., None] == dev.xp.arange(n)


@op(shape=lambda x, start, *, size: Spec((size, *x.shape[1:]), x.dtype))
def slice_rows(dev: Device, out: Any, x: Any, start: Any, *, size: int) -> None:
    """`size` rows of x from row `start`, which is a Tensor (a cursor): changing it never retraces. No gradient."""
    at = int(start)
    if at < 0 or at + size > x.shape[0]:
        raise RangeError(f"slice_rows: rows {at} to {at + size - 1} of {x.shape[0]}")
    out[...] = x[at : at + size]


@op(outs=2, shape=lambda x, y, order, start, *, size: tuple(Spec((size, *t.shape[1:]), t.dtype) for t in (x, y)))
def gather_two(dev: Device, out_x: Any, out_y: Any, x: Any, y: Any, order: Any, start: Any, *, size: int) -> None:
    """The rows order[start : start + size] of two tables: a batch, for the compiler to put in the place of both."""
    rows = dev.empty((size,), order.dtype)
    slice_rows.forward(dev, rows, order, start, size=size)
    gather.forward(dev, out_x, x, rows)
    gather.forward(dev, out_y, y, rows)
