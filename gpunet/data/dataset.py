"""The one door to data: `read` finds out what a path holds and gives it as a Dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError, FormatError
from .arrays import read_npy, read_npz
from .arrow import PARQUET, is_arrow, read_arrow, read_parquet
from .cifar import cifar_files, is_binary_size, is_pickle, read_cifar, read_cifar_file
from .csv import read_csv
from .files import existing, head
from .idx import PARTS, is_idx, mnist_files, read_idx, read_mnist
from .jsonl import read_jsonl
from .libsvm import LIBSVM, read_libsvm
from .record import Dataset, check_pair, flatten
from .table import Table, joined

__all__ = ["Dataset", "read"]

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".txt", ".data", ".test", ".dat", "")
PACKED_SUFFIXES = (".gz", ".bz2", ".zst")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
LIBSVM_SUFFIXES = (".libsvm", ".svm", ".svmlight")
READ = (
    "read are: delimited text (.csv .tsv .txt .data), JSON lines (.jsonl) and libsvm (.libsvm), each also with .gz, .bz2 or "
    ".zst; .parquet, .arrow, .feather, .npz, .npy, IDX files and folders as MNIST's, CIFAR-10 batches and folders, and "
    "folders of the parts of one table"
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
        return _read_folder(place, header=header, delimiter=delimiter, on_bad_row=on_bad_row)
    begin = head(place)
    if begin.startswith(PARQUET) or place.suffix.lower() == ".parquet":
        return _of_table(place, read_parquet(path))
    if is_arrow(begin, place):
        return _of_table(place, read_arrow(path))
    if begin.startswith(b"\x93NUMPY") or place.suffix.lower() == ".npy":
        return read_npy(place)
    if place.suffix.lower() == ".npz":
        return read_npz(place)
    if is_idx(begin):
        return _read_idx_file(place)
    if is_pickle(begin) or (place.suffix == ".bin" and is_binary_size(place.stat().st_size)):
        return read_cifar_file(place)
    suffix = _text_suffix(place)
    if suffix in JSON_SUFFIXES:
        return _of_table(place, read_jsonl(path, on_bad_row=on_bad_row))
    if suffix in LIBSVM_SUFFIXES or (suffix in TEXT_SUFFIXES[4:] and LIBSVM.match(head(place, 4096))):
        return read_libsvm(path, on_bad_row=on_bad_row)
    if suffix in TEXT_SUFFIXES:
        return _of_table(place, read_csv(path, header=header, delimiter=delimiter, on_bad_row=on_bad_row))
    raise FormatError(f"{path}: its format is not known; {READ}")


def _of_table(place: Path, table: Table) -> Dataset:
    return Dataset(place.name.split(".")[0] or place.name, table, notes=list(table.notes))


def _text_suffix(place: Path) -> str:
    suffixes = [suffix.lower() for suffix in place.suffixes]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _read_folder(place: Path, **how: Any) -> Dataset:
    if mnist_files(place):
        return read_mnist(place)
    if cifar_files(place):
        return read_cifar(place)
    parts = [p for p in sorted(place.iterdir()) if p.is_file() and not p.name.startswith((".", "_"))]
    suffixes = {_text_suffix(p) for p in parts}
    if len(suffixes) == 1 and suffixes <= {*TEXT_SUFFIXES[:4], *JSON_SUFFIXES[:2], ".parquet", ".arrow", ".feather"}:
        return _read_parts(place, parts, how)
    names = sorted(os.listdir(place))
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise DataError(
        f"{place}: a folder is read if it holds MNIST's files ({PARTS[0]}-idx3-ubyte, ...), CIFAR-10's (data_batch_1, ...) "
        f"or the parts of one table, all .csv, .parquet, .arrow or .jsonl; it holds {listed or 'nothing'}"
    )


def _read_parts(place: Path, parts: list[Path], how: dict[str, Any]) -> Dataset:
    """The rows of all parts, in the order of their names."""
    tables = []
    for part in parts:
        table = read(part, **how).x
        assert isinstance(table, Table)
        tables.append((part.name, table))
    return Dataset(place.name, joined(tables), notes=[f"{len(parts)} parts, {parts[0].name} ... {parts[-1].name}"])


def _read_idx_file(place: Path) -> Dataset:
    array = read_idx(place)
    if array.ndim < 2:
        raise DataError(f"{place}: one number a row, so these are labels; give the folder with the images too")
    check_pair(place, array, None)
    x, image_shape = flatten(array)
    note = "no targets: give the folder to have them"
    return Dataset(place.name.split(".")[0], x, image_shape=image_shape, notes=[note])
