"""The lecture's book, a run's report, and the commands that write them."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "gpunet[plot]"')
pytest.importorskip("jinja2", reason='Jinja2 is not installed: pip install "gpunet[plot]"')
pytest.importorskip("dukpy", reason='dukpy is not installed: pip install "gpunet[plot]"')

from browser import Opened, chromium

import gpunet
from gpunet.cli.main import main
from gpunet.cli.plot import write_report
from gpunet.data import digits
from gpunet.data.record import Dataset
from gpunet.data.table import Column, Table
from gpunet.errors import ConfigError, DataError, FormatError
from gpunet.train import History
from gpunet.train.recipe import Recipe, train
from gpunet.viz import lecture, report

RNG = np.random.default_rng(0)


def run(*words: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def some_digits() -> Dataset:
    data = digits()
    return Dataset("some digits", data.x[:600], data.y[:600], classes=data.classes, image_shape=data.image_shape)  # type: ignore[index]


@pytest.fixture(scope="module")
def space(some_digits: Dataset) -> dict[str, Any]:
    return lecture._namespace(lecture.images(some_digits))


# ---------------------------------------------------------------- the lecture


@pytest.mark.parametrize("number", range(1, 10))
def test_rows_1_to_9_give_the_lectures_numbers(space: dict[str, Any], number: int) -> None:
    shown = lecture.run(lecture.ROWS[number - 1], number, space)
    assert shown.checks and all(same for *_, same in shown.checks), shown.checks
    assert shown.picture.startswith(("<figure", "<iframe"))


def test_a_number_that_is_not_the_lectures_is_seen(space: dict[str, Any]) -> None:
    row = lecture.Row("", "", "picture = []", {"0.7310586": "0.74", "1.0": "1"})
    assert [same for *_, same in lecture.run(row, 0, space).checks] == [False, True]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, some_digits: Dataset) -> Path:
    told: list[str] = []
    made = lecture.save(tmp_path_factory.mktemp("book") / "lecture.html", some_digits, tell=told.append)
    assert len(told) == 16
    return made


def test_the_book_has_sixteen_rows_each_with_code_and_picture(page: Path) -> None:
    text = page.read_text()
    sections = re.findall(r'<section id="row(\d+)">(.*?)</section>', text, re.S)
    assert [int(number) for number, _ in sections] == list(range(1, 17))
    for _, section in sections:
        assert "<pre>" in section and ("<svg" in section or "<iframe" in section)
    assert 'class="bad"' not in text and text.count("equal</td>") == sum(len(row.expects) for row in lecture.ROWS)
    assert re.search(r"linear: \d\d\.\d% of the test rows\n2-layer: \d\d\.\d%", text)
    difference = re.search(r"three layers and their product differ by ([\d.e+-]+)", text)
    assert difference is not None and float(difference[1]) < 1e-5
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def told(text: str, pattern: str) -> list[float]:
    """The numbers of a sentence."""
    found = re.search(pattern, text)
    assert found is not None, pattern
    return [float(number.replace(",", "")) for number in re.findall(r"[\d,]*\d(?:\.\d+)?", found[1])]


def test_more_neurons_separate_more_and_a_larger_lambda_smooths(page: Path) -> None:
    text = page.read_text()
    right = told(text, r"Neurons 3, 6, 20: (.*?) of the training points are right")
    assert right == sorted(right) and right[-1] > right[0] + 5 and "More neurons separate more." in text
    of_lambda = text[text.index("λ 0.001, 0.01, 0.1:") :]
    turning, size = (
        told(of_lambda, r"the boundary turns by (.*?);"),
        told(of_lambda, r"the weights have the norm (.*?)\. "),
    )
    assert turning == sorted(turning, reverse=True) and turning[0] > turning[-1] + 90
    assert size == sorted(size, reverse=True)
    assert "A larger λ gives a smoother boundary and smaller weights, with as many neurons." in text


def test_the_book_is_not_written_over_and_wants_images(page: Path, some_digits: Dataset) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        lecture.save(page, some_digits)
    table = Table((Column("a", "numeric", np.zeros(3)),))
    with pytest.raises(DataError, match="folder of image files"):
        lecture.images(Dataset("numbers.csv", table))


# ---------------------------------------------------------------- reports


def regression() -> Any:
    x = RNG.normal(size=(200, 3))
    price = 1e5 * (x[:, 0] - x[:, 1])
    columns = [Column(name, "numeric", x[:, i]) for i, name in enumerate(("size", "<b>age</b>", "noise"))]
    table = Table((*columns, Column("price", "numeric", price)))
    recipe = Recipe(hidden=(8,), epochs=3)
    return train(Dataset("houses.csv", table), target="price", recipe=recipe, show_progress=False)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, some_digits: Dataset) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    made = {
        "values": regression(),
        "classes": train(some_digits, recipe=Recipe(hidden=(16,), epochs=2), show_progress=False),
    }
    found = {}
    for name, one in made.items():
        (folder / name).mkdir()
        path = write_report(one, folder / name)
        assert path is not None
        found[name] = path
    return found


def test_the_report_of_values(reports: dict[str, Path]) -> None:
    text = reports["values"].read_text()
    for said in (
        "houses.csv",
        "price",
        "128 training / 32 validation / 40 test",
        "R²",
        "permutation importance",
        "standardised target",
    ):
        assert said in text
    assert "<b>age</b>" not in text and "&lt;b&gt;age&lt;/b&gt;" in text
    assert f'gpunet.load("{reports["values"].parent}")' in text and "predict_proba" not in text


def test_the_report_of_classes_has_what_was_measured(reports: dict[str, Path]) -> None:
    text = reports["classes"].read_text()
    for said in (
        "10 classes",
        "some digits",
        "ECE",
        "predicted class",
        "templates of the hidden layer",
        "predict_proba",
    ):
        assert said in text
    assert text.count("<svg") == 5 and not re.search(r'(src|href)="(?!data:|#)', text)


def test_without_the_packages_there_is_no_report_and_a_line_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with caplog.at_level("INFO", "gpunet"):
        assert write_report(regression(), tmp_path) is None
    assert 'pip install "gpunet[plot]"' in caplog.text and not list(tmp_path.iterdir())


# ---------------------------------------------------------------- the commands


def test_plot_of_a_run_with_its_data_and_of_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    n = 80
    lines = [f"{i % 7},{'ab'[i % 2]},{i % 2}" for i in range(n)]
    Path("t.csv").write_text("\n".join(["x,kind,y", *lines]) + "\n")
    for out in ("one", "two"):
        assert run("t.csv", "--target", "y", "--epochs", 2, "--hidden", 4, "--out", out, "-q") == 0
    test = json.loads(Path("one/summary.json").read_text())["test.accuracy"]
    there = set(names_in("one"))
    assert {"report.html", "plots", "last.ckpt"} <= there, "drawn at the end of the run"
    assert f"{test:.1%} of 16 rows are right" in Path("one/report.html").read_text()
    with open("t.csv", "a") as file:
        file.write("1,a,0\n")
    capsys.readouterr()
    assert run("plot", "one") == 0 and "t.csv has changed since" in capsys.readouterr().err
    Path("t.csv").rename("moved.csv")
    assert run("plot", "one") == 0
    assert capsys.readouterr().out.split() == [
        "plot",
        "one/plots/curves.svg",
        "plot",
        "one/plots/parameters.svg",
        "report",
        "one/report.html",
    ]
    assert "--data DATA" in Path("one/report.html").read_text()
    Path("t.csv").write_text("\n".join(["x,kind,y", *lines]) + "\n")
    shutil.rmtree("one/plots")
    assert run("plot", "one", "--format", "png") == 0, "the data are where they were"
    assert set(names_in("one")) == there, "nothing else is written, and nothing left behind"
    Path("t.csv").rename("moved.csv")
    assert run("plot", "one", "--data", "moved.csv", "--format", "png") == 0
    Path("moved.csv").rename("t.csv")
    names = {path.stem for path in Path("one/plots").glob("*.png")}
    assert names == {"curves", "parameters", "confusion", "calibration", "importance"}
    # the same test rows as training held out, so the same score
    assert f"{test:.1%} of 16 rows are right" in Path("one/report.html").read_text()
    assert run("plot", "one", "two", "--out", "both") == 0
    assert "one" in Path("both/compare.svg").read_text()
    assert run("plot", "one", "two", "--data", "t.csv") == 2
    assert run("plot", "nowhere") == 3


def names_in(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize(
    "settings",
    [("--test", "0"), ("--validation", "0"), ("--test", "0", "--validation", "0"), ("--target", "x"), ("--hidden", "")],
    ids=" ".join,
)
def test_every_kind_of_run_is_drawn_at_its_end_and_by_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{i % 7 / 3},{'ab'[i % 2]},{i % 2}" for i in range(60)]
    Path("t.csv").write_text("\n".join(["x,kind,y", *lines]) + "\n")
    assert run("t.csv", "--target", "y", "--epochs", 2, "--hidden", 4, *settings, "--out", "one", "-q") == 0
    drawn = names_in("one/plots")
    assert "curves.svg" in drawn and Path("one/report.html").is_file()
    assert run("plot", "one") == 0 and names_in("one/plots") == drawn


def test_a_run_without_a_report_and_one_that_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("digits", "--epochs", 1, "--hidden", 4, "--out", "plain", "-q", "--no-report") == 0
    assert "report.html" not in names_in("plain") and "plots" not in names_in("plain")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert run("digits", "--epochs", 1, "--hidden", 4, "--out", "poor", "-q") == 0
    assert "report.html" not in names_in("poor")
    assert 'no report.html: pictures need the package matplotlib' in Path("poor/log.txt").read_text()
    assert "matplotlib" not in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)

    def interrupt(self: History, logs: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        plain(self, logs)

    plain = History.add
    with monkeypatch.context() as patch:
        patch.setattr(History, "add", interrupt)
        assert run("digits", "--epochs", 3, "--hidden", 4, "--out", "cut", "-q") == 130
    assert "report.html" not in names_in("cut")
    assert run("resume", "cut", "-q") == 0 and "report.html" in names_in("cut")


def test_plot_of_a_damaged_run_says_what_is_wrong(tmp_path: Path, reports: dict[str, Path]) -> None:
    regression().model.save(tmp_path / "best.gpunet")
    with pytest.raises(FormatError, match=r"metrics\.csv: no such file"):
        report.of_directory(tmp_path)
    (tmp_path / "metrics.csv").write_text("epoch,loss\n")
    with pytest.raises(FormatError, match="no finished epoch"):
        report.of_directory(tmp_path)
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,0.5\n")
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(FormatError, match=r"summary\.json: not JSON"):
        report.of_directory(tmp_path)


def test_lecture_of_the_command_refuses_before_it_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.html").write_text("mine")
    assert run("lecture", "--out", tmp_path / "there.html") == 2
    assert "--force" in capsys.readouterr().err and (tmp_path / "there.html").read_text() == "mine"
    assert run("lecture", "--images", tmp_path / "none", "--out", tmp_path / "new.html") == 3


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


def test_the_book_in_a_browser(browser: Any, page: Path) -> None:
    for width, scheme in ((1120, "light"), (480, "dark")):
        opened = Opened(browser, page, width=width, scheme=scheme)
        assert not opened.page.evaluate(WIDER)
        frame = opened.page.locator("#row2 iframe")
        frame.scroll_into_view_if_needed()
        inside = frame.content_frame
        inside.locator("#slider").fill("1")
        assert inside.locator("#caption").inner_text() == "Forward 1 of 2: q = add(x, y) = 3"
        opened.close()


def test_reports_in_a_browser(browser: Any, reports: dict[str, Path]) -> None:
    for path in reports.values():
        for width, scheme in ((1120, "light"), (480, "dark")):
            opened = Opened(browser, path, width=width, scheme=scheme)
            assert not opened.page.evaluate(WIDER) and opened.page.locator("h1").inner_text() == path.parent.name
            opened.close()


def test_a_report_loads_as_it_says(reports: dict[str, Path], tmp_path: Path) -> None:
    """The lines under "How to use it", run."""
    one = regression()
    one.model.save(tmp_path / "best.gpunet")
    text = report.html(report.of_run(one, tmp_path))
    code = re.search(r"<pre>(import gpunet.*?)</pre>", text, re.S)
    assert code is not None
    table, answers = one.data.test
    space: dict[str, Any] = {"table": table, "answers": answers}
    exec(code[1].replace("&#34;", '"'), space)
    assert np.array_equal(space["model"].predict(table), one.model.predict(table)) and gpunet is space["gpunet"]
