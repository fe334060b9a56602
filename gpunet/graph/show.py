"""A Graph to look at: as lines of text, or in Graphviz's language."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..engine import Edge, Node, Spec

Graph = Any  # trace.Graph, which imports this file


def text(graph: Graph) -> str:
    names = _Names(graph)
    lines = []
    for node in graph.nodes:
        assert node.op is not None
        inside = ", ".join([names.of(e) for e in node.inputs if e is not None] + _settings(node))
        lines.append(f"{names.node(node):5} = {node.op.name}({inside})  {'  '.join(map(_spec, node.specs))}")
    lines += [f"{names.of((leaf, 0))} <- {names.of(edge)}" for leaf, edge in graph.stores]
    return "\n".join([*lines, f"return {', '.join(map(names.of, graph.outs)) or 'nothing'}"])


def dot(graph: Graph) -> str:
    """Boxes are ops, ellipses arguments, cylinders states and other Tensors from outside; a dashed edge is a store."""
    return "\n".join(["digraph {", *(f"  {line};" for line in _statements(graph)), "}"])


def _statements(graph: Graph) -> Iterator[str]:
    names, seen = _Names(graph), set[Node]()

    def shown(node: Node) -> str:
        seen.add(node)
        return f'"{names.node(node)}"'

    for node in graph.nodes:
        assert node.op is not None
        label = "\\n".join([node.op.name, *_settings(node), *map(_spec, node.specs)]).replace('"', "'")
        yield f'{shown(node)} [shape=box, label="{label}"]'
        for source, i in filter(None, node.inputs):
            which = f' [taillabel="{i}"]' if len(source.specs) > 1 else ""
            yield f"{shown(source)} -> {shown(node)}{which}"
    for leaf, (node, _) in graph.stores:
        yield f"{shown(node)} -> {shown(leaf)} [style=dashed]"
    for i, edge in enumerate(graph.outs):
        yield f'"out{i}" [shape=plaintext]'
        yield f'{shown(edge[0])} -> "out{i}"'
    for leaf in sorted((n for n in seen if n.op is None), key=names.node):
        shape = "ellipse" if leaf in graph.args else "plaintext" if "value" in leaf.settings else "cylinder"
        label = names.node(leaf) + (f"\\n{_spec(leaf.specs[0])}" if shape == "ellipse" else "")
        yield f'{shown(leaf)} [shape={shape}, label="{label}"]'


def _settings(node: Node) -> list[str]:
    return [f"{k}={v}" for k, v in node.settings.items()]


class _Names:
    """%3 for the result of a node, arg0 for an argument, s2:float32[4x3] for a Tensor from outside."""

    def __init__(self, graph: Graph) -> None:
        self.names: dict[Node, str] = {node: f"arg{i}" for i, node in enumerate(graph.args)}
        self.results = self.outside = 0

    def node(self, node: Node) -> str:
        if node not in self.names:
            if "value" in node.settings and node.op is None:
                self.names[node] = f"{node.settings['value']:g}"
            elif node.op is None:
                self.names[node] = f"s{self.outside}:{_spec(node.specs[0])}"
                self.outside += 1
            else:
                self.names[node] = f"%{self.results}"
                self.results += 1
        return self.names[node]

    def of(self, edge: Edge) -> str:
        node, i = edge
        return self.node(node) + (f".{i}" if len(node.specs) > 1 else "")


def _spec(spec: Spec) -> str:
    return f"{spec.dtype}[{'x'.join(map(str, spec.shape))}]"
