"""Tables from and to CSV files, by the standard library or, on large regular files, by pyarrow with the same result."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, TextIO

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataError, FormatError, ShapeError
from .files import existing, read_bytes
from .sniff import Layout, find_layout, is_blank, records
from .table import Column, Table, default_names, encode

BOM = b"\xef\xbb\xbf"
ARROW_PAYS_FROM = 2 << 20  # bytes; below it, importing pyarrow takes longer than the standard library needs


def read_csv(
    path: str | os.PathLike[str],
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    engine: Literal["auto", "csv", "pyarrow"] = "auto",
) -> Table:
    """The table of a delimited text file (UTF-8; .gz and .bz2 are unpacked); columns are typed as `table.py` says.

    Delimiter and header are found if not given (`sniff.py` has the rule). Columns without a name are called column_1,
    column_2, ... by place. A row with more or fewer fields than most is a DataError that names its line, or, with
    on_bad_row="skip", left out and counted in `Table.notes`. The engine changes the speed, never the result.
    """
    _check_settings(delimiter, on_bad_row, engine)
    place = existing(path)
    data = _text(place)
    try:
        return _parse(data, header, delimiter, on_bad_row, engine)
    except DataError as error:
        raise type(error)(f"{path}{' ' if str(error).startswith('line ') else ': '}{error}") from error


def _check_settings(delimiter: str | None, on_bad_row: str, engine: str) -> None:
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '" \r\n'):
        raise ConfigError(f"delimiter {delimiter!r}: one character is expected, and no quote, space or line end")
    if on_bad_row not in ("error", "skip"):
        raise ConfigError(f'on_bad_row {on_bad_row!r}: "error" or "skip" is expected')
    if engine not in ("auto", "csv", "pyarrow"):
        raise ConfigError(f'engine {engine!r}: "auto", "csv" or "pyarrow" is expected')


def _text(path: Path) -> bytes:
    """The file's content, known to be UTF-8 text; without the byte order mark."""
    data = read_bytes(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FormatError(f"{path} is UTF-16; save it as UTF-8, for example with  iconv -f UTF-16 -t UTF-8")
    nul = data.find(b"\0")
    if nul >= 0:
        raise FormatError(f"{path} line {_line(data, nul):,}: a zero byte; this is not a text file")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"{path} line {_line(data, error.start):,}: byte 0x{data[error.start]:02x}"
        raise FormatError(
            f"{where} is not UTF-8; convert a text in another encoding, for example with  iconv -f LATIN1 -t UTF-8"
        ) from error
    return data.removeprefix(BOM)


def _line(data: bytes, at: int) -> int:
    return len(re.findall(rb"\r\n|\r|\n", data[:at])) + 1


def _parse(data: bytes, header: bool | None, delimiter: str | None, on_bad_row: str, engine: str) -> Table:
    layout = find_layout(data, header=header, delimiter=delimiter)
    if layout is None:
        next(records(data, delimiter or ","), None)  # says so if that is because of a quote that is never closed
        raise DataError("there is no row in it")
    wanted = engine == "pyarrow" or (engine == "auto" and len(data) >= ARROW_PAYS_FROM)
    body = by_arrow(data, layout, required=engine == "pyarrow") if wanted else None
    body = body or by_csv(data, layout, skip=on_bad_row == "skip")
    if not len(body.columns[0][1]):
        raise DataError(f"line {layout.line:,}: the header, and no row after it")
    names, note = _names(body.names, layout.width)
    columns = (Column.from_codes(name, *coded) for name, coded in zip(names, body.columns, strict=True))
    return Table.from_columns(columns, (*body.notes, *note))


def _names(given: list[str] | None, width: int) -> tuple[list[str], list[str]]:
    """What the columns are called, and a note on those that the file has no name for."""
    places = default_names(width)
    if given is None:
        called = places[0] if width == 1 else f"{places[0]} ... {places[-1]}"
        return places, [f"no header: the columns are called {called}"]
    names = [name.strip() or place for name, place in zip(given, places, strict=True)]
    nameless = [place for name, place in zip(given, places, strict=True) if not name.strip()]
    return names, [f"columns without a name are called {', '.join(nameless)}"] if nameless else []


@dataclass(frozen=True)
class Body:
    """What an engine finds: the header if there is one, and each column as (distinct cells, code of each row)."""

    names: list[str] | None
    columns: list[tuple[list[str], npt.NDArray[Any]]]
    notes: list[str]


def by_csv(data: bytes, layout: Layout, *, skip: bool) -> Body:
    """The rows by the standard library, which defines what the text means."""
    rows, bad = [], []
    for line, row in records(data, layout.delimiter):
        if len(row) == layout.width:
            rows.append(row)
        elif not is_blank(row, layout.width):
            if not skip:
                raise DataError(_ragged(line, len(row), layout))
            bad.append(line)
    names = rows.pop(0) if layout.header else None
    columns = [encode(cells) for cells in zip(*rows, strict=True)] or [encode([])] * layout.width
    return Body(names, columns, [_skipped(bad, layout)] if bad else [])


def _ragged(line: int, fields: int, layout: Layout) -> str:
    got = f"{fields:,} field" + "s" * (fields != 1)
    return (
        f"line {line:,}: {got}, expected {layout.width:,} (as in line {layout.line:,}); "
        '--on-bad-row skip (on_bad_row="skip") leaves such rows out'
    )


def _skipped(lines: list[int], layout: Layout) -> str:
    listed = ", ".join(f"{line:,}" for line in lines[:5]) + (", ..." if len(lines) > 5 else "")
    return f"{len(lines):,} row{'s' * (len(lines) > 1)} not of {layout.width:,} fields left out: line {listed}"


def by_arrow(data: bytes, layout: Layout, *, required: bool = False) -> Body | None:
    """The same rows by pyarrow; None where it is not installed, or where the text is not surely the same to both."""
    try:
        import pyarrow
        import pyarrow.csv as arrow
    except ImportError as error:
        if required:
            raise ConfigError('engine "pyarrow" is not installed: pip install "gpunet[tabular]"') from error
        return None
    if not layout.delimiter.isascii() or not _has_plain_quotes(data, layout.delimiter):
        return None
    places = default_names(layout.width)
    try:
        table = arrow.read_csv(
            pyarrow.BufferReader(data),
            read_options=arrow.ReadOptions(column_names=places),
            parse_options=arrow.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
            convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(places, pyarrow.string())),
        )
    except pyarrow.ArrowInvalid:  # a ragged row, say: the standard library names its line or leaves it out
        return None
    names = [str(column[0]) for column in table.columns] if layout.header else None
    columns = [_coded(column) for column in table.slice(1 if layout.header else 0).columns]
    longest = max((len(cell) for distinct, _ in columns for cell in distinct), default=0)
    return Body(names, columns, []) if longest <= csv.field_size_limit() else None


