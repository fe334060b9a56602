"""What a picture can be of: a run's directory, a training history, a net, a saved model, an estimator of any library."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import rng
from ..data.table import Table
from ..engine import Tensor, set_mode
from ..errors import ConfigError, DataError, FormatError, ShapeError, did_you_mean
from ..nn.module import Module, _watchers
from ..train.forward import Forward

Array = npt.NDArray[Any]


# ---------------------------------------------------------------- histories


def history(of: Any) -> dict[str, list[float]]:
    """The values of each epoch by name: of a run's directory or metrics.csv, a History, a Trainer, an estimator."""
    if isinstance(of, (str, os.PathLike)):
        return _read_metrics(Path(of))
    if isinstance(of, Mapping):
        return {name: list(map(float, values)) for name, values in of.items()}
    for name in ("history", "history_"):
        if isinstance(getattr(of, name, None), Mapping):
            return history(getattr(of, name))
    if hasattr(of, "loss_curve_"):  # scikit-learn's
        found = {"loss": list(map(float, of.loss_curve_))}
        scores = getattr(of, "validation_scores_", None)
        return {**found, "val_score": list(map(float, scores))} if scores else found
    raise ConfigError(
        f"{_kind(of)} has no history. A run's directory, a History, a Trainer or a fitted estimator wanted"
    )


