"""Optimizers: flat vectors, groups, schedules and settings; going on from a saved state is going on, bit by bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunet import losses, ops, optim
from gpunet.devices import Device
from gpunet.devices.cpu import CPU
from gpunet.engine import Recorder, Tensor, grad, set_mode, tensor
from gpunet.errors import ConfigError, DTypeError, GraphError, ShapeError
from gpunet.graph.compile import Compiled
from gpunet.optim import schedules
from gpunet.optim.lbfgs import Probe, wolfe

FIRST_ORDER = [name for name, cls in optim.OPTIMIZERS.items() if not cls.full_batch]
RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(20, 3)), RNG.integers(0, 4, 20)
START = {
    "a.weight": RNG.normal(size=(3, 5)), "a.bias": np.zeros(5),
    "b.weight": RNG.normal(size=(5, 4)), "b.bias": np.zeros(4),
}  # fmt: skip
SCHEDULES = ["constant", "step:3,0.5", "cosine", "one_cycle", "warmup:4,cosine", "plateau:1,0.5", "coslog4", "flat_cos"]


def net(device: Device | str = "cpu", dtype: Any = np.float64) -> dict[str, Tensor]:
    return {name: tensor(a.astype(dtype), device=device, requires_grad=True) for name, a in START.items()}


def loss_of(params: dict[str, Tensor]) -> Tensor:
    p = next(iter(params.values()))
    x, y = tensor(X.astype(p.dtype), device=p.device), tensor(Y, device=p.device)
    hidden = ops.linear(x, params["a.weight"], params["a.bias"], act="tanh")
    return losses.cross_entropy(ops.linear(hidden, params["b.weight"], params["b.bias"]), y)


def train(optimizer: optim.Optimizer, params: dict[str, Tensor], steps: int) -> None:
    for _ in range(steps):
        optimizer.update(grad(loss_of(params), optimizer.parameters))
        optimizer.epoch_end(1.0)  # never better: plateau has something to remember


def values(params: dict[str, Tensor]) -> list[np.ndarray]:
    return [np.array(p.numpy()) for p in params.values()]


def same(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# ---------------------------------------------------------------- one vector, of which parameters are views


def test_parameters_are_views_of_one_aligned_vector() -> None:
    params = net()
    before = values(params)
    optimizer = optim.Adam(params.items())
    (group,) = optimizer.groups
    assert same(values(params), before)
    for piece, p in zip(group.pieces, params.values(), strict=True):
        assert np.shares_memory(p.value, group.vector.value) and p.version is group.vector.version
        assert piece.start % 16 == 0


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_padding_stays_zero(name: str, device: Device) -> None:
    params = net(device)
    optimizer = optim.get(name)(params.items(), weight_decay=0.1, clip_norm=1.0)
    train(optimizer, params, 3)
    inside = np.zeros(optimizer.groups[0].vector.size, bool)
    for piece in optimizer.groups[0].pieces:
        inside[piece.start : piece.start + piece.size] = True
    assert not inside.all()
    assert not optimizer.groups[0].vector.numpy()[~inside].any()


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_every_optimizer_lowers_the_loss(name: str, device: Device) -> None:
    params = net(device, np.float32)
    optimizer = optim.get(name)(params.items(), lr={"sgd": 0.5, "adagrad": 0.1}.get(name, 0.02))
    before = loss_of(params).item()
    train(optimizer, params, 30)
    assert loss_of(params).item() < 0.7 * before
    assert optimizer.t.item() == 30


def test_frozen_parameters_are_left_alone_and_shared_ones_come_once() -> None:
    params = net()
    params["a.bias"].requires_grad = False
    optimizer = optim.SGD([*params.items(), ("again", params["a.weight"])], lr=1.0, weight_decay=0.5)
    assert optimizer.names == ["a.weight", "b.weight", "b.bias"]
    frozen = params["a.bias"].value
    train(optimizer, params, 1)
    assert params["a.bias"].value is frozen and not frozen.any()


def test_no_gradient_counts_as_zeros() -> None:
    params, others = net(), net()
    one, other = optim.Adam(params.items(), weight_decay=0.1), optim.Adam(others.items(), weight_decay=0.1)
    one.update([None] * 4)
    other.update([tensor(np.zeros(p.shape)) for p in others.values()])
    assert same(values(params), values(others)) and not same(values(params), list(START.values()))


def test_step_takes_grad_and_zero_grad_forgets_it() -> None:
    params, others = net(), net()
    one, other = optim.AdamW(list(params.values())), optim.AdamW(list(others.values()))
    for _ in range(3):
        one.zero_grad()
        loss_of(params).backward()
        one.step()
    train(other, others, 3)
    assert same(values(params), values(others))
    one.zero_grad()
    assert all(p.grad is None for p in params.values())


def test_summed_gradients_of_micro_batches_are_the_batch() -> None:
    params, others = net(), net()
    one, other = optim.Adam(params.items(), clip_norm=0.1), optim.Adam(others.items(), clip_norm=0.1)
    parts = [grad(0.5 * loss_of(params), one.parameters) for _ in range(2)]
    one.update([a + b for a, b in zip(*parts, strict=True)])
    train(other, others, 1)
    assert same(values(params), values(others))


def test_backward_after_the_step_is_refused() -> None:
    params = net()
    optimizer = optim.SGD(params.items())
    stale = loss_of(params)
    train(optimizer, params, 1)
    with pytest.raises(GraphError, match="written in place"):
        stale.backward()


def test_values_assigned_to_a_parameter_reach_the_vector() -> None:
    params = net()
    optimizer = optim.SGD(params.items(), lr=0.0)
    params["a.bias"].assign(tensor(np.arange(5.0)))
    train(optimizer, params, 1)
    assert params["a.bias"].tolist() == [0, 1, 2, 3, 4]
    assert optimizer.groups[0].split(optimizer.groups[0].vector)["a.bias"].tolist() == [0, 1, 2, 3, 4]


def test_scalar_and_empty_parameters() -> None:
    params = [tensor(np.array(2.0), requires_grad=True), tensor(np.zeros((0, 3)), requires_grad=True)]
    optimizer = optim.SGD(params, lr=0.5)
    optimizer.update([tensor(np.array(1.0)), None])
    assert params[0].item() == 1.5 and params[1].shape == (0, 3)


# ---------------------------------------------------------------- binding


def test_a_recipe_is_bound_once() -> None:
    params = net()
    optimizer = optim.AdamW(lr=1e-3)
    assert not optimizer.bound
    with pytest.raises(ConfigError, match="no parameters yet"):
        optimizer.update([])
    optimizer.bind(params.items())
    train(optimizer, params, 2)
    optimizer.bind(params.items())
    assert optimizer.t.item() == 2
    with pytest.raises(ConfigError, match="bound to other parameters"):
        optimizer.bind(net().items())


def test_a_second_optimizer_takes_over() -> None:
    params = net()
    first, second = optim.SGD(params.items()), optim.SGD(params.items())
    with pytest.raises(GraphError, match=r"a\.weight was taken over by another optimizer"):
        first.update([None] * 4)
    train(second, params, 1)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (lambda p: p["a.bias"], ConfigError, "got one Tensor"),
        (lambda p: [3.0], ConfigError, "got float"),
        (lambda p: [], ConfigError, "none of the Tensors requires a gradient"),
        (lambda p: [{"params": []}], ConfigError, "no params"),
        (lambda p: [p["a.bias"], tensor(3.0, requires_grad=True)], DTypeError, "1 is float32, 0 is float64"),
        (lambda p: [("x", p["a.bias"]), ("x", p["b.bias"])], ConfigError, 'two different parameters are called "x"'),
    ],
)
def test_what_is_no_list_of_parameters(params: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        optim.SGD(params(net()))


def test_gradients_that_do_not_fit() -> None:
    params = net()
    optimizer = optim.SGD(params.items())
    with pytest.raises(ShapeError, match="4 gradients wanted"):
        optimizer.update([None])
    with pytest.raises(ShapeError, match=r"a\.weight has the shape \(3, 5\), its gradient \(5,\)"):
        optimizer.update([tensor(np.zeros(5)), None, None, None])
    with pytest.raises(DTypeError, match=r"a\.bias is float64, its gradient float32. Use g.cast"):
        optimizer.update([None, tensor(np.zeros(5, np.float32)), None, None])
    assert optimizer.t.item() == 0


# ---------------------------------------------------------------- groups


def test_the_first_matching_rule_wins() -> None:
    rules = [{"match": "a.bias", "lr": 0.5}, {"match": "*.bias", "lr_factor": 0.1, "weight_decay": 0.0}]
    optimizer = optim.SGD(net().items(), lr=1.0, weight_decay=0.3, groups=rules)
    assert [[p.name for p in g.pieces] for g in optimizer.groups] == [["a.bias"], ["b.bias"], ["a.weight", "b.weight"]]
    optimizer.update([tensor(np.ones(a.shape)) for a in START.values()])
    a_weight, a_bias, b_weight, b_bias = (p.numpy() for p in optimizer.parameters)
    np.testing.assert_allclose(a_bias, -0.5)
    np.testing.assert_allclose(b_bias, -0.1)
    np.testing.assert_allclose(a_weight, START["a.weight"] - (1 + 0.3 * START["a.weight"]))
    np.testing.assert_allclose(b_weight, START["b.weight"] - (1 + 0.3 * START["b.weight"]))


def test_pytorchs_dicts_are_groups() -> None:
    params, others = net(), net()
    weights, biases = ([p for n, p in params.items() if n.endswith(end)] for end in ("weight", "bias"))
    one = optim.AdamW([{"params": weights}, {"params": biases, "lr": 0.1, "weight_decay": 0.0}], lr=0.02)
    other = optim.AdamW(others.items(), lr=0.02, groups=[{"match": "*.bias", "lr": 0.1, "weight_decay": 0.0}])
    for optimizer, of in ((one, params), (other, others)):
        for _ in range(3):
            optimizer.update(grad(loss_of(of), optimizer.parameters))
    assert one.names == ["0", "1", "2", "3"]
    assert same(values(params), values(others))


def test_groups_clip_by_one_common_norm() -> None:
    params = net()
    optimizer = optim.SGD(params.items(), lr=1.0, clip_norm=1.0, groups=[{"match": "*.bias"}])
    before = np.concatenate([a.ravel() for a in values(params)])
    optimizer.update([tensor(np.full(a.shape, 7.0)) for a in START.values()])
    moved = np.concatenate([a.ravel() for a in values(params)]) - before
    np.testing.assert_allclose(np.linalg.norm(moved), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"match": "a.wieght"}, 'Did you mean "a.weight"?'),
        ({"match": "*.gain"}, "no parameter matches the group '*.gain'"),
        ({"match": "*", "lr_factr": 2}, 'Did you mean "lr_factor"?'),
        ({"lr": 2}, "which parameters it is for"),
        ({"match": "*", "weight_decay": -1}, "weight_decay must lie in [0, inf)"),
    ],
)
def test_rules_that_cannot_be(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        optim.SGD(net().items(), groups=[rule])
    assert message in str(error.value)


# ---------------------------------------------------------------- settings


def test_settings_are_assigned_and_reach_the_next_step() -> None:
    params, others = net(), net()
    one, other = optim.Adam(params.items(), lr=0.1), optim.Adam(others.items(), lr=0.01, betas=(0.5, 0.6), eps=1e-3)
    held = one.scalars["lr"]
    one.lr, one.betas, one.eps = 0.01, (0.5, 0.6), 1e-3
    assert one.scalars["lr"] is held and (one.lr, one.betas) == (0.01, (0.5, 0.6))
    for optimizer, of in ((one, params), (other, others)):
        train(optimizer, of, 2)
    assert same(values(params), values(others))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.SGD(lr=-1), "SGD: lr must lie in [0, inf), got -1"),
        (lambda: optim.SGD(lr=float("nan")), "lr must lie in"),
        (lambda: optim.SGD(lr=float("inf")), "lr must lie in"),
        (lambda: optim.SGD(lr="0.1"), "got '0.1'"),
        (lambda: optim.SGD(lr=None), "got None"),
        (lambda: optim.SGD(nesterov=True), "needs a momentum above 0"),
        (lambda: optim.Adam(betas=(1.0, 0.9)), "Adam: beta1 must lie in [0, 1), got 1.0"),
        (lambda: optim.Adam(eps=0), "eps must lie in (0, inf)"),
        (lambda: optim.RMSprop(alpha=1), "alpha must lie in [0, 1)"),
        (lambda: optim.AdamW(clip_norm=0), "clip_norm must lie in (0, inf)"),
        (lambda: optim.AdamW(weight_decay=-0.1), "weight_decay must lie in [0, inf)"),
        (lambda: optim.AdamW(schedule="cosin"), 'Did you mean "cosine"?'),
        (lambda: optim.get("adma"), 'Did you mean "adam"?'),
        (lambda: optim.LBFGS(schedule="cosine", clip_norm=1.0), "no schedule and no clip_norm"),
        (lambda: optim.LBFGS(net().items(), groups=[{"match": "*.bias", "lr": 0.1}]), "one step length for all"),
    ],
)
def test_settings_out_of_range(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


def test_defaults_are_pytorchs() -> None:
    known = {name: cls().numbers for name, cls in optim.OPTIMIZERS.items()}
    assert (known["adam"]["lr"], known["adam"]["eps"], known["adam"]["weight_decay"]) == (1e-3, 1e-8, 0.0)
    assert known["adamw"]["weight_decay"] == 1e-2
    assert (known["adagrad"]["lr"], known["adagrad"]["eps"]) == (1e-2, 1e-10)
    assert (known["rmsprop"]["lr"], known["rmsprop"]["alpha"]) == (1e-2, 0.99)
    assert (known["nadam"]["lr"], known["nadam"]["momentum_decay"]) == (2e-3, 4e-3)
    assert (known["sgd"]["lr"], known["sgd"]["momentum"]) == (1e-3, 0.0)


# ---------------------------------------------------------------- tracing


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_an_update_can_be_traced(name: str) -> None:
    class Listing(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.assigned: list[Tensor] = []

        def assign(self, state: Tensor, new: Tensor) -> None:
            self.assigned.append(state)

    params = net()
    settings = {"schedule": "cosine", "clip_norm": 1.0, "clip_value": 1.0, "groups": [{"match": "*.bias"}]}
    optimizer = optim.get(name)(params.items(), **settings)
    optimizer.start(5)
    grads = grad(loss_of(params), optimizer.parameters)
    trace = Listing()
    with set_mode(trace=trace):
        optimizer.update(grads)
    states = [t for tensors in optimizer.memory.values() for t in tensors] + [g.vector for g in optimizer.groups]
    assert {id(t) for t in trace.assigned} == {id(t) for t in [*states, optimizer.t]}
    assert len(trace.nodes) > 10 and optimizer.t.item() == 0
    assert same(values(params), list(START.values()))


# fmt: off
CHANGES: dict[str, Callable[[optim.Optimizer], Any]] = {
    "lr":          lambda o: setattr(o, "lr", 0.3),
    "clip on":     lambda o: setattr(o, "clip_norm", 0.01),
    "clip anew":   lambda o: [setattr(o, "clip_value", c) for c in (None, 0.001)],
    "group":       lambda o: setattr(o.groups[0], "lr_factor", 0.01),
    "start":       lambda o: o.start(3),
    "start again": lambda o: [o.start(n) for n in (9, 3)],
    "longer":      lambda o: o.start(9),
    "load":        lambda o: o.load_state_dict(o.state_dict() | {"t": 0}),
    "nesterov":    lambda o: setattr(o, "nesterov", True),
}
# fmt: on


@pytest.mark.parametrize("change", CHANGES)
def test_a_compiled_step_notices_every_change(change: str) -> None:
    ends = []
    for make in (lambda step: step, Compiled):
        params = net()
        optimizer = optim.SGD(
            params.items(), lr=0.1, momentum=0.9, clip_value=0.1, schedule="cosine", groups=[{"match": "*.bias"}]
        )
        optimizer.start(3)
        step = make(lambda o=optimizer, p=params: o.update(grad(loss_of(p), o.parameters)))
        for _ in range(2):
            step()
        CHANGES[change](optimizer)
        for _ in range(3):
            step()
        ends.append(values(params))
    assert not step.eagerly
    assert same(*ends)


# ---------------------------------------------------------------- schedules


@pytest.mark.parametrize("text", SCHEDULES)
def test_schedules_come_back_from_their_config(text: str) -> None:
    schedule = schedules.get(text)
    assert schedules.get(json.loads(json.dumps(schedule.config()))) == schedule
    assert schedules.get(schedule) is schedule
    table = schedule.table(40)
    assert table.dtype == np.float64 and (table >= 0).all() and np.isfinite(table).all()


@pytest.mark.parametrize("text", ["constant", "step:0.25,0.5", "cosine:0.1", "one_cycle:2", "coslog4", "flat_cos"])
def test_a_table_is_the_factor_at_each_step(text: str) -> None:
    schedule = schedules.get(text)
    table = schedule.table(16)
    for i, entry in enumerate(table):
        assert schedule.factor(i / 16) == pytest.approx(entry, rel=1e-14)


def test_schedules_at_known_points() -> None:
    points = [0.0, 0.25, 0.5, 0.75, 1.0]
    quarter = 2**0.5 / 4
    falling = [1, 0.5 + quarter, 0.5, 0.5 - quarter, 0]
    np.testing.assert_allclose(schedules.get("cosine").factor(points), falling, atol=1e-15)
    np.testing.assert_allclose(schedules.get("cosine:0.2").factor([0, 1]), [1, 0.2])
    np.testing.assert_allclose(schedules.get("flat_cos").factor(points), [1, 1, 1, 0.5, 0], atol=1e-15)
    ends_of_cycles = (2.0 ** np.arange(5) - 1) / 15
    np.testing.assert_allclose(schedules.get("coslog4").factor(ends_of_cycles), 0, atol=1e-14)
    tops = (2.0 ** (np.arange(4) + 0.5) - 1) / 15
    np.testing.assert_allclose(schedules.get("coslog4").factor(tops), 1)
    one = schedules.OneCycle(2.0, warmup=0.25, start_div=10, final_div=100)
    np.testing.assert_allclose(one.factor([0, 0.25, 1]), [0.2, 2, 0.002])
    assert schedules.get("step:3,0.5").table(8).tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert schedules.get("warmup:4").table(6).tolist() == [0.25, 0.5, 0.75, 1, 1, 1]
    np.testing.assert_array_equal(schedules.get("warmup:4,cosine").table(12)[4:], schedules.get("cosine").table(8))
    assert schedules.get("warmup:9").table(3).tolist() == [1 / 9, 2 / 9, 3 / 9]


@given(st.integers(1, 400), st.integers(1, 400))
def test_step_falls_exactly_where_it_should(every: int, total: int) -> None:
    expected = [0.5 ** (i // every) for i in range(total)]
    assert schedules.Step(every, gamma=0.5).table(total).tolist() == expected


def test_plateau_waits_and_then_reduces() -> None:
    schedule, seen = schedules.Plateau(2, gamma=0.5, min_factor=0.2), schedules.Seen()
    factors = []
    for metric in [1.0, 0.9, 0.95, 0.9, 0.91, 0.8, 0.8, 0.8, 0.8, np.nan, 0.8, 0.8, 0.8, 0.8, 0.8]:
        seen = schedule.observe(seen, metric)
        factors.append(seen.factor)
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2]
    rising = schedules.Plateau(0, mode="max")
    assert rising.observe(rising.observe(schedules.Seen(), 0.5), 0.6).factor == 1
    assert rising.observe(rising.observe(schedules.Seen(), 0.5), 0.4).factor == 0.1


def test_the_schedule_sets_the_rate_and_its_last_entry_stays() -> None:
    p = tensor(np.zeros(1), requires_grad=True)
    optimizer = optim.SGD([p], lr=2.0, schedule="step:2,0.5")
    with pytest.raises(ConfigError, match=r"Call start\(total_steps\)"):
        optimizer.update([None])
    optimizer.start(4)
    path = []
    for _ in range(6):
        optimizer.update([tensor(np.ones(1))])
        path.append(-p.item())
    assert np.diff([0, *path]).tolist() == [2, 2, 1, 1, 1, 1]
    optimizer.start(4)  # a second run begins its schedule anew
    optimizer.update([tensor(np.ones(1))])
    assert -p.item() - path[-1] == 2 and optimizer.t.item() == 7


def test_plateau_reaches_the_rate() -> None:
    p = tensor(np.zeros(1), requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0, schedule="warmup:2,plateau")
    optimizer.schedules["lr"] = schedules.Warmup(2, then=schedules.Plateau(0, gamma=0.5))
    optimizer.start(10)
    path = []
    for metric in (3.0, 2.0, 2.0, 1.0, 1.0):
        optimizer.update([tensor(np.ones(1))])
        optimizer.epoch_end(metric)
        path.append(-p.item())
    assert np.diff([0, *path]).tolist() == [0.5, 1, 1, 0.5, 0.5]


def test_weight_decay_has_its_own_schedule() -> None:
    p = tensor(np.ones(1), requires_grad=True)
    optimizer = optim.AdamW([p], lr=1.0, weight_decay=0.5, weight_decay_schedule="step:1,0.5")
    optimizer.start(3)
    for kept in (0.5, 0.75, 0.875):
        before = p.item()
        optimizer.update([None])
        assert p.item() == before * kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin", 'Did you mean "cosine"?'),
        ("cosine:0.1,2", "takes end, got 2 values"),
        ("constant:1", "takes nothing"),
        ("cosine:high", "schedule cosine"),
        ("cosine:7", "end=7 is out of range"),
        ("warmup", "schedule warmup"),
        ("warmup:0", "n=0 is out of range"),
        ({"name": "step", "evry": 3}, 'Did you mean "every"?'),
        ({"every": 3}, 'no schedule "None"'),
    ],
)
def test_schedules_that_cannot_be(text: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        schedules.get(text)
    assert message in str(error.value)


def test_a_length_in_steps_has_no_factor_of_progress() -> None:
    with pytest.raises(ConfigError, match="Use table"):
        schedules.get("step:30").factor(0.5)
    with pytest.raises(ConfigError, match="at least one step"):
        optim.SGD(net().items()).start(0)


# ---------------------------------------------------------------- clipping


def test_clipping_keeps_what_is_small(device: Device) -> None:
    grads = [tensor(np.array([3.0, -4.0]), device=device), tensor(np.array([[12.0]]), device=device)]
    assert optim.global_norm(grads).item() == 13
    for g, same_g in zip(grads, optim.clip_by_norm(grads, 20.0), strict=True):
        np.testing.assert_array_equal(g.numpy(), same_g.numpy())
    clipped = optim.clip_by_norm(grads, 1.3)
    np.testing.assert_allclose(optim.global_norm(clipped).item(), 1.3, rtol=1e-6)
    assert [g.tolist() for g in optim.clip_by_value(grads, 3.5)] == [[3.0, -3.5], [[3.5]]]


# ---------------------------------------------------------------- going on


def through_files(state: dict[str, Any]) -> dict[str, Any]:
    """As a checkpoint keeps it: arrays as they are, all else as JSON."""
    arrays = {k: np.array(v) for k, v in state.items() if isinstance(v, np.ndarray)}
    return {**json.loads(json.dumps({k: v for k, v in state.items() if k not in arrays})), **arrays}


CPUS = {native: CPU(native=native) for native in (False, True)}
RULES = [{"match": "*.bias", "lr_factor": 0.3, "weight_decay": 0.0}]


@given(
    name=st.sampled_from(FIRST_ORDER), schedule=st.sampled_from([None, *SCHEDULES]),
    decay=st.sampled_from([None, "flat_cos"]), clip=st.sampled_from([None, 0.05]),
    dtype=st.sampled_from([np.float32, np.float64]), before=st.integers(0, 7), after=st.integers(1, 7),
    native=st.booleans(),  # the same as not, where the kernels are not built
)
def test_restored_and_continued_is_never_stopped(
    name: str, schedule: str | None, decay: str | None, clip: float | None, dtype: Any, before: int, after: int,
    native: bool,
) -> None:
    device = CPUS[native]
    settings = {"schedule": schedule, "weight_decay_schedule": decay, "clip_norm": clip, "weight_decay": 0.01}
    extra = {"momentum": 0.9} if name in ("sgd", "rmsprop") else {}
    params = net(device, dtype)
    straight = optim.get(name)(params.items(), lr=0.03, groups=RULES, **settings, **extra)
    straight.start(12)
    train(straight, params, before)
    saved, weights = through_files(straight.state_dict()), values(params)
    train(straight, params, after)

    others = net(device, dtype)
    resumed = optim.get(name)(others.items(), groups=RULES)  # lr, schedule, ... come from the state
    for p, w in zip(others.values(), weights, strict=True):
        p.assign(tensor(w, device=device))
    resumed.load_state_dict(saved)
    train(resumed, others, after)
    assert same(values(params), values(others))
    np.testing.assert_equal(resumed.state_dict(), straight.state_dict())


def test_lbfgs_restored_and_continued_is_never_stopped() -> None:
    params, others = net(), net()
    straight, resumed = optim.LBFGS(params.items(), history_size=3), optim.LBFGS(others.items())
    for _ in range(5):
        straight.minimize(lambda: evaluate(straight, params))
    saved, weights = through_files(straight.state_dict()), values(params)
    assert saved["memory"] == ["s0", "y0", "s1", "y1", "s2", "y2"]
    for p, w in zip(others.values(), weights, strict=True):
        p.assign(tensor(w))
    resumed.load_state_dict(saved)
    for _ in range(3):
        there = resumed.minimize(lambda: evaluate(resumed, others))
        assert straight.minimize(lambda: evaluate(straight, params)) == there
    assert same(values(params), values(others))
    broken = {k: v for k, v in saved.items() if k != "s1.a.bias"}
    remembered = resumed.memory
    with pytest.raises(ConfigError, match=r"s1\.a\.bias"):
        resumed.load_state_dict(broken)
    assert resumed.memory is remembered


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s | {"optimizer": "sgd"}, ConfigError, "the state is of 'sgd', this is 'adam'"),
        (lambda s: {k: v for k, v in s.items() if k != "m.a.bias"}, ConfigError, r"missing \['m.a.bias'\]"),
        (lambda s: s | {"m.c.bias": np.zeros(3)}, ConfigError, r"unexpected \['m.c.bias'\]"),
        (lambda s: s | {"v.a.bias": np.zeros(6)}, ShapeError, r"v.a.bias is \(5,\), the saved one \(6,\)"),
        (lambda s: s | {"settings": {"lr": 1.0}}, ConfigError, "missing"),
        (lambda s: s | {"groups": []}, ConfigError, "the groups differ"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: Callable[..., Any], error: Any, message: str) -> None:
    params = net()
    optimizer = optim.Adam(params.items())
    train(optimizer, params, 2)
    before = through_files(optimizer.state_dict())
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(change(optimizer.state_dict()))
    np.testing.assert_equal(optimizer.state_dict(), before)


# ---------------------------------------------------------------- weight average


def test_average_follows_the_weights_and_is_swapped_in_and_out(device: Device) -> None:
    params = net(device)
    optimizer = optim.SGD(params.items(), lr=0.3, groups=[{"match": "*.bias"}])
    average = optim.WeightAverage(optimizer, decay=0.9)
    mean = list(START.values())
    for n in range(30):
        train(optimizer, params, 1)
        average.update()
        keep = min(0.9, (1 + n) / (10 + n))
        mean = [keep * m + (1 - keep) * p for m, p in zip(mean, values(params), strict=True)]
    now = values(params)
    with average.applied():
        for p, m in zip(params.values(), mean, strict=True):
            np.testing.assert_allclose(p.numpy(), m, rtol=1e-12)
    assert same(values(params), now)
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert same(values(params), now)


def test_average_goes_on_from_its_state() -> None:
    params = net()
    optimizer = optim.Adam(params.items(), lr=0.1)
    one = optim.WeightAverage(optimizer, decay=0.5)
    train(optimizer, params, 2)
    one.update()
    other = optim.WeightAverage(optimizer)
    other.load_state_dict(through_files(one.state_dict()))
    for average in (one, other):
        average.update()
    state = one.state_dict()
    np.testing.assert_equal(other.state_dict(), state)
    with pytest.raises(ConfigError, match="does not fit"):
        one.load_state_dict({k: v for k, v in state.items() if k != "n"})
    with pytest.raises(ConfigError, match="Bind it first"):
        optim.WeightAverage(optim.Adam())


# ---------------------------------------------------------------- L-BFGS


def evaluate(optimizer: optim.Optimizer, params: dict[str, Tensor]) -> tuple[Tensor, Any]:
    loss = loss_of(params)
    return loss, grad(loss, optimizer.parameters)


def test_lbfgs_finds_the_bottom_of_rosenbrocks_valley(device: Device) -> None:
    p = tensor(np.array([-1.2, 1.0]), device=device, requires_grad=True)
    optimizer = optim.LBFGS([p])

    def valley() -> tuple[Tensor, Any]:
        loss = 100.0 * ops.square(p[1] - p[0] * p[0]) + ops.square(1.0 - p[0])
        return loss, grad(loss, [p])

    path = [optimizer.minimize(valley) for _ in range(60)]
    assert path == sorted(path, reverse=True)
    np.testing.assert_allclose(p.numpy(), [1, 1], rtol=1e-6)
    assert optimizer.converged


def test_lbfgs_solves_ridge_regression_exactly() -> None:
    x, y = RNG.normal(size=(40, 6)), RNG.normal(size=(40, 1))
    w, b = tensor(np.zeros((6, 1)), requires_grad=True), tensor(np.zeros(1), requires_grad=True)
    optimizer = optim.LBFGS([("w", w), ("b", b)], weight_decay=0.4, groups=[{"match": "b", "weight_decay": 0.0}])

    def squares() -> tuple[Tensor, Any]:
        loss = losses.mse(ops.linear(tensor(x), w, b), tensor(y))
        return loss, grad(loss, [w, b])

    for _ in range(40):
        optimizer.minimize(squares)
    centred = x - x.mean(0)
    expected = np.linalg.solve(centred.T @ centred + 0.2 * 40 * np.eye(6), centred.T @ (y - y.mean()))
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-6, atol=1e-8)
    assert optimizer.converged


def test_lbfgs_in_float32_ends_where_float64_does() -> None:
    ends = []
    for dtype in (np.float32, np.float64):
        params = net(dtype=dtype)
        optimizer = optim.LBFGS(params.items(), weight_decay=0.05)
        for _ in range(60):
            last = optimizer.minimize(lambda optimizer=optimizer, params=params: evaluate(optimizer, params))
        ends.append(last)
    assert ends[0] == pytest.approx(ends[1], rel=1e-5)


def test_lbfgs_sees_all_rows_or_none() -> None:
    optimizer = optim.LBFGS(net().items())
    assert optimizer.full_batch and optimizer.batch_size(1000, 32) == 1000
    assert not optim.Adam.full_batch and optim.Adam().batch_size(1000, 32) == 32
    with pytest.raises(ConfigError, match=r"Use minimize\(evaluate\)"):
        optimizer.update([None] * 4)


# fmt: off
HILLS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "parabola":     (lambda a: (a - 3) ** 2,                      lambda a: 2 * (a - 3)),
    "narrow":       (lambda a: 1e4 * (a - 1e-3) ** 2,             lambda a: 2e4 * (a - 1e-3)),
    "far":          (lambda a: (a / 500 - 1) ** 2,                lambda a: (a / 500 - 1) / 250),
    "flat valley":  (lambda a: -a / (a * a + 2),                  lambda a: (a * a - 2) / (a * a + 2) ** 2),
    "waves":        (lambda a: (a - 4) ** 2 + np.sin(5 * a),      lambda a: 2 * (a - 4) + 5 * np.cos(5 * a)),
    "wall":         (lambda a: np.inf if a > 0.7 else (a - 0.5) ** 2, lambda a: np.nan if a > 0.7 else 2 * (a - 0.5)),
}
# fmt: on


@pytest.mark.parametrize("first", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("hill", HILLS)
def test_the_line_search_meets_the_strong_wolfe_conditions(hill: str, first: float) -> None:
    value, slope = HILLS[hill]
    start = Probe(0.0, value(0.0), slope(0.0), [])
    found = wolfe(lambda a: Probe(a, value(a), slope(a), []), start, first, most=60)
    assert found.a > 0
    assert found.value <= start.value + 1e-4 * found.a * start.slope
    assert abs(found.slope) <= -0.9 * start.slope


def test_the_line_search_goes_nowhere_on_nan() -> None:
    start = Probe(0.0, 1.0, -1.0, [])
    assert wolfe(lambda a: Probe(a, np.nan, np.nan, []), start, 1.0, most=20) is start
