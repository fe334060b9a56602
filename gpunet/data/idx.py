"""The IDX format of MNIST (http://yann.lecun.com/exdb/mnist): one array a file, or a folder in MNIST's naming.

A file is two zero bytes, a type code, the number of dimensions, each dimension as big-endian 32-bit integer, the data.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from ..errors import DataError, FormatError
from .files import existing, read_bytes
from .record import Array, Dataset, check_pair, flatten

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PARTS = "train-images", "train-labels", "t10k-images", "t10k-labels"


def is_idx(head: bytes) -> bool:
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in TYPES and head[3] > 0


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array of an IDX file, packed or not, in the native byte order."""
    data = read_bytes(existing(path))
    if not is_idx(data):
        raise FormatError(f"{path}: not an IDX file; it begins with {data[:4].hex(' ') or 'nothing'}")
    dtype, ndim = np.dtype(TYPES[data[2]]), data[3]
    begin = 4 + 4 * ndim
    if len(data) < begin:
        raise FormatError(f"{path}: cut short in its header of {begin} bytes")
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, begin, 4)]
    expected = math.prod(shape) * dtype.itemsize
    if ndim > 32 or len(data) - begin != expected:
        got = f"{len(data) - begin:,} follow"
        raise FormatError(f"{path}: the header promises {shape}, {expected:,} bytes of data; {got}")
    return np.frombuffer(data, dtype, offset=begin).reshape(shape).astype(dtype.newbyteorder("="))


def mnist_files(folder: Path) -> dict[str, Path]:
    """The files of MNIST's naming that the folder has, by part: train-images-idx3-ubyte, with .gz, or with a dot."""
    found = {}
    for path in sorted(folder.iterdir(), reverse=True):  # a file that is not packed comes last and is preferred
        stem = path.name.removesuffix(".gz").replace(".idx", "-idx")
        part = next((part for part in PARTS if stem in (f"{part}-idx1-ubyte", f"{part}-idx3-ubyte")), None)
        if part:
            found[part] = path
    return found


def read_mnist(folder: str | os.PathLike[str]) -> Dataset:
    """MNIST, Fashion-MNIST and whatever else lies in a folder under their names; a missing test set is noted."""
    place = existing(folder)
    files = mnist_files(place)
    missing = [part for part in PARTS[:2] if part not in files]
    if missing:
        raise DataError(f"{folder}: no {' and no '.join(f'{part}-idx?-ubyte[.gz]' for part in missing)}")
    x, y, image_shape = _part(files, "train")
    data = Dataset(place.resolve().name, x, y, image_shape=image_shape)
    if "t10k-images" not in files or "t10k-labels" not in files:
        data.notes.append("no test set: t10k-images or t10k-labels is not there")
        return data
    data.test_x, data.test_y, test_shape = _part(files, "t10k")
    if test_shape != image_shape:
        raise FormatError(f"{folder}: images of {image_shape} for training and of {test_shape} for the test")
    return data


def _part(files: dict[str, Path], part: str) -> tuple[Array, Array, tuple[int, ...] | None]:
    images, labels = read_idx(files[f"{part}-images"]), read_idx(files[f"{part}-labels"])
    if images.ndim < 2 or labels.ndim != 1 or labels.dtype.kind not in "iu":
        got = f"{images.shape} and {labels.dtype} {labels.shape}"
        raise FormatError(f"{files[f'{part}-images']}: images [N, ...] and integer labels [N] are expected, got {got}")
    check_pair(files[f"{part}-images"], images, labels)
    x, image_shape = flatten(images)
    return x, labels.astype(np.int64), image_shape