def _read_metrics(path: Path) -> dict[str, list[float]]:
    file = path / "metrics.csv" if path.is_dir() else path
    if not file.is_file():
        raise FormatError(f"{file}: no such file. A run's directory holds metrics.csv")
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{file}: not a CSV file in UTF-8 ({error})") from None
    if not rows or rows[0][:1] != ["epoch"]:
        raise FormatError(f'{file} line 1: "epoch,loss,..." expected, got {",".join(rows[0]) if rows else "nothing"!r}')
    found: dict[str, list[float]] = {name: [] for name in rows[0][1:]}
    if len(found) != len(rows[0]) - 1:
        raise FormatError(f"{file} line 1: a name is given twice: {','.join(rows[0])}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]):
            raise FormatError(f"{file} line {number}: {len(row)} fields, expected {len(rows[0])} (as in line 1)")
        for name, cell in zip(found, row[1:], strict=True):
            try:
                found[name].append(float(cell) if cell else float("nan"))
            except ValueError:
                raise FormatError(f'{file} line {number}: "{cell}" under "{name}" is no number') from None
    return found


def best_epoch(of: Any) -> int:
    """The epoch whose weights were kept, as far as that is known; else 0."""
    if isinstance(of, (str, os.PathLike)):
        file = Path(of) / "summary.json"
        try:
            told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        except ValueError:
            return 0
        best = told.get("best_epoch") if isinstance(told, dict) else None
        return best if isinstance(best, int) else 0
    for holder in (of, getattr(of, "history", None), getattr(of, "history_", None)):
        if isinstance(getattr(holder, "best_epoch", None), int):
            return int(holder.best_epoch)  # type: ignore[union-attr]
    return 0


# ---------------------------------------------------------------- models


@dataclass
class Subject:
    """A model as pictures want it: predict gives classes or values, probabilities are [rows, classes] or None."""

    model: Any
    task: str
    classes: list[Any] | None

    def predict(self, x: Any) -> Array:
        if isinstance(self.model, Module):
            z = outputs(self.model, x)
            return z.argmax(axis=1) if self.task == "classification" else z[:, 0]
        found = np.asarray(self.model.predict(x))
        return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found

    def probabilities(self, x: Any) -> Array:
        """[rows, classes], for a classifier that knows them."""
        if isinstance(self.model, Module):
            z = outputs(self.model, x).astype(np.float64)
            e = np.exp(z - z.max(axis=1, keepdims=True))
            return e / e.sum(axis=1, keepdims=True)
        if not hasattr(self.model, "predict_proba"):
            raise ConfigError(f"{_kind(self.model)} has no predict_proba; this picture is of probabilities")
        return np.asarray(self.model.predict_proba(x))

    def scores(self, x: Any) -> Array | None:
        """Something that is largest for the predicted class [rows, classes], where the model has such."""
        if isinstance(self.model, Module):
            return outputs(self.model, x).astype(np.float64)
        return self.probabilities(x) if hasattr(self.model, "predict_proba") else None

    def codes(self, y: Any) -> npt.NDArray[np.int64]:
        """Answers as places in `classes`."""
        assert self.classes is not None
        place = {str(c): i for i, c in enumerate(self.classes)}
        place.update({str(float(c)): i for i, c in enumerate(self.classes) if isinstance(c, (int, np.integer, float))})
        try:
            return np.array([place[str(v)] for v in np.asarray(y).tolist()], np.int64)
        except KeyError as unknown:
            raise DataError(f"no class {unknown}.{did_you_mean(str(unknown.args[0]), place)}") from None


def subject(of: Any) -> Subject:
    """A net, a Model, a run's directory, a .gpunet file, or whatever has `predict`."""
    if isinstance(of, (str, os.PathLike)):
        from ..train.model import load

        of = load(of)
    if isinstance(getattr(of, "model", None), Module) or (hasattr(of, "model") and not hasattr(of, "predict")):
        of = of.model  # of a Trainer, of a Run
    if isinstance(of, Module):
        width = _width(of)
        return Subject(of, "regression" if width == 1 else "classification", None if width == 1 else list(range(width)))
    if not hasattr(of, "predict"):
        raise ConfigError(f"{_kind(of)} cannot predict. A net, a Model, a run's directory or an estimator wanted")
    classes = getattr(of, "classes_", None)
    if classes is None:
        classes = getattr(of, "classes", None)
    task = getattr(of, "task", None) or ("regression" if classes is None else "classification")
    return Subject(of, task, None if classes is None else list(classes))


def net_of(of: Any) -> Module:
    """The nn.Module inside."""
    if isinstance(of, (str, os.PathLike)):
        from ..train.model import load

        of = load(of)
    for _ in range(3):
        if isinstance(of, Module):
            return of
        of = next(
            (getattr(of, n) for n in ("net", "model", "model_", "net_") if getattr(of, n, None) is not None), None
        )
    raise ConfigError(f"{_kind(of)} holds no net of gpunet. A net, a Model, a run's directory or an estimator wanted")


def _width(net: Module) -> int:
    from ..nn import Linear, NTKLinear

    last = [m for _, m in net.modules() if isinstance(m, (Linear, NTKLinear))]
    return last[-1].outputs if last else 1


def outputs(net: Module, x: Any) -> Array:
    """Raw outputs [rows, outputs], in evaluation mode."""
    z = Forward(net)(_tensor(net, x))
    return z if z.ndim == 2 else z.reshape(len(z), -1)


def behind_pixels(about: Subject, x: Any) -> tuple[Subject, Any]:
    """A model of pixels takes whole numbers, and there are none on a plane: the net inside, and what it gets."""
    model = getattr(about.model, "model_", about.model)
    if not getattr(getattr(model, "encoder", None), "pixels", False):
        return about, x
    return Subject(model.net, about.task, about.classes), model.encode(x)


def encoded(of: Any, x: Any) -> Array:
    """What the net inside gets for these rows."""
    of = subject(of).model
    for holder in (of, getattr(of, "model_", None)):
        if hasattr(holder, "encode"):
            return np.asarray(holder.encode(x))  # type: ignore[union-attr]
    return np.asarray(x, np.float32)


def activations(net: Module, x: Any) -> dict[str, Tensor]:
    """What each layer gives for rows x, by its path, in order; with a graph behind, in evaluation mode."""
    found: dict[str, Tensor] = {}

    def watch(module: Module, _: Tensor, out: Tensor) -> None:
        if not any(module.children()) or type(module).__name__ == "Residual":
            found[module.path or type(module).__name__] = out

    _watchers.append(watch)
    try:
        with set_mode(evaluating=True, record=True):
            net(_tensor(net, x))
    finally:
        _watchers.remove(watch)
    return found


def _tensor(net: Module, x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    array = np.asarray(x)
    if array.ndim != 2:
        raise ShapeError(f"rows [n, columns] wanted, got the shape {array.shape}")
    return Tensor(net.device.upload(array.astype(net.dtype) if array.dtype.kind != "i" else array), net.device)


# ---------------------------------------------------------------- rows


def columns_of(x: Any, names: Sequence[str] | None = None) -> tuple[Any, list[str]]:
    """The rows as a Table or a numeric array, and what their columns are called."""
    if isinstance(x, Table):
        return x, x.names
    if hasattr(x, "columns") or isinstance(x, Mapping):
        table = Table.from_frame(x)
        return table, table.names
    array = np.asarray(x)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.size:
        raise ShapeError(f"rows [n, columns] wanted, got the shape {array.shape}")
    if array.dtype.kind not in "fiub":
        table = Table.from_array(array, names)
        return table, table.names
    return array, list(names) if names is not None else [f"column {i}" for i in range(array.shape[1])]


def rows_of(x: Any) -> int:
    return x.rows if isinstance(x, Table) else len(x)


def take(x: Any, rows: Any) -> Any:
    """Some rows of an array, a Table, a frame or a list."""
    if isinstance(x, Table):
        return x.take(rows)
    if hasattr(x, "iloc"):
        return x.iloc[rows]
    if isinstance(x, Mapping):
        return {name: np.asarray(values)[rows] for name, values in x.items()}
    return x[rows] if hasattr(x, "dtype") or hasattr(x, "columns") else np.asarray(x, object)[rows]


def sample(rows: int, most: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """At most so many of the rows, chosen by the seed, in their order."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(rng.permutation(rows, seed=seed, stream=rng.stream("viz.sample"))[:most])


def table_like(of: Any, table: Table) -> Any:
    """A Table as this model takes it: gpunet's own as it is, another library's as a frame."""
    if type(of).__module__.partition(".")[0] == "gpunet":
        return table
    import pandas

    return pandas.DataFrame({c.name: c.values for c in table.columns})


def _kind(of: Any) -> str:
    return f"a {type(of).__name__}"
