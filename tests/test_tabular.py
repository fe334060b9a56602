"""Columns to numbers and back to answers: each treatment, hostile tables, no leak from other rows, an exact round trip."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunet.data import Column, Table
from gpunet.data.sparse import Csr
from gpunet.data.table import FEW_ROWS
from gpunet.devices import cpu
from gpunet.errors import ConfigError, DataError, DTypeError, FormatError, ShapeError
from gpunet.tabular import (
    ArrayEncoder,
    Encoder,
    RobustEncoder,
    SparseEncoder,
    Target,
    columns,
    dates,
    encoder_from_config,
    scaling,
    target,
)


def table(**cells: list[Any]) -> Table:
    return Table.from_frame(cells)


def fitted(cells: list[Any], **other: list[Any]) -> Encoder:
    """The encoder of a column x of training cells; a column of numbers beside it keeps the table from being empty."""
    return Encoder.fit(table(x=cells, beside=[i % 100 for i in range(len(cells))], **other))


def encoded(encoder: Encoder, cells: list[Any]) -> list[list[float]]:
    """What the encoder of `fitted` makes of x."""
    out = encoder.transform(table(x=cells, beside=[0] * len(cells)))
    return out[:, [name.startswith("x") for name in encoder.output_names]].tolist()


def kind(encoder: Encoder) -> str:
    return next(kind for name, kind, _ in encoder.describe() if name == "x")


def saved(state: Any) -> Any:
    text = json.dumps(state.config(), allow_nan=False)
    assert json.loads(text) == state.config()
    return json.loads(text)


# ---------------------------------------------------------------- one column


def test_numbers_are_standardised() -> None:
    encoder = fitted([1, 2, 3, 6])
    assert kind(encoder) == "numeric"
    x = np.array(encoded(encoder, [1, 2, 3, 6]))
    assert x.mean() == pytest.approx(0, abs=1e-7) and x.std() == pytest.approx(1)
    assert encoder.notes == []


def test_small_whole_numbers_stay_numbers() -> None:
    assert kind(fitted([0, 1, 0, 1])) == "numeric"
    assert kind(fitted(["1", "2", "3", "2"])) == "numeric"


def test_blanks_seen_in_training_take_the_median_and_are_marked() -> None:
    encoder = fitted([1, 2, 9, None, 3])
    (median, mark), (value, no_mark) = encoded(encoder, [None, 2])
    assert (median, mark) == (value, 1) and no_mark == 0
    assert encoder.output_names == ["x", "x (missing)", "beside"]
    assert encoder.notes == ['blanks take the median, and a column marks them: "x"']


def test_blanks_not_seen_in_training_take_the_median_and_are_told() -> None:
    encoder = fitted([1, 2, 3])
    assert encoded(encoder, [None, 1, None]) == encoded(encoder, [2, 1, 2])
    encoded(encoder, [None, None])
    assert encoder.notes == ['column "x": blanks take the median 2: 2; training had none']
    encoded(encoder, [1])
    assert encoder.notes == []  # of the last table only


def test_two_texts_are_one_column() -> None:
    encoder = fitted(["no", "yes", None, "no"])
    assert kind(encoder) == "binary" and encoder.output_names[0] == "x=yes"
    assert encoded(encoder, ["no", "yes", None, "maybe"]) == [[-1], [1], [0], [0]]
    assert encoder.notes == ['column "x": taken for blank, not seen in training: "maybe" (1 cell)']


def test_booleans_are_one_column() -> None:
    assert encoded(fitted([True, False, True]), [False, True]) == [[-1], [1]]


def test_more_texts_are_one_hot_in_sorted_order() -> None:
    encoder = fitted(["b", "c", "a", "b"])
    assert kind(encoder) == "one-hot" and encoder.output_names[:3] == ["x=a", "x=b", "x=c"]
    assert encoded(encoder, ["c", None, "z", "z", "y"]) == [[0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert encoder.notes == ['column "x": taken for blank, not seen in training: "z", "y" (3 cells)']


def test_rare_categories_share_a_column() -> None:
    cells = [f"c{i:04}" for i in range(10_000) for _ in range(3)] + ["often"] * 2
    cells += [f"c{i:04}" for i in range(9_901, 10_000)]  # 99 of them four times, so that with "often" 100 are kept
    encoder = fitted(cells + ["often"] * 2)
    assert len(encoder.output_names) == columns.MOST_CATEGORIES + 2  # x (other), beside
    often, rare, unseen, blank = encoded(encoder, ["often", "c0001", "never seen", None])
    assert often[:-1].count(1) == 1 and often[-1] == 0
    assert rare == unseen == [0] * columns.MOST_CATEGORIES + [1]
    assert sum(blank) == 0
    assert encoder.notes == ['100 most frequent categories, and one column for all others: "x"']


def test_equally_frequent_categories_are_kept_by_name() -> None:
    cells = [f"c{i:03}" for i in range(150)] * 2
    assert (
        encoder_categories(fitted(cells)) == encoder_categories(fitted(cells[::-1])) == [f"c{i:03}" for i in range(100)]
    )


def encoder_categories(encoder: Encoder) -> list[str]:
    return encoder.config()["columns"][0]["categories"]


@pytest.mark.parametrize(
    ("different", "rows", "dropped"), [(20, 20, False), (21, 21, True), (21, 41, True), (21, 42, False)]
)
def test_nearly_all_different_texts_are_dropped(different: int, rows: int, dropped: bool) -> None:
    encoder = fitted([f"id {i % different}" for i in range(rows)])
    assert (kind(encoder) == "dropped") is dropped
    assert encoder.notes == (['left out, texts that are nearly all different: "x"'] if dropped else [])


def test_a_useless_column_with_blanks_tells_whether_it_is_blank() -> None:
    for cells in ([f"cabin {i}" for i in range(30)], [7] * 30, ["same"] * 30):
        encoder = fitted([*cells, None])
        assert kind(encoder) == "presence" and encoder.output_names[0] == "x (missing)"
        assert encoded(encoder, [None, "cabin 3", "new"]) == [[1], [0], [0]]
        assert "only whether it is blank is kept" in encoder.notes[0]


def numbered(values: Any, **other: Any) -> Encoder:
    """The encoder of a column x beside measured numbers."""
    rows = len(values)
    measured = np.random.default_rng(1).normal(size=rows)
    return Encoder.fit(table(x=list(values), beside=measured.tolist(), **other))


@pytest.mark.parametrize("rows", [columns.FEW_ROWS_TO_NUMBER + 1, 5000])
def test_row_numbers_are_left_out(rows: int) -> None:
    r = np.random.default_rng(rows)
    for values in (np.arange(rows), 1e6 - np.arange(rows), r.permutation(rows) + 1, r.permutation(columns.SPARSEST * rows)[:rows]):
        encoder = numbered(values)
        assert encoder.describe()[0] == ("x", "dropped", "left out: it numbers the rows")
        assert encoder.notes == ['left out, it numbers the rows: "x"'] and encoder.output_names == ["beside"]
        assert encoder.transform(table(beside=[0.5])).shape == (1, 1)  # it need not be there when predicting
    assert numbered(np.arange(rows), y=list(range(7, rows + 7))).output_names == ["beside"]  # an index of an index


def test_what_is_measured_is_no_row_number() -> None:
    rows = columns.FEW_ROWS_TO_NUMBER + 1
    r = np.random.default_rng(0)
    kept = {
        "few rows": np.arange(rows - 1),
        "years": 1700 + np.arange(rows) % 325,
        "one twice": np.r_[np.arange(rows - 1), 3],
        "halves": np.arange(rows) / 2,
        "one blank": np.r_[np.arange(rows - 1.0), np.nan],
        "wide apart": r.choice(50 * rows, rows, replace=False),
        "prices": r.integers(1000, 1000 + columns.SPARSEST * rows, rows),
        "measured": r.normal(size=rows),
    }
    for what, values in kept.items():
        assert numbered(values).output_names[0] == "x", what


def test_row_numbers_are_kept_where_nothing_else_tells_or_they_are_ranks() -> None:
    order = np.random.default_rng(0).permutation(1000).tolist()
    assert Encoder.fit(table(x=list(range(1000)))).output_names == ["x"]
    assert Encoder.fit(table(x=list(range(1000)), same=[1] * 1000)).output_names == ["x"]
    assert numbered(range(1000), rank=order).output_names == ["x", "beside", "rank"]


@pytest.mark.parametrize("cells", [[7] * 5, ["same"] * 5, [0.1] * 7], ids=str)
def test_a_constant_column_is_dropped(cells: list[Any]) -> None:
    encoder = fitted(cells)
    assert encoder.output_names == ["beside"] and encoder.notes == ['left out, always the same: "x"']


def test_an_empty_column_is_dropped_and_need_not_be_there() -> None:
    encoder = fitted([None] * 4)
    assert encoder.names == ["x", "beside"] and encoder.notes == ['left out, no value in it: "x"']
    assert encoder.transform(table(beside=[1, 2])).shape == (2, 1)


def test_notes_name_the_first_few_columns() -> None:
    encoder = Encoder.fit(table(y=[1, 2], **{f"x{i}": [0, 0] for i in range(7)}))
    assert encoder.notes == ['left out, always the same: "x0", "x1", "x2", "x3", "x4", ... (7 in all)']


def test_what_is_done_can_be_printed() -> None:
    encoder = fitted([1, 2, 3, None], color=["red", "blue", "green", None], name=["a", "a", "a", "a"])
    assert encoder.describe() == [
        ("x", "numeric", "standardised: (x - 2) / 0.816497; a blank takes the median 2, and a column marks it (1 in training)"),
        ("beside", "numeric", "standardised: (x - 1.5) / 1.11803; a blank takes the median 1"),
        ("color", "one-hot", 'one-hot: "blue", "green", "red"; blank or unseen is all 0'),
        ("name", "dropped", "left out: always the same"),
    ]  # fmt: skip


# ---------------------------------------------------------------- the table when predicting


def test_columns_are_found_by_name() -> None:
    encoder = fitted([1, 2, 4], color=["red", "blue", "green"])
    rows = table(color=["blue", "red"], other=[1, 2], beside=[0, 1], x=[4, 1])
    assert np.array_equal(
        encoder.transform(rows), encoder.transform(table(x=[4, 1], beside=[0, 1], color=["blue", "red"]))
    )
    encoder.transform(rows)
    assert encoder.notes == ['1 column ignored, not there in training: "other"']


def test_a_missing_column_is_an_error() -> None:
    encoder = Encoder.fit(table(price=[1, 2], date=[3, 4]))
    with pytest.raises(DataError, match='reads the column "price", not in this table. Did you mean "pricee"?'):
        encoder.transform(table(pricee=[1], date=[3]))
    with pytest.raises(DataError, match='columns "price", "date"'):
        encoder.transform(table(other=[1]))


def test_text_where_numbers_were_is_an_error() -> None:
    encoder = fitted([1, 2, 3])
    with pytest.raises(DataError, match=r'column "x" was numeric in training; row 3 is "abc" \(the first is 1\)'):
        encoded(encoder, ["1", None, "abc"])


def test_text_that_reads_as_numbers_is_taken_for_numbers() -> None:
    cells = np.array(["2", None, "3"], object)
    rows = Table.from_columns([Column("x", "text", cells), Column("beside", "numeric", np.zeros(3))])
    assert fitted([1, 2, 3]).transform(rows)[:, 0].tolist() == [v for (v,) in encoded(fitted([1, 2, 3]), [2, 2, 3])]


def test_numbers_where_text_was_are_the_text_that_reads_so() -> None:
    encoder = fitted(["007", "1.50", "A", "A"])
    assert encoded(encoder, [7, 1.5, None, 8]) == encoded(encoder, ["007", "1.50", None, "eight"])
    encoded(encoder, [7, None])
    assert encoder.notes == []
    encoded(encoder, [8, 2.5])
    assert encoder.notes == ['column "x": taken for blank, not seen in training: "8", "2.5" (2 cells)']
    assert encoded(fitted(["1", "x"]), [1]) == [[-1]]


def test_all_blank_when_predicting() -> None:
    assert encoded(fitted(["a", "b", "c"]), [None, None]) == [[0, 0, 0]] * 2
    assert encoded(fitted(["a", "b"]), [None]) == [[0]]


def test_no_rows_when_predicting() -> None:
    encoder = fitted(["a", "b", "c"])
    assert encoder.transform(table(x=[], beside=[])).shape == (0, 4)


# ---------------------------------------------------------------- hostile tables


def test_no_rows_to_learn_from() -> None:
    with pytest.raises(DataError, match="no rows to learn from"):
        Encoder.fit(table(x=[]))
    with pytest.raises(DataError, match="no rows to learn from"):
        Encoder.fit(table(x=[1, 2]), rows=[])


def test_no_column_to_learn_from() -> None:
    with pytest.raises(DataError, match='is left to learn from, of 1 row: left out, always the same: "x", "y"'):
        Encoder.fit(table(x=[1], y=["a"]))
    with pytest.raises(DataError, match="it has none"):
        Encoder.fit(RowsOnly(()))


class RowsOnly(Table):
    """A table of rows and no columns."""

    @property
    def rows(self) -> int:
        return 3


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_values_are_refused(value: float) -> None:
    with pytest.raises(DataError, match=r'column "x": infinite in rows 2, 4 \(the first is 1\). Leave the cell blank'):
        Encoder.fit(table(x=[1, value, 3, value]))
    with pytest.raises(DataError, match=r'column "x": infinite in row 2'):
        Encoder.fit(table(x=[1, value, 3]), rows=[0, 2])  # its number in the whole table
    with pytest.raises(DataError, match=r'column "x": infinite in row 1'):
        encoded(fitted([1, 2, 3]), [value])


def test_more_columns_than_rows() -> None:
    encoder = Encoder.fit(table(**{f"x{i}": [i, -1] for i in range(50)}))
    assert encoder.transform(table(**{f"x{i}": [0.5] for i in range(50)})).shape == (1, 50)


@pytest.mark.parametrize(
    "cells", [[1e308, -1e308, 0], [5e-324, 0, 1e-323], [1e300, 1e300, 1], [1e16, 1e16 + 2, 1e16]], ids=str
)
def test_extreme_numbers_stay_finite(cells: list[float]) -> None:
    x = np.array(encoded(fitted(cells), [*cells, 1.7e308, -1.7e308, 0]))
    assert np.isfinite(x).all()
    if x.shape[1]:
        assert x[:3].std() == pytest.approx(1, rel=0.3) and np.abs(x).max() <= scaling.LIMIT


# ---------------------------------------------------------------- any table

# fmt: off
CELLS = st.one_of(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), min_size=8, max_size=8),
    st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=8, max_size=8),
    st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "c", "1", "2"])), min_size=8, max_size=8),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=8, max_size=8),
)
# fmt: on


def as_table(parts: list[list[Any]]) -> Table:
    return Table.from_columns([Column.from_values(f"c{i}", cells) for i, cells in enumerate(parts)])


@given(st.lists(CELLS, min_size=1, max_size=4), st.lists(CELLS, min_size=4, max_size=4))
def test_any_table_becomes_finite_numbers(training: list[list[Any]], others: list[list[Any]]) -> None:
    try:
        encoder = Encoder.fit(as_table(training))
    except DataError as error:
        assert "is left to learn from" in str(error)
        return
    x = encoder.transform(as_table(training))
    assert x.shape == (8, len(encoder.output_names)) and x.dtype == np.float32 and x.flags.c_contiguous
    assert np.isfinite(x).all()
    again = encoder_from_config(saved(encoder))
    assert again.config() == encoder.config() and again.describe() == encoder.describe()
    assert again.transform(as_table(training)).tobytes() == x.tobytes()
    try:
        y = encoder.transform(as_table(others))
    except DataError as error:
        assert "was numeric in training" in str(error) or ": infinite in row" in str(error)  # "INF" is a number
        return
    assert y.shape == x.shape and np.isfinite(y).all()


@given(st.lists(CELLS, min_size=1, max_size=3), st.lists(CELLS, min_size=3, max_size=3))
def test_nothing_is_learned_from_other_rows(training: list[list[Any]], others: list[list[Any]]) -> None:
    """Training rows alone, or among others: the same encoder. (A type is a whole column's, so the others share it.)"""
    joined = [a + (b if Column.from_values("", a + b).kind == Column.from_values("", a).kind else a)
              for a, b in zip(training, others, strict=False)]  # fmt: skip
    try:
        alone = Encoder.fit(as_table(training))
    except DataError as error:
        with pytest.raises(DataError) as among:
            Encoder.fit(as_table(joined), rows=np.arange(8))
        assert str(among.value) == str(error)
        return
    assert Encoder.fit(as_table(joined), rows=np.arange(8)).config() == alone.config()
    assert Encoder.fit(as_table(joined), rows=np.arange(16) < 8).config() == alone.config()


def test_strange_names_and_texts_survive_the_file() -> None:
    odd = ["\ud800", "a\0", 'quo"te', "ünï", "a\0b"] * 2
    encoder = Encoder.fit(Table.from_columns([Column("n\0\ud800", "text", np.array(odd, object))]))
    again = encoder_from_config(saved(encoder))
    assert again.transform(Table((Column("n\0\ud800", "text", np.array(odd, object)),))).sum() == len(odd)


def test_an_unknown_treatment_is_refused() -> None:
    config = fitted([1, 2]).config()
    config["columns"][0]["kind"] = "numerik"
    with pytest.raises(FormatError, match='no treatment "numerik" of a column. Did you mean "numeric"?'):
        encoder_from_config(config)
    with pytest.raises(FormatError, match='no encoder "tabel". Did you mean "table"?'):
        encoder_from_config({"kind": "tabel"})


# ---------------------------------------------------------------- arrays


@pytest.mark.skipif(cpu._native is None, reason="gpunet._cpu is not built")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64, np.float16, np.dtype(">f4")], ids=str)
@pytest.mark.parametrize("odd", [1.0, 0.0, 1e-40, math.inf, math.nan])
def test_numbers_are_standardised_alike_with_and_without_the_native_pass(
    dtype: Any, odd: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = (np.random.default_rng(0).normal(100, 30, (33, 7))).astype(dtype)
    hostile = x.copy()
    if x.dtype.kind == "f":
        hostile[3, 2], hostile[5, 5], hostile[6, 1] = np.inf, np.nan, np.finfo(dtype).max
    scale, center = np.linspace(1, 9, 7), np.linspace(90, 110, 7)
    scale[2], made = odd, []
    for native in (cpu._native, None):
        monkeypatch.setattr(cpu, "_native", native)
        views = (x, x[::2], x.T[:7].T, np.asfortranarray(x), x[:0], x[:, :0], hostile)
        each = [scaling.standardised(v, center[: v.shape[1]], scale[: v.shape[1]]) for v in views]
        made.append(each + [scaling.standardised(v, 101.5, odd) for v in views])
    for some, others in zip(*made, strict=True):
        assert some.dtype == np.float32 and some.flags.c_contiguous
        np.testing.assert_array_equal(some, others)


def test_columns_of_an_array_are_standardised_one_by_one() -> None:
    x = np.array([[1.0, 5, 1e300], [3, 5, -1e300], [8, 5, 0]])
    encoder = ArrayEncoder.fit(x)
    z = encoder.transform(x)
    assert z.dtype == np.float32 and z.flags.c_contiguous
    assert z[:, [0, 2]].std(axis=0) == pytest.approx(1) and (z[:, 1] == 0).all()
    assert encoder.notes == ['always the same, becomes 0: "column_2"']
    assert encoder.describe() == [("3 columns", "numeric", "standardised one by one")]
    assert (encoder.transform([[0, 9, 0]])[:, 1] == 0).all()


def test_an_array_and_its_table_are_encoded_alike() -> None:
    x = np.random.default_rng(0).normal(3, 2, (40, 5))
    assert ArrayEncoder.fit(x).transform(x) == pytest.approx(
        Encoder.fit(Table.from_array(x)).transform(Table.from_array(x))
    )


def test_pixels_share_one_mean_and_deviation() -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 8, 8)).astype(np.uint8)
    x[:, 0, 0] = 0
    encoder = ArrayEncoder.fit(x)
    flat = x.reshape(50, 64).astype(np.float64)
    assert encoder.transform(x) == pytest.approx((flat - flat.mean()) / flat.std())
    assert np.array_equal(encoder.transform(x.astype(np.int64)), encoder.transform(x))
    assert encoder.notes == [] and encoder.describe()[0][1] == "pixels"
    assert ArrayEncoder.fit(x, pixels=False).transform(x)[:, 1].std() == pytest.approx(1)


