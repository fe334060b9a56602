"""Several nets whose steps are one on the CUDA device: the bits of each alone, by the launches of one."""

from __future__ import annotations

import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fibers
import numpy as np
import pytest
from conftest import emulated_cuda
from test_captured import NETS

import gpunet
from gpunet import Trainer, losses, nn, ops, optim
from gpunet.data import digits
from gpunet.devices import Device, select
from gpunet.engine import Tensor, mode, op, tensor
from gpunet.errors import DivergedError, RangeError
from gpunet.estimators import base
from gpunet.graph import compile
from gpunet.graph.several import Several, kind
from gpunet.train import together
from gpunet.train.together import Company, concurrency, train_together

if fibers.missing():
    pytest.skip(f"csrc/*.cu cannot be built for the host: {fibers.missing()}", allow_module_level=True)

ROWS = 120
DATA = digits()
X, Y = (DATA.x[:ROWS] / 16).astype(np.float32), DATA.y[:ROWS]


def test_kernels_ask_where_they_stand_in_their_nets_part_of_the_launch() -> None:
    for source in fibers.CSRC.glob("*.cu"):
        assert not re.findall(r"blockIdx|gridDim|__global__", source.read_text()), f"{source.name}: see CONTRIBUTING.md"


# ---------------------------------------------------------------- programs

State = dict[str, Tensor]


def alone_and_together(cuda: Any, make: Callable[[int], tuple[Callable[[], None], State]], nets: int, steps: int) -> Any:
    """What `make(i)` gave, a step and its states, after so many steps: one net after the other, and as one. What came of it."""
    found: list[Any] = []
    for joined in (False, True):
        made = [make(i) for i in range(nets)]
        programs = [compile(step).program() for step, _ in made]
        if joined:
            assert len({kind(program) for program in programs}) == 1
            told = Several(programs).run(steps)  # type: ignore[arg-type]
        else:
            told = []
            for program in programs:
                try:
                    told.append(program.run(steps))
                except RangeError as error:
                    told.append(error)
        found.append((told, [{name: t.numpy() for name, t in states.items()} for _, states in made]))
    return found


def assert_equal(found: Any) -> Any:
    (alone, states), (joined, others) = found
    assert list(map(repr, joined)) == list(map(repr, alone))
    for one, other in zip(states, others, strict=True):
        assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}
    return joined


@pytest.mark.parametrize("dtype", [np.float32, np.float64])  # whose products are ours, and cuBLASLt's
def test_nets_of_different_sizes_share_their_launches(cuda: Any, dtype: Any) -> None:
    """Grids of one to three axes, chains, reductions with partial results between, and single numbers."""

    def make(i: int) -> tuple[Callable[[], None], State]:
        r, shape = np.random.default_rng(i), [(2, 33, 17), (3, 5, 40), (1, 70, 9)][i]
        x, w, big = r.normal(size=shape), r.normal(size=(shape[0], shape[2], 20 + i)), r.normal(size=3000 * (i + 3))
        given = {"x": x, "w": w * 0.1, "big": big, "n": np.ones(())}
        t = {name: tensor(a.astype(dtype), device=cuda) for name, a in given.items()}

        def step() -> None:
            made = ops.matmul(t["x"], t["w"])
            back = ops.matmul(made, ops.swap_last(t["w"]))
            t["x"].assign(0.5 * t["x"] + ops.exp(-ops.square(back)) / t["n"])
            t["w"].assign(t["w"] * 0.9 + ops.mean(made, axis=(0, 1)))
            t["big"].assign(t["big"] / ops.sum(ops.square(t["big"])) * t["n"])
            t["n"].assign(t["n"] + 1.0)

        return step, t

    assert assert_equal(alone_and_together(cuda, make, 3, 35)) == [35] * 3


