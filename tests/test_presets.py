"""Presets: the recipe's numbers, its layers and encoding against plain NumPy, a step that is native, a model that is saved."""

from __future__ import annotations

import json
import pickle
from typing import Any

import fibers
import numpy as np
import pytest
from conftest import emulated_cuda
from hypothesis import given
from hypothesis import strategies as st

import gpunet
from gpunet import Trainer, losses, nn, optim, presets, tensor
from gpunet.data import Column, Table
from gpunet.errors import ConfigError, ShapeError
from gpunet.tabular import RobustEncoder, Target, encoder_from_config
from gpunet.tabular.robust import robust, smooth_clip
from gpunet.train import Callback
from gpunet.train.model import Model
from gpunet.train.together import train_together

R = np.random.default_rng(5)
QUIET: dict[str, Any] = {"show_progress": False}


def mixed(rows: int, *, seed: int = 0) -> Table:
    """Numbers, numbers with blanks, two texts, a few texts, many texts."""
    r = np.random.default_rng(seed)
    few, many = [f"c{i}" for i in range(5)], [f"m{i:02}" for i in range(30)]
    holes = np.where(r.random(rows) < 0.1, np.nan, r.normal(size=rows))
    return Table.from_frame({
        "two": r.choice(["no", "yes"], rows).tolist(), "many": r.choice(many, rows).tolist(), "x": r.normal(size=rows) * 50,
        "holes": holes, "few": r.choice(few, rows).tolist(),
    })  # fmt: skip


def answers(table: Table, *, classes: bool) -> np.ndarray:
    z = np.sin(table["x"].values / 30) + (table["two"].values == "yes") + 0.1 * np.random.default_rng(1).normal(size=table.rows)
    return (z > 0.5).astype(int) if classes else z


# ---------------------------------------------------------------- encoding


@pytest.mark.parametrize("cells", [[1.0, 2, 3, 4, 100], [0.0, 0, 0, 0, 7], [5.0, 5, 5, 9, 9, 9, 9]])
def test_numbers_are_scaled_by_their_quartiles_or_half_the_range_and_clipped(cells: list[float]) -> None:
    x = np.array(cells)
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
    z = (x - middle) / (high - low if high > low else (x.max() - x.min()) / 2)
    got = RobustEncoder.fit(Table.from_frame({"x": cells})).transform(Table.from_frame({"x": cells}))
    np.testing.assert_allclose(got[:, 0], z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-6)


def test_one_hot_columns_are_scaled_as_numbers_are_and_nine_categories_are_codes() -> None:
    """As pytabkit does: a rare category's 1 is 2 after half the range 0.5 has divided it, and 1.66 after the clip."""
    cells = ["a"] * 8 + ["b"] * 4 + ["c"]
    encoder = RobustEncoder.fit(Table.from_frame({"x": cells}))
    out = encoder.transform(Table.from_frame({"x": ["c", "b", None, "new"]}))
    a, b, c = (float(smooth_clip(np.array(v))) for v in (-1.0, 1.0, 2.0))  # of a, the median is 1 and the quartiles 0, 1
    np.testing.assert_allclose(out, [[a, 0, c], [a, b, 0], [a, 0, 0], [a, 0, 0]], rtol=1e-6)
    eight, nine = ([f"t{i}" for i in range(n)] * 3 for n in (8, 9))
    assert RobustEncoder.fit(Table.from_frame({"x": eight})).codes == []
    coded = RobustEncoder.fit(Table.from_frame({"x": nine}))
    assert coded.codes == [10]
    assert coded.transform(Table.from_frame({"x": ["t0", "t8", None, "new"]})).ravel().tolist() == [1, 9, 0, 0]
    assert RobustEncoder.fit(Table.from_frame({"x": nine}), one_hot=None).codes == []