def test_pixels_of_another_scale_are_refused() -> None:
    encoder = ArrayEncoder.fit(np.arange(6, dtype=np.uint8).reshape(2, 3))
    with pytest.raises(DTypeError, match="pixels are whole numbers from 0 to 255, as in training; got float64"):
        encoder.transform([[0.1, 0.5, 1.0]])
    with pytest.raises(DataError, match="got -1 to 300"):
        encoder.transform([[-1, 0, 300]])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int16, np.bool_])
def test_nothing_is_learned_from_other_rows_of_an_array(dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 4)).astype(dtype)
    rows = np.arange(20) if dtype != np.bool_ else np.arange(30) >= 5
    x[0] = 0
    other = x.copy()
    other[np.setdiff1d(np.arange(30), np.arange(30)[rows])] = 255
    encoder = ArrayEncoder.fit(x, rows=rows)
    assert encoder.config() == ArrayEncoder.fit(other, rows=rows).config() == ArrayEncoder.fit(x[rows]).config()
    again = encoder_from_config(saved(encoder))
    assert again.config() == encoder.config() and again.transform(x).tobytes() == encoder.transform(x).tobytes()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_cells_of_an_array_must_be_finite(value: float) -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    encoder = ArrayEncoder.fit(x)
    x[1:3, 2] = value
    for use in (ArrayEncoder.fit, encoder.transform):
        with pytest.raises(DataError, match=r"column 3 holds NaN or infinity in rows 2, 3 .*Table.from_array"):
            use(x)


