"""A trained model and all it needs to predict: the net, what was done to the columns, the classes; in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import metrics, nn
from ..data.batches import load as load_rows
from ..data.sparse import Csr
from ..data.table import Table
from ..devices import Device
from ..devices import device as open_device
from ..errors import DataError, FormatError
from ..tabular import ArrayEncoder, Encoder, SparseEncoder, Target, encoder_from_config
from . import archive
from .forward import Forward

FORMAT = 1  # of the file; a newer one is refused, every older one loads


class Model:
    """`predict`, `predict_proba` and `evaluate` take what it was trained on: a table with the same column names, or an array.

    Attributes:
        net: the nn.Module. encoder: columns to numbers. target: classes, or the scale of the values.
        info: what is known of the training (data, metrics, settings, versions), as JSON.
    """

    def __init__(
        self, net: nn.Module, encoder: Encoder | ArrayEncoder | SparseEncoder, target: Target, *, info: Mapping[str, Any] | None = None
    ) -> None:
        self.net, self.encoder, self.target, self.info = net.eval(), encoder, target, dict(info or {})
        self._forward = Forward(net)

    @property
    def task(self) -> str:
        return self.target.task

    @property
    def classes(self) -> list[Any] | None:
        """The classes in the order of predict_proba's columns; None for regression."""
        return self.target.classes

    # ------------------------------------------------------------------ predicting

    def outputs(self, data: Table | Csr | npt.ArrayLike) -> npt.NDArray[Any]:
        """The net's raw outputs (logits, standardised values), [rows, outputs]."""
        return self._forward(load_rows(self.encode(data), self.net.device, self.net.dtype))

    def encode(self, data: Table | Csr | npt.ArrayLike) -> Any:
        """What the net gets for these rows."""
        if isinstance(data, Csr) and not isinstance(self.encoder, Encoder):  # a file may lack the last columns
            data = replace(data, width=max(data.width, self.encoder.columns))
        if isinstance(self.encoder, SparseEncoder):
            return self.encoder.transform(data if isinstance(data, Csr) else Csr.read(data))
        data = data.dense() if isinstance(data, Csr) else data
        if isinstance(self.encoder, Encoder):
            return self.encoder.transform(_table(data))
        return self.encoder.transform(_matrix(data) if isinstance(data, Table) else data)

    def predict(self, data: Table | Csr | npt.ArrayLike) -> npt.NDArray[Any]:
        """Classes as they were in the training data, 0 or 1 for each label, or values in their unit; one row each."""
        z = self.outputs(data)
        if self.task == "multilabel":
            return (z > 0).astype(np.int64)
        return self.target.decode(z.argmax(axis=1)) if self.task == "classification" else self.target.decode_values(z)

    def predict_proba(self, data: Table | Csr | npt.ArrayLike) -> npt.NDArray[Any]:
        """Probabilities [rows, classes]; of labels, each for itself."""
        if self.task == "regression":
            raise DataError("predict_proba: this model predicts values, not classes. Use predict")
        z = self.outputs(data).astype(np.float64)
        if self.task == "multilabel":
            return np.exp(-np.logaddexp(0, -z))
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def evaluate(self, data: Table | Csr | npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float]:
        """The loss and the task's usual metrics on rows whose answers are known."""
        if self.task == "multilabel":
            t, z = self.target.encode(y), self.outputs(data).astype(np.float64)
            loss = np.mean(np.logaddexp(0, z) - t * z)
            return {"loss": float(loss), "accuracy": float(np.mean((z > 0) == t)), "exact": float(np.mean(np.all((z > 0) == t, axis=1)))}
        if self.task == "classification":
            codes, p = self.target.encode(y), self.predict_proba(data)
            given = {"labels": p.argmax(axis=1), "probabilities": p}
            found = {"loss": metrics.get("log_loss").function(codes, p)}
        else:
            z, true = self.outputs(data), self.target.encode(y)
            codes, given = self.target.restore(true), {"values": self.target.decode_values(z)}
            found = {"loss": float(np.mean((true - z) ** 2, dtype=np.float64))}
        for name in metrics.default_metrics(self.task):
            metric = metrics.get(name)
            found[name] = float(metric.function(codes, given[metric.needs]))
        return found

    def to(self, device: Device | str | None) -> Model:
        self.net.to(open_device(device))
        return self

    # ------------------------------------------------------------------ the file

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one file: the tensors as safetensors, everything else as JSON in its header; no pickle, no times.

        It is written beside and renamed, so that a file of this name is always whole.
        """
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        about = {
            "format": FORMAT, "net": self.net.config(), "encoder": self.encoder.config(), "target": self.target.config(), "info": self.info,
        }  # fmt: skip
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return archive.write(path, about, tensors)


def load(path: str | os.PathLike[str], *, device: Device | str | None = "cpu") -> Model:
    """The model in a file that `Model.save` wrote; a run's directory means its best.gpunet.

    Raises:
        FormatError: the file is not a gpunet model, cut short, altered, or of a newer format.
    """
    file = Path(path)
    file = file / "best.gpunet" if file.is_dir() else file
    if not file.is_file():
        raise FormatError(f"{file}: no such model file. gpunet-train writes one as RUN/best.gpunet")
    about, tensors = archive.read(file, kind="model", newest=FORMAT)
    if about.get("kind") == "checkpoint":
        raise FormatError(f"{file}: the state of a run, to resume it from; its model is best.gpunet beside it")
    try:
        net = nn.build(about["net"])
        net.load_state_dict({name.removeprefix("net."): value for name, value in tensors.items()})
        encoder, target = encoder_from_config(about["encoder"]), Target.from_config(about["target"])
    except archive.MALFORMED as error:
        raise FormatError(f"{file}: the description inside does not make a model ({error})") from None
    return Model(net, encoder, target, info=about.get("info", {})).to(device)


def _table(data: Any) -> Table:
    if isinstance(data, Table):
        return data
    return Table.from_array(data) if isinstance(data, np.ndarray) else Table.from_frame(data)


def _matrix(table: Table) -> npt.NDArray[Any]:
    """The columns in order, for a model of arrays; whole numbers as such, for they may be pixels."""
    text = [column.name for column in table.columns if column.kind == "text"]
    if text:
        raise DataError(f'the model reads arrays of numbers; column "{text[0]}" holds text')
    matrix = np.stack([column.values for column in table.columns], axis=1)
    whole = np.isfinite(matrix).all() and (matrix == np.floor(matrix)).all() and (np.abs(matrix) < 2**53).all()
    return matrix.astype(np.int64) if whole else matrix
