"""From a Tensor, or a function, to what can be drawn: its graph, run once more with every value and gradient kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import ReferenceType

import numpy as np
import numpy.typing as npt

from ..devices import Device
from ..engine import Edge, Node, Op, Spec, Tensor, set_mode, tensor, walk
from ..errors import GraphError
from ..graph.trace import Graph, trace
from ..nn.module import Module
from .gates import gate, pointwise

Array = npt.NDArray[Any]


@dataclass
class Wire:
    """An edge into a gate, and what happens on it going back: upstream x local = product."""

    source: int
    local: Array | str | None = None
    product: Array | None = None


@dataclass
class Item:
    """A gate, or a leaf (sign ""): what it computed and what came back to it. `wires` are a gate's inputs, in order."""

    number: int
    name: str
    spec: Spec
    op: str = ""
    sign: str = ""
    role: str = ""
    does: str = ""
    settings: str = ""
    value: Array | None = None
    gradient: Array | None = None
    wires: list[Wire] = field(default_factory=list)
    readers: int = 0  # how many inputs read it: from two on its gradients add up
    layer: tuple[str, ...] = ()
    note: str = ""
    constant: bool = False


@dataclass
class Record:
    """A graph with values: items in the order of the forward pass, leaves first. `layers` names the folded groups."""

    items: list[Item]
    layers: dict[tuple[str, ...], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def gates(self) -> list[Item]:
        return [item for item in self.items if item.op]

    def __getitem__(self, name: str) -> Item:
        """The last item of this name, or else of this op."""
        for item in reversed(self.items):
            if name in (item.name, item.op):
                return item
        raise KeyError(name)


# ---------------------------------------------------------------- where a graph comes from


def of_tape(out: Tensor, names: Mapping[Any, str]) -> tuple[Graph, dict[Node, Array], dict[Node, str]]:
    """The nodes that led to `out`, as a Graph of their own; the values of its leaves; and the names of its nodes.

    names: by node, and of arrays that no node made by id().
    """
    if out.node is None or (out.node.op is None and not out.node.tracked):
        raise GraphError(
            "graph(): nothing was recorded for this Tensor, because no input requires a gradient. "
            "Make one with requires_grad=True, or draw the function: gpunet.viz.graph(f, x)"
        )
    graph, values, moved = Graph(), dict[Node, Array](), dict[Edge, Edge]()
    graph.device = out.device
    constants: dict[int, Edge] = {}
    for node in _ancestors(out.node):
        if node.op is None:
            moved[node, 0] = Node(specs=node.specs, tracked=True), 0
            if node is out.node:
                values[moved[node, 0][0]] = out.value
            continue
        inputs: list[Edge] = []
        for i, edge in enumerate(node.inputs):
            if edge is not None and edge[0].op is not None:
                inputs.append(moved[edge])
                continue
            array = _given(node, i)
            leaf = moved[edge] if edge is not None else constants.setdefault(id(array), (_leaf(array), 0))
            values[leaf[0]] = array
            inputs.append(leaf)
        copy = Node(node.op, tuple(inputs), node.settings, node.specs, node.tracked)
        copy.maker = node.maker
        graph.nodes.append(copy)
        moved.update({(node, k): (copy, k) for k in range(len(node.specs))})
    graph.outs = [moved[out.node, out.index]]
    called = {new: names[old] for (old, _), (new, _) in moved.items() if old in names}
    called.update({node: names[i] for i, (node, _) in constants.items() if i in names})
    return graph, values, called


def _ancestors(node: Node) -> list[Node]:
    """The node and all that it was made of, in the order they were made."""
    found, todo = {node}, [node]
    while todo:
        for edge in todo.pop().inputs:
            if edge is not None and edge[0] not in found:
                found.add(edge[0])
                todo.append(edge[0])
    return sorted(found, key=lambda n: n.id)


def _leaf(array: Array) -> Node:
    """A number is a constant that a pattern of the fuser may know."""
    spec = Spec(tuple(array.shape), array.dtype)
    return Node(specs=(spec,), settings={"value": array.item()} if not spec.shape else {})


def _given(node: Node, i: int) -> Array:
    array: Any = node.given[i]
    if isinstance(array, ReferenceType):
        array = array()
        if array is None:
            assert node.op is not None
            raise GraphError(
                f"graph(): the values that went into {node.op.name} are gone. "
                "Call graph() before backward(), keep the batch in a variable as a Tensor, or draw the function: "
                "gpunet.viz.graph(f, x)"
            )
    return np.asarray(array) if isinstance(array, np.generic) else array


def of_function(fn: Callable[..., Any], args: Sequence[Any]) -> tuple[Graph, dict[Node, Array]]:
    """What fn(*args) does, traced, and the values of its arguments and of what it read from outside."""
    device = fn.device if isinstance(fn, Module) else next((a.device for a in args if isinstance(a, Tensor)), "cpu")
    tensors = [a if isinstance(a, Tensor) else tensor(a, device=device) for a in args]
    if isinstance(fn, Module):
        fn._ready()  # weights are drawn before, not inside
        tensors = [t.cast(dtype=fn.dtype) if t.dtype.kind == "f" and t.dtype != fn.dtype else t for t in tensors]
    graph = trace(fn, tensors)
    values = {node: t.value for node, t in zip(graph.args, tensors, strict=True)}
    values.update({node: t.value for node, t in graph.held.items()})
    return graph, values


# ---------------------------------------------------------------- running it with everything kept


def record(
    graph: Graph, values: Mapping[Node, Array], names: Mapping[Any, str], expected: Array | None = None
) -> Record:
    """Run the graph op by op, forward and back, and keep all of it.

    names: what leaves and results are called, by node. expected: what the first result was when it was computed.
    """
    device = graph.device or tensor(0.0).device
    tensors = _leaves(graph, values, device)
    with set_mode(record=True):
        for node in graph.nodes:
            assert node.op is not None
            made = Op.__call__(node.op, *[tensors[e] for e in node.inputs if e is not None], **node.settings)
            for i, t in enumerate(made if isinstance(made, tuple) else (made,)):
                tensors[node, i] = t
    ends = graph.ends()
    if not ends:
        raise GraphError("graph(): the function computes nothing: it returns no Tensor and changes no state")
    out = tensors[ends[0]]
    notes = []
    if expected is not None and not np.array_equal(device.download(expected), out.numpy(), equal_nan=True):
        notes.append("Parameters have changed since this was computed: the values are those of now.")
    found: dict[Edge, Tensor] = {}
    if out.tracked:
        seed = tensor(np.ones(out.shape, out.dtype), device=device)
        found = walk([out], [seed], create_graph=False, retain_graph=True)
        if out.size > 1:
            notes.append(f"The result has {out.size:,} values: the gradients are those of their sum.")
    else:
        notes.append("No gradient flows: no input requires one.")
    made = _items(graph, tensors, found, names)
    made.notes += notes
    return made


def _leaves(graph: Graph, values: Mapping[Node, Array], device: Device) -> dict[Edge, Tensor]:
    """A Tensor for each leaf; where nobody asks for a gradient, all floats that are no constants get one."""
    leaves = list(dict.fromkeys([*graph.args, *(e[0] for n in graph.nodes for e in n.inputs if e and e[0].op is None)]))
    leaves += [node for node, _ in graph.outs if node.op is None and node not in leaves]
    asked = any(_wants(graph, node) for node in leaves)
    tensors: dict[Edge, Tensor] = {}
    for node in leaves:
        spec = node.specs[0]
        value = values.get(node)
        if value is None:
            value = device.upload(np.full(spec.shape, node.settings.get("value", 0), spec.dtype))
        t = Tensor(value.copy(), device)  # a picture stays as it is when training goes on
        t.requires_grad = spec.dtype.kind == "f" and (
            _wants(graph, node) if asked else "value" not in node.settings or node in graph.args
        )
        tensors[node, 0] = t
    return tensors


def _wants(graph: Graph, node: Node) -> bool:
    held = graph.held.get(node)
    return node.tracked or (held is not None and held.requires_grad)


def _items(graph: Graph, tensors: dict[Edge, Tensor], found: dict[Edge, Tensor], names: Mapping[Any, str]) -> Record:
    layers = _layers(graph)
    leaves = [e for e in tensors if e[0].op is None]
    number: dict[Node, int] = {}
    items: list[Item] = []
    plain = 0  # leaves without a name
    for edge in leaves:
        node, t = edge[0], tensors[edge]
        name = names.get(node, "")
        if not name and "value" in node.settings:
            name = f"{node.settings['value']:g}"
        elif not name:
            plain += 1
            name = f"in{plain}"
        number[node] = len(items)
        gradient = _array(found.get(edge_of(t)))
        items.append(
            Item(len(items), name, spec=t.spec, value=t.numpy(), gradient=gradient, constant="value" in node.settings)
        )
    for count, node in enumerate(graph.nodes, 1):
        item = _gate(node, tensors, found, number)
        item.name = names.get(node) or f"g{count}"
        item.number, item.layer = len(items), layers[0].get(node, ())
        number[node] = item.number
        items.append(item)
    for item in items:
        for wire in item.wires:
            source = items[wire.source]
            source.readers += 1
            if not source.op and (source.gradient is not None or source.constant):  # data stay outside the layers
                source.layer = item.layer if source.readers == 1 else _common(source.layer, item.layer)
    return Record(items, layers[1])


def edge_of(t: Tensor) -> Edge:
    return (t.node, t.index) if t.node is not None else (_NO_NODE, 0)


_NO_NODE = Node()
_LONG = ("steps", "results", "split")  # of a chain
_USUAL = {"act": "identity", "alpha": 0.0}  # settings without a default that say nothing if they are so


def _gate(node: Node, tensors: dict[Edge, Tensor], found: dict[Edge, Tensor], number: dict[Node, int]) -> Item:
    """One op: its value, what came back, and on each input local gradient and product."""
    assert node.op is not None
    look, out = gate(node), tensors[node, 0]
    arrived = [found.get(edge_of(tensors[node, i])) for i in range(len(node.specs))]
    wires = [Wire(number[e[0]]) for e in node.inputs if e is not None]
    tape = out.node
    if tape is not None and tape.op is not None and any(g is not None for g in arrived):
        products = _pulled(tape, arrived, out.device)
        ones = [
            tensor(np.ones(s.shape, s.dtype), device=out.device) if i == 0 else None for i, s in enumerate(tape.specs)
        ]
        locals_ = _pulled(tape, ones, out.device, summed=False) if pointwise(node) else {}
        for i, wire in enumerate(wires):
            if i in products:
                wire.product = products[i]
                wire.local = locals_[i] if i in locals_ else _rule(node, i)
    usual = {**_USUAL, **node.op.defaults}
    settings = ", ".join(f"{k}={v}" for k, v in node.settings.items() if k not in _LONG and v != usual.get(k, ...))
    return Item(
        0, "", node.specs[0], node.op.name, look.sign, look.role, look.does, settings, out.numpy(),
        _array(arrived[0] if arrived[0] is not None else next((g for g in arrived if g is not None), None)),
        wires, note=_jacobian(node, tensors),
    )  # fmt: skip


def _pulled(tape: Node, arrived: Sequence[Tensor | None], device: Device, summed: bool = True) -> dict[int, Array]:
    """What the vjp sends to each input that wants a gradient."""
    assert tape.op is not None
    with set_mode(record=False):
        pulled = tape.op.pull(tape, arrived, device)
        sent = {}
        for i, (edge, g) in enumerate(zip(tape.inputs, pulled, strict=True)):
            if edge is None or g is None or edge[0].specs[edge[1]].dtype.kind != "f":
                continue
            g = g() if callable(g) else g
            shape = edge[0].specs[edge[1]].shape
            sent[i] = (g.sum_to(shape=shape) if summed and g.shape != shape else g).numpy()
    return sent


def _rule(node: Node, i: int) -> str:
    """The local gradient of an op whose Jacobian is not a number for each value."""
    assert node.op is not None
    if node.op.name == "matmul":
        return "Wᵀ" if i == 0 else "xᵀ"
    if node.op.name.startswith("linear"):
        act = "act′ · " if node.settings.get("act", "identity") != "identity" else ""
        return act + ("Wᵀ", "xᵀ", "1")[i]
    return "1 each" if node.op.name == "broadcast_to" else "a Jacobian, never built"


def _jacobian(node: Node, tensors: dict[Edge, Tensor]) -> str:
    """How large the local Jacobian would be (lecture: 4096 x 4096 for a vector of 4096 through max(0, x))."""
    edge = next((e for e in node.inputs if e is not None), None)
    if edge is None or node.op is None:
        return ""
    rows, columns = math.prod(node.specs[0].shape), math.prod(tensors[edge].shape)
    if rows * columns <= 1:
        return ""
    diagonal = ", diagonal" if node.op.elementwise and rows == columns else ""
    return f"Jacobian {rows:,} × {columns:,}{diagonal}, never built"


def _array(t: Tensor | None) -> Array | None:
    return None if t is None else t.numpy()


# ---------------------------------------------------------------- layers


def _layers(graph: Graph) -> tuple[dict[Node, tuple[str, ...]], dict[tuple[str, ...], str]]:
    """The layer that each node belongs to: the module whose result it is, or leads to."""
    layer: dict[Node, tuple[str, ...]] = {}
    titles: dict[tuple[str, ...], str] = {}
    for node in reversed(graph.nodes):
        if node.maker is not None:
            module = node.maker
            layer[node] = tuple(f"{module.path or type(module).__name__}".split("."))
            titles.setdefault(layer[node], _title(module))
            _name_parents(module, titles)
        for edge in node.inputs if node in layer else ():
            if edge is not None and edge[0].op is not None and edge[0].maker is None:
                layer.setdefault(edge[0], layer[node])
    return layer, titles


def _name_parents(module: Module, titles: dict[tuple[str, ...], str]) -> None:
    parent = module.parent
    while parent is not None and parent.path:
        titles.setdefault(tuple(parent.path.split(".")), _title(parent))
        parent = parent.parent


def _title(module: Module) -> str:
    inside = "" if any(module.children()) else repr(module).partition("(")[2].rpartition(")")[0]
    return f"{type(module).__name__}({inside})" if inside else type(module).__name__


def _common(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    return a[:same]
