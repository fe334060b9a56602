"""A graph with every value and gradient, to print, to draw, and to step through in a page."""

from __future__ import annotations

import html as escape
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Node, Tensor
from ..errors import ConfigError, did_you_mean
from ..graph.compile import Compiled
from ..graph.fuse import fuse
from ..graph.simplify import keep_read
from ..graph.trace import Graph
from ..nn.module import Module
from .files import save_figure, svg_of, write
from .record import Array, Item, Record, of_function, of_tape, record
from .steps import Steps
from .words import Group, brief, product, shape, statistics, tree

STATIC = Path(__file__).parent / "static"
OPEN = 24  # items: a graph of no more is drawn with its layers open


def of_tensor(out: Tensor, namespace: Mapping[str, Any]) -> Picture:
    """What `Tensor.graph()` gives; `namespace` is where names of leaves and results are looked up."""
    graph, values, names = of_tape(out, names_of(namespace))
    return Picture(graph, values, names, expected=out.value)


def graph(fn: Callable[..., Any], *args: Any, **names: Any) -> Picture:
    """The picture of fn(*args): a function, a module, or a compiled function, whose steps are shown too.

    args: Tensors or arrays. Gradients flow to whatever requires one; if nothing does, to all floats.
    names: Tensors or modules to call so in the picture.
    """
    steps = None
    if isinstance(fn, Compiled):
        tensors = [a if isinstance(a, Tensor) else fn._admit(a) for a in args]
        steps, args, fn = Steps.of(fn.program(*tensors)), tuple(tensors), fn.fn
    made, values = of_function(fn, args)
    called = names_of({**_seen_by(fn), **names})
    called.update({leaf: called[id(t.value)] for leaf, t in made.held.items() if id(t.value) in called})
    called.update(zip(made.args, _parameters(fn), strict=False))
    return Picture(made, values, called, steps=steps)


def _seen_by(fn: Callable[..., Any]) -> dict[str, Any]:
    """The variables that a function sees around it."""
    if isinstance(fn, Module):
        return {"net": fn}
    try:
        around = inspect.getclosurevars(fn)
    except (TypeError, ValueError):  # a callable object
        return {}
    return {**around.globals, **around.nonlocals}


def _parameters(fn: Callable[..., Any]) -> list[str]:
    function = fn.forward if isinstance(fn, Module) else fn
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some builtins have none
        return []


def names_of(namespace: Mapping[str, Any]) -> dict[Any, str]:
    """What variables call a node or (by id) an array; parameters of modules have their dotted names."""
    found: dict[Any, str] = {}
    modules = {name: m for name, m in namespace.items() if isinstance(m, Module) and m._initialized}
    for name, module in modules.items():
        for path, t in module.named_parameters():
            if t.node is not None:
                found.setdefault(t.node, path if len(modules) == 1 else f"{name}.{path}")
    for name, t in namespace.items():
        if isinstance(t, (Tensor, np.ndarray)) and not name.startswith("_"):
            found.setdefault(id(t) if isinstance(t, np.ndarray) else id(t.value) if t.node is None else t.node, name)
    return found


