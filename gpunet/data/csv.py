"""Tables from and to CSV files, by the standard library or, on large regular files, by pyarrow with the same result."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, Literal, TextIO

import numpy as np
import numpy.typing as npt

from ..devices import cpu
from ..errors import ConfigError, DataError, FormatError, ShapeError
from . import files
from .arrow import codes, has_longer, numbers, on_all_cores
from .files import check_fits, existing, is_packed, read_bytes
from .sniff import SAMPLE_BYTES, Layout, find_layout, first_lines, is_blank, records
from .table import MISSING, Column, Table, default_names, texts_of
from .texts import Coded, Texts, encode

BOM = b"\xef\xbb\xbf"
BLOCK, HEAD = 1 << 20, 1 << 16
ARROW_PAYS_FROM = 1 << 20  # bytes; below it, importing pyarrow takes longer than the standard library needs


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
    whole = read_bytes(place) if is_packed(place) or place.stat().st_size < ARROW_PAYS_FROM else None
    size = place.stat().st_size if whole is None else len(whole)
    found = None
    if engine == "pyarrow" or (engine == "auto" and size >= ARROW_PAYS_FROM):
        with _named(path), open(place, "rb") if whole is None else io.BytesIO(whole) as file:
            found = by_arrow(file, size, header=header, delimiter=delimiter, required=engine == "pyarrow")
    if found is None:
        check_fits(path, 0, 0, at_least=2 * size)
        data = _text(place, read_bytes(place) if whole is None else whole)
        with _named(path):
            found = by_csv(data, header=header, delimiter=delimiter, skip=on_bad_row == "skip")
    with _named(path):
        return _table(*found)


@contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors begin with the file's name."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{path}{' ' if str(error).startswith('line ') else ': '}{error}") from error


def _check_settings(delimiter: str | None, on_bad_row: str, engine: str) -> None:
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '" \r\n'):
        raise ConfigError(f"delimiter {delimiter!r}: one character is expected, and no quote, space or line end")
    if on_bad_row not in ("error", "skip"):
        raise ConfigError(f'on_bad_row {on_bad_row!r}: "error" or "skip" is expected')
    if engine not in ("auto", "csv", "pyarrow"):
        raise ConfigError(f'engine {engine!r}: "auto", "csv" or "pyarrow" is expected')


def _text(path: Path, data: bytes) -> bytes:
    """The file's content, known to be UTF-8 text; without the byte order mark."""
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


def _table(layout: Layout, body: Body) -> Table:
    if not body.rows:
        raise DataError(f"line {layout.line:,}: the header, and no row after it")
    names, note = _names(body.names, layout.width)
    columns = (_column(name, found) for name, found in zip(names, body.columns, strict=True))
    return Table(tuple(columns), (*body.notes, *note), str(layout))


def _check_fits(file: BinaryIO, size: int, width: int) -> None:
    """Refuses a text whose table would not fit. Its lines are counted only where it could: a cell has a byte at least."""
    free, lines = files.available_memory(), 0
    if free is None or 12 * size <= free:
        return
    while block := file.read(BLOCK):
        lines += block.count(b"\n") + block.count(b"\r")
    file.seek(0)
    check_fits("the table", lines, width, at_least=2 * size)


