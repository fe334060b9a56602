"""Arrays and graphs in few words: a number as the lecture writes it, a large array by its statistics, a tree to fold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .record import Item, Record, Wire

Array = npt.NDArray[Any]
SHOWN = 6  # values that are written out; of larger arrays the statistics


def number(value: float) -> str:
    """Two decimals, as the lecture has them; more where there would be none left, a power of ten where there are many."""
    if not np.isfinite(value) or value == int(value) and abs(value) < 1e5:
        return f"{value:g}".replace("-", "−")
    size = abs(value)
    text = f"{value:.2f}" if 0.095 <= size < 1e5 else f"{value:.2g}" if 1e-4 <= size < 0.095 else f"{value:.1e}"
    return text.replace("-", "−")


def brief(a: Array | str | None) -> str:
    """A number, a short list, or mean and range."""
    if a is None or isinstance(a, str):
        return a or ""
    if a.size == 1:
        return number(a.item()) if a.dtype.kind != "b" else str(a.item())
    if a.size <= SHOWN and a.ndim == 1:
        return "[" + ", ".join(number(v) for v in a.tolist()) + "]"
    if not a.size:
        return "no values"
    low, high = a.min(), a.max()
    return f"all {number(low)}" if low == high else f"{number(low)} … {number(high)}"


def product(item: Item, wire: Wire) -> str:
    """upstream × local = product, as it stands on a wire."""
    local = brief(wire.local)
    return f"{brief(item.gradient)} × {f'({local})' if local.startswith('−') else local} = {brief(wire.product)}"


def statistics(a: Array | None) -> dict[str, str]:
    """What is to be said about an array of any size."""
    if a is None or not a.size:
        return {}
    if a.size == 1:
        return {"value": repr(a.item())}
    x = a.astype(np.float64)
    found = {"min": x.min(), "mean": x.mean(), "max": x.max(), "standard deviation": x.std(), "zeros": (x == 0).mean()}
    words = {name: number(v) for name, v in found.items() if name != "zeros"}
    bad = int((~np.isfinite(x)).sum())
    return {**words, "zeros": f"{found['zeros']:.0%}", **({"not finite": f"{bad:,}"} if bad else {})}


def shape(item: Item) -> str:
    return "×".join(map(str, item.spec.shape)) or "number"


# ---------------------------------------------------------------- folding


@dataclass
class Group:
    """Items that are drawn as one until they are opened."""

    title: str
    detail: str = ""
    children: list[Group | Item] = field(default_factory=list)

    def items(self) -> Iterator[Item]:
        for child in self.children:
            yield from child.items() if isinstance(child, Group) else (child,)


def tree(record: Record, most: int = 40) -> Group:
    """The items by layer; where one level would show more than `most`, neighbours are folded together."""
    root = Group("")
    by_path: dict[tuple[str, ...], Group] = {(): root}
    first: dict[int, int] = {}  # where a leaf is read first: it stands just before, and folds with its reader
    for item in record.items:
        for wire in item.wires:
            first.setdefault(wire.source, item.number)
    for item in sorted(record.items, key=lambda i: i.number if i.op else first.get(i.number, i.number) - 0.5):
        _place(item.layer, by_path, record).children.append(item)
    for group in list(by_path.values()):
        _fold(group, most)
    return root


def _place(path: tuple[str, ...], by_path: dict[tuple[str, ...], Group], record: Record) -> Group:
    if path not in by_path:
        made = by_path[path] = Group(f"layer {'.'.join(path)}", record.layers.get(path, ""))
        _place(path[:-1], by_path, record).children.append(made)
    return by_path[path]


def _fold(group: Group, most: int) -> None:
    while len(group.children) > most:
        pieces = [group.children[i : i + most] for i in range(0, len(group.children), most)]
        group.children = [_piece(piece) for piece in pieces]


def _piece(children: Sequence[Group | Item]) -> Group:
    made = Group("", "", list(children))
    inside = list(made.items())
    named = [item for item in inside if item.op] or inside
    made.title = f"{named[0].name} … {named[-1].name}"
    return made
