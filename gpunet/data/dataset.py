"""The one door to data: `read` finds out what a path holds and gives it as a Dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ..errors import DataError, FormatError
from .arrays import read_npy, read_npz
from .cifar import cifar_files, is_binary_size, is_pickle, read_cifar, read_cifar_file
from .csv import read_csv
from .files import existing, head
from .idx import PARTS, is_idx, mnist_files, read_idx, read_mnist
from .record import Dataset, check_pair, flatten

__all__ = ["Dataset", "read"]

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".txt", ".data", ".test", ".dat", "")
PACKED_SUFFIXES = (".gz", ".bz2")
READ = (
    "read are: delimited text (.csv .tsv .txt .data, with .gz or .bz2), .npz, .npy, IDX files and folders as MNIST's, "
    "CIFAR-10 batches and folders"
)


def read(
    path: str | os.PathLike[str],
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
) -> Dataset:
    """What a file or folder holds, told by its first bytes, its suffix, or the names in the folder.

    A delimited text gives x as a whole Table and no y: the target is chosen later, by the name of its column. The
    settings are for such texts only; `read_csv` explains them.
    """
    place = existing(path)
    if place.is_dir():
        return _read_folder(place)
    begin = head(place)
    if begin.startswith(b"\x93NUMPY") or place.suffix.lower() == ".npy":
        return read_npy(place)
    if place.suffix.lower() == ".npz":
        return read_npz(place)
    if is_idx(begin):
        return _read_idx_file(place)
    if is_pickle(begin) or (place.suffix == ".bin" and is_binary_size(place.stat().st_size)):
        return read_cifar_file(place)
    if _text_suffix(place) in TEXT_SUFFIXES:
        table = read_csv(path, header=header, delimiter=delimiter, on_bad_row=on_bad_row)
        return Dataset(place.name.split(".")[0] or place.name, table, notes=list(table.notes))
    raise FormatError(f"{path}: its format is not known; {READ}")


def _text_suffix(place: Path) -> str:
    suffixes = [suffix.lower() for suffix in place.suffixes]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _read_folder(place: Path) -> Dataset:
    if mnist_files(place):
        return read_mnist(place)
    if cifar_files(place):
        return read_cifar(place)
    names = sorted(os.listdir(place))
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise DataError(
        f"{place}: a folder is read if it holds MNIST's files ({PARTS[0]}-idx3-ubyte, ...) or CIFAR-10's "
        f"(data_batch_1, ...); it holds {listed or 'nothing'}"
    )


def _read_idx_file(place: Path) -> Dataset:
    array = read_idx(place)
    if array.ndim < 2:
        raise DataError(f"{place}: one number a row, so these are labels; give the folder with the images too")
    check_pair(place, array, None)
    x, image_shape = flatten(array)
    note = "no targets: give the folder to have them"
    return Dataset(place.name.split(".")[0], x, image_shape=image_shape, notes=[note])
