"""Parquet, Arrow, JSON lines, libsvm, packed files and folders of parts: read as they are meant, refused by name and line."""

from __future__ import annotations

import bz2
import datetime
import gzip
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunet.data import Csr, Table, fingerprint, read, read_csv, read_jsonl, read_libsvm
from gpunet.data import arrow as data_arrow
from gpunet.data import files as data_files
from gpunet.errors import DataError, FormatError

pa = pytest.importorskip("pyarrow")
for _part in ("feather", "parquet"):
    importlib.import_module(f"pyarrow.{_part}")

FRAME = {
    "age": [39, None, 53], "pay": [1.5, 2.5, None], "job": ["clerk", None, "NA"], "code": ["007", "8", " 9 "],
    "on": [True, None, False], "day": [datetime.date(2024, 1, 2), None, datetime.date(2024, 3, 4)],
}  # fmt: skip


def table_of(frame: dict[str, Any]) -> Any:
    return pa.table(frame)


def seen(table: Table) -> dict[str, Any]:
    return {
        c.name: (c.kind, [None if m else v for v, m in zip(c.values.tolist(), c.missing, strict=True)])
        for c in table.columns
    }


EXPECTED = {
    "age": ("numeric", [39.0, None, 53.0]), "pay": ("numeric", [1.5, 2.5, None]), "job": ("text", ["clerk", None, None]),
    "code": ("numeric", [7.0, 8.0, 9.0]), "on": ("text", ["True", None, "False"]),
    "day": ("text", ["2024-01-02", None, "2024-03-04"]),
}  # fmt: skip


