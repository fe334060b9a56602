"""A function of Tensors as a Graph: it is called once on shapes, and every op it applies is written down."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..devices import Device
from ..engine import Edge, Node, Recorder, Spec, Tensor, set_mode
from ..errors import ShapeError
from . import show

STATES = threading.RLock()  # held while states are not what they seem: traced, or moving into a program's memory
_OF_A_STATE = ("spec", "requires_grad", "device", "version")  # another one of these needs another trace; its values do not


class Graph(Recorder):
    """Nodes in order, what goes in, what comes out, and which state gets which new value at the end.

    It is pure: a state's new value is an edge like any other, and `stores` lists (state's leaf, that edge).

    Attributes:
        nodes: applications of ops, in order. args: leaves for the arguments. outs: edges of the results.
        held: the Tensors from outside that the function read or assigned, by leaf. constants: Python numbers.
        watched: edges that must be finite; where one is not, the step ends and every state stays as it was.
        guards: what else the function looked at (module.training, which Tensors are trained); another value needs another trace.
    """

    def __init__(self, on_grad: Callable[[Graph], Any] | None = None) -> None:
        super().__init__()
        self.args: list[Node] = []
        self.outs: list[Edge] = []
        self.stores: list[tuple[Node, Edge]] = []
        self.held: dict[Node, Tensor] = {}
        self.watched: list[Edge] = []
        self.guards: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.device: Device | None = None
        self._on_grad = on_grad
        self._leaves: dict[int, Node] = {}
        self._constants: dict[tuple[str, np.dtype[Any]], Node] = {}
        self._moved: dict[int, tuple[Tensor, Node, tuple[Any, Node | None, int]]] = {}

    # ------------------------------------------------------------------ while the function runs

    def edge(self, t: Tensor) -> Edge:
        if t.value.__class__ is Spec:
            assert t.node is not None
            return t.node, t.index
        leaf = self._leaves.get(id(t))
        if leaf is None:
            own = t.node is not None and t.node.op is None
            leaf = t.node if own and t.node is not None else Node(specs=(t.spec,))
            self._leaves[id(t)], self.held[leaf], self.device = leaf, t, self.device or t.device
            for name in _OF_A_STATE:
                self.guards[id(t), name] = t, name, getattr(t, name)
        return leaf, 0

    def constant(self, value: float | bool, dtype: np.dtype[Any]) -> Node:
        key = (repr(value), dtype)  # 0.0 == -0.0, which divide differently
        if key not in self._constants:
            self._constants[key] = super().constant(value, dtype)
        return self._constants[key]

    def assign(self, state: Tensor, new: Tensor) -> None:
        if id(state) not in self._moved:
            leaf, _ = self.edge(state)
            self._moved[id(state)] = state, leaf, (state.value, state.node, state.index)
        state.node, state.index = self.edge(new)
        state.value = new.spec

    def guard(self, thing: Any, name: str, value: Any) -> None:
        self.guards.setdefault((id(thing), name), (thing, name, value))

    def watch(self, t: Tensor) -> None:
        self.watched.append(self.edge(t))

    def before_grad(self) -> None:
        if self._on_grad is not None:
            self._on_grad(self)

    def close(self) -> None:
        """Give every state its own value back; what it had come to be is a store."""
        for state, leaf, (value, node, index) in self._moved.values():
            assert state.node is not None
            self.stores.append((leaf, (state.node, state.index)))
            state.value, state.node, state.index = value, node, index
        self._moved.clear()

    # ------------------------------------------------------------------ what the passes ask

    def ends(self) -> list[Edge]:
        """The edges that somebody outside will read."""
        return [*self.outs, *self.watched, *(edge for _, edge in self.stores)]

    def tensor(self, edge: Edge | None) -> Tensor:
        """An edge as what ops take, to trace more."""
        assert edge is not None
        node, i = edge
        return Tensor(node.specs[i], self.device or Device(), node, i)

    def users(self) -> Counter[Edge]:
        """How often each edge is read."""
        return Counter([e for n in self.nodes for e in n.inputs if e is not None] + self.ends())

    def rewire(self, moved: dict[Edge, Edge]) -> None:
        """Replace the edges that have moved, wherever they are read."""
        for node in self.nodes:
            node.inputs = tuple([None if e is None else moved.get(e, e) for e in node.inputs])
        self.rewire_ends(moved)

    def rewire_ends(self, moved: dict[Edge, Edge]) -> None:
        """Where somebody outside will read them."""
        self.outs, self.watched = ([moved.get(e, e) for e in edges] for edges in (self.outs, self.watched))
        self.stores = [(leaf, moved.get(e, e)) for leaf, e in self.stores]

    def guarded(self) -> bool:
        """Whether everything the function looked at is as it was."""
        return all(getattr(thing, name) == value for thing, name, value in self.guards.values())

    def __str__(self) -> str:
        return show.text(self)

    def dot(self) -> str:
        """The graph in Graphviz's language: `dot -Tsvg`."""
        return show.dot(self)


def trace(
    fn: Callable[..., Any], args: Sequence[Tensor] = (), *, on_grad: Callable[[Graph], Any] | None = None
) -> Graph:
    """The Graph of fn(*args) for arguments of these shapes; whatever happens, all states keep their values.

    Raises:
        TraceError: the function asked for a Tensor's value (bool(), float(), numpy(), ...).
    """
    graph = Graph(on_grad)
    graph.args = [Node(specs=(a.spec,)) for a in args]
    graph.device = args[0].device if args else None
    with STATES:
        try:
            with set_mode(trace=graph):
                made = fn(*[Tensor(node.specs[0], a.device, node) for node, a in zip(graph.args, args, strict=True)])
                graph.outs = [graph.edge(t) for t in results(made)]
        finally:
            graph.close()
    return graph


def results(made: Any) -> tuple[Tensor, ...]:
    """What a function returned, as a tuple of Tensors."""
    outs: Iterable[Any] = () if made is None else made if isinstance(made, (tuple, list)) else (made,)
    outs = tuple(outs)
    for t in outs:
        if not isinstance(t, Tensor):
            raise ShapeError(f"a compiled function returns Tensors, got {type(t).__name__}")
    return outs
