"""Parquet, Arrow and Feather files, read by pyarrow, as typed tables.

Numbers of any width become float64; texts go by the one typing rule (`table.py`), a dictionary column stays text; booleans
are the text True and False; dates and times are the text they print as, durations are seconds. Lists, structs and bytes
are refused. Nothing here imports pandas, whatever the version of pyarrow: it takes half a second.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataError, FormatError
from .files import check_fits, existing
from .table import Column, Table

SECOND, DAY = 10**9, 86_400 * 10**9  # nanoseconds
TICKS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}  # in a second
PIECE = 1 << 14  # rows that fit into the cache
THREADS_PAY_FROM = 1 << 16  # rows
PARQUET, ARROW, FEATHER = b"PAR1", b"ARROW1", b"FEA1"
T = TypeVar("T")


def read_parquet(path: str | os.PathLike[str]) -> Table:
    """The table of a Parquet file."""
    place = existing(path)
    with _reading(path):
        import pyarrow.parquet as parquet

        with parquet.ParquetFile(place) as file:
            about = file.metadata
            check_fits(path, about.num_rows, len(file.schema_arrow))
            texts = [f.name for f in file.schema_arrow if str(f.type) in ("string", "large_string")]
        with parquet.ParquetFile(place, metadata=about, read_dictionary=texts) as file:
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
    """A pyarrow table as ours, which nobody else may use any more: numbers may be converted where they lie.

    `coded` are text columns that come as dictionaries all the same.
    """
    if not found.num_columns or not found.num_rows:
        raise DataError(f"{path}: {found.num_rows:,} rows of {found.num_columns:,} columns hold nothing")

    def column(name: str, cells: Any) -> Column:
        return _column(path, name, cells, name in coded)

    return Table.from_columns(on_all_cores(column, found.column_names, found.columns))


def on_all_cores(do: Callable[..., T], *given: Sequence[Any]) -> list[T]:
    """do(...) of each column (the last of what is given): by threads if they are long, else Python is what takes the time."""
    import pyarrow

    if max(map(len, given[-1]), default=0) < THREADS_PAY_FROM:
        return list(map(do, *given))
    with ThreadPoolExecutor(pyarrow.cpu_count()) as pool:
        return list(pool.map(do, *given))


def _column(path: object, name: str, column: Any, coded: bool) -> Column:
    import pyarrow.types as types

    kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind):
        return Column(name, "numeric", numbers(column))
    if types.is_decimal(kind):
        return Column(name, "numeric", numbers(column.cast("float64")))
    if types.is_duration(kind):
        return Column(name, "numeric", numbers(column) / TICKS[kind.unit])
    if types.is_dictionary(kind) and _is_text(kind.value_type):
        return (Column.from_codes if coded else Column.categories)(name, *codes(column))
    if _is_text(kind):
        return Column.from_codes(name, *codes(column))
    if types.is_boolean(kind):
        return Column.from_values(name, column.to_pylist())
    if types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind):
        return Column.from_values(name, _as_printed(column))
    raise DataError(f'{path}: column "{name}" holds {kind}; numbers, text, booleans and dates are taken')


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view"


def numbers(column: Any) -> npt.NDArray[np.float64]:
    """float64 with NaN for null, of a column of integers or floats; where they lie, if nobody else has that memory."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    found, null = values(array)
    if found.dtype != np.float64 or (null is not None and not found.flags.writeable):
        found = _converted(found)
    if null is not None:
        found[null] = np.nan
    return found