def test_arrays_that_fit_nothing() -> None:
    encoder = ArrayEncoder.fit([[1, 2], [3, 5]])
    with pytest.raises(ShapeError, match="reads 2 columns, got 3"):
        encoder.transform([[1, 2, 3]])
    with pytest.raises(ShapeError, match=r"got shape \(2,\). One row is x\[None, :\]"):
        encoder.transform([1, 2])
    with pytest.raises(DataError, match="an array of numbers is expected, as in training; got a table of 2 columns"):
        encoder.transform(table(a=[1], b=[2]))
    with pytest.raises(DTypeError, match="Text goes through Table.from_array"):
        encoder.transform([["a", "b"]])
    assert encoder.transform(np.empty((0, 2))).shape == (0, 2)
    for empty in (np.empty((0, 3)), np.empty((0, 3), np.uint8), np.empty((3, 0))):
        with pytest.raises(DataError, match="no rows to learn from|the array has no"):
            ArrayEncoder.fit(empty)
    for constant in (np.ones((3, 2)), np.full((3, 2), 9, np.uint8), np.ones((1, 2))):
        with pytest.raises(DataError, match="no column differs between the"):
            ArrayEncoder.fit(constant)


def test_large_arrays_are_done_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(31, 7))
    pixels = np.random.default_rng(0).integers(0, 256, (31, 7)).astype(np.uint8)
    whole = [ArrayEncoder.fit(data).transform(data) for data in (x, pixels)]
    monkeypatch.setattr("gpunet.tabular.encoder._BLOCK", 64)
    for data, expected in zip((x, pixels), whole, strict=True):
        assert ArrayEncoder.fit(data).transform(data) == pytest.approx(expected, abs=1e-6)


