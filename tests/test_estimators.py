"""MLPClassifier and MLPRegressor: scikit-learn's contract, tables as they come, and what scikit-learn's MLP refuses."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fibers
import hypothesis
import numpy as np
import pytest
from conftest import emulated_cuda
from hypothesis import given
from hypothesis import strategies as st

import gpunet
from gpunet import losses, metrics, nn, presets
from gpunet.data import Table
from gpunet.devices import select
from gpunet.errors import ConfigError, DataError, GpunetError, ShapeError
from gpunet.estimators import NotFittedError
from gpunet.estimators.calibrate import temperature
from gpunet.estimators.judge import probabilities

pytestmark = pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
QUICK: dict[str, Any] = {"preset": "realmlp-s", "hidden_layer_sizes": (64, 64), "max_iter": 12, "random_state": 0}


def classifier(**settings: Any) -> gpunet.MLPClassifier:
    return gpunet.MLPClassifier(**QUICK | settings)


def regressor(**settings: Any) -> gpunet.MLPRegressor:
    return gpunet.MLPRegressor(**QUICK | settings)


def two_moons(rows: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    y = r.integers(0, 2, rows)
    t = np.pi * r.uniform(size=rows)
    x = np.stack([np.cos(t) + y, np.sin(t) * (1 - 2 * y) + 0.5 * y], axis=1) + 0.15 * r.normal(size=(rows, 2))
    return x, y


def people(rows: int = 120) -> dict[str, list[Any]]:
    """A table with text, blanks and a date; `answer` says what is to be learned from it."""
    r = np.random.default_rng(1)
    age = r.integers(18, 80, rows).astype(float)
    job = r.choice(["baker", "smith", "clerk"], rows)
    age[::9] = np.nan
    day = [f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in range(rows)]
    return {"age": age.tolist(), "job": [None if i % 7 == 0 else str(j) for i, j in enumerate(job)], "joined": day}


def answer(table: dict[str, list[Any]]) -> np.ndarray:
    return np.array(
        ["yes" if (a > 45) != (j == "smith") else "no" for a, j in zip(table["age"], table["job"], strict=True)]
    )


X, Y = two_moons()


# ---------------------------------------------------------------- scikit-learn's contract


def contract_checks() -> list[Any]:
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    each = getattr(checks, "estimator_checks_generator", None)  # since 1.6
    each = each or (lambda estimator: checks.check_estimator(estimator, generate_only=True))
    made = [(e, c) for one in (classifier(), regressor()) for e, c in each(one)]
    return [
        pytest.param(e, c, id=f"{type(e).__name__}-{getattr(c, 'func', c).__name__}-{i}")
        for i, (e, c) in enumerate(made)
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), contract_checks())
def test_check_estimator(estimator: Any, check: Callable[[Any], None]) -> None:
    from unittest import SkipTest

    try:
        check(estimator)
    except SkipTest as reason:  # no decision_function; SCIPY_ARRAY_API not set
        pytest.skip(str(reason))


def test_every_argument_goes_by_keyword_and_is_kept() -> None:
    with pytest.raises(TypeError):
        gpunet.MLPClassifier((100,))  # type: ignore[misc]
    settings = {"hidden_layer_sizes": (5,), "alpha": 1e-3, "cv": 3, "class_weight": "balanced"}
    made = gpunet.MLPClassifier(**settings)
    assert {name: made.get_params()[name] for name in settings} == settings
    assert set(gpunet.MLPRegressor().get_params()) == set(made.get_params()) - {"class_weight", "calibrate"}


WITHOUT = """
import sys
sys.modules["sklearn"] = None
import copy, pickle, numpy as np, gpunet
x = np.random.default_rng(0).normal(size=(80, 3)); y = (x[:, 0] > 0).astype(int)
clf = gpunet.MLPClassifier(preset="classic", max_iter=30, random_state=0)
try:
    clf.predict(x)
except gpunet.estimators.NotFittedError as error:
    assert "not fitted yet" in str(error)
clf.set_params(alpha=1e-3).fit(x, y)
again = pickle.loads(pickle.dumps(copy.deepcopy(clf)))
assert (again.predict_proba(x) == clf.predict_proba(x)).all() and clf.score(x, y) > 0.9
print(clf)
try:
    clf.set_params(alpa=1)
except gpunet.errors.ConfigError as error:
    print(error)
