"""The pictures: what they draw is what was computed; text columns, many rows, one input, other libraries' models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("matplotlib", reason="matplotlib draws the pictures; it is not installed")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from gpunet import Trainer, losses, nn, optim, viz
from gpunet.data import digits, toys
from gpunet.data.record import Dataset
from gpunet.data.table import Column, Table
from gpunet.engine import tensor
from gpunet.errors import ConfigError, DataError, FormatError, ShapeError
from gpunet.train.recipe import Recipe, train
from gpunet.viz.scores import importance_of
from gpunet.viz.subject import activations, history, subject

RNG = np.random.default_rng(0)


def fitted(net: nn.Module, x: Any, y: Any, epochs: int = 20, loss: Any = losses.cross_entropy, **how: Any) -> Trainer:
    trainer = Trainer(net, loss, optim.Adam(lr=0.02), device="cpu")
    trainer.fit((x, y), epochs=epochs, show_progress=False, **how)
    return trainer


@pytest.fixture(scope="module")
def moons() -> tuple[Trainer, Any, Any]:
    x, y = toys.moons(200, noise=0.1)
    return fitted(nn.MLP(2, 16, 3, activation="tanh"), x, y, validation=0.2), x, y


@pytest.fixture(scope="module")
def people() -> Any:
    """A run on a table with text, a blank, and a column that means nothing."""
    n = 400
    age, city = RNG.uniform(18, 80, n), RNG.choice(["Ulm", "Bonn"], n)
    age[3] = np.nan
    table = Table((
        Column("age", "numeric", age), Column.from_values("city", city.tolist()), Column("noise", "numeric", RNG.normal(size=n)),
        Column("member", "text", np.where((age > 45) ^ (city == "Ulm"), "yes", "no").astype(object)),
    ))  # fmt: skip
    return train(Dataset("people", table), target="member", recipe=Recipe(hidden=(16,), epochs=30), show_progress=False)


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text)]


def fits(figure: Figure) -> None:
    """Nothing is cut: every text that is shown lies within the figure; and labels of ticks do not run into each other."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    unseen: set[Text] = set()
    for ax in figure.axes:
        for axis, k in ((ax.xaxis, 0), (ax.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            for label in axis.get_ticklabels(which="both"):
                if not (ax.get_visible() and ax.axison and low <= label.get_position()[k] <= high):
                    unseen.add(label)
        shown = [
            t
            for t in ax.get_xticklabels()
            if t not in unseen and t.get_visible() and t.get_text() and not t.get_rotation()
        ]
        boxes = [t.get_window_extent() for t in shown]
        for a, b, t in zip(boxes, boxes[1:], shown, strict=False):
            assert a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1, f"{ax.get_title()}: {t.get_text()} runs into the next"
    for text in figure.findobj(Text):
        if (
            text in unseen
            or not text.get_visible()
            or not text.get_text().strip()
            or (text.axes and not text.axes.get_visible())
        ):
            continue
        if (
            text.axes is not None
            and not text.axes.axison
            and text in text.axes.findobj(Text)
            and text not in text.axes.texts
        ):
            continue  # titles of axes that are switched off
        box = text.get_window_extent()
        assert box.x0 > -2 and box.y0 > -2 and box.x1 < width + 2 and box.y1 < height + 2, f"{text.get_text()} is cut"


# ---------------------------------------------------------------- curves


def test_curves_of_a_history_a_trainer_and_a_file_are_the_same(moons: Any, tmp_path: Path) -> None:
    trainer = moons[0]
    lines = ["epoch," + ",".join(trainer.history)]
    lines += [
        ",".join([str(n), *map(repr, trainer.history.at(n).values())]) for n in range(1, trainer.history.epochs + 1)
    ]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "summary.json").write_text(f'{{"best_epoch": {trainer.history.best_epoch}}}')
    assert history(tmp_path) == history(trainer) == dict(trainer.history)
    figure = viz.curves(trainer, tmp_path, names=["one", "two"])
    assert [ax.get_title() for ax in figure.axes if ax.get_visible()] == ["loss", "accuracy"]
    drawn = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) > 1]
    assert (
        len(drawn) == 4 and list(drawn[0]) == trainer.history["loss"] and list(drawn[1]) == trainer.history["val_loss"]
    )
    assert {"one", "two", "training", "validation"} <= set(texts(figure))
    fits(figure)


def test_curves_of_scikit_learns_net(moons: Any) -> None:
    sklearn = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    other = sklearn.MLPClassifier((8,), max_iter=5, early_stopping=True, random_state=0)
    with pytest.warns(Warning, match="Maximum iterations"):
        other.fit(moons[1], moons[2])
    assert list(history(other)) == ["loss", "val_score"]


