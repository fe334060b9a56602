#!/usr/bin/env python
"""Compares tabular learners with their defaults on a folder of CSV files: accuracy, log loss, calibration, fit time.

    python scripts/bench_tabular.py ../shared/data/tabular                          # all learners that are installed
    python scripts/bench_tabular.py SUITE --learners gpunet,catboost --tables adult,letter --seeds 1
    python scripts/bench_tabular.py SUITE --learners gpunet:realmlp,realmlp-td --out realmlp.jsonl --json summary.json

The folder has a suite.json: {name: {"file": "x.csv.gz", "task": "classification" | "regression", "rows": n,
"categorical": [columns]}}, and the column to predict is called target. For each table and seed: a random 70/30 split
(stratified for classes), at most 10,000 rows on each side. Every learner gets the same raw frame, with text and blanks as
in the file; peers that need it get the preparation below. Only `fit` is timed. A run is one JSON line in --out, and what
is there already is not run again.

A learner may carry settings of the estimator: "gpunet:realmlp,max_iter=64" is preset="realmlp", max_iter=64; several are
separated by spaces: --learners "gpunet:realmlp,n_ensemble=2 catboost".
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MOST_ROWS = 10_000
SMALLEST_CLASS = 5  # rows; a smaller one cannot be split
BINS = 15  # of the expected calibration error
BEHIND = 0.02  # of accuracy or R2: a table that is to be named
THREADS = 2


class Table(NamedTuple):
    name: str
    x: Any  # a pandas frame
    y: Any  # codes, or values
    classes: bool
    categorical: list[str]

    @property
    def numeric(self) -> list[str]:
        return [name for name in self.x.columns if name not in self.categorical]


# ---------------------------------------------------------------- the tables


def tables(suite: Path, wanted: Sequence[str]) -> Iterator[Table]:
    """The suite's tables, the small ones first."""
    listed = json.loads((suite / "suite.json").read_text())
    unknown = [name for name in wanted if name not in listed]
    if unknown:
        raise SystemExit(f"no table {unknown[0]!r} in {suite}. Tables: {', '.join(sorted(listed))}")
    for name in sorted(wanted or listed, key=lambda name: listed[name]["rows"]):
        yield read(suite, name, listed[name])


def read(suite: Path, name: str, about: dict[str, Any]) -> Table:
    import pandas as pd

    frame = pd.read_csv(suite / about["file"])
    x, y, classes = frame.drop(columns="target"), frame["target"], about["task"] == "classification"
    if classes:
        codes = y.astype(str)
        kept = codes.map(codes.value_counts()) >= SMALLEST_CLASS
        x, y = x[kept.values].reset_index(drop=True), pd.Series(np.unique(codes[kept], return_inverse=True)[1])
    for column in about["categorical"]:
        x[column] = x[column].astype(str).where(x[column].notna(), None)
    return Table(name, x, y, classes, list(about["categorical"]))


def split(table: Table, seed: int) -> list[Any]:
    """x and y for training, x and y for the test."""
    from sklearn.model_selection import train_test_split

    parts = train_test_split(
        table.x, table.y, test_size=0.3, random_state=seed, stratify=table.y if table.classes else None
    )
    return [parts[i].iloc[:MOST_ROWS] for i in (0, 2, 1, 3)]


# ---------------------------------------------------------------- the learners


def gpunet_learner(table: Table, seed: int, *, settings: str = "") -> Any:
    import gpunet

    kind = gpunet.MLPClassifier if table.classes else gpunet.MLPRegressor
    return kind(random_state=seed, **estimator_settings(settings))


