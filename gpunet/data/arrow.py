"""Parquet, Arrow and Feather files, read by pyarrow, as typed tables.

Numbers of any width become float64; texts go by the one typing rule (`table.py`), a dictionary column stays text; booleans
are the text True and False; dates and times are the text they print as. Lists, structs and bytes are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataError, FormatError
from .files import check_fits, existing
from .table import Column, Table

PARQUET, ARROW, FEATHER = b"PAR1", b"ARROW1", b"FEA1"


def read_parquet(path: str | os.PathLike[str]) -> Table:
    """The table of a Parquet file."""
    place = existing(path)
    with _reading(path):
        import pyarrow.parquet as parquet

        with parquet.ParquetFile(place) as file:
            about = file.metadata
            check_fits(path, about.num_rows, len(file.schema_arrow))
            texts = [f.name for f in file.schema_arrow if str(f.type) in ("string", "large_string")]
        with parquet.ParquetFile(place, read_dictionary=texts, pre_buffer=True) as file:
            return to_table(path, file.read(), coded=set(texts))


def read_arrow(path: str | os.PathLike[str]) -> Table:
    """The table of an Arrow IPC file or stream, or of a Feather file of either version."""
    place = existing(path)
    with _reading(path):
        import pyarrow
        import pyarrow.feather as feather

        with open(place, "rb") as file:
            begin = file.read(8)
        check_fits(path, 0, 0, at_least=place.stat().st_size)
        if begin.startswith((ARROW, FEATHER)):
            found = feather.read_table(place, memory_map=False)
        else:
            with pyarrow.OSFile(str(place)) as source, pyarrow.ipc.open_stream(source) as stream:
                found = stream.read_all()
        found.validate(full=True)  # offsets of a damaged file may point anywhere
        return to_table(path, found)


def to_table(path: object, found: Any, *, coded: set[str] = frozenset()) -> Table:  # type: ignore[assignment]
    """A pyarrow table as ours; `coded` are text columns that come as dictionaries all the same."""
    if not found.num_columns or not found.num_rows:
        raise DataError(f"{path}: {found.num_rows:,} rows of {found.num_columns:,} columns hold nothing")
    return Table.from_columns(
        _column(path, name, found.column(i), name in coded) for i, name in enumerate(found.column_names)
    )


def _column(path: object, name: str, column: Any, coded: bool) -> Column:
    import pyarrow.types as types

    kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind):
        return Column(name, "numeric", numbers(column))
    if types.is_decimal(kind):
        return Column(name, "numeric", numbers(column.cast("float64")))
    if types.is_dictionary(kind) and _is_text(kind.value_type):
        distinct, codes = _codes(column)
        if coded:
            return Column.from_codes(name, distinct, codes)
        return _texts(name, distinct, codes)
    if _is_text(kind):
        return Column.from_codes(name, *_codes(column.dictionary_encode()))
    if types.is_boolean(kind) or types.is_temporal(kind):
        return Column.from_values(name, column.to_pylist())
    raise DataError(f'{path}: column "{name}" holds {kind}; numbers, text, booleans and dates are taken')


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view"


def numbers(column: Any) -> npt.NDArray[np.float64]:
    """float64 with NaN for null, of a column of integers or floats."""
    parts = [values(chunk) for chunk in column.chunks]
    if len(parts) == 1 and parts[0][0].dtype == np.float64 and parts[0][1] is None:
        return parts[0][0]
    out, at = np.empty(len(column)), 0
    for part, null in parts:
        here = out[at : at + len(part)]
        here[:] = part
        if null is not None:
            here[null] = np.nan
        at += len(part)
    return out


def values(array: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """(a view of the numbers, where they are null), by the buffers: pyarrow's own way to NumPy imports pandas."""
    if array.null_count == len(array):
        return np.zeros(len(array)), np.ones(len(array), np.bool_)
    valid, numbers = array.buffers()
    dtype = np.dtype(array.type.to_pandas_dtype())
    found = np.frombuffer(numbers, dtype, len(array), array.offset * dtype.itemsize)
    if not array.null_count:
        return found, None
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
    return found, bits[array.offset : array.offset + len(array)] == 0


def _codes(column: Any) -> tuple[list[str], npt.NDArray[Any]]:
    """(distinct texts, place of each row's); missing is the empty text."""
    whole = column.unify_dictionaries().combine_chunks()
    whole = whole.chunk(0) if hasattr(whole, "chunk") else whole
    distinct = [text or "" for text in whole.dictionary.to_pylist()]
    codes, null = values(whole.indices)
    codes = codes.astype(np.int64) if null is None else np.where(null, len(distinct), codes).astype(np.int64)
    if len(codes) and not 0 <= codes.min() <= codes.max() <= len(distinct):  # of a damaged file
        raise ValueError("a dictionary's index is out of range")
    return [*distinct, ""], codes


def _texts(name: str, distinct: list[str], codes: npt.NDArray[Any]) -> Column:
    """Text whatever it looks like: the file calls these categories."""
    from .table import MISSING

    texts = np.empty(len(distinct), object)
    texts[:] = [None if text.strip() in MISSING else text.strip() for text in distinct]
    return Column(name, "text", texts[codes])


@contextmanager
def _reading(path: object) -> Iterator[None]:
    """Tells whatever pyarrow says about foreign bytes as a FormatError with the path."""
    try:
        import pyarrow
    except ImportError as error:
        raise ConfigError(f'{path}: reading it needs pyarrow: pip install "gpunet[tabular]"') from error
    try:
        yield
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError, TypeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FormatError(f"{path}: cut short, damaged, or not what its name says ({first})") from error


def is_arrow(begin: bytes, place: Path) -> bool:
    return begin.startswith((ARROW, FEATHER)) or place.suffix.lower() in (".arrow", ".arrows", ".feather")
