"""The ops' kernels on a GPU, by name: from arrays to launches of csrc/*.cu. What one declines, the op's xp code does.

A kernel is called kernel(cuda, *outs, *ins, **settings) and returns NotImplemented where it declines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .base import address
from .launcher import MOST_BLOCKS, THREADS, WARP

CUDA = Any  # cuda.CUDA, which imports this file

C_NAMES = {
    "float32": "float", "float64": "double", "int32": "int", "int64": "long long", "bool": "bool",
    "uint8": "unsigned char",
}  # fmt: skip
WORDS = {1: "unsigned char", 4: "unsigned", 8: "long long"}  # what rows are copied by
MOST_PLACES, MOST_ROWS = 65535, 2**31 - 1  # of a grid along y and z, and along x
ROWS_CHUNK, COLUMNS_CHUNK = 8192, 512  # elements that one block joins


def c_name(array: Any) -> str | None:
    return C_NAMES.get(array.dtype.name)


def is_float(*arrays: Any) -> bool:
    """All float32 or all float64, without gaps."""
    dtype = arrays[0].dtype
    return dtype.name in ("float32", "float64") and all(a.dtype == dtype and a.flags.c_contiguous for a in arrays)


def is_index(array: Any) -> bool:
    return array.dtype.name in ("int32", "int64") and bool(array.flags.c_contiguous)


def lanes(array: Any) -> int:
    """How many threads an array takes at 16 bytes each."""
    return -(-int(array.nbytes) // 16)


# ---------------------------------------------------------------- elementwise


def _single(axes: Sequence[tuple[int, int]]) -> int | None:
    """The one stride with which these axes (length, stride) are walked, or None."""
    real = [(n, s) for n, s in axes if n != 1]
    for (_, outer), (n, inner) in zip(real, real[1:], strict=False):
        if outer != n * inner:
            return None
    return real[-1][1] if real else 0


def layout_of(shape: Sequence[int], ins: Sequence[Any]) -> tuple[int, list[tuple[int, int]]] | None:
    """The operands of an output of this shape as rows: their length, and each operand's (row, step) in elements."""
    every = []
    for x in ins:
        missing = len(shape) - x.ndim
        along = zip(x.shape, shape[missing:], x.strides, strict=True)
        every.append([0] * missing + [s // x.itemsize if n == m else 0 for n, m, s in along])
    for split in range(len(shape) + 1):
        found = []
        for strides in every:
            axes = list(zip(shape, strides, strict=True))
            row, step = _single(axes[:split]), _single(axes[split:])
            if row is None or step is None:
                break
            found.append((row, step))
        else:
            return math.prod(shape[split:]), found
    return None


def _operands(out: Any, ins: Sequence[Any]) -> tuple[list[Any], np.int64] | None:
    """data, row, step of each, and the length of a row."""
    if not out.flags.c_contiguous:
        return None
    layout = layout_of(out.shape, ins)
    if layout is None:
        return None
    cols, rows = layout
    given = [a for x, (row, step) in zip(ins, rows, strict=True) for a in (x, np.int64(row), np.int64(step))]
    return given, np.int64(cols)


def unary(cuda: CUDA, out: Any, x: Any, *, formula: str, low: float | None = None, high: float | None = None) -> Any:
    operands = _operands(out, [x])
    if operands is None or out.dtype != x.dtype or out.dtype.kind != "f":
        return NotImplemented
    number = out.dtype.type
    ends = number(-math.inf if low is None else low), number(math.inf if high is None else high)
    cuda.launcher.flat(
        "elementwise", f"unary<gpunet::Unary::{formula}, {c_name(out)}>", lanes(out),
        out, *operands[0], operands[1], np.int64(out.size), *ends,
    )  # fmt: skip
    return None


def binary(cuda: CUDA, out: Any, x: Any, y: Any, *, formula: str) -> Any:
    operands = _operands(out, [x, y])
    takes = ("float32", "float64") if formula in FLOATS_ONLY else ("float32", "float64", "int64")
    if operands is None or not out.dtype == x.dtype == y.dtype or out.dtype.name not in takes:
        return NotImplemented
    cuda.launcher.flat(
        "elementwise", f"binary<gpunet::Binary::{formula}, {c_name(out)}>", lanes(out),
        out, *operands[0], operands[1], np.int64(out.size),
    )  # fmt: skip
    return None


def compare(cuda: CUDA, out: Any, x: Any, y: Any, *, formula: str) -> Any:
    operands = _operands(out, [x, y])
    if operands is None or x.dtype != y.dtype or x.dtype.name not in ("float32", "float64", "int64"):
        return NotImplemented
    cuda.launcher.flat(
        "elementwise", f"compare<gpunet::Compare::{formula}, {c_name(x)}>", out.size,
        out, *operands[0], operands[1], np.int64(out.size),
    )  # fmt: skip
    return None


def where(cuda: CUDA, out: Any, condition: Any, x: Any, y: Any) -> Any:
    operands = _operands(out, [condition, x, y])
    fits = condition.dtype.name == "bool" and out.dtype == x.dtype == y.dtype
    if operands is None or not fits or out.dtype.name not in ("float32", "float64", "int64"):
        return NotImplemented
    cuda.launcher.flat(
        "elementwise", f"where<{c_name(out)}>", out.size, out, *operands[0], operands[1], np.int64(out.size)
    )
    return None


def cast(cuda: CUDA, out: Any, x: Any, *, dtype: Any) -> Any:
    operands = _operands(out, [x])
    if operands is None or out.dtype.name not in ("float32", "float64", "int64") or c_name(x) is None:
        return NotImplemented
    cuda.launcher.flat(
        "elementwise", f"cast<{c_name(out)}, {c_name(x)}>", out.size, out, *operands[0], operands[1], np.int64(out.size)
    )
    return None


# ---------------------------------------------------------------- activations


def activation(cuda: CUDA, out: Any, x: Any, *, act: str, alpha: float) -> Any:
    if not is_float(out, x):
        return NotImplemented
    name = f"activation<gpunet::act::{act}, {c_name(out)}>"
    cuda.launcher.flat("activations", name, lanes(out), out, x, np.int64(out.size), out.dtype.type(alpha))
    return None


def activation_vjp(cuda: CUDA, out: Any, g: Any, s: Any, *, act: str, alpha: float) -> Any:
    if not is_float(out, g, s):
        return NotImplemented
    name = f"activation_vjp<gpunet::act::{act}, {c_name(out)}>"
    cuda.launcher.flat("activations", name, lanes(out), out, g, s, np.int64(out.size), out.dtype.type(alpha))
    return None


def _bias_activation(cuda: CUDA, out: Any, z: Any, b: Any, act: str, alpha: float) -> None:
    """In z lies x @ w; it becomes z, and out its activation."""
    name = f"bias_activation<gpunet::act::{act}, {c_name(out)}>"
    sizes = np.int64(out.size), np.int32(b.size)
    cuda.launcher.flat("activations", name, lanes(out), out, z, z, b, *sizes, out.dtype.type(alpha))


# ---------------------------------------------------------------- products

# Our own kernel needs one launch where cuBLASLt needs two or three. Measured on an H100: it is ahead up to some 100
# million operations.
SMALL_PRODUCT = 100_000_000
FEW_TILES = 96  # of 32 x 32: fewer leave too many multiprocessors idle, and tiles are made smaller


def _small_product(
    cuda: CUDA, out: Any, x: Any, y: Any, end: str = "Plain", second: Any = None, third: Any = None, alpha: float = 0.0
) -> bool:
    """out = x @ y in one launch of csrc/products.cu, with what its `end` makes of it; False where that is no gain."""
    if not all(a.dtype == np.float32 and a.size for a in (out, x, y)) or not out.flags.c_contiguous:
        return False
    if cuda.products.how.precision != "float32" or x.ndim != y.ndim or x.ndim not in (2, 3) or x.shape[:-2] != y.shape[:-2]:
        return False
    stack, (m, k), n = x.shape[0] if x.ndim == 3 else 1, x.shape[-2:], y.shape[-1]
    side = 32 if stack * -(-m // 32) * -(-n // 32) >= FEW_TILES else 16
    grid = -(-n // side), -(-m // side), stack
    layout = next((found for found in LAYOUTS[end.partition("<")[0]] if None not in _steps(x, y, found)), None)
    if layout is None or 2 * out.size * k > SMALL_PRODUCT or max(grid[1:]) > MOST_PLACES:
        return False
    ld_x, ld_y = _steps(x, y, layout)
    turns = ", ".join("true" if along_k else "false" for along_k in layout)
    to_next = (a.strides[0] // a.itemsize if stack > 1 else 0 for a in (x, y))
    to_next_bias = n if stack > 1 and end.startswith("Forward") else 0
    cuda.launcher.launch(
        "products", f"product<{side}, {turns}, gpunet::{end}>", grid, (THREADS,),
        out, out if second is None else second, x, y, x if third is None else third, *map(np.int32, (m, n, k)),
        np.int64(ld_x), np.int64(ld_y), *map(np.int64, (*to_next, to_next_bias)), np.float32(alpha),
    )  # fmt: skip
    return True


# fmt: off
LAYOUTS = {  # whether rows of x, and columns of y, lie along k, by what csrc/products.cu has
    "Plain":      [(True, False), (True, True), (False, False), (False, True)],
    "Forward":    [(True, False)],
    "Backward":   [(True, True)],
    "ColumnSums": [(False, False)],
}
# fmt: on


def _steps(x: Any, y: Any, along_k: tuple[bool, bool]) -> tuple[Any, Any]:
    """From one line to the next of each, in elements; None where a line's elements are not neighbours."""
    return _step(x, along_k[0]), _step(y.swapaxes(-1, -2), along_k[1])


def _step(a: Any, along_last: bool) -> int | None:
    axes = list(zip(a.shape[-2:], (s // a.itemsize for s in a.strides[-2:]), strict=True))
    (lines, step), (length, one) = axes if along_last else reversed(axes)
    return (step if lines > 1 else length) if one == 1 or length == 1 else None


def matmul(cuda: CUDA, out: Any, x: Any, y: Any) -> Any:
    return None if _small_product(cuda, out, x, y) or cuda.products.matmul(out, x, y) else NotImplemented


def linear(cuda: CUDA, out: Any, x: Any, w: Any, b: Any, *, act: str, alpha: float) -> Any:
    return linear_keep(cuda, out, out, x, w, b, act=act, alpha=alpha)


def linear_keep(cuda: CUDA, out: Any, z: Any, x: Any, w: Any, b: Any, *, act: str, alpha: float) -> Any:
    """The activation is a pass of its own: cuBLASLt's RELU makes 0 of NaN, which would hide a diverged net."""
    if not is_float(out, z, b) or b.ndim != max(x.ndim - 1, 1):
        return NotImplemented
    if _small_product(cuda, out, x, w, f"Forward<gpunet::act::{act}>", z, b, alpha):
        return None
    if b.ndim == 2:  # a stack of layers
        if not cuda.products.matmul(z, x, w):
            return NotImplemented
        sizes = map(np.int64, (z.size, z.size // max(len(b), 1), b.shape[1]))
        cuda.launcher.flat("places", f"add_biases<{c_name(z)}>", z.size, z, b, *sizes)
        return None if act == "identity" and z is out else activation(cuda, out, z, act=act, alpha=alpha)
    if cuda.products.matmul(z, x, w, bias=b):
        return None if act == "identity" and z is out else activation(cuda, out, z, act=act, alpha=alpha)
    if not cuda.products.matmul(z, x, w):
        return NotImplemented
    _bias_activation(cuda, out, z, b, act, alpha)
    return None


def linear_dw(cuda: CUDA, dw: Any, db: Any, x: Any, g: Any) -> Any:
    if not is_float(dw, db, g) or g.ndim not in (2, 3):
        return NotImplemented
    turned = x.swapaxes(-1, -2)
    if _small_product(cuda, dw, turned, g, "ColumnSums", db):
        return None
    if g.ndim == 2 and cuda.products.matmul(dw, turned, g, column_sums=db):
        return None
    if not cuda.products.matmul(dw, turned, g):
        return NotImplemented
    return reduce(cuda, db, g, join="Sum", axis=-2)


def linear_dz(cuda: CUDA, out: Any, g: Any, w: Any, s: Any, *, act: str, alpha: float) -> Any:
    if not is_float(out, s):
        return NotImplemented
    if _small_product(cuda, out, g, w, f"Backward<gpunet::act::{act}>", None, s, alpha):
        return None
    if not cuda.products.matmul(out, g, w):
        return NotImplemented
    return activation_vjp(cuda, out, out, s, act=act, alpha=alpha)


# ---------------------------------------------------------------- reductions


def _axes(ndim: int, axis: Any) -> list[int]:
    given = range(ndim) if axis is None else [axis] if isinstance(axis, int) else axis
    return sorted(a % ndim for a in given) if ndim else []


def _runs(axes: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours together, as (first, last + 1)."""
    starts = [a for a in axes if a - 1 not in axes]
    return [(a, next(b for b in range(a + 1, axes[-1] + 2) if b not in axes)) for a in starts]


def _spans(shape: Sequence[int], first: int, last: int) -> tuple[int, int, int]:
    """How many elements lie before, in and after these axes."""
    return math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])


def reduce(cuda: CUDA, out: Any, x: Any, *, join: str, axis: Any = None, keepdims: bool = False, mean: bool = False) -> Any:
    axes = _axes(x.ndim, axis)
    runs = _runs(axes) or [(x.ndim, x.ndim)]
    count = math.prod(x.shape[a] for a in axes)
    if not is_float(out, x) or len(runs) > 2 or (not count and join != "Sum"):  # NumPy has the words for this error
        return NotImplemented
    if not out.size:
        return None
    if len(runs) == 2:  # the later run first, onto a result between
        first, last = runs[1]
        before, n, after = _spans(x.shape, first, last)
        if 2 * before * after * x.itemsize > cuda.workspace.nbytes:
            return NotImplemented
        between = cuda.scratch((*x.shape[:first], *x.shape[last:]), x.dtype, half=1)
        if between.size:
            _fold(cuda, between, x, join, before, n, after, 1.0)
        x = between
    _fold(cuda, out, x, join, *_spans(x.shape, *runs[0]), float(count) if mean else 1.0)
    return None


def _fold(cuda: CUDA, out: Any, x: Any, join: str, before: int, n: int, after: int, divisor: float) -> None:
    """Onto partial results in the workspace first, where one block would have too much to do."""
    chunk = max(ROWS_CHUNK if after == 1 else COLUMNS_CHUNK, -(-n // MOST_PLACES))
    chunks = -(-n // chunk)
    if chunks > 1 and 2 * before * chunks * after * out.itemsize <= cuda.workspace.nbytes:
        partial_results = cuda.scratch((before, chunks, after), out.dtype)
        fold_once(cuda, partial_results, x, join, before, n, after, chunk, 1.0)
        x, n = partial_results, chunks
    fold_once(cuda, out, x, join, before, n, after, max(n, 1), divisor)


def fold_once(
    cuda: CUDA, out: Any, x: Any, join: str, before: int, n: int, after: int, chunk: int, divisor: float
) -> None:
    kind, chunks = f"<gpunet::{join}, {c_name(out)}>", max(-(-n // chunk), 1)
    number, most = out.dtype.type(divisor), MOST_ROWS if after == 1 else MOST_PLACES
    for at in range(0, before, most):
        part = min(most, before - at)
        outs = out.reshape(before, -1)[at : at + part]
        ins = x.reshape(before, -1)[at : at + part]
        rest = np.int64(chunk), number
        if after == 1:
            threads = WARP if min(n, chunk) <= 4 * WARP else 256
            cuda.launcher.launch("reduce", f"fold_rows{kind}", (part, chunks), (threads,), outs, ins, np.int64(n), *rest)
        else:
            grid, sizes = (-(-after // WARP), chunks, part), (np.int64(n), np.int64(after))
            cuda.launcher.launch("reduce", f"fold_columns{kind}", grid, (WARP, 8), outs, ins, *sizes, *rest)


# ---------------------------------------------------------------- rows


def _words(out: Any, x: Any) -> str | None:
    fits = out.dtype == x.dtype and x.flags.c_contiguous and out.flags.c_contiguous
    return WORDS.get(out.itemsize) if fits else None


def gather(cuda: CUDA, out: Any, x: Any, rows: Any) -> Any:
    return _move_rows(cuda, "gather", out, x, rows, rows.size, last=0)


def slice_rows(cuda: CUDA, out: Any, x: Any, start: Any, *, size: int) -> Any:
    return _move_rows(cuda, "slice_rows", out, x, start, out.size, last=size - 1)


def gather_two(cuda: CUDA, out_x: Any, out_y: Any, x: Any, y: Any, order: Any, start: Any, *, size: int) -> Any:
    same = _words(out_x, x) and _words(out_y, y) and order.dtype == start.dtype
    if not same or not is_index(order) or order.ndim != 1 or not size:
        return NotImplemented
    rows = [math.prod(t.shape[1:]) * t.itemsize for t in (x, y)]  # bytes
    whole = all(a.data.ptr % 4 == 0 for a in (out_x, out_y, x, y)) and not any(n % 4 for n in rows)
    word, dtype = ("unsigned", np.dtype(np.uint32)) if whole else ("unsigned char", np.dtype(np.uint8))
    widths = [n // dtype.itemsize for n in rows]
    tables = [t.reshape(-1).view(dtype) for t in (out_x, out_y, x, y)]
    threads = min(-(-max(*widths, 1) // WARP) * WARP, THREADS)
    sizes = size, order.size, *widths, min(x.shape[0], y.shape[0])
    cuda.launcher.launch(
        "rows", f"gather_two<{word}, {c_name(order)}>", (min(size, MOST_BLOCKS),), (threads,),
        *tables, order, start, *map(np.int64, sizes),
    )  # fmt: skip
    cuda.raise_beyond("gather", min(x.shape[0], y.shape[0]))
    return None


def _move_rows(cuda: CUDA, name: str, out: Any, x: Any, index: Any, count: int, last: int) -> Any:
    """Rows of x at `index`, and up to `last` rows after it."""
    word = _words(out, x)
    if word is None or not is_index(index) or not x.ndim or not out.size:
        return NotImplemented
    sizes = count, math.prod(x.shape[1:]), x.shape[0]
    cuda.launcher.flat("rows", f"{name}<{word}, {c_name(index)}>", out.size, out, x, index, *map(np.int64, sizes))
    cuda.raise_beyond(name, x.shape[0] - last)
    return None


def pick(cuda: CUDA, out: Any, x: Any, t: Any) -> Any:
    word = _words(out, x)
    if word is None or not is_index(t):
        return NotImplemented
    cuda.launcher.flat(
        "rows", f"pick<{word}, {c_name(t)}>", out.size, out, x, t, np.int64(out.size), np.int64(x.shape[-1])
    )
    cuda.raise_beyond("pick", x.shape[-1])
    return None


def one_hot(cuda: CUDA, out: Any, t: Any, *, n: int, dtype: Any) -> Any:
    if not is_float(out) or not is_index(t):
        return NotImplemented
    cuda.launcher.flat(
        "rows", f"one_hot<{c_name(out)}, {c_name(t)}>", out.size, out, t, np.int64(t.size), np.int64(n)
    )
    cuda.raise_beyond("one_hot", n)
    return None


def scatter_add(cuda: CUDA, out: Any, g: Any, rows: Any, *, n: int) -> Any:
    if not is_float(out, g) or not is_index(rows):
        return NotImplemented
    width = math.prod(out.shape[1:])
    sizes = rows.size, width, n
    cuda.launcher.flat(
        "rows", f"scatter_add<{c_name(out)}, {c_name(rows)}>", width if n else 0, out, g, rows, *map(np.int64, sizes)
    )
    cuda.raise_beyond("scatter_add", n)
    return None


def _copy_into(cuda: CUDA, out: Any, out_row: int, x: Any, x_row: int, x_step: int, width: int) -> None:
    sizes = map(np.int64, (x_row, x_step, x.size, width))
    cuda.launcher.flat("rows", f"copy<{WORDS[x.itemsize]}>", x.size, out, np.int64(out_row), x, *sizes)


def copy(cuda: CUDA, out: Any, x: Any) -> Any:
    if out.dtype != x.dtype or x.itemsize not in WORDS or not out.flags.c_contiguous:
        return NotImplemented
    layout = layout_of(x.shape, [x])
    if layout is None:
        return _copy_axes(cuda, out, x)
    width, ((row, step),) = layout
    _copy_into(cuda, out, width, x, row, step, width)
    return None


def _copy_axes(cuda: CUDA, out: Any, x: Any) -> Any:
    axes: list[tuple[int, int]] = []  # length, step; those walked with one step are one
    for n, stride in zip(x.shape, x.strides, strict=True):
        step = stride // x.itemsize
        if axes and axes[-1][1] == n * step:
            n *= axes.pop()[0]
        if n != 1:
            axes.append((n, step))
    if len(axes) > 3:
        return NotImplemented
    (_, step0), (n1, step1), (n2, step2) = [(1, 0)] * (3 - len(axes)) + axes
    sizes = map(np.int64, (x.size, n1, n2, step0, step1, step2))
    cuda.launcher.flat("rows", f"copy_axes<{WORDS[x.itemsize]}>", x.size, out, x, *sizes)
    return None


def pack(cuda: CUDA, out: Any, *xs: Any) -> Any:
    if any(_words(out, x) is None for x in xs):
        return NotImplemented
    at = 0
    for x in xs:
        piece = out[at : at + x.size]
        if address(piece) != address(x):  # else it was made there
            _copy_into(cuda, piece, 0, x, 0, 1, max(x.size, 1))
        at += x.size
    return None


def concat(cuda: CUDA, out: Any, *xs: Any, axis: int) -> Any:
    if any(_words(out, x) is None for x in xs):
        return NotImplemented
    whole, at = math.prod(out.shape[axis:]), 0
    flat = out.reshape(-1)
    for x in xs:
        width = math.prod(x.shape[axis:])
        if x.size:
            _copy_into(cuda, flat[at:], whole, x, width, 1, width)
        at += width
    return None


# ---------------------------------------------------------------- places


def argmax(cuda: CUDA, out: Any, x: Any, *, axis: int | None, keepdims: bool = False) -> Any:
    if not (x.flags.c_contiguous and out.flags.c_contiguous) or x.dtype.name not in ("float32", "float64", "int32", "int64"):
        return NotImplemented
    at = None if axis is None else axis % x.ndim
    n, after = (x.size, 1) if at is None else (x.shape[at], math.prod(x.shape[at + 1 :]))
    sizes = map(np.int64, (out.size, n, after))
    cuda.launcher.flat("places", f"argmax<{c_name(x)}>", out.size * WARP, out, x, *sizes)
    return None


def pad(cuda: CUDA, out: Any, x: Any, *, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> Any:
    return _place(cuda, out, x, [(before, 1) for before, _ in widths], value)


def unslice(cuda: CUDA, out: Any, g: Any, *, index: Any, shape: tuple[int, ...]) -> Any:
    along = [slice(*triple).indices(n) for triple, n in zip(index, shape, strict=True)]
    return _place(cuda, out, g, [(start, step) for start, _, step in along], 0.0)


def _place(cuda: CUDA, out: Any, x: Any, along: Sequence[tuple[int, int]], value: float) -> Any:
    """x in `out` at start, start + step, ... of each axis, and `value` around it."""
    word = _words(out, x)
    axes: list[tuple[int, int, int, int]] = []
    for n, count, (start, step) in zip(out.shape, x.shape, along, strict=True):
        if axes and (start, step, n) == (0, 1, count):  # whole: one axis with the one before it
            before_n, before_count, before_start, before_step = axes.pop()
            if before_step == 1:
                axes.append((before_n * n, before_count * n, before_start * n, 1))
                continue
            axes.append((before_n, before_count, before_start, before_step))
        axes.append((n, count, start, step))
    if word is None or len(axes) > 3:
        return NotImplemented
    axes = [(1, 1, 0, 1)] * (3 - len(axes)) + axes
    fill = np.array(value, out.dtype).view({1: np.uint8, 4: np.uint32, 8: np.int64}[out.itemsize])[()]
    placed = [np.int64(number) for _, count, start, step in axes for number in (start, step, count)]
    sizes = np.int64(out.size), np.int64(axes[1][0]), np.int64(axes[2][0])
    cuda.launcher.flat("places", f"place<{word}>", out.size, out, x, fill, *sizes, *placed)
    return None


# ---------------------------------------------------------------- dropout


def dropout(cuda: CUDA, out: Any, x: Any, rate: Any, step: Any, *, seed: int, stream: int) -> Any:
    if not is_float(out, x) or rate.dtype.name != "float64" or step.dtype.name != "int64":
        return NotImplemented
    key = np.uint64(seed & 0xFFFFFFFFFFFFFFFF), np.uint32(stream & 0xFFFFFFFF), np.int64(x.size)
    cuda.launcher.flat("rows", f"dropout<{c_name(out)}>", -(-x.size // 8), out, x, rate, step, *key)
    return None


# ---------------------------------------------------------------- optimizers


def update(cuda: CUDA, *arrays: Any, rule: str, outs: int, vectors: int, **settings: bool) -> Any:
    """outs and `vectors` of the ins are flat vectors, the others scalars in the device's memory; settings are flags."""
    flat, scalars = arrays[: outs + vectors], arrays[outs + vectors :]
    if not is_float(*flat) or any(a.dtype.name not in ("float64", "int64") for a in scalars):
        return NotImplemented
    size = flat[0].size
    flags = [np.bool_(value) for value in settings.values()]
    name = f"{rule}<{c_name(flat[0])}>"
    cuda.launcher.flat("optimizers", name, lanes(flat[0]), *arrays, *flags, np.int64(size))
    return None


def nadam(cuda: CUDA, p1: Any, m1: Any, v1: Any, mu1: Any, *ins: Any, decoupled: bool) -> Any:
    mu, t, beta1, momentum_decay = ins[4], ins[5], ins[7], ins[11]
    if update(cuda, p1, m1, v1, *ins, rule="nadam", outs=3, vectors=4, decoupled=decoupled) is NotImplemented:
        return NotImplemented
    cuda.launcher.launch("optimizers", "nadam_mu<double>", (1,), (1,), mu1, mu, t, beta1, momentum_decay)
    return None


UNARY = ("neg", "abs", "sign", "square", "sqrt", "exp", "log", "erf", "sin", "cos", "clip")
BINARY = ("add", "sub", "mul", "maximum", "minimum", "div", "mod", "pow")
FLOATS_ONLY = ("div", "mod", "pow")
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")

# fmt: off
KERNELS: dict[str, Callable[..., Any]] = {
    **{name: partial(unary, formula=name) for name in UNARY},
    **{name: partial(binary, formula=name) for name in BINARY},
    **{name: partial(compare, formula=name) for name in COMPARE},
    "where": where, "cast": cast, "activation": activation, "activation_vjp": activation_vjp,
    "matmul": matmul, "linear": linear, "linear_keep": linear_keep, "linear_dw": linear_dw, "linear_dz": linear_dz,
    "sum": partial(reduce, join="Sum"), "mean": partial(reduce, join="Sum", mean=True),
    "max": partial(reduce, join="Largest"), "min": partial(reduce, join="Smallest"),
    "gather": gather, "gather_two": gather_two, "slice_rows": slice_rows, "pick": pick, "one_hot": one_hot,
    "scatter_add": scatter_add, "copy": copy, "pack": pack, "concat": concat, "dropout": dropout, "argmax": argmax,
    "pad": pad, "unslice": unslice,
    "sgd":     partial(update, rule="sgd", outs=2, vectors=3),
    "adagrad": partial(update, rule="adagrad", outs=2, vectors=3),
    "rmsprop": partial(update, rule="rmsprop", outs=3, vectors=4),
    "adam":    partial(update, rule="adam", outs=3, vectors=4),
    "lion":    partial(update, rule="lion", outs=2, vectors=3),
    "nadam":   nadam,
}
# fmt: on