def estimator_settings(text: str) -> dict[str, Any]:
    """realmlp,max_iter=64 as {"preset": "realmlp", "max_iter": 64}."""
    given: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        given |= {name: _value(value)} if equals else {"preset": name}
    return given


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def prepared(table: Table, learner: Any, *, one_hot: bool) -> Any:
    """What a peer that wants numbers gets: one-hot and scaled for a net, ordinal for trees, which take blanks."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler()) if one_hot else "passthrough"
    texts = (
        OneHotEncoder(handle_unknown="ignore", max_categories=50)
        if one_hot
        else OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    )
    parts = [(how, columns) for how, columns in ((numbers, table.numeric), (texts, table.categorical)) if columns]
    return make_pipeline(make_column_transformer(*parts, sparse_threshold=0), learner)


def sklearn_mlp(table: Table, seed: int) -> Any:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import StandardScaler

    if table.classes:
        return prepared(table, MLPClassifier(random_state=seed), one_hot=True)
    scaled = TransformedTargetRegressor(MLPRegressor(random_state=seed), transformer=StandardScaler())
    return prepared(table, scaled, one_hot=True)


def histgb(table: Table, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if table.classes else HistGradientBoostingRegressor
    return prepared(table, kind(random_state=seed), one_hot=False)


def lightgbm(table: Table, seed: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMClassifier if table.classes else LGBMRegressor
    return prepared(table, kind(random_state=seed, verbose=-1, n_jobs=THREADS), one_hot=False)


def catboost(table: Table, seed: int) -> Any:
    from catboost import CatBoostClassifier, CatBoostRegressor

    kind = CatBoostClassifier if table.classes else CatBoostRegressor
    return prepared(
        table, kind(random_seed=seed, verbose=0, thread_count=THREADS, allow_writing_files=False), one_hot=False
    )


class Pytabkit:
    """pytabkit's estimators take text columns, but no blank among numbers: those get the median."""

    def __init__(self, table: Table, seed: int, *, name: str) -> None:
        import pytabkit

        kind = getattr(pytabkit, f"RealMLP_{name}_{'Classifier' if table.classes else 'Regressor'}")
        self.table, self.learner = table, kind(device="cpu", random_state=seed, n_threads=THREADS)

    def fit(self, x: Any, y: Any) -> Pytabkit:
        self.medians = x[self.table.numeric].median()
        self.learner.fit(self._filled(x), y, cat_col_names=self.table.categorical)
        return self

    def _filled(self, x: Any) -> Any:
        return x.assign(**{name: x[name].fillna(self.medians[name]) for name in self.table.numeric})

    def predict(self, x: Any) -> Any:
        return self.learner.predict(self._filled(x))

    def predict_proba(self, x: Any) -> Any:
        return self.learner.predict_proba(self._filled(x))


def _td(table: Table, seed: int) -> Any:
    return Pytabkit(table, seed, name="TD")


def _td_s(table: Table, seed: int) -> Any:
    return Pytabkit(table, seed, name="TD_S")


# fmt: off
LEARNERS: dict[str, tuple[str, Callable[..., Any]]] = {
    # name        what must be installed, and how it is made
    "gpunet":      ("gpunet",   gpunet_learner),
    "sklearn-mlp": ("sklearn",  sklearn_mlp),
    "histgb":      ("sklearn",  histgb),
    "lightgbm":    ("lightgbm", lightgbm),
    "catboost":    ("catboost", catboost),
    "realmlp-td-s": ("pytabkit", _td_s),
    "realmlp-td":  ("pytabkit", _td),
}
# fmt: on


def chosen(text: str) -> list[str]:
    """The learners asked for; those that are not installed are named and left out."""
    separator = " " if " " in text.strip() or ":" in text else ","
    names = [name for name in text.strip().split(separator) if name] if text else list(LEARNERS)
    for name in names:
        if name.partition(":")[0] not in LEARNERS:
            raise SystemExit(f"no learner {name!r}. Learners: {', '.join(LEARNERS)}")
    missing = [name for name in names if importlib.util.find_spec(LEARNERS[name.partition(":")[0]][0]) is None]
    for name in missing:
        print(f"{name}: left out, {LEARNERS[name][0]} is not installed", file=sys.stderr)
    return [name for name in names if name not in missing]


def make(name: str, table: Table, seed: int) -> Any:
    kind, _, settings = name.partition(":")
    if settings and kind != "gpunet":
        raise SystemExit(f"{name}: only gpunet takes settings")
    return LEARNERS[kind][1](table, seed, **({"settings": settings} if settings else {}))


# ---------------------------------------------------------------- one run