def test_numbers_come_first_then_marks_then_codes() -> None:
    table = mixed(200)
    encoder = RobustEncoder.fit(table)
    assert encoder.roles == ["number"] * 2 + ["mark"] * 7 + ["code"]
    assert encoder.output_names[:2] == ["x", "holes"] and encoder.output_names[-1] == "many (code)"
    again = encoder_from_config(json.loads(json.dumps(encoder.config())))
    other = mixed(50, seed=1)
    assert isinstance(again, RobustEncoder)
    assert np.array_equal(encoder.transform(other), again.transform(other))
    assert encoder.describe() == again.describe() and len(encoder.describe()) == 5


def test_two_numbers_are_a_mark_where_asked_for_and_scaled_as_ever() -> None:
    table = Table.from_frame({"two": [0, 0, 0, 1, 0], "z": [1.0, 2, 3, 4, 5], "holes": [np.nan, 1, 1, 3, 3]})
    usual, pairs = (RobustEncoder.fit(table, pairs=asked) for asked in (False, True))
    assert usual.roles == ["number"] * 3 + ["mark"] and pairs.roles == ["number"] + ["mark"] * 3
    by_name = [dict(zip(e.output_names, e.transform(table).T, strict=True)) for e in (usual, pairs)]
    assert all(np.array_equal(by_name[0][name], by_name[1][name]) for name in usual.output_names)
    again = encoder_from_config(json.loads(json.dumps(pairs.config())))
    assert again.roles == pairs.roles and np.array_equal(again.transform(table), pairs.transform(table))
    _, _, _, net, _ = prepared("default", classes=True)
    assert net[0].numeric == 2 and presets.get("realmlp").encode(table, None, Target.fit([0, 1])).roles == usual.roles


numbers = st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=2, max_size=30)
texts = st.lists(st.none() | st.text(max_size=3), min_size=2, max_size=40)


@given(numbers | texts)
def test_whatever_is_in_a_column_comes_out_finite_and_within_the_clip(cells: list[Any]) -> None:
    column = Column.from_values("x", cells)
    treatment = robust(column)
    out = treatment.transform(column, [])
    assert out.shape == (len(cells), len(treatment.output_names)) and len(treatment.roles) == out.shape[1]
    assert np.isfinite(out).all()
    if "code" not in treatment.roles:
        assert np.abs(out).max(initial=0) <= 3


# ---------------------------------------------------------------- layers


def doubled(module: nn.Module) -> tuple[nn.Module, dict[str, np.ndarray]]:
    module.initialize(3).to("float64")
    return module, module.state_dict()


def test_layers_against_numpy() -> None:
    x = R.normal(size=(6, 4))
    scale, w = doubled(nn.Scale(4))
    np.testing.assert_allclose(scale(x).numpy(), x * w["factor"])
    linear, w = doubled(nn.NTKLinear(4, 3))
    np.testing.assert_allclose(linear(x).numpy(), x @ w["weight"] / 2 + w["bias"])
    act, w = doubled(nn.Sequential(nn.ParametricActivation(4, "mish")))
    act.load_state_dict({"0.strength": np.array([0, 1, 0.5, 2])})
    mish = x * np.tanh(np.log1p(np.exp(x)))
    np.testing.assert_allclose(act(x).numpy(), x + np.array([0, 1, 0.5, 2]) * (mish - x))
    clamp = nn.Clamp([-0.5] * 4, [0.25] * 4).to("float64")
    assert np.array_equal(clamp(x).numpy(), x)
    np.testing.assert_allclose(clamp.eval()(x).numpy(), np.clip(x, -0.5, 0.25))


def periodic(x: np.ndarray, w: dict[str, np.ndarray], prefix: str = "") -> np.ndarray:
    """Column by column, as the paper writes it."""
    parts = []
    for j in range(x.shape[1]):
        wave = np.cos(2 * np.pi * x[:, j : j + 1] * w[f"{prefix}frequency"][j] + w[f"{prefix}phase"][j])
        parts.append(wave @ w[f"{prefix}weight"][j] + w[f"{prefix}bias"][j])
    return np.concatenate([*parts, x], axis=1)


