"""A model in the plane: where it decides what, and what its layers make of the space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.table import Column, Table
from ..errors import ConfigError, DataError, did_you_mean
from .style import COLOURS, few_ticks, look_of, new_figure, shortened, styled
from .subject import (
    Subject,
    activations,
    behind_pixels,
    columns_of,
    encoded,
    net_of,
    rows_of,
    sample,
    subject,
    table_like,
)

Array = npt.NDArray[Any]
POINTS = 2000  # rows that are drawn; more would only hide each other
GRID = 160


@dataclass
class Plane:
    """Two directions through the data: `points` are where the rows lie, `template` a row to copy all else from."""

    labels: tuple[str, str]
    points: Array
    note: str
    template: Any
    origin: Array
    directions: Array
    numeric: list[int]

    def rows(self, uv: Array) -> Any:
        """Rows for the model at points [n, 2] of the plane."""
        values = self.origin + uv @ self.directions
        if not isinstance(self.template, Table):
            return values.astype(np.float32)
        columns = []
        for k, column in enumerate(self.template.columns):
            if k in self.numeric:
                cells = np.ascontiguousarray(values[:, self.numeric.index(k)])
            else:
                cells = np.empty(len(uv), object)
                cells[:] = column.values[0]
            columns.append(Column(column.name, column.kind, cells))
        return Table(tuple(columns))


def boundary(
    model: Any, x: Any, y: Any = None, *, columns: Sequence[Any] | None = None, names: Sequence[str] | None = None,
    title: str = "", ax: Any = None, seed: int = 0,
) -> Any:  # fmt: skip
    """Where a classifier decides what, or a regressor's values, over two columns or two principal components.

    Args:
        model: a net, a Model, a run's directory, or anything with predict.
        x: rows it takes (array, Table, frame). y: their answers, drawn as points.
        columns: two of them, by name or place; all others keep their median (text: its most frequent value). By
            default both, if there are two, and else the two principal components of the numeric ones.
        ax: matplotlib Axes to draw in. Returns the Figure.
    """
    about, x = behind_pixels(subject(model), x)
    table, called = columns_of(x, names)
    rows = sample(rows_of(table), POINTS, seed)
    if len(called) == 1:
        return _line(about, table, y, called[0], rows, title, ax)
    plane = _plane(table, called, columns)
    with styled():
        figure, ax = (ax.figure, ax) if ax is not None else new_figure(5.4 + _legend_inches(about), 4.6)
        points = plane.points[rows]
        low, high = points.min(axis=0), points.max(axis=0)
        pad = 0.08 * np.where(high > low, high - low, 1.0)
        u, v = (np.linspace(low[i] - pad[i], high[i] + pad[i], GRID) for i in (0, 1))
        grid = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
        made = plane.rows(grid)
        _areas(figure, ax, about, u, v, table_like(about.model, made) if isinstance(made, Table) else made)
        if y is not None:
            _points(ax, about, points, np.asarray(y)[rows])
        ax.set(xlabel=plane.labels[0], ylabel=plane.labels[1], title=title, xlim=(u[0], u[-1]), ylim=(v[0], v[-1]))
        ax.grid(False)
        few_ticks(ax.xaxis)
        few_ticks(ax.yaxis)
        said = [plane.note] if plane.note else []
        if len(rows) < rows_of(table):
            said.append(f"{len(rows):,} of {rows_of(table):,} rows are drawn")
        if said:
            ax.annotate("; ".join(said), (0, -0.2), xycoords="axes fraction", size=8, color="#555555", wrap=True)
    return figure


def _plane(table: Any, called: list[str], columns: Sequence[Any] | None) -> Plane:
    text = [c.name for c in table.columns if c.kind == "text"] if isinstance(table, Table) else []
    numeric = [i for i, name in enumerate(called) if name not in text]
    if columns is not None:
        chosen = [_place(c, called) for c in columns]
        if len(chosen) != 2 or chosen[0] == chosen[1]:
            raise ConfigError(f"boundary: two different columns wanted, got {list(columns)}")
        for k in chosen:
            if called[k] in text:
                raise DataError(_no_text(called[k], [called[i] for i in numeric]))
    elif len(numeric) < 2:
        raise DataError(_no_text(text[0], [called[i] for i in numeric]))
    else:
        chosen = numeric if len(called) == 2 else []
    values, template = _numbers(table, numeric)
    middle = np.median(values, axis=0)
    if chosen:
        directions = np.zeros((2, len(numeric)))
        at = [numeric.index(k) for k in chosen]
        directions[[0, 1], at] = 1
        origin = np.where(np.isin(np.arange(len(numeric)), at), 0.0, middle)
        others = len(called) - 2
        note = f"the other {others} columns keep their median or most frequent value" if others > 0 else ""
        return Plane((called[chosen[0]], called[chosen[1]]), values[:, at], note, template, origin, directions, numeric)
    return _components(values, template, numeric, text)


def _components(values: Array, template: Any, numeric: list[int], text: list[str]) -> Plane:
    """Standardised principal components: a step of 1 in a column counts as its standard deviation."""
    mean, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    z = (values - mean) / spread
    rows = sample(len(z), 20_000)
    _, size, axes = np.linalg.svd(z[rows], full_matrices=False)
    share = size**2 / max(float((size**2).sum()), 1e-30)
    labels = tuple(f"principal component {i + 1} ({share[i]:.0%} of the variance)" for i in (0, 1))
    note = (
        f"text columns keep their most frequent value: {', '.join(text[:4])}{', …' * (len(text) > 4)}" if text else ""
    )
    points = z @ axes[:2].T
    return Plane((labels[0], labels[1]), points, note, template, mean, axes[:2] * spread, numeric)


def _numbers(table: Any, numeric: list[int]) -> tuple[Array, Any]:
    """The numeric columns, blanks at their median; and a row to copy all others from."""
    if not isinstance(table, Table):
        return np.asarray(table, np.float64), table[:1]
    found, kept = [], []
    for k, column in enumerate(table.columns):
        if k in numeric:
            values = column.values.copy()
            values[column.missing] = np.median(values[~column.missing]) if not column.missing.all() else 0.0
            found.append(values)
            kept.append(Column(column.name, "numeric", values[:1]))
        else:
            counts = column.cells.counts()
            one = np.empty(1, object)
            one[0] = max(counts, key=counts.__getitem__) if counts else None
            kept.append(Column(column.name, "text", one))
    return np.stack(found, axis=1), Table(tuple(kept))


def _place(column: Any, called: list[str]) -> int:
    if isinstance(column, (int, np.integer)) and -len(called) <= column < len(called):
        return int(column) % len(called)
    if column not in called:
        raise ConfigError(f'no column "{column}".{did_you_mean(str(column), called)}')
    return called.index(column)


def _no_text(name: str, numeric: list[str]) -> str:
    some = ", ".join(numeric[:8]) or "none"
    return f'column "{name}" holds text, which has no place on an axis; two numeric columns wanted. Numeric are: {some}'


def _areas(figure: Any, ax: Any, about: Subject, u: Array, v: Array, rows: Any) -> None:
    shape = (len(v), len(u))
    if about.task != "classification":
        drawn = ax.contourf(u, v, about.predict(rows).reshape(shape), levels=14, cmap="cividis")
        figure.colorbar(drawn, ax=ax, label="prediction")
        return
    assert about.classes is not None
    from matplotlib.colors import ListedColormap

    count = len(about.classes)
    scores = about.scores(rows)
    codes = (about.codes(about.predict(rows)) if scores is None else scores.argmax(axis=1)).reshape(shape)
    colours = [COLOURS[i % len(COLOURS)] for i in range(count)]
    ax.pcolormesh(
        u,
        v,
        codes,
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=count - 0.5,
        alpha=0.24,
        shading="nearest",
        rasterized=True,
    )
    for c in range(count):
        if (codes == c).any() and (codes != c).any():
            lead = (codes == c) - 0.5 if scores is None else scores[:, c] - np.delete(scores, c, axis=1).max(axis=1)
            ax.contour(u, v, lead.reshape(shape), levels=[0], colors="#333333", linewidths=0.8)


def _legend_inches(about: Subject) -> float:
    return 0.08 * max((min(len(str(c)), 20) for c in about.classes or ()), default=0)


def _points(ax: Any, about: Subject, points: Array, y: Array) -> None:
    if about.task != "classification":
        ax.scatter(*points.T, c=y, cmap="cividis", s=14, edgecolors="white", linewidths=0.4)
        return
    assert about.classes is not None
    codes = about.codes(y)
    for c, name in enumerate(about.classes):
        mine = codes == c
        if mine.any():
            ax.scatter(
                *points[mine].T, s=18, edgecolors="#333333", linewidths=0.3, label=shortened(name, 20), **look_of(c)
            )
    if len(about.classes) <= 10:
        ax.legend(title="class", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _line(about: Subject, table: Any, y: Any, name: str, rows: Array, title: str, ax: Any) -> Any:
    """A model with one input: its answer over that input."""
    if isinstance(table, Table) and table.columns[0].kind == "text":
        raise DataError(f'column "{name}" holds text, which has no place on an axis, and there is no other')
    values, template = _numbers(table, [0])
    grid = np.linspace(values.min(), values.max(), 400)[:, None]
    made = Table((Column(name, "numeric", grid[:, 0]),)) if isinstance(template, Table) else grid.astype(np.float32)
    made = table_like(about.model, made) if isinstance(made, Table) else made
    with styled():
        figure, ax = (ax.figure, ax) if ax is not None else new_figure(5.6, 4.0)
        if about.task == "classification":
            assert about.classes is not None
            for c, p in enumerate(about.probabilities(made).T):
                ax.plot(grid[:, 0], p, color=COLOURS[c % len(COLOURS)], label=f"p({about.classes[c]})")
            if y is not None:
                for c, code in enumerate(sorted(set(about.codes(np.asarray(y)[rows]).tolist()))):
                    mine = about.codes(np.asarray(y)[rows]) == code
                    look = {"color": COLOURS[code % len(COLOURS)], "marker": "|"}
                    ax.plot(values[rows][mine, 0], np.full(mine.sum(), -0.04 - 0.03 * c), lw=0, ms=7, **look)
            ax.set(ylabel="probability")
            ax.legend()
        else:
            if y is not None:
                ax.scatter(values[rows, 0], np.asarray(y)[rows], s=12, color="#999999", label="data")
            ax.plot(grid[:, 0], about.predict(made), color=COLOURS[0], lw=2, label="prediction")
            ax.set(ylabel="prediction")
            ax.legend()
        ax.set(xlabel=name, title=title)
    return figure


# ---------------------------------------------------------------- warped space


def warped(
    model: Any, x: Any, y: Any = None, *, layer: str | None = None, units: tuple[int, int] | None = None, seed: int = 0
) -> Any:
    """The space as a layer sees it: rows by two of its units, or by the two principal components of all of them.

    Where the net has two inputs, lines that were straight and square in the data show how the space was bent.

    Args:
        layer: its path, as summary() names it; by default the last one before the outputs.
    """
    net, rows = net_of(model), None
    given = encoded(model, x)
    rows = sample(len(given), POINTS, seed)
    found = {name: t for name, t in activations(net, given[rows]).items() if t.ndim == 2}
    if not found:
        raise ConfigError("warped: the net has no layer that gives rows of numbers")
    usual = list(found)[-2] if len(found) > 1 else list(found)[-1]
    layer = usual if layer is None else layer
    if layer not in found:
        raise ConfigError(f'warped: no layer "{layer}".{did_you_mean(layer, found)}')
    a = found[layer].numpy().astype(np.float64)
    project, labels = _projection(a, layer, units)
    with styled():
        figure, ax = new_figure(5.6 + _legend_inches(subject(model)), 4.6)
        if given.shape[1] == 2:
            _bent_lines(ax, net, given, layer, project)
        points = project(a)
        about = subject(model)
        if y is None:
            ax.scatter(*points.T, s=12, color=COLOURS[0])
        else:
            _points(ax, about, points, np.asarray(y)[rows])
        shown = f", {len(rows):,} of {len(given):,} rows" if len(rows) < len(given) else ""
        ax.set(xlabel=labels[0], ylabel=labels[1], title=f"the space as layer {layer} sees it{shown}")
    return figure


def _projection(a: Array, layer: str, units: tuple[int, int] | None) -> tuple[Any, tuple[str, str]]:
    if units is None and a.shape[1] == 2:
        units = (0, 1)
    if units is not None:
        for unit in units:
            if not 0 <= unit < a.shape[1]:
                raise ConfigError(f"warped: layer {layer} has the units 0 to {a.shape[1] - 1}, got {unit}")
        return lambda b: b[:, list(units)], (f"unit {units[0]} of layer {layer}", f"unit {units[1]} of layer {layer}")
    if a.shape[1] == 1:
        return lambda b: np.concatenate([b, np.zeros_like(b)], axis=1), (f"the one unit of layer {layer}", "")
    mean = a.mean(axis=0)
    _, size, axes = np.linalg.svd(a - mean, full_matrices=False)
    share = size**2 / max(float((size**2).sum()), 1e-30)
    labels = [f"principal component {i + 1} ({share[i]:.0%})" for i in (0, 1)]
    return lambda b: (b - mean) @ axes[:2].T, (labels[0], labels[1])


def _bent_lines(ax: Any, net: Any, x: Array, layer: str, project: Any) -> None:
    low, high = x.min(axis=0), x.max(axis=0)
    along = np.linspace(0, 1, 80)
    for axis in (0, 1):
        for where in np.linspace(0, 1, 13):
            line = np.empty((len(along), 2), np.float32)
            line[:, axis], line[:, 1 - axis] = (
                low[axis] + along * (high - low)[axis],
                low[1 - axis] + where * (high - low)[1 - axis],
            )
            ax.plot(*project(activations(net, line)[layer].numpy()).T, color="#bbbbbb", lw=0.6, zorder=1)