def write(table: Any, path: Path) -> Path:
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
    elif path.suffix == ".feather":
        pa.feather.write_feather(table, path, compression="lz4")
    else:
        maker = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as file, maker(file, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.arrows", "t.feather"])
def test_arrow_files_are_typed_by_the_one_rule(tmp_path: Path, name: str) -> None:
    found = read(write(table_of(FRAME), tmp_path / name))
    assert seen(found.x) == EXPECTED and found.y is None and found.name == "t"
    (tmp_path / "no_suffix").write_bytes((tmp_path / name).read_bytes())
    if name != "t.arrows":
        assert seen(read(tmp_path / "no_suffix").x) == EXPECTED


TIMES = {
    "s": (pa.timestamp("s"), [0, None, -1], ["1970-01-01 00:00:00", None, "1969-12-31 23:59:59"]),
    "ms": (pa.timestamp("ms", "UTC"), [0, 1, None], ["1970-01-01 00:00:00+00:00", "1970-01-01 00:00:00.001000+00:00", None]),
    "us": (pa.timestamp("us", "+01:30"), [0, 1, None], ["1970-01-01 01:30:00+01:30", "1970-01-01 01:30:00.000001+01:30", None]),
    "ns": (pa.timestamp("ns"), [1500, None, -1], ["1970-01-01 00:00:00.000001500", None, "1969-12-31 23:59:59.999999999"]),
    "time": (pa.time64("ns"), [0, 1_500_000, 1], ["00:00:00", "00:00:00.001500", "00:00:00.000000001"]),
    "day": (pa.date64(), [0, None, -86_400_000], ["1970-01-01", None, "1969-12-31"]),
    "took": (pa.duration("ms"), [0, 1500, None], [0.0, 1.5, None]),
}


def test_times_are_the_text_they_print_as_and_pandas_is_not_asked(tmp_path: Path) -> None:
    """pyarrow would import it on the way to Python or NumPy, which takes half a second, and then print other text."""
    frame = pa.table({name: pa.array(ticks, pa.int64()).cast(kind) for name, (kind, ticks, _) in TIMES.items()})
    words = pa.table({"word": ["a", None, "a"], "kind": pa.array(["x", "y", None]).dictionary_encode(), "on": [True, None, False]})
    for name in words.column_names:
        frame = frame.append_column(name, words[name])
    expected = {name: values for name, (_, _, values) in TIMES.items()}
    expected |= {"word": ["a", None, "a"], "kind": ["x", "y", None], "on": ["True", None, "False"]}
    code = (
        "import json, sys; from gpunet.data import read\n"
        "print(json.dumps({c.name: [None if m else v for v, m in zip(c.values.tolist(), c.missing)]\n"
        "for c in read(sys.argv[1]).x.columns}))\n"
        "print('pandas' in sys.modules)"
    )
    for name in ("t.parquet", "t.arrow"):
        path = write(frame, tmp_path / name)
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
        values, imported = done.stdout.splitlines()
        assert json.loads(values) == expected and imported == "False"


def test_numbers_of_every_width_and_what_is_no_cell(tmp_path: Path) -> None:
    kinds = [pa.int8(), pa.uint16(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(25, 2)]
    found = read(write(pa.table({str(k): pa.array([1, None, 3]).cast(k) for k in kinds}), tmp_path / "n.parquet")).x
    assert all(values == ("numeric", [1.0, None, 3.0]) for values in seen(found).values())
    nulls = read(write(pa.table({"a": [1, 2], "n": pa.nulls(2)}), tmp_path / "null.parquet")).x
    assert seen(nulls)["n"] == ("numeric", [None, None])
    coded = pa.array(["1", "2", None, "1"]).dictionary_encode()
    kept = read(write(pa.table({"a": coded}), tmp_path / "d.parquet")).x
    assert seen(kept)["a"] == ("text", ["1", "2", None, "1"]), "the file calls these categories"
    for bad in (pa.array([[1], [2]]), pa.array([{"x": 1}, {"x": 2}]), pa.array([b"a", b"b"])):
        for name in ("b.parquet", "b.arrow"):
            with pytest.raises(DataError, match='column "bad" holds'):
                read(write(pa.table({"bad": bad}), tmp_path / name))
    with pytest.raises(DataError, match="hold nothing"):
        read(write(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "e.parquet"))


def test_many_chunks(tmp_path: Path) -> None:
    parts = [pa.table({"a": [i, i + 1], "c": [f"t{i}", "same"]}) for i in range(5)]
    found = read(write(pa.concat_tables(parts), tmp_path / "c.arrow")).x
    assert found["a"].values.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5] and found["c"].values[8] == "t4"
    pa.parquet.write_table(pa.concat_tables(parts), tmp_path / "c.parquet", row_group_size=3)
    assert seen(read(tmp_path / "c.parquet").x) == seen(found)


@pytest.mark.parametrize("name", ["l.parquet", "l.arrow", "l.arrows", "l.feather"])
@pytest.mark.parametrize("threads_from", [0, 1 << 30])
def test_long_columns_are_converted_where_they_lie_or_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, threads_from: int
) -> None:
    monkeypatch.setattr(data_arrow, "THREADS_PAY_FROM", threads_from)
    draw, rows = np.random.default_rng(0), 3 * data_arrow.PIECE + 7
    whole = {
        "i": draw.integers(-(2**63), 2**63 - 1, rows), "u": draw.integers(0, 2**64 - 1, rows, np.uint64),
        "s": draw.integers(-9, 9, rows).astype(np.int8), "f": draw.normal(size=rows), "n": draw.normal(size=rows).astype(np.float32),
    }  # fmt: skip
    gone = draw.random(rows) < 0.1
    table = pa.table({f"{n}{k}": pa.array(v, mask=m) for n, v in whole.items() for k, m in enumerate((None, gone))})
    pieces = pa.concat_tables([table.slice(0, rows // 2), table.slice(rows // 2)])
    found = read(write(pieces, tmp_path / name)).x
    for n, values in whole.items():
        assert np.array_equal(found[f"{n}0"].values, values.astype(np.float64))
        assert np.array_equal(found[f"{n}1"].values, np.where(gone, np.nan, values.astype(np.float64)), equal_nan=True)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.arrows", "t.feather"])
def test_damaged_arrow_files_are_refused_or_read_as_something(tmp_path: Path, name: str) -> None:
    path = write(table_of(FRAME), tmp_path / name)
    whole, draw, refused = path.read_bytes(), np.random.default_rng(0), 0
    for k in range(60):
        data = bytearray(whole[: int(draw.integers(len(whole)))] if k % 2 else whole)
        for at in draw.integers(0, max(1, len(data)), 3):
            if data:
                data[at] = int(draw.integers(256))
        path.write_bytes(bytes(data))
        try:
            assert isinstance(read(path).x, Table)
        except DataError as error:
            refused += 1
            assert name in str(error)
    assert refused > 30


# ---------------------------------------------------------------- JSON lines


def test_json_lines(tmp_path: Path) -> None:
    lines = [{"a": 1, "b": "x"}, {"b": None, "a": 2.5, "c": True}, {"a": None, "b": "y"}]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    expected = {"a": ("numeric", [1.0, 2.5, None]), "b": ("text", ["x", None, "y"]), "c": ("text", [None, "True", None])}
    assert seen(read(path).x) == expected
    array = tmp_path / "t.json"
    array.write_text(json.dumps(lines))
    assert seen(read(array).x) == expected


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"a": 1', "not JSON"), ("[1]", "a JSON list"), ("3", "a JSON int"), ('{"a": [1]}', '"a" is a list'),
        ('{"a": {"b": 1}}', "nested object"), ("nonsense", "not JSON"), ('"text"', "a JSON text"), ("[" * 9999, "not JSON"),
    ],
)  # fmt: skip
def test_json_lines_that_are_none_are_named_or_left_out(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n\n' + line + '\n{"a": 2}\n')
    with pytest.raises(DataError, match=f"t.jsonl line 3: .*{says}.*skip"):
        read(path)
    found = read(path, on_bad_row="skip")
    assert found.x["a"].values.tolist() == [1.0, 2.0] and "1 rows left out" in found.notes[0]


# ---------------------------------------------------------------- libsvm

SVM = "+1 1:0.5 3:2 # note\n-1 2:1e-3\n\n+1\n-1 qid:4 4:-7\n"


def test_libsvm_is_kept_sparse(tmp_path: Path) -> None:
    path = tmp_path / "t.libsvm"
    path.write_text(SVM)
    found = read(path)
    dense = np.array([[0.5, 0, 2, 0], [0, 1e-3, 0, 0], [0, 0, 0, 0], [0, 0, 0, -7.0]])
    assert isinstance(found.x, Csr) and found.x.shape == (4, 4) and len(found.x.values) == 4
    assert np.array_equal(found.x.dense(), dense) and found.y is not None and found.y.tolist() == [1, -1, 1, -1]
    for rows in ([2, 0, 3, 3], slice(1, 3), np.array([True, False, False, True]), []):
        assert np.array_equal(found.x.take(rows).dense(), dense[rows])
    sniffed = tmp_path / "t.txt"
    sniffed.write_text(SVM)
    assert isinstance(read(sniffed).x, Csr) and fingerprint(read(sniffed)) == fingerprint(found)
    path.write_text("1.5 1:1\n2 2:1\n")
    assert read(path).y.tolist() == [1.5, 2.0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1 3:1 2:1", "index 2 comes after 3"), ("1 2:1 2:2", "index 2 comes after 2"), ("1 0:1", "index 0"),
        ("1 a:1", "index:value"), ("1 2", "index:value"), ("1 2:x", "a number"), ("x 1:1", "a number"), ("1 1:nan", "a number"),
        ("1,2 1:1", "several targets"), ("1 99999999999:1", "index 99,999,999,999"), ("1 1:1_0", "a number"),
    ],
)  # fmt: skip
def test_libsvm_rows_that_are_none(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "t.svm"
    path.write_text(f"1 1:1\n{line}\n0 1:2\n")
    with pytest.raises(DataError, match=f"line 2: .*{says}"):
        read(path)
    kept = read_libsvm(path, on_bad_row="skip")
    assert kept.y is not None and kept.y.tolist() == [1, 0] and "1 rows left out" in kept.notes[1]


# ---------------------------------------------------------------- packed, in parts, too large


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
@pytest.mark.parametrize(("name", "text"), [("t.csv", "a,b\n1,x\n2,y\n"), ("t.jsonl", '{"a": 1, "b": "x"}\n{"a": 2, "b": "y"}\n')])
def test_packed_texts(tmp_path: Path, suffix: str, name: str, text: str) -> None:
    packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": lambda b: pa.compress(b, "zstd", asbytes=True)}[suffix]
    path = tmp_path / (name + suffix)
    path.write_bytes(packed(text.encode()))
    assert seen(read(path).x) == {"a": ("numeric", [1.0, 2.0]), "b": ("text", ["x", "y"])}
    whole = path.read_bytes()
    for content in (whole[:-3], whole[:6], whole[:10] + b"\0\0\0" + whole[13:]):
        path.write_bytes(content)
        try:
            read(path)
        except DataError as error:
            assert name in str(error)


def test_a_folder_of_parts(tmp_path: Path) -> None:
    for kind in (".parquet", ".csv", ".jsonl"):
        folder = tmp_path / f"of{kind}"
        folder.mkdir()
        for k in range(3):
            part = pa.table({"a": [k, k + 10], "c": [f"t{k}", None if k == 1 else "same"]})
            path = folder / f"part-{k}{kind}"
            if kind == ".parquet":
                pa.parquet.write_table(part, path)
            elif kind == ".csv":
                path.write_text("a,c\n" + "".join(f"{a},{c or ''}\n" for a, c in zip(*part.to_pydict().values(), strict=True)))
            else:
                path.write_text("".join(json.dumps(row) + "\n" for row in part.to_pylist()))
        (folder / "_SUCCESS").write_text("")
        found = read(folder)
        assert found.x["a"].values.tolist() == [0, 10, 1, 11, 2, 12] and found.name == f"of{kind}", kind
        assert found.x["c"].values.tolist() == ["t0", "same", "t1", None, "t2", "same"] and "3 parts" in found.notes[0]
    (tmp_path / "of.csv" / "part-9.csv").write_text("a,other\n1,2\n")
    with pytest.raises(DataError, match=r'column "c" is in part-0\.csv only'):
        read(tmp_path / "of.csv")
    (tmp_path / "of.csv" / "part-9.csv").write_text("a,c\nmany,x\n")
    with pytest.raises(DataError, match=r'"a" holds numbers in part-0\.csv and text in part-9\.csv'):
        read(tmp_path / "of.csv")
    (tmp_path / "of.csv" / "part-9.csv").write_text("a,c\n,x\n")
    assert read(tmp_path / "of.csv").x["a"].missing.tolist()[-1]
    (tmp_path / "of.csv" / "part-9.csv").rename(tmp_path / "of.csv" / "part-9.parquet")
    with pytest.raises(DataError, match="the parts of one table"):
        read(tmp_path / "of.csv")


def test_what_does_not_fit_is_refused_with_the_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 20_000
    paths = [write(pa.table({"a": np.arange(rows), "b": np.arange(rows)}), tmp_path / name) for name in ("t.parquet", "t.arrow")]
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * rows)
    monkeypatch.setattr(data_files, "available_memory", lambda: 100_000)
    for path in (*paths, tmp_path / "t.csv"):
        with pytest.raises(DataError, match="would need about .* GiB, and .* GiB of memory are available"):
            read(path)
    monkeypatch.undo()
    assert data_files.available_memory() is None or data_files.available_memory() > 1 << 20  # type: ignore[operator]


def test_a_url_is_refused_with_a_hint() -> None:
    with pytest.raises(DataError, match="curl -LO https://example.org/t.parquet"):
        read("https://example.org/t.parquet")


# ---------------------------------------------------------------- made up


CELLS = st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=4))


