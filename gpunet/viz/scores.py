"""How good a model is, in pictures: confusion, calibration, residuals, and what each column is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import metrics, rng
from ..data.table import Table
from ..errors import ConfigError, ShapeError
from .style import COLOURS, few_ticks, new_figure, shortened, styled
from .subject import Subject, columns_of, rows_of, sample, subject, table_like

Array = npt.NDArray[Any]
ROWS = 10_000  # for what asks the model many times


def _classifier(model: Any, what: str) -> Subject:
    about = subject(model)
    if about.task != "classification" or about.classes is None:
        raise ConfigError(f"{what}: this model predicts values, not classes. For values there is viz.residuals")
    return about


def _agree(x: Any, y: Any) -> Array:
    answers = np.asarray(y)
    answers = answers[:, 0] if answers.ndim == 2 and answers.shape[1] == 1 else answers
    n = (
        rows_of(x)
        if isinstance(x, Table) or hasattr(x, "__len__") and not isinstance(x, dict)
        else len(next(iter(x.values())))
    )
    if len(answers) != n:
        raise ShapeError(f"{n:,} rows and {len(answers):,} answers do not belong together")
    return answers


def confusion(model: Any, x: Any, y: Any) -> Any:
    """Rows by their true class and the predicted one: counts, and a colour for the share of the true class."""
    about = _classifier(model, "confusion")
    true, predicted = about.codes(_agree(x, y)), about.codes(about.predict(x))
    classes = about.classes or []
    k = len(classes)
    counts = np.bincount(true * k + predicted, minlength=k * k).reshape(k, k)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [shortened(c, 14) for c in classes]
    with styled():
        side = min(max(3.6, 1.6 + 0.52 * k), 8.5)
        figure, ax = new_figure(side + 1.1, side)
        drawn = ax.imshow(share, cmap="cividis", vmin=0, vmax=1)
        if k <= 20:
            for i in range(k):
                for j in range(k):
                    if counts[i, j]:
                        colour = "black" if share[i, j] > 0.5 else "white"
                        ax.text(
                            j,
                            i,
                            f"{counts[i, j]:,}",
                            ha="center",
                            va="center",
                            color=colour,
                            size=8.5 if k <= 10 else 6.5,
                        )
        step = max(1, k // 30)
        ax.set_xticks(
            range(0, k, step),
            labels[::step],
            rotation=0 if max(map(len, labels)) <= 6 else 45,
            ha="center" if max(map(len, labels)) <= 6 else "right",
        )
        ax.set_yticks(range(0, k, step), labels[::step])
        ax.grid(False)
        right = float((true == predicted).mean())
        ax.set(xlabel="predicted class", ylabel="true class", title=f"{right:.1%} of {len(true):,} rows are right")
        figure.colorbar(drawn, ax=ax, label="share of the true class", shrink=0.85, aspect=28)
    return figure


def calibration(model: Any, x: Any, y: Any, *, bins: int = 10) -> Any:
    """How often the predicted class is right, by how sure the model was; on the diagonal it says the truth.

    Below: how many rows each bin has. ECE is the mean distance from the diagonal, by rows (Naeini et al. 2015).
    """
    about = _classifier(model, "calibration")
    p = about.probabilities(x)
    sure, right = p.max(axis=1), p.argmax(axis=1) == about.codes(_agree(x, y))
    place = np.minimum((sure * bins).astype(int), bins - 1)
    n = np.bincount(place, minlength=bins)
    mean, share = (np.bincount(place, w, minlength=bins) / np.maximum(n, 1) for w in (sure, right))
    ece = float((np.abs(mean - share) * n).sum() / n.sum())
    with styled():
        figure, (ax, below) = new_figure(4.8, 5.0, 2, 1, sharex=True, height_ratios=(3, 1))
        ax.plot([0, 1], [0, 1], color="#888888", lw=1, ls="--", label="says the truth")
        seen = n > 0
        spread = 1.96 * np.sqrt(share * (1 - share) / np.maximum(n, 1))
        ax.errorbar(
            mean[seen],
            share[seen],
            yerr=spread[seen],
            color=COLOURS[0],
            marker="o",
            capsize=2,
            lw=1.5,
            label="model, with its 95% interval",
        )
        ax.set(ylabel="share that is right", ylim=(-0.02, 1.02), title=f"ECE {ece:.3f} over {len(sure):,} rows")
        ax.legend(loc="lower right")
        below.bar((np.arange(bins) + 0.5) / bins, n, width=0.9 / bins, color=COLOURS[5])
        below.set(xlabel="probability of the predicted class", ylabel="rows", xlim=(-0.02, 1.02))
    return figure


def residuals(model: Any, x: Any, y: Any) -> Any:
    """Truth against prediction, and how the errors are spread."""
    about = subject(model)
    if about.task == "classification":
        raise ConfigError("residuals: this model predicts classes, not values. For classes there is viz.confusion")
    true, predicted = _agree(x, y).astype(np.float64), about.predict(x).astype(np.float64)
    if true.ndim > 1:
        raise ConfigError(f"residuals: one value a row wanted, got {true.shape[1]}")
    error = true - predicted
    rows = sample(len(true), 5000)
    rmse, r2 = float(np.sqrt(np.mean(error**2))), metrics.r2(true, predicted)
    with styled():
        figure, (left, right) = new_figure(8.6, 3.9, 1, 2)
        left.scatter(predicted[rows], true[rows], s=9, alpha=0.45, color=COLOURS[0], edgecolors="none", rasterized=True)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        left.plot(ends, ends, color=COLOURS[1], lw=1.2, label="truth = prediction")
        shown = f", {len(rows):,} of {len(true):,} rows drawn" if len(rows) < len(true) else f", {len(true):,} rows"
        left.set(xlabel="prediction", ylabel="truth", title=f"R² {r2:.3f}{shown}")
        left.legend(loc="upper left")
        right.hist(error, bins=40, color=COLOURS[0])
        right.axvline(0, color=COLOURS[1], lw=1.2)
        right.set(
            xlabel="truth − prediction", ylabel="rows", title=f"RMSE {_plain(rmse)}, mean error {_plain(error.mean())}"
        )
        for axis in (left.xaxis, left.yaxis, right.xaxis):
            few_ticks(axis)
    return figure


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def importance_of(model: Any, x: Any, y: Any, *, repeats: int = 5, seed: int = 0) -> tuple[list[str], Array, str]:
    """(columns, what the score loses [columns, repeats] when one is shuffled, the score's name); Breiman 2001."""
    about, (table, names) = subject(model), columns_of(x)
    rows = sample(rows_of(table), ROWS, seed)
    answers = _agree(table, y)[rows]
    table = table.take(rows) if isinstance(table, Table) else table[rows]
    score, name = _score(about)
    base = score(table, answers)
    lost = np.empty((len(names), repeats))
    for r in range(repeats):
        order = rng.permutation(len(rows), seed=seed + r, stream=rng.stream("viz.importance"))
        for k in range(len(names)):
            lost[k, r] = base - score(_shuffled(table, k, order), answers)
    return names, lost, name


def importance(model: Any, x: Any, y: Any, *, repeats: int = 5, most: int = 20, seed: int = 0) -> Any:
    """What the score loses when a column's values are shuffled between rows: a bar a column, dots for the repeats."""
    names, lost, name = importance_of(model, x, y, repeats=repeats, seed=seed)
    order = np.argsort(lost.mean(axis=1))[::-1][:most][::-1]
    labels = [shortened(names[k], 28) for k in order]
    with styled():
        figure, ax = new_figure(6.4, 1.1 + 0.27 * len(order))
        ax.barh(range(len(order)), lost[order].mean(axis=1), color=COLOURS[5])
        for i, k in enumerate(order):
            ax.plot(lost[k], np.full(repeats, i), "o", ms=3, color=COLOURS[0])
        ax.set_yticks(range(len(order)), labels)
        ax.axvline(0, color="#555555", lw=0.8)
        rest = f" (the {most} largest of {len(names)})" if len(names) > most else ""
        total = rows_of(columns_of(x)[0])
        rest += f", on {ROWS:,} of {total:,} rows" if total > ROWS else ""
        ax.set(xlabel=f"{name} lost when the column is shuffled", title=f"permutation importance{rest}")
        ax.grid(axis="y", visible=False)
    return figure


def _score(about: Subject) -> tuple[Any, str]:
    def classes(x: Any, y: Array) -> float:
        return float((about.codes(about.predict(_as_given(about, x))) == about.codes(y)).mean())

    def values(x: Any, y: Array) -> float:
        return metrics.r2(y, about.predict(_as_given(about, x)))

    return (classes, "accuracy") if about.task == "classification" else (values, "R²")


def _as_given(about: Subject, x: Any) -> Any:
    return table_like(about.model, x) if isinstance(x, Table) else x


def _shuffled(table: Any, k: int, order: Array) -> Any:
    if isinstance(table, Table):
        columns = list(table.columns)
        columns[k] = columns[k].take(order)
        return Table(tuple(columns))
    moved = table.copy()
    moved[:, k] = table[order, k]
    return moved