def _column(name: str, found: Any) -> Column:
    if isinstance(found, tuple):
        return Column.from_codes(name, *found)
    return Column(name, "text" if isinstance(found, Texts) else "numeric", found)


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

    A column is (distinct cells, code of each row); or float64 where every cell is a number or missing, Texts where one
    surely is neither.
    """

    names: list[str] | None
    columns: list[Any]
    notes: list[str]

    @property
    def rows(self) -> int:
        first = self.columns[0]
        return len(first[1] if isinstance(first, tuple) else first)


def by_csv(
    data: bytes, *, header: bool | None = None, delimiter: str | None = None, skip: bool = False
) -> tuple[Layout, Body]:
    """The rows by the standard library, which defines what the text means."""
    layout = find_layout(data, header=header, delimiter=delimiter)
    if layout is None:
        next(records(data, delimiter or ","), None)  # says so if that is because of a quote that is never closed
        raise DataError("there is no row in it")
    _check_fits(io.BytesIO(data), len(data), layout.width)
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
    return layout, Body(names, columns, [_skipped(bad, layout)] if bad else [])


def _ragged(line: int, fields: int, layout: Layout) -> str:
    got = f"{fields:,} field" + "s" * (fields != 1)
    return (
        f"line {line:,}: {got}, expected {layout.width:,} (as in line {layout.line:,}); "
        '--on-bad-row skip (on_bad_row="skip") leaves such rows out'
    )


def _skipped(lines: list[int], layout: Layout) -> str:
    listed = ", ".join(f"{line:,}" for line in lines[:5]) + (", ..." if len(lines) > 5 else "")
    return f"{len(lines):,} row{'s' * (len(lines) > 1)} not of {layout.width:,} fields left out: line {listed}"


def by_arrow(
    file: BinaryIO, size: int, *, header: bool | None = None, delimiter: str | None = None, required: bool = False
) -> tuple[Layout, Body] | None:
    """The same by pyarrow; None where it is not installed, or where the text is not surely the same to both."""
    try:
        import pyarrow
        import pyarrow.csv
    except ImportError as error:
        if required:
            raise ConfigError('engine "pyarrow" is not installed: pip install "gpunet[tabular]"') from error
        return None
    head, whole = _head(file)
    text = head.removeprefix(BOM)
    if not _is_text(text, whole):
        return None
    layout = find_layout(text, header=header, delimiter=delimiter, whole=whole)
    if layout is None or not layout.delimiter.isascii():
        return None
    _, names = next(records(text, layout.delimiter))
    if len(names) != layout.width:
        return None
    file.seek(0)
    _check_fits(file, size, layout.width)
    rows = text.lstrip(b"\r\n")  # pyarrow would take a blank line for the header
    if rows.startswith(BOM):  # a second one is text, and pyarrow would leave it out
        return None
    columns = _arrow_columns(pyarrow, file, len(head) - len(rows), layout)
    return None if columns is None else (layout, Body(names if layout.header else None, columns, []))


def _head(file: BinaryIO) -> tuple[bytes, bool]:
    """The beginning of the text, with the lines that tell its layout; and whether it is all of it.

    Mostly a few pages have these lines, and the rest of what could be needed is not read twice.
    """
    head, more = b"", file.read(HEAD)
    while more:
        head += more
        if len(head) > SAMPLE_BYTES or first_lines(head) is not head:
            return head, False
        more = file.read(len(head))
    return head, True


def _is_text(head: bytes, whole: bool) -> bool:
    """Whether this could be the beginning of a UTF-8 text, which may end inside a character unless it is the whole."""
    with suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(b"" if head.isascii() else head, final=whole)
        return b"\0" not in head
    return False


def _arrow_columns(pyarrow: Any, file: BinaryIO, begin: int, layout: Layout) -> list[Any] | None:
    """Numbers where the first lines have numbers, unless the column only began with them: then it is read again.

    Where they have a text, all of the column is text, and not looked at before somebody asks for it.
    """
    texts, lines_in_cells = set(range(layout.width)) - layout.numeric, False
    for _ in range(layout.width + 2):
        file.seek(begin)
        watched = _Watched(file, layout.delimiter, lines_in_cells=lines_in_cells)
        try:
            table = _arrow_table(pyarrow, watched, layout, texts)
            watched.finish()
        except _LinesInCells:
            lines_in_cells = True
            continue
        except (_Odd, OSError):
            return None
        except pyarrow.ArrowInvalid as error:  # a ragged row, say: the standard library names its line or leaves it out
            odd = _COLUMN.search(str(error))
            if odd is None or int(odd[1]) in texts:
                return None
            texts.add(int(odd[1]))
            continue
        if any(has_longer(table.column(i), csv.field_size_limit()) for i in texts):
            return None
        places = [i for i in range(layout.width) if i not in texts]
        found = dict(zip(places, on_all_cores(_numbers, [table.column(i) for i in places]), strict=True))
        odd_numbers = {i for i, (_, is_odd) in found.items() if is_odd}
        if not odd_numbers:
            return [
                found[i][0] if i in found else codes(c) if i in layout.numeric else Texts(len(c), partial(_texts, c))
                for i, c in enumerate(table.columns)
            ]
        texts |= odd_numbers
    return None


_COLUMN = re.compile(r"column #(\d+)")


def _arrow_table(pyarrow: Any, watched: _Watched, layout: Layout, texts: set[int]) -> Any:
    """Columns of float64 (null where missing) and of texts."""
    arrow, places = pyarrow.csv, default_names(layout.width)
    types = {place: pyarrow.string() if i in texts else pyarrow.float64() for i, place in enumerate(places)}
    return arrow.read_csv(
        pyarrow.PythonFile(watched, mode="r"),
        read_options=arrow.ReadOptions(column_names=places, skip_rows_after_names=int(layout.header), block_size=BLOCK),
        parse_options=arrow.ParseOptions(delimiter=layout.delimiter, newlines_in_values=watched.lines_in_cells),
        convert_options=arrow.ConvertOptions(
            column_types=types, null_values=sorted(MISSING), strings_can_be_null=False
        ),
    )


def _numbers(column: Any) -> tuple[npt.NDArray[np.float64], bool]:
    """float64, NaN where missing; and whether there is another NaN: nan(1) is no number here."""
    found = numbers(column)
    nulls = column.null_count
    return found, bool(np.count_nonzero(np.isnan(found)) > nulls if nulls else np.isnan(found.min(initial=0)))


def _texts(column: Any) -> Coded:
    distinct, found = codes(column)
    return Texts.of_codes(texts_of(distinct), found).coded


class _Odd(Exception):
    """The text is not surely the same to pyarrow and to the standard library."""


class _LinesInCells(Exception):
    """A line ends between two quotes, so that the text cannot be cut at any line end."""


class _Watched:
    """The file that pyarrow reads, each block looked at as it passes: a second pass over the text would cost as much again.

    Odd is a zero byte, and a quote that is not where RFC 4180 has it, so that lenient parsers have nothing to differ
    about: taken in pairs, each opening one follows a delimiter, a line end or (a doubled quote) the closing one before
    it; each closing one is followed by one of these. 64 bytes are looked at together, a bit each.
    """

    closed = False

    def __init__(self, file: BinaryIO, delimiter: str, *, lines_in_cells: bool) -> None:
        self.file, self.delimiter, self.lines_in_cells = file, ord(delimiter), lines_in_cells
        self.rest = b""  # what is not looked at yet, for its last byte's next is not known
        self.inside, self.after_edge = False, True  # of the byte before `rest`

    def read(self, size: int = -1) -> bytes:
        block = self.file.read(size)
        if b"\0" in block:
            raise _Odd
        if b'"' not in block and b'"' not in self.rest and not self.inside:
            self.rest = block[-1:] or self.rest
        else:
            self._look(self.rest + block)
        return block

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """The file stays open, for it may be read again."""

    def finish(self) -> None:
        if self.file.read(1):
            raise _Odd  # pyarrow has not read it all
        if b'"' in self.rest or self.inside:
            self._look(self.rest + b"\n" * 65)
            if self.inside:
                raise _Odd

    def _look(self, text: bytes) -> None:
        look = _quotes if cpu._native is None else cpu._native.quotes
        self.inside, self.after_edge, odd, line_ends = look(text, self.delimiter, self.inside, self.after_edge)
        self.rest = text[_end(text) :]
        if odd:
            raise _Odd
        if line_ends and not self.lines_in_cells:
            raise _LinesInCells


ONE, LAST = np.uint64(1), np.uint64(63)


def _end(text: bytes) -> int:
    """Of what is looked at together: whole pieces of 64 bytes, and at least one byte less than all, for the next one counts."""
    return max(len(text) - 1, 0) // 64 * 64


def _quotes(text: bytes, delimiter: int, inside: bool, after_edge: bool) -> tuple[bool, bool, bool, bool]:
    """Of text up to `_end`: whether it ends inside quotes, after an edge; whether a quote is odd, a line ends inside."""
    end = _end(text)
    if not end:
        return inside, after_edge, False, False
    letters = np.frombuffer(text, np.uint8, end)
    quotes, lines = _bits(letters == ord('"')), _bits(letters == ord("\n")) | _bits(letters == ord("\r"))
    edges = quotes | lines | _bits(letters == delimiter)
    within = quotes.copy()  # after each byte, by the number of quotes so far: odd or even
    for step in (1, 2, 4, 8, 16, 32):
        within ^= within << np.uint64(step)
    so_far = np.bitwise_xor.accumulate(np.append(np.uint64(inside), within >> LAST))
    within ^= np.uint64(0) - so_far[:-1]
    before = edges << ONE | np.append(np.uint64(after_edge), edges[:-1] >> LAST)
    is_next = np.uint64(text[end] in (ord('"'), ord("\n"), ord("\r"), delimiter))
    after = edges >> ONE | np.append(edges[1:] << LAST, is_next << LAST)
    odd = (quotes & within & ~before) | (quotes & ~within & ~after)
    return bool(so_far[-1]), bool(edges[-1] >> LAST), bool(odd.any()), bool((lines & within).any())


def _bits(letters: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    return np.packbits(letters, bitorder="little").view("<u8")


def write_csv(target: str | os.PathLike[str] | TextIO, names: Sequence[str], columns: Sequence[npt.ArrayLike]) -> None:
    """Columns of equal length as CSV, to an open text stream or to a file, which appears whole or not at all.

    Numbers have as many digits as their type needs to come back the same; NaN and None are empty.

    Raises:
        OSError: the file cannot be written; one that was there before stays as it was.
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
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(place)) from error
    finally:
        beside.unlink(missing_ok=True)
