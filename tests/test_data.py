"""From a file to arrays or a typed table: every reader, the typing rule, splits, toy sets and the digits."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunet import rng
from gpunet.data import (
    Column,
    Dataset,
    Table,
    circles,
    digits,
    fingerprint,
    moons,
    read,
    read_cifar,
    read_csv,
    read_idx,
    read_mnist,
    read_npy,
    read_npz,
    spirals,
    split,
    write_csv,
    xor,
)
from gpunet.data import csv as csv_module
from gpunet.devices import cpu
from gpunet.errors import ConfigError, DataError, DTypeError, FormatError, ShapeError

HAS_PYARROW = csv_module.by_arrow(io.BytesIO(b"a,b\n1,2\n"), 8) is not None
needs_pyarrow = pytest.mark.skipif(not HAS_PYARROW, reason="pyarrow (gpunet[tabular]) is not installed")


def cells(column: Column) -> list[object]:
    return [None if gone else value for value, gone in zip(column.values.tolist(), column.missing, strict=True)]


def contents(table: Table) -> dict[str, tuple[str, list[object]]]:
    return {column.name: (column.kind, cells(column)) for column in table.columns}


def put(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- the typing rule -------------------------------------------------------------------------------------------------

# fmt: off
NUMBERS = {
    "1": 1.0, "-0.5": -0.5, "+.5": 0.5, "5.": 5.0, "1e-3": 1e-3, "1E5": 1e5, " 7\t": 7.0, "007": 7.0, "-0": -0.0,
    "1e400": math.inf, "-1e400": -math.inf, "1e-400": 0.0, "inf": math.inf, "-Infinity": -math.inf, "+INF": math.inf,
    "123456789012345678901234567890": 123456789012345678901234567890.0,
}
TEXTS = ["nil", "1_000", "1,000", "0x1f", "1d5", "50%", "True", "1 2", "--1",
         "e5", ".", "+", "infin", "1e", "\u0661\u0662", "Nan?"]
MISSING = ["", " ", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", " ? "]
# fmt: on


@pytest.mark.parametrize(("cell", "value"), NUMBERS.items())
def test_numbers(cell: str, value: float) -> None:
    column = Column.from_strings("c", ["1", cell, "?"])
    assert column.kind == "numeric"
    assert column.values.dtype == np.float64
    assert column.values[1] == value
    assert math.copysign(1, column.values[1]) == math.copysign(1, value)
    assert column.missing.tolist() == [False, False, True]


@pytest.mark.parametrize("cell", TEXTS)
def test_texts(cell: str) -> None:
    assert contents(Table((Column.from_strings("c", ["1", f" {cell} ", ""]),))) == {"c": ("text", ["1", cell, None])}


def test_missing_cells() -> None:
    for cell in MISSING:
        assert cells(Column.from_strings("c", [cell, "2.5"])) == [None, 2.5]
        assert cells(Column.from_strings("c", [cell, "word"])) == [None, "word"]
    all_missing = Column.from_strings("c", MISSING)
    assert all_missing.kind == "numeric"
    assert np.isnan(all_missing.values).all()
    assert Column.from_strings("c", []).values.shape == (0,)


@given(st.lists(st.floats() | st.none()))
def test_any_float_comes_back(values: list[float | None]) -> None:
    column = Column.from_strings("c", ["" if v is None else repr(v) for v in values])
    expected = np.array([math.nan if v is None else v for v in values], np.float64)
    assert column.kind == "numeric"
    assert np.array_equal(column.values, expected, equal_nan=True)


def test_values_of_python_and_numpy() -> None:
    assert contents(
        Table.from_frame(
            {
                "ints": [1, 2, None],
                "floats": np.array([1.5, np.nan, 3], np.float32),
                "bools": [True, False, None],
                "strings": ["1", " ?", "2.5"],
                "mixed": [1, "a", None],
                "dates": np.array(["2020-01-02", "NaT", "2021-01-01"], "datetime64[D]"),
                "big": [10**400, 1, 2],
            }
        )
    ) == {
        "ints": ("numeric", [1.0, 2.0, None]),
        "floats": ("numeric", [1.5, None, 3.0]),
        "bools": ("text", ["True", "False", None]),
        "strings": ("numeric", [1.0, None, 2.5]),
        "mixed": ("text", ["1", "a", None]),
        "dates": ("text", ["2020-01-02", None, "2021-01-01"]),
        "big": ("numeric", [math.inf, 1.0, 2.0]),
    }
    for bad in ([[1], [2]], [b"x"], [1j], np.array([1j]), np.zeros(2, "V4"), "text", 3):
        with pytest.raises(DataError, match='column "c"'):
            Table.from_frame({"c": bad})
    with pytest.raises(ShapeError, match="1-D"):
        Table.from_frame({"c": np.zeros((2, 2))})


# --- the table -------------------------------------------------------------------------------------------------------


def test_table() -> None:
    table = Table.from_array([[1, 2], [3, 4], [5, 6]], names=["price", "size"])
    assert table.names == ["price", "size"]
    assert table.rows == 3
    assert table["size"].values.tolist() == [2, 4, 6]
    assert table.take(np.array([2, 0]))["price"].values.tolist() == [5, 1]
    assert table.take(table["size"].values > 2).rows == 2
    assert table.drop("price").names == ["size"]
    assert Table.from_array(np.eye(2, dtype=bool)).names == ["column_1", "column_2"]
    assert Table.from_array(np.array([["a", "1"], ["b", "?"]], object))["column_2"].kind == "numeric"
    with pytest.raises(DataError, match='no column "pricee". Did you mean "price"?'):
        table["pricee"]
    with pytest.raises(DataError, match='no column "x"'):
        table.drop("x")
    with pytest.raises(DataError, match='given twice: "price"$'):
        Table.from_columns([*table.columns, table["price"]])
    with pytest.raises(ShapeError, match='"b" has 2 rows, "price" has 3'):
        Table.from_columns([table["price"], Column("b", "numeric", np.zeros(2))])
    with pytest.raises(ShapeError, match=r"2-D array.*\(3,\)"):
        Table.from_array([1, 2, 3])
    with pytest.raises(ShapeError, match="1 names for 2 columns"):
        Table.from_array(np.zeros((1, 2)), names=["a"])
    with pytest.raises(DTypeError, match='column "a": kind .numeric.*float32'):
        Column("a", "numeric", np.zeros(2, np.float32))


def test_frames_give_the_table_that_their_csv_gives(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas (gpunet[tabular]) is not installed")
    text = "n,i,t,b,d,blank\n1.5,1,x,True,2020-01-02,\n,,,,,\n2.5,3,NA,False,2021-03-04,\n"
    path = put(tmp_path, text)
    expected = contents(read_csv(path))
    assert contents(Table.from_frame(pandas.read_csv(path))) == expected
    assert contents(Table.from_frame(pandas.read_csv(path).convert_dtypes())) == expected
    assert contents(Table.from_frame(pandas.read_csv(path, dtype=str))) == expected
    pyarrow_csv = pytest.importorskip("pyarrow.csv", reason="pyarrow (gpunet[tabular]) is not installed")
    arrow = pyarrow_csv.read_csv(path, convert_options=pyarrow_csv.ConvertOptions(strings_can_be_null=True))
    assert {name: kind for name, (kind, _) in contents(Table.from_frame(arrow)).items()} == {
        name: kind for name, (kind, _) in expected.items()
    }
    assert contents(Table.from_frame(arrow))["n"] == expected["n"]


def test_categories_are_text_and_odd_frames_are_refused() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas (gpunet[tabular]) is not installed")
    frame = pandas.DataFrame({"zip": pandas.Categorical(["1", None, "2"]), 7: pandas.array([1, None, 3], "Int64")})
    assert contents(Table.from_frame(frame)) == {"zip": ("text", ["1", None, "2"]), "7": ("numeric", [1.0, None, 3.0])}
    with pytest.raises(DataError, match="Series"):
        Table.from_frame(frame["zip"])
    with pytest.raises(DataError, match="unique column names"):
        Table.from_frame(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(DataError, match="a table of int"):
        Table.from_frame(3)


def test_a_frame_without_narwhals_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(DataError, match=r'pip install "gpunet\[tabular\]"'):
        Table.from_frame(object())
    assert Table.from_frame({"a": [1.0]}).rows == 1


# --- CSV -------------------------------------------------------------------------------------------------------------

# fmt: off
ODD_FILES = {  # text -> the columns that it holds
    "plain":              ("a,b\n1,x\n2,y\n",                        {"a": [1, 2], "b": ["x", "y"]}),
    "crlf, no last end":  ("a,b\r\n1,x\r\n2,y",                      {"a": [1, 2], "b": ["x", "y"]}),
    "cr only":            ("a,b\r1,x\r2,y\r",                        {"a": [1, 2], "b": ["x", "y"]}),
    "byte order mark":    ("\ufeffa,b\n1,x\n",                       {"a": [1], "b": ["x"]}),
    "mark and quotes":    ("\ufeff\"a\",b\n1,x\n",                   {"a": [1], "b": ["x"]}),
    "two marks":          ("\ufeff\n\ufeffa,b\n1,x\n",             {"\ufeffa": [1], "b": ["x"]}),
    "semicolons":         ("a;b\n1,5;x\n2,5;y\n",                    {"a": ["1,5", "2,5"], "b": ["x", "y"]}),
    "tabs":               ("a\tb\n1\tx, y\n",                        {"a": [1], "b": ["x, y"]}),
    "bars":               ("a|b\n1|x\n",                             {"a": [1], "b": ["x"]}),
    "quoted line ends":   ('a,b\n1,"x\ny"\n2,"p\r\nq"\n',            {"a": [1, 2], "b": ["x\ny", "p\r\nq"]}),
    "quoted delimiters":  ('a,b\n1,"x,y"\n2,"""q"""\n',              {"a": [1, 2], "b": ["x,y", '"q"']}),
    "quoted numbers":     ('"a","b"\n"1","?"\n"2","3"\n',            {"a": [1, 2], "b": [None, 3]}),
    "space before quote": ('a, b\n1, "x, y"\n',                      {"a": [1], "b": ["x, y"]}),
    "space after quote":  ('a,b\n1,"x" \n2,y\n',                     {"a": [1, 2], "b": ["x", "y"]}),
    "a stray quote":      ('a,b\n1,5" pipe\n2,6" pipe\n',            {"a": [1, 2], "b": ['5" pipe', '6" pipe']}),
    "after a quote":      ('a,b\n1,"x"y\n',                          {"a": [1], "b": ["xy"]}),
    "blank lines":        ("\n\na,b\n\n1,x\n   \n2,y\n\n\n",         {"a": [1, 2], "b": ["x", "y"]}),
    "one column":         ("a\n1\n2\n",                              {"a": [1, 2]}),
    "one text column":    ("word\nx\ny\n",                           {"word": ["x", "y"]}),
    "quoted blanks":      ('a\n1\n""\n3\n',                          {"a": [1, None, 3]}),
    "no header":          ("5.1,x\n4.9,y\n",                         {"column_1": [5.1, 4.9], "column_2": ["x", "y"]}),
    "no header, texts":   ("p,x\ne,x\np,y\n", {"column_1": ["p", "e", "p"], "column_2": ["x", "x", "y"]}),
    "all texts":          ("kind,shape\np,x\ne,x\n",                 {"kind": ["p", "e"], "shape": ["x", "x"]}),
    "numbers as names":   ("0,1,target\n.5,.1,1\n.2,.3,0\n",         {"0": [.5, .2], "1": [.1, .3], "target": [1, 0]}),
    "a nameless column":  (",a\n1,x\n2,y\n",                         {"column_1": [1, 2], "a": ["x", "y"]}),
    "a column of blanks": ("a,b\n1,\n2,?\n",                         {"a": [1, 2], "b": [None, None]}),
    "one row, no header": ("1,2,x\n", {"column_1": [1], "column_2": [2], "column_3": ["x"]}),
    "accents":            ("naïve,Größe\né,1\n日本,2\n",               {"naïve": ["é", "日本"], "Größe": [1, 2]}),
    "strange line ends":  ("a,b\n1,x\x0by\n2,\x1c\u2028\x85z\n",     {"a": [1, 2], "b": ["x\x0by", "z"]}),
    "no-break spaces":    ("a,b\n1,\u00a0x\n2\u00a0,y\n",            {"a": [1, 2], "b": ["x", "y"]}),
}
# fmt: on


@pytest.mark.parametrize("engine", ["csv", pytest.param("pyarrow", marks=needs_pyarrow)])
@pytest.mark.parametrize("case", ODD_FILES)
def test_odd_files(tmp_path: Path, case: str, engine: str) -> None:
    text, expected = ODD_FILES[case]
    table = read_csv(put(tmp_path, text), engine=engine)
    assert {column.name: cells(column) for column in table.columns} == expected


@needs_pyarrow
def test_pyarrow_reads_regular_files_and_leaves_odd_ones_alone() -> None:
    def taken(text: str) -> bool:
        return csv_module.by_arrow(io.BytesIO(text.encode()), len(text)) is not None

    regular = [
        "plain",
        "crlf, no last end",
        "cr only",
        "semicolons",
        "quoted line ends",
        "quoted delimiters",
        "accents",
    ]
    irregular = ["space before quote", "space after quote", "a stray quote", "after a quote"]
    assert {case: taken(ODD_FILES[case][0]) for case in regular + irregular} == {
        **dict.fromkeys(regular, True),
        **dict.fromkeys(irregular, False),
    }
    assert not taken("a,b\n1,2\n3\n4,5\n")


def outcome(path: Path, engine: str, **settings: object) -> object:
    try:
        table = read_csv(path, engine=engine, **settings)
    except DataError as error:
        return type(error), str(error)
    return contents(table), table.notes


@needs_pyarrow
@given(st.text(alphabet='ab1,;"\n\r \t.?|é', max_size=60))
def test_both_engines_give_the_same_whatever_the_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = put(tmp_path_factory.getbasetemp(), text, "same.csv")
    assert outcome(path, "pyarrow") == outcome(path, "csv")
    assert outcome(path, "pyarrow", header=True, on_bad_row="skip") == outcome(
        path, "csv", header=True, on_bad_row="skip"
    )


@pytest.mark.skipif(cpu._native is None, reason="gpunet._cpu is not built")
@given(st.text('",\n\rx', max_size=200), st.booleans(), st.booleans(), st.sampled_from(',;"\n'))
def test_the_quotes_are_looked_at_alike_by_both(text: str, inside: bool, after_edge: bool, delimiter: str) -> None:
    given = (text.encode(), ord(delimiter), inside, after_edge)
    assert cpu._native.quotes(*given) == csv_module._quotes(*given)


@needs_pyarrow
@given(st.lists(st.lists(st.text(max_size=5), min_size=3, max_size=3), min_size=1, max_size=8), st.booleans())
def test_both_engines_agree_on_quoted_tables(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], header: bool
) -> None:
    lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    data = "\n".join(lines).encode("utf-8", "replace")
    path = put(tmp_path_factory.getbasetemp(), data, "same.csv")
    result = outcome(path, "csv", header=header, delimiter=",")
    assert outcome(path, "pyarrow", header=header, delimiter=",") == result
    if b"\0" not in data and not header:
        assert len(result[0]) == 3
        assert len(result[0]["column_1"][1]) == len(rows)


def quotes_of(text: str) -> tuple[bool, bool]:
    """(whether a quote stands where RFC 4180 has none, whether a line ends inside quotes), one character after the other."""
    around, inside, odd, lines = f"\n{text}\n", False, False, False
    for i, letter in enumerate(text, start=1):
        if letter == '"':
            inside = not inside
            odd |= around[i - 1 if inside else i + 1] not in '",\r\n'
        lines |= inside and letter in "\r\n"
    return odd or inside, lines


PIECES = st.sampled_from(['"', '""', ',', '\n', '\r\n', ',"', '",', '"\n', 'ab', ' ', 'x' * 61, '"' + 'y' * 62 + '"', '\n"z'])


@given(st.lists(PIECES, max_size=40).map("".join), st.integers(1, 200))
def test_quotes_are_looked_at_block_by_block(text: str, size: int) -> None:
    def passes(*, lines_in_cells: bool) -> bool:
        watched = csv_module._Watched(io.BytesIO(text.encode()), ",", lines_in_cells=lines_in_cells)
        try:
            assert b"".join(iter(lambda: watched.read(size), b"")) == text.encode()
            watched.finish()
        except (csv_module._Odd, csv_module._LinesInCells):
            return False
        return True

    odd, lines = quotes_of(text)
    assert passes(lines_in_cells=True) is not odd
    assert passes(lines_in_cells=False) is not (odd or lines)


@needs_pyarrow
@pytest.mark.parametrize("last", ['x,"y\nz"', "x,y\0", "x,é", 'x,"y', "7,y", 'x,y"', "x"])
def test_both_engines_agree_where_only_the_end_is_odd(tmp_path: Path, last: str) -> None:
    """What pyarrow has read by then, some blocks, is given up."""
    rows = '1,"a, b"\n' * 300_000
    path = put(tmp_path, f'n,"t"\n{rows}{last}\n'.encode("latin-1"))
    assert path.stat().st_size > csv_module.ARROW_PAYS_FROM

    def found(engine: str) -> object:
        try:
            table = read_csv(path, engine=engine)
        except DataError as error:
            return str(error)
        return [(c.name, c.kind, set(c.values[:-1]), c.values[-1]) for c in table.columns]

    assert found("auto") == found("csv")


WIDE = ",".join(f"{i}.5" for i in range(400)) + ",é\n"


@needs_pyarrow
@pytest.mark.parametrize(
    "text",
    [
        WIDE * 300,
        ",".join(f"c{i}" for i in range(401)) + "\n" + WIDE * 120,
        "\ufeff" + WIDE.replace(",", ";") * 120,
        "\r\n" * 99 + WIDE * 120,
        "\n" * 40_000 + WIDE * 120,
        '"' + "line\r\n" * 150 + '";"b"\n' + "u;v\n" * 19_000,
        '"' + "line\n" * 20_000 + '",b\n' + "u,v\n" * 9,
        WIDE * 40 + "\0\n" + WIDE * 200,
        (WIDE * 90).encode() + b"\xff\n" + WIDE.encode() * 90,
        "a,b\n" + "1,2\r" * 120 + "\n" + "3,x\r\n" * 14_000,
    ],
    ids=["wide", "names", "bom", "blank lines", "many blank lines", "long cell", "longer", "zero", "latin", "line ends"],
)
def test_both_engines_agree_where_the_first_lines_are_long(tmp_path: Path, text: str | bytes) -> None:
    """The layout is told by 100 lines, which then do not lie in the piece that is read first."""
    path = put(tmp_path, text)
    assert path.stat().st_size > csv_module.HEAD
    assert outcome(path, "pyarrow") == outcome(path, "csv")


def test_a_first_cell_of_more_lines_than_tell_the_layout(tmp_path: Path) -> None:
    cell = "line\n" * 150
    assert read_csv(put(tmp_path, f'1,"{cell}"\n2,b\n'), header=False)["column_2"].values[0] == cell.strip()


@needs_pyarrow
def test_both_engines_agree_on_a_large_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30_000, 4))
    kinds = np.array(["red", "green, dark", 'so "blue"', None], object)[np.arange(30_000) % 4]
    path = tmp_path / "big.csv.gz"
    with gzip.open(path, "wt", compresslevel=1) as stream:
        write_csv(stream, ["a", "b", "c", "d", "kind"], [*values.T, kinds])
    first, second = read_csv(path, engine="csv"), read_csv(path, engine="pyarrow")
    for column, other in zip(first.columns, second.columns, strict=True):
        assert (column.name, column.kind) == (other.name, other.kind)
        assert column.values.tolist() == other.values.tolist()
    assert np.array_equal(np.stack([first[name].values for name in "abcd"], axis=1), values)
    assert first["kind"].values.tolist() == kinds.tolist()


def test_packed_files_by_content_not_by_suffix(tmp_path: Path) -> None:
    text = b"a,b\n1,x\n"
    for name, content in {
        "t.csv.gz": gzip.compress(text),
        "t.csv.bz2": bz2.compress(text),
        "t.csv": gzip.compress(text),
    }.items():
        assert contents(read_csv(put(tmp_path, content, name))) == {"a": ("numeric", [1.0]), "b": ("text", ["x"])}
    twice = gzip.compress(b"a,b\n1,x\n") + gzip.compress(b"2,y\n")
    assert read_csv(put(tmp_path, twice, "members.csv.gz")).rows == 2


def test_settings(tmp_path: Path) -> None:
    path = put(tmp_path, "1,2\n3,4\n")
    assert read_csv(path).rows == 2
    assert read_csv(path, header=True).names == ["1", "2"]
    assert read_csv(put(tmp_path, "a,b\n1,2\n"), header=False)["column_1"].values.tolist() == ["a", "1"]
    assert read_csv(put(tmp_path, "a^b\n1^2\n"), delimiter="^").names == ["a", "b"]
    for bad in (
        {"delimiter": ",,"},
        {"delimiter": " "},
        {"delimiter": '"'},
        {"on_bad_row": "warn"},
        {"engine": "rust"},
    ):
        with pytest.raises(ConfigError, match=f"^{next(iter(bad))} "):
            read_csv(path, **bad)


def test_notes(tmp_path: Path) -> None:
    assert read_csv(put(tmp_path, "a,b\n1,2\n")).notes == ()
    assert read_csv(put(tmp_path, "1,2\n")).notes == ("no header: the columns are called column_1 ... column_2",)
    assert read_csv(put(tmp_path, ",b,\n1,2,3\n")).notes == ("columns without a name are called column_1, column_3",)


def test_ragged_rows(tmp_path: Path) -> None:
    rows = ["a,b,c", *(f"{i},x,y" for i in range(2000))]
    rows[1203] += ",more"
    path = put(tmp_path, "\n".join(rows))
    for engine in ["csv", *["pyarrow"] * HAS_PYARROW]:
        with pytest.raises(DataError, match=r"t\.csv line 1,204: 4 fields, expected 3 \(as in line 1\)"):
            read_csv(path, engine=engine)
    table = read_csv(path, on_bad_row="skip")
    assert table.rows == 1999
    assert table.notes == ("1 row not of 3 fields left out: line 1,204",)
    with pytest.raises(DataError, match=r"line 1: 1 field, expected 2 \(as in line 2\)"):  # as adult.test begins
        read_csv(put(tmp_path, "|1x3 Cross validator\n1,x\n2,y\n"))
    assert read_csv(put(tmp_path, '|1x3\n"1\n",x\n2,y\n3\n4,z\n'), on_bad_row="skip").notes[0].endswith("line 1, 5")


# fmt: off
BAD_FILES = {
    "empty":         (b"",                               "there is no row in it"),
    "only blanks":   (b"\n\r\n\n",                       "there is no row in it"),
    "only a mark":   (b"\xef\xbb\xbf",                   "there is no row in it"),
    "only a header": (b"a,b,c\n",                        "line 1: the header, and no row after it"),
    "binary junk":   (bytes(range(256)) * 4,             "line 1: a zero byte; this is not a text file"),
    "a zero byte":   (b"a,b\n1,2\n3,\x004\n",            "line 3: a zero byte"),
    "latin-1":       ("a,b\r\n1,é\r\n".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8.*iconv"),
    "half a letter": (b"\xe0",                           "line 1: byte 0xe0 is not UTF-8"),
    "utf-16":        ("a,b\n1,2\n".encode("utf-16"),     "is UTF-16; save it as UTF-8"),
    "an open quote": (b'a,b\n1,2\n3,"4\n5,6\n',          "line 3: a quote is opened in this row and never closed"),
    "all in quotes": (b'"a,b\n1,2\n',                    "line 1: a quote is opened"),
    "a huge field":  (b"a,b\n1,2\n3," + b"x" * 200_000,  "line 3: field larger than field limit"),
    "same names":    (b"a,b,a,b,c\n1,2,3,4,5\n",         'column names given twice: "a", "b"$'),
    "cut gzip":      (gzip.compress(b"a,b\n1,2\n")[:-9], "cut short or damaged"),
    "cut bzip2":     (bz2.compress(b"a,b\n1,2\n")[:-9],  "cut short or damaged"),
    "altered gzip":  (gzip.compress(b"a,b\n1,2\n")[:-8] + b"\1" * 8, "cut short or damaged"),
}
# fmt: on


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path: Path, case: str) -> None:
    content, message = BAD_FILES[case]
    path = put(tmp_path, content)
    for engine in ["csv", *["pyarrow"] * HAS_PYARROW]:
        with pytest.raises(DataError, match=rf"t\.csv.*{message}"):
            read_csv(path, engine=engine)


def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunet.data import files

    monkeypatch.setattr(files, "unpacked_limit", lambda packed: 1_000_000 + 200 * packed)
    path = put(tmp_path, gzip.compress(b"0\n" * 5_000_000), "bomb.csv.gz")
    with pytest.raises(FormatError, match=r"unpacks to more than .* 200 times its size: refused"):
        read_csv(path)


def test_missing_paths(tmp_path: Path) -> None:
    put(tmp_path, "a\n1\n", "sales.csv")
    with pytest.raises(DataError, match=r'sale\.csv: no such file\. Did you mean "sales\.csv"\?'):
        read(tmp_path / "sale.csv")
    with pytest.raises(DataError, match="the folder .*nowhere does not exist"):
        read(tmp_path / "nowhere" / "x.csv")
    with pytest.raises(DataError, match="only local files.*curl -LO https://example.org/t.csv"):
        read("https://example.org/t.csv")
    with pytest.raises(DataError, match="a regular file is expected"):
        read_csv(tmp_path)


def test_write_csv(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    texts = np.array(["x", None, 'a, "b"\r\nc', "é\rè"], object)
    floats, singles = np.array([0.1, np.nan, -np.inf, 1e300]), np.array([0.1, 1e-8, 3, 7], np.float32)
    write_csv(path, ["t", "f", "s", "i"], [texts, floats, singles, np.arange(4)])
    table = read_csv(path)
    assert table["t"].values.tolist() == texts.tolist()
    assert np.array_equal(table["f"].values, floats, equal_nan=True)
    assert np.array_equal(table["s"].values.astype(np.float32), singles)
    assert ",0.1,0.1,0" in path.read_text()
    assert os.listdir(tmp_path) == ["out.csv"]
    stream = io.StringIO()
    write_csv(stream, ["only"], [[None, "x"]])
    assert stream.getvalue() == 'only\n""\nx\n'
    with pytest.raises(ShapeError, match="different lengths"):
        write_csv(path, ["a", "b"], [[1], [1, 2]])
    with pytest.raises(ShapeError, match="1 names for 2 columns"):
        write_csv(path, ["a"], [[1], [2]])
    with pytest.raises(OSError, match="cannot be written"):
        write_csv(tmp_path / "no" / "out.csv", ["a"], [[1]])


def test_a_file_half_written_leaves_the_old_one(tmp_path: Path) -> None:
    class Breaks:
        def __str__(self) -> str:
            raise RuntimeError("in the middle")

    path = put(tmp_path, "old\n1\n")
    with pytest.raises(RuntimeError):
        write_csv(path, ["a"], [np.array(["x", Breaks()], object)])
    assert path.read_text() == "old\n1\n"
    assert os.listdir(tmp_path) == ["t.csv"]


@given(st.lists(st.tuples(st.floats(), st.text(max_size=6)), min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, str]]) -> None:
    numbers = [row[0] for row in rows]
    texts = ["x" + row[1].encode("utf-8", "replace").decode().replace("\0", "").strip() + "x" for row in rows]
    path = tmp_path_factory.getbasetemp() / "round.csv"
    write_csv(path, ["n", "t"], [np.array(numbers), np.array(texts, object)])
    table = read_csv(path, header=True, delimiter=",")
    assert np.array_equal(table["n"].values, numbers, equal_nan=True)
    assert table["t"].values.tolist() == texts


# --- NPY and NPZ -----------------------------------------------------------------------------------------------------


def test_npz(tmp_path: Path) -> None:
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    path = tmp_path / "keras.npz"
    np.savez_compressed(
        path, x_train=images, y_train=np.array([[2], [0], [1]], np.uint8), x_test=images[:1], y_test=np.array([1])
    )
    data = read(path)
    assert isinstance(data.x, np.ndarray)
    assert data.x.dtype == np.uint8
    assert data.x.shape == (3, 20)
    assert data.name == "keras"
    assert data.rows == 3
    assert data.image_shape == (4, 5)
    assert data.y is not None
    assert data.y.tolist() == [2, 0, 1]
    assert data.y.dtype == np.int64
    assert data.test_x.shape == (1, 20)
    assert data.test_y.tolist() == [1]
    np.savez(path, X=np.asfortranarray(np.arange(6.0).reshape(2, 3)), y=np.array(["no", "yes"]))
    data = read_npz(path)
    assert data.x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert data.classes == ["no", "yes"]
    assert data.y.tolist() == [0, 1]
    np.savez(path, data=np.zeros((2, 1)), target=np.array([0.5, 1.5], ">f8"))
    assert read_npz(path).y.tolist() == [0.5, 1.5]


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    data = read(tmp_path / "x.npy")
    assert data.x.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert data.y is None
    assert data.x.dtype == np.float32
    np.save(tmp_path / "line.npy", np.arange(3.0))
    assert read_npy(tmp_path / "line.npy").x.shape == (3, 1)


class Touch:
    """Pickled, it creates a file when an unwary reader unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_bad_npy_and_npz(tmp_path: Path) -> None:
    path, trap = tmp_path / "bad.npz", tmp_path / "trap"

    def refused(message: str, **arrays: np.ndarray) -> None:
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            read_npz(path)

    x = np.zeros((3, 2))
    refused("no array called x; it has a, b", a=x, b=x)
    refused("3 inputs and 2 targets", x=x, y=np.zeros(2))
    refused("hold Python objects|holds Python objects", x=np.array([[Touch(trap)]], object))
    refused("numbers are expected, got complex128", x=x * 1j)
    refused("numbers are expected", x=np.zeros((0, 5)))
    refused("numbers or strings", x=x, y=np.zeros(3, "S2"))
    refused("names given twice", x=x, X=x)
    refused("no inputs for them", x=x, y_test=np.zeros(3))
    refused("rows of shape", x=x, x_test=np.zeros((3, 3)))
    assert not trap.exists()
    for content in (b"", b"PK\3\4", b"not a zip"):
        with pytest.raises(FormatError, match="cut short, damaged or not NumPy's"):
            read(put(tmp_path, content, "bad.npz"))