def _coded(column: Any) -> tuple[list[str], npt.NDArray[Any]]:
    codes = column.combine_chunks().dictionary_encode()
    return codes.dictionary.to_pylist(), codes.indices.to_numpy()


def _has_plain_quotes(data: bytes, delimiter: str) -> bool:
    """Whether quotes stand only where RFC 4180 has them, so that lenient parsers have nothing to differ about.

    Taken in pairs, each opening one follows a delimiter, a line end or (a doubled quote) the closing one before it;
    each closing one is followed by one of these.
    """
    letters = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(letters == ord('"'))
    if len(quotes) % 2:
        return False
    edges = np.frombuffer(f'{delimiter}\r\n"'.encode(), np.uint8)
    before, after = quotes[::2] - 1, quotes[1::2] + 1
    around = np.concatenate((letters[before[before >= 0]], letters[after[after < len(letters)]]))
    return bool(np.isin(around, edges).all())


def write_csv(target: str | os.PathLike[str] | TextIO, names: Sequence[str], columns: Sequence[npt.ArrayLike]) -> None:
    """Columns of equal length as CSV, to an open text stream or to a file, which appears whole or not at all.

    Numbers have as many digits as their type needs to come back the same; NaN and None are empty.
    """
    if len(names) != len(columns):
        raise ShapeError(f"{len(names)} names for {len(columns)} columns")
    cells = [_written(column) for column in columns]
    lengths = {len(column) for column in cells}
    if len(lengths) > 1:
        raise ShapeError(f"columns of different lengths: {sorted(lengths)}")
    with _stream(target) as stream:
        # Before Python 3.13 only a terminator with \r in it makes the writer quote a cell with \r in it.
        unix = SimpleNamespace(write=lambda row: stream.write(row.removesuffix("\r\n") + "\n"))
        writer = csv.writer(unix, lineterminator="\r\n")
        writer.writerow(names)
        writer.writerows(zip(*cells, strict=True))


def _written(column: npt.ArrayLike) -> list[str]:
    values = np.asarray(column)
    if values.ndim != 1:
        raise ShapeError(f"a column is 1-D, got shape {values.shape}")
    missing = np.isnan(values) if values.dtype.kind == "f" else [value is None for value in values]
    return ["" if gone else str(value) for value, gone in zip(values, missing, strict=True)]


@contextmanager
def _stream(target: str | os.PathLike[str] | TextIO) -> Iterator[TextIO]:
    if not isinstance(target, (str, os.PathLike)):
        yield target
        return
    place = Path(target).expanduser()
    beside = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        with open(beside, "w", encoding="utf-8", newline="") as stream:
            yield stream
        os.replace(beside, place)
    except OSError as error:
        raise DataError(f"{place}: cannot be written ({error.strerror})") from error
    finally:
        beside.unlink(missing_ok=True)