def run(name: str, table: Table, seed: int) -> dict[str, Any]:
    """Fit and score; a failure is a result too."""
    train_x, train_y, test_x, test_y = split(table, seed)
    record: dict[str, Any] = {"table": table.name, "classes": table.classes, "learner": name, "seed": seed}
    try:
        learner = make(name, table, seed)
        begun, busy = time.perf_counter(), time.process_time()
        learner.fit(train_x, train_y)
        record["fit_s"] = round(time.perf_counter() - begun, 3)
        record["cpu_s"] = round(time.process_time() - busy, 3)  # of all threads: what counts on a busy machine
        return record | (judged_classes if table.classes else judged_values)(learner, test_x, np.asarray(test_y))
    except Exception as error:  # whatever a peer raises
        return record | {"error": f"{type(error).__name__}: {error}"[:300]}


def judged_classes(learner: Any, x: Any, y: Any) -> dict[str, float]:
    p = np.clip(np.asarray(learner.predict_proba(x), np.float64), 1e-7, 1)
    p /= p.sum(axis=1, keepdims=True)
    return {
        "score": float(np.mean(np.asarray(learner.predict(x)).ravel() == y)),
        "log_loss": float(-np.mean(np.log(p[np.arange(len(y)), y]))),
        "ece": calibration_error(p, y),
    }


def judged_values(learner: Any, x: Any, y: Any) -> dict[str, float]:
    error = np.asarray(learner.predict(x), np.float64).ravel() - y
    return {"score": float(1 - np.mean(error**2) / np.var(y)), "rmse": float(np.mean(error**2) ** 0.5)}