def test_columns_embed_numbers_and_codes() -> None:
    layer, w = doubled(nn.Columns(3, 2, [4, 6], width=5, embedding={"frequencies": 7, "width": 3}))
    numbers, marks, codes = R.normal(size=(8, 3)), R.normal(size=(8, 2)), np.array([R.integers(0, n, 8) for n in (4, 6)]).T
    out = layer(np.concatenate([numbers, marks, codes], axis=1)).numpy()
    embedded = w["code"][codes + [0, 4]].reshape(8, 10)
    np.testing.assert_allclose(out, np.concatenate([periodic(numbers, w, "periodic."), marks, embedded], axis=1))
    assert layer.outputs == out.shape[1] == 3 * 3 + 2 + 10
    with pytest.raises(ShapeError, match=r"\[rows, 7\]"):
        layer(numbers)


def test_ramps_climb_from_quantile_to_quantile_of_the_data_seen_first() -> None:
    mostly = np.concatenate([np.zeros(90), [1, 2, 3, 4, 5, 6, 7, 8, 9]])
    x = np.stack([R.normal(size=99), np.arange(99) % 2, np.full(99, 3.0), mostly], axis=1).astype(np.float32)
    layer, w = doubled(nn.PiecewiseEmbedding(4, bins=4, width=2))
    assert layer.unsettled
    layer.settle(tensor(x.astype(np.float64)))
    edges = np.quantile(x, np.linspace(0, 1, 5), axis=0, method="inverted_cdf")
    edges[:, 1], edges[:, 3] = [0, 0, 0, 1, 1], [0, 2, 4, 7, 9]  # of the two, and of the ten distinct values
    points = np.concatenate([edges, edges + 0.01, x[:5], np.full((1, 4), -9), np.full((1, 4), 9)]).astype(np.float64)
    want = []
    for j in range(4):
        pairs = [(a, b) for a, b in zip(edges[:-1, j], edges[1:, j], strict=True)]
        ramps = np.array([np.clip((points[:, j] - a) / (b - a), 0, 1) if b > a else np.zeros(len(points)) for a, b in pairs])
        want.append(ramps.T @ w["weight"][j] + w["bias"][j])
    np.testing.assert_allclose(layer(points).numpy(), np.concatenate(want, axis=1), rtol=1e-4, atol=1e-5)
    before = layer.state_dict()
    layer.settle(tensor(x.astype(np.float64) * 2))
    assert all(np.array_equal(value, before[name]) for name, value in layer.state_dict().items())


@given(st.lists(st.floats(width=32, allow_nan=False, min_value=-3, max_value=3), min_size=1, max_size=20))
def test_ramps_of_any_column_are_finite(cells: list[float]) -> None:
    x = np.array(cells, np.float32)[:, None]
    layer = nn.PiecewiseEmbedding(1, bins=5, width=1).initialize(1)
    made = layer.settle(tensor(x)).numpy()
    assert np.isfinite(made).all() and np.abs(made).max() <= 6 / np.sqrt(5)


def test_initial_embeddings_are_of_the_size_of_the_recipe() -> None:
    w = nn.PeriodicEmbedding(400).initialize(1).state_dict()
    assert w["frequency"].std() == pytest.approx(0.1, rel=0.03)
    assert np.abs(w["phase"]).max() == pytest.approx(np.pi, rel=0.01) and abs(w["phase"].mean()) < 0.1
    for name in ("weight", "bias"):
        assert np.abs(w[name]).max() == pytest.approx(0.25, rel=0.01)  # 1 / sqrt(16 frequencies)


