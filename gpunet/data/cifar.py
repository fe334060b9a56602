"""CIFAR-10 (A. Krizhevsky 2009), from its binary files or from the pickles of the Python version.

An image is published as three planes, red, green and blue, of 32x32; here the three values of a pixel are neighbours,
as every program that shows images takes them: [N, 32 * 32 * 3], image_shape (32, 32, 3).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, FormatError
from .files import existing, read_bytes
from .record import Array, Dataset
from .unpickle import load_dict

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PIXELS = 32 * 32 * 3
BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
TEST = "test_batch"


def cifar_files(folder: Path) -> dict[str, Path]:
    """The batches that the folder has; a pickle is preferred to a .bin of the same name."""
    places = {name: [folder / name, folder / f"{name}.bin"] for name in (*BATCHES, TEST)}
    return {name: next(filter(Path.is_file, paths)) for name, paths in places.items() if any(map(Path.is_file, paths))}


def read_cifar(folder: str | os.PathLike[str]) -> Dataset:
    """The batches of a folder, together; what is missing of the five and of the test set is noted."""
    place = existing(folder)
    files = cifar_files(place)
    train = [read_cifar_batch(path) for name, path in files.items() if name != TEST]
    if not train:
        raise DataError(f"{folder}: no data_batch_1 ... data_batch_5, with .bin or without")
    data = Dataset("cifar-10", *_joined(train), classes=list(CLASSES), image_shape=(32, 32, 3))
    absent = [name for name in BATCHES if name not in files]
    if absent:
        data.notes.append(f"{', '.join(absent)} not there: {data.rows:,} training images")
    if TEST in files:
        data.test_x, data.test_y = read_cifar_batch(files[TEST])
    else:
        data.notes.append("no test set: test_batch is not there")
    return data


def read_cifar_file(path: str | os.PathLike[str]) -> Dataset:
    """A single batch as a data set of its own."""
    x, y = read_cifar_batch(existing(path))
    return Dataset(Path(path).stem, x, y, classes=list(CLASSES), image_shape=(32, 32, 3))


def read_cifar_batch(path: Path) -> tuple[Array, Array]:
    """(images uint8 [N, 3072], labels int64 [N]) of one file."""
    content = read_bytes(path)
    try:
        planes, labels = _pickled(content) if is_pickle(content) else _binary(content)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    if not labels.size:
        raise FormatError(f"{path}: there is no image in it")
    if not 0 <= labels.min() <= labels.max() < len(CLASSES):
        raise FormatError(f"{path}: labels from {labels.min()} to {labels.max()}, expected 0 to 9")
    x = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).reshape(-1, PIXELS)
    return x, labels.astype(np.int64)


def is_pickle(head: bytes) -> bool:
    """Whether this begins as a pickle of protocol 2 and later does; a binary batch begins with a label, 0 to 9."""
    return head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")


def is_binary_size(size: int) -> bool:
    return size > 0 and size % (1 + PIXELS) == 0


def _joined(batches: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _binary(content: bytes) -> tuple[Array, Array]:
    if not is_binary_size(len(content)):
        record = f"{1 + PIXELS:,} bytes (a label and 3 x 32 x 32 pixels)"
        raise FormatError(f"{len(content):,} bytes are no whole number of images of {record}")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0]


def _pickled(content: bytes) -> tuple[Array, Array]:
    batch = load_dict(content)
    images: Any = batch.get("data")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != PIXELS:
        raise FormatError('"data" should be a uint8 array [N, 3072]')
    labels = batch.get("labels")
    if not isinstance(labels, list) or not all(type(label) is int and abs(label) < 256 for label in labels):
        raise FormatError('"labels" should be a list of integers')
    if len(labels) != len(images):
        raise FormatError(f"{len(images):,} images and {len(labels):,} labels")
    return images, np.array(labels, np.int64)