class Picture:
    """`print` it, `dot()`, `svg()`, `html()`, or `save("graph.html")`; a notebook shows it by itself.

    Attributes:
        record: every item (`picture["mul"]`, `picture["x"]`) with value, gradient and wires (local, product).
        fused: the same computation after the fuser, as a Picture; None where it changes nothing.
        steps: the compiled program's calls with their memory and times, where a compiled function was drawn.
    """

    def __init__(
        self, graph: Graph, values: Mapping[Node, Array], names: Mapping[Node, str], *, steps: Steps | None = None,
        expected: Array | None = None, fuses: bool = True,
    ) -> None:  # fmt: skip
        self.steps = steps
        self.record: Record = record(graph, values, names, expected)
        self.fused: Picture | None = None
        if fuses:
            before = len(graph.nodes)
            fuse(graph)
            keep_read(graph)
            if len(graph.nodes) != before:
                self.fused = Picture(graph, values, names, fuses=False)

    def __getitem__(self, name: str) -> Item:
        known = [item.name for item in self.record.items]
        try:
            return self.record[name]
        except KeyError:
            raise ConfigError(f'the graph has nothing called "{name}".{did_you_mean(name, known)}') from None

    # ------------------------------------------------------------------ as text

    def __str__(self) -> str:
        return "\n".join(
            ["forward", *self._forward(), "backward: upstream × local = product", *self._backward(), *self.record.notes]
        )

    __repr__ = __str__

    def _forward(self) -> Iterator[str]:
        items = self.record.items
        rows = [(item.name, _formula(item, items), item.role, shape(item), brief(item.value)) for item in items]
        wide = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
        for row in rows:
            yield "  " + "  ".join([*(f"{cell:{w}}" for cell, w in zip(row, wide, strict=False)), row[-1]]).rstrip()

    def _backward(self) -> Iterator[str]:
        items = self.record.items
        for item in reversed(self.record.gates):
            for wire in item.wires:
                if wire.product is not None:
                    told = product(item, wire)
                    yield f"  {item.name} ({item.role or item.op}) to {items[wire.source].name}: {told}"
        for item in items:
            if item.readers > 1 and item.gradient is not None:
                parts = [w.product for g in self.record.gates for w in g.wires if w.source == item.number]
                told = " + ".join(brief(p) for p in parts if p is not None)
                yield f"  {item.name} branches, its gradients add up: {told} = {brief(item.gradient)}"

    # ------------------------------------------------------------------ drawn

    def dot(self) -> str:
        """In Graphviz's language: values and gradients in the nodes, upstream × local = product on the edges."""
        lines = ['digraph { rankdir=LR; node [shape=box, fontname="sans-serif"]; edge [fontname="sans-serif"];']
        items = self.record.items
        for item in items:
            words = [item.name, item.sign and f"{item.sign}  {item.role}", shape(item), brief(item.value)]
            if item.gradient is not None:
                words.append(f"gradient {brief(item.gradient)}{' (sum of branches)' * (item.readers > 1)}")
            label = "\\n".join(filter(None, words)).replace('"', "'")
            lines.append(f'  n{item.number} [label="{label}"{"" if item.op else ", style=rounded"}];')
        for item in items:
            for wire in item.wires:
                told = product(item, wire)
                label = f' [label="{told}"]' if wire.product is not None else ""
                lines.append(f"  n{wire.source} -> n{item.number}{label};")
        return "\n".join([*lines, "}"])

    def figure(self) -> Any:
        """A matplotlib Figure: values above, gradients below; large graphs by layer."""
        from .drawing import figure

        return figure(self)

    def svg(self) -> str:
        return svg_of(self.figure())

    # ------------------------------------------------------------------ as a page

    def html(self, title: str = "Computational graph") -> str:
        """One self-contained page: the graph to fold and step through, forward and back; no server, no network."""
        page = (STATIC / "graph.html").read_text(encoding="utf-8")
        data = json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
        parts = {
            "@TITLE@": escape.escape(title),
            "@STYLE@": (STATIC / "graph.css").read_text(encoding="utf-8"),
            "@LICENSE@": (STATIC / "dagre.LICENSE").read_text(encoding="utf-8").replace("--", "- -"),
            "@LAYOUT@": (STATIC / "dagre.min.js").read_text(encoding="utf-8").partition("//# sourceMappingURL")[0],
            "@SCRIPT@": (STATIC / "graph.js").read_text(encoding="utf-8"),
            "@DATA@": data,
        }
        for mark, content in parts.items():
            page = page.replace(mark, content)
        return page

    def to_dict(self) -> dict[str, Any]:
        """What the page draws: a tree of items, as JSON."""
        return {
            **_drawn(self.record),
            "fused": None if self.fused is None else _drawn(self.fused.record),
            "steps": None if self.steps is None else self.steps.to_dict(),
        }

    def save(self, path: str | os.PathLike[str], title: str = "Computational graph") -> Path:
        """Write it as .html, .svg, .png, .pdf, .dot or .txt."""
        file = Path(path)
        kinds = {".html": lambda: self.html(title), ".dot": self.dot, ".gv": self.dot, ".txt": self.__str__}
        suffix = file.suffix.lower()
        if suffix in kinds:
            return write(file, kinds[suffix]() + "\n")
        if suffix not in (".svg", ".png", ".pdf"):
            raise ConfigError(f'save: "{file.name}": .html, .svg, .png, .pdf, .dot or .txt wanted')
        return save_figure(self.figure(), file)

    def _repr_svg_(self) -> str | None:
        """For viewers of notebooks that run no scripts; None where the packages for stills are not installed."""
        return self.svg() if find_spec("dukpy") and find_spec("matplotlib") else None

    def _repr_html_(self) -> str:
        page = escape.escape(self.html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:620px;border:0" title="Computational graph"></iframe>'


def _formula(item: Item, items: list[Item]) -> str:
    if not item.op:
        return ""
    inside = ", ".join(items[wire.source].name for wire in item.wires)
    return f"{item.op}({inside}{', ' + item.settings if item.settings else ''})"


def _drawn(made: Record) -> dict[str, Any]:
    """Items and groups as lists, for the page. Texts that come often are named once."""
    texts: dict[str, int] = {}
    detailed = len(made.items) <= 2000

    def word(text: str) -> int:
        return texts.setdefault(text, len(texts))

    def stats(a: Array | None) -> Any:
        return [statistics(a), _bars(a)] if detailed and a is not None else None

    items = [
        {
            "name": i.name, "op": i.op, "sign": i.sign, "role": word(i.role), "does": word(i.does), "settings": word(i.settings),
            "shape": word(f"{shape(i)} {i.spec.dtype}"), "value": brief(i.value), "gradient": brief(i.gradient),
            "readers": i.readers, "note": word(i.note), "of_value": stats(i.value), "of_gradient": stats(i.gradient),
            "wires": [[w.source, brief(w.local), brief(w.product)] for w in i.wires],
        }
        for i in made.items
    ]  # fmt: skip
    return {"items": items, "tree": _nested(tree(made)), "texts": list(texts), "notes": made.notes, "open": OPEN}


def _nested(group: Group) -> dict[str, Any]:
    children = [_nested(child) if isinstance(child, Group) else child.number for child in group.children]
    return {"title": group.title, "detail": group.detail, "children": children}


def _bars(a: Array | None, count: int = 24) -> list[int]:
    """A histogram's counts, from the least value to the greatest."""
    if a is None or a.size < 8 or not np.isfinite(a).all() or a.min() == a.max():
        return []
    return [int(n) for n in np.histogram(a, bins=count)[0]]