def test_the_data_settle_the_first_weights_once() -> None:
    net = nn.Sequential(nn.Scale(5), nn.NTKLinear(5, 64, init="data"), nn.SELU(), nn.NTKLinear(64, 3, init="data"))
    net.initialize(2)
    x = tensor((R.normal(size=(500, 5)) * [1, 2, 3, 4, 5]).astype(np.float32))
    before = net.state_dict()
    assert net.unsettled
    net.settle(x)
    w = net.state_dict()
    assert not net.unsettled
    for units, inputs, name in ((64, 5, "1"), (3, 64, "3")):
        h = x.numpy() if name == "1" else nn.SELU()(net[1](net[0](x))).numpy()
        z = h @ w[f"{name}.weight"] / np.sqrt(inputs)
        np.testing.assert_allclose(z.std(axis=0), np.ones(units), rtol=1e-4)
        assert (-w[f"{name}.bias"] >= z.min(axis=0)).all() and (-w[f"{name}.bias"] <= z.max(axis=0)).all()
        assert len(np.unique(w[f"{name}.bias"])) == units
    assert np.array_equal(np.sign(w["1.weight"]), np.sign(before["1.weight"]))  # scaled, not drawn anew
    net.settle(x * 3.0)
    assert all(np.array_equal(a, b) for a, b in zip(net.state_dict().values(), w.values(), strict=True))
    loaded = nn.build(net.config())
    loaded.load_state_dict(w)
    assert not loaded.unsettled


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: nn.NTKLinear(2, 2, init="he"), "init"),
        (lambda: nn.PeriodicEmbedding(2, sigma=0), "sigma"),
        (lambda: nn.Columns(0), "at least one column"),
        (lambda: nn.Clamp([1.0], [0.0]), "Clamp"),
        (lambda: nn.init.get("he:3"), "takes no number"),
        (lambda: nn.init.get("normal:x"), "not a number"),
        (lambda: presets.get("realmpl"), 'Did you mean "realmlp"'),
    ],
)
def test_wrong_settings_are_told(made: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made()


# ---------------------------------------------------------------- the recipe


def prepared(name: str, *, classes: bool, rows: int = 320, **overrides: Any) -> tuple[Any, Any, Any, Any, Any]:
    table = mixed(rows)
    preset, y = presets.get(name), answers(table, classes=classes)
    target = Target.fit(y, task="classification" if classes else "regression")
    encoder = preset.encode(table, None, target)
    net = preset.build(encoder, target, **overrides)
    return preset, encoder, target, net, (encoder.transform(table), target.encode(y))


@pytest.mark.parametrize(("classes", "lr"), [(True, 0.04), (False, 0.2)])
def test_realmlp_has_the_numbers_of_the_paper(classes: bool, lr: float) -> None:
    preset, encoder, target, net, data = prepared("realmlp", classes=classes)
    kinds = [type(layer).__name__ for layer in net]
    block = ["NTKLinear", "ParametricActivation", "Dropout"]
    assert kinds == ["Columns", "Scale", *block * 3, "NTKLinear", *["Clamp"] * (not classes)]
    assert net[0].outputs == 2 * 4 + 7 + 8 and net[0].codes == [31]
    assert net[4].rate == 0.15 and net[3].activation == ("selu" if classes else "mish")
    optimizer = preset.optimizer(target)
    optimizer.bind(list(net.named_parameters()))
    found = {}
    for group in optimizer.groups:
        rate = optimizer.lr * (group.lr_factor or 1)
        decay = optimizer.weight_decay if group.weight_decay is None else group.weight_decay
        found |= {piece.name: (rate, decay) for piece in group.pieces}
    for name, (rate, decay) in found.items():
        by = 6 if "factor" in name else 0.1 if any(n in name for n in ("periodic", "strength", "bias")) else 1
        assert rate == pytest.approx(lr * by), name
        assert decay == pytest.approx(0 if name.endswith(".bias") and "periodic" not in name else 0.02 * by), name
    assert optimizer.betas == (0.9, 0.95)
    assert optimizer.schedules["lr"].name == "coslog4" and optimizer.schedules["weight_decay"].name == "flat_cos"
    loss = preset.loss(target)
    assert losses.plain(loss) is (losses.cross_entropy if classes else losses.mse)
    assert not classes or loss.keywords == {"label_smoothing": 0.1}
    assert dict(preset.fit) == {
        "epochs": 256, "batch_size": 256, "drop_last": True, "ties": "last", "measure_train": False,
        "dropout_schedule": "flat_cos",
    }  # fmt: skip
    assert preset.validation == 0.2 and preset.n_ensemble == 1


def test_the_default_is_narrower_has_ramps_and_a_net_a_fold() -> None:
    preset, encoder, target, net, _ = prepared("default", classes=True)
    assert presets.get() is presets.get(None) is preset
    assert [layer.outputs for layer in net if isinstance(layer, nn.NTKLinear)] == [128, 128, 128, 2]
    assert net[0].outputs == 2 * (4 + 4) + 7 + 8 and net[0].ramps.bins == 16
    assert [preset.cv(rows) for rows in (12, 4096, 4097, 10**6)] == [(6, 6), (6, 6), (8, 3), (8, 3)]
    assert preset.fit["epochs"] == 64 and [preset.fit["monitor"](rows) for rows in (12, 1024, 1025)] == ["val_loss", "val_loss", None]
    assert [preset.fit["batch_size"](rows) for rows in (1, 1024, 1025, 16_384, 16_385, 10**6)] == [64, 64, 128, 128, 256, 256]
    assert [presets.get(name).cv for name in ("realmlp", "realmlp-s", "classic", "cs231n")] == [None] * 4


@pytest.mark.parametrize(("rows", "monitor"), [(90, "val_loss"), (1300, "val_accuracy")])
def test_few_rows_are_judged_by_the_loss_and_many_by_accuracy(rows: int, monitor: str) -> None:
    x = np.random.default_rng(0).normal(size=(rows, 2))
    made = gpunet.MLPClassifier(max_iter=1, cv=5, hidden_layer_sizes=4, random_state=0).fit(x, x[:, 0] > 0)
    assert {history.monitor for history in made.histories_} == {monitor}


def test_the_default_has_waves_for_32_columns_of_numbers_at_most() -> None:
    preset, target = presets.get("default"), Target.fit([0, 1])
    for columns, width in ((32, 8), (33, 5)):
        table = Table.from_array(np.random.default_rng(0).normal(size=(20, columns)))
        encoder = preset.encode(table, None, target)
        assert preset.build(encoder, target)[0].outputs == columns * width
        assert presets.get("realmlp").build(encoder, target)[0].outputs == columns * 4


def test_the_default_trains_a_net_a_fold_unless_told_otherwise() -> None:
    table = {"x": np.linspace(-1, 1, 60), "z": np.cos(np.arange(60))}
    y = (table["x"] > 0).astype(int)
    made = [gpunet.MLPClassifier(max_iter=1, random_state=0, **given).fit(table, y) for given in ({}, {"n_ensemble": 1}, {"cv": 2})]
    assert [len(one.histories_) for one in made] == [6, 1, 2]
    one = gpunet.MLPClassifier(max_iter=1, random_state=0).fit(table, y, eval_set=(table, y))
    few = gpunet.MLPClassifier(max_iter=1, random_state=0).fit({"x": table["x"][24:35]}, y[24:35])
    assert len(one.histories_) == len(few.histories_) == 1


@pytest.mark.parametrize(
    ("given", "stops"),
    [({}, True), ({"max_iter": 200}, True), ({"n_iter_no_change": 200}, False), ({"preset": "realmlp", "cv": 2}, False)],
)
def test_classes_of_the_default_stop_where_three_eighths_of_the_run_taught_nothing(given: dict[str, Any], stops: bool) -> None:
    x, y = np.random.default_rng(0).normal(size=(90, 2)), np.arange(90) % 2  # nothing to learn
    made = gpunet.MLPClassifier(**{"cv": 2, "max_iter": 64, "hidden_layer_sizes": 8, "random_state": 0} | given).fit(x, y)
    epochs = given.get("max_iter", 64)
    for history in made.histories_:
        assert history.stopped == ("patience" if stops else "finished")
        assert history.epochs == (history.best_epoch + epochs * 3 // 8 if stops else epochs)


def test_realmlp_s_has_the_numbers_of_the_paper() -> None:
    preset, encoder, target, net, _ = prepared("realmlp-s", classes=False)
    assert encoder.codes == [] and len(encoder.output_names) == 2 + 1 + 1 + 5 + 30
    assert [type(layer).__name__ for layer in net] == ["Columns", "Scale", *["NTKLinear", "Mish"] * 3, "NTKLinear"]
    assert not any(value.any() for name, value in net.initialize(1).state_dict().items() if name.startswith("8."))
    optimizer = preset.optimizer(target)
    assert optimizer.lr == 0.07 and optimizer.weight_decay == 0
    assert presets.get("realmlp-s").optimizer(Target.fit(["a", "b"])).lr == 0.04


def test_classic_is_scikit_learns() -> None:
    preset, encoder, target, net, _ = prepared("classic", classes=True)
    assert encoder.kind == "table" and net.widths == (len(encoder.output_names), 100, 2)
    assert preset.fit["epochs"] == 200 and preset.fit["batch_size"] == 200 and preset.fit["patience"] == 10
    optimizer = preset.optimizer(target)
    assert optimizer.lr == 1e-3 and optimizer.weight_decay == pytest.approx(1e-4 / 200)
    assert preset.optimizer(target, optimizer="sgd", lr=0.1, momentum=0.5).momentum == 0.5


@pytest.mark.parametrize("name", [*presets.PRESETS])
@pytest.mark.parametrize("classes", [True, False])
def test_every_preset_learns_runs_natively_and_is_saved(name: str, classes: bool, tmp_path: Any) -> None:
    preset, encoder, target, net, (x, y) = prepared(name, classes=classes, hidden=(32,))
    trainer = Trainer(net, preset.loss(target), preset.optimizer(target), device="cpu", seed=1)
    settings = {**preset.fit, "epochs": 25 if name.startswith("realmlp") else 80, "batch_size": 64}
    history = trainer.fit((x, y), validation=(x, y), **settings, **QUIET)
    figure = history["val_accuracy" if classes else "val_rmse"]
    assert max(figure) > 0.85 if classes else min(figure) < 0.65
    for compiled in trainer._programs.values():
        for programs in compiled.programs.values():
            assert [getattr(program, "callbacks", []) for program in programs] == [[]] * len(programs)
    model = Model(net, encoder, target)
    again = gpunet.load(model.save(tmp_path / "m.gpunet"))
    other = mixed(40, seed=9)
    assert np.array_equal(model.predict(other), again.predict(other))


def test_a_compiled_realmlp_has_the_bits_of_an_eager_one() -> None:
    found = []
    for compiled in (True, False):
        preset, _, target, net, (x, y) = prepared("realmlp", classes=True, hidden=(16, 16))
        trainer = Trainer(net, preset.loss(target), preset.optimizer(target), device="cpu", seed=1, compile=compiled)
        trainer.fit((x, y), **{**preset.fit, "epochs": 3, "batch_size": 64}, **QUIET)
        found.append(net.state_dict())
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.skipif(bool(fibers.missing()), reason=f"csrc/*.cu cannot be built for the host: {fibers.missing()}")
def test_the_default_is_captured_on_cuda_and_learns_as_on_the_cpu() -> None:
    """On the CUDA device of the tests, whose kernels the host runs."""
    losses_of, kinds = [], []
    for device in ("cpu", emulated_cuda(orders=())):
        preset, _, target, net, (x, y) = prepared("default", classes=True, rows=48, hidden=(8,))
        trainer = Trainer(net, preset.loss(target), preset.optimizer(target, schedule=None), device=device, seed=1)
        settings = {**preset.fit, "epochs": 3, "batch_size": 24, "monitor": None}
        losses_of.append(trainer.fit((x, y), **settings, **QUIET)["loss"])
        kinds.append([type(p).__name__ for c in trainer._programs.values() for ps in c.programs.values() for p in ps])
    np.testing.assert_allclose(*losses_of, rtol=1e-5)
    assert kinds == [["NativeProgram"], ["CapturedProgram"]]


def test_values_stay_within_the_range_of_the_training_values() -> None:
    preset, encoder, target, net, (x, y) = prepared("realmlp", classes=False, hidden=(8,))
    assert target.low == [float(y.min())] and target.high == [float(y.max())]
    trainer = Trainer(net, "mse", preset.optimizer(target), device="cpu")
    trainer.fit((x, y), epochs=1, **QUIET)
    far = trainer.predict(x * np.where(np.arange(x.shape[1]) < net[0].numeric, np.float32(1e3), np.float32(1)))
    assert y.min() <= far.min() and far.max() <= y.max() and far.std() > 0


# ---------------------------------------------------------------- what the trainer learned for it

X = R.normal(size=(96, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


class Watch(Callback):
    def __init__(self, see: Any) -> None:
        self.see, self.seen = see, []

    def on_epoch_end(self, trainer: Any, epoch: int, logs: dict[str, float]) -> None:
        self.seen.append(self.see(trainer))


@pytest.mark.parametrize("compile", [True, False])
def test_dropout_follows_its_schedule_and_has_its_rate_again_afterwards(compile: bool) -> None:
    net = nn.MLP(3, 8, 2, dropout=0.4)
    watch = Watch(lambda trainer: net[1].level.item())
    trainer = Trainer(net, optimizer=optim.SGD(lr=0.1), device="cpu", compile=compile)
    trainer.fit((X, Y), epochs=4, batch_size=32, dropout_schedule="flat_cos", callbacks=[watch], **QUIET)
    steps = optim.schedules.get("flat_cos").table(12)
    np.testing.assert_allclose(watch.seen, 0.4 * steps[[2, 5, 8, 11]], rtol=1e-12)
    assert net[1].level.item() == 0.4
    with pytest.raises(ConfigError, match="factors from 0 to 1"):
        trainer.fit((X, Y), epochs=1, dropout_schedule="one_cycle:3", **QUIET)


@pytest.mark.parametrize(("ties", "epoch"), [("last", 4), ("loss", 2)])
def test_of_equal_epochs_the_last_or_the_one_of_lowest_loss(ties: str, epoch: int) -> None:
    trainer = Trainer(nn.MLP(3, 4, 2), device="cpu")
    original = trainer._validate
    trainer._validate = lambda held_out: {  # type: ignore[method-assign]
        **original(held_out),
        "val_accuracy": [0.5, 0.9, 0.9, 0.9, 0.1][trainer.epoch - 1],
        "val_loss": [3.0, 1.0, 2.0, 1.5, 0.5][trainer.epoch - 1],
    }
    assert trainer.fit((X, Y), validation=(X, Y), epochs=5, ties=ties, **QUIET).best_epoch == epoch
    with pytest.raises(ConfigError, match="ties"):
        trainer.fit((X, Y), validation=(X, Y), epochs=1, ties="first", **QUIET)


def test_metrics_of_training_rows_can_be_left_out() -> None:
    history = Trainer(nn.MLP(3, 4, 2), device="cpu").fit((X, Y), validation=(X, Y), epochs=1, measure_train=False, **QUIET)
    assert [*history] == ["loss", "val_loss", "val_accuracy"]


def test_an_optional_group_may_match_nothing() -> None:
    net = nn.MLP(3, 4, 2)
    optimizer = optim.SGD(lr=0.1, groups=[{"match": "*.none", "lr_factor": 2, "optional": True}])
    optimizer.bind(list(net.named_parameters()))
    assert len(optimizer.groups) == 1
    with pytest.raises(ConfigError, match="no parameter matches"):
        optim.SGD(lr=0.1, groups=[{"match": "*.none"}]).bind(list(net.named_parameters()))


# ---------------------------------------------------------------- several nets at a time


def ensemble(count: int = 4) -> list[Trainer]:
    return [Trainer(nn.MLP(3, 16, 2, dropout=0.1), device="cpu", seed=i) for i in range(count)]


def test_nets_trained_together_have_the_bits_of_one_after_the_other() -> None:
    one, other = ensemble(), ensemble()
    for trainers, at_a_time in ((one, 1), (other, 3)):
        train_together(
            trainers, lambda i, t=trainers: t[i].fit((X, Y), epochs=3, batch_size=16, **QUIET), at_a_time=at_a_time
        )
    for a, b in zip(one, other, strict=True):
        assert a.history == b.history
        weights = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
        assert all(np.array_equal(p, q) for p, q in weights)


def test_the_first_failure_ends_the_others() -> None:
    trainers, done = ensemble(), []

    def fit(i: int) -> None:
        if i == 1:
            raise ConfigError("the second fails")
        trainers[i].fit((X, Y), epochs=10**6, batch_size=16, **QUIET)
        done.append(i)

    with pytest.raises(ConfigError, match="the second fails"):
        train_together(trainers, fit, at_a_time=2)
    assert done == [0] and trainers[0].history.stopped == "interrupted"  # the others have not begun


@pytest.mark.parametrize(
    ("kind", "given", "best"),
    [
        (gpunet.MLPRegressor, {}, False),
        (gpunet.MLPRegressor, {"n_ensemble": 1}, True),
        (gpunet.MLPRegressor, {"scoring": "mae"}, True),
        (gpunet.MLPRegressor, {"scoring": "loss"}, True),
        (gpunet.MLPRegressor, {"early_stopping": True}, True),
        (gpunet.MLPRegressor, {"preset": "realmlp", "cv": 2}, True),
        (gpunet.MLPRegressor, {"n_iter_no_change": 1}, True),
        (gpunet.MLPClassifier, {}, True),
    ],
)
def test_only_averaged_nets_of_values_are_trained_to_the_end(kind: Any, given: dict[str, Any], best: bool) -> None:
    table = {"x": np.linspace(-1, 1, 48), "z": np.cos(np.arange(48))}
    made = kind(max_iter=2, hidden_layer_sizes=8, random_state=0, **given).fit(table, (table["x"] > 0).astype(int))
    assert [history.best_epoch > 0 for history in made.histories_] == [best] * len(made.histories_)


def noisy(rows: int, noise: float) -> tuple[Any, Any]:
    r = np.random.default_rng(3)
    x = r.standard_normal((rows, 8))
    return x, x[:, 0] - x[:, 1] + noise * r.standard_normal(rows)


def test_nets_that_were_as_good_before_count_as_they_were_too() -> None:
    """On the rows held out: noise is learned by heart in the last cycle, a plain answer is learned better."""
    for noise, snapshots in ((6.0, True), (0.0, False)):
        x, y = noisy(400, noise)
        made = gpunet.MLPRegressor(cv=2, hidden_layer_sizes=(32, 32), random_state=0).fit(x, y)
        then, now = (np.mean([history["val_loss"][i] for history in made.histories_]) for i in (29, 63))
        assert (then <= now) == snapshots, (then, now)
        nets = list(made.model_.net)
        assert len(nets) == (4 if snapshots else 2)
        answers = [gpunet.Model(net, made.encoder_, made.target_).predict(x) for net in nets]
        np.testing.assert_allclose(made.predict(x), np.mean(answers, axis=0).ravel(), rtol=1e-5, atol=1e-5)
        assert np.array_equal(pickle.loads(pickle.dumps(made)).predict(x), made.predict(x))


@pytest.mark.parametrize("given", [{"max_iter": 1}, {"cv": None, "n_ensemble": 1}, {"scoring": "mae"}, {"preset": "realmlp"}])
def test_no_snapshots_where_nets_keep_their_best_epoch_or_have_one(given: dict[str, Any]) -> None:
    x, y = noisy(240, 2.0)
    made = gpunet.MLPRegressor(**{"max_iter": 15, "cv": 2, "hidden_layer_sizes": 8, "random_state": 0, **given}).fit(x, y)
    assert len(list(made.model_.net) if made.cv else [0]) == (made.cv or 1)
