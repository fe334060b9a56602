"""A trained model and all it needs to predict: the net, what was done to the columns, the classes; in one file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
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
from .forward import Forward

FORMAT = 1  # of the file; a newer one is refused, every older one loads
_KEY = "gpunet"
# what a description that nobody wrote on purpose can end in
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError, MemoryError)


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

    def outputs(self, data: Table | npt.ArrayLike) -> npt.NDArray[Any]:
        """The net's raw outputs (logits, standardised values), [rows, outputs]."""
        return self._forward(load_rows(self.encode(data), self.net.device, self.net.dtype))

    def encode(self, data: Table | npt.ArrayLike) -> Any:
        """What the net gets for these rows."""
        if isinstance(self.encoder, Encoder):
            return self.encoder.transform(_table(data))
        if isinstance(self.encoder, SparseEncoder):
            return self.encoder.transform(data if isinstance(data, Csr) else Csr.read(data))
        return self.encoder.transform(_matrix(data) if isinstance(data, Table) else data)

    def predict(self, data: Table | npt.ArrayLike) -> npt.NDArray[Any]:
        """Classes as they were in the training data, 0 or 1 for each label, or values in their unit; one row each."""
        z = self.outputs(data)
        if self.task == "multilabel":
            return (z > 0).astype(np.int64)
        return self.target.decode(z.argmax(axis=1)) if self.task == "classification" else self.target.decode_values(z)

    def predict_proba(self, data: Table | npt.ArrayLike) -> npt.NDArray[Any]:
        """Probabilities [rows, classes]; of labels, each for itself."""
        if self.task == "regression":
            raise DataError("predict_proba: this model predicts values, not classes. Use predict")
        z = self.outputs(data).astype(np.float64)
        if self.task == "multilabel":
            return np.exp(-np.logaddexp(0, -z))
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def evaluate(self, data: Table | npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float]:
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
        from safetensors.numpy import save

        tensors = {f"net.{name}": np.array(value, order="C") for name, value in self.net.state_dict().items()}
        about = {
            "format": FORMAT, "net": self.net.config(), "encoder": self.encoder.config(), "target": self.target.config(), "info": self.info,
        }  # fmt: skip
        about["checksum"] = _checksum(about, tensors)
        return _write_whole(Path(path), save(tensors, {_KEY: json.dumps(about, sort_keys=True)}))


def load(path: str | os.PathLike[str], *, device: Device | str | None = "cpu") -> Model:
    """The model in a file that `Model.save` wrote; a run's directory means its best.gpunet.

    Raises:
        FormatError: the file is not a gpunet model, cut short, altered, or of a newer format.
    """
    file = Path(path)
    file = file / "best.gpunet" if file.is_dir() else file
    about, tensors = _read(file)
    try:
        net = nn.build(about["net"])
        net.load_state_dict({name.removeprefix("net."): value for name, value in tensors.items()})
        encoder, target = encoder_from_config(about["encoder"]), Target.from_config(about["target"])
    except _MALFORMED as error:
        raise FormatError(f"{file}: the description inside does not make a model ({error})") from None
    return Model(net, encoder, target, info=about.get("info", {})).to(device)


def _read(file: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise FormatError(f"{file}: no such model file. gpunet-train writes one as RUN/best.gpunet")
    try:
        with safe_open(str(file), framework="numpy") as opened:
            about = json.loads((opened.metadata() or {})[_KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 not a dict
    except KeyError:
        raise FormatError(f"{file}: a safetensors file, but not a gpunet model") from None
    except (SafetensorError, OSError, *_MALFORMED) as error:
        raise FormatError(
            f"{file}: not a whole gpunet model: it is cut short, altered or something else ({error})"
        ) from None
    if not isinstance(about, dict) or type(about.get("format")) is not int or about["format"] < 1:
        raise FormatError(f"{file}: not a gpunet model")
    if about["format"] > FORMAT:
        raise FormatError(
            f"{file}: format {about['format']}; this version of gpunet reads up to {FORMAT}. pip install --upgrade gpunet"
        )
    if about.pop("checksum", None) != _checksum(about, tensors):
        raise FormatError(f"{file}: the checksum does not match: the file was altered")
    return about, tensors


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


def _checksum(about: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _write_whole(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_umask())
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