@given(st.lists(st.dictionaries(st.text(max_size=3), CELLS, max_size=3), min_size=1, max_size=5))
def test_json_lines_keep_every_value(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.getbasetemp() / "made_up.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if not any(rows):
        with pytest.raises(DataError):
            read_jsonl(path)
        return
    found = read_jsonl(path)
    assert found.rows == len(rows) and found.names == list(dict.fromkeys(k for r in rows for k in r))
    expected = Table.from_frame({k: [r.get(k) for r in rows] for k in found.names})
    assert seen(found) == seen(expected)


SPARSE_ROWS = st.tuples(st.integers(-3, 3), st.dictionaries(st.integers(1, 9), st.floats(-1e6, 1e6), max_size=4))


@given(st.lists(SPARSE_ROWS, min_size=1, max_size=6))
def test_libsvm_keeps_every_value(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, dict[int, float]]]) -> None:
    path = tmp_path_factory.getbasetemp() / "made_up.libsvm"
    path.write_text("".join(f"{y} " + " ".join(f"{i}:{v!r}" for i, v in sorted(x.items())) + "\n" for y, x in rows))
    if not any(x for _, x in rows):
        with pytest.raises(FormatError):
            read_libsvm(path)
        return
    found = read_libsvm(path)
    dense = np.zeros(found.x.shape)
    for n, (_, x) in enumerate(rows):
        for i, v in x.items():
            dense[n, i - 1] = v
    assert np.array_equal(found.x.dense(), dense) and found.y is not None and found.y.tolist() == [y for y, _ in rows]