def test_nets_that_need_much_scratch_memory_have_all_of_it_in_turn(cuda: Any) -> None:
    cuda.workspace = cuda.workspace[:2048]  # of which three nets would have 256 bytes each, and want 1024
    before = Counter(getattr(cuda.xp, "counts", {}))

    def make(i: int) -> tuple[Callable[[], None], State]:
        t = {"x": tensor(np.random.default_rng(i).normal(size=(600, 64)), device=cuda)}
        return lambda: t["x"].assign(t["x"] - ops.mean(t["x"], axis=0)), t

    assert_equal(alone_and_together(cuda, make, 3, 2))
    if before:
        # the mean takes two launches, and is three nets' one after the other; then come the difference and the count
        assert cuda.xp.counts["launches"] - before["launches"] == 2 * 3 * (2 + 2) + 2 * (3 * 2 + 2)


def test_a_launch_has_room_for_eight_nets() -> None:
    cuda = emulated_cuda(orders=())

    def make(i: int) -> tuple[Callable[[], None], State]:
        t = {"x": tensor(np.arange(i, i + 5.0), device=cuda)}
        return lambda: t["x"].assign(t["x"] * t["x"]), t

    before = cuda.xp.counts["launches"]
    assert_equal(alone_and_together(cuda, make, 10, 3))
    assert cuda.xp.counts["launches"] - before == 3 * 2 * 10 + 3 * (2 + 2)  # the product, and the count of steps


def test_one_that_is_not_finite_stops_alone(cuda: Any) -> None:
    def make(i: int) -> tuple[Callable[[], None], State]:
        t = {"x": tensor(np.float32([1, 1e30, 1e20][i]), device=cuda), "n": tensor(np.float32(0), device=cuda)}

        def step() -> None:
            grown = t["x"] * 1e4
            mode.trace.watch(grown)  # type: ignore[union-attr]
            t["x"].assign(grown)
            t["n"].assign(t["n"] + 1.0)

        return step, t

    assert assert_equal(alone_and_together(cuda, make, 3, 4)) == [4, 2, 4]
    assert (tensor([1.0], device=cuda) + 1.0).tolist() == [2.0]  # and eager ops go on


def test_a_row_out_of_range_is_told_of_the_net_that_has_it(cuda: Any) -> None:
    def make(i: int) -> tuple[Callable[[], None], State]:
        t = {"x": tensor(np.arange(3.0), device=cuda), "row": tensor(np.int64([i + 1]), device=cuda)}
        return lambda: t["x"].assign(t["x"] + ops.gather(t["x"], t["row"])), t

    told = assert_equal(alone_and_together(cuda, make, 3, 2))
    assert told[:2] == [2, 2] and "3 is out of range" in str(told[2])


def test_what_python_does_between_graphs_is_of_no_kind(cuda: Any) -> None:
    @op(shape=ops.same)
    def doubled(dev: Device, out: Any, x: Any) -> None:
        out[...] = 2 * x

    x = tensor(np.arange(6.0), device=cuda)
    assert kind(compile(lambda: x.assign(doubled(x))).program()) is None
    y = tensor(np.arange(6.0))
    assert kind(compile(lambda: y.assign(y + 1.0)).program()) is None  # the CPU's, which has threads


# ---------------------------------------------------------------- trainers


def trainers(device: Any, count: int = 3, lr: float = 2e-3, **net: Any) -> list[Trainer]:
    rule = {"clip_norm": 1.0, "schedule": "cosine"}
    return [
        Trainer(nn.MLP(64, 16, 10, **net), losses.cross_entropy, optim.AdamW(lr=lr, **rule), device=device, seed=i)
        for i in range(count)
    ]


def fit(trainer: Trainer, i: int, **how: Any) -> None:
    """On all rows but some, one more or less for each net: their last batches differ."""
    held_out = np.arange(30 * i, 30 * i + 29 + i % 2)
    train = np.delete(np.arange(ROWS), held_out)
    settings = {"epochs": 3, "batch_size": 20, "show_progress": False, **how}
    trainer.fit((X[train], Y[train]), validation=(X[held_out], Y[held_out]), **settings)