def npy_header(shape: str, descr: str = "<f8") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize("shape", ["(1000000000000, 8)", "(-1,)", "(2, 3)", "(1.5,)", "()", "(99999999999999999999,)"])
def test_absurd_headers_are_refused_before_anything_is_allocated(tmp_path: Path, shape: str) -> None:
    content = npy_header(shape) + bytes(16)
    with pytest.raises(FormatError):
        read_npy(put(tmp_path, content, "absurd.npy"))
    with zipfile.ZipFile(tmp_path / "absurd.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(FormatError):
        read_npz(tmp_path / "absurd.npz")
    with pytest.raises(FormatError):
        read_npy(put(tmp_path, npy_header("(1000000000000,)", "<U0"), "absurd.npy"))


def test_a_header_that_claims_to_be_huge_is_not_allocated(tmp_path: Path) -> None:
    path = put(
        tmp_path, b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + npy_header("(1,)")[10:] + bytes(8), "huge.npy"
    )
    tracemalloc.start()
    with pytest.raises(FormatError, match="cut short"):
        read_npy(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunet.data import arrays

    monkeypatch.setattr(arrays, "unpacked_limit", lambda packed: 200 * packed)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((1000, 1000)))
    with pytest.raises(FormatError, match="would unpack to 8,000,128: refused"):
        read_npz(tmp_path / "bomb.npz")


# --- IDX and MNIST ---------------------------------------------------------------------------------------------------


def idx_bytes(array: np.ndarray, code: int) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_idx(tmp_path: Path, code: int, dtype: str) -> None:
    array = np.arange(-6, 6).reshape(2, 3, 2).astype(dtype)
    for content in (idx_bytes(array, code), gzip.compress(idx_bytes(array, code))):
        found = read_idx(put(tmp_path, content, "some-idx3"))
        assert np.array_equal(found, array)
        assert found.dtype == array.dtype.newbyteorder("=")
        assert found.flags.writeable


def test_bad_idx(tmp_path: Path) -> None:
    good = idx_bytes(np.zeros((2, 3), ">u1"), 8)
    for content in (b"", good[:-1], good + b"\0", good[:6], b"\0\0\7\1", b"\0\0\x08\2" + b"\xff" * 8, b"\1" + good[1:]):
        with pytest.raises(FormatError):
            read_idx(put(tmp_path, content, "bad"))


def make_mnist(folder: Path, dot: bool = False, test: bool = True) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4)).astype(np.uint8)
    for part, rows in {"train": slice(0, 6), **({"t10k": slice(4, 6)} if test else {})}.items():
        labels = np.arange(6, dtype=np.uint8)[rows]
        put(folder, gzip.compress(idx_bytes(images[rows], 8)), f"{part}-images-idx3-ubyte.gz")
        put(folder, idx_bytes(labels, 8), f"{part}-labels{'.' if dot else '-'}idx1-ubyte")