BROKEN = [
    ("", "line 1"), ("a,b\n1,2\n", 'line 1: "epoch,loss'), ("epoch,loss\n1\n", "line 2: 1 fields, expected 2"),
    ("epoch,loss,loss\n1,2,3\n", "line 1: a name is given twice"), ("epoch,loss\n1,x\n", '"x" under "loss"'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_a_broken_metrics_file_is_named_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(FormatError, match=said):
        viz.curves(tmp_path)


@given(
    st.one_of(
        st.binary(max_size=80), st.text('epoch,los12.-e\n"\r x', max_size=60).map(lambda t: f"epoch,loss\n{t}".encode())
    )
)
def test_whatever_metrics_csv_holds_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "metrics.csv"
    file.write_bytes(content)
    try:
        found = history(file)
    except FormatError as error:
        assert "metrics.csv" in str(error)
    else:
        assert len({len(values) for values in found.values()}) <= 1


def test_what_curves_cannot_draw() -> None:
    with pytest.raises(ConfigError, match=r'no metric "los".*Did you mean "loss"'):
        viz.curves({"loss": [1.0]}, metrics=["los"])
    with pytest.raises(ConfigError, match="no finished epoch"):
        viz.curves({})
    with pytest.raises(ConfigError, match="a int has no history"):
        viz.curves(3)
    fits(viz.curves({"loss": [1.0]}))  # one epoch: a point


# ---------------------------------------------------------------- boundary and warped space


def test_the_boundary_is_where_the_model_changes_its_mind(moons: Any) -> None:
    trainer, x, y = moons
    figure = viz.boundary(trainer, x, y, names=["left", "right"])
    ax = figure.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("left", "right")
    mesh = next(c for c in ax.collections if hasattr(c, "get_coordinates"))
    codes, at = mesh.get_array(), mesh.get_coordinates()
    centres = (at[:-1, :-1] + at[1:, 1:]) / 2
    some = RNG.integers(0, codes.shape[0], (50, 2))
    found = subject(trainer).predict(np.array([centres[i, j] for i, j in some], np.float32))
    assert [int(codes[i, j]) for i, j in some] == found.tolist()
    fits(figure)


def test_a_text_column_is_kept_at_its_usual_value_and_said(people: Any) -> None:
    x, y = people.data.test
    figure = viz.boundary(people.model, x, y, columns=["age", "noise"])
    assert "the other 1 columns keep" in " ".join(texts(figure)) and figure.axes[0].get_xlabel() == "age"
    fits(figure)
    figure = viz.boundary(people.model, x, y)
    assert "text columns keep their most frequent value: city" in " ".join(texts(figure))
    with pytest.raises(DataError, match=r'column "city" holds text.*Numeric are: age, noise'):
        viz.boundary(people.model, x, y, columns=["age", "city"])
    with pytest.raises(ConfigError, match=r'no column "agee"'):
        viz.boundary(people.model, x, y, columns=["agee", "noise"])


def test_a_hundred_thousand_rows_are_thinned_and_said(moons: Any) -> None:
    x = np.tile(moons[1], (500, 1))
    figure = viz.boundary(moons[0], x, np.tile(moons[2], 500))
    assert "2,000 of 100,000 rows are drawn" in texts(figure)
    assert sum(len(c.get_offsets()) for c in figure.axes[0].collections if c.get_label() in ("0", "1")) == 2000
    fits(figure)


def test_a_model_with_one_input_is_a_line() -> None:
    x = np.linspace(-2, 2, 100, dtype=np.float32)[:, None]
    values = fitted(nn.MLP(1, 8, 1, activation="tanh"), x, np.sin(x), loss=losses.mse)
    figure = viz.boundary(values, x, np.sin(x)[:, 0])
    assert figure.axes[0].get_xlabel() == "column 0" and figure.axes[0].get_ylabel() == "prediction"
    classes = fitted(nn.MLP(1, 8, 2), x, (x[:, 0] > 0).astype(int))
    assert viz.boundary(classes, x, (x[:, 0] > 0).astype(int)).axes[0].get_ylabel() == "probability"
    assert viz.warped(values, x, np.sin(x)[:, 0]).axes[0].get_xlabel().startswith("principal component 1")


def test_boundaries_of_other_libraries_models(moons: Any) -> None:
    tree = pytest.importorskip("sklearn.tree", reason="scikit-learn is not installed")
    model = tree.DecisionTreeClassifier(max_depth=3, random_state=0).fit(moons[1], np.where(moons[2] == 0, "a", "b"))
    figure = viz.boundary(model, moons[1], np.where(moons[2] == 0, "a", "b"))
    assert {"a", "b"} <= set(texts(figure))
    values = tree.DecisionTreeRegressor(max_depth=3).fit(moons[1], moons[1][:, 0])
    assert "prediction" in texts(viz.boundary(values, moons[1], moons[1][:, 0]))


def test_a_saved_model_of_pixels(tmp_path: Path) -> None:
    data = digits()
    named = Dataset("d", data.x[:300], data.y[:300], classes=list("abcdefghij"), image_shape=(8, 8))  # type: ignore[index]
    one = train(named, recipe=Recipe(hidden=(8,), epochs=2), show_progress=False)
    path, y = one.model.save(tmp_path / "best.gpunet"), np.array(list("abcdefghij"), object)[data.y[:300]]
    for figure in (
        viz.boundary(path, data.x[:300], y),
        viz.warped(path, data.x[:300], y),
        viz.boundary(path, data.x[:300], columns=[20, 28]),
    ):
        fits(figure)
    assert {"a", "j"} <= set(texts(viz.boundary(path, data.x[:300], y)))
    fits(viz.confusion(path, data.x[:300], y))


def test_the_warped_space_is_what_the_layer_gives(moons: Any) -> None:
    trainer, x, y = moons
    figure = viz.warped(trainer, x, y, layer="0", units=(2, 5))
    drawn = np.concatenate([c.get_offsets() for c in figure.axes[0].collections if len(c.get_offsets())])
    wanted = activations(trainer.model, x)["0"].numpy()[:, [2, 5]]
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(wanted, axis=0), rtol=1e-6)
    with pytest.raises(ConfigError, match=r'no layer "7"'):
        viz.warped(trainer, x, layer="7")
    with pytest.raises(ConfigError, match=r"units 0 to 15, got 16"):
        viz.warped(trainer, x, layer="0", units=(0, 16))


# ---------------------------------------------------------------- scores


def test_the_confusion_matrix_counts(people: Any) -> None:
    x, y = people.data.test
    figure = viz.confusion(people.model, x, y)
    predicted = people.model.predict(x)
    counts = {f"{int(((y == a) & (predicted == b)).sum()):,}" for a in ("no", "yes") for b in ("no", "yes")} - {"0"}
    assert counts <= set(texts(figure)) and f"{(predicted == y).mean():.1%} of {len(y)} rows are right" in texts(figure)
    fits(figure)
    with pytest.raises(DataError, match="no class 'maybe'"):
        viz.confusion(people.model, x, ["maybe"] * len(y))
    with pytest.raises(ShapeError, match="do not belong together"):
        viz.confusion(people.model, x, y[:-1])


def test_calibration_of_a_model_that_says_the_truth_and_of_one_that_boasts() -> None:
    class Says:
        classes_ = (0, 1)

        def __init__(self, p: float) -> None:
            self.p = p

        def predict(self, x: Any) -> Any:
            return np.ones(len(x), int)

        def predict_proba(self, x: Any) -> Any:
            return np.tile([1 - self.p, self.p], (len(x), 1))

    y = (np.arange(1000) % 10 < 7).astype(int)  # 70% are of class 1
    x = np.zeros((1000, 1))
    assert viz.calibration(Says(0.7), x, y).axes[0].get_title().startswith("ECE 0.000")
    assert viz.calibration(Says(0.95), x, y).axes[0].get_title().startswith("ECE 0.250")
    fits(viz.calibration(Says(0.95), x, y))


def test_residuals_of_known_errors() -> None:
    class Off:
        def predict(self, x: Any) -> Any:
            return x[:, 0] + 2.0

    x = np.arange(50_000.0)[:, None]
    figure = viz.residuals(Off(), x, x[:, 0])
    assert "RMSE 2, mean error -2" in texts(figure) and "5,000 of 50,000 rows drawn" in " ".join(texts(figure))
    fits(figure)


def test_importance_finds_what_is_used(people: Any) -> None:
    x, y = people.data.test
    names, lost, score = importance_of(people.model, x, y, repeats=4)
    assert names == ["age", "city", "noise"] and score == "accuracy"
    mean = dict(zip(names, lost.mean(axis=1), strict=True))
    assert min(mean["age"], mean["city"]) > 0.2 > 0.1 > abs(mean["noise"])
    fits(viz.importance(people.model, x, y))


def test_names_with_dollars_are_no_formulas_and_many_rows_are_said() -> None:
    class Sign:
        classes_ = ("a$x_$", "$\\frac{")

        def predict(self, x: Any) -> Any:
            return np.where(np.asarray(x)[:, 0] > 0, *self.classes_)

    x = RNG.normal(size=(12_000, 2))
    y = Sign().predict(x)
    figure = viz.confusion(Sign(), x, y)
    assert set(Sign.classes_) <= set(texts(figure))
    fits(figure)
    assert viz.svg_of(viz.boundary(Sign(), x, y, names=["$1", "$2"])).startswith("<svg")
    assert "on 10,000 of 12,000 rows" in " ".join(texts(viz.importance(Sign(), x, y, repeats=1)))


def test_pictures_of_classes_and_of_values_are_not_mixed_up(people: Any) -> None:
    x, y = people.data.test
    with pytest.raises(ConfigError, match=r"viz\.confusion"):
        viz.residuals(people.model, x, y)
    net = nn.MLP(2, 1)
    for picture in (viz.confusion, viz.calibration):
        with pytest.raises(ConfigError, match=r"viz\.residuals"):
            picture(net, np.zeros((3, 2)), np.zeros(3))


# ---------------------------------------------------------------- inside the net


def test_templates_are_the_weights_ranked_by_what_they_add() -> None:
    net = nn.MLP(9, 3, 2, activation="relu")
    w0, w1 = np.zeros((9, 3), np.float32), np.array([[1, 0], [5, 0], [0, 2]], np.float32)
    w0[0, 0] = w0[4, 1] = w0[8, 2] = 1
    net.load_state_dict({"0.weight": w0, "0.bias": np.zeros(3), "1.weight": w1, "1.bias": np.zeros(2)})
    x = np.ones((4, 9), np.float32)
    figure = viz.templates(net, x, of_class=0)
    assert [t for t in texts(figure) if t.startswith("unit")] == ["unit 1: +5.00", "unit 0: +1.00", "unit 2: +0.00"]
    fits(figure)
    image = figure.axes[0].images[0].get_array()
    assert image.max() == 1.0 and np.nanmin(image.filled(np.nan)) == 0.5  # 0 is grey, the largest weight white
    assert "class 1" in texts(viz.templates(net, most=2))
    with pytest.raises(ShapeError, match="10 inputs are no image"):
        viz.templates(nn.MLP(10, 2))


def test_templates_of_a_deep_net_need_rows_and_of_colours_three_channels() -> None:
    deep = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 5, activation="tanh"), nn.Linear(5, 2))
    with pytest.raises(ConfigError, match="give rows x"):
        viz.templates(deep)
    x = RNG.normal(size=(20, 12)).astype(np.float32)
    fits(viz.templates(deep, x, most=3))
    hidden = activations(deep, x)["1"].numpy()
    assert hidden.min() == 0  # ranked by what comes out of the ReLU
    assert viz.templates(nn.MLP(12, 4), shape=(2, 2, 3)).axes[0].images[0].get_array().shape[-1] == 3


