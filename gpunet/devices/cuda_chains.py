"""Chains on a GPU: the steps that the compiler grouped become the source of one kernel; what goes between stays in registers.

mul(x, 2) and its exp, both wanted, are this, but that the name ends in the text's digest:

    GPUNET_RUN void chain_0123456789ab(float* out0, float* out1, const float* in0, const float* in1, long long size,
                                       const Control* control) {
      typedef float T;
      constexpr int n = kLanes<T>;
      if (stopped(control)) return;
      const float x1 = *in1;
      for (long long k = first_element<T>(); k < size; k += grid_stride<T>()) {
        const Lanes<T> x0 = load(in0, k, size);
        Lanes<T> y0;
        Lanes<T> y1;
    #pragma unroll
        for (int lane = 0; lane < n; ++lane) {
          const T v2 = binary_of<T, Binary::mul>::at(x0.at[lane], x1);
          const T v3 = unary_of<T, Unary::exp>::at(v2, T(), T());
          y0.at[lane] = v2;
          y1.at[lane] = v3;
        }
        store(out0, k, size, y0);
        store(out1, k, size, y1);
      }
    }

Sizes, strides and the numbers in the steps' settings are arguments: one text serves all chains of the same formulas.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .cuda_kernels import BINARY, COMPARE, CUDA, UNARY, c_name, layout_of

CHAINED = frozenset((*UNARY, *BINARY, *COMPARE, "where", "cast", "copy", "activation", "activation_vjp"))
# fmt: off
NUMBERS = {  # settings that become arguments, and what None means
    "clip":           {"low": -math.inf, "high": math.inf},
    "activation":     {"alpha": 0.0},
    "activation_vjp": {"alpha": 0.0},
}
# fmt: on
FRAME = """\
#include "operands.h"

namespace gpunet {

GPUNET_RUN void chain_NAME(%(arguments)s) {
  typedef %(T)s T;
  constexpr int n = kLanes<T>;
  %(before)s
  for (long long k = first_element<T>(); k < size; k += grid_stride<T>()) {
    %(reads)s
#pragma unroll
    for (int lane = 0; lane < n; ++lane) {
      %(steps)s
    }
    %(stores)s
  }
}

}  // namespace gpunet