def test_mnist_folder(tmp_path: Path) -> None:
    make_mnist(tmp_path, dot=True)
    data = read(tmp_path)
    assert data.x.dtype == np.uint8
    assert data.x.shape == (6, 16)
    assert data.image_shape == (4, 4)
    assert data.y.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.y.dtype == np.int64
    assert np.array_equal(data.test_x, data.x[4:])
    assert data.test_y.tolist() == [4, 5]
    assert data.notes == []
    alone = read(tmp_path / "train-images-idx3-ubyte.gz")
    assert np.array_equal(alone.x, data.x)
    assert alone.y is None
    assert alone.notes
    with pytest.raises(DataError, match="these are labels"):
        read(tmp_path / "train-labels.idx1-ubyte")


def test_mnist_folder_with_something_wrong(tmp_path: Path) -> None:
    make_mnist(tmp_path, test=False)
    assert read_mnist(tmp_path).notes == ["no test set: t10k-images or t10k-labels is not there"]
    put(tmp_path, idx_bytes(np.zeros(5, np.uint8), 8), "train-labels-idx1-ubyte")
    with pytest.raises(FormatError, match="6 inputs and 5 targets"):
        read(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no train-labels-idx\?-ubyte"):
        read(tmp_path)


def test_unknown_folders_and_files_say_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it holds nothing"):
        read(tmp_path)
    put(tmp_path, "{}", "x.xml")
    with pytest.raises(DataError, match=r"MNIST.*CIFAR.*it holds x\.xml"):
        read(tmp_path)
    with pytest.raises(FormatError, match=r"x\.xml: its format is not known; read are: delimited text"):
        read(tmp_path / "x.xml")


def test_read_gives_a_table_for_a_text(tmp_path: Path) -> None:
    data = read(put(tmp_path, "a;b\n1;x\n2;y\n3\n", "my.train.csv"), on_bad_row="skip")
    assert isinstance(data.x, Table)
    assert data.name == "my"
    assert data.y is None
    assert data.rows == 2
    assert data.notes == ["1 row not of 2 fields left out: line 4"]
    assert read(put(tmp_path, "1|2\n3|4\n", "no_suffix"), header=True, delimiter="|").x.names == ["1", "2"]


# --- CIFAR-10 --------------------------------------------------------------------------------------------------------

PLANES = np.random.default_rng(1).integers(0, 256, (4, 3, 32, 32)).astype(np.uint8)
LABELS = [3, 0, 9, 5]
PIXELS = PLANES.transpose(0, 2, 3, 1).reshape(4, 3072)


def python_2_pickle(module: str = "numpy.core.multiarray") -> bytes:
    """A batch as it is published: protocol 2, written by Python 2, so that bytes and names are BINSTRINGs."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    raw = PLANES.tobytes()
    dtype = (
        b"cnumpy\ndtype\n("
        + short(b"u1")
        + b"K\0K\1tR(K\3"
        + short(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    array = f"c{module}\n_reconstruct\n".encode() + b"(cnumpy\nndarray\n(K\0t" + short(b"b") + b"tR"
    state = b"(K\1K\4M\0\x0c\x86" + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in LABELS) + b"e"
    return b"\x80\2}q\1(" + short(b"data") + array + state + short(b"labels") + b"q\2" + labels + b"u."


def test_the_pickle_of_these_tests_is_a_real_one() -> None:
    batch = pickle.loads(python_2_pickle("numpy._core.multiarray"), encoding="bytes")
    assert np.array_equal(batch[b"data"], PLANES.reshape(4, 3072))
    assert batch[b"labels"] == LABELS


def test_cifar_folder_of_pickles(tmp_path: Path) -> None:
    put(tmp_path, python_2_pickle(), "data_batch_1")
    for i, protocol in enumerate([2, 3, 4, 5], start=2):
        batch = {
            b"data": PLANES.reshape(4, 3072),
            b"labels": LABELS,
            b"filenames": [b"x.png"] * 4,
            b"batch_label": b"1 of 5",
        }
        put(tmp_path, pickle.dumps(batch, protocol), f"data_batch_{i}")
    put(tmp_path, pickle.dumps({"data": PLANES.reshape(4, 3072)[:2], "labels": LABELS[:2]}, 4), "test_batch")
    data = read(tmp_path)
    assert np.array_equal(data.x, np.tile(PIXELS, (5, 1)))
    assert data.y.tolist() == LABELS * 5
    assert data.notes == []
    assert np.array_equal(data.test_x, PIXELS[:2])
    assert data.test_y.tolist() == LABELS[:2]
    assert data.x.dtype == np.uint8
    assert data.image_shape == (32, 32, 3)
    assert data.classes[3] == "cat"


def test_cifar_binary_and_missing_batches(tmp_path: Path) -> None:
    rows = np.concatenate([np.array(LABELS, np.uint8)[:, None], PLANES.reshape(4, 3072)], axis=1)
    path = put(tmp_path, rows.tobytes(), "data_batch_3.bin")
    data = read(tmp_path)
    assert np.array_equal(data.x, PIXELS)
    assert data.y.tolist() == LABELS
    assert data.notes == [
        "data_batch_1, data_batch_2, data_batch_4, data_batch_5 not there: 4 training images",
        "no test set: test_batch is not there",
    ]
    assert np.array_equal(read(path).x, PIXELS)
    for content in (rows.tobytes()[:-1], b"", b"\x0a" + rows.tobytes()[1:]):
        put(tmp_path, content, "data_batch_3.bin")
        with pytest.raises(FormatError):
            read_cifar(tmp_path)


def evil(call: bytes) -> bytes:
    return b"\x80\2}(U\4data" + call + b"U\6labels]u."


# fmt: off
EVIL_PICKLES = {
    "os.system":         (evil(b"cos\nsystem\n(U\4truetR"), "asks for os.system: refused"),
    "posix.system":      (evil(b"cposix\nsystem\n(U\4truetR"),                              "posix.system: refused"),
    "builtins.eval":     (evil(b"cbuiltins\neval\n(U\00511**9tR"),                          "builtins.eval: refused"),
    "a getattr chain":   (evil(b"cbuiltins\ngetattr\n(cnumpy\nndarray\nU\x09__class__tR"), "builtins.getattr: refused"),
    "numpy's own files": (evil(b"cnumpy\nload\n(U\1xtR"),                                   "numpy.load: refused"),
    "by the stack":      (b"\x80\4}(\x8c\4data\x8c\2os\x8c\6system\x93\x8c\4true\x85Ru.",   "os.system: refused"),
    "a dotted name": (b"\x80\4}(\x8c\4data\x8c\5numpy\x8c\x0endarray.tofile\x93u.", "numpy.ndarray.tofile: refused"),
    "nested reduce":     (evil(b"cnumpy\ndtype\n(cos\ngetcwd\n)RtR"),                       "os.getcwd: refused"),
    "calls an array":    (evil(b"cnumpy\nndarray\n((K\1ttR"),                               "cut short or damaged"),
    "dtype of objects":  (evil(b"cnumpy\ndtype\n(U\1OK\0K\1tR"),                            "dtype 'O': refused"),
    "an instance":       (evil(b"(ios\nsystem\n"),                                          "uses INST.*refused"),
    "an object":         (evil(b"(cnumpy\ndtype\nU\2u1o"),                                  "uses OBJ.*refused"),
    "new object":        (evil(b"cnumpy\ndtype\n)\x81"),                                    "uses NEWOBJ.*refused"),
    "a persistent id":   (evil(b"Px\n"),                                                    "uses PERSID.*refused"),
    "an extension":      (evil(b"\x82\1"),                                                  "uses EXT1.*refused"),
    "a state":           (evil(b"]}b"),                                                     "cut short or damaged"),
    "a far memo":        (evil(b"]r\xff\xff\xff\x7f"),                                       "uint8 array"),
    "nothing":           (b"\x80\2.",                                                       "cut short or damaged"),
    "no dict":           (b"\x80\2].", "a pickled dict is expected"),
    "hashing for ever":  (b"\x80\2}(" + b")" + b"q\0h\0\x86" * 60 + b"K\1u.", "keys of str, bytes or int"),
}
# fmt: on


@pytest.mark.parametrize("case", EVIL_PICKLES)
def test_evil_pickles_are_refused(tmp_path: Path, case: str) -> None:
    content, message = EVIL_PICKLES[case]
    with pytest.raises(FormatError, match=message):
        read_cifar(put(tmp_path, content, "data_batch_1").parent)


def test_a_pickled_trap_is_not_sprung(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for protocol in (2, 3, 4, 5):
        content = pickle.dumps({"data": [Touch(trap)], "labels": Touch(trap)}, protocol)
        with pytest.raises(FormatError, match=r"mkdir: refused"):
            read(put(tmp_path, content, "data_batch_1"))
    assert not trap.exists()


# --- splits ----------------------------------------------------------------------------------------------------------


def test_split_is_a_partition_of_the_documented_sizes() -> None:
    parts = split(5620, (0.64, 0.16, 0.2), seed=0)
    assert [len(part) for part in parts] == [3597, 899, 1124]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(5620))
    assert parts[0].dtype == np.int64
    assert np.array_equal(np.concatenate([parts[0][:5]]), split(5620, (0.64, 0.16, 0.2), seed=0)[0][:5])
    assert not np.array_equal(parts[0], split(5620, (0.64, 0.16, 0.2), seed=1)[0])
    order = rng.permutation(10, seed=3, stream=rng.stream("split"))
    assert np.array_equal(np.concatenate(split(10, (0.7, 0.3), seed=3)), order)
    assert [len(part) for part in split(3, (1.0, 0.0), seed=0)] == [3, 0]
    assert [len(part) for part in split(0, (0.5, 0.5), seed=0)] == [0, 0]


@given(
    st.lists(st.integers(2, 30), min_size=1, max_size=12),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 2**64 - 1),
)
def test_stratified_split(counts: list[int], shares: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)[rng.permutation(sum(counts), seed=1, stream=0)]
    fractions = np.array(shares) / sum(shares)
    parts = split(len(labels), fractions.tolist(), seed=seed, stratify=labels)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * len(labels)) < len(parts)
        for label, count in enumerate(counts):
            assert abs((labels[part] == label).sum() - fraction * count) < 1
    again = split(len(labels), fractions.tolist(), seed=seed, stratify=labels)
    assert all(map(np.array_equal, parts, again))


def test_many_small_classes_keep_the_size_of_the_parts() -> None:
    train, test = split(300, (0.8, 0.2), seed=0, stratify=np.arange(300) // 3)
    assert (len(train), len(test)) == (240, 60)


def test_rare_classes() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [2])
    for seed in range(5):
        with pytest.warns(UserWarning, match="1 classes with one row go to the first part: 2"):
            train, test = split(21, (0.5, 0.5), seed=seed, stratify=labels)
        assert 20 in train
        assert len(test) == 10
    with pytest.raises(DataError, match="each of the 4 classes has one row"):
        split(4, (0.5, 0.5), seed=0, stratify=np.arange(4))


def test_bad_splits() -> None:
    for fractions in ((0.5, 0.6), (-0.5, 1.5), (), (math.nan, 1.0)):
        with pytest.raises(ConfigError, match="add up to 1"):
            split(10, fractions, seed=0)
    with pytest.raises(ShapeError, match=r"10 rows and stratify of shape \(9,\)"):
        split(10, (0.5, 0.5), seed=0, stratify=np.zeros(9))


def test_fingerprint() -> None:
    table = Table.from_frame({"a": [1.0, None], "b": ["x", None]})
    known = fingerprint(Dataset("n", table))
    assert known == "23d81c651fa93d9299004d94b1add0f0"
    others = [
        {"a": [1.0, 2.0], "b": ["x", None]},
        {"a": [1.0, None], "b": ["x", "y"]},
        {"a": [1.0, None], "c": ["x", None]},
        {"b": ["x", None], "a": [1.0, None]},
        {"a": [1.0, None], "b": [None, "x"]},
    ]
    prints = {fingerprint(Dataset("n", Table.from_frame(other))) for other in others}
    assert len(prints) == len(others)
    assert known not in prints
    assert fingerprint(Dataset("other name", Table.from_frame({"a": [1.0, -np.nan], "b": ["x", None]}))) == known
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = [Dataset("n", x), Dataset("n", x.reshape(3, 2)), Dataset("n", x, x[:, 0]), Dataset("n", x, test_x=x[:, 0])]
    arrays += [Dataset("n", x.astype(np.float64))]
    assert len({fingerprint(data) for data in arrays}) == len(arrays)
    assert fingerprint(Dataset("n", x)) == fingerprint(Dataset("n", np.asfortranarray(x.astype(">f4"))))


# --- toy sets and digits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", [spirals, circles, moons, xor])
def test_toys(toy) -> None:  # type of the four functions differs in their settings only
    x, y = toy(101, seed=4)
    assert x.shape == (101, 2)
    assert x.dtype == np.float32
    assert y.shape == (101,)
    assert y.dtype == np.int64
    again, other = toy(101, seed=4), toy(101, seed=5)
    assert np.array_equal(x, again[0])
    assert np.array_equal(y, again[1])
    assert not np.array_equal(x, other[0])
    assert np.abs(x).max() < 4
    assert not np.array_equal(x, toy(101, seed=4, noise=0.5)[0])


def test_shapes_of_the_toys() -> None:
    x, y = spirals(300, classes=3, noise=0.0)
    assert np.bincount(y).tolist() == [100] * 3
    assert np.hypot(*x[y == 1].T)[-1] == pytest.approx(1)
    assert np.hypot(*x.T).max() == pytest.approx(1)
    assert not x[0].any()
    x, y = circles(200, classes=2, noise=0.0)
    assert np.allclose(np.hypot(*x.T), np.where(y == 1, 1.0, 0.5))
    x, y = moons(200, noise=0.0)
    assert np.allclose(np.hypot(*(x[y == 0]).T), 1)
    assert np.allclose(np.hypot(*(x[y == 1] - [1, 0.5]).T), 1)
    x, y = xor(200)
    assert np.array_equal(y, (x[:, 0] * x[:, 1] < 0))
    assert 60 < y.sum() < 140
    with pytest.raises(ConfigError, match="classes=1"):
        spirals(10, classes=1)


def test_digits() -> None:
    data, official = digits(), digits(split="official")
    assert data.x.shape == (5620, 64)
    assert data.x.dtype == np.uint8
    assert data.x.max() == 16
    assert data.test_x is None
    assert data.image_shape == (8, 8)
    assert data.classes == list("0123456789")
    assert set(data.y.tolist()) == set(range(10))
    assert official.x.shape == (3823, 64)
    assert official.test_x.shape == (1797, 64)
    assert len(official.test_y) == 1797
    assert np.array_equal(np.concatenate([official.x, official.test_x]), data.x)
    assert fingerprint(data) == "c88a423932688cb40336e484108abbff"
    with pytest.raises(ConfigError, match='no split "offical".*"official"'):
        digits(split="offical")


def test_the_official_test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    known, official = datasets.load_digits(), digits(split="official")
    assert np.array_equal(official.test_x, known.data)
    assert np.array_equal(official.test_y, known.target)


def test_the_digits_are_small_and_attributed() -> None:
    folder = Path(csv_module.__file__).parent
    assert (folder / "digits.npz").stat().st_size < 300_000
    text = (folder / "DIGITS.txt").read_text()
    assert "Alpaydin" in text
    assert "CC BY 4.0" in text


@needs_pyarrow
def test_a_column_of_empty_cells_that_may_be_text(tmp_path: Path) -> None:
    """The text of all of them takes no byte, and no memory has an address then."""
    path = put(tmp_path, b'\r\n"\r\n1"\r\n""')
    one, other = (contents(read_csv(path, engine=engine, header=True)) for engine in ("csv", "pyarrow"))  # type: ignore[arg-type]
    assert one == other == {"1": ("numeric", [None])}


@needs_pyarrow
def test_large_numbers_and_infinity_are_read_in_silence(tmp_path: Path) -> None:
    path = put(tmp_path, "n\n" + "1e300\n-1e308\ninf\n-inf\n" * 100)
    assert np.array_equal(read_csv(path, engine="pyarrow")["n"].values, [1e300, -1e308, np.inf, -np.inf] * 100)


@needs_pyarrow
def test_reading_a_large_file_does_not_import_pandas(tmp_path: Path) -> None:
    """It takes half a second, and pyarrow does so on its own way to NumPy."""
    path = put(tmp_path, "n,t,m\n" + "1.5,x,\n2,y,3\n" * 200_000)
    code = (
        "import sys; from gpunet.data import read_csv; found = read_csv(sys.argv[1]); "
        "print(found.rows, 'pyarrow' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert path.stat().st_size > csv_module.ARROW_PAYS_FROM and done.stdout.split() == ["400000", "True", "False"]


def test_importing_the_readers_loads_no_dataframe_library() -> None:
    heavy = "{'pyarrow', 'pandas', 'narwhals', 'polars'}"
    code = f"import sys, gpunet.data; print({{m.split('.')[0] for m in sys.modules}} & {heavy})"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert run.stdout.strip() == "set()"