def test_every_activation_is_drawn_with_its_derivative() -> None:
    figure = viz.activation_functions()
    shown = {ax.get_title(): ax for ax in figure.axes if ax.get_visible()}
    assert {
        "relu",
        "leaky relu",
        "elu",
        "selu",
        "sigmoid",
        "tanh",
        "softplus",
        "gelu",
        "silu",
        "mish",
        "maxout",
    } == set(shown)
    for ax in shown.values():
        value, slope = (line.get_ydata() for line in ax.lines if len(line.get_xdata()) > 2)
        x = ax.lines[2].get_xdata()
        quotient, away = np.gradient(value, x)[1:-1], np.abs(x[1:-1] - 0.0) > 0.05
        away &= np.abs(x[1:-1] - 0.3 / 1.3) > 0.05  # the corner of the Maxout
        np.testing.assert_allclose(slope[1:-1][away], quotient[away], atol=2e-3)
    fits(figure)


def test_parameters_by_layer() -> None:
    figure = viz.parameters(nn.MLP(3072, 100, 10))
    assert {"308,310 parameters", " 307,300", " 1,010"} <= set(texts(figure))
    fits(figure)


def test_a_recorder_keeps_what_training_did(moons: Any) -> None:
    _, x, y = moons
    recorder = viz.Recorder(x, y)
    net = nn.MLP(2, 8, 2)
    fitted(net, x, y, epochs=3, callbacks=[recorder])
    assert {k: {layer: len(v) for layer, v in of.items()} for k, of in recorder.values.items()} == {
        "activations": {"0": 3, "1": 3}, "gradients": {"0": 3, "1": 3}, "updates": {"0": 3, "1": 3},
    }  # fmt: skip
    a = activations(net, x)["0"].numpy()
    last = recorder.values["activations"]["0"][
        -1
    ]  # quantiles of the last epoch, which may not be the one that was kept
    assert last[0] >= 0 and last.shape == (1001,) and a.shape == (200, 8)
    fits(viz.histograms(recorder))
    with pytest.raises(ConfigError, match="has seen no epoch"):
        viz.histograms(viz.Recorder(x, y))


