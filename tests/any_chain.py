"""Chains of any steps over any operands, as the compiler hands them to a device, and what is asked of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet import ops
from gpunet.devices import Device, cuda_chains
from gpunet.engine import Spec
from gpunet.graph import chains as passes
from gpunet.graph.chains import Step
from gpunet.ops.rules import BOOL

UNARY = {name: getattr(ops, name) for name in cuda_chains.UNARY}
BINARY = {name: getattr(ops, name) for name in cuda_chains.BINARY}
COMPARE = {name: getattr(ops, name) for name in cuda_chains.COMPARE}


class Chain:
    """Steps over operands of this shape and type, as the compiler hands them to a device. `views`: what is made of each there."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, operands: list[np.ndarray], views: Any = None) -> None:
        self.shape, self.dtype, self.operands = shape, np.dtype(dtype), operands
        self.views = views or [whole] * len(operands)
        self.steps: list[Step] = []
        self.boolean = [a.dtype == BOOL for a in operands]

    def add(self, op: Any, *inputs: int, **settings: Any) -> int:
        boolean = op in COMPARE.values()
        self.steps.append(Step(op, inputs, settings, Spec(self.shape, BOOL if boolean else self.dtype)))
        self.boolean.append(boolean)
        return len(self.boolean) - 1

    def some(self, random: np.random.Generator, *, boolean: bool = False) -> int:
        """The number of a value that there is by now, the latest ones more often."""
        found = [i for i, b in enumerate(self.boolean) if b == boolean]
        return found[-1 - min(int(random.geometric(0.3)) - 1, len(found) - 1)]

    def run(self, device: Device, how: Any, results: list[int]) -> list[np.ndarray]:
        outs = [device.empty(self.shape, BOOL if self.boolean[i] else self.dtype) for i in results]
        ins = [view(device.upload(a)) for view, a in zip(self.views, self.operands, strict=True)]
        assert how(*outs, *ins, steps=tuple(self.steps), results=tuple(results), split=0) is not NotImplemented
        return [device.download(out) for out in outs]

    @property
    def unread(self) -> list[int]:
        return [i for i in range(len(self.boolean)) if not any(i in step.inputs for step in self.steps)]

    def source(self) -> cuda_chains.Source:
        """Of the kernel that keeps what nobody reads."""
        outs = [np.empty(self.shape, BOOL if self.boolean[i] else self.dtype) for i in self.unread]
        ins = [view(a) for view, a in zip(self.views, self.operands, strict=True)]
        made = cuda_chains.written(outs, ins, self.steps, self.unread)
        assert made is not None
        return made

    def check(self, cuda: Any) -> None:
        """All values, and those that nobody reads alone, have the single kernels' bits; each step has NumPy's value of its inputs."""
        made = list(range(len(self.operands), len(self.boolean)))
        before = cuda.xp.counts["launches"] if hasattr(cuda.xp, "counts") else 0
        found = self.run(cuda, cuda.kernels["chain"], made)
        assert not hasattr(cuda.xp, "counts") or cuda.xp.counts["launches"] == before + bool(found[0].size)
        alone = self.run(cuda, lambda *a, **how: passes._run(cuda, *a, **how), made)
        for a, b in zip(found, alone, strict=True):
            assert_same_bits(a, b)
        for i, a in zip(self.unread, self.run(cuda, cuda.kernels["chain"], self.unread), strict=True):
            assert_same_bits(a, found[made.index(i)])
        operands = [view(a) for view, a in zip(self.views, self.operands, strict=True)]
        values = [*(np.broadcast_to(a, self.shape) for a in operands), *found]
        for step, got in zip(self.steps, found, strict=True):
            self.check_step(step, [values[i] for i in step.inputs], got)

    def check_step(self, step: Step, ins: list[np.ndarray], got: np.ndarray) -> None:
        wide = [a.astype(np.float64) if a.dtype != BOOL else a for a in ins]
        want = np.empty(self.shape, BOOL if got.dtype == BOOL else np.float64)
        settings = step.settings | ({"dtype": np.float64} if step.op is ops.cast else {})
        with np.errstate(all="ignore"):
            step.op.runner(Device())(want, *wide, **settings)
            want = want.astype(got.dtype)
        if got.dtype == BOOL:
            np.testing.assert_array_equal(got, want)
        else:
            eps = float(np.finfo(self.dtype).eps)  # activations are as right as their largest term: near 0 not relatively
            np.testing.assert_allclose(got, want, rtol=8 * eps, atol=8 * eps, err_msg=repr(step))


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    """Signs of zeros, too; what NaN carries does not count."""
    np.testing.assert_array_equal(a, b, strict=True)
    known = a == a
    np.testing.assert_array_equal(a[known].tobytes(), b[known].tobytes())


