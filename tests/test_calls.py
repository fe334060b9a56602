"""Calling a compiled function: what it takes, what it notices, and that threads may share it."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest

from gpunet import losses, nn, ops, optim
from gpunet.engine import Tensor, grad, tensor
from gpunet.errors import DTypeError, GraphError, RangeError, ShapeError
from gpunet.graph import Compiled, compile
from gpunet.train.forward import Forward

EXECUTORS = ["python", "auto"]
X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
Y = np.arange(6) % 3


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    return request.param


def traces(run: Compiled) -> int:
    return sum(map(len, run.programs.values()))


def training(executor: str, optimizer: Any = None) -> tuple[Any, Any, Compiled]:
    net = nn.MLP(4, 8, 3).initialize(0)
    optimizer = optimizer or optim.SGD(lr=0.1)
    optimizer.bind(list(net.named_parameters()))

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = losses.cross_entropy(net(x), y)
        optimizer.update(grad(loss, optimizer.parameters))
        return loss

    return net, optimizer, compile(step, executor=executor)


# ---------------------------------------------------------------- what it takes


def test_arrays_are_as_good_as_tensors(executor: str) -> None:
    runs = [training(executor)[2] for _ in range(4)]
    wide, apart = X.astype(np.float64), np.repeat(X, 2, axis=0)[::2]
    for _ in range(3):
        results = [run(x, y) for run, x, y in zip(runs, (tensor(X), X, wide, apart), (tensor(Y), Y, Y, Y), strict=True)]
        assert all(isinstance(r, Tensor) for r in results)
        assert len({r.item() for r in results}) == 1
    assert [traces(run) for run in runs] == [1, 1, 1, 1]


def test_float64_arrays_are_cast_and_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's own floats are what most callers have: only the first call looks a program up."""
    run = training("auto")[2]
    first = run(X.astype(np.float64), Y).item()
    if run.program(tensor(X), tensor(Y)).at_once((X, Y)) is None:
        pytest.skip("the C++ kernels are not built: Python looks a program up each time")
    monkeypatch.setattr(Compiled, "_looked_up", None)
    assert run(X.astype(np.float64), Y).item() < first
    monkeypatch.undo()
    with pytest.raises(DTypeError, match="mixed"):  # a Tensor of them is meant so
        run(tensor(X.astype(np.float64)), Y)


def test_numbers_and_lists_and_other_dtypes(executor: str) -> None:
    double = compile(lambda x: x * 2.0, executor=executor)
    assert double(1.5).dtype == np.float32 and double([1.5, 2.5]).tolist() == [3.0, 5.0]
    exact = compile(lambda x: x * 2.0, dtype=np.float64, executor=executor)
    for _ in range(2):  # the second call takes the short way
        assert exact(np.float32(0.5)).dtype == np.float64 and exact(np.array(0.1)).item() == 0.2
    whole = compile(lambda x: x + 1, executor=executor)
    assert whole(np.arange(3)).dtype == np.int64
    with pytest.raises(DTypeError, match=r"arrays of numbers, got str"):
        double("three")


def test_a_float64_tensor_before_does_not_change_what_an_array_becomes(executor: str) -> None:
    double = compile(lambda x: x * 2.0, executor=executor)
    for _ in range(2):
        assert double(tensor(np.ones(3))).dtype == np.float64
        assert double(np.ones(3)).dtype == np.float32


def test_a_module_compiles(executor: str) -> None:
    net = nn.MLP(4, 8, 3, dropout=0.5).to("float64").initialize(0).eval()
    run = compile(net, executor=executor)
    for rows in (1, 6, 1):
        np.testing.assert_array_equal(run(X[:rows]).numpy(), net(X[:rows]).numpy())
    assert traces(run) == 2


def test_results_are_nobody_elses(executor: str) -> None:
    run = compile(lambda x: (x + 1.0, x.T), executor=executor)
    first, turned = run(X)
    kept = first.numpy().copy(), turned.numpy().copy()
    run(X * 2)
    np.testing.assert_array_equal(first.numpy(), kept[0])
    np.testing.assert_array_equal(turned.numpy(), kept[1])
    np.testing.assert_array_equal(kept[1], X.T)


def test_arguments_of_any_layout(executor: str) -> None:
    run = compile(lambda x: x + 1.0, executor=executor)
    for _ in range(2):
        for x in (X, np.asfortranarray(X), X[::-1], X.astype(">f4"), np.broadcast_to(X[:1], X.shape)):
            np.testing.assert_array_equal(run(x).numpy(), x + 1)
            np.testing.assert_array_equal(run(tensor(x)).numpy(), x + 1)


