"""Where boxes go: dagre (MIT), the library that lays out the page too, run by QuickJS from the package dukpy."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError

_RUN = """
var structuredClone = function (x) { return JSON.parse(JSON.stringify(x)); };  // QuickJS has none
var given = dukpy['given'];
var g = new dagre.graphlib.Graph({multigraph: true});
g.setGraph({rankdir: 'LR', nodesep: 14, ranksep: 24, edgesep: 8, marginx: 10, marginy: 10});
given.boxes.forEach(function (b, i) { g.setNode('n' + i, {width: b[0], height: b[1]}); });
given.lines.forEach(function (l, i) {
  g.setEdge('n' + l[0], 'n' + l[1], {width: l[2], height: l[3], labelpos: 'c', minlen: 1}, 'e' + i);
});
dagre.layout(g);
({size: [g.graph().width, g.graph().height],
  boxes: given.boxes.map(function (b, i) { var n = g.node('n' + i); return [n.x, n.y]; }),
  lines: given.lines.map(function (l, i) {
    var e = g.edge('n' + l[0], 'n' + l[1], 'e' + i);
    return {points: e.points.map(function (p) { return [p.x, p.y]; }), x: e.x, y: e.y};
  })});
"""


def layout(boxes: Sequence[tuple[float, float]], lines: Sequence[tuple[int, int, float, float]]) -> dict[str, Any]:
    """Centres of boxes (width, height), and the lines between them (from, to, and the size of what is written there)."""
    try:
        import dukpy
    except ImportError:
        raise ConfigError(
            'a drawn graph needs the package dukpy, which is not installed: pip install "gpunet[plot]". '
            "html(), dot() and print() need nothing"
        ) from None
    code = _dagre() + _RUN
    made: dict[str, Any] = dukpy.evaljs(code, given={"boxes": list(map(list, boxes)), "lines": list(map(list, lines))})
    return made


@functools.cache
def _dagre() -> str:
    return (Path(__file__).parent / "static" / "dagre.min.js").read_text(encoding="utf-8").partition("//# source")[0]
