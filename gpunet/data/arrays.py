"""NumPy's own files, .npy and .npz: read without pickle, and measured by their headers before anything is allocated."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from ..errors import DataError, FormatError
from .files import existing, unpacked_limit
from .record import Array, Dataset, check_pair, flatten

MOST_HEADER_BYTES = 1 << 16

# fmt: off
KEYS = {  # what an array of a .npz is taken for, by its name in small letters; the first that is there
    "x":      ("x", "x_train", "train_x", "data", "train_data", "train_images", "images", "features"),
    "y":      ("y", "y_train", "train_y", "target", "targets", "train_labels", "labels", "label"),
    "test_x": ("x_test", "test_x", "test_data", "test_images"),
    "test_y": ("y_test", "test_y", "test_labels"),
}
# fmt: on


def read_npy(path: str | os.PathLike[str]) -> Dataset:
    """x of a .npy file of numbers, one row for each index of its first axis; it has no y."""
    place = existing(path)
    with _reading(path), open(place, "rb") as file:
        x, image_shape = _inputs(path, _array(file, place.stat().st_size))
    return Dataset(place.stem, x, image_shape=image_shape)


def read_npz(path: str | os.PathLike[str]) -> Dataset:
    """The arrays of a .npz that `KEYS` names; targets may be integers, numbers or strings (which become classes)."""
    place = existing(path)
    with _reading(path), zipfile.ZipFile(place) as archive:
        members = _members(path, archive)
        names = {part: next((key for key in keys if key in members), None) for part, keys in KEYS.items()}
        if names["x"] is None:
            raise DataError(f"{path}: no array called x; it has {', '.join(members) or 'none'}, read are {_listed()}")
        packed, size = place.stat().st_size, sum(members[name].file_size for name in names.values() if name)
        if size > unpacked_limit(packed):
            raise FormatError(f"{path}: {packed:,} bytes would unpack to {size:,}: refused")
        arrays = {part: _member(archive, members[name]) for part, name in names.items() if name}
    return _dataset(path, place.stem, arrays)


def _listed() -> str:
    return "; ".join(f"{part}: {', '.join(keys)}" for part, keys in KEYS.items())


def _members(path: object, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    members = {info.filename.removesuffix(".npy").lower(): info for info in infos}
    if len(members) < len(infos):
        raise FormatError(f"{path}: array names given twice (small and capital letters do not differ here)")
    return members


def _dataset(path: object, name: str, arrays: dict[str, Array]) -> Dataset:
    x, image_shape = _inputs(path, arrays["x"])
    check_pair(path, arrays["x"], arrays.get("y"))
    data = Dataset(name, x, image_shape=image_shape)
    if "test_x" in arrays:
        data.test_x, test_shape = _inputs(path, arrays["test_x"])
        if data.test_x.shape[1] != x.shape[1] or test_shape != image_shape:
            shapes = f"{arrays['x'].shape[1:]} in x and {arrays['test_x'].shape[1:]} in its test set"
            raise FormatError(f"{path}: rows of shape {shapes}")
        check_pair(f"{path} (its test set)", arrays["test_x"], arrays.get("test_y"))
    elif "test_y" in arrays:
        raise FormatError(f"{path}: targets of a test set and no inputs for them")
    targets: dict[str, Array] = {part: _targets(path, part, arrays[part]) for part in arrays if part.endswith("y")}
    if any(y.dtype.kind == "U" for y in targets.values()):
        data.classes, targets = _coded(targets)
    data.y, data.test_y = targets.get("y"), targets.get("test_y")
    return data


def _inputs(path: object, x: Array) -> tuple[Array, tuple[int, ...] | None]:
    if x.dtype.kind not in "biuf" or x.ndim == 0 or not x.size:
        raise FormatError(f"{path}: inputs [N, ...] of numbers are expected, got {x.dtype} {x.shape}")
    return flatten(x)


def _targets(path: object, part: str, y: Array) -> Array:
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.dtype.kind not in "biufU" or y.ndim not in (1, 2):
        raise FormatError(f"{path}: {part} is {y.dtype} {y.shape}; numbers or strings [N] are expected")
    return y.astype(np.int64) if y.dtype.kind in "biu" else y


def _coded(targets: dict[str, Array]) -> tuple[list[str], dict[str, Array]]:
    """Targets of strings as places in the sorted list of all of them."""
    texts = {part: y.astype(str) for part, y in targets.items()}
    classes = np.unique(np.concatenate([y.reshape(-1) for y in texts.values()]))
    return classes.tolist(), {part: np.searchsorted(classes, y).astype(np.int64) for part, y in texts.items()}


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    with archive.open(info) as stream:
        return _array(stream, info.file_size)


def _array(stream: IO[bytes], size: int) -> Array:
    """The array of a stream in the .npy format that has `size` bytes, as its header must say."""
    head = io.BytesIO(stream.read(MOST_HEADER_BYTES))  # NumPy would allocate whatever length the header claims to have
    version = np.lib.format.read_magic(head)
    read_header = {1: np.lib.format.read_array_header_1_0}.get(version[0], np.lib.format.read_array_header_2_0)
    shape, _, dtype = read_header(head)
    expected, follow = math.prod(shape) * dtype.itemsize, size - head.tell()
    if dtype.hasobject:
        raise ValueError(f"it holds Python objects ({dtype}), which only pickle could read; save numbers or strings")
    if expected != follow:
        raise ValueError(f"the header promises {dtype} {shape}, {expected:,} bytes; {follow:,} follow")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


@contextmanager
def _reading(path: object) -> Iterator[None]:
    """Tells whatever NumPy and zipfile say about foreign bytes as a FormatError with the path."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # their parsers end in nearly any: SyntaxError, NotImplementedError, struct.error, ...
        raise FormatError(f"{path}: cut short, damaged or not NumPy's ({error})") from error