# ---------------------------------------------------------------- sweeps


def test_a_sweep_draws_a_panel_for_each_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it finds is tested with the lecture's rows 15 and 16."""
    monkeypatch.setattr("gpunet.viz.sweeps.EPOCHS", 2)
    x, y = toys.moons(100, noise=0.3)
    found = viz.sweep(x, y, hidden=(3, 20))
    titles = [ax.get_title() for ax in found.figure.axes]
    assert titles == [f"{n} hidden neurons: {one.right:.1%} right" for n, one in zip((3, 20), found.nets, strict=True)]
    assert [one.net.widths for one in found.nets] == [(2, 3, 2), (2, 20, 2)]
    fits(found.figure)
    with pytest.raises(ConfigError, match="not both at once"):
        viz.sweep(x, y, hidden=(3, 6), l2=(0.1, 0.2))
    with pytest.raises(ConfigError, match=r"points \[n, 2\]"):
        viz.sweep(x[:, :1], y)


def test_the_text_of_a_sweep_says_so_when_it_is_not_so() -> None:
    from gpunet.viz.sweeps import Trained, _in_words

    def nets(*rights: float) -> list[Trained]:
        return [Trained(3, 0.1 * (i + 1), nn.MLP(2, 2), r, 100 * r, r) for i, r in enumerate(rights)]

    assert "did not always separate more" in _in_words(nets(0.9, 0.8), by_width=True)
    assert "did not always give a smoother boundary" in _in_words(nets(0.8, 0.9), by_width=False)


