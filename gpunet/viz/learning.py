"""Loss and metrics over the epochs, of one run or of several."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, did_you_mean
from .style import COLOURS, new_figure, styled
from .subject import best_epoch, history


def curves(*runs: Any, metrics: Sequence[str] | None = None, names: Sequence[str] | None = None) -> Any:
    """A panel for each metric; training thin, validation thick, a dot at the epoch whose weights were kept.

    Args:
        runs: run directories, metrics.csv files, histories, Trainers or estimators. names: what the legend calls them.
        metrics: which ("loss", "accuracy"); by default all.
    """
    if not runs:
        raise ConfigError("curves: at least one run wanted")
    found = [history(run) for run in runs]
    called = list(names) if names is not None else [_name(run, i, len(runs)) for i, run in enumerate(runs)]
    if len(called) != len(runs):
        raise ConfigError(f"curves: {len(called)} names for {len(runs)} runs")
    known = list(dict.fromkeys(key.removeprefix("val_") for one in found for key in one))
    shown = list(metrics) if metrics is not None else known
    for metric in shown:
        if metric not in known:
            raise ConfigError(f'curves: no metric "{metric}" in these runs.{did_you_mean(metric, known)}')
    if not any(values for one in found for values in one.values()):
        raise ConfigError("curves: these runs have no finished epoch")
    columns = min(len(shown), 3)
    rows = math.ceil(len(shown) / columns)
    with styled():
        figure, axes = new_figure(1.2 + 3.6 * columns, 0.4 + 2.9 * rows, rows, columns, squeeze=False)
        for ax, metric in zip(axes.flat, shown, strict=False):
            for i, one in enumerate(found):
                _curve(ax, one, metric, COLOURS[i % len(COLOURS)], best_epoch(runs[i]))
            ax.set(xlabel="epoch", ylabel=metric.replace("_", " "), title=metric.replace("_", " "))
            ax.margins(x=0.02)
            _whole(ax)
        for ax in axes.flat[len(shown) :]:
            ax.set_visible(False)
        figure.legend(handles=_legend(called, found), loc="outside lower center", ncols=4)
    return figure


def _curve(ax: Any, one: dict[str, list[float]], metric: str, colour: str, best: int) -> None:
    for key, width, alpha in ((metric, 1.0, 0.75), (f"val_{metric}", 2.2, 1.0)):
        values = one.get(key, [])
        if not values:
            continue
        marker = "o" if len(values) == 1 else None
        ax.plot(range(1, len(values) + 1), values, color=colour, lw=width, alpha=alpha, marker=marker, ms=3)
        if 0 < best <= len(values) and (key.startswith("val_") or f"val_{metric}" not in one):
            ax.plot([best], [values[best - 1]], "o", color=colour, ms=6, mec="white", zorder=5)


def _whole(ax: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(called: list[str], found: list[dict[str, list[float]]]) -> list[Any]:
    from matplotlib.lines import Line2D

    grey = "#555555"
    handles = [Line2D([], [], color=COLOURS[i % len(COLOURS)], lw=2.2, label=name) for i, name in enumerate(called)]
    handles = handles if len(called) > 1 else []
    handles.append(Line2D([], [], color=grey, lw=1.0, label="training"))
    if any(key.startswith("val_") for one in found for key in one):
        handles.append(Line2D([], [], color=grey, lw=2.2, label="validation"))
    return [*handles, Line2D([], [], color=grey, marker="o", ms=6, lw=0, label="best epoch (kept)")]


def _name(run: Any, i: int, of: int) -> str:
    if isinstance(run, (str, os.PathLike)):
        path = Path(run)
        return path.parent.name if path.name == "metrics.csv" else path.name
    return f"run {i + 1}" if of > 1 else "run"
