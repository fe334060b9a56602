"""gpunet-train as a stranger types it: data in, a model out, and one line and an exit code for what goes wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from gpunet.cli import rundir
from gpunet.cli.main import COMMANDS, main
from gpunet.devices import environment

RUN = ["best.gpunet", "last.ckpt", "config.yaml", "env.json", "log.txt", "metrics.csv", "metrics.jsonl", "summary.json"]
QUICK = ("--epochs", "2", "--hidden", "4", "--no-report")


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        return list(csv.reader(io.StringIO(self.out)))


def run(*words: Any) -> Result:
    """gpunet-train WORDS in this process; anything that escapes but an exit is a failure."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert "Traceback" not in err.getvalue()
    return Result(ended.value.code, out.getvalue(), err.getvalue())  # type: ignore[arg-type]


def process(*words: Any, **settings: Any) -> subprocess.Popen[str]:
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    root = str(Path(__file__).parent.parent)
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "gpunet.cli.main", *map(str, words)],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": ""}, **{**streams, **settings},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rundir.RunDirectory, "draw", lambda *_: None)  # pictures take a second a run: test_report.py has them


def piped(content: str | bytes, *words: Any) -> Result:
    """gpunet-train WORDS in this process with this on stdin."""
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(content.encode() if isinstance(content, str) else content))
    try:
        return run(*words)
    finally:
        sys.stdin = before


def animals(n: int = 60) -> list[list[Any]]:
    draw = np.random.default_rng(0)
    rows = []
    for i in range(n):
        size = round(float(draw.normal()), 3)
        colour = ["red", "green", "blue"][draw.integers(3)]
        blank = i % 9 == 0
        rows.append(["" if blank else size, colour, 1, f"tag-{i:03d}", "cat" if size > 0 or blank else "dog"])
    return rows


HEAD = ["size", "colour", "unit", "tag", "animal"]
NUMBERS = [[f"{a:.3f}", f"{b:.3f}", f"{a + 2 * b:.3f}"] for a, b in np.random.default_rng(1).normal(size=(60, 2))]