def _converted(found: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """float64, written over the numbers themselves if they are as wide and nobody else has them."""
    out = found.view(np.float64) if found.itemsize == 8 and found.flags.writeable else _memory(len(found))
    for i in range(0, len(found), PIECE):  # NumPy takes a copy of what it would write over: a small one
        out[i : i + PIECE] = found[i : i + PIECE]
    return out


def _memory(count: int) -> npt.NDArray[np.float64]:
    """Of pyarrow, which has mostly touched it before: the system's would first be cleared, page by page."""
    import pyarrow

    return np.frombuffer(pyarrow.allocate_buffer(max(1, 8 * count)), np.uint8)[: 8 * count].view(np.float64)


def values(array: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """(a view of the numbers, where they are null), by the buffers: pyarrow's own way to NumPy imports pandas."""
    if array.null_count == len(array):
        return np.zeros(len(array)), np.ones(len(array), np.bool_)
    valid, numbers = array.buffers()
    dtype = _dtype(array.type)
    found = np.frombuffer(numbers, dtype, len(array), array.offset * dtype.itemsize)
    if not array.null_count:
        return found, None
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
    return found, bits[array.offset : array.offset + len(array)] == 0


def _dtype(kind: Any) -> np.dtype[Any]:
    """NumPy's type of integers, floats, dates and times; `to_pandas_dtype` imports pandas in some versions."""
    import pyarrow.types as types

    letter = "f" if types.is_floating(kind) else "u" if types.is_unsigned_integer(kind) else "i"
    return np.dtype(f"{letter}{kind.bit_width // 8}")


def codes(column: Any) -> tuple[list[str], npt.NDArray[np.int64]]:
    """(distinct texts, place of each row's) of texts, or of a dictionary of them; missing is the empty text."""
    import pyarrow.types as types

    column = column if types.is_dictionary(column.type) else column.dictionary_encode()
    if len({_place(chunk.dictionary) for chunk in column.chunks}) > 1:  # not one that all of them share
        column = column.unify_dictionaries()
    distinct = [text or "" for text in column.chunk(0).dictionary.to_pylist()] if column.num_chunks else []
    found = [np.zeros(0, np.int64)]
    for part, null in (values(chunk.indices) for chunk in column.chunks):
        found.append((part if null is None else np.where(null, len(distinct), part)).astype(np.int64))
    whole = np.concatenate(found)
    if len(whole) and not 0 <= whole.min() <= whole.max() <= len(distinct):  # of a damaged file
        raise ValueError("a dictionary's index is out of range")
    return [*distinct, ""], whole


def has_longer(column: Any, size: int) -> bool:
    """Whether a column of texts has one of more bytes."""
    for chunk in filter(len, column.chunks):
        ends = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        if ends[-1] - ends[0] > size and np.diff(ends).max() > size:
            return True
    return False


def _place(array: Any) -> tuple[Any, ...]:
    """Where its texts lie in memory."""
    return (array.offset, len(array), *(None if b is None else b.address for b in array.buffers()))


def _as_printed(column: Any) -> list[str | None]:
    """Dates and times as Python prints them, or with nine digits where six are not enough; None for null."""
    import pyarrow

    kind = column.type
    is_date, is_time = pyarrow.types.is_date(kind), pyarrow.types.is_time(kind)
    tick = DAY if pyarrow.types.is_date32(kind) else SECOND // int(TICKS["ms" if is_date else kind.unit])
    zone = getattr(kind, "tz", None)
    place = pyarrow.lib.string_to_tzinfo(zone) if zone else None
    out: list[str | None] = []
    for ticks, null in map(values, filter(len, column.chunks)):
        blank = np.zeros(len(ticks), np.bool_) if null is None else null
        for n, gone in zip(ticks.tolist(), blank.tolist(), strict=True):
            out.append(None if gone else _moment(int(n) * tick, place, is_date, is_time))
    return out


def _moment(nanoseconds: int, zone: datetime.tzinfo | None, is_date: bool, is_time: bool) -> str:
    when = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(microseconds=nanoseconds // 1000)
    if is_date:
        return str(when.date())
    here: Any = when.time() if is_time else when.astimezone(zone) if zone else when.replace(tzinfo=None)
    if nanoseconds % 1000 == 0:
        return str(here)
    whole, seconds = str(here.replace(microsecond=0)), 8 if is_time else 19  # letters up to the seconds
    return f"{whole[:seconds]}.{nanoseconds % SECOND:09}{whole[seconds:]}"


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