@given(st.binary(max_size=120), st.sampled_from(["m.parquet", "m.arrow", "m.arrows", "m.feather", "m.jsonl", "m.libsvm", "m.csv.zst"]))
def test_made_up_files_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / name
    magic = {"m.parquet": b"PAR1", "m.arrow": b"ARROW1\0\0", "m.feather": b"FEA1", "m.csv.zst": b"\x28\xb5\x2f\xfd"}.get(name, b"")
    for begin in {b"", magic}:
        path.write_bytes(begin + content)
        for on_bad_row in ("error", "skip"):
            try:
                read(path, on_bad_row=on_bad_row)  # type: ignore[arg-type]
            except DataError:
                continue


ODD = st.sampled_from(["1", "2.5", "", "NA", "x", "1e3", "nan(1)", "+7", " 8 ", "0x1", "inf", "1_0"])


@given(st.lists(st.lists(ODD, min_size=2, max_size=2), min_size=1, max_size=300))
def test_columns_that_only_begin_with_numbers(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "begins.csv"
    path.write_text("a,b\n" + "1,2\n" * 120 + "".join(",".join(row) + "\n" for row in rows))
    one, other = (read_csv(path, header=True, engine=engine) for engine in ("csv", "pyarrow"))  # type: ignore[arg-type]
    assert seen(one) == seen(other)