def whole(a: Any) -> Any:
    return a


# fmt: off
OPERANDS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {  # the shape to draw, by that of the outs; what is made of it
    "whole":       (lambda *shape: shape,                            whole),
    "row":         (lambda *shape: shape[-1:],                       whole),
    "column":      (lambda *shape: (*shape[:-1], 1),                 whole),
    "number":      (lambda *shape: (),                               whole),
    "turned":      (lambda *shape: shape[::-1],                      lambda a: a.T),
    "every other": (lambda *shape: (*shape[:-1], 2 * shape[-1]),     lambda a: a[..., ::2]),
    "unaligned":   (lambda *shape: (shape[0] + 1, *shape[1:]),       lambda a: a[1:]),
    "a row of it": (lambda *shape: (3, shape[-1]),                   lambda a: a[1]),
}
# fmt: on
SHAPES = [(1023,), (5, 9), (33, 8), (4, 12), (9, 1), (1, 70), (2, 2), (7, 64)]


def random_chain(seed: int, dtype: Any) -> Chain:
    random = np.random.default_rng(seed)
    shape = SHAPES[seed % len(SHAPES)]

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        return np.array(random.uniform(-2, 2, shape), dtype)

    kinds = [OPERANDS[kind] for kind in ("whole", *random.choice(list(OPERANDS), 4))]
    operands = [draw(drawn(*shape)) for drawn, _ in kinds] + [draw(shape) < 0]
    chain = Chain(shape, dtype, operands, [view for _, view in kinds] + [whole])
    for _ in range(random.integers(4, 16)):
        kind = random.integers(6)
        x, y = chain.some(random), chain.some(random)
        if kind < 2:
            chain.add(BINARY[str(random.choice(list(BINARY)))], x, y)
        elif kind < 4:
            name = str(random.choice(list(UNARY)))
            chain.add(UNARY[name], x, **({"low": -0.5, "high": None} if name == "clip" else {}))
        elif kind == 4:
            chain.add(COMPARE[str(random.choice(list(COMPARE)))], x, y)
        else:
            chain.add(ops.where, chain.some(random, boolean=True), x, y)
    for i in [i for i in chain.unread if i < len(chain.operands)]:
        last = chain.some(random)
        chain.add(ops.where, i, last, 0) if chain.boolean[i] else chain.add(ops.add, last, i)
    return chain


def longest() -> Chain:
    draw = np.random.default_rng(0)
    chain = Chain((300,), np.float32, [draw.uniform(-1, 1, 300).astype(np.float32) for _ in range(passes.MOST_INPUTS)])
    value = 0
    for i in range(passes.MOST_STEPS):
        value = chain.add([ops.mul, ops.maximum][i % 2], value, i % passes.MOST_INPUTS)
    return chain


def layer_norm(dtype: Any) -> Chain:
    """As it follows the mean and the variance, with GELU."""
    draw = np.random.default_rng(0)
    operands = [draw.uniform(0.5, 2, shape).astype(dtype) for shape in ((33, 17), (33, 1), (17,), (17,))]
    chain = Chain((33, 17), dtype, operands)
    scaled = chain.add(ops.add, chain.add(ops.mul, chain.add(ops.div, 0, 1), 2), 3)
    chain.add(ops.activation, scaled, act="gelu", alpha=0.0)
    return chain