def table(name: str, rows: list[list[Any]], head: list[str] | None) -> str:
    with open(name, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([*([head] if head else []), *rows])
    return name


@pytest.fixture
def animals_csv() -> str:
    return table("animals.csv", animals(), HEAD)


@pytest.fixture
def numbers_csv() -> str:
    return table("numbers.csv", NUMBERS, ["a", "b", "price"])


@pytest.fixture(scope="module")
def shelter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a classifier of animals.csv and a regression of numbers.csv, trained once."""
    folder, before = tmp_path_factory.mktemp("shelter"), os.getcwd()
    os.chdir(folder)
    try:
        for name, rows, head in (("animals", animals(), HEAD), ("numbers", NUMBERS, ["a", "b", "price"])):
            table(f"{name}.csv", rows, head)
            assert run(f"{name}.csv", "--target", head[-1], *QUICK, "--out", f"of-{name}", "-q").code == 0
        yield folder
    finally:
        os.chdir(before)


# ---------------------------------------------------------------- training


def test_digits() -> None:
    done = run("digits", "--epochs", 3, "--hidden", "32", "--json", "--no-report")
    summary, folder = done.json, Path("runs/digits-1")
    assert done.code == 0 and done.out.count("\n") == 1, "one JSON object and nothing else on stdout"
    assert {"model", "test.accuracy", "test.loss", "best_epoch", "stopped", "seconds"} <= summary.keys()
    assert summary["model"] == str(folder / "best.gpunet") and summary["test.accuracy"] > 0.8
    assert sorted(os.listdir(folder)) == sorted(RUN)
    assert json.loads((folder / "summary.json").read_text()) == summary
    lines = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in lines] == ["1", "2", "3"]
    assert float(lines[summary["best_epoch"] - 1]["val_accuracy"]) == summary["best.val_accuracy"]
    assert json.loads((folder / "env.json").read_text())
    for words in (
        "digits: 64 columns · 10 classes · train 3,597 / validation 899 / test 1,124",
        "MLP 64-32-10 (1 hidden layer, 2,410 parameters)", "epoch 3/3  loss ",
    ):  # fmt: skip
        assert words in done.err
    again = run("digits", "--epochs", 3, "--hidden", "32", "-q")
    assert again.code == 0 and not again.err and "model  runs/digits-2/best.gpunet" in again.out
    assert "next   gpunet-train predict runs/digits-2 your.csv -o out.csv" in again.out
    assert Path("runs/digits-2/best.gpunet").read_bytes() == (folder / "best.gpunet").read_bytes(), (
        "equal runs, equal files"
    )
    pixels = np.random.default_rng(0).integers(0, 17, (5, 64)).tolist()
    predicted = run("predict", folder, table("your.csv", pixels, None), "--proba")
    assert (
        predicted.code == 0 and len(predicted.rows) == 6 and all(row[0] in "0123456789" for row in predicted.rows[1:])
    )


def test_the_official_split_of_the_digits() -> None:
    done = run("digits", "--split", "official", *QUICK)
    assert done.code == 0 and "test 1,797" in done.err and "test loss" in done.out and "accuracy" in done.out


def test_a_table_of_every_kind_of_column(animals_csv: str) -> None:
    done = run(animals_csv, "--target", "animal", *QUICK, "--json")
    assert done.code == 0 and 0 <= done.json["test.accuracy"] <= 1 and done.json["test.loss"] > 0
    for words in (
        'left out, always the same: "unit"', 'left out, texts that are nearly all different: "tag"',
        'blanks take the median, and a column marks them: "size"', "2 classes (the target is text)",
    ):  # fmt: skip
        assert words in done.err
    table("new.csv", [row[:-1] for row in animals(5)] + [["", "violet", "", ""]], HEAD[:-1])
    predicted = run("predict", "runs/animals-1", "new.csv")
    assert predicted.code == 0 and len(predicted.rows) == 7
    assert 'note: column "colour": ' in predicted.err and 'not seen in training: "violet"' in predicted.err


def test_columns_are_read_as_asked() -> None:
    x = np.random.default_rng(0).normal(size=1000)
    rows = [[i, i % 4, f"{v:.3f}", "up" if v > 0 else "down"] for i, v in enumerate(x)]
    data = table("rows.csv", rows, ["id", "zip", "x", "way"])
    done = run(data, "--target", "way", *QUICK)
    assert done.code == 0 and 'left out, it numbers the rows: "id"' in done.err
    asked = run(data, "--target", "way", "--columns", "id=numeric, zip=categorical", *QUICK)
    assert asked.code == 0 and "numbers the rows" not in asked.err
    seen = run("inspect", "runs/rows-2", "--json").json["columns"]
    assert [column["treatment"].partition(":")[0] for column in seen] == ["standardised", "one-hot", "standardised"]
    assert len(run("predict", "runs/rows-2", data).rows) == 1001
    assert "columns: id=numeric,zip=categorical" in Path("runs/rows-2/config.yaml").read_text()
    dropped = run(data, "--target", "way", "--columns", "id=drop,zip=drop", *QUICK)
    assert dropped.code == 0 and "rows.csv: 1 columns" in dropped.err
    for wrong, said in (("idd=drop", 'Did you mean "id"'), ("id", "NAME=KIND wanted"), ("id=text", "NAME=KIND wanted")):
        failed = run(data, "--target", "way", "--columns", wrong)
        assert failed.code == 2 and said in failed.err
    assert "no table" in run("digits", "--columns", "id=drop").err


def test_regression(numbers_csv: str) -> None:
    done = run(numbers_csv, "--target", "price", "--hidden", "16", "--epochs", "40", "--lr", "0.05", "--json")
    assert done.code == 0 and {"test.rmse", "test.mae", "test.r2", "test.loss"} <= done.json.keys()
    assert done.json["test.r2"] > 0.5 and "regression (the target has fractions)" in done.err
    asked = run(numbers_csv, "--target", "price", *QUICK, "--task", "classification")
    assert asked.code == 3 and "each of the 60 classes has one row" in asked.err


@pytest.mark.parametrize(
    "options",
    [
        ("--hidden", ""),
        ("--hidden", "8x4"),
        ("--validation", "0"),
        ("--test", "0"),
        ("--test", "0", "--validation", "0"),
        ("--norm", "batch", "--dropout", "0.2", "--activation", "gelu"),
        ("--norm", "layer", "--activation", "leaky_relu"),
        ("--optimizer", "lbfgs"),
        ("--optimizer", "sgd", "--lr", "0.1", "--weight-decay", "0", "--schedule", "cosine"),
        ("--batch-size", "7", "--patience", "0", "--seed", "12"),
        ("--device", "cpu"),
        ("--device", "auto"),
    ],
)
def test_options(animals_csv: str, options: tuple[str, ...]) -> None:
    done = run(animals_csv, "--target", "animal", *QUICK, *options)
    assert done.code == 0, done.err
    assert Path("runs/animals-1/best.gpunet").is_file()
    assert ("test loss" in done.out) == (options[:2] != ("--test", "0"))


def test_a_test_file_of_its_own(animals_csv: str) -> None:
    table("later.csv", animals(20), HEAD)
    done = run(animals_csv, "--target", "animal", "--test", "later.csv", *QUICK)
    assert done.code == 0 and "train 48 / validation 12 / test 20" in done.err
    for words, code, says in (
        (("--test", "latr.csv"), 3, 'Did you mean "later.csv"'), (("--test", "1.5"), 2, "a fraction in [0, 1)"),
        (("--test", "-1"), 2, "a fraction in [0, 1)"), (("--test", "nan"), 2, "a fraction"),
    ):  # fmt: skip
        failed = run(animals_csv, "--target", "animal", *QUICK, *words)
        assert failed.code == code and says in failed.err, words


def test_a_run_directory_is_never_overwritten(animals_csv: str) -> None:
    for k in (1, 2):
        assert run(animals_csv, "--target", "animal", *QUICK, "-q").out.count(f"runs/animals-{k}")
    assert run(animals_csv, "--target", "animal", *QUICK, "--out", "deep/own", "-q").code == 0
    before = Path("deep/own/best.gpunet").read_bytes()
    again = run(animals_csv, "--target", "animal", *QUICK, "--seed", "9", "--out", "deep/own")
    assert again.code == 2 and "exists already, and a run is never overwritten" in again.err
    assert Path("deep/own/best.gpunet").read_bytes() == before and sorted(os.listdir("runs")) == [
        "animals-1",
        "animals-2",
    ]
    Path("file").write_text("")
    assert run(animals_csv, "--target", "animal", *QUICK, "--out", "file").code == 2
    below = run(animals_csv, "--target", "animal", *QUICK, "--out", "file/run")
    assert below.code == 1 and "Not a directory" in below.err


def test_where_nothing_can_be_written(animals_csv: str) -> None:
    done = run(animals_csv, "--target", "animal", *QUICK, "--out", "/proc/run")
    assert done.code == 1 and done.err.splitlines()[-1].startswith("error: /proc/run: ")


# ---------------------------------------------------------------- predict and eval


def test_predict_to_a_file_and_to_stdout(shelter: Path) -> None:
    model, data = shelter / "of-animals", shelter / "animals.csv"
    shown = run("predict", model, data, "-o", "-", "--proba")
    assert shown.code == 0 and shown.rows[0] == ["prediction", "p(cat)", "p(dog)"] and len(shown.rows) == 61
    for label, *p in shown.rows[1:]:
        assert abs(sum(map(float, p)) - 1) < 1e-9 and label == ("cat", "dog")[int(float(p[1]) > float(p[0]))]
    assert not shown.err, "the target's column is no surprise"
    written = run("predict", model / "best.gpunet", data, "-o", "out.csv")
    assert written.code == 0 and not written.out and "60 rows in out.csv" in written.err
    assert Path("out.csv").read_text().splitlines() == [row[0] for row in shown.rows]
    table("bare.csv", [row[:-1] for row in animals()], HEAD[:-1])
    assert run("predict", model, "bare.csv").out == Path("out.csv").read_text()
    values = run("predict", shelter / "of-numbers", shelter / "numbers.csv")
    assert values.code == 0 and all(np.isfinite(float(row[0])) for row in values.rows[1:])


def test_predict_and_eval_with_columns_missing_or_too_many(shelter: Path) -> None:
    model = shelter / "of-animals"
    table("less.csv", [row[1:] for row in animals()], HEAD[1:])
    for command in ("predict", "eval"):
        less = run(command, model, "less.csv")
        assert less.code == 3 and 'the model reads the column "size", not in this table' in less.err
    table("more.csv", [[*row, "x"] for row in animals()], [*HEAD, "note"])
    more = run("predict", model, "more.csv")
    assert more.code == 0 and 'note: 1 column ignored, not there in training: "note"' in more.err
    table("dropped.csv", [row[:2] for row in animals()], HEAD[:2])
    assert run("predict", model, "dropped.csv").code == 0, "columns that were left out need not be there"
    assert run("predict", shelter / "of-numbers", shelter / "animals.csv").code == 3
    assert run("predict", shelter / "of-numbers", "less.csv", "--proba").code == 3


def test_eval(shelter: Path) -> None:
    model, data = shelter / "of-animals", shelter / "animals.csv"
    found = run("eval", model, data, "--json")
    assert found.code == 0 and found.json["rows"] == 60 and not found.err
    predicted = [row[0] for row in run("predict", model, data).rows[1:]]
    assert found.json["test.accuracy"] == np.mean([p == row[-1] for p, row in zip(predicted, animals(), strict=True)])
    assert "accuracy" in run("eval", model, data).out and "60 rows" in run("eval", model, data).out
    table("renamed.csv", animals(), [*HEAD[:-1], "beast"])
    assert run("eval", model, "renamed.csv").code == 3
    assert run("eval", model, "renamed.csv", "--target", "beast", "--json").json["test.loss"] == found.json["test.loss"]
    table("other.csv", [[*row[:-1], "emu"] for row in animals()], HEAD)
    other = run("eval", model, "other.csv")
    assert other.code == 3 and "emu" in other.err
    table("one.csv", [row for row in animals() if row[-1] == "cat"], HEAD)
    one = run("eval", model, "one.csv", "--json")
    assert one.code == 0 and one.json["test.auc"] is None, "NaN is no JSON"


def test_models_that_are_none(shelter: Path, animals_csv: str) -> None:
    Path("text.gpunet").write_text("not a model")
    Path("short.gpunet").write_bytes((shelter / "of-animals/best.gpunet").read_bytes()[:-1])
    os.mkdir("empty")
    for command in ("predict", "eval"):
        for name in ("text.gpunet", "short.gpunet", "empty", "nowhere"):
            done = run(command, name, animals_csv)
            assert done.code == 3 and done.err.startswith("error: ") and name in done.err, name
    assert run("predict", shelter / "of-animals", "nowhere.csv").code == 3
    unwritable = run("predict", shelter / "of-animals", animals_csv, "-o", "nowhere/out.csv")
    assert unwritable.code == 1 and "error: nowhere/out.csv: cannot be written (No such file" in unwritable.err


# ---------------------------------------------------------------- data that cannot be used


def bad(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


# fmt: off
WRONG: dict[str, tuple[str | bytes, tuple[str, ...], int, str]] = {
    "misspelt target":      ("a,b,price\n" + "1,2,3\n" * 9, ("--target", "pricee"), 3, 'Did you mean "price"'),
    "no target":            ("a,b,price\n" + "1,2,3\n" * 9, (), 2, "--target NAME. Columns: a, b, price"),
    "ragged":               ("a,b,y\n1,2,u\n1,v\n" + "1,2,u\n" * 9, ("--target", "y"), 3, "line 3: 2 fields, expected 3 (as in line 1)"),
    "empty":                ("", ("--target", "y"), 3, "there is no row in it"),
    "blank lines":          ("\n\n\n", ("--target", "y"), 3, "there is no row in it"),
    "header only":          ("a,b,y\n", ("--target", "y"), 3, "no row"),
    "one column":           ("y\n" + "u\nv\n" * 9, ("--target", "y"), 3, 'no column besides the target "y"'),
    "all constant":         ("a,b,y\n" + "1,2,u\n1,2,v\n" * 9, ("--target", "y"), 3, "no column of the table is left"),
    "constant target":      ("a,y\n" + "1,u\n2,u\n" * 9, ("--target", "y"), 3, "two classes at least"),
    "target with blanks":   ("a,y\n" + "1,u\n2,v\n" * 9 + "3,\n", ("--target", "y"), 3, "1 missing value: row 19"),
    "infinite feature":     ("a,y\n" + "1,u\n2,v\n" * 9 + "inf,u\n", ("--target", "y"), 3, 'column "a": infinite in row 19'),
    "two rows":             ("a,y\n1,u\n2,v\n", ("--target", "y"), 3, "error:"),
    "one row":              ("a,y\n1,u\n", ("--target", "y", "--header"), 3, "error:"),
    "text for regression":  ("a,y\n" + "1,u\n2,v\n" * 9, ("--target", "y", "--task", "regression"), 3, "values are numbers; row 1"),
    "no text at all":       (bytes(range(256)) * 4, ("--target", "y"), 3, "error:"),
    "UTF-16":               ("a,y\n1,u\n".encode("utf-16"), ("--target", "y"), 3, "UTF-16"),
    "open quote":           ('a,y\n"1,u\n2,v\n', ("--target", "y"), 3, "never closed"),
}
# fmt: on


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_cannot_be_used(name: str) -> None:
    content, options, code, says = WRONG[name]
    done = run(bad("sales.csv", content), *options, *QUICK)
    assert done.code == code and says in done.err, done
    assert not done.out and "sales" in done.err or name not in ("misspelt target", "no target", "ragged", "empty")
    assert not os.path.isdir("runs") or not os.listdir("runs"), "no directory is left of a run that never was"


def test_a_bad_row_can_be_skipped() -> None:
    bad("ragged.csv", "a,b,y\n1,2,u\n1,v\n" + "".join(f"{i},2,{'uv'[i % 2]}\n" for i in range(30)))
    done = run("ragged.csv", "--target", "y", *QUICK, "--on-bad-row", "skip")
    assert done.code == 0 and "1 row not of 3 fields left out: line 3" in done.err


def test_a_class_seen_once_and_nan_in_the_features_are_treated_and_said() -> None:
    rows = "".join(f"{'NaN' if i % 7 == 0 else i},{'uv'[i % 2]}\n" for i in range(40))
    done = run(bad("a.csv", f"x,y\n{rows}5,w\n"), "--target", "y", *QUICK)
    assert (
        done.code == 0
        and 'a single row, which is trained on: "w"' in done.err
        and 'median, and a column marks them: "x"' in done.err
    )
    lonely = run(bad("b.csv", "x,y\n" + "".join(f"{i},c{i}\n" for i in range(9))), "--target", "y", *QUICK)
    assert lonely.code == 3 and "one row" in lonely.err


def test_other_layouts(animals_csv: str) -> None:
    packed = Path("packed.csv.gz")
    packed.write_bytes(gzip.compress(Path(animals_csv).read_bytes()))
    Path("semi.txt").write_text(Path(animals_csv).read_text().replace(",", ";"))
    table("bare.data", NUMBERS, None)
    assert run(packed, "--target", "animal", *QUICK).code == run("semi.txt", "--target", "animal", *QUICK).code == 0
    bare = run("bare.data", "--target", "column_3", *QUICK)
    assert bare.code == 0 and "no header: the columns are called column_1 ... column_3" in bare.err
    assert run("bare.data", "--target", "price", *QUICK).code == 3
    assert run("semi.txt", "--target", "animal", "--delimiter", ",", *QUICK).code == 3
    assert run("semi.txt", "--target", "animal", "--delimiter", ",,", *QUICK).code == 2


def test_text_that_is_odd_but_legal() -> None:
    rows = [[i, 'naïve, "quoted"\nname' if i % 2 else "日本"] for i in range(30)]
    table("odd name.v2.csv", rows, ["größe", "klasse, alt"])
    done = run("odd name.v2.csv", "--target", "klasse, alt", *QUICK)
    assert done.code == 0 and Path("runs/odd-name-1").is_dir(), done.err
    assert "next   gpunet-train predict runs/odd-name-1 'odd name.v2.csv' -o out.csv\n" in done.out, "can be typed as it is"
    shown = run("predict", "runs/odd-name-1", "odd name.v2.csv")
    assert {row[0] for row in shown.rows[1:]} <= {rows[0][1], rows[1][1]} and len(shown.rows) == 31


# ---------------------------------------------------------------- images and arrays

DRAW = np.random.default_rng(2)
LABELS = np.arange(40) % 3


def idx(array: np.ndarray) -> bytes:
    return (
        struct.pack(">HBB", 0, 8, array.ndim)
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def test_npz(tmp_path: Path) -> None:
    x = DRAW.normal(size=(40, 5))
    np.savez("data.npz", x=x, y=LABELS)
    done = run("data.npz", *QUICK, "--json")
    assert done.code == 0 and "3 classes" in done.err
    np.savez("values.npz", X_train=x, y_train=x[:, 0] * 2.5, X_test=x[:9], y_test=x[:9, 0] * 2.5)
    values = run("values.npz", *QUICK)
    assert values.code == 0 and "test 9" in values.err and "rmse" in values.out
    assert run("eval", "runs/values-1", "values.npz", "--json").json["rows"] == 9
    np.savez("later.npz", x=x)
    assert len(run("predict", "runs/data-1", "later.npz").rows) == 41
    for name, arrays, options, code, says in (
        ("nan", {"x": np.where(x > 2, np.nan, x), "y": LABELS}, (), 3, "NaN"),
        ("bare", {"x": x}, (), 3, "no targets"),
        ("short", {"x": x, "y": LABELS[:9]}, (), 3, "do not belong together"),
        ("target", {"x": x, "y": LABELS}, ("--target", "y"), 2, "leave --target out"),
        ("pickled", {"x": np.array([{}, []], object), "y": LABELS[:2]}, (), 3, "pickle"),
    ):  # fmt: skip
        np.savez(f"{name}.npz", **arrays)
        failed = run(f"{name}.npz", *QUICK, *options)
        assert failed.code == code and says in failed.err, (name, failed.err)
    assert run("eval", "runs/data-1", "data.npz", "--target", "y").code == 2


def test_a_folder_as_mnist_publishes_it() -> None:
    os.mkdir("tiny")
    images = DRAW.integers(0, 256, (40, 6, 6))
    for part, n in (("train", 40), ("t10k", 11)):
        Path(f"tiny/{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[:n])))
        Path(f"tiny/{part}-labels-idx1-ubyte").write_bytes(idx(LABELS[:n]))
    done = run("tiny/", *QUICK)
    assert done.code == 0 and "tiny: 36 columns · 3 classes · train 32 / validation 8 / test 11" in done.err
    assert run("eval", "runs/tiny-1", "tiny", "--json").json["rows"] == 11
    assert len(run("predict", "runs/tiny-1", "tiny").rows) == 12
    assert len(run("predict", "runs/tiny-1", "tiny/t10k-images-idx3-ubyte.gz", "--proba").rows) == 12
    Path("tiny/t10k-labels-idx1-ubyte").write_bytes(idx(LABELS[:11])[:-1])
    assert run("tiny", *QUICK).code == 3
    os.mkdir("empty")
    nothing = run("empty", *QUICK)
    assert nothing.code == 3 and "it holds nothing" in nothing.err


def test_a_folder_as_cifar_10_publishes_it() -> None:
    os.mkdir("cifar")
    labels = np.arange(30) % 10
    planes = DRAW.integers(0, 256, (30, 3072), dtype=np.uint8)
    with open("cifar/data_batch_1", "wb") as file:
        pickle.dump({b"data": planes, b"labels": labels.tolist()}, file, protocol=2)
    Path("cifar/test_batch.bin").write_bytes(np.column_stack([labels[:10], planes[:10]]).astype(np.uint8).tobytes())
    done = run("cifar", "--hidden", "100", "--epochs", "1")
    assert (
        done.code == 0 and "MLP 3072-100-10 (1 hidden layer, 308,310 parameters)" in done.err and "test 10" in done.err
    )
    assert {row[0] for row in run("predict", "runs/cifar-10-1", "cifar").rows[1:]} <= {
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    }  # fmt: skip


# ---------------------------------------------------------------- usage, devices, exit codes

# fmt: off
USAGE = [
    (("--no-such", "digits"), "No such option"), (("digits", "--epochs", "0"), "epochs"), (("digits", "--epochs", "x"), "epochs"),
    (("digits", "--hidden", "8,x"), "widths such as 256,128 wanted"), (("digits", "--hidden", "8,,4"), "widths such as 256,128 wanted"),
    (("digits", "--hidden", "a,b"), "widths such as 256,128 wanted"), (("digits", "--hidden", "0"), "widths are at least 1"),
    (("digits", "--hidden", "-5"), "widths are at least 1"), (("digits", "--dropout", "1"), "dropout"),
    (("digits", "--lr", "0"), "lr"), (("digits", "--norm", "bach"), "norm"), (("digits", "--seed", "-1"), "seed"),
    (("digits", "--activation", "rleu"), 'Did you mean "relu"'), (("digits", "--optimizer", "adamm"), "adam"),
    (("digits", "--schedule", "onecycle"), 'Did you mean "one_cycle"'), (("digits", "--device", "gpu"), "no device"),
    (("digits", "--optimizer", "lbfgs", "--batch-size", "10"), "leave batch_size=10 out"),
    (("digits", "--optimizer", "lbfgs", "--dropout", "0.1"), "leave Dropout out"),
    (("digits", "--target", "y"), "leave --target out"),
    (("digits", "more"), "unexpected extra argument"), (("train",), "Missing argument"), (("predict", "m"), "Missing argument"),
    (("env", "--jsn"), "No such option"), (("pedict", "m", "a.csv"), 'no command and no file "pedict". Did you mean "predict"?'),
]
# fmt: on


@pytest.mark.parametrize(("words", "says"), USAGE, ids=lambda x: " ".join(x) if isinstance(x, tuple) else "")
def test_usage_errors_end_with_2(words: tuple[str, ...], says: str) -> None:
    done = run(*words)
    assert done.code == 2 and says in done.err and not done.out, done
    assert not os.path.isdir("runs") or not os.listdir("runs")


def test_data_that_is_not_there_ends_with_3() -> None:
    Path("sales.csv").write_text("")
    done = run("salse.csv", "--target", "y")
    assert done.code == 3 and 'salse.csv: no such file. Did you mean "sales.csv"' in done.err
    assert run("https://example.org/a.csv", "--target", "y").code == 3


@pytest.mark.skipif(environment.cuda_problem() is None, reason="there is a CUDA device here")
def test_cuda_where_there_is_none_ends_with_4_and_says_what_is_missing(numbers_csv: str, shelter: Path) -> None:
    for words in (
        (numbers_csv, "--target", "price"), ("digits",), ("digits", "--device", "cuda:1"),
        ("predict", shelter / "of-numbers", numbers_csv), ("eval", shelter / "of-numbers", numbers_csv),
    ):  # fmt: skip
        done = run(*words, *(() if "--device" in words else ("--device", "cuda")))
        assert (
            done.code == 4
            and done.err.startswith("error: device cuda")
            and not done.out
            and not os.path.exists("runs/x")
        )
        assert "pip install" in done.err or "driver" in done.err


def test_divergence_ends_with_5(numbers_csv: str) -> None:
    done = run(
        numbers_csv,
        "--target",
        "price",
        "--optimizer",
        "sgd",
        "--schedule",
        "constant",
        "--lr",
        "1e25",
        "--epochs",
        "5",
    )
    assert (
        done.code == 5 and "training diverged at epoch 1, step " in done.err and "Lower the learning rate" in done.err
    )
    assert not done.out and "runs/numbers-1/last.ckpt has the state before it" in done.err
    assert "training diverged" in Path("runs/numbers-1/log.txt").read_text()
    again = run("resume", "--force", "--set", "optimizer.lr=1e-3")
    assert "lr: was 1e+25, is 0.001" in again.err, "the weights are too large to go on with, but it is tried"


def test_interrupted_ends_with_130_and_keeps_the_model() -> None:
    with process("digits", "--epochs", "100000", "--hidden", "8", "--json") as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("epoch 3/"):
                break
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 130 and json.loads(out)["stopped"] == "interrupted"
    assert len(run("predict", "runs/digits-1", table("x.csv", [[0] * 64] * 3, None)).rows) == 4


def test_env() -> None:
    assert run("env").code == 0 and "gpunet" in run("env").out
    assert isinstance(run("env", "--json").json, dict)


# ---------------------------------------------------------------- the shell around it


def test_help_is_quick_and_loads_neither_numpy_nor_rich() -> None:
    code = (
        "import sys\nfrom gpunet.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'numpy', 'rich', 'safetensors', 'yaml'} & set(sys.modules)\nassert not heavy, heavy"
    )
    for words in (["--help"], ["train", "--help"], ["predict", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=30,
                              cwd=Path(__file__).parent.parent)  # fmt: skip
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert words != ["--help"] or all(name in done.stdout for name in COMMANDS)


def test_help_tells_of_every_option() -> None:
    shown = run("train", "--help").out
    wanted = "--target --test --hidden --activation --optimizer --lr --epochs --batch-size --device --seed --out --json"
    assert all(f"{option} " in shown for option in wanted.split(" ")), shown
    assert run().code == 2 and run("--help").code == 0


def test_a_reader_that_goes_is_no_traceback(shelter: Path) -> None:
    table("many.csv", [row[:2] for row in NUMBERS] * 2000, ["a", "b"])
    with process("predict", shelter / "of-numbers", "many.csv") as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == "prediction\n"
        running.stdout.close()
        err = running.stderr.read()
        running.wait(30)
    assert running.returncode in (1, 141) and not err, err
    reading, writing = os.pipe()
    os.close(reading)
    with process("eval", shelter / "of-numbers", shelter / "numbers.csv", stdout=writing) as running:
        os.close(writing)
        err = running.communicate(timeout=30)[1]
    assert running.returncode in (1, 141) and not err, "a short answer is only written when the process ends"


def test_stdout_that_is_full(shelter: Path) -> None:
    with (
        open("/dev/full", "w") as full,
        process("predict", shelter / "of-numbers", shelter / "numbers.csv", stdout=full) as running,
    ):
        err = running.communicate(timeout=30)[1]
    assert running.returncode == 1 and err == "error: stdout: No space left on device\n"


def test_a_file_that_the_disk_has_no_room_for(shelter: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails in the same place."""
    resource = pytest.importorskip("resource", reason="the system has no limits on files")
    Path("out.csv").write_text("old\n")
    words = ("predict", shelter / "of-numbers", shelter / "numbers.csv", "-o", "out.csv")
    with process(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))) as running:
        err = running.communicate(timeout=30)[1]
    assert running.returncode == 1 and err == "error: out.csv: cannot be written (File too large)\n"
    assert Path("out.csv").read_text() == "old\n" and os.listdir() == ["out.csv"]