GPUNET_KERNEL(gpunet::chain_NAME)
"""


def chain(cuda: CUDA, *arrays: Any, steps: Sequence[Any], results: Sequence[int], split: int) -> Any:
    """outs and ins; `results` are the values that go to the outs: first come the ins, then what each step makes."""
    outs = arrays[: len(results)]
    source = written(outs, arrays[len(results) :], steps, results)
    if source is None:
        return NotImplemented
    name, text = source.named()
    cuda.launcher.texts[name] = text
    cuda.launcher.flat(name, name, -(-outs[0].size * source.dtype.itemsize // 16), *source.given)
    return None


def written(outs: Sequence[Any], ins: Sequence[Any], steps: Sequence[Any], results: Sequence[int]) -> Source | None:
    """The kernel for these arrays; None where there can be none."""
    types = {a.dtype for a in (*outs, *ins)} - {np.dtype(np.bool_)}
    layout = layout_of(outs[0].shape, ins)
    if layout is None or len(types) != 1 or not all(out.flags.c_contiguous for out in outs):
        return None
    (dtype,) = types
    if dtype.name not in ("float32", "float64") or not all(step.op.kernel in CHAINED for step in steps):
        return None
    source, (cols, places) = Source(dtype), layout
    for i, out in enumerate(outs):
        source.argument(f"{c_name(out)}* out{i}", out)
    for x, place in zip(ins, places, strict=True):
        source.read(x, *place, cols, outs[0].size)
    source.sizes(cols, outs[0].size)
    for step in steps:
        source.step(step)
    for i, value in enumerate(results):
        source.store(i, value)
    return source


class Source:
    """The parts of a kernel's text, line by line, and what it is to be given."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype, self.T = dtype, c_name(np.empty(0, dtype))
        self.given: list[Any] = []
        self.values: list[tuple[str, bool]] = []  # as an expression for a lane, and whether that is a bool
        self.strided = False  # whether an operand has strides of its own
        self.arguments: list[str] = []
        self.before = ["if (stopped(control)) return;"]
        self.reads: list[str] = []
        self.steps: list[str] = []
        self.kept: list[str] = []
        self.stores: list[str] = []

    def argument(self, declared: str, given: Any) -> None:
        self.arguments.append(declared)
        self.given.append(given)

    def read(self, x: Any, row: int, step: int, cols: int, size: int) -> None:
        """An operand: one number, or element by element as the outs lie, or with strides of its own."""
        i, c = len(self.values), c_name(x)
        self.argument(f"const {c}* in{i}", x)
        if step == 0 and (row == 0 or cols == size):
            self.before.append(f"const {c} x{i} = *in{i};")
            self.values.append((f"x{i}", c == "bool"))
            return
        if step == 1 and (row == cols or cols == size):
            many = f"load(in{i}, k, size)" if c != "bool" else f"Operand<bool>{{in{i}, 0, 1}}.values<n>(0, k, size, size - k)"
        else:
            self.strided = True
            self.argument(f"long long row{i}", np.int64(row))
            self.argument(f"long long step{i}", np.int64(step))
            many = f"Operand<{c}>{{in{i}, row{i}, step{i}}}.values<n>(k / cols, k % cols, cols, size - k)"
        self.reads.append(f"const auto x{i} = {many};")
        self.values.append((f"x{i}.at[lane]", c == "bool"))

    def sizes(self, cols: int, size: int) -> None:
        if self.strided:
            self.argument("long long cols", np.int64(cols))
        self.argument("long long size", np.int64(size))

    def step(self, step: Any) -> None:
        v, kernel = len(self.values), step.op.kernel
        for name, otherwise in NUMBERS.get(kernel, {}).items():
            number = step.settings.get(name)
            self.argument(f"{self.T} {name}{v}", self.dtype.type(otherwise if number is None else number))
        xs = [f"T({x})" if boolean else x for x, boolean in (self.values[i] for i in step.inputs)]
        if kernel in UNARY:
            ends = f"low{v}, high{v}" if kernel == "clip" else "T(), T()"
            made = f"unary_of<T, Unary::{kernel}>::at({xs[0]}, {ends})"
        elif kernel in BINARY:
            made = f"binary_of<T, Binary::{kernel}>::at({xs[0]}, {xs[1]})"
        elif kernel in COMPARE:
            made = f"compare_of<T, Compare::{kernel}>::at({xs[0]}, {xs[1]})"
        elif kernel == "where":
            made = f"{xs[0]} != T(0) ? {xs[1]} : {xs[2]}"
        elif kernel == "activation":
            made = f"act::{step.settings['act']}::value({xs[0]}, alpha{v})"
        elif kernel == "activation_vjp":
            made = f"{xs[0]} * act::{step.settings['act']}::slope({xs[1]}, alpha{v})"
        else:  # cast and copy
            made = xs[0]
        self.steps.append(f"const {'bool' if kernel in COMPARE else 'T'} v{v} = {made};")
        self.values.append((f"v{v}", kernel in COMPARE))

    def store(self, i: int, value: int) -> None:
        of, boolean = self.values[value]
        self.kept.append(f"{'Values<bool, n>' if boolean else 'Lanes<T>'} y{i};")
        self.steps.append(f"y{i}.at[lane] = {of};")
        self.stores.append(f"store(out{i}, k, size, y{i});")

    def named(self) -> tuple[str, str]:
        """The kernel's name and text."""
        text = FRAME % {
            "T": self.T, "arguments": ", ".join([*self.arguments, "const Control* control"]),
            "before": "\n  ".join(self.before), "reads": "\n    ".join([*self.reads, *self.kept]),
            "steps": "\n      ".join(self.steps), "stores": "\n    ".join(self.stores),
        }  # fmt: skip
        name = f"chain_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        return name, text.replace("chain_NAME", name)