def calibration_error(p: Any, y: Any, bins: int = BINS) -> float:
    """The mean gap between confidence and accuracy over equal bins of confidence (Guo et al. 2017)."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, confidence - right, bins)
    return float(np.abs(gaps).sum() / len(y))


# ---------------------------------------------------------------- what came out


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds; ranks, wins and gaps over the tables that every learner has finished."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if "error" not in record:
            grouped[record["table"], record["learner"]].append(record)
    learners = list(dict.fromkeys(record["learner"] for record in records))
    seen = list(dict.fromkeys(record["table"] for record in records))
    mean = {
        name: {
            learner: {key: float(np.mean([r[key] for r in found])) for key in _figures(found[0])}
            | {"error": _error(found)}
            for learner in learners
            if (found := grouped.get((name, learner)))
        }
        for name in seen
    }
    whole = [name for name in seen if len(mean[name]) == len(learners)]
    scores = np.array([[mean[name][learner]["score"] for learner in learners] for name in whole]).reshape(
        -1, len(learners)
    )
    return {
        "learners": learners, "tables": mean, "ranked": whole,
        "overall": {learner: _overall(i, scores, [mean[n][learner] for n in whole]) for i, learner in enumerate(learners)}
        if whole else {},
        "wins": {a: {b: int((scores[:, i] > scores[:, j]).sum()) for j, b in enumerate(learners) if i != j}
                 for i, a in enumerate(learners)},
        "behind": _behind(mean, learners, whole),
    }  # fmt: skip


def _figures(record: dict[str, Any]) -> list[str]:
    return [key for key in ("score", "log_loss", "ece", "rmse", "fit_s", "cpu_s") if key in record]


def _error(found: Sequence[dict[str, Any]]) -> float | None:
    """The standard error of the mean score over the seeds."""
    scores = [record["score"] for record in found]
    return float(np.std(scores, ddof=1) / len(scores) ** 0.5) if len(scores) > 1 else None


def _overall(i: int, scores: Any, mine: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    ranks = (scores > scores[:, [i]]).sum(axis=1) + ((scores == scores[:, [i]]).sum(axis=1) + 1) / 2  # ties share
    others = np.delete(scores, i, axis=1)
    gap = others.max(axis=1) - scores[:, i] if others.shape[1] else np.zeros(len(scores))
    logs, eces = ([m[key] for m in mine if key in m] for key in ("log_loss", "ece"))
    return {
        "mean_rank": float(ranks.mean()), "mean_score": float(scores[:, i].mean()), "median_gap": float(np.median(gap)),
        "mean_log_loss": float(np.mean(logs)) if logs else None, "mean_ece": float(np.mean(eces)) if eces else None,
        "median_fit_s": float(np.median([m["fit_s"] for m in mine])), "total_fit_s": float(sum(m["fit_s"] for m in mine)),
        "total_cpu_s": float(sum(m.get("cpu_s", 0) for m in mine)),
    }  # fmt: skip


def _behind(mean: dict[str, Any], learners: Sequence[str], whole: Sequence[str]) -> list[dict[str, Any]]:
    """Tables on which a gpunet is more than BEHIND behind the best peer."""
    found = []
    for learner in (name for name in learners if name.startswith("gpunet")):
        for name in whole:
            best = max(
                (b for b in learners if not b.startswith("gpunet")), key=lambda b: mean[name][b]["score"], default=None
            )
            if best is not None and (gap := mean[name][best]["score"] - mean[name][learner]["score"]) > BEHIND:
                found.append({"table": name, "learner": learner, "best": best, "gap": gap,
                              "standard_error": mean[name][learner]["error"]})  # fmt: skip
    return found


def show(found: dict[str, Any]) -> None:
    learners = found["learners"]
    head = ["score, log loss", *learners]
    rows = []
    for name, of in found["tables"].items():
        best = max((of[learner]["score"] for learner in of), default=0)
        rows.append([name, *(_cell(of.get(learner), best) for learner in learners)])
    rows.append([""] * len(head))
    for key in ("mean_rank", "mean_score", "median_gap", "mean_log_loss", "mean_ece", "median_fit_s", "total_fit_s", "total_cpu_s"):
        cells = [found["overall"].get(learner, {}).get(key) for learner in learners]
        rows.append([key.replace("_", " "), *("" if c is None else f"{c:.{4 if abs(c) < 1 else 2}f}" for c in cells)])
    wide = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(f"{cell:{'<' if i == 0 else '>'}{wide[i]}}" for i, cell in enumerate(row)).rstrip())
    print(f"\nranks over {len(found['ranked'])} tables that every learner has finished; * is the best score")
    for a, of in found["wins"].items():
        if a.startswith("gpunet"):
            print(f"{a} wins: " + ", ".join(f"{count} against {b}" for b, count in of.items()))
    for gap in found["behind"]:
        error = "" if gap["standard_error"] is None else f" (standard error {gap['standard_error']:.4f})"
        print(f"{gap['table']}: {gap['learner']} is {gap['gap']:.4f} behind {gap['best']}{error}")


def _cell(of: dict[str, Any] | None, best: float) -> str:
    if of is None:
        return "failed"
    log = f" {of['log_loss']:.3f}" if "log_loss" in of else ""
    return f"{of['score']:.4f}{'*' if of['score'] == best else ' '}{log} {of['fit_s']:6.1f}s"


def machine() -> dict[str, Any]:
    packages = {}
    for package in ("gpunet", "numpy", "scikit-learn", "lightgbm", "catboost", "pytabkit", "torch"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": packages,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="a folder with suite.json")
    parser.add_argument("--learners", default="", help=f"of {', '.join(LEARNERS)}; all that are installed")
    parser.add_argument("--tables", default="", help="names, separated by commas; all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench-tabular.jsonl"), help="the runs, one JSON line each")
    parser.add_argument("--json", type=Path, help="write the summary, with machine and versions, to this file")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    learners, wanted = chosen(args.learners), [name for name in args.tables.split(",") if name]
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    ran = {(r["table"], r["learner"], r["seed"]) for r in done}
    names = []
    for table in tables(args.suite, wanted):
        names.append(table.name)
        for seed in range(args.seeds):
            for learner in learners:
                if (table.name, learner, seed) in ran:
                    continue
                record = run(learner, table, seed)
                done.append(record)
                print(json.dumps(record), file=sys.stderr, flush=True)
                with args.out.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    shown = [r for r in done if r["table"] in names and r["learner"] in learners and r["seed"] < args.seeds]
    if not shown:
        raise SystemExit("nothing was run")
    found = summary(shown)
    show(found)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "seeds": args.seeds, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