reg = gpunet.MLPRegressor(preset="classic", max_iter=30, random_state=0).fit(x, x[:, 0])
assert reg.score(x, x[:, 0]) > 0.5
assert not any(name.startswith("sklearn.") for name in sys.modules)
"""


def test_all_works_without_scikit_learn() -> None:
    root = str(Path(gpunet.__file__).parent.parent)
    run = [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{WITHOUT}"]
    printed = subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()
    assert printed[0] == "MLPClassifier(alpha=0.001, max_iter=30, preset='classic', random_state=0)"
    assert 'Did you mean "alpha"?' in printed[1]


def test_pipeline_grid_search_and_calibration() -> None:
    pytest.importorskip("sklearn")
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipe = make_pipeline(StandardScaler(), classifier())
    assert cross_val_score(pipe, X, Y, cv=3).mean() > 0.8
    search = GridSearchCV(classifier(), {"hidden_layer_sizes": [(4,), (32, 32)]}, cv=2).fit(X, Y)
    assert search.best_params_ == {"hidden_layer_sizes": (32, 32)}
    p = CalibratedClassifierCV(classifier(), cv=2, ensemble=False).fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_cross_val_score_in_two_processes() -> None:
    pytest.importorskip("sklearn")
    from sklearn.model_selection import cross_val_score

    alone = cross_val_score(classifier(), X, Y, cv=2)
    assert np.array_equal(cross_val_score(classifier(), X, Y, cv=2, n_jobs=2), alone)


def test_metadata_routing_of_weights() -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.pipeline import Pipeline

    seen: list[Any] = []

    class Watched(gpunet.MLPClassifier):
        def __init__(self, *, max_iter: int | None = 2) -> None:
            super().__init__(max_iter=max_iter, preset="classic")

        def fit(self, X: Any, y: Any, sample_weight: Any = None, eval_set: Any = None) -> Any:
            seen.append(sample_weight)
            return super().fit(X, y, sample_weight, eval_set)

    weight = np.linspace(1, 2, len(Y))
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = Pipeline([("net", Watched().set_fit_request(sample_weight=True))])
        pipe.fit(X, Y, sample_weight=weight)
    assert np.array_equal(seen[0], weight)


def test_a_copy_of_any_kind_predicts_the_same() -> None:
    made = classifier().fit(X, Y)
    want = made.predict_proba(X)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert np.array_equal(other.predict_proba(X), want)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        classifier().predict(X)


def test_the_saved_file_predicts_the_same(tmp_path: Path) -> None:
    table = people()
    made = classifier(n_ensemble=2, max_iter=4).fit(table, answer(table))
    loaded = gpunet.load(made.save(tmp_path / "people.gpunet"), device=None)  # the one that made it
    assert np.array_equal(loaded.predict(table), made.predict(table))
    assert np.array_equal(loaded.predict_proba(table), made.predict_proba(table))


def test_names_that_scikit_learn_has() -> None:
    made = gpunet.MLPClassifier(preset="classic", hidden_layer_sizes=(7, 5), max_iter=3, random_state=0).fit(X, Y)
    assert [w.shape for w in made.coefs_] == [(2, 7), (7, 5), (5, 2)]
    assert [b.shape for b in made.intercepts_] == [(7,), (5,), (2,)]
    assert (made.n_layers_, made.n_outputs_, made.n_iter_, len(made.loss_curve_)) == (4, 2, 3, 3)
    other = classifier(hidden_layer_sizes=(7,), activation="relu", max_iter=2, calibrate=False).fit(X, Y)
    [w, v], [b, c] = other.coefs_, other.intercepts_
    scaled = other.encoder_.transform(other._read(X)) * other.model_.net[1].factor.numpy()
    z = np.maximum(scaled @ w + b, 0) @ v + c
    np.testing.assert_allclose(other.predict_proba(X), probabilities("classification", z), atol=1e-5)


# ---------------------------------------------------------------- rows are a set


@pytest.mark.parametrize("make", [classifier, regressor])
def test_the_order_of_the_rows_does_not_matter(make: Callable[..., Any]) -> None:
    table = people()
    y = (answer(table) == "yes") * (1.0 if make is regressor else 1)
    order = np.random.default_rng(3).permutation(len(y))
    shuffled = {name: [cells[i] for i in order] for name, cells in table.items()}
    one, other = make(max_iter=3).fit(table, y), make(max_iter=3).fit(shuffled, y[order])
    assert np.array_equal(one.predict(table), other.predict(table))


def test_a_weight_of_zero_removes_a_row_and_a_whole_one_repeats_it() -> None:
    weight = np.arange(len(Y)) % 3
    weighted = classifier(max_iter=3).fit(X, Y, sample_weight=weight)
    repeated = classifier(max_iter=3).fit(np.repeat(X, weight, axis=0), np.repeat(Y, weight))
    assert np.array_equal(weighted.predict_proba(X), repeated.predict_proba(X))


def test_fractional_weights_pull_the_answer() -> None:
    x, y = np.ones((200, 1)) * np.arange(200)[:, None] % 2, np.arange(200) % 4 < 2
    made = classifier(preset="classic", max_iter=100).fit(x, y, sample_weight=np.where(y, 3.5, 0.5))
    np.testing.assert_allclose(made.predict_proba(x)[:, 1], 3.5 / 4, atol=0.05)


def test_the_seed_decides() -> None:
    one, same, other = (classifier(max_iter=2, random_state=s).fit(X, Y).predict_proba(X) for s in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    np.random.seed(5)
    first = classifier(max_iter=2, random_state=None).fit(X, Y).predict_proba(X)
    np.random.seed(5)
    assert np.array_equal(first, classifier(max_iter=2, random_state=None).fit(X, Y).predict_proba(X))
    with pytest.raises(ConfigError, match="random_state"):
        classifier(random_state=-1).fit(X, Y)


# ---------------------------------------------------------------- tables as they are


def frames(table: dict[str, list[Any]]) -> dict[str, Any]:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    return {"dict": table, "pandas": pd.DataFrame(table), "polars": pl.DataFrame(table), "pyarrow": pa.table(table)}


def test_every_kind_of_frame_gives_the_same_model() -> None:
    for module in ("pandas", "polars", "pyarrow"):
        pytest.importorskip(module)
    table = people()
    made = {kind: classifier(max_iter=3).fit(frame, answer(table)) for kind, frame in frames(table).items()}
    want = made["dict"].predict_proba(table)
    for kind, frame in frames(table).items():
        assert np.array_equal(made[kind].predict_proba(frame), want), kind
        assert list(made[kind].feature_names_in_) == ["age", "job", "joined"]
    assert made["pandas"].n_features_in_ == 3


def test_what_was_done_to_each_column_can_be_printed() -> None:
    table = {**people(), "id": [f"A-{i}" for i in range(120)], "same": [1] * 120}
    made = classifier(max_iter=2, columns={"same": "drop"}).fit(table, answer(table))
    kinds = {name: done for name, _, done in made.columns_}
    assert "nearly all different" in kinds["id"] and kinds["same"] == "left out, as asked for"
    assert "the median" in kinds["age"] and "a date" in kinds["joined"] and "one-hot" in kinds["job"]
    assert len(str(made.columns_).splitlines()) == 5
    assert any("nearly all different" in note for note in made.notes_)


def test_columns_go_by_name() -> None:
    table = people()
    made = classifier(max_iter=2).fit(table, answer(table))
    want = made.predict_proba(table)
    turned = dict(reversed(table.items()))
    assert np.array_equal(made.predict_proba(turned), want)
    with pytest.warns(UserWarning, match='1 column ignored, not there in training: "wage"'):
        assert np.array_equal(made.predict_proba({**table, "wage": [1] * 120}), want)
    with pytest.raises(DataError, match=r'the model reads the column "age", not in this table. Did you mean "agee"'):
        made.predict({"agee" if name == "age" else name: cells for name, cells in table.items()})
    rows = np.array([table[name] for name in table], object).T
    assert np.array_equal(made.predict_proba(rows), want)  # an array's columns go by place


def test_the_user_may_say_how_a_column_is_read() -> None:
    table = {"zip": [i % 5 for i in range(60)], "row": list(range(60)), "x": (X[:60, 0]).tolist()}
    made = classifier(max_iter=2, columns={"zip": "categorical", "row": "drop"}).fit(table, Y[:60])
    assert {name: kind for name, kind, _ in made.columns_} == {"zip": "scaled", "row": "dropped", "x": "robust"}
    made.predict({name: table[name] for name in ("zip", "x")})
    for wanted, said in (({"zpi": "drop"}, 'Did you mean "zip"'), ({"zip": "text"}, "numeric, categorical, drop")):
        with pytest.raises(ConfigError, match=said):
            classifier(columns=wanted).fit(table, Y[:60])


def test_the_user_may_keep_what_looks_like_an_identifier() -> None:
    rows = np.random.default_rng(0).normal(size=(800, 1))
    table = {"id": list(range(800)), "tag": [f"t{i}" for i in range(800)], "x": rows[:, 0].tolist()}
    y = (rows[:, 0] > 0).astype(int)

    def kinds(**asked: str) -> dict[str, str]:
        made = classifier(max_iter=1, columns=asked).fit(table, y)
        assert np.array_equal(made.predict(table), made.predict(table))
        return {name: kind for name, kind, _ in made.columns_}

    assert kinds() == {"id": "dropped", "tag": "dropped", "x": "robust"}
    assert kinds(id="numeric", tag="categorical") == {"id": "robust", "tag": "scaled", "x": "robust"}
    assert kinds(id="categorical") == {"id": "scaled", "tag": "dropped", "x": "robust"}


def test_validation_rows_teach_the_encoder_nothing() -> None:
    table = {"x": X[:, 0].tolist(), "y": X[:, 1].tolist()}
    beside = {"x": [1e6, -1e6], "y": [0.0, 0.0]}
    made = [classifier(max_iter=2).fit(table, Y, eval_set=e) for e in ((table, Y), (beside, [0, 1]))]
    assert made[0].columns_ == made[1].columns_


def test_integers_as_column_names() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X)
    made = classifier(max_iter=2).fit(frame, Y)
    assert not hasattr(made, "feature_names_in_")
    assert np.array_equal(made.predict_proba(frame), made.predict_proba(X))


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_pixels_stay_bytes(preset: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 16), np.uint8)
    made = classifier(preset=preset, max_iter=2, n_ensemble=1).fit(pixels, pixels[:, 0] > 127)
    assert made.columns_[0][1] == "pixels"
    entrances = [m for _, m in made.model_.net.modules() if isinstance(m, nn.Columns)]
    assert all(m.outputs == 16 for m in entrances)  # as they are: no embedding of each
    assert np.array_equal(made.predict(pixels), made.predict(pixels.astype(int)))


# ---------------------------------------------------------------- hostile tables

N = 60
SMALL = {"a": X[:N, 0].tolist(), "b": ["u", "v", "w"] * 20}
CLASSES = Y[:N]


def duplicated() -> Any:
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(np.ones((N, 2)), columns=["a", "a"])


LATE = {**SMALL, "c": [0.0] * 41 + [np.inf] + [1.0] * 18}
LISTS = {**SMALL, "c": [[1, 2]] * N}
PAIR = {"a": [1], "b": [2]}

# fmt: off
REFUSED: dict[str, tuple[Any, Any, type[GpunetError], str]] = {
    #  what                   X                      y                       error       message
    "no rows":               ({"a": [], "b": []},    [],                     DataError,  r"0 sample\(s\)"),
    "no columns":            (np.ones((N, 0)),       CLASSES,                DataError,  r"0 feature\(s\)"),
    "one row":               (PAIR,                  [0],                    DataError,  "n_samples=1"),
    "one class":             (SMALL,                 [1] * N,                DataError,  "every row has the class 1"),
    "infinite":              (LATE,                  CLASSES,                DataError,  r'"c": infinite in row 42'),
    "lists":                 (LISTS,                 CLASSES,                DataError,  'column "c" holds list'),
    "twice the same name":   (duplicated,            CLASSES,                DataError,  "unique column names"),
    "nothing but blanks":    ({"a": [None] * N},     CLASSES,                DataError,  "no column of the table is left"),
    "answers missing":       (SMALL,                 [np.nan, *CLASSES[1:]], DataError,  "y contains NaN. First in row 1 "),
    "texts missing":         (SMALL,                 [None, "a", "b"] * 20,  DataError,  "20 missing values: rows 1, 4"),
    "answers too few":       (SMALL,                 CLASSES[1:],            ShapeError, "X has 60, y 59"),
    "values for classes":    (SMALL,                 X[:N, 0],               DataError,  "Unknown label type: continuous"),
    "several classes a row": (SMALL,                 np.full((N, 2), 2),     DataError,  "labels are 0 or 1"),
    "one dimension":         (X[:, 0],               Y,                      ShapeError, "Reshape your data"),
    "complex":               (X + 1j,                Y,                      DataError,  "Complex data not supported"),
}
# fmt: on


@pytest.mark.parametrize("what", REFUSED)
def test_hostile_tables_are_refused(what: str) -> None:
    x, y, error, message = REFUSED[what]
    made = classifier()
    with pytest.raises(error, match=message):
        made.fit(x() if callable(x) else x, y)
    assert not hasattr(made, "model_")


def test_a_refused_table_leaves_a_fitted_estimator_as_it_was() -> None:
    made = classifier(max_iter=2).fit(X, Y)
    want, before = made.predict_proba(X), dict(vars(made))

    def broken(y: Any, p: Any) -> float:
        raise RuntimeError("in the middle of training")

    broken.greater_is_better = True  # type: ignore[attr-defined]
    for x, y in ((SMALL, [1] * N), (LATE, [f"c{c}" for c in CLASSES])):
        with pytest.raises(DataError):
            made.fit(x, y)
    made.set_params(scoring=broken)
    with pytest.raises(RuntimeError):
        made.fit(X[:100], ["abc"[c] for c in Y[:100]])
    made.set_params(scoring=None)
    assert vars(made) == before and np.array_equal(made.predict_proba(X), want)


CELLS = st.one_of(
    st.none(), st.floats(), st.integers(-(10**30), 10**30), st.text(max_size=5), st.booleans(),
    st.sampled_from(["2024-01-01", "?", "1e5", "x", "-0", "inf"]),
)  # fmt: skip
COLUMNS = st.sampled_from([CELLS, st.one_of(st.none(), st.floats(-1e300, 1e300)), st.sampled_from(["a", "b", None])])
ANSWERS = st.sampled_from([st.sampled_from([0, 1]), st.sampled_from(["a", "b"]), st.sampled_from([0, 1.0, 2.5])])


@given(data=st.data(), make=st.sampled_from([classifier, regressor]), preset=st.sampled_from(["classic", "realmlp-s"]))
@hypothesis.settings(max_examples=60)
def test_any_table_is_refused_or_predicted_finitely(data: Any, make: Any, preset: str) -> None:
    n = data.draw(st.integers(0, 12))

    def cells(kind: Any) -> list[Any]:
        return data.draw(st.lists(kind, min_size=n, max_size=n))

    names = data.draw(st.lists(st.text(max_size=3), max_size=3, unique=True))
    table = {name: cells(data.draw(COLUMNS)) for name in names}
    y = cells(data.draw(ANSWERS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            made = make(preset=preset, hidden_layer_sizes=(4,), max_iter=1).fit(table, y)
            found = made.predict(table) if make is regressor else made.predict_proba(table)
        except GpunetError:
            return
    assert len(found) == n and np.isfinite(found).all()


def test_an_infinite_answer_and_a_constant_one_are_refused() -> None:
    with pytest.raises(DataError, match="Input y contains infinity"):
        regressor().fit(SMALL, [np.inf, *range(N - 1)])
    with pytest.raises(DataError, match="every row has the value 2"):
        regressor().fit(SMALL, [2] * N)
    with pytest.raises(DataError, match='row 1 of the target is "u"'):
        regressor().fit(SMALL, SMALL["b"])


def test_a_class_with_one_row_is_trained_on() -> None:
    y = ["rare", *("yes" if c else "no" for c in CLASSES[1:])]
    made = classifier(max_iter=3).fit(SMALL, y)
    assert list(made.classes_) == ["no", "rare", "yes"] and any('"rare"' in note for note in made.notes_)


def test_a_column_of_blanks_is_left_out() -> None:
    made = classifier(max_iter=2).fit({**SMALL, "c": [None] * N, "d": [np.nan] * N}, CLASSES)
    assert [kind for _, kind, _ in made.columns_][2:] == ["dropped", "dropped"]


def test_ten_thousand_categories() -> None:
    rows = 25_000
    table = {"c": [f"k{i % 10_000}" for i in range(rows)], "a": (np.arange(rows) % 7).tolist()}
    made = gpunet.MLPClassifier(max_iter=1, random_state=0, preset="realmlp", hidden_layer_sizes=(8,))
    with pytest.warns(UserWarning, match='"c": taken for blank, not seen in training'):
        predicted = made.fit(table, np.arange(rows) % 2).predict(table)
    assert len(predicted) == rows and made.columns_[0][1] == "codes"


def test_more_columns_than_rows() -> None:
    x = np.random.default_rng(0).normal(size=(30, 200))
    y = (x[:, 0] > 0).astype(int)
    assert classifier().fit(x, y).predict_proba(x).shape == (30, 2)


def test_a_column_of_another_type_when_predicting() -> None:
    made = classifier(max_iter=3).fit(SMALL, CLASSES)
    want = made.predict_proba(SMALL)
    as_text = {**SMALL, "a": [repr(v) for v in SMALL["a"]]}
    assert np.array_equal(made.predict_proba(as_text), want)
    with pytest.raises(DataError, match=r'column "a" was numeric in training; row 1 is "u"'):
        made.predict({**SMALL, "a": SMALL["b"]})
    with pytest.warns(UserWarning, match='column "b": taken for blank, not seen in training: "1"'):
        made.predict({**SMALL, "b": [1] * N})
    with pytest.raises(DataError, match="infinite in row 3 "):
        made.predict({**SMALL, "a": [0.0, 0.0, np.inf] + [0.0] * (N - 3)})


def test_blanks_that_training_did_not_have() -> None:
    made = classifier(max_iter=3).fit(X, Y)
    with pytest.warns(UserWarning, match="blanks take the median"):
        p = made.predict_proba(np.full((1, 2), np.nan))
    assert np.isfinite(p).all()


# ---------------------------------------------------------------- fitting


def test_the_best_epoch_is_kept_and_training_stops_for_want_of_patience() -> None:
    made = classifier(early_stopping=True, n_iter_no_change=4, max_iter=200, scoring="log_loss").fit(X, Y)
    curve = made.history_["val_log_loss"]
    best = int(np.argmin(curve))
    assert made.history_.best_epoch == best + 1 and made.n_iter_ == len(curve) == best + 1 + 4 < 200
    assert made.history_.stopped == "patience"


def test_an_eval_set_judges_and_no_row_is_held_out() -> None:
    other, answers = two_moons(100, seed=9)
    made = classifier(preset="classic", calibrate=False, scoring="loss").fit(X, Y, eval_set=(other, answers))
    p = made.predict_proba(other)
    assert min(made.history_["val_loss"]) == pytest.approx(metrics.log_loss(answers, p), rel=1e-4)
    assert made.history_["val_accuracy"][made.history_.best_epoch - 1] == pytest.approx(made.score(other, answers))


def test_a_function_of_the_users_judges() -> None:
    def worst_class_error(y: Any, p: Any) -> float:
        assert set(y) <= {"no", "yes"} and p.shape == (len(y), 2)
        return max(float(np.mean(p[y == c, i] < 0.5)) for i, c in enumerate(("no", "yes")))

    y = np.where(Y, "yes", "no")
    made = classifier(scoring=worst_class_error).fit(X, y)
    assert made.history_.monitor == "val_worst_class_error"
    curve = made.history_["val_worst_class_error"]
    assert curve[made.history_.best_epoch - 1] == min(curve)
    with pytest.raises(ConfigError, match="is more of cost better"):
        classifier(scoring=type("", (), {"__call__": lambda *a: 0.0, "__name__": "cost"})()).fit(X, y)
    with pytest.raises(ConfigError, match="needs rows that judge"):
        classifier(scoring="auc", early_stopping=False).fit(X, Y)


def test_metrics_of_values_are_in_their_own_unit() -> None:
    value = 1000 + 50 * X[:, 0]
    made = regressor(max_iter=30, scoring="mae").fit(X, value, eval_set=(X, value))
    best = made.history_.best_epoch - 1
    assert made.history_["val_mae"][best] == pytest.approx(metrics.mae(value, made.predict(X)), rel=1e-4)
    assert made.history_["val_r2"][best] == pytest.approx(made.score(X, value), rel=1e-4)


def test_time_runs_out() -> None:
    made = classifier(max_iter=100_000, max_seconds=0.2, calibrate=False).fit(X, Y)
    assert made.history_.stopped == "time" and made.n_iter_ < 100_000


def test_callbacks_schedules_and_solvers_are_passed_on() -> None:
    epochs: list[int] = []

    class Count(gpunet.train.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
            epochs.append(epoch)

    made = classifier(
        preset="classic", callbacks=[Count()], max_iter=3, solver="sgd", momentum=0.9, learning_rate="cosine"
    )
    made.fit(X, Y)
    optimizer = made._trainers[0].optimizer
    assert epochs == [1, 2, 3]
    assert (optimizer.name, optimizer.momentum, optimizer.schedules["lr"].name) == ("sgd", 0.9, "cosine")


def test_progress_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    classifier(max_iter=2).fit(X, Y)
    assert capsys.readouterr().err == ""
    classifier(max_iter=2, verbose="lines").fit(X, Y)
    assert "epoch 2/2" in capsys.readouterr().err


def test_any_loss_of_the_users() -> None:
    def squashed(outputs: Any, targets: Any, *, weight: Any = None) -> Any:
        return losses.mae(outputs, targets, weight=weight) + 0.1 * losses.mse(outputs, targets, weight=weight)

    made = regressor(loss=squashed, max_iter=40).fit(X, X[:, 0])
    assert made.score(X, X[:, 0]) > 0.9 and made.history_.monitor == "val_loss"


def test_alpha_is_scikit_learns_penalty() -> None:
    """In the limit of a heavy penalty the weights vanish and the prediction is the mean."""
    light, heavy = (
        gpunet.MLPRegressor(preset="classic", alpha=a, max_iter=300, random_state=0).fit(X, X[:, 0])
        for a in (1e-4, 1e4)
    )
    assert light.score(X, X[:, 0]) > 0.95
    np.testing.assert_allclose(heavy.predict(X), X[:, 0].mean(), atol=0.05)


def test_balanced_class_weights() -> None:
    rare = np.r_[np.flatnonzero(Y == 0), np.flatnonzero(Y == 1)[:12]]
    x, y = X[rare] + np.random.default_rng(0).normal(size=(len(rare), 2)), Y[rare]
    plain, balanced = (
        classifier(preset="classic", class_weight=w, max_iter=150).fit(x, y).predict(x).mean()
        for w in (None, "balanced")
    )
    assert plain < y.mean() < balanced
    by_hand = len(y) / (2 * np.bincount(y))
    same = classifier(preset="classic", class_weight=dict(enumerate(by_hand)), max_iter=150).fit(x, y).predict(x).mean()
    assert same == balanced
    with pytest.raises(ConfigError, match="no class 7"):
        classifier(class_weight={7: 1}).fit(x, y)


@pytest.mark.parametrize(
    "settings", [{"dropout": 0.2}, {"norm": "batch"}, {"norm": "layer", "residual": True}, {"activation": "mish"}]
)
def test_what_scikit_learn_refuses(settings: dict[str, Any]) -> None:
    made = gpunet.MLPClassifier(preset="classic", hidden_layer_sizes=(16, 16), random_state=0, **settings)
    assert made.fit(X, Y).score(X, Y) > 0.85


def test_a_preset_says_what_it_has_not() -> None:
    with pytest.raises(ConfigError, match='preset "realmlp-s" has no norm'):
        classifier(norm="batch").fit(X, Y)
    own = presets.get("classic")
    assert gpunet.MLPClassifier(preset=own, max_iter=2).fit(X, Y).n_iter_ == 2


# ---------------------------------------------------------------- probabilities, labels, quantiles, rates


def test_the_temperature_is_found() -> None:
    r = np.random.default_rng(0)
    z = r.normal(size=(20_000, 3)) * 2
    y = (z + r.gumbel(size=z.shape)).argmax(axis=1)  # of softmax(z), so z is honest
    assert temperature(5 * z, y, None, "classification") == pytest.approx(5, rel=0.05)
    assert temperature(z, y, np.full(len(y), 3.0), "classification") == pytest.approx(1, rel=0.05)
    labels = (z > r.logistic(size=z.shape)).astype(float)
    assert temperature(3 * z, labels, None, "multilabel") == pytest.approx(3, rel=0.05)


def test_label_smoothing_is_taken_back() -> None:
    p = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    q = 0.9 * p + 0.1 / 3
    q[2] = [0.49, 0.5, 0.01]  # which no probabilities become
    z = nn.Unsmooth(0.1)(gpunet.tensor(np.log(q) + 3.0)).numpy()
    found = probabilities("classification", z)
    np.testing.assert_allclose(found[0], p[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], [1 - 2 / 300, 1 / 300, 1 / 300], atol=5e-3)  # at least a twentieth of q is left
    assert found[2, 2] == pytest.approx(0.01 * 0.05, rel=0.1) and found[2].argmax() == 1
    far = nn.Unsmooth(0.1)(gpunet.tensor(np.array([[0.0, -50.0, -60.0, -1e4]], np.float32))).numpy()
    assert np.isfinite(far).all() and (np.diff(far) <= 0).all()
    for wrong in ({"amount": 0.0}, {"amount": 0.1, "floor": 1.0}):
        with pytest.raises(ConfigError, match="Unsmooth"):
            nn.Unsmooth(**wrong)


def test_smoothed_nets_are_as_sure_as_they_are_right() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (600, 2))
    y = (x[:, 0] > 0).astype(int)  # which can be known
    made = classifier(max_iter=30).fit(x, y)
    assert any(isinstance(m, nn.Unsmooth) for _, m in made.model_.net.modules())
    assert metrics.log_loss(y, made.predict_proba(x)) < 0.05  # smoothed labels cost 0.05 at the least
    plain = classifier(max_iter=2, loss="cross_entropy").fit(x, y)
    assert not any(isinstance(m, nn.Unsmooth) for _, m in plain.model_.net.modules())


def test_a_few_right_rows_do_not_make_a_model_certain() -> None:
    z, y = np.array([[4.0, -4.0], [-4.0, 4.0]]), np.array([0, 1])
    p = probabilities("classification", z / temperature(z, y, None, "classification"))
    assert p.max() == pytest.approx(1 - 1 / 6, rel=1e-3)  # as the rule of succession has it: smoothed by 1 / 3 of 1 / 2


def test_calibration_lowers_the_loss_of_unseen_rows_and_changes_no_class() -> None:
    r = np.random.default_rng(0)
    x = r.normal(size=(1500, 4))
    y = (x[:, 0] + 1.5 * r.normal(size=1500) > 0).astype(int)
    made = [classifier(max_iter=30, calibrate=c).fit(x[:700], y[:700]) for c in (True, False)]
    after, before = (metrics.log_loss(y[700:], m.predict_proba(x[700:])) for m in made)
    assert after < before and made[1].temperature_ is None and made[0].temperature_ != 1
    assert np.array_equal(made[0].predict(x), made[1].predict(x))


def test_honest_folds_are_averaged_as_logarithms() -> None:
    """Of nets that differ, which are honest each, the mean of probabilities is not sure enough; that of logarithms is."""
    r = np.random.default_rng(0)
    z = 2 * r.normal(size=(20_000, 1)) * [1, -1]
    y = (r.uniform(size=len(z)) > probabilities("classification", z)[:, 0]).astype(int)  # z would be right
    nets = [z + 2 * r.normal(size=(len(z), 1)) * [1, -1] for _ in range(4)]
    honest = [net / temperature(net, y, None, "classification") for net in nets]
    mean = np.log(np.mean([probabilities("classification", net) for net in honest], axis=0))
    assert temperature(mean, y, None, "classification") < temperature(np.mean(honest, axis=0), y, None, "classification") < 1

    made = classifier(cv=3, max_iter=3).fit(X, Y)
    each = [gpunet.Model(net, made.encoder_, made.target_).outputs(made._read(X)) for net in made.model_.net]
    np.testing.assert_allclose(made.predict_proba(X), probabilities("classification", np.mean(each, axis=0)), rtol=1e-5)


@pytest.mark.parametrize("settings", [{"n_ensemble": 2}, {"cv": 2}, {"cv": 2, "n_ensemble": 2}])
def test_nets_side_by_side(settings: dict[str, Any]) -> None:
    made = classifier(calibrate=False, max_iter=3, **settings).fit(X, Y)
    members = [trainer.model for trainer in made._trainers]
    assert len(members) == len(made.histories_) == settings.get("cv", 1) * settings.get("n_ensemble", 1)
    z = made._read(X)
    each = [probabilities("classification", gpunet.Model(m, made.encoder_, made.target_).outputs(z)) for m in members]
    np.testing.assert_allclose(made.predict_proba(X), np.mean(each, axis=0), rtol=1e-5, atol=1e-7)
    assert not np.allclose(each[0], each[1])
    values = regressor(max_iter=3, **settings).fit(X, X[:, 0])
    each = [gpunet.Model(t.model, values.encoder_, values.target_).predict(z) for t in values._trainers]
    np.testing.assert_allclose(values.predict(X), np.mean(each, axis=0), rtol=1e-5, atol=1e-6)


def test_nets_trained_at_once_are_those_trained_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunet.estimators import base

    made = []
    for at_a_time in (1, 3):
        monkeypatch.setattr(base, "concurrency", lambda trainers, n=at_a_time, **data: n)
        made.append(classifier(cv=4, max_iter=3).fit(X, Y))
    assert np.array_equal(made[0].predict_proba(X), made[1].predict_proba(X))
    assert made[0].histories_ == made[1].histories_


def test_an_error_in_one_net_ends_the_others() -> None:
    def failing(y: Any, p: Any) -> float:
        raise RuntimeError("in one of them")

    failing.greater_is_better = True  # type: ignore[attr-defined]
    made = classifier(cv=3, scoring=failing, max_iter=10_000)
    with pytest.raises(RuntimeError, match="in one of them"):
        made.fit(X, Y)
    assert not hasattr(made, "model_")


def test_ctrl_c_keeps_one_net_and_gives_up_an_ensemble() -> None:
    class Interrupt(gpunet.train.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
            trainer.stop("interrupted")  # as the handler of the signal does

    alone = classifier(callbacks=[Interrupt()]).fit(X, Y)
    assert alone.n_iter_ == 1 and alone.history_.stopped == "interrupted" and alone.predict(X).shape == Y.shape
    several = classifier(cv=2, max_iter=2).fit(X, Y)
    want = several.predict_proba(X)
    with pytest.raises(KeyboardInterrupt):
        several.set_params(callbacks=[Interrupt()]).fit(X, Y)
    assert np.array_equal(several.predict_proba(X), want)


def test_time_is_for_all_nets_together() -> None:
    made = classifier(cv=3, max_iter=100_000, max_seconds=0.6).fit(X, Y)
    assert [h.stopped for h in made.histories_] == ["time"] * 3
    assert sum(h.seconds for h in made.histories_) < 0.6 * 3 + 3  # each stops after the epoch its share ends in


def test_folds_of_the_users() -> None:
    folds = [(np.arange(0, 120), np.arange(120, 240)), (np.arange(120, 240), np.arange(0, 120))]
    made = classifier(cv=folds, max_iter=2).fit(X, Y)
    assert len(made.histories_) == 2
    sklearn = pytest.importorskip("sklearn.model_selection")
    assert len(classifier(cv=sklearn.KFold(3), max_iter=2).fit(X, Y).histories_) == 3
    with pytest.raises(ConfigError, match="from 2 to the number of rows"):
        classifier(cv=1).fit(X, Y)


def test_labels() -> None:
    labels = np.stack([X[:, 0] > 0, X[:, 1] > 0, X.sum(axis=1) > 0], axis=1).astype(int)
    made = classifier(max_iter=40).fit(X, labels)
    p, predicted = made.predict_proba(X), made.predict(X)
    assert p.shape == predicted.shape == (len(X), 3) and np.array_equal(predicted, p > 0.5)
    assert made.score(X, labels) > 0.85 and not np.allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(made.predict_log_proba(X), np.log(p))
    told = made.model_.evaluate(Table.from_array(X), labels)
    assert told["loss"] == pytest.approx(-np.mean(np.where(labels, np.log(p), np.log1p(-p))), rel=1e-4)
    assert told["exact"] == made.score(X, labels) <= told["accuracy"] == pytest.approx(np.mean(predicted == labels))


def test_several_values() -> None:
    values = np.stack([X[:, 0], 100 - 30 * X[:, 1]], axis=1)
    made = regressor(max_iter=40).fit(X, values)
    assert made.predict(X).shape == values.shape and made.score(X, values) > 0.9


def test_quantiles() -> None:
    r = np.random.default_rng(0)
    x = r.uniform(-1, 1, (2000, 1))
    y = 10 + x[:, 0] + (0.2 + np.abs(x[:, 0])) * r.normal(size=2000)
    made = regressor(loss="quantile:0.9,0.1,0.5", max_iter=20).fit(x, y)
    high, low, middle = made.predict(x).T
    assert (low <= middle).all() and (middle <= high).all()
    below = [float(np.mean(y < q)) for q in (low, middle, high)]
    np.testing.assert_allclose(below, [0.1, 0.5, 0.9], atol=0.05)
    assert made.score(x, y) == pytest.approx(metrics.r2(y, middle))
    with pytest.raises(ConfigError, match="several quantiles of one value"):
        made.fit(x, np.stack([y, y], axis=1))


def test_rates_of_counts() -> None:
    r = np.random.default_rng(0)
    x = r.uniform(-1, 1, (1500, 2))
    rate = 20 * np.exp(1.5 * x[:, 0])
    made = regressor(loss="poisson", max_iter=20).fit(x, r.poisson(rate))
    assert (made.predict(x) > 0).all()
    np.testing.assert_allclose(np.log(made.predict(x) / rate).std(), 0, atol=0.12)
    with pytest.raises(DataError, match="counts are at least 0"):
        made.fit(x, -rate)


# ---------------------------------------------------------------- going on


def test_partial_fit_goes_on_as_if_never_stopped() -> None:
    made = gpunet.MLPClassifier(preset="classic", random_state=0)
    for _ in range(4):
        made.partial_fit(X, Y, classes=[0, 1])
    copied = pickle.loads(pickle.dumps(made))
    for one in (made, copied):
        for _ in range(4):
            one.partial_fit(X, Y)
    assert np.array_equal(made.predict_proba(X), copied.predict_proba(X))
    assert made.n_iter_ == 8 and len(made.history_["loss"]) == 8
    assert made._trainers[0].optimizer.t.item() == 8 * 2  # 240 rows in batches of 200: Adam's step count went on
    assert made.history_["loss"][-1] < made.history_["loss"][0]


def test_partial_fit_knows_classes_that_come_later() -> None:
    made = classifier().partial_fit(X[:50], np.zeros(50, int), classes=[0, 1])
    assert made.partial_fit(X[50:], Y[50:]).predict_proba(X).shape == (240, 2)
    with pytest.raises(DataError, match="no class 2 in training"):
        made.partial_fit(X, Y + 1)
    with pytest.raises(ConfigError, match="leave cv and n_ensemble out"):
        classifier(cv=2).partial_fit(X, Y)


def test_partial_fit_after_fit_takes_every_net_on() -> None:
    made = classifier(cv=2, max_iter=3).fit(X, Y)
    steps = [t.optimizer.t.item() for t in made._trainers]
    before = made.history_["loss"]
    made.partial_fit(X, Y)
    assert all(t.optimizer.t.item() > n for t, n in zip(made._trainers, steps, strict=True))
    assert made.n_iter_ == 4 and made.history_["loss"][:3] == before and len(made.history_["loss"]) == 4
    with pytest.raises(AttributeError, match="the mean of 2 nets"):
        made.coefs_


@pytest.mark.parametrize("settings", [{}, {"n_ensemble": 2}])
def test_warm_start_goes_on(settings: dict[str, Any]) -> None:
    warm = gpunet.MLPClassifier(preset="classic", warm_start=True, max_iter=20, tol=0.0, random_state=0, **settings)
    first = warm.fit(X, Y).loss_curve_[-1]
    other = pickle.loads(pickle.dumps(warm))
    steps = [t.optimizer.t.item() for t in warm._trainers]
    again = warm.fit(X, Y).loss_curve_[0]
    assert again < first * 1.05 and [t.optimizer.t.item() for t in warm._trainers] == [2 * n for n in steps]
    assert np.array_equal(other.fit(X, Y).predict_proba(X), warm.predict_proba(X))
    cold = warm.set_params(warm_start=False).fit(X, Y).loss_curve_[0]
    assert cold > 1.2 * again


# ---------------------------------------------------------------- sparse


def sparse_data() -> tuple[Any, np.ndarray, np.ndarray]:
    sp = pytest.importorskip("scipy.sparse")
    x = sp.random(300, 400, density=0.05, format="csr", random_state=0)
    dense = x.toarray()
    return x, dense, (dense[:, :20].sum(axis=1) > 0.5).astype(int)


def test_a_sparse_matrix_gives_the_dense_answer() -> None:
    x, dense, y = sparse_data()
    made = gpunet.MLPClassifier(preset="classic", max_iter=30, random_state=0).fit(x, y)
    want = made.predict_proba(x)
    for other in (x.tocsc(), x.tocoo(), dense, type(x)(dense)):
        assert np.array_equal(made.predict_proba(other), want)
    assert made.score(x, y) > 0.95 and "largest absolute value" in str(made.columns_)
    loss = losses.cross_entropy(gpunet.tensor(np.log(want)), gpunet.tensor(y)).item()
    assert made.history_["loss"][-1] == pytest.approx(loss, abs=0.05)  # what the batches saw is what is predicted from


def test_a_sparse_matrix_is_never_dense_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunet.data import sparse

    sp = pytest.importorskip("scipy.sparse")
    x = sp.random(600, 3000, density=0.002, format="csr", random_state=0)
    monkeypatch.setattr(sparse, "CELLS", 100 * 3000)
    seen: list[int] = []
    take = sparse.SparseRows.take
    monkeypatch.setattr(sparse.SparseRows, "take", lambda self, rows: seen.append(rows.shape[0]) or take(self, rows))
    monkeypatch.setattr(type(x), "toarray", None)
    y = np.asarray(x[:, :1500].sum(axis=1)).ravel() > 1.5
    gpunet.MLPClassifier(preset="classic", max_iter=2, batch_size=50, early_stopping=True).fit(x, y).predict(x)
    assert seen and max(seen) <= 100


def test_too_many_columns_are_refused_with_advice() -> None:
    sp = pytest.importorskip("scipy.sparse")
    with pytest.raises(DataError, match=r"100,001 columns: MLPClassifier takes at most 100,000.*TruncatedSVD"):
        classifier().fit(sp.csr_matrix((5, 100_001)), [0, 1, 0, 1, 0])
    broken = sp.csr_matrix(np.array([[1.0, 0.0], [0.0, np.nan]]))
    with pytest.raises(DataError, match="nan in row 2, column 2"):
        classifier().fit(broken, [0, 1])


# ---------------------------------------------------------------- settings


# fmt: off
MISTAKEN = {
    "preset":              ({"preset": "realmpl"},            'Did you mean "realmlp"'),
    "activation":          ({"activation": "rellu"},          'Did you mean "relu"'),
    "solver":              ({"solver": "adm"},                'Did you mean "adam"'),
    "scoring":             ({"scoring": "acuracy"},           'Did you mean "accuracy"'),
    "loss":                ({"loss": "cros_entropy"},         'Did you mean "cross_entropy"'),
    "max_iter":            ({"max_iter": 0},                  "max_iter: a whole number of at least 1"),
    "n_ensemble":          ({"n_ensemble": 1.5},              "n_ensemble: a whole number"),
    "validation_fraction": ({"validation_fraction": 1.5},     "validation_fraction: a share"),
    "class_weight":        ({"class_weight": "balance"},      "class_weight"),
    "eval_set":            ({},                               "eval_set"),
}
# fmt: on


@pytest.mark.parametrize("what", MISTAKEN)
def test_mistaken_settings_are_named(what: str) -> None:
    settings, message = MISTAKEN[what]
    with pytest.raises(ConfigError, match=message), warnings.catch_warnings():
        classifier(**settings).fit(X, Y, eval_set=X if what == "eval_set" else None)


def test_a_table_of_gpunets_own() -> None:
    table = Table.from_frame(people())
    assert classifier(max_iter=2).fit(table, answer(people())).predict(table).shape == (120,)


def test_ensembles_in_ops() -> None:
    nets = [nn.Linear(2, 3).initialize(s) for s in (1, 2)]
    mean = np.mean([probabilities("classification", net(X).numpy()) for net in nets], axis=0)
    z = nn.Ensemble(*copy.deepcopy(nets))(X).numpy()
    np.testing.assert_allclose(probabilities("classification", z), mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(nn.Temperature(2)(z).numpy(), z / 2)
    for make in (lambda: nn.Ensemble(), lambda: nn.Ensemble(nets[0], average="mean"), lambda: nn.Temperature(0)):
        with pytest.raises(ConfigError):
            make()


# ---------------------------------------------------------------- another device


@pytest.mark.skipif(fibers.missing() is not None, reason=f"csrc/*.cu cannot be built for the host: {fibers.missing()}")
@pytest.mark.parametrize("how", [{"n_ensemble": 1}, {"n_ensemble": 2, "cv": None}, {"cv": 2}], ids=str)
def test_on_a_gpu(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """All parts of the model are there, also those that were put around the nets after training."""
    cuda = emulated_cuda(orders=())
    monkeypatch.setitem(select._opened, "cuda:0", cuda)
    x, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    made = gpunet.MLPClassifier(device="cuda:0", max_iter=1, hidden_layer_sizes=(8,), **how).fit(x, y)
    assert made.model_.net.device is cuda
    assert copy.deepcopy(made).predict_proba(x).tobytes() == made.predict_proba(x).tobytes()
