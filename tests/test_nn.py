"""Layers against NumPy and against finite differences; names, weights by seed and path, and what errors say."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpunet import check_grads, nn, ops, tensor
from gpunet.devices.cpu import CPU
from gpunet.engine import Tensor, no_grad
from gpunet.errors import ConfigError, DTypeError, GraphError, RangeError, ShapeError
from gpunet.nn import init

RNG = np.random.default_rng(3)
erf = np.vectorize(math.erf)
X = RNG.normal(size=(6, 4))


def double(module: nn.Module, seed: int = 1) -> nn.Module:
    return module.initialize(seed).to("float64")


def value(module: nn.Module, name: str) -> np.ndarray:
    return module.state_dict()[name]


def normalised(x: np.ndarray, axis: int, eps: float = 1e-5) -> np.ndarray:
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)


# ---------------------------------------------------------------- forward

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772
# fmt: off
ACTIVATIONS: dict[str, tuple[nn.Module, Callable[[np.ndarray], np.ndarray]]] = {
    "identity":   (nn.Identity(),       lambda x: x),
    "relu":       (nn.ReLU(),           lambda x: np.maximum(x, 0)),
    "leaky_relu": (nn.LeakyReLU(0.2),   lambda x: np.where(x > 0, x, 0.2 * x)),
    "elu":        (nn.ELU(1.5),         lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
    "selu":       (nn.SELU(),           lambda x: SCALE * np.where(x > 0, x, ALPHA * np.expm1(x))),
    "sigmoid":    (nn.Sigmoid(),        lambda x: 1 / (1 + np.exp(-x))),
    "tanh":       (nn.Tanh(),           np.tanh),
    "softplus":   (nn.Softplus(),       lambda x: np.log1p(np.exp(x))),
    "gelu":       (nn.GELU(),           lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2)))),
    "silu":       (nn.SiLU(),           lambda x: x / (1 + np.exp(-x))),
    "mish":       (nn.Mish(),           lambda x: x * np.tanh(np.log1p(np.exp(x)))),
}
# fmt: on


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    module, formula = ACTIVATIONS[name]
    np.testing.assert_allclose(module.to("float64")(X).numpy(), formula(X), rtol=1e-12, atol=1e-15)


def test_every_activation_there_is_has_a_module_and_a_row_above() -> None:
    assert set(ops.activations.ACTIVATIONS) == set(nn.layers.BY_NAME) == set(ACTIVATIONS)


@pytest.mark.parametrize("act", ["identity", "tanh", "gelu"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(act: str, bias: bool) -> None:
    layer = double(nn.Linear(4, 3, bias=bias, activation=act))
    if bias:
        layer.load_state_dict({**layer.state_dict(), "bias": RNG.normal(size=3)})
    z = X @ value(layer, "weight") + (value(layer, "bias") if bias else 0)
    np.testing.assert_allclose(layer(X).numpy(), ACTIVATIONS[act][1](z), rtol=1e-12, atol=1e-14)
    assert list(layer.state_dict()) == ["weight", "bias"][: 1 + bias]


def test_linear_takes_a_stack_of_rows_and_fc_is_its_other_name() -> None:
    x = RNG.normal(size=(2, 5, 4))
    layer = double(nn.FC(4, 3))
    np.testing.assert_allclose(layer(x).numpy(), x @ value(layer, "weight"), rtol=1e-12)
    assert nn.FC is nn.Linear


def test_maxout_is_the_largest_of_its_pieces() -> None:
    layer = double(nn.Maxout(4, 3, pieces=5))
    z = X @ value(layer, "linear.weight") + value(layer, "linear.bias")
    np.testing.assert_allclose(layer(X).numpy(), z.reshape(6, 3, 5).max(-1), rtol=1e-12)


def test_layer_norm() -> None:
    layer = double(nn.LayerNorm(4))
    layer.load_state_dict({"gamma": [1.0, 2, 3, 4], "beta": [0.0, 1, 0, 1]})
    np.testing.assert_allclose(layer(X).numpy(), normalised(X, 1) * [1, 2, 3, 4] + [0, 1, 0, 1], rtol=1e-9)


def test_embedding_is_a_look_up() -> None:
    layer = nn.Embedding(7, 3).initialize(2)
    codes = RNG.integers(0, 7, (2, 5))
    assert np.array_equal(layer(codes).numpy(), value(layer, "weight")[codes])
    with pytest.raises(RangeError, match="7"):
        layer(np.array([7]))


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 8, 8), (3, 2), (1, 1)])
def test_flatten(shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert np.array_equal(nn.Flatten()(x).numpy(), x.reshape(shape[0], int(np.prod(shape[1:]))))


def test_residual_and_sequential() -> None:
    net = double(nn.Sequential(nn.Linear(4, 4), nn.Residual(nn.Sequential(nn.Tanh(), nn.Linear(4, 4)))))
    z = X @ value(net, "0.weight")
    np.testing.assert_allclose(net(X).numpy(), z + np.tanh(z) @ value(net, "1.inner.1.weight"), rtol=1e-12)
    assert len(net) == 2 and net[0] is next(iter(net)) and isinstance(net[-1], nn.Residual)
    assert np.array_equal(nn.Sequential()(X.astype(np.float32)).numpy(), X.astype(np.float32)), "no layer passes x on"


def test_mlp_is_what_it_says() -> None:
    net = double(nn.MLP(4, 8, 8, 3, activation="tanh", norm="layer", residual=True))
    a = np.tanh(normalised(X @ value(net, "0.weight"), 1))
    assert isinstance(net[3], nn.Residual)
    b = a + np.tanh(normalised(a @ value(net, "3.inner.0.weight"), 1))
    np.testing.assert_allclose(net(X).numpy(), b @ value(net, "4.weight"), rtol=1e-9)


# ---------------------------------------------------------------- gradients

# fmt: off
CHECKED: dict[str, Callable[[], nn.Module]] = {
    "linear":     lambda: nn.Linear(4, 3, activation="tanh"),
    "maxout":     lambda: nn.Maxout(4, 3, pieces=3),
    "batch norm": lambda: nn.BatchNorm1d(4),
    "layer norm": lambda: nn.LayerNorm(4),
    "residual":   lambda: nn.Residual(nn.Linear(4, 4, activation="silu")),
    "dropout":    lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.4)),
    "mlp":        lambda: nn.MLP(4, 5, 5, 2, activation="gelu", norm="batch", residual=True),
    "scaled":     lambda: nn.Sequential(nn.Linear(4, 5), nn.ELU(0.7), nn.Linear(5, 2), nn.LeakyReLU(0.3)),
    "scale":      lambda: nn.Scale(4),
    "ntk":        lambda: nn.NTKLinear(4, 3),
    "parametric": lambda: nn.ParametricActivation(4, "mish"),
    "periodic":   lambda: nn.PeriodicEmbedding(4, frequencies=5, width=3),
    "piecewise":  lambda: nn.PiecewiseEmbedding(4, bins=3, width=2),
    "columns":    lambda: nn.Columns(2, 2, embedding={"frequencies": 3}, piecewise={"bins": 3}),
}
# fmt: on


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CHECKED)
def test_gradients_first_and_second_order(name: str, training: bool) -> None:
    net = double(CHECKED[name]()).train(training)
    states = {n: np.array(t.numpy()) for n, t in net.named_tensors() if not t.requires_grad}
    owners = [(module, key) for _, module in net.modules() for key, t in vars(module).items() if isinstance(t, Tensor)]
    trained = [(m, key) for m, key in owners if vars(m)[key].requires_grad]

    def f(x: Tensor, *weights: Tensor) -> Tensor:
        for (module, key), w in zip(trained, weights, strict=True):
            object.__setattr__(module, key, w)
        for n, t in net.named_tensors():  # the same dropout mask at every evaluation
            if n in states:
                t.assign(tensor(states[n]))
        return net(x)

    check_grads(f, [X, *[np.array(vars(m)[key].numpy()) for m, key in trained]])


def test_gradient_of_an_embedding_adds_up_where_codes_repeat() -> None:
    layer = double(nn.Embedding(5, 2))
    codes = np.array([[1, 3], [1, 1]])

    def f(weight: Tensor) -> Tensor:
        object.__setattr__(layer, "weight", weight)
        return layer(codes) * layer(codes)

    check_grads(f, [RNG.normal(size=(5, 2))])


# ---------------------------------------------------------------- train and eval


def test_dropout_masks_depend_on_seed_path_and_draw_only() -> None:
    x = np.ones((50, 20), np.float32)

    def drawn(net: nn.Module, times: int = 2) -> list[np.ndarray]:
        return [net(x).numpy() for _ in range(times)]

    one = nn.Sequential(nn.Identity(), nn.Dropout(0.3)).initialize(5)
    first, second = drawn(one)
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.7)} and not np.array_equal(first, second)
    assert abs((first == 0).mean() - 0.3) < 0.05
    again = nn.Sequential(nn.Identity(), nn.Dropout(0.3)).initialize(5)
    assert np.array_equal(drawn(again), [first, second])
    assert not np.array_equal(drawn(nn.Sequential(nn.Identity(), nn.Dropout(0.3)).initialize(6))[0], first)
    assert not np.array_equal(drawn(nn.Sequential(nn.Dropout(0.3)).initialize(5))[0], first), "another path"
    bare = again.to(CPU(native=False))
    native = one.to(CPU())
    assert np.array_equal(drawn(bare), drawn(native)), "NumPy and C++ draw the same masks"
    assert np.array_equal(one.eval()(x).numpy(), x)


def test_batch_norm_in_training_and_its_running_statistics() -> None:
    layer = double(nn.BatchNorm1d(4, momentum=0.25))
    layer.load_state_dict({**layer.state_dict(), "gamma": np.full(4, 2.0), "beta": np.full(4, -1.0)})
    np.testing.assert_allclose(layer(X).numpy(), 2 * normalised(X, 0) - 1, rtol=1e-9)
    mean, var = 0.25 * X.mean(0), 0.75 + 0.25 * X.var(0, ddof=1)
    np.testing.assert_allclose(value(layer, "mean"), mean, rtol=1e-12)
    np.testing.assert_allclose(value(layer, "var"), var, rtol=1e-12)
    np.testing.assert_allclose(layer.eval()(X).numpy(), 2 * (X - mean) / np.sqrt(var + 1e-5) - 1, rtol=1e-9)
    assert np.array_equal(value(layer, "mean"), value(layer, "mean")) and layer(X[:1]).shape == (1, 4)
    assert [name for name, _ in layer.named_parameters()] == ["gamma", "beta"], "statistics are not trained"


def test_train_and_eval_reach_everything_below() -> None:
    net = nn.MLP(4, 8, 8, 2, norm="batch", dropout=0.1, residual=True)
    assert net.eval() is net and not any(module.training for _, module in net.modules())
    assert all(module.training for _, module in net.train().modules())


# ---------------------------------------------------------------- names and weights


def test_names_are_dotted_paths() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Residual(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3, bias=False))))
    names = ["0.weight", "0.bias", "1.inner.0.mean", "1.inner.0.var", "1.inner.0.gamma", "1.inner.0.beta"]
    assert sorted(n for n, _ in net.named_tensors()) == sorted([*names, "1.inner.1.weight"])
    assert net[1].inner[1].path == "1.inner.1" and net[1].inner[1].root is net and net.path == ""
    assert [path for path, _ in net.modules()] == ["", "0", "1", "1.inner", "1.inner.0", "1.inner.1"]


def test_weights_depend_on_seed_and_path_alone() -> None:
    def weights(net: nn.Module, seed: int) -> dict[str, np.ndarray]:
        return net.initialize(seed).state_dict()

    one = weights(nn.MLP(4, 8, 3), 7)
    for other in (
        weights(nn.MLP(4, 8, 3), 7),
        weights(nn.Sequential(nn.Linear(4, 8, activation="relu"), nn.Linear(8, 3)), 7),
        weights(nn.Sequential(*reversed([nn.Linear(8, 3), nn.Linear(4, 8, activation="relu")])), 7),
    ):
        assert all(np.array_equal(one[name], other[name]) for name in one) and list(one) == list(other)
    assert not np.array_equal(one["0.weight"], weights(nn.MLP(4, 8, 3), 8)["0.weight"])
    square = weights(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), 7)
    assert not np.array_equal(square["0.weight"], square["1.weight"])
    late = nn.MLP(4, 8, 3)
    late[1].weight  # drawn at first use, of the whole net and with seed 0
    assert all(np.array_equal(a, b) for a, b in zip(late.state_dict().values(), weights(nn.MLP(4, 8, 3), 0).values()))
    before = late.state_dict()
    assert all(np.array_equal(before[n], a) for n, a in weights(late, 9).items()), "drawn weights stay"


def test_golden_weights_never_change() -> None:
    """If this fails, every published seed gives another net."""
    net = nn.Sequential(nn.Linear(3, 2, init="he"), nn.Embedding(2, 2), nn.Linear(2, 2, init="glorot_uniform"))
    found = net.initialize(42).state_dict()
    for name, wanted in GOLDEN.items():
        np.testing.assert_allclose(found[name].ravel(), np.float32(wanted), rtol=1e-6)


GOLDEN: dict[str, list[float]] = {
    "0.weight": [0.44594556, 0.84845573, -0.38249266, -1.1456567, -1.0884062, 0.019510906],
    "1.weight": [0.31611797, 0.097949944, 0.40141967, 0.7497148],
    "2.weight": [0.9208522, 0.81635493, 0.034596682, -0.58347666],
}


# fmt: off
VARIANCES = {  # of a weight [200, 300]
    "he": 2 / 200, "he_uniform": 2 / 200, "glorot": 2 / 500, "glorot_uniform": 2 / 500, "lecun": 1 / 200,
    "lecun_uniform": 1 / 200, "normal": 1.0, "symmetric": 1 / 3, "zeros": 0.0, "ones": 0.0, "normal:0.5": 0.25,
    "symmetric:3": 3.0,
}
# fmt: on


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_of_an_initialiser(name: str) -> None:
    w = init.get(name)((200, 300), seed=1, stream=2)
    assert w.dtype == np.float64 and abs(w.mean() - (name == "ones")) <= 5 * np.sqrt(VARIANCES[name] / w.size)
    assert abs(w.var() - VARIANCES[name]) <= 0.03 * VARIANCES[name]
    if name.endswith("uniform"):
        assert 0.99 < np.abs(w).max() / np.sqrt(3 * VARIANCES[name]) <= 1


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (2, 5, 3), (1, 1)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = init.orthogonal(shape, seed=1, stream=2)
    small = min(shape[-2:])
    gram = np.swapaxes(w, -1, -2) @ w if shape[-2] >= shape[-1] else w @ np.swapaxes(w, -1, -2)
    assert w.shape == shape
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(small), gram.shape), atol=1e-12)


def test_every_initialiser_is_tested_and_auto_suits_the_activation() -> None:
    assert {*(name.partition(":")[0] for name in VARIANCES), "orthogonal"} == set(init.INITIALIZERS)
    for activation, wanted in {"relu": "he", "selu": "lecun", "tanh": "glorot", "identity": "glorot"}.items():
        drawn = nn.Linear(30, 20, activation=activation).initialize(1).state_dict()["weight"]
        named = nn.Linear(30, 20, activation=activation, init=wanted).initialize(1).state_dict()["weight"]
        assert np.array_equal(drawn, named)
    assert not np.any(nn.Linear(3, 2).initialize(1).state_dict()["bias"])


def test_a_module_that_is_used_twice_has_one_set_of_weights() -> None:
    shared = nn.Linear(4, 4)
    net = double(nn.Sequential(shared, nn.Tanh(), shared))
    w = value(net, "0.weight")
    np.testing.assert_allclose(net(X).numpy(), np.tanh(X @ w) @ w, rtol=1e-12)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]


# ---------------------------------------------------------------- config, copies, state


# fmt: off
BUILT: list[nn.Module] = [
    nn.Linear(3, 2, bias=False, activation="gelu", init="orthogonal"), nn.Maxout(3, 2, pieces=4, init="lecun"),
    nn.ReLU(), nn.SELU(), nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.GELU(), nn.SiLU(), nn.Mish(), nn.Identity(),
    nn.LeakyReLU(0.3), nn.ELU(0.5), nn.Dropout(0.25), nn.BatchNorm1d(3, momentum=0.2, eps=1e-3),
    nn.LayerNorm(3, eps=1e-3), nn.Embedding(4, 3), nn.Flatten(), nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Sequential(),
    nn.Residual(nn.Sequential(nn.Linear(3, 3))),
    nn.MLP(3, 4, 4, 2, activation="selu", dropout=0.1, norm="batch", residual=True, init="he"), nn.MLP(3, 2),
    nn.Scale(3), nn.NTKLinear(3, 2, init="data"), nn.ParametricActivation(3, "mish"), nn.Clamp([0, 1.5], [1, 2]),
    nn.PeriodicEmbedding(3, frequencies=5, width=3, sigma=0.2), nn.PiecewiseEmbedding(3, bins=5, width=2),
    nn.Temperature(1.5), nn.Unsmooth(0.2, floor=0.01),
    nn.Ensemble(nn.Linear(3, 2), nn.Linear(3, 2), average="outputs"), nn.Ensemble(nn.MLP(3, 2)),
    nn.Columns(2, 1, [4, 5], width=3, embedding={"frequencies": 5, "width": 3, "sigma": 0.2}, piecewise={"bins": 3}),
]
# fmt: on


@pytest.mark.parametrize("module", BUILT, ids=lambda m: type(m).__name__)
def test_config_makes_an_equal_module(module: nn.Module) -> None:
    config = json.loads(json.dumps(module.config()))
    made = nn.build(config)
    assert type(made) is type(module) and made.config() == module.config() and repr(made) == repr(module)
    one, other = module.initialize(4).state_dict(), made.initialize(4).state_dict()
    assert list(one) == list(other) and all(np.array_equal(one[n], other[n]) for n in one)


def test_every_layer_has_a_row_above() -> None:
    assert {type(module).__name__ for module in BUILT} == set(nn.module.LAYERS)


def test_build_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ConfigError, match='no layer .Linaer.* Did you mean "Linear"'):
        nn.build({"layer": "Linaer"})

    class Mine(nn.Module):
        pass

    with pytest.raises(ConfigError, match=r"Mine is not one of gpunet's layers.*state_dict"):
        Mine().config()
    with pytest.raises(ConfigError, match="Mine does not define forward"):
        Mine()(X)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_a_copy_has_values_and_a_tree_of_its_own(copied: Callable[[nn.Module], nn.Module]) -> None:
    net = nn.MLP(4, 8, 8, 2, norm="batch", dropout=0.2, residual=True)
    early = copied(net)  # before the weights are drawn
    assert early[-1].root is early and early[-1].path == net[-1].path
    net.initialize(3)
    assert not np.array_equal(value(early, "0.weight"), value(net, "0.weight"))
    late = copied(net)
    x = X.astype(np.float32)
    assert np.array_equal(late(x).numpy(), net(x).numpy()), "the masks too"
    late.load_state_dict({name: np.zeros_like(a) for name, a in late.state_dict().items()})
    assert np.any(value(net, "0.weight")) and [n for n, _ in late.named_parameters()] == [
        n for n, _ in net.named_parameters()
    ]


def test_state_dict_is_a_copy_and_load_is_all_or_nothing() -> None:
    net = nn.MLP(4, 3, 2).initialize(1)
    state = net.state_dict()
    before = {name: a.copy() for name, a in state.items()}
    state["0.weight"][:] = 0
    assert np.array_equal(value(net, "0.weight"), before["0.weight"])
    for wrong, error, says in (
        ({**before, "0.wieght": before["0.weight"]}, ConfigError, 'no parameter .0.wieght.* Did you mean "0.weight"'),
        ({n: a for n, a in before.items() if n != "1.bias"}, ConfigError, "'1.bias' is missing"),
        ({**{n: 0 * a for n, a in before.items()}, "1.bias": np.zeros(3)}, ShapeError, r"1.bias has the shape \(2,\).*\(3,\)"),
        ({}, ConfigError, "missing"),
    ):  # fmt: skip
        with pytest.raises(error, match=says):
            net.load_state_dict(wrong)
        assert all(np.array_equal(a, before[n]) for n, a in net.state_dict().items())
    net.load_state_dict({n: (a + 1).tolist() for n, a in before.items()})
    np.testing.assert_array_equal(value(net, "1.bias"), before["1.bias"] + 1)


def test_to_another_dtype_and_device(standin: Any) -> None:
    net = nn.MLP(4, 8, 3, norm="batch").initialize(2)
    x = X.astype(np.float32)
    with no_grad():
        before = net.eval()(x).numpy()
        assert net.to("float64") is net and net(x).dtype == np.float64
        np.testing.assert_allclose(net(X).numpy(), before, rtol=1e-4, atol=1e-6)
        moved = net.to("float32").to(standin)
        assert {t.device for t in moved.parameters()} == {standin}
        np.testing.assert_allclose(moved(tensor(x, device=standin)).numpy(), before, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(moved.to("cpu")(x).numpy(), before)
    with pytest.raises(ConfigError, match="no device"):
        net.to("gpu")


def test_a_model_that_an_optimizer_holds_is_not_moved(standin: Any) -> None:
    from gpunet import optim

    net = nn.MLP(4, 3).initialize(0)
    optim.SGD(net.parameters(), lr=0.1)
    for target in ("float64", standin):
        with pytest.raises(GraphError, match="optimizer's vector"):
            net.to(target)
    assert net.to("cpu").to("float32")(X).dtype == np.float32


# ---------------------------------------------------------------- errors and summary


def test_errors_name_the_layer() -> None:
    x = np.zeros((2, 784), np.float32)
    for make, given, says in (
        (lambda: nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(10, 10)), x,
         'layer "2" (Linear 10 -> 10) got 100 columns from layer "1" (ReLU); it takes 10'),
        (lambda: nn.Sequential(nn.Linear(10, 5)), x, 'layer "0" (Linear 10 -> 5) got 784 columns; it takes 10'),
        (lambda: nn.Linear(10, 5), x, 'layer "Linear" (Linear 10 -> 5) got 784 columns; it takes 10'),
        (lambda: nn.Linear(10, 5), np.float32(3), 'layer "Linear" (Linear 10 -> 5) got no columns; it takes 10'),
        (lambda: nn.Sequential(nn.BatchNorm1d(784)), x[:1], 'layer "0" (BatchNorm1d) got a batch of 1 row'),
        (lambda: nn.BatchNorm1d(3), x, 'layer "BatchNorm1d" (BatchNorm1d) got the shape (2, 784); it takes [rows, 3]'),
        (lambda: nn.Sequential(nn.LayerNorm(3)), x, 'layer "0" (LayerNorm) got the shape (2, 784); it takes 3 columns'),
        (lambda: nn.Residual(nn.Linear(784, 3)), x, "the inner module turns (2, 784) into (2, 3)"),
        (lambda: nn.Sequential(nn.Sequential(nn.Linear(784, 7), nn.Maxout(8, 2))), x, 'layer "0.1.linear" (Linear 8 -> 4)'),
    ):  # fmt: skip
        with pytest.raises(ShapeError) as caught:
            make()(given)
        assert says in str(caught.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nn.Linear(0, 3), "inputs must be a whole number of at least 1, got 0"),
        (lambda: nn.Linear(3, 2.5), "outputs must be a whole number of at least 1, got 2.5"),
        (lambda: nn.Linear(3, 2, activation="rleu"), 'Did you mean "relu"'),
        (lambda: nn.Linear(3, 2, init="hee"), 'no initialiser "hee"'),
        (lambda: nn.Maxout(3, 2, pieces=0), "pieces must be"),
        (lambda: nn.Dropout(1.0), r"a probability in \[0, 1\), got 1.0"),
        (lambda: nn.Dropout(float("nan")), "a probability"),
        (lambda: nn.ELU(-1), "alpha must not be negative"),
        (lambda: nn.MLP(3), "at least inputs and outputs wanted"),
        (lambda: nn.MLP(3, 4, 2, norm="bach"), 'norm must be "batch", "layer" or None'),
        (lambda: nn.MLP(3, 4, 2, activation="rleu"), 'Did you mean "relu"'),
        (lambda: nn.Sequential(nn.Linear(3, 2), ops.relu), "Sequential: layer 1 is a"),
    ],
)
def test_settings_that_cannot_be(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


def test_an_embedding_takes_codes_only() -> None:
    with pytest.raises(DTypeError, match="integer"):
        nn.Embedding(3, 2)(np.zeros((2, 2), np.float32))


@pytest.mark.parametrize(
    ("net", "shape", "layers", "parameters", "flops"),
    [
        (nn.MLP(3072, 100, 10), (1, 3072), 2, 308_310, 2 * 3072 * 100 + 200 + 2 * 100 * 10 + 10),
        (nn.Sequential(nn.Linear(3072, 100), nn.ReLU(), nn.Linear(100, 10)), (1, 3072), 2, 308_310, 616_610),
        (nn.MLP(784, 10), (7, 784), 1, 7850, 7 * (2 * 784 * 10 + 10)),
        (nn.Linear(3, 4, bias=False), (5, 3), 1, 12, 120),
        (nn.MLP(2, 3, 3, 3, activation="gelu"), (4, 2), 3, 9 + 12 + 12, 4 * (12 + 6 + 18 + 6 + 18 + 3)),
        (nn.Maxout(4, 5), (2, 4), 1, 50, 2 * (2 * 4 * 10 + 10 + 5)),
        (nn.MLP(4, 8, 8, 2, dropout=0.5), (1, 4), 3, 40 + 72 + 18, 64 + 16 + 128 + 16 + 32 + 2),
    ],
)
def test_summary(net: nn.Module, shape: tuple[int, ...], layers: int, parameters: int, flops: int) -> None:
    found = nn.summary(net, shape)
    assert (found.layers, found.parameters, found.flops) == (layers, parameters, flops)
    assert sum(row.flops for row in found.rows) == flops and sum(row.parameters for row in found.rows) == parameters
    assert f"{layers}-layer net ({layers - 1} hidden layer{'s' * (layers != 2)})" in str(found)
    assert net.training and not nn.module._watchers, "nothing is left behind"


def test_summary_of_a_net_that_does_not_fit() -> None:
    net = nn.MLP(3, 4, 2)
    with pytest.raises(ShapeError, match='layer "0"'):
        nn.summary(net, (1, 5))
    assert net.training and not nn.module._watchers
    assert nn.summary(net, (2, 3)).rows[-1].shape == (2, 2)


def test_summary_gives_what_a_container_computes_a_row() -> None:
    net = nn.Sequential(nn.Maxout(4, 5), nn.Residual(nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 5))), nn.Flatten())
    rows = [(row.path, row.kind, row.parameters) for row in nn.summary(net, (2, 4)).rows]
    assert rows == [
        ("0.linear", "Linear(4, 10)", 50), ("0", "Maxout", 0),
        ("1.inner.0", "BatchNorm1d(features=5, momentum=0.1, eps=1e-05)", 10), ("1.inner.1", "Linear(5, 5)", 30),
        ("1", "Residual", 0), ("2", "Flatten()", 0),
    ]  # fmt: skip


def test_a_deep_net() -> None:
    net: nn.Module = nn.Linear(2, 2)
    for _ in range(40):
        net = nn.Sequential(nn.Residual(net))
    assert net(X[:, :2].astype(np.float32)).shape == (6, 2)
    assert len(nn.build(net.config()).state_dict()) == 2


def test_a_module_of_the_users_own() -> None:
    class Scale(nn.Module):
        def __init__(self, n: int) -> None:
            self.declare("factor", (n,), init="ones")
            self.then = nn.Linear(n, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.then(x * self.factor)

    net = double(Scale(4))
    assert {n for n, _ in net.named_parameters()} == {"factor", "then.weight", "then.bias"}
    np.testing.assert_allclose(net(X).numpy(), X @ value(net, "then.weight"), rtol=1e-12)
    with pytest.raises(AttributeError, match="Scale has no attribute 'fcator'"):
        net.fcator