def in_turn_and_together(cuda: Any, make: Callable[[], list[Trainer]], **how: Any) -> list[list[Trainer]]:
    made = [make(), make()]
    for group, at_a_time in zip(made, (1, len(made[0])), strict=True):
        train_together(group, lambda i, group=group: fit(group[i], i, **how), at_a_time=at_a_time)  # type: ignore[misc]
    for one, other in zip(*made, strict=True):
        assert one.history == other.history and one.history.info()["stopped"] == other.history.info()["stopped"]
        assert one.best_epoch == other.best_epoch and one.step == other.step
        weights = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
        assert all(a.tobytes() == b.tobytes() for a, b in weights)
    return made


@pytest.mark.parametrize("net", NETS)
def test_nets_trained_together_have_the_bits_of_one_after_the_other(cuda: Any, net: str) -> None:
    in_turn_and_together(cuda, lambda: trainers(cuda, **NETS[net]))


def test_nets_stop_when_they_would_alone(cuda: Any) -> None:
    _, made = in_turn_and_together(cuda, lambda: trainers(cuda, lr=0.1), epochs=30, patience=2)
    assert len({trainer.history.epochs for trainer in made}) > 1
    assert {trainer.history.stopped for trainer in made} == {"patience"}


def test_a_step_of_five_nets_takes_the_launches_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunet.train.trainer.CHUNK_SECONDS", 1e9)
    found, real = [], Company._outcomes
    for nets in (1, 5):
        cuda, ran = emulated_cuda(orders=()), []

        def counted(company: Company, *asked: Any, cuda: Any = cuda, ran: Any = ran) -> Any:
            before = cuda.xp.counts.copy()
            told = real(company, *asked)
            ran.append(cuda.xp.counts - before)
            return told

        monkeypatch.setattr(Company, "_outcomes", counted)
        group, company = trainers(cuda, nets, **NETS["gelu and dropout"]), Company(nets, nets)

        def train(i: int, group: Any = group, company: Any = company) -> None:
            with company.member(group[i]):
                fit(group[i], i % 3, epochs=2, batch_size=10, drop_last=True)

        with ThreadPoolExecutor(nets) as pool:
            list(pool.map(train, range(nets)))
        found.append(ran[-1])  # of the last chunk, which is the second epoch
    assert found[0]["launches"] == found[1]["launches"] > 9 * 10 and not found[1]["products"]
    assert found[0]["graph launches"] == found[1]["graph launches"] == 9 and found[1]["downloads"] == 1


def test_whoever_comes_first_the_same_nets_are_joined_once(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(Several):
        def __init__(self, programs: Any) -> None:
            made.append(len(programs))
            super().__init__(programs)

    monkeypatch.setattr(together, "Several", Counted)
    monkeypatch.setattr("gpunet.train.trainer.CHUNK_SECONDS", 1e-9)  # so that they meet often
    nets = trainers(cuda)
    train_together(nets, lambda i: fit(nets[i], i, epochs=12, patience=None), at_a_time=3)
    assert made == [3, 3]  # a batch, and what is left of an epoch


def test_one_that_diverges_ends_the_others(cuda: Any) -> None:
    group = trainers(cuda)
    x = X.copy()
    x[50] = np.nan

    def train(i: int) -> None:
        settings = {"epochs": 10**4, "batch_size": 20, "show_progress": False}
        group[i].fit((x if i == 1 else X, Y), **settings)

    with pytest.raises(DivergedError, match="row .* of the batch"):
        train_together(group, train, at_a_time=3)
    assert [trainer.history.stopped for trainer in (group[0], group[2])] == ["interrupted"] * 2
    assert all(trainer.runner.__name__ == "run" and trainer.runner.__qualname__ == "Program.run" for trainer in group)


def test_ctrl_c_ends_all_of_them(cuda: Any) -> None:
    group, begun = trainers(cuda, 4), []

    class Interrupt:
        def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Any) -> None:
            if trainer is group[1] and epoch == 2:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def train(i: int) -> None:
        begun.append(i)
        fit(group[i], i, epochs=10**4, callbacks=[Interrupt()])

    with pytest.raises(KeyboardInterrupt):
        train_together(group, train, at_a_time=3)
    assert sorted(begun) == [0, 1, 2] and {group[i].history.stopped for i in begun} == {"interrupted"}