# ---------------------------------------------------------------- the target


# fmt: off
TASKS = [
    (["b", "a", "b", "a"],           "classification", "the target is text"),
    (["1", "2", "2", "1"],           "classification", "the target is text"),
    ([True, False, True],            "classification", "the target is true or false"),
    ([0, 1, 0, 1],                   "classification", "the target has 2 different whole numbers"),
    ([3.0, 5.0, 3.0, 5.0],           "classification", "the target has 2 different whole numbers"),
    (list(range(20)) * 2,            "classification", "the target has 20 different whole numbers"),
    (list(range(21)) * 9,            "regression",     "the target has 21 different whole numbers, more than 20"),
    ([1, 2, 3],                      "regression",     "the target has 3 whole numbers, fewer than two rows for each"),
    ([0.5, 1.5, 0.5, 1.5],           "regression",     "the target has fractions"),
    ([[1, 2], [3, 4]],               "regression",     "the target has several columns"),
]
# fmt: on


@pytest.mark.parametrize(("values", "task", "reason"), TASKS)
def test_the_task_is_told_by_the_answers(values: list[Any], task: str, reason: str) -> None:
    fitted = Target.fit(values)
    assert (fitted.task, fitted.reason) == (task, reason)


def test_the_task_can_be_said() -> None:
    assert Target.fit([0, 1, 0, 1], task="regression").task == "regression"
    assert Target.fit([0.5, 1, 2], task="classification").classes == [0.5, 1, 2]
    assert Target.fit(list(range(50)), task="classification").reason == "classification was asked for"
    with pytest.raises(ConfigError, match='no task "clasification". Did you mean "classification"?'):
        Target.fit([0, 1], task="clasification")  # type: ignore[arg-type]


