"""A Picture as a still: matplotlib boxes where dagre puts them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .layout import layout
from .picture import OPEN, Picture
from .record import Item
from .style import GRADIENT, VALUE, needed, new_figure, styled
from .words import Group, brief, product, shape, tree

SIZE = 9.0  # of the text, in points
GREY = "#555555"
MOST = 60  # items without layers that are still drawn one by one


@dataclass
class Box:
    """What is drawn as one: lines of (text, colour, size, bold)."""

    lines: list[tuple[str, str, float, bool]]
    gate: bool
    folded: bool = False
    members: list[Item] = field(default_factory=list)

    @property
    def size(self) -> tuple[float, float]:
        return max(_wide(t, s) for t, _, s, _ in self.lines) + 14, sum(1.35 * s for _, _, s, _ in self.lines) + 9


def figure(picture: Picture) -> Any:
    """Values are blue, gradients red; on each line upstream × local = product."""
    record = picture.record
    if len(record.items) <= OPEN or not any(item.layer for item in record.items) and len(record.items) <= MOST:
        boxes = [_of_item(item) for item in record.items]
    else:
        boxes = [_of_group(c) if isinstance(c, Group) else _of_item(c) for c in tree(record).children]
    whose = {item.number: i for i, box in enumerate(boxes) for item in box.members}
    lines: dict[tuple[int, int, int], str] = {}
    for item in record.items:
        for k, wire in enumerate(item.wires):
            a, b = whose[wire.source], whose[item.number]
            if a != b:
                folded = boxes[a].folded or boxes[b].folded
                lines[a, b, 0 if folded else k] = (
                    "" if wire.product is None or folded else "\n= ".join(product(item, wire).split(" = "))
                )
    told = [
        (a, b, max(_wide(line, SIZE - 1.5) for line in t.split("\n")) + 6 if t else 0, 26 if t else 0)
        for (a, b, _), t in lines.items()
    ]
    placed = layout([box.size for box in boxes], told)
    with styled():
        return _drawn(boxes, list(lines.values()), placed, record.notes)


def _drawn(boxes: list[Box], labels: list[str], placed: dict[str, Any], notes: list[str]) -> Any:
    patches, path = needed("matplotlib.patches"), needed("matplotlib.path").Path
    below = 16.0 * (2 + len(notes))
    width, height = max(placed["size"][0], 460.0), placed["size"][1] + below
    drawn, axes = new_figure(width / 72, height / 72)
    drawn.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for line, label in zip(placed["lines"], labels, strict=True):
        points = line["points"]
        codes = [path.MOVETO] + [path.LINETO] * (len(points) - 1)
        arrow = patches.FancyArrowPatch(
            path=path(points, codes), arrowstyle="-|>", mutation_scale=8, color="#888888", lw=0.9
        )
        axes.add_patch(arrow)
        if label:
            behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
            axes.text(
                line["x"], line["y"], label, color=GRADIENT, size=SIZE - 1.5, ha="center", va="center", bbox=behind
            )
    for box, (x, y) in zip(boxes, placed["boxes"], strict=True):
        w, h = box.size
        rounded = f"round,pad=0,rounding_size={6 if box.gate else 2}"
        look = {
            "facecolor": "#f4f4f0" if box.gate else "white",
            "edgecolor": "#333333",
            "lw": 1.6 if box.folded else 0.9,
        }
        axes.add_patch(patches.FancyBboxPatch((x - w / 2, y - h / 2), w, h, boxstyle=rounded, **look))
        top = y - h / 2 + 5
        for text, colour, size, bold in box.lines:
            weight = "bold" if bold else "normal"
            axes.text(x, top, text, color=colour, size=size, ha="center", va="top", weight=weight)
            top += 1.35 * size
    base = placed["size"][1] + 10
    axes.text(12, base, "value (forward)", color=VALUE, size=SIZE, va="center")
    axes.text(102, base, "gradient (backward): upstream × local = product", color=GRADIENT, size=SIZE, va="center")
    for k, note in enumerate(notes, 1):
        axes.text(12, base + 16 * k, note, color=GREY, size=SIZE - 1, va="center")
    return drawn


def _of_item(item: Item) -> Box:
    lines = [] if item.constant else [(item.sign or item.name, "black", SIZE + 2, True)]
    if item.op:
        lines.append((f"{item.role}  {item.name}".strip(), GREY, SIZE - 1.5, False))
    if item.spec.shape:
        lines.append((shape(item), GREY, SIZE - 1.5, False))
    lines.append((brief(item.value), VALUE, SIZE, False))
    if item.gradient is not None:
        sums = "Σ branches: " if item.readers > 1 else ""
        lines.append((sums + brief(item.gradient), GRADIENT, SIZE, False))
    return Box(lines, bool(item.op), members=[item])


def _of_group(group: Group) -> Box:
    members = list(group.items())
    gates = [item for item in members if item.op]
    lines = [(group.title, "black", SIZE + 1, True)]
    if group.detail:
        lines.append((group.detail if len(group.detail) < 40 else group.detail[:38] + "…", GREY, SIZE - 1, False))
    lines.append((f"{len(members)} node{'s' * (len(members) != 1)}", GREY, SIZE - 1.5, False))
    if gates:
        last = gates[-1]
        lines += [(shape(last), GREY, SIZE - 1.5, False), (brief(last.value), VALUE, SIZE, False)]
        if last.gradient is not None:
            lines.append((brief(last.gradient), GRADIENT, SIZE, False))
    return Box(lines, True, folded=True, members=members)


def _wide(text: str, size: float) -> float:
    """In points, for matplotlib's own font (DejaVu Sans), which a bold title fills a little more."""
    return 0.62 * size * len(text)
