"""As cuda_kernels.py: what takes a row to a warp, or a block. Softmax, layer norm and the nets of single columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .cuda_kernels import COLUMNS_CHUNK, CUDA, MOST_PLACES, c_name, fold_once, is_float, is_index
from .launcher import THREADS, WARP

COLUMN_ACTS = {"cos": "Cosine", "ramp": "Ramp"}


# ---------------------------------------------------------------- softmax


def _by_warps(cuda: CUDA, source: str, name: str, rows: int, *args: Any) -> None:
    warps = min(rows, 4)
    if warps:
        cuda.launcher.launch(source, name, (-(-rows // warps),), (warps * WARP,), *args)


def softmax(cuda: CUDA, out: Any, x: Any, *, logarithm: bool) -> Any:
    if not is_float(out, x) or not x.ndim or not x.size:
        return NotImplemented
    cols = x.shape[-1]
    name = f"softmax<{c_name(out)}, {'true' if logarithm else 'false'}>"
    _by_warps(cuda, "softmax", name, x.size // cols, out, x, np.int64(x.size // cols), np.int32(cols))
    return None


def softmax_cross_entropy(cuda: CUDA, out: Any, z: Any, t: Any, *, smoothing: float) -> Any:
    if not is_float(out, z) or not is_index(t) or z.ndim != 2:
        return NotImplemented
    rows, cols = z.shape
    sizes = np.int64(rows), np.int32(cols), z.dtype.type(smoothing)
    _by_warps(cuda, "softmax", f"cross_entropy<{c_name(z)}, {c_name(t)}>", rows, out, z, t, *sizes)
    cuda.raise_beyond("pick", cols)
    return None


def softmax_cross_entropy_vjp(cuda: CUDA, out: Any, g: Any, z: Any, t: Any, *, smoothing: float) -> Any:
    return _cross_entropy_with_gradient(cuda, "cross_entropy_vjp", (out,), g, z, t, smoothing)


def softmax_cross_entropy_both(cuda: CUDA, value: Any, out: Any, g: Any, z: Any, t: Any, *, smoothing: float) -> Any:
    return _cross_entropy_with_gradient(cuda, "cross_entropy_both", (value, out), g, z, t, smoothing)


def _cross_entropy_with_gradient(cuda: CUDA, name: str, outs: Any, g: Any, z: Any, t: Any, smoothing: float) -> Any:
    if not is_float(*outs, z) or not is_index(t) or z.ndim != 2 or g.dtype != z.dtype:
        return NotImplemented
    rows, cols = z.shape
    step = g.strides[0] // g.itemsize if g.ndim == 1 and g.size > 1 else 0
    sizes = np.int64(rows), np.int32(cols), z.dtype.type(smoothing)
    _by_warps(cuda, "softmax", f"{name}<{c_name(z)}, {c_name(t)}>", rows, *outs, g, np.int32(step), z, t, *sizes)
    cuda.raise_beyond("pick", cols)
    return None


# ---------------------------------------------------------------- layer norm


def layer_norm(cuda: CUDA, out: Any, mean: Any, scale: Any, x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    if not is_float(out, mean, scale, x, gamma, beta) or not gamma.size:
        return NotImplemented
    sizes = np.int64(mean.size), np.int32(gamma.size), x.dtype.type(eps)
    _by_warps(cuda, "normalize", f"layer_norm<{c_name(x)}>", mean.size, out, mean, scale, x, gamma, beta, *sizes)
    return None


def layer_norm_dx(cuda: CUDA, out: Any, g: Any, x: Any, mean: Any, scale: Any, gamma: Any) -> Any:
    if not is_float(out, g, x, mean, scale, gamma) or not gamma.size:
        return NotImplemented
    sizes = np.int64(mean.size), np.int32(gamma.size)
    _by_warps(cuda, "normalize", f"layer_norm_dx<{c_name(x)}>", mean.size, out, g, x, mean, scale, gamma, *sizes)
    return None


def layer_norm_dw(cuda: CUDA, dgamma: Any, dbeta: Any, g: Any, x: Any, mean: Any, scale: Any) -> Any:
    """Onto partial results in the workspace first, where one block would have too much to do."""
    if not is_float(dgamma, dbeta, g, x, mean, scale) or not dgamma.size:
        return NotImplemented
    rows, cols = mean.size, dgamma.size
    chunk = max(COLUMNS_CHUNK, -(-rows // MOST_PLACES))
    chunks = max(-(-rows // chunk), 1)
    if chunks == 1 or 4 * chunks * dgamma.nbytes > cuda.workspace.nbytes:
        chunk, chunks, outs = max(rows, 1), 1, (dgamma, dbeta)
    else:
        outs = cuda.scratch((2, chunks, cols), x.dtype)
    sizes = map(np.int64, (rows, cols, chunk))
    cuda.launcher.launch(
        "normalize", f"layer_norm_dw<{c_name(x)}>", (-(-cols // WARP), chunks), (WARP, 8), *outs, g, x, mean, scale, *sizes
    )
    for out, found in zip((dgamma, dbeta), outs, strict=True):
        if found is not out:
            fold_once(cuda, out, found, "Sum", 1, chunks, cols, chunks, 1.0)
    return None


# ---------------------------------------------------------------- nets of single columns


def _columns(name: str, act: str, x: Any, weight: Any, *others: Any) -> tuple[str, list[Any]] | None:
    """The kernel and its sizes, or None where it does not take them."""
    if act not in COLUMN_ACTS or not is_float(x, weight, *others) or not x.size or not weight.size:
        return None
    return f"{name}<gpunet::{COLUMN_ACTS[act]}, {c_name(x)}>", [np.int64(len(x)), *map(np.int32, weight.shape)]


def column_nets(cuda: CUDA, out: Any, x: Any, slope: Any, start: Any, weight: Any, bias: Any, *, act: str) -> Any:
    kernel = _columns("column_nets", act, x, weight, out, slope, start, bias)
    if kernel is None:
        return NotImplemented
    name, sizes = kernel
    warps = -(-len(x) // WARP) * len(weight)
    _by_warps(cuda, "columns", name, warps, out, x, slope, start, weight, bias, *sizes)
    return None


def column_nets_vjp(
    cuda: CUDA, dslope: Any, dstart: Any, dweight: Any, dbias: Any, g: Any, x: Any, slope: Any, start: Any, weight: Any, *, act: str
) -> Any:
    kernel = _columns("column_nets_vjp", act, x, weight, dslope, dstart, dweight, dbias, g, slope, start)
    if kernel is None:
        return NotImplemented
    name, sizes = kernel
    block = min(-(-len(x) // WARP) * WARP, THREADS)
    cuda.launcher.launch(
        "columns", name, (slope.size,), (block,), dslope, dstart, dweight, dbias, g, x, slope, start, weight, *sizes
    )
    return None


# fmt: off
WARP_KERNELS: dict[str, Callable[..., Any]] = {
    "softmax": partial(softmax, logarithm=False), "log_softmax": partial(softmax, logarithm=True),
    "softmax_cross_entropy": softmax_cross_entropy, "softmax_cross_entropy_vjp": softmax_cross_entropy_vjp,
    "softmax_cross_entropy_both": softmax_cross_entropy_both,
    "layer_norm": layer_norm, "layer_norm_dx": layer_norm_dx, "layer_norm_dw": layer_norm_dw,
    "column_nets": column_nets, "column_nets_vjp": column_nets_vjp,
}
# fmt: on
