"""Graph -> Plan: every edge gets a place, in memory that is there already or in one arena, by when it is needed."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import numpy as np

from .. import ops
from ..devices import address
from ..engine import Edge, Node, Spec
from .simplify import is_constant
from .trace import Graph

ALIGNMENT, SMALL = 256, 16  # bytes: of what fills registers and cache lines, and of what does not


class Store:
    """A stretch of memory and the calls between which it is needed. One with an `array` is somebody's already."""

    def __init__(self, nbytes: int, array: Any = None) -> None:
        self.nbytes, self.array = nbytes, array
        self.first, self.last = math.inf, -1.0
        self.offset = 0
        self.within: tuple[Store, int] | None = None  # it is part of another, at that byte

    def root(self) -> tuple[Store, int]:
        if self.within is None:
            return self, 0
        root, at = self.within[0].root()
        return root, at + self.within[1]

    @property
    def free(self) -> bool:
        return self.array is None and self.within is None

    def need(self, first: float, last: float) -> None:
        if first < self.first:
            self.first = first
        if last > self.last:
            self.last = last


class Plan:
    """Where everything lies.

    Attributes:
        stores: the place of each edge. leaves: the arrays of arguments, states and constants.
        late: (leaf, edge) for states whose new value must be copied over the old one after the last call.
        arena_bytes: of the one buffer for everything else. bound: the most bytes alive at once, which no plan can beat.
    """

    def __init__(self, graph: Graph, leaves: dict[Node, Any]) -> None:
        self.graph, self.leaves = graph, leaves
        self.stores: dict[Edge, Store] = {}
        self.late: list[tuple[Node, Edge]] = []
        self.when = {node: t for t, node in enumerate(graph.nodes)}
        self._lifetimes()
        self._states_in_place()
        self._pieces_in_place()
        self._elementwise_in_place()
        self.arena_bytes = self._pack()
        self.bound = self._bound()

    @property
    def held(self) -> int:
        """Bytes of the leaves: parameters, optimizer state, data, arguments."""
        return _extent(self.leaves.values())

    def _lifetimes(self) -> None:
        for leaf, array in self.leaves.items():
            self.stores[leaf, 0] = Store(0, array)
        for t, node in enumerate(self.graph.nodes):
            assert node.op is not None
            for i, spec in enumerate(node.specs):
                store = self.stores[node, i] = self._of(node.inputs[0]) if node.op.view else Store(_nbytes(spec))
                store.need(t, t)  # an output that nobody reads is written too
            for edge in node.inputs:
                self._of(edge).need(t, t)
        old = [edge for _, edge in self.graph.stores if self._of(edge).array is not None]  # of another state, say
        for edge in self.graph.outs + old:
            self._of(edge).last = math.inf

    def _of(self, edge: Edge | None) -> Store:
        assert edge is not None
        return self.stores[edge]

    def _states_in_place(self) -> None:
        """A state's new value is written straight over the old one if nobody reads the old one any more."""
        there = self._stores_where()
        watch = max((self.when.get(node, -1) for node, _ in self.graph.watched), default=-1)
        for leaf, (node, i) in self.graph.stores:
            store, old = self.stores[node, i], there[leaf]
            late = (
                not store.free
                or node.op is None
                or node.op.view
                or self.when[node] <= watch
                or self._read_after(node, i, leaf, old)
            )
            if late:
                self.late.append((leaf, (node, i)))
                store.need(store.first, math.inf)
            else:
                store.array = self.leaves[leaf]
                old.append(store)

    def _stores_where(self) -> dict[Node, list[Store]]:
        """For each leaf the stores of all that shares memory with it, as a parameter and its group's vector do."""
        spans = sorted((address(a), a.nbytes, k) for k, a in enumerate(self.leaves.values()))
        leaves, there = list(self.leaves), {}
        run: list[Store] = []
        end = -1
        for start, nbytes, k in spans:
            if start >= end:
                run = []
            run.append(self.stores[leaves[k], 0])
            there[leaves[k]] = run
            end = max(end, start + nbytes)
        return there

    def _read_after(self, node: Node, i: int, leaf: Node, old: list[Store]) -> bool:
        """Whether what is there is read after the node, or by the node itself but for an input that it may overwrite."""
        at = self.when[node]
        if any(store.last > at for store in old):
            return True
        mine = [edge for edge in node.inputs if self._of(edge) in old]
        return not all(edge == (leaf, 0) and in_place(node, i, edge) for edge in mine)

    def _pieces_in_place(self) -> None:
        """What is packed into one vector is made where it belongs; constants among it are written there once."""
        users = self.graph.users()
        for node in self.graph.nodes:
            at = 0
            for edge in node.inputs if node.op is ops.pack else ():
                assert edge is not None
                piece, size, whole = self._of(edge), _nbytes(edge[0].specs[edge[1]]), self.stores[node, 0]
                if is_constant(edge) and users[edge] == 1 and whole.free:
                    self.stores[edge] = Store(size)
                    self.stores[edge].within = whole, at
                    whole.need(0, math.inf)
                elif (
                    piece.free
                    and piece.nbytes == size
                    and piece is not whole
                    and at % np.dtype(np.float64).itemsize == 0
                ):
                    piece.within = whole, at
                    whole.need(piece.first, piece.last)
                at += size

    def _elementwise_in_place(self) -> None:
        """An elementwise result may take the place of an input that ends here."""
        for t, node in enumerate(self.graph.nodes):
            mine = self.stores[node, 0]
            if not mine.free or node.op is None or node.op.view:
                continue
            for edge in dict.fromkeys(node.inputs):
                assert edge is not None
                its = self._of(edge)
                ends_here = its.free and its is not mine and its.last == t and its.nbytes == mine.nbytes
                if not ends_here or _is_view(edge) or not in_place(node, 0, edge):
                    continue
                if not any(e != edge and self._of(e).root()[0] is its for e in node.inputs):  # viewed in another order
                    mine.within, its.last = (its, 0), mine.last
                    break

    def _pack(self) -> int:
        """The largest first, each at the lowest gap that is free as long as it is needed."""
        mine = {id(s): s for s in self.stores.values() if s.free}.values()
        placed: list[Store] = []  # by offset
        peak = 0
        for store in sorted(mine, key=lambda s: (-s.nbytes, s.first)):
            unit = ALIGNMENT if store.nbytes >= ALIGNMENT else SMALL
            at = 0
            for other in placed:
                if other.first > store.last or store.first > other.last:
                    continue
                if at + store.nbytes <= other.offset:
                    break
                at = max(at, _up(other.offset + other.nbytes, unit))
            store.offset, peak = at, max(peak, at + store.nbytes)
            insort(placed, store, key=lambda s: s.offset)
        return peak

    def _bound(self) -> int:
        change = [0] * (len(self.graph.nodes) + 1)  # of the bytes alive, from one call to the next
        for store in {id(s): s for s in self.stores.values() if s.free}.values():
            change[int(store.first)] += store.nbytes
            if store.last < len(self.graph.nodes):
                change[int(store.last) + 1] -= store.nbytes
        return max(accumulate(change))


def in_place(node: Node, i: int, edge: Edge | None) -> bool:
    """Whether the op promises that output i may lie over this input."""
    op = node.op
    assert op is not None and edge is not None
    if node.inputs.count(edge) != 1 and not op.elementwise:
        return False
    if op.inplace:
        return i < len(op.inplace) and node.inputs[op.ins.index(op.inplace[i])] == edge
    return op.elementwise and node.specs[i] == edge[0].specs[edge[1]]


def _is_view(edge: Edge) -> bool:
    return edge[0].op is not None and edge[0].op.view


def _nbytes(spec: Spec) -> int:
    return math.prod(spec.shape) * spec.dtype.itemsize


def _extent(arrays: Iterable[Any]) -> int:
    """Bytes of arrays that may lie in one another, as parameters do in their group's vector."""
    total = end = 0
    for start, nbytes in sorted((address(a), a.nbytes) for a in arrays):
        total += max(0, start + nbytes - max(start, end))
        end = max(end, start + nbytes)
    return total


def _up(at: int, unit: int) -> int:
    return -(-at // unit) * unit


__all__ = ["Plan", "Store", "in_place", "is_constant"]
