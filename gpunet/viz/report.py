"""A run in one page: what was trained on what, how it went, what it is worth, and how to use it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__, nn
from ..data.record import Dataset
from ..data.table import Table
from ..errors import ConfigError, FormatError
from ..tabular import Encoder
from ..train.model import Model, load
from .files import save_figure, svg_of, write
from .learning import curves
from .scores import calibration, confusion, importance, residuals
from .style import needed
from .subject import best_epoch, history, rows_of, sample, take
from .weights import parameters, templates

if TYPE_CHECKING:
    from ..train.recipe import Data, Run

MOST_COLUMNS = 200  # whose importance is asked: each costs three predictions
IMPORTANCE_ROWS = 2000


@dataclass
class Told:
    """What a report knows. `test` are rows as they were read, with their answers, or None."""

    model: Model
    history: Any
    where: str
    test: tuple[Any, Any] | None = None
    scores: Mapping[str, float | None] | None = None  # on the test rows
    seconds: float | None = None
    counts: Mapping[str, int] | None = None  # rows by their use
    environment: Mapping[str, Any] | None = None
    drawn: dict[str, Any] = field(default_factory=dict)

    @property
    def info(self) -> dict[str, Any]:
        return self.model.info


def of_run(run: Run, directory: str | os.PathLike[str]) -> Told:
    """What is to be told at the end of training."""
    from ..devices.environment import env

    return Told(
        run.model, run.history, str(directory), run.data.test, run.test, run.seconds, _counts(run.data),
        environment=env().to_dict(),
    )  # fmt: skip


def _counts(data: Data) -> dict[str, int]:
    counts = {"training": len(data.train[0])}
    counts |= {"validation": len(data.validation[0])} if data.validation is not None else {}
    return counts | ({"test": len(data.test[1])} if data.test is not None else {})


def of_directory(directory: str | os.PathLike[str], dataset: Dataset | None = None) -> Told:
    """What a run's directory tells; with the data it was trained on, its test rows are cut again by the same seed."""
    path = Path(directory)
    model, values = load(path), history(path)
    summary, environment = _json(path / "summary.json"), _json(path / "env.json")
    scores = {k.removeprefix("test."): v for k, v in summary.items() if k.startswith("test.")} or model.info.get("test")
    told = Told(model, path, str(directory), None, scores, summary.get("seconds"), environment=environment or None)
    if not any(values.values()):
        raise FormatError(f"{path / 'metrics.csv'}: no finished epoch")
    if dataset is not None:
        data = _cut_again(model, dataset)
        assert data.test is not None
        told.test, told.counts = data.test, _counts(data)
        told.scores = model.evaluate(*told.test)
    return told


def _cut_again(model: Model, dataset: Dataset) -> Data:
    from ..train.recipe import Recipe, prepare

    known = {k: v for k, v in (model.info.get("recipe") or {}).items() if k in Recipe.__dataclass_fields__}
    known["hidden"] = tuple(known.get("hidden", ()))
    data = prepare(dataset, model.info.get("target") if dataset.y is None else None, Recipe(**known))
    if data.test is None:
        raise ConfigError("the run held out no test rows; its scores cannot be drawn")
    return data


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        raise FormatError(f"{file}: not JSON; the file was altered or cut short") from None
    return found if isinstance(found, dict) else {}


# ---------------------------------------------------------------- pictures


def pictures(told: Told) -> dict[str, Any]:
    """The figures of a report by name; those that need test rows only where there are some. Drawn once."""
    if told.drawn:
        return told.drawn
    made = {"curves": curves(told.history), "parameters": parameters(told.model)}
    columns, image = len(told.model.encoder.output_names), _image_shape(told.model)
    if told.test is not None:
        x, y = told.test
        if told.model.task == "classification":
            made |= {"confusion": confusion(told.model, x, y), "calibration": calibration(told.model, x, y)}
        else:
            made |= {"residuals": residuals(told.model, x, y)}
        if not image and columns <= MOST_COLUMNS:
            rows = sample(rows_of(x), IMPORTANCE_ROWS)
            made |= {"importance": importance(told.model, take(x, rows), np.asarray(y)[rows], repeats=3)}
    if image:
        x = None if told.test is None else told.test[0]
        if x is not None or len(told.info.get("recipe", {}).get("hidden", ())) <= 1:
            made |= {"templates": templates(told.model, x, shape=image, most=6)}
    told.drawn = made
    return made


def _image_shape(model: Model) -> tuple[int, ...] | None:
    """Of pixels: a grey square, or CIFAR-10's."""
    if not getattr(model.encoder, "pixels", False):
        return None
    columns = len(model.encoder.output_names)
    side = math.isqrt(columns)
    return (32, 32, 3) if columns == 3072 else (side, side) if side > 3 and side * side == columns else None


def save_pictures(told: Told, folder: Path, kind: str = "svg") -> list[Path]:
    """Each picture as a file."""
    return [save_figure(figure, folder / f"{name}.{kind}") for name, figure in pictures(told).items()]


# ---------------------------------------------------------------- the page


def html(told: Told) -> str:
    """The report as one self-contained page."""
    jinja2 = needed("jinja2")
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    made.filters["figure"] = _number
    info, model = told.info, told.model
    values = history(told.history)
    net: Any = model.net
    inputs = len(model.encoder.output_names)
    return str(
        made.get_template("report.html").render(
            name=Path(told.where).name,
            info=info,
            where=told.where,
            task=model.task,
            classes=model.classes,
            scores=_scores(told, values),
            counts=told.counts or {},
            seconds=told.seconds,
            epochs=max((len(v) for v in values.values()), default=0),
            best=best_epoch(told.history) or info.get("best_epoch", 0),
            pictures={name: svg_of(figure) for name, figure in pictures(told).items()},
            columns=model.encoder.describe(),
            summary=str(nn.summary(net, (1, inputs))),
            parameters=sum(t.size for t in net.parameters()),
            settings=_settings(info.get("recipe") or {}),
            environment=dict(_flat(told.environment or {})),
            version=__version__,
            table=isinstance(told.test[0], Table) if told.test is not None else isinstance(model.encoder, Encoder),
        )
    )


def save(told: Told, path: str | os.PathLike[str]) -> Path:
    return write(Path(path), html(told))


def _scores(
    told: Told, values: Mapping[str, list[float]]
) -> list[tuple[str, float | None, float | None, float | None]]:
    """(metric, on training, validation and test rows) at the epoch that was kept; None where it was not measured."""
    best = best_epoch(told.history) or told.info.get("best_epoch") or 0
    names = dict.fromkeys([*(k.removeprefix("val_") for k in values), *(told.scores or {})])

    def at(key: str) -> float | None:
        column = values.get(key, [])
        return column[best - 1] if 0 < best <= len(column) else None

    return [(name, at(name), at(f"val_{name}"), (told.scores or {}).get(name)) for name in names]


def _settings(recipe: Mapping[str, Any]) -> dict[str, str]:
    def words(value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return ", ".join(map(str, value)) or "none"
        return "automatic" if value is None else str(value)

    return {name.replace("_", " "): words(value) for name, value in recipe.items()}


def _flat(found: Mapping[str, Any], prefix: str = "") -> Any:
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        elif value not in (None, "", [], {}):
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(value: Any) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