def test_errors_name_what_is_wrong_and_the_next_call_is_right(executor: str) -> None:
    _, _, run = training(executor)
    run(X, Y)
    with pytest.raises(RangeError, match="row 1 has target 9"):
        run(X, np.array([0, 9, 0, 0, 0, 0]))
    with pytest.raises(ShapeError):
        run(X[:, :3], Y)
    with pytest.raises(GraphError, match="would be lost"):
        run(tensor(X, requires_grad=True), tensor(Y))
    assert np.isfinite(run(X, Y).item())


# ---------------------------------------------------------------- what it notices


def test_a_frozen_parameter_is_noticed(executor: str) -> None:
    w, b = tensor(np.ones(3, np.float32), requires_grad=True), tensor(np.ones(3, np.float32), requires_grad=True)

    def gradients(x: Tensor) -> tuple[Tensor, ...]:
        trained = [t for t in (w, b) if t.requires_grad]
        return tuple(grad(ops.sum(x * w + b), trained))

    run = compile(gradients, executor=executor)
    x = np.arange(3, dtype=np.float32)
    assert len(run(x)) == 2
    b.requires_grad = False
    assert run(x).tolist() == [0, 1, 2]
    b.requires_grad = True
    assert len(run(x)) == 2 and traces(run) == 2


def test_a_model_bound_to_an_optimizer_later_keeps_its_memory(executor: str) -> None:
    """The program must not take the parameter out of the optimizer's vector."""
    net = nn.MLP(4, 8, 3).initialize(0).eval()
    forward = compile(net, executor=executor)
    forward(X)
    optimizer = optim.SGD(lr=0.5)
    optimizer.bind(list(net.named_parameters()))
    for _ in range(3):
        np.testing.assert_array_equal(forward(X).numpy(), net(X).numpy())
        optimizer.update(grad(losses.cross_entropy(net(X), tensor(Y)), optimizer.parameters))
    np.testing.assert_array_equal(forward(X).numpy(), net(X).numpy())
    assert traces(forward) == 2


def test_a_model_of_another_dtype_is_noticed(executor: str) -> None:
    net = nn.MLP(4, 8, 3).initialize(0).eval()
    forward = compile(net, executor=executor)
    assert forward(X).dtype == np.float32
    net.to("float64")
    assert forward(X).dtype == np.float64 and next(iter(net.parameters())).dtype == np.float64


def test_a_state_of_another_shape_or_dtype_is_noticed(executor: str) -> None:
    t = tensor(np.ones(3, np.float32))
    double = compile(lambda: t * 2.0, executor=executor)
    for value in (np.ones(3, np.float32), np.full(3, 1 / 3), np.ones((1, 3), np.float32)):
        t.value = value
        for _ in range(2):
            np.testing.assert_array_equal(double().numpy(), value * 2)
        assert double().dtype == value.dtype and t.value.dtype == value.dtype


def test_a_layer_put_in_anothers_place_is_noticed(executor: str) -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).initialize(0).eval()
    forward = compile(net, executor=executor)
    forward(X)
    setattr(net, "1", nn.Tanh())
    np.testing.assert_array_equal(forward(X).numpy(), net(X).numpy())
    net[0].weight = tensor(np.ones((4, 3), np.float32))
    np.testing.assert_array_equal(forward(X).numpy(), net(X).numpy())


