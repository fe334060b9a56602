"""One file of tensors and what they mean: safetensors with JSON in its header and a checksum; no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.files import write_whole
from ..errors import FormatError

Tensors = Mapping[str, npt.NDArray[Any]]
_KEY = "gpunet"
# what a description that nobody wrote on purpose can end in
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError, MemoryError)


def write(path: str | os.PathLike[str], about: Mapping[str, Any], tensors: Tensors) -> Path:
    """Write `about`, JSON with an integer under "format", and the tensors; the file appears whole or not at all."""
    from safetensors.numpy import save

    plain = {name: np.array(value, order="C") for name, value in tensors.items()}
    described = {**about, "checksum": checksum(about, plain)}
    return write_whole(Path(path), save(plain, {_KEY: json.dumps(described, sort_keys=True)}))


def read(file: Path, *, kind: str, newest: int) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """What `write` wrote, if its format is not newer than `newest`. `kind` is what messages call it: "model".

    Raises:
        FormatError: the file is something else, cut short, altered, or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy") as opened:
            about = json.loads((opened.metadata() or {})[_KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 not a dict
    except KeyError:
        raise FormatError(f"{file}: a safetensors file, but not a gpunet {kind}") from None
    except (SafetensorError, OSError, *MALFORMED) as error:
        raise FormatError(
            f"{file}: not a whole gpunet {kind}: it is cut short, altered or something else ({error})"
        ) from None
    if not isinstance(about, dict) or type(about.get("format")) is not int or about["format"] < 1:
        raise FormatError(f"{file}: not a gpunet {kind}")
    if about["format"] > newest:
        raise FormatError(
            f"{file}: format {about['format']}; this version of gpunet reads up to {newest}. pip install --upgrade gpunet"
        )
    if about.pop("checksum", None) != checksum(about, tensors):
        raise FormatError(f"{file}: the checksum does not match: the file was altered")
    return about, tensors


def checksum(about: Mapping[str, Any], tensors: Tensors) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
