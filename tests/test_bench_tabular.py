"""The tabular benchmark: one protocol for all learners, ranks and gaps as counted by hand, failures that are results."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pandas = pytest.importorskip("pandas", reason="the benchmark reads CSV files with pandas")
pytest.importorskip("sklearn", reason="the benchmark splits with scikit-learn")

SCRIPT = Path(__file__).parent.parent / "scripts" / "bench_tabular.py"
if not SCRIPT.is_file():
    pytest.skip("scripts/ lies beside the source tree only", allow_module_level=True)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_tabular", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["bench_tabular"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = load()


@pytest.fixture(scope="module")
def suite(tmp_path_factory: Any) -> Path:
    folder, r = tmp_path_factory.mktemp("suite"), np.random.default_rng(0)
    x, text = r.normal(size=90), r.choice(["a", "b", ""], 90)
    frame = pandas.DataFrame({"x": x, "text": text, "target": np.where(x > 0, "yes", "no")})
    frame.loc[:2, "target"] = "seldom"  # 3 rows: too few to split
    frame.loc[5, "x"] = np.nan
    frame.to_csv(folder / "c.csv.gz", index=False)
    pandas.DataFrame({"x": x, "target": 2 * x}).to_csv(folder / "v.csv", index=False)
    about = {"file": "c.csv.gz", "task": "classification", "rows": 90, "categorical": ["text"]}
    other = {"file": "v.csv", "task": "regression", "rows": 80, "categorical": []}
    (folder / "suite.json").write_text(json.dumps({"c": about, "v": other}))
    return folder


def test_every_learner_sees_the_same_raw_rows_and_small_classes_are_left_out(suite: Path) -> None:
    v, c = bench.tables(suite, [])
    assert (v.name, c.name) == ("v", "c") and c.numeric == ["x"]
    assert sorted(c.y.unique()) == [0, 1] and len(c.x) == 87
    assert set(c.x["text"].dropna()) == {"a", "b"} and c.x["text"].isna().any()
    first, again, other = bench.split(c, 0), bench.split(c, 0), bench.split(c, 1)
    assert [len(part) for part in first] == [60, 60, 27, 27]
    assert first[0].equals(again[0]) and not first[0].equals(other[0])
    assert not set(first[0].index) & set(first[2].index)
    with pytest.raises(SystemExit, match="no table 'd'"):
        next(bench.tables(suite, ["d"]))


def test_figures_of_predictions_that_are_known() -> None:
    class Known:
        def predict(self, x: Any) -> Any:
            return np.array([0, 0, 1, 1])

        def predict_proba(self, x: Any) -> Any:
            return np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])

    found = bench.judged_classes(Known(), None, np.array([0, 1, 1, 1]))
    assert found["score"] == 0.75
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.1, 0.6, 0.6]).mean())
    assert found["ece"] == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)  # 0.9 against 1/2, and 0.6 against 1
    values = bench.judged_values(Known(), None, np.array([0.0, 1, 1, 2]))
    assert values == {"score": pytest.approx(1 - 0.5 / 0.5), "rmse": pytest.approx(0.5**0.5)}


def test_ranks_wins_and_gaps() -> None:
    rows = {"gpunet": [0.8, 0.9, 0.5], "a": [0.9, 0.9, 0.4], "b": [0.7, 0.6, 0.3]}
    records = [
        {"table": f"t{i}", "learner": name, "seed": seed, "score": score + 0.01 * seed, "fit_s": 1.0 + i}
        for name, scores in rows.items() for i, score in enumerate(scores) for seed in (0, 1)
    ]  # fmt: skip
    records += [{"table": "t3", "learner": name, "seed": 0, "score": 0.5, "fit_s": 1.0} for name in ("gpunet", "a")]
    records.append({"table": "t3", "learner": "b", "seed": 0, "error": "ValueError: no"})
    found = bench.summary(records)
    assert found["ranked"] == ["t0", "t1", "t2"]  # b failed on t3
    assert [found["overall"][name]["mean_rank"] for name in rows] == pytest.approx([(2 + 1.5 + 1) / 3, (1 + 1.5 + 2) / 3, 3])
    assert found["wins"]["gpunet"] == {"a": 1, "b": 3}
    assert found["overall"]["gpunet"]["median_gap"] == pytest.approx(0)
    assert found["overall"]["gpunet"]["total_fit_s"] == 6
    assert [(gap["table"], gap["best"], round(gap["gap"], 6)) for gap in found["behind"]] == [("t0", "a", 0.1)]
    assert found["behind"][0]["standard_error"] == pytest.approx(0.005)


def test_settings_of_a_learner() -> None:
    assert bench.estimator_settings("realmlp,max_iter=64,activation=relu,n_ensemble=2") == {
        "preset": "realmlp", "max_iter": 64, "activation": "relu", "n_ensemble": 2,
    }  # fmt: skip
    assert bench.chosen("gpunet:classic,max_iter=2 histgb") == ["gpunet:classic,max_iter=2", "histgb"]
    assert bench.chosen("gpunet,histgb") == ["gpunet", "histgb"]
    with pytest.raises(SystemExit, match="no learner 'xgboost'"):
        bench.chosen("xgboost")


def test_a_run_goes_on_where_it_stopped(suite: Path, tmp_path: Path) -> None:
    out, summary = tmp_path / "runs.jsonl", tmp_path / "summary.json"
    command = [sys.executable, str(SCRIPT), str(suite), "--out", str(out), "--json", str(summary), "--learners"]
    first = subprocess.run([*command, "gpunet:classic,max_iter=2", "--seeds", "1"], capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["table"], r["seed"]) for r in records] == [("v", 0), ("c", 0)] and not any("error" in r for r in records)
    assert {"log_loss", "ece"} <= set(records[1]) and "rmse" in records[0]
    assert "mean rank" in first.stdout and "gpunet:classic,max_iter=2" in first.stdout
    subprocess.run([*command, "gpunet:classic,max_iter=2 gpunet:nonsense", "--seeds", "1"], capture_output=True, check=True)
    later = [json.loads(line) for line in out.read_text().splitlines()]
    assert later[:2] == records and len(later) == 4 and all("no preset" in r["error"] for r in later[2:])
    assert json.loads(summary.read_text())["machine"]["packages"]["numpy"] == np.__version__