# fmt: off
CLASSES = [
    (["b", "a", "c", "a", "b", "c"],            ["a", "b", "c"]),
    ([10, 9, 100, 9, 10, 100],                  [9, 10, 100]),
    ([2.0, -1.0, 2.0, -1.0],                    [-1, 2]),
    ([True, False, False],                      [False, True]),
    (np.array([3, 7, 3, 7], np.uint8),          [3, 7]),
    (np.array(["x", "y", "x"], object),         ["x", "y"]),
    (["10", "9", "10", "9"],                    ["10", "9"]),
    (["a\0", "a", "a"],                         ["a", "a\0"]),
    ([2**62, 0, 2**62, 0],                      [0, 2**62]),
]
# fmt: on


@pytest.mark.parametrize(("values", "classes"), CLASSES)
def test_classes_are_sorted_and_come_back_as_they_were(values: Any, classes: list[Any]) -> None:
    fitted = Target.fit(values)
    codes = fitted.encode(values)
    assert fitted.classes == classes and [type(c) for c in fitted.classes] == [type(c) for c in classes]
    assert codes.dtype == np.int64 and codes.tolist() == [classes.index(v) for v in values]
    assert fitted.decode(codes).tolist() == list(values)
    again = Target.from_config(saved(fitted))
    assert again == fitted and again.encode(list(values)).tolist() == codes.tolist()
    assert fitted.encode([]).shape == (0,)


