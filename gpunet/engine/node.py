"""What the eager tape and a traced graph are made of: nodes, and edges between them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

# Ops and Tensors are made of nodes and stand above them, so here they are Any.


class Spec(NamedTuple):
    """What is known of an array before it has values; the value of a Tensor while a function is traced."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Version:
    """Counts the writes into pinned memory, so that backward can tell that what it kept has changed."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Node:
    """One application of an op, or a leaf (`op` is None): a Tensor that requires a gradient, a state, a constant.

    An input is an edge (node, index of its output), never a value, so the tape frees whatever no vjp asked for;
    `kept` is what the vjp asked for, in the order of its parameters, or None once backward has freed it.
    `given` is what a drawing needs to compute its values again: the arrays of inputs that no node made, as far as
    they are small; larger ones by a weak reference, so that a loss that is kept holds no batch. `maker` is the module
    whose result it is.
    """

    __slots__ = (
        "__weakref__",
        "given",
        "grads",
        "id",
        "inputs",
        "kept",
        "maker",
        "op",
        "retains",
        "settings",
        "specs",
        "stamps",
        "tracked",
    )
    counter = itertools.count()

    def __init__(
        self,
        op: Any = None,
        inputs: tuple[Edge | None, ...] = (),
        settings: dict[str, Any] | None = None,
        specs: tuple[Spec, ...] = (),
        tracked: bool = False,
    ) -> None:
        self.op, self.inputs, self.settings, self.specs, self.tracked = op, inputs, settings or {}, specs, tracked
        self.kept: tuple[Any, ...] | None = ()
        self.stamps: tuple[tuple[Version, int], ...] = ()
        self.given: tuple[Any, ...] = ()
        self.maker: Any = None
        self.grads: dict[int, Any] | None = None
        self.retains = False
        self.id = next(Node.counter)

    def __repr__(self) -> str:
        shapes = " ".join(str(list(s.shape)) for s in self.specs)
        return f"Node({self.op.name if self.op else 'leaf'} {shapes})"


Edge = tuple[Node, int]


class Recorder:
    """Ops that meet a recorder are written down instead of run: this one only to learn the shapes of their results."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def edge(self, t: Any) -> Edge:
        return (t.node, t.index) if t.node is not None else (Node(specs=(t.spec,)), 0)

    def constant(self, value: float | bool, dtype: np.dtype[Any]) -> Node:
        return Node(specs=(Spec((), dtype),), settings={"value": value})

    def assign(self, state: Any, new: Any) -> None:
        """A shape rule changes no state."""

    def guard(self, thing: Any, name: str, value: Any) -> None:
        """`thing.name` was looked at: what is recorded holds for this value only."""

    def watch(self, t: Any) -> None:
        """A step in which t is not finite must change no state."""

    def before_grad(self) -> None:
        """Called as grad begins its walk: a compiler fuses the forward graph here."""


class _Mode(threading.local):
    """What holds for every op of this thread right now."""

    record = True
    trace: Recorder | None = None
    evaluating = False  # whatever module.training says


mode = _Mode()


@contextmanager
def set_mode(**changes: Any) -> Iterator[None]:
    before = {name: getattr(mode, name) for name in changes}
    for name, value in changes.items():
        setattr(mode, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(mode, name, value)


def no_grad() -> Any:
    """Nothing is recorded inside: `with no_grad():` or `@no_grad()`."""
    return set_mode(record=False)
