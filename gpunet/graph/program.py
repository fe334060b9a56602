"""A planned Graph that can be run: a list of kernel calls over memory that is all there already."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..devices import Device, address, aligned, aligned_zeros, overlaps
from ..engine import Edge, Node, Tensor
from ..errors import ConfigError, GraphError, RangeError
from .plan import Plan, in_place
from .trace import STATES, Graph


class Call(NamedTuple):
    """One kernel on fixed memory; views cost none."""

    node: Node
    outs: tuple[Any, ...]
    ins: tuple[Any, ...]


Meeting = tuple[int, int, bool]  # an output and an input that may share an element, whether addresses and strides are equal


class Program:
    """The base executor: Python walks the calls. Nothing is allocated while it runs, but by ops without a kernel."""

    def __init__(self, graph: Graph, device: Device) -> None:
        self.graph, self.device = graph, device
        self._runs: list[Callable[[], Any]] = []
        stored = {leaf for leaf, _ in graph.stores}
        leaves = {node: self._leaf(node, node in stored) for node in _leaves(graph)}
        self.plan = Plan(graph, leaves)
        self.arena = device.upload(aligned_zeros(self.plan.arena_bytes))
        self.arrays: dict[Edge, Any] = {(node, 0): array for node, array in leaves.items()}
        self._place_constants()
        self.calls = [call for node in graph.nodes if (call := self._place(node)) is not None]
        watched = {node for node, _ in graph.watched}
        for call in self.calls:
            self._add(call)
            if call.node in watched:
                for out in call.outs:
                    self._watch(out)
        self.outs = self._finish()
        self._states = [(state, leaves[leaf]) for leaf, state in graph.held.items() if leaf in leaves]
        self._versions = [v for leaf, _ in graph.stores if (v := graph.held[leaf].version) is not None]

    def _leaf(self, node: Node, stored: bool) -> Any:
        spec, state = node.specs[0], self.graph.held.get(node)
        if state is not None:
            if stored and state.version is None and state.home is not state.value:
                state.value = state.home = aligned(state.value)  # written in place from now on
            return state.value
        constant = self.device.upload(np.full(spec.shape, node.settings.get("value", 0), spec.dtype))
        return aligned(constant) if spec.shape else constant

    def _place_constants(self) -> None:
        """Those that the plan put between other pieces of one vector."""
        for leaf, array in self.plan.leaves.items():
            if self.plan.stores[leaf, 0].array is None:
                self.arrays[leaf, 0] = self._stretch((leaf, 0))
                self.arrays[leaf, 0][...] = array

    def _stretch(self, edge: Edge) -> Any:
        """The memory that the plan gave an edge, as an array."""
        spec = edge[0].specs[edge[1]]
        root, at = self.plan.stores[edge].root()
        if root.array is not None and not at and root.array.shape == spec.shape:
            return root.array
        if root.array is None:
            memory, at = self.arena, root.offset + at
        else:
            memory = root.array.reshape(-1).view(np.uint8)
        stretch = memory[at : at + math.prod(spec.shape) * spec.dtype.itemsize]
        return stretch.view(spec.dtype).reshape(spec.shape)

    def _place(self, node: Node) -> Call | None:
        """Arrays for a node's outputs, over the memory that the plan gave them."""
        assert node.op is not None
        ins = tuple(self.arrays[e] for e in node.inputs if e is not None)
        if node.op.view:
            made = self.arrays[node, 0] = node.op.forward(self.device, *ins, **node.settings)
            if not made.size or np.may_share_memory(made, ins[0]):
                return None
            copy = Node(ops.copy, node.inputs, {}, tuple(e[0].specs[e[1]] for e in node.inputs if e is not None))
            return Call(copy, (made.reshape(ins[0].shape),), ins)  # a reshape that cannot be a view
        for i in range(len(node.specs)):
            self.arrays[node, i] = self._stretch((node, i))
        outs = tuple(self.arrays[node, i] for i in range(len(node.specs)))
        self._assert_apart(node, outs, ins)
        return Call(node, outs, ins)

    def _assert_apart(self, node: Node, outs: tuple[Any, ...], ins: tuple[Any, ...]) -> None:
        """No call writes over what it reads, unless it promised that it may and addresses and strides are equal."""
        for i, k, same in self._meeting(outs, ins):
            promised = _inside(ins[k], outs[i]) if node.op is ops.pack else same and in_place(node, i, node.inputs[k])
            if not promised and overlaps(ins[k], outs[i]):
                raise GraphError(
                    f"plan: {node} would write over what it reads (output {i}); this is a bug in gpunet, please report it"
                )

    def _meeting(self, outs: tuple[Any, ...], ins: tuple[Any, ...]) -> list[Meeting]:
        return [
            (i, k, address(a) == address(out) and a.strides == out.strides)
            for i, out in enumerate(outs) for k, a in enumerate(ins) if np.may_share_memory(a, out)
        ]

    def _finish(self) -> list[Any]:
        """After the last call: states get the new values that could not be written straight over the old ones.

        Old values that are read after that, as results or by a state that swaps with another, are copied aside before.
        """
        late = self.plan.late
        written = [self.plan.leaves[leaf] for leaf, _ in late]
        outs, new = ([self._aside(edge, written) for edge in edges] for edges in (self.graph.outs, [e for _, e in late]))
        for leaf, value in zip(written, new, strict=True):
            self._copy(leaf, value)
        return outs

    def _aside(self, edge: Edge, written: list[Any]) -> Any:
        array = self.arrays[edge]
        if not any(np.may_share_memory(array, other) for other in written):
            return array
        aside = np.empty_like(array)
        self._copy(aside, array)
        return aside

    def holds(self) -> bool:
        """Whether all that the function looked at as it was traced is as it was; values do not count."""
        return self.graph.guarded()

    def adopt(self) -> None:
        """A state that somebody gave another array meanwhile: its content moves in, for its memory is the program's."""
        with STATES:
            for state, mine in self._states:
                if state.value is not mine:
                    np.copyto(mine, state.value)
                    state.value = mine

    def at_once(self, args: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
        """The results, if these are Tensors or arrays as they were traced and all else is as it was; or None."""
        return None  # Python finds that out no faster than it looks a program up

    def __call__(self, *args: Tensor) -> tuple[Tensor, ...]:
        for node, given in zip(self.graph.args, args, strict=True):
            np.copyto(self.plan.leaves[node], given.value)
        self.run(1)
        return tuple(Tensor(out.copy(), self.device) for out in self.outs)

    def run(self, steps: int) -> int:
        """Run the whole program `steps` times; fewer are done if a watched value was not finite in the next."""
        self.adopt()
        try:
            done = self._execute(steps)
        except BaseException as error:
            self.count(steps)  # as far as anybody knows
            raise as_found(error) from None
        self.count(done)
        return done

    def count(self, steps: int) -> None:
        """So many steps have been done: what they wrote is not what it was."""
        for version in self._versions:
            version.count += steps

    # ------------------------------------------------------------------ what another executor does in its own way

    def _add(self, call: Call) -> None:
        self._runs.append(self._bound(call))

    def _watch(self, value: Any) -> None:
        self._runs.append(partial(finite, value))

    def _copy(self, to: Any, source: Any) -> None:
        self._runs.append(partial(np.copyto, to, source))

    def _execute(self, steps: int) -> int:
        for done in range(steps):
            for run in self._runs:
                if run() is False:  # not finite
                    return done
        return steps

    def _bound(self, call: Call) -> Callable[[], Any]:
        op = call.node.op
        assert op is not None
        return partial(op.runner(self.device), *call.outs, *call.ins, **call.node.settings)

    def layout(self) -> str:
        """Where each call writes and reads: bytes of the arena as offset+length, or of memory that is there already."""
        start = address(self.arena)

        def place(a: Any) -> str:
            at = address(a) - start
            return f"{at}+{a.nbytes}" if 0 <= at < self.arena.nbytes else f"held+{a.nbytes}"

        return "\n".join(
            f"{c.node.op.name if c.node.op else '':24} {', '.join(map(place, c.outs))} <- {', '.join(map(place, c.ins))}"
            for c in self.calls
        )

    def __str__(self) -> str:
        plan = self.plan
        return (
            f"{len(self.calls)} calls, arena {plan.arena_bytes:,} bytes (at least {plan.bound:,} alive at once)\n"
            f"memory {plan.arena_bytes + plan.held:,} bytes with parameters, optimizer state and data "
            f"(at least {plan.bound + plan.held:,})\n{self.graph}"
        )


def as_found(error: BaseException) -> BaseException:
    """What a kernel found in the values of a step, as an error of ours."""
    kinds: dict[type[BaseException], type[Exception]] = {IndexError: RangeError, ValueError: ConfigError}
    return kinds[type(error)](str(error)) if type(error) in kinds else error


def finite(value: Any) -> bool:
    return bool(np.isfinite(value).all())


def _leaves(graph: Graph) -> list[Node]:
    found = dict.fromkeys(graph.args)
    found.update(dict.fromkeys(e[0] for n in graph.nodes for e in n.inputs if e is not None and e[0].op is None))
    found.update(dict.fromkeys(leaf for leaf, _ in graph.stores))
    found.update(dict.fromkeys(e[0] for e in graph.ends() if e[0].op is None))
    return list(found)


def _inside(piece: Any, whole: Any) -> bool:
    start, at = address(whole), address(piece)
    return start <= at and at + piece.nbytes <= start + whole.nbytes