def test_values_are_standardised_and_come_back() -> None:
    y = np.array([10.5, 20, 40])
    fitted = Target.fit(y)
    z = fitted.encode(y)
    assert z.shape == (3, 1) and z.dtype == np.float32 and z.std() == pytest.approx(1)
    assert fitted.decode_values(z) == pytest.approx(y) and fitted.decode_values(z).shape == (3,)
    assert Target.from_config(saved(fitted)) == fitted
    assert fitted.encode(y[:, None]).tolist() == z.tolist() and fitted.encode([]).shape == (0, 1)
    assert fitted.classes is None
    with pytest.raises(DataError, match="Use decode_values"):
        fitted.decode([0])


def test_several_columns_of_values() -> None:
    y = np.array([[1.0, 7, 300], [2, 7, 100], [4, 7, 200]])
    fitted = Target.fit(y)
    assert fitted.decode_values(fitted.encode(y)) == pytest.approx(y)
    assert fitted.notes == ["target columns that are always the same: 2 (the first is 1)"]
    assert Target.from_config(saved(fitted)) == fitted
    with pytest.raises(ShapeError, match=r"has 3 columns, got values of shape \(3, 2\)"):
        fitted.encode(y[:, :2])
    with pytest.raises(ShapeError, match=r"classes are one column \[N\], got shape \(3, 3\)"):
        Target.fit(y, task="classification")
    with pytest.raises(ShapeError, match=r"\[N\] or \[N, k\] is expected, got shape \(1, 3, 3\)"):
        Target.fit(y[None])


def test_a_class_of_another_type_is_found_by_its_number() -> None:
    assert Target.fit(["1", "02", "x", "x"]).encode([1.0, 2.0]).tolist() == [1, 0]
    assert Target.fit([1, 2, 1, 2]).encode(["2", "1.0"]).tolist() == [1, 0]
    assert (
        Target.fit([1.5, 2.5]).encode(np.array(["1.5", "2"], object)).tolist()
        == Target.fit([1.5, 2.5]).encode([1.5, 2]).tolist()
    )


def test_an_unknown_class_is_named() -> None:
    fitted = Target.fit(["<=50K", ">50K", ">50K"])
    with pytest.raises(DataError, match=r'no class "<=50K." in training: rows 2, 3 .* Did you mean "<=50K"?'):
        fitted.encode([">50K", "<=50K.", ">50K."])
    with pytest.raises(DataError, match="no class 3 in training: row 1"):
        Target.fit([1, 2, 1, 2]).encode([3.0])
    with pytest.raises(DataError, match='no class "two" in training: row 2'):
        Target.fit([1, 2, 1, 2]).encode(["1", "two"])


@pytest.mark.parametrize("values", [["a", None, "b", None], [1.5, math.nan, 2, math.nan], [1, None, 2, None]], ids=str)
def test_missing_answers_are_counted(values: list[Any]) -> None:
    message = r"the target has 2 missing values: rows 2, 4 \(the first is 1\). Leave such rows out, or fill them in"
    with pytest.raises(DataError, match=message):
        Target.fit(values)
    with pytest.raises(DataError, match=message):
        Target.fit([v for v in values if v is not None and v == v]).encode(values)


def test_many_missing_answers_are_not_all_listed() -> None:
    with pytest.raises(DataError, match=r"has 1,000 missing values: rows 1, 2, 3, 4, 5, \.\.\. \(1,000 in all\)"):
        Target.fit([math.nan] * 1000)


def test_answers_that_teach_nothing() -> None:
    with pytest.raises(DataError, match="no rows to learn from"):
        Target.fit([])
    with pytest.raises(DataError, match='every row has the class "yes": two classes at least'):
        Target.fit(["yes"] * 3)
    with pytest.raises(DataError, match="every row has the class 1: two classes"):
        Target.fit([1.0, 1.0])
    with pytest.raises(DataError, match="every row has the value 2.5"):
        Target.fit([2.5] * 3)
    with pytest.raises(DataError, match=r"infinite in row 2 \(the first is 1\)"):
        Target.fit([1.5, math.inf])


def test_answers_of_strange_types() -> None:
    with pytest.raises(DataError, match=r'mixes text \("a"\) and int \(1\)'):
        Target.fit(["a", 1])
    with pytest.raises(DataError, match='row 2 of the target is "abc"'):
        Target.fit(["1.5", "abc"], task="regression")
    with pytest.raises(DataError, match="the target"):
        Target.fit([[1], [2, 3]])
    lists = np.empty(2, object)
    lists[:] = [[1], [2, 3]]
    with pytest.raises(DataError, match='"target" holds list'):
        Target.fit(lists)
    with pytest.raises(DataError, match="the target holds complex128"):
        Target.fit([1j, 2j])
    assert Target.fit(["1.5", "2.5"], task="regression").center == [2]


def test_a_class_seen_once_is_noted() -> None:
    assert Target.fit(["a", "a", "b", "b", "c"]).notes == ['classes with a single row, which is trained on: "c"']
    assert Target.fit(["a", "b", "c", "c"]).notes == ['classes with a single row, which is trained on: "a", "b"']
    assert Target.fit(["a", "a", "b", "b"]).notes == []