def test_fewer_at_a_time_than_there_are(cuda: Any) -> None:
    one, other = trainers(cuda, 4), trainers(cuda, 4)
    for group, at_a_time in ((one, 1), (other, 2)):
        train_together(group, lambda i, group=group: fit(group[i], i, epochs=1 + i), at_a_time=at_a_time)  # type: ignore[misc]
    assert [a.history == b.history for a, b in zip(one, other, strict=True)] == [True] * 4
    assert [trainer.history.epochs for trainer in other] == [1, 2, 3, 4]


def test_time_ends_all_of_them(cuda: Any) -> None:
    group = trainers(cuda)
    train_together(group, lambda i: fit(group[i], i, epochs=10**4, max_seconds=0.2))
    assert {trainer.history.stopped for trainer in group} == {"time"}


def test_how_many_at_a_time() -> None:
    cuda = emulated_cuda(orders=())
    cuda._device.mem_info = 1 << 20, 1 << 30
    assert concurrency(trainers(cuda)) == 3
    assert concurrency(trainers(cuda), nbytes=1 << 18) == 2  # half of the memory is for data
    assert concurrency(trainers(cuda), nbytes=1 << 20) == 1
    assert concurrency([*trainers(cuda, 1), *trainers("cpu", 1)]) == 1
    for how in ({"compile": False}, {"precision": "tf32"}, {"autotune": True}, {"optimizer": optim.LBFGS()}):
        made = [Trainer(nn.MLP(4, 4, 2), device=cuda, **how) for _ in range(2)]  # type: ignore[arg-type]
        assert concurrency(made) == 1
    assert concurrency([Trainer(nn.MLP(2048, 2049, 2), device=cuda) for _ in range(2)]) == 1


# ---------------------------------------------------------------- estimators


@pytest.mark.parametrize("how", [{}, {"cv": 3}, {"preset": "classic", "n_ensemble": 3}], ids=str)
def test_estimators_train_their_nets_together(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    x = {"a": X[:75, 20], "b": X[:75, 30], "c": np.array(list("abcde"))[Y[:75] % 5]}
    made, ran = [], Counter[int]()
    real = Several.run
    monkeypatch.setattr(Several, "run", lambda self, steps: (ran.update([len(self.programs)]), real(self, steps))[1])
    for at_a_time in (1, None):
        if at_a_time:
            monkeypatch.setattr(base, "concurrency", lambda trainers, **data: 1)
        else:
            monkeypatch.setattr(base, "concurrency", concurrency)
        monkeypatch.setitem(select._opened, "cuda:0", emulated_cuda(orders=()))
        settings = {"max_iter": 2, "hidden_layer_sizes": (8,), "device": "cuda:0", "random_state": 0, **how}
        made.append(gpunet.MLPClassifier(**settings).fit(x, Y[:75] > 4))
        assert bool(ran) == (at_a_time is None)
    assert set(ran) == {len(made[1].histories_)} and len(made[1].histories_) > 1
    assert made[0].histories_ == made[1].histories_
    assert made[0].predict_proba(x).tobytes() == made[1].predict_proba(x).tobytes()


def test_callbacks_see_one_net_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class See(gpunet.train.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
            seen.append((trainer.seed, epoch))

    monkeypatch.setitem(select._opened, "cuda:0", emulated_cuda(orders=()))
    settings = {"max_iter": 2, "hidden_layer_sizes": (8,), "device": "cuda:0", "random_state": 0, "preset": "classic"}
    gpunet.MLPClassifier(cv=2, callbacks=[See()], **settings).fit(X[:40], Y[:40] > 4)
    assert [epoch for _, epoch in seen] == [1, 2, 1, 2] and seen == sorted(seen)
