"""Is a gradient right? One random direction, one inner product, and the difference quotient beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import rng
from ..engine import Tensor, grad, set_mode, tensor
from ..errors import DTypeError, GpunetError

Function = Callable[..., Any]
Array = npt.NDArray[Any]

# fmt: off
#                 relative tolerance, step of the difference quotient
PRECISION = {
    np.dtype(np.float64): (1e-6, 1e-5),
    np.dtype(np.float32): (1e-2, 4e-3),  # enough to find a wrong formula, not a wrong digit
}
# fmt: on


class GradientError(GpunetError, AssertionError):
    """A gradient that the difference quotient contradicts."""


def check_grads(
    fn: Function,
    inputs: Sequence[Any],
    *,
    order: int = 2,
    rtol: float | None = None,
    eps: float | None = None,
    rng_seed: int = 0,
) -> None:
    """Raise GradientError if the gradients of fn contradict central differences, up to derivatives of this order.

    Along one random direction v of all inputs, and one random weight u of all outputs, <gradient of <u, fn>, v> must be
    (<u, fn(x + eps v)> - <u, fn(x - eps v)>) / (2 eps) (autograd's test_util). The second order does the same to the
    gradient, as a function of the inputs and of u. Keep the inputs further than a few eps from every kink of fn.

    Args:
        fn: of Tensors, gives a Tensor or several. inputs: Tensors or arrays; integer ones are not differentiated.
        order: 1, or 2 for the gradient of the gradient too.
        rtol, eps: by default 1e-6 and 1e-5 for float64 inputs, 1e-2 and 4e-3 for float32: check in float64 if you can.
    """
    tensors = [x if isinstance(x, Tensor) else tensor(x) for x in inputs]
    dtypes = {t.dtype for t in tensors if t.dtype.kind == "f"}
    if len(dtypes) != 1 or not dtypes <= PRECISION.keys():
        found = ", ".join(str(t.dtype) for t in tensors)
        raise DTypeError(f"check_grads: inputs all float64, or all float32, wanted (and integers); got {found}")
    usual = PRECISION[dtypes.pop()]
    rtol, eps = usual[0] if rtol is None else rtol, usual[1] if eps is None else eps
    of, at = fn, tensors
    with set_mode(record=True):
        for k in range(order):
            if k:
                of, at = _differentiated(of, at, rng_seed + k)
            problem = _problem(of, at, rtol, eps, rng_seed + k)
            if problem is not None:
                raise GradientError(f"{_label(fn, tensors)}, order {k + 1}, {problem}")


def jacobian(output: Tensor | Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """d output / d x, of shape output.shape + x.shape, at the price of one backward pass an element of the output.

    Args:
        output: a Tensor that depends on x (x requires a gradient, or is itself a result), or a function of x.
    """
    if not isinstance(output, Tensor):
        x = _leaf(x)
        output = output(x)
    units = np.eye(output.size, dtype=output.dtype).reshape(output.size, *output.shape)
    rows = [_value(grad(output, x, unit, retain_graph=True), x) for unit in units]
    return tensor(np.array(rows, x.dtype).reshape(output.shape + x.shape), device=x.device)


def _problem(fn: Function, tensors: list[Tensor], rtol: float, eps: float, seed: int) -> str | None:
    """What is wrong, and with which input."""
    directions = [_random(t, seed, f"direction {i}") for i, t in enumerate(tensors)]
    together = _disagreement(fn, tensors, directions, rtol, eps, seed)
    if together is None:
        return None
    for i, v in enumerate(directions):
        alone = [v if j == i else np.zeros_like(w) for j, w in enumerate(directions)]
        found = _disagreement(fn, tensors, alone, rtol, eps, seed)
        if found is not None:
            return f"input {i} ({tensors[i].dtype}{list(tensors[i].shape)}): {found}"
    return f"all inputs together: {together}"


def _disagreement(
    fn: Function, tensors: list[Tensor], directions: list[Array], rtol: float, eps: float, seed: int
) -> str | None:
    """The two numbers where they differ by more than rtol and the rounding of the difference quotient, else None."""
    leaves = [_leaf(t) for t in tensors]
    outs = _outputs(fn, leaves)
    weights = [_random(out, seed, f"weight {i}") for i, out in enumerate(outs)]
    found = _gradients(outs, leaves, weights)
    analytic = sum(float(np.vdot(_value(g, t), v)) for g, t, v in zip(found, leaves, directions, strict=True))

    def terms(step: float) -> npt.NDArray[np.float64]:
        moved = [_moved(t, step * v) for t, v in zip(tensors, directions, strict=True)]
        values = [out.numpy().astype(np.float64) * u for out, u in zip(_outputs(fn, moved), weights, strict=True)]
        return np.concatenate([np.zeros(1), *[v.ravel() for v in values]])

    ahead, behind = terms(eps), terms(-eps)
    numeric = float(np.sum(ahead - behind)) / (2 * eps)
    precision = max(np.finfo(t.dtype).eps for t in tensors if t.dtype.kind == "f")
    rounding = 10 * precision * float(np.sum(np.abs(ahead))) / eps
    larger = max(abs(analytic), abs(numeric))
    if abs(analytic - numeric) <= rtol * larger + rounding:  # false for NaN
        return None
    relative = abs(analytic - numeric) / larger
    return (
        f"the gradient gives {analytic:.10g}, the difference quotient {numeric:.10g}: "
        f"{relative:.2g} apart, {rtol:.2g} allowed"
    )


def _differentiated(fn: Function, tensors: list[Tensor], seed: int) -> tuple[Function, list[Tensor]]:
    """The gradient of fn as a function of its inputs and of the weights of its outputs, with those to call it on."""
    outs = _outputs(fn, tensors)
    drawn = [_random(out, seed, f"weight {i}") for i, out in enumerate(outs)]
    weights = [tensor(u, dtype=out.dtype, device=out.device) for u, out in zip(drawn, outs, strict=True)]

    def gradients(*args: Tensor) -> list[Tensor]:
        ins = args[: len(tensors)]
        found = _gradients(_outputs(fn, ins), ins, args[len(tensors) :], create_graph=True)
        return [g for g in found if g is not None]

    return gradients, tensors + weights


def _gradients(
    outs: Sequence[Tensor], leaves: Sequence[Tensor], weights: Sequence[Any], *, create_graph: bool = False
) -> list[Tensor | None]:
    reached = [(out, u) for out, u in zip(outs, weights, strict=True) if out.tracked]
    floats = [t for t in leaves if t.dtype.kind == "f"]
    if not reached:
        return [None] * len(leaves)
    found = iter(grad([out for out, _ in reached], floats, [u for _, u in reached], create_graph=create_graph))
    return [next(found) if t.dtype.kind == "f" else None for t in leaves]


def _outputs(fn: Function, args: Sequence[Tensor]) -> list[Tensor]:
    made = fn(*args)
    outs = [made] if isinstance(made, Tensor) else list(made)
    return [out for out in outs if out.dtype.kind == "f"]


def _leaf(t: Tensor) -> Tensor:
    leaf = Tensor(t.value, t.device)
    leaf.requires_grad = t.dtype.kind == "f"
    return leaf


def _moved(t: Tensor, by: Array) -> Tensor:
    moved = _leaf(t)
    if t.dtype.kind == "f":
        moved.value = t.device.upload((t.numpy() + by).astype(t.dtype))
    return moved


def _value(g: Tensor | None, like: Tensor) -> Array:
    if g is None:
        return np.zeros(like.shape, like.dtype if like.dtype.kind == "f" else np.float64)
    if g.dtype != like.dtype:
        raise GradientError(f"the gradient of an input of {like.dtype} is {g.dtype}")
    return g.numpy()


def _random(t: Tensor, seed: int, name: str) -> npt.NDArray[np.float64]:
    if t.dtype.kind != "f":
        return np.zeros(t.shape)
    return rng.normal(t.shape, seed=seed, stream=rng.stream(name))


def _label(fn: Any, tensors: list[Tensor]) -> str:
    """What to call fn in an error: its name, or for a lambda the op that made its result."""
    name = getattr(fn, "name", getattr(fn, "__name__", ""))
    if name and name != "<lambda>":
        return name
    node = _outputs(fn, [_leaf(t) for t in tensors])[0].node
    return node.op.name if node is not None and node.op is not None else "function"