def test_whole_numbers_too_large_for_a_float_stay_as_they_are() -> None:
    assert Target.fit([1e300, 0.0, 1e300, 0.0]).classes == [0, 1e300]
    assert target._whole(2.0**60) == 2.0**60 and isinstance(target._whole(2.0**60), float)


def test_frames_can_be_read_as_they_are() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas (gpunet[tabular]) is not installed")
    frame = pandas.DataFrame(
        {"x": [1, 2, None, 4], "c": pandas.Categorical(["u", "v", None, "w"]), "b": [True, False] * 2}
    )
    encoder = Encoder.fit(Table.from_frame(frame))
    assert encoder.output_names == ["x", "x (missing)", "c=u", "c=v", "c=w", "b=True"]
    assert Target.fit(frame["b"]).classes == [False, True]
    for cells in (frame["c"], frame["c"].astype("string"), frame["x"], frame["x"].astype("Int64")):
        with pytest.raises(DataError, match="the target has 1 missing value: row 3"):
            Target.fit(cells)
    assert Target.fit(frame["c"].astype("string").fillna("u")).classes == ["u", "v", "w"]


@pytest.mark.parametrize("encoder_class", [Encoder, RobustEncoder])
def test_few_rows_are_encoded_as_many_are(encoder_class: Any) -> None:
    """Columns side by side and one by one: the same bits, the same notes, the same complaints."""
    r = np.random.default_rng(0)
    cells = {
        f"c{i}": np.where(r.uniform(size=200) < 0.1 * (i % 2), np.nan, 10.0**i * r.normal(size=200)) for i in range(5)
    }
    cells["t"] = np.array(["u", "v", "w", "x"] * 50, object)
    made = encoder_class.fit(Table.from_frame(cells))
    whole = made.transform(Table.from_frame(cells))
    for n in (0, 1, 7, FEW_ROWS):
        few = Table.from_frame({name: values[:n] for name, values in cells.items()})
        assert np.array_equal(made.transform(few), whole[:n])
    beyond = {name: values[:3].copy() for name, values in cells.items()}
    beyond["c2"][1], many = np.nan, {name: np.tile(values[:3], 100) for name, values in cells.items()}
    many["c2"][1] = np.nan
    notes = []
    for table in (beyond, many):
        made.transform(Table.from_frame(table))
        notes.append(made.odd)
    assert notes[0] == notes[1] and "blanks take the median" in notes[0][0]
    beyond["c3"][2] = np.inf
    with pytest.raises(DataError, match='column "c3": infinite in row 3 '):
        made.transform(Table.from_frame(beyond))


@pytest.mark.parametrize("encoder_class", [Encoder, RobustEncoder])
def test_a_few_rows_of_an_array_are_encoded_as_its_columns_are(encoder_class: Any) -> None:
    x = np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32)
    x[::9, 2], x[:, 4] = np.nan, 1
    made = encoder_class.fit(Table.from_array(x))
    whole = made.transform(Table.from_array(x))
    for n in (0, 1, FEW_ROWS):
        few, apart = Table.from_array(x[:n]), Table.from_columns(Table.from_array(x[:n]).columns)
        assert (few.names, few.kinds, few.rows) == (apart.names, apart.kinds, apart.rows)
        for table in (few, apart, few.take(slice(None)), few.renamed(few.names)):
            assert np.array_equal(made.transform(table), whole[:n])
    with pytest.raises(DataError, match='columns "column_4", .*not in this table'):
        made.transform(Table.from_array(x[:1, :3]))
    x[0, 3] = np.inf
    with pytest.raises(DataError, match='column "column_4": infinite in row 1 '):
        made.transform(Table.from_array(x[:2]))
    given = np.zeros((2, 7))
    table = Table.from_array(given)
    given[:] = 1
    assert not table.matrix(np.arange(7)).any(), "what the caller does to the array later does not change the table"


# ---------------------------------------------------------------- dates