def test_how_much_a_circle_turns() -> None:
    """A closed boundary turns by at least 360 degrees; a straight one not at all."""
    from gpunet.viz.sweeps import turning

    class Circle(nn.Module):
        def forward(self, x: Any) -> Any:
            r = (x * x).sum(axis=1, keepdims=True)
            return r * tensor(np.array([[1.0, 0.0]], np.float32)) + tensor(np.array([[0.0, 0.5]], np.float32))

    square = np.array([[-1, -1], [1, 1]], np.float32)
    assert 340 < turning(Circle(), square) < 460
    line = nn.Linear(2, 2)
    line.load_state_dict({"weight": np.array([[1, 0], [0.3, 0]]), "bias": np.zeros(2)})
    assert turning(line, square) < 5


# ---------------------------------------------------------------- the rest


def test_notebooks_show_a_summary_and_a_history(moons: Any) -> None:
    shown = nn.summary(nn.MLP(4, 3, 2), (1, 4))._repr_html_()
    assert shown.count("<tr>") == 3 and "2-layer net" in shown
    shown = moons[0].history._repr_html_()
    assert shown.startswith("<svg") and "★" in shown and shown.count("<tr>") == 11


def test_pictures_leave_the_users_settings_alone(moons: Any) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    viz.boundary(*moons)
    assert dict(matplotlib.rcParams) == before


def test_gpunet_loads_nothing_of_this() -> None:
    code = (
        "import sys, gpunet; from gpunet import nn, losses, Trainer; import gpunet.cli.main\n"
        "loaded = [m for m in sys.modules if m.startswith('gpunet.viz') or m.partition('.')[0] in ('matplotlib', 'jinja2', 'dukpy')]\n"
        "print(loaded); import gpunet.viz\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('matplotlib', 'jinja2', 'dukpy')])\n"
        "gpunet.viz.curves({'loss': [1.0, 0.5]}); print('matplotlib.pyplot' in sys.modules)"  # it would want a screen
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]", "False"]


def test_what_is_not_installed_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r'pip install "gpunet\[plot\]"'):
        viz.curves({"loss": [1.0, 0.5]})


def test_digits_have_ten_classes_that_can_be_told_apart() -> None:
    from gpunet.viz.style import look_of

    looks = [tuple(look_of(k).values()) for k in range(64)]
    assert len(set(looks)) == 64
    data = digits()
    net = nn.MLP(64, 10)
    figure = viz.boundary(net, (data.x[:300] / 16).astype(np.float32), data.y[:300])
    assert [t for t in texts(figure) if t.isdigit() and len(t) == 1][-10:] == list("0123456789")