CHANGES: dict[str, tuple[Any, bool]] = {
    "lr": (lambda o: setattr(o, "lr", 0.3), False),
    "momentum": (lambda o: setattr(o, "momentum", 0.3), False),
    "weight decay": (lambda o: setattr(o, "weight_decay", 0.3), False),
    "a group's lr": (lambda o: setattr(o.groups[0], "lr", 0.3), True),
    "clipping": (lambda o: setattr(o, "clip_norm", 0.01), True),
    "nesterov": (lambda o: setattr(o, "nesterov", True), True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_an_optimizer_is_made_of_is_noticed_and_its_numbers_are_not(executor: str, change: str) -> None:
    sides = []
    for how in (executor, None):
        net, optimizer, run = training(executor, optim.SGD(lr=0.1, momentum=0.5))
        call = run if how else run.fn
        call(tensor(X), tensor(Y))
        CHANGES[change][0](optimizer)
        call(tensor(X), tensor(Y))
        call(tensor(X), tensor(Y))
        sides.append(net.state_dict())
        if how:
            assert traces(run) == 1 + CHANGES[change][1]
    for name, value in sides[0].items():
        np.testing.assert_array_equal(value, sides[1][name], err_msg=name)


def test_programs_that_no_longer_hold_are_not_kept_for_ever(executor: str) -> None:
    net, optimizer, run = training(executor)
    for i in range(20):
        optimizer.clip_norm = None if i % 2 else 1.0
        run(X, Y)
    assert traces(run) <= 8


def test_weights_loaded_in_between_are_used(executor: str) -> None:
    net, other = nn.MLP(4, 8, 3).initialize(0).eval(), nn.MLP(4, 8, 3).initialize(1).eval()
    forward = compile(net, executor=executor)
    forward(X)
    net.load_state_dict(other.state_dict())
    for _ in range(2):
        np.testing.assert_array_equal(forward(X).numpy(), other(X).numpy())
    assert traces(forward) == 1


# ---------------------------------------------------------------- memory and threads


def test_calls_and_runs_leave_nothing_behind(executor: str) -> None:
    _, _, run = training(executor)
    count = tensor(0)
    counting = compile(lambda: count.assign(count + 1), executor=executor)

    def often(n: int) -> None:
        for _ in range(n):
            run(X, Y)
        assert counting.run(n) == n

    often(10)
    tracemalloc.start()
    often(10)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    often(1000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 10_000


def test_threads_take_turns(executor: str) -> None:
    """Each call gets the answer to its own argument, and every step counts, whatever the shapes."""
    net, count = nn.MLP(4, 64, 3).initialize(0).eval(), tensor(0)

    def f(x: Tensor) -> Tensor:
        count.assign(count + 1)
        return net(x)

    run, calls, wrong = compile(f, executor=executor), 300, []
    inputs = [np.full((1 + i % 2, 4), i, np.float32) for i in range(4)]
    wanted = [net(x).numpy() for x in inputs]

    def work(x: Any, want: Any) -> None:
        try:
            wrong.extend(1 for _ in range(calls) if not np.array_equal(run(x).numpy(), want))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, wanted, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and traces(run) == 2
    assert count.item() == 4 * calls


def test_a_copy_of_what_predicts_is_of_the_copied_net() -> None:
    net = nn.MLP(4, 8, 3).initialize(0)
    forward = Forward(net)
    before = forward(tensor(X))
    for again in (copy.deepcopy(forward), pickle.loads(pickle.dumps(forward))):
        again.net.load_state_dict(nn.MLP(4, 8, 3).initialize(1).state_dict())
        assert not np.array_equal(again(tensor(X)), before)
    np.testing.assert_array_equal(forward(tensor(X)), before)


def test_outputs_of_many_rows_are_those_of_evaluation_and_leave_the_mode() -> None:
    net = nn.MLP(4, 8, 3, dropout=0.5, norm="batch").initialize(0)
    many = np.random.default_rng(1).standard_normal((100, 4)).astype(np.float32)
    made = [Forward(net, compiled)(tensor(many), rows) for compiled in (True, False) for rows in (7, 100, 1000)]
    assert net.training and net[1].training
    net.eval()
    for one in made:
        np.testing.assert_allclose(one, net(many).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_searched_for_while_a_program_is_made(collects: bool) -> None:
    searches: list[str] = []
    within: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        searches.append(phase)

    def f(x: Tensor) -> Tensor:
        within.append(len(searches))
        for _ in range(50):
            x = ops.exp(x) * 0.5
        within.append(len(searches))
        if len(within) > 2:
            raise ZeroDivisionError
        return x

    compiled, before, threshold = compile(f), gc.isenabled(), gc.get_threshold()
    (gc.enable if collects else gc.disable)()
    gc.callbacks.append(note)
    gc.set_threshold(1)
    try:
        compiled(np.ones(3))
        assert gc.isenabled() == collects
        with pytest.raises(ZeroDivisionError):
            compiled(np.ones(4))
        assert gc.isenabled() == collects
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(note)
        (gc.enable if before else gc.disable)()
    assert within[0] == within[1] and within[2] == within[3]
    assert bool(searches) == collects


def test_what_somebody_froze_stays_so_when_a_program_is_made() -> None:
    gc.freeze()  # as servers do before they fork
    try:
        frozen = gc.get_freeze_count()
        compile(lambda x: x * 0.5)(np.ones(3))
        assert gc.get_freeze_count() > frozen // 2
    finally:
        gc.unfreeze()


def test_a_program_that_nobody_holds_is_freed() -> None:
    compiled = compile(lambda x: x * 0.5)
    program = weakref.ref(compiled.program(tensor(X)))
    del compiled
    gc.collect()
    assert program() is None
