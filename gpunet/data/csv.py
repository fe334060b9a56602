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
from .files import check_fits, existing, read_bytes
from .sniff import Layout, find_layout, is_blank, records
from .table import MISSING, Column, Table, default_names, encode

BOM = b"\xef\xbb\xbf"
MANY_BYTES = 256 << 20  # from here on a table may not fit
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
        if not data.isascii():
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
    check_fits("the table", _most_rows(data), layout.width, at_least=2 * len(data))
    body = by_arrow(data, layout, required=engine == "pyarrow") if wanted else None
    body = body or by_csv(data, layout, skip=on_bad_row == "skip")
    if not body.rows:
        raise DataError(f"line {layout.line:,}: the header, and no row after it")
    names, note = _names(body.names, layout.width)
    columns = (_column(name, found) for name, found in zip(names, body.columns, strict=True))
    return Table(tuple(columns), (*body.notes, *note), str(layout))


def _column(name: str, found: Any) -> Column:
    return Column.from_codes(name, *found) if isinstance(found, tuple) else Column(name, "numeric", found)


def _most_rows(data: bytes) -> int:
    """Of a large text; of a small one it does not matter."""
    return data.count(b"\n") + data.count(b"\r") if len(data) > MANY_BYTES else 0


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
    """What an engine finds: the header if there is one, and each column.

    A column is (distinct cells, code of each row), or float64 where every cell is a number or missing.
    """

    names: list[str] | None
    columns: list[Any]
    notes: list[str]

    @property
    def rows(self) -> int:
        first = self.columns[0]
        return len(first[1] if isinstance(first, tuple) else first)


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
        import pyarrow.csv
    except ImportError as error:
        if required:
            raise ConfigError('engine "pyarrow" is not installed: pip install "gpunet[tabular]"') from error
        return None
    quotes = _plain_quotes(data, layout.delimiter) if layout.delimiter.isascii() else None
    if quotes is None:
        return None
    lines_in_cells = _lines_inside(data, quotes)
    _, names = next(records(data, layout.delimiter))
    if len(names) != layout.width:
        return None
    texts = set(range(layout.width)) - layout.numeric
    for _ in range(layout.width + 1):
        try:
            table = _arrow_table(pyarrow, data, layout, texts, lines_in_cells)
        except pyarrow.ArrowInvalid as error:  # a ragged row, say: the standard library names its line or leaves it out
            odd = _COLUMN.search(str(error))  # or a column that only began with numbers
            if odd is None or int(odd[1]) in texts:
                return None
            texts.add(int(odd[1]))
            continue
        columns = [_numbers(c) if i not in texts else _coded(c) for i, c in enumerate(table.columns)]
        odd_numbers = {i for i, c in enumerate(columns) if c is None}  # nan(1) is no number here
        if not odd_numbers:
            break
        texts |= odd_numbers
    else:
        return None
    limit = csv.field_size_limit()
    if any(len(cell) > limit for c in columns if isinstance(c, tuple) for cell in c[0]):
        return None
    return Body(names if layout.header else None, [c for c in columns if c is not None], [])


_COLUMN = re.compile(r"column #(\d+)")


def _arrow_table(pyarrow: Any, data: bytes, layout: Layout, texts: set[int], lines_in_cells: bool) -> Any:
    """Columns of float64 (null where missing) and of dictionaries of texts."""
    arrow, places = pyarrow.csv, default_names(layout.width)
    coded = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    types = {place: coded if i in texts else pyarrow.float64() for i, place in enumerate(places)}
    return arrow.read_csv(
        pyarrow.BufferReader(data.lstrip(b"\r\n") if data[:1] in b"\r\n" else data),
        read_options=arrow.ReadOptions(column_names=places, skip_rows_after_names=int(layout.header)),
        parse_options=arrow.ParseOptions(delimiter=layout.delimiter, newlines_in_values=lines_in_cells),
        convert_options=arrow.ConvertOptions(column_types=types, null_values=sorted(MISSING), strings_can_be_null=False),
    )


def _numbers(column: Any) -> npt.NDArray[np.float64] | None:
    """NaN where missing; None if the text itself had another NaN."""
    values = np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in column.chunks] or [np.empty(0)])
    return values if np.count_nonzero(np.isnan(values)) == column.null_count else None


def _coded(column: Any) -> tuple[list[str], npt.NDArray[Any]]:
    codes = column.unify_dictionaries().combine_chunks()
    codes = codes.chunk(0) if hasattr(codes, "chunk") else codes
    return codes.dictionary.to_pylist(), codes.indices.to_numpy()


def _plain_quotes(data: bytes, delimiter: str) -> npt.NDArray[np.int64] | None:
    """Where quotes stand, if only where RFC 4180 has them, so that lenient parsers have nothing to differ about.

    Taken in pairs, each opening one follows a delimiter, a line end or (a doubled quote) the closing one before it;
    each closing one is followed by one of these.
    """
    end = data.rfind(b'"')
    if end < 0:
        return np.empty(0, np.int64)
    letters = np.frombuffer(data, np.uint8)[: end + 2]
    quotes = np.flatnonzero(letters == ord('"'))
    if len(quotes) % 2:
        return None
    is_edge = np.zeros(256, np.bool_)
    is_edge[np.frombuffer(f'{delimiter}\r\n"'.encode(), np.uint8)] = True
    before, after = quotes[::2] - 1, quotes[1::2] + 1
    before, after = before[int(before[0] < 0) :], after[: len(after) - int(after[-1] == len(letters))]
    return quotes if is_edge[letters[before]].all() and is_edge[letters[after]].all() else None


def _lines_inside(data: bytes, quotes: npt.NDArray[np.int64]) -> bool:
    """Whether a line ends between two quotes, so that the text cannot be cut at any line end."""
    if not len(quotes):
        return False
    if b"\r" in data:
        return True
    ends = np.flatnonzero(np.frombuffer(data, np.uint8)[: quotes[-1]] == ord("\n"))
    return bool((np.searchsorted(quotes, ends) % 2).any())


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