def test_dates_are_days_and_places_on_circles() -> None:
    cells = ["2024-01-01", "2024-04-01 12:00", "2024-07-01T06:30:00", "2024-10-01"] * 3
    encoder = fitted(cells)
    assert kind(encoder) == "dates"
    names = [name for name in encoder.output_names if name.startswith("x")]
    assert names[:3] == ["x", "x (sine of the year)", "x (cosine of the year)"] and len(names) == 7
    x = np.array(encoded(encoder, cells))
    days = (np.array(cells, "M8[s]") - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    np.testing.assert_allclose(x[:, 0], (days - days.mean()) / days.std(), atol=1e-5)
    for at, period in ((1, 365.2425), (5, 1.0)):
        np.testing.assert_allclose(x[:, at], np.sin(2 * np.pi * days / period), atol=1e-4)
        np.testing.assert_allclose(x[:, at + 1], np.cos(2 * np.pi * days / period), atol=1e-4)
    np.testing.assert_allclose((x[:, 1:].reshape(12, 3, 2) ** 2).sum(axis=2), 1, atol=1e-5)


def test_monday_begins_the_week() -> None:
    encoder = fitted(["2024-01-01", "2024-01-03", "2024-01-05"])  # the first is a Monday
    assert encoded(encoder, ["2024-01-01", "2024-01-08"])[0][1:] == pytest.approx([0, 1], abs=1e-5)


def test_dates_that_are_blank_or_none_are_marked_and_noted() -> None:
    encoder = fitted(["2024-01-01", None, "2024-01-02", "2024-01-09"])
    [first, blank, odd] = encoded(encoder, ["2024-01-01", None, "soon"])
    assert (first[-1], blank[-1], odd[-1]) == (0, 1, 1) and blank[0] == odd[0] == 0
    assert any('"x": taken for blank, no date: 1 cells' in note for note in encoder.notes)
    again = encoder_from_config(saved(encoder))
    assert encoded(again, ["2024-02-01"]) == encoded(encoder, ["2024-02-01"])


@pytest.mark.parametrize(
    "text", ["2024-13-01", "2024-02-30", "24-01-01", "2024-01-01 25:00", "20240101", "1 May", "2024-01-01x", ""]
)
def test_what_is_no_date(text: str) -> None:
    assert dates.days_of(text) is None


@pytest.mark.parametrize(
    ("text", "days"),
    [("1970-01-02", 1), ("1970-01-01 06:00", 0.25), ("1970-01-01T00:00:00Z", 0), ("1970-01-01 12:00:00+06:00", 0.25),
     ("1970-01-01 12:00:00-0600", 0.75), ("1969-12-31T12:00:00.000000001", -0.5)],
)  # fmt: skip
def test_what_is_a_date(text: str, days: float) -> None:
    assert dates.days_of(text) == pytest.approx(days, abs=1e-9)


@given(st.datetimes())
def test_every_date_python_writes_is_read(moment: Any) -> None:
    found = dates.days_of(str(moment)), dates.days_of(moment.isoformat())
    want = (moment - type(moment)(1970, 1, 1)).total_seconds() / 86400
    assert found == (pytest.approx(want, abs=1e-6), pytest.approx(want, abs=1e-6))


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_none(text: str) -> None:
    found = dates.days_of(text)
    assert found is None or math.isfinite(found)


def test_how_long_is_a_number() -> None:
    spans = np.array([90, "NaT", 30], "m8[s]")
    np.testing.assert_array_equal(Column.from_values("x", spans).values, [90, math.nan, 30])


# ---------------------------------------------------------------- labels, rates, sparse matrices


def test_labels_are_columns_of_0_and_1() -> None:
    labels = np.array([[0, 1, 1], [1, 0, 1]])
    made = Target.fit(labels, task="multilabel")
    assert (made.classes, made.outputs) == ([0, 1, 2], 3)
    assert made.encode(labels).dtype == np.float32 and np.array_equal(made.encode(labels == 1), labels)
    assert Target.from_config(saved(made)) == made
    for wrong, said in (
        ([[0, 2, 1]], "labels are 0 or 1; row 1 "),
        ([[0, 1]], r"a matrix \[N, 3\]"),
        ([0, 1], r"\[N, 3\]"),
    ):
        with pytest.raises((DataError, ShapeError), match=said):
            made.encode(np.array(wrong))


def test_rates_are_told_by_logarithms() -> None:
    counts = np.array([0.0, 2, 4, 10])
    made = Target.fit(counts, task="regression", link="log")
    encoded = made.encode(counts)
    np.testing.assert_allclose(encoded[:, 0], counts / 4)
    np.testing.assert_allclose(made.restore(encoded), counts)
    np.testing.assert_allclose(made.decode_values(np.log(encoded[1:])), counts[1:], rtol=1e-6)
    np.testing.assert_allclose([made.low[0], made.high[0]], np.log([1 / 8, 2.5]))
    assert Target.from_config(saved(made)) == made
    with pytest.raises(DataError, match="counts are at least 0; below in row 2 "):
        Target.fit([1.0, -1], task="regression", link="log")
    with pytest.raises(DataError, match="every row has the value 0"):
        Target.fit([0.0, 0], task="regression", link="log")


def test_sparse_columns_are_divided_by_their_largest_value() -> None:
    sp = pytest.importorskip("scipy.sparse")
    x = Csr.read(sp.csr_matrix([[0, -4.0, 0], [2, 2, 0], [8, 0, 5]]))
    encoder = SparseEncoder.fit(x, rows=[0, 1])
    np.testing.assert_array_equal(encoder.transform(x).dense(), [[0, -1, 0], [1, 0.5, 0], [4, 0, 0]])
    assert encoder.notes == ["1 column without an entry in training, left out"]
    again = encoder_from_config(saved(encoder))
    np.testing.assert_array_equal(again.transform(x).dense(), encoder.transform(x).dense())
    with pytest.raises(ShapeError, match="reads 3 columns, got 2"):
        encoder.transform(Csr.read(sp.csr_matrix((2, 2))))
    with pytest.raises(DataError, match="the sparse matrix is empty in 2 training rows"):
        SparseEncoder.fit(Csr.read(sp.csr_matrix((2, 2))))


@given(st.data())
def test_rows_of_a_sparse_matrix_are_those_of_the_dense_one(data: Any) -> None:
    sp = pytest.importorskip("scipy.sparse")
    n, m = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    dense = np.array(
        data.draw(
            st.lists(st.lists(st.sampled_from([0.0, 0.0, 1.5, -2.0]), min_size=m, max_size=m), min_size=n, max_size=n)
        )
    )
    x = Csr.read(sp.coo_matrix(dense))
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=6)), int)
    np.testing.assert_array_equal(x.dense(), dense)
    np.testing.assert_array_equal(x.take(rows).dense(), dense[rows])
    assert x.most == (dense != 0).sum(axis=1).max()
