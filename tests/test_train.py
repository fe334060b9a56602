"""The trainer: the same bits twice and compiled or not, what is kept and when it stops, and what goes wrong."""

from __future__ import annotations

import io
import logging
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from gpunet import losses, metrics, nn, ops, optim
from gpunet.data import toys
from gpunet.devices import Device
from gpunet.devices.cpu import CPU
from gpunet.engine import Tensor, no_grad
from gpunet.errors import ConfigError, DataError, DivergedError, DTypeError, ShapeError
from gpunet.train import BestWeights, Callback, History, Trainer
from gpunet.train.callbacks import Bar, Lines, progress
from gpunet.train.trainer import auto_batch_size

X, Y = toys.spirals(203, seed=4)
VALUES = np.sin(3 * X[:, :1]) + X[:, 1:]
QUIET: dict[str, Any] = {"show_progress": False}
State = dict[str, np.ndarray]


def made(
    *, seed: int = 1, compile: bool = True, device: Device | str = "cpu", optimizer: Any = None, loss: Any = "cross_entropy",
    metrics: Any = None, **settings: Any,
) -> Trainer:  # fmt: skip
    net = nn.MLP(2, 12, 12, 1 if loss == "mse" else 3, **{"activation": "tanh", **settings})
    optimizer = optimizer or optim.AdamW(lr=0.02)
    return Trainer(net, loss, optimizer, seed=seed, compile=compile, device=device, metrics=metrics)


def state(trainer: Trainer) -> State:
    return trainer.model.state_dict()


def equal(one: State, other: State) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[n], other[n], equal_nan=True) for n in one)


def close(one: State, other: State, **tolerance: float) -> None:
    for name in one:
        np.testing.assert_allclose(one[name], other[name], **{"rtol": 1e-4, "atol": 1e-5, **tolerance}, err_msg=name)


# ---------------------------------------------------------------- the same bits

HARD: dict[str, Any] = {"dropout": 0.2, "norm": "batch", "residual": True}


@pytest.mark.parametrize("compile", [True, False])
def test_one_seed_gives_the_same_bits_twice(compile: bool) -> None:
    def run(seed: int) -> tuple[State, History]:
        trainer = made(seed=seed, compile=compile, **HARD)
        return state(trainer), trainer.fit((X, Y), validation=0.2, epochs=3, batch_size=16, **QUIET), state(trainer)  # type: ignore[return-value]

    one, other = run(5), run(5)
    assert equal(one[0], other[0]) and equal(one[2], other[2]) and dict(one[1]) == dict(other[1])
    assert not equal(one[2], run(6)[2])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"average": 0.9},
        {"accumulate": 3},
        {"shuffle": False, "drop_last": True},
    ],
    ids=str,
)
def test_compiled_and_op_by_op_give_the_same_bits(settings: dict[str, Any]) -> None:
    found = []
    for compile in (True, False):
        optimizer = optim.AdamW(
            lr=0.02, schedule="one_cycle", clip_norm=1.0, groups=[{"match": "*.bias", "weight_decay": 0.0}]
        )
        trainer = made(compile=compile, optimizer=optimizer, **HARD)
        history = trainer.fit((X, Y), validation=0.2, epochs=3, batch_size=24, **settings, **QUIET)
        found.append((state(trainer), dict(history), trainer.optimizer.state_dict()))
    assert equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert all(np.array_equal(found[0][2][name], a) for name, a in found[1][2].items() if isinstance(a, np.ndarray))


def test_numpy_and_native_start_alike_see_the_same_batches_and_agree_to_rounding(native_device: Device) -> None:
    found = []
    for device in (CPU(native=False), native_device):
        trainer, batches = made(device=device, dropout=0.3), []
        plain = trainer._value_and_gradient

        def watched(data: Any, size: int, plain: Any = plain, batches: list[Any] = batches) -> Any:
            start = data.cursor.item()
            batches.append(data.order.numpy()[start : start + size].tolist())
            return plain(data, size)

        trainer.compiles, trainer._value_and_gradient = False, watched  # type: ignore[method-assign]
        before = state(trainer)
        mask = nn.Dropout(0.3).initialize(1).to(device)(np.ones((4, 50), np.float32)).numpy()
        history = trainer.fit((X, Y), epochs=2, batch_size=32, **QUIET)
        found.append((before, batches, mask, history["loss"], state(trainer)))
    one, other = found
    assert equal(one[0], other[0]) and one[1] == other[1] and np.array_equal(one[2], other[2])
    np.testing.assert_allclose(one[3], other[3], rtol=1e-5)
    close(one[4], other[4])


def test_the_standin_of_a_gpu_agrees_too(standin: Device) -> None:
    runs = []
    for device in (standin, CPU(native=False)):
        trainer = made(device=device, dropout=0.2)
        assert trainer.compiles == (device.kind == "cpu") and {t.device for t in trainer.model.parameters()} == {device}
        history = trainer.fit((X, Y), validation=0.2, epochs=2, **QUIET)
        runs.append((state(trainer), history["val_loss"]))
    close(runs[0][0], runs[1][0])
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-4)


def test_threads_train_side_by_side_and_in_nobodys_way() -> None:
    alone = made()
    alone.fit((X, Y), epochs=3, **QUIET)
    trainers, errors = [made() for _ in range(3)], []

    def run(trainer: Trainer) -> None:
        try:
            trainer.fit((X, Y), epochs=3, **QUIET)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(trainer,)) for trainer in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors and all(equal(state(trainer), state(alone)) for trainer in trainers)


# ---------------------------------------------------------------- data


def test_a_net_learns_and_the_history_tells_it() -> None:
    trainer = made(optimizer=optim.AdamW(lr=0.05))
    history = trainer.fit((X, Y), validation=0.25, epochs=30, batch_size=16, **QUIET)
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"] and {len(v) for v in history.values()} == {30}
    assert history["val_accuracy"][history.best_epoch - 1] == max(history["val_accuracy"]) > 0.85
    assert history.epochs == 30 and history.stopped == "finished" and history.monitor == "val_accuracy"
    assert history.seconds > 0 and history.rows_per_second > 0 and history.at(1)["loss"] == history["loss"][0]
    assert set(history.info()) == {"epochs", "best_epoch", "monitor", "stopped", "seconds", "rows_per_second"}


def test_a_fraction_is_held_out_by_class_and_equals_the_same_data_given() -> None:
    from gpunet.data.splits import split

    rows, others = split(len(X), (0.8, 0.2), seed=1, stratify=Y)
    one, other = made(), made()
    first = one.fit((X, Y), validation=0.2, epochs=2, **QUIET)
    second = other.fit((X[rows], Y[rows]), validation=(X[others], Y[others]), epochs=2, **QUIET)
    assert dict(first) == dict(second) and equal(state(one), state(other))
    assert np.ptp(np.bincount(Y[others])) <= 1


def test_without_validation_the_loss_chooses() -> None:
    history = made().fit((X, Y), epochs=3, **QUIET)
    assert list(history) == ["loss", "accuracy"] and history.monitor == "loss"
    assert history.best_epoch == int(np.argmin(history["loss"])) + 1


@pytest.mark.parametrize("validation", [0.0, 1.0, -0.1, 2, (X,), X, (X, Y, Y, Y)])
def test_validation_that_is_none(validation: Any) -> None:
    with pytest.raises(ConfigError, match="validation"):
        made().fit((X, Y), validation=validation, epochs=1, **QUIET)


def test_sample_weights_count_as_often_as_they_say() -> None:
    weight = 1.0 + (np.arange(len(X)) % 3 == 0)
    twice = np.repeat(np.arange(len(X)), weight.astype(int))
    one, other = made(optimizer=optim.SGD(lr=0.1)), made(optimizer=optim.SGD(lr=0.1))
    one.fit((X, Y, weight), epochs=3, batch_size=len(X), **QUIET)
    other.fit((X[twice], Y[twice]), epochs=3, batch_size=len(twice), **QUIET)
    close(state(one), state(other))
    a, b = one.evaluate((X, Y, weight)), other.evaluate((X[twice], Y[twice]))
    assert a == pytest.approx(b, rel=1e-5) and a["accuracy"] != one.evaluate((X, Y))["accuracy"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [2, 5])
def test_accumulated_micro_batches_equal_the_big_batch(k: int, weighted: bool) -> None:
    data = (X, Y, np.linspace(0.1, 3, len(X))) if weighted else (X, Y)
    runs = []
    for accumulate in (1, k):
        trainer = made(optimizer=optim.SGD(lr=0.1, momentum=0.9))
        history = trainer.fit(data, epochs=2, batch_size=32, accumulate=accumulate, **QUIET)
        runs.append((state(trainer), history["loss"]))
    close(runs[0][0], runs[1][0])
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-5)


def test_soft_targets_and_integer_features() -> None:
    soft = made()
    history = soft.fit((X, np.eye(3)[Y]), validation=0.2, epochs=2, **QUIET)
    assert "val_accuracy" in history
    assert soft.evaluate((X, np.eye(3)[Y]))["accuracy"] == soft.evaluate((X, Y))["accuracy"]
    pixels = (np.clip(X, -1, 1) * 100 + 100).astype(np.uint8)
    one, other = made(), made()
    one.fit((pixels, Y), epochs=1, **QUIET)
    other.fit((pixels.astype(np.float32), Y), epochs=1, **QUIET)
    assert equal(state(one), state(other))


def test_embeddings_take_their_codes_through_the_trainer() -> None:
    codes = np.arange(60).reshape(20, 3) % 7
    net = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 2))
    history = Trainer(net, optimizer=optim.Adam(lr=0.05), device="cpu").fit(
        (codes, codes[:, 0] % 2), epochs=20, **QUIET
    )
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_a_tail_of_one_row_joins_its_neighbour_for_batch_norm_only() -> None:
    rows = slice(0, 33)
    sizes: dict[bool, set[int]] = {}
    for norm in (None, "batch"):
        trainer = made(norm=norm)
        trainer.fit((X[rows], Y[rows]), epochs=1, batch_size=16, **QUIET)
        sizes[norm == "batch"] = set(trainer._programs)
    assert sizes == {False: {16, 1}, True: {16, 17}}
    made(norm="batch").fit((X[:37], Y[:37]), epochs=1, batch_size=16, accumulate=4, **QUIET)  # 2, 1, 1, 1 would not do
    with pytest.raises(ShapeError, match=r"layer .1. \(BatchNorm1d\) got a batch of 1 row"):
        made(norm="batch").fit((X[:1], Y[:1]), epochs=1, **QUIET)
    dropped = made()
    dropped.fit((X[rows], Y[rows]), epochs=1, batch_size=16, drop_last=True, **QUIET)
    assert set(dropped._programs) == {16} and dropped.step == 2


def test_auto_batch_size() -> None:
    assert [auto_batch_size(n) for n in (1, 150, 3600, 60_000, 10**8)] == [16, 16, 64, 256, 256]


# ---------------------------------------------------------------- what is kept, and when it ends


class Scripted(Callback):
    """Replaces a figure of each epoch, before the trainer's own callbacks see it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, values: list[float]) -> None:
        self.weights: list[State] = []
        plain = Trainer._validate

        def validate(trainer: Trainer, held_out: Any) -> dict[str, float]:
            self.weights.append(trainer.snapshot())
            return plain(trainer, held_out) | {name: values[trainer.epoch - 1]}

        monkeypatch.setattr(Trainer, "_validate", validate)


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float], name: str = "val_loss", **settings: Any) -> Any:
    script, trainer = Scripted(monkeypatch, name, values), made()
    history = trainer.fit((X, Y), validation=0.2, epochs=len(values), monitor=name, **{**QUIET, **settings})
    return trainer, history, script.weights


def test_the_weights_of_the_best_epoch_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, history, weights = scripted(monkeypatch, [3.0, 1.0, 2.0, 1.0, 5.0])
    assert history.best_epoch == 2 and equal(state(trainer), weights[1]) and not equal(weights[1], weights[4])


def test_greater_is_better_where_the_metric_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scripted(monkeypatch, [0.3, 0.9, 0.5], "val_accuracy")[1].best_epoch == 2


def test_of_equal_accuracies_the_lower_loss_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    Scripted(monkeypatch, "val_loss", [0.5, 0.3, 0.4])
    assert scripted(monkeypatch, [0.9, 0.9, 0.9], "val_accuracy")[1].best_epoch == 2


def test_a_figure_that_cannot_be_told_is_worse_than_any(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scripted(monkeypatch, [float("nan"), 2.0, 1.0, float("nan")])[1].best_epoch == 3


def test_the_last_weights_stay_if_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, history, weights = scripted(monkeypatch, [1.0, 2.0, 3.0, 4.0], restore_best=False, patience=2)
    assert history.epochs == 3 and history.stopped == "patience" and equal(state(trainer), weights[2])
    assert history.best_epoch == 0, "no epoch was chosen"


@pytest.mark.parametrize(
    ("patience", "values", "epochs"),
    [
        (2, [3.0, 2.0, 2.5, 2.4, 1.0], 4),
        (2, [3.0, 2.0, 2.5, 1.9, 2.0, 2.0, 1.0], 6),
        (1, [1.0, 1.0, 0.0], 2),
        (0, [1.0, 0.9, 0.95, 0.0], 3),
        (None, [1.0, 2.0, 3.0], 3),
    ],
)
def test_patience(monkeypatch: pytest.MonkeyPatch, patience: int | None, values: list[float], epochs: int) -> None:
    history = scripted(monkeypatch, values, patience=patience)[1]
    assert history.epochs == epochs and history.stopped == ("patience" if epochs < len(values) else "finished")


def test_max_seconds_ends_after_the_epoch_it_falls_into() -> None:
    history = made().fit((X, Y), epochs=100_000, max_seconds=0.2, **QUIET)
    assert history.stopped == "time" and 1 <= history.epochs < 100_000 and 0.2 <= history.seconds < 5


def test_the_average_is_what_is_evaluated_and_kept() -> None:
    class Watch(Callback):
        average: list[np.ndarray]

        def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
            self.average = [a.numpy().copy() for a in trainer._average.vectors]
            self.plain = [group.vector.numpy().copy() for group in trainer.optimizer.groups]

    for restore in (True, False):
        watch, trainer = Watch(), made()
        history = trainer.fit(
            (X, Y), validation=(X, Y), epochs=1, average=0.9, restore_best=restore, callbacks=[watch], **QUIET
        )
        kept = [group.vector.numpy() for group in trainer.optimizer.groups]
        assert all(np.array_equal(a, b) for a, b in zip(kept, watch.average, strict=True)), restore
        assert not np.array_equal(kept[0], watch.plain[0])
        assert trainer.evaluate((X, Y))["loss"] == pytest.approx(history["val_loss"][0])


def test_lbfgs_takes_all_rows_and_refuses_what_it_cannot_use() -> None:
    trainer = made(optimizer=optim.LBFGS(), loss="mse")
    history = trainer.fit((X, VALUES), epochs=40, average=0.5, **QUIET)
    assert history["loss"][-1] < 0.1 * history["loss"][0] and all(np.diff(history["loss"]) <= 0) and trainer.step == 40
    for settings, says in (({"batch_size": 10}, "batch_size=10"), ({"accumulate": 2}, "accumulate=2")):
        with pytest.raises(ConfigError, match=f"LBFGS needs all rows in every step; leave {says} out"):
            made(optimizer=optim.LBFGS()).fit((X, Y), epochs=1, **settings, **QUIET)
    with pytest.raises(ConfigError, match="leave Dropout out"):
        made(optimizer=optim.LBFGS(), dropout=0.1).fit((X, Y), epochs=1, **QUIET)
    made(optimizer=optim.LBFGS()).fit((X, Y), epochs=1, batch_size=len(X), **QUIET)
    broken = X.copy()
    broken[17, 1] = np.inf
    with pytest.raises(DivergedError, match=r"epoch 1, step 1: the data: row \d+ of the batch, column 1, is inf"):
        made(optimizer=optim.LBFGS()).fit((broken, Y), epochs=3, **QUIET)


def test_fit_goes_on_where_the_last_one_ended() -> None:
    trainer = made(optimizer=optim.AdamW(lr=0.05, schedule="cosine"))
    first = trainer.fit((X, Y), validation=0.2, epochs=10, **QUIET)
    second = trainer.fit((X, Y), validation=0.2, epochs=10, **QUIET)
    assert first is not second and second.epochs == 10 and second["loss"][0] < first["loss"][0]
    assert trainer.optimizer.t.item() == 2 * trainer.step
    other = Trainer(trainer.model, optimizer="sgd", device="cpu")
    other.fit((X, Y), epochs=1, **QUIET)
    with pytest.raises(Exception, match="taken over by another optimizer"):
        trainer.fit((X, Y), epochs=1, **QUIET)


@pytest.mark.parametrize("setting", ["epochs", "batch_size", "accumulate"])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_counts_are_whole_and_positive(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{setting} must be a whole number of at least 1, got {value}"):
        made().fit((X, Y), **{"epochs": 1, setting: value}, **QUIET)


# ---------------------------------------------------------------- callbacks

MOMENTS = [name for name in vars(Callback) if name.startswith("on_")]


class Recorder:
    """No subclass: an object whose method names are the moments."""

    def __init__(self) -> None:
        self.moments: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name not in MOMENTS:
            raise AttributeError(name)
        return lambda trainer, *args: self.moments.append(name.removeprefix("on_"))


def test_callbacks_are_told_every_moment_in_order() -> None:
    one, order = Recorder(), []

    class Last(Callback):
        def on_chunk_end(self, trainer: Any, step: int) -> None:
            order.append(("chunk", step))

        def on_epoch_end(self, trainer: Any, epoch: int, logs: dict[str, float]) -> None:
            order.append(("epoch", epoch))
            assert trainer.history.at(epoch) == logs and trainer.epoch == epoch and trainer.epochs == 2

    made().fit((X, Y), epochs=2, batch_size=64, callbacks=[one, Last()], **QUIET)  # 64, 64, 64 and a tail of 11
    chunks = one.moments[2:].index("epoch_end") // 2
    epoch = ["epoch_begin", *["chunk_begin", "chunk_end"] * chunks, "epoch_end"]
    assert one.moments[: len(epoch) + 1] == ["train_begin", *epoch] and one.moments[-2:] == ["epoch_end", "train_end"]
    steps = [n for kind, n in order if kind == "chunk"]
    assert steps == sorted(set(steps)) and steps[-1] == 8 and ("epoch", 1) in order


def test_a_callback_ends_training_and_the_reason_is_told() -> None:
    class Stop(Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
            if epoch == 2:
                trainer.stop()

    history = made().fit((X, Y), epochs=9, callbacks=[Stop()], **QUIET)
    assert history.epochs == 2 and history.stopped == "callback"


@pytest.mark.parametrize("moment", [m for m in MOMENTS if m not in ("on_train_break",)])
def test_an_error_in_a_callback_leaves_everything_usable(moment: str) -> None:
    class Broken(Callback):
        pass

    def fail(self: Any, trainer: Any, *args: Any) -> None:
        raise ZeroDivisionError(moment)

    setattr(Broken, moment, fail)
    trainer, watch, before = made(), Recorder(), signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError, match=moment):
        trainer.fit((X, Y), validation=0.2, epochs=3, average=0.9, callbacks=[watch, Broken()], show_progress="bar")
    assert signal.getsignal(signal.SIGINT) is before
    assert watch.moments[-1] == "train_break"
    assert all(np.isfinite(a).all() for a in state(trainer).values())
    assert trainer.fit((X, Y), validation=0.2, epochs=2, **QUIET).epochs == 2


def test_best_weights_of_the_users_own() -> None:
    own = BestWeights("val_loss", greater_is_better=False)
    trainer = made()
    trainer.fit((X, Y), validation=0.2, epochs=3, restore_best=False, callbacks=[own], **QUIET)
    assert own.state is not None and equal(state(trainer), own.state)
    with pytest.raises(ConfigError, match='monitor "val_acuracy" is not measured.* Did you mean "val_accuracy"'):
        trainer.fit((X, Y), validation=0.2, epochs=1, monitor="val_acuracy", **QUIET)


# ---------------------------------------------------------------- losses and metrics of the user's own


def test_a_custom_loss_is_compiled_and_a_custom_metric_measured() -> None:
    def cubed(z: Tensor, t: Tensor) -> Tensor:
        return ops.mean(ops.abs(z - t) ** 3)

    def worst(y: np.ndarray, outputs: np.ndarray) -> float:
        return float(np.abs(y - outputs).max())

    trainer = Trainer(nn.MLP(2, 8, 1), cubed, "adam", device="cpu", metrics=[worst, "mae"])
    history = trainer.fit((X, VALUES), validation=0.2, epochs=3, **QUIET)
    assert list(history) == ["loss", "worst", "mae", "val_loss", "val_worst", "val_mae"] and trainer._programs
    assert history.monitor == "val_mae", "nobody said which way `worst` is better"
    with pytest.raises(ConfigError, match=r"is more of it better\? Say so by worst.greater_is_better = True"):
        trainer.fit((X, VALUES), validation=0.2, epochs=1, monitor="val_worst", **QUIET)
    worst.greater_is_better = False  # type: ignore[attr-defined]
    trainer = Trainer(nn.MLP(2, 8, 1), cubed, "adam", device="cpu", metrics=[worst])
    assert trainer.fit((X, VALUES), validation=0.2, epochs=1, **QUIET).monitor == "val_worst"


def test_a_loss_that_cannot_be_traced_runs_op_by_op_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def peeking(z: Tensor, t: Tensor) -> Tensor:
        loss = losses.cross_entropy(z, t)
        calls.append(loss.item())
        return loss

    trainer, plain = made(loss=peeking, metrics=["accuracy"]), made()
    with caplog.at_level(logging.WARNING, "gpunet"):
        history = trainer.fit((X, Y), epochs=2, batch_size=64, **QUIET)  # two batch sizes
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["training_step runs eagerly"]
    assert "item()" in caplog.text and "test_train.py" in caplog.text
    other = plain.fit((X, Y), epochs=2, batch_size=64, **QUIET)
    assert equal(state(trainer), state(plain)) and history["loss"] == other["loss"] and trainer.step == 8 == len(calls)
    broken = X.copy()
    broken[5, 0] = np.nan
    with pytest.raises(DivergedError, match="epoch 1, step 1: the data"):
        made(loss=peeking).fit((broken, Y), epochs=1, shuffle=False, **QUIET)


def test_metrics_and_losses_go_by_name() -> None:
    trainer = made(metrics=["auc", "f1_macro", "top_k_accuracy:2", "log_loss"])
    found = trainer.evaluate((X, Y))
    z = trainer.predict(X)
    p = np.exp(z - z.max(1, keepdims=True))
    assert list(found) == ["loss", "auc", "f1_macro", "top_k_accuracy:2", "log_loss"]
    assert found["auc"] == pytest.approx(metrics.auc(Y, p / p.sum(1, keepdims=True)), rel=1e-6)
    assert found["loss"] == pytest.approx(found["log_loss"], rel=1e-4)
    for wrong, says in (
        ({"metrics": ["acc"]}, "acc"),
        ({"loss": "crossentropy"}, "cross_entropy"),
        ({"optimizer": "adamm"}, "adam"),
    ):
        with pytest.raises(ConfigError, match=says):
            made(**wrong)


def test_shapes_that_would_broadcast_or_do_not_fit() -> None:
    with pytest.raises(
        ShapeError, match=r"mse: predictions \(16, 1\) and targets \(16,\) would broadcast to \(16, 16\)"
    ):
        made(loss="mse").fit((X, VALUES[:, 0]), epochs=1, **QUIET)
    with pytest.raises(ShapeError, match=r'layer "0" \(Linear 2 -> 12\) got 3 columns; it takes 2'):
        made().fit((np.zeros((50, 3)), Y[:50]), epochs=1, **QUIET)
    with pytest.raises(ShapeError, match="number of rows"):
        made().fit((X, Y[:5]), epochs=1, **QUIET)
    with pytest.raises(DTypeError, match="integers wanted"):
        made().fit((X, Y.astype(float)), epochs=1, **QUIET)
    with pytest.raises(ConfigError, match=r"train: \(x, y\) or \(x, y, weight\) wanted, got ndarray"):
        made().fit(X, epochs=1, **QUIET)
    with pytest.raises(DataError, match="no rows"):
        made().fit((X[:0], Y[:0]), epochs=1, **QUIET)
    with pytest.raises(ShapeError, match=r"the loss gave the shape \(16, 3\)"):
        made(loss=lambda z, t: z * 1.0).fit((X, Y), epochs=1, **QUIET)


# ---------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("compile", [True, False])
def test_nan_in_the_data_is_named_and_the_model_stays_as_before_that_step(compile: bool, norm: str | None) -> None:
    broken = X.copy()
    broken[77, 1] = np.nan
    trainer, before = made(compile=compile, norm=norm, dropout=0.2), made(compile=False, norm=norm, dropout=0.2)
    with pytest.raises(
        DivergedError, match="epoch 1, step 10: the data: row 5 of the batch, column 1, is nan"
    ) as caught:
        trainer.fit((broken, Y), epochs=3, batch_size=8, shuffle=False, validation=(X, Y), **QUIET)
    assert "Lower the learning rate (now 0.02)" in str(caught.value) and caught.value.exit_code == 5
    before.fit((X[:72], Y[:72]), epochs=1, batch_size=8, shuffle=False, **QUIET)
    assert equal(state(trainer), state(before)), "weights and statistics of the nine good steps"


@pytest.mark.parametrize("compile", [True, False])
def test_nan_in_the_weights_is_named(compile: bool) -> None:
    trainer = made(compile=compile)
    weights = state(trainer)
    weights["1.weight"][2, 3] = np.nan
    trainer.model.load_state_dict(weights)
    with pytest.raises(
        DivergedError, match=r"epoch 1, step 1: the parameter 1.weight holds values that are not finite"
    ):
        trainer.fit((X, Y), epochs=1, **QUIET)
    assert equal(state(trainer), weights)


@pytest.mark.parametrize("compile", [True, False])
def test_a_huge_learning_rate_diverges_with_a_name_and_finite_weights(compile: bool) -> None:
    trainer = made(loss="mse", activation="relu", optimizer=optim.SGD(lr=1e15), compile=compile)
    with pytest.raises(
        DivergedError, match=r'epoch 1, step [2-9]: (layer "\d" \(Linear|the gradient of \d\.|the loss)'
    ):
        trainer.fit((X, VALUES), epochs=50, batch_size=16, **QUIET)
    assert trainer.step + 1 < 9 and all(np.isfinite(a).all() for a in state(trainer).values())


def test_an_op_that_overflows_is_named_by_its_layer() -> None:
    class Explodes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ops.exp(x * 1000.0)

    net = nn.Sequential(nn.Linear(2, 4), Explodes(), nn.Linear(4, 3))
    with pytest.raises(
        DivergedError, match=r'step 1: layer "1" \(Explodes\) gave \d+ values that are not finite, first at row \d+'
    ):
        Trainer(net, device="cpu").fit((X, Y), epochs=1, **QUIET)


# ---------------------------------------------------------------- Ctrl-C

SCRIPT = """
import signal, sys, time
import numpy as np
from gpunet import Trainer, nn
from gpunet.data import toys
from gpunet.train import Callback
x, y = toys.spirals(400)
class Say(Callback):
    def on_epoch_end(self, trainer, epoch, logs):
        if epoch == 3: print("going", flush=True)
def slow(z, t):
    if {slow} and net.training: time.sleep(30)
    from gpunet import losses
    return losses.cross_entropy(z, t)
net = nn.MLP(2, 16, 3)
trainer = Trainer(net, slow, "adam", device="cpu", compile={compile}, metrics=["accuracy"])
if {slow}: print("going", flush=True)
history = trainer.fit((x, y), validation=0.2, epochs=10**6, callbacks=[Say()], show_progress=False)
best = max(history["val_accuracy"])
print(history.stopped, history.best_epoch == history["val_accuracy"].index(best) + 1 or "tie", flush=True)
print(bool(np.isfinite(trainer.predict(x)).all()), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def script(**settings: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(**settings)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "going\n", process.communicate()
    return process


def test_ctrl_c_leaves_a_usable_model_with_its_best_weights() -> None:
    process = script(slow=False, compile=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    stopped, usable = out.splitlines()
    assert stopped in ("interrupted True", "interrupted tie") and usable == "True True"


def test_a_second_ctrl_c_ends_at_once() -> None:
    process = script(slow=True, compile=False)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None, "the first one waits for the step"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode != 0 and "KeyboardInterrupt" in err


def test_an_interruption_keeps_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupt(Callback):
        def on_chunk_end(self, trainer: Any, step: int) -> None:
            if trainer.epoch == 4:
                signal.raise_signal(signal.SIGINT)

    trainer, history, weights = scripted(monkeypatch, [3.0, 1.0, 2.0, 4.0, 0.0], callbacks=[Interrupt()], batch_size=16)
    assert history.stopped == "interrupted" and history.epochs == 3 and equal(state(trainer), weights[1])


def test_an_interruption_before_the_first_step_leaves_no_figures() -> None:
    class Interrupt(Callback):
        def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
            signal.raise_signal(signal.SIGINT)

    trainer = made()
    before = state(trainer)
    history = trainer.fit((X, Y), validation=0.2, epochs=5, callbacks=[Interrupt()], **QUIET)
    assert history.stopped == "interrupted" and history.epochs == 0 and not history and equal(state(trainer), before)


# ---------------------------------------------------------------- progress


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    history = made().fit((X, Y), validation=0.2, epochs=3)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert not out and len(lines) == 3 and lines[0].startswith("epoch 1/3  loss ") and " rows/s" in lines[0]
    assert f"val_loss {history['val_loss'][1]:.4g}" in lines[1] and "\x1b" not in err
    assert lines[history.best_epoch - 1].endswith(" *")
    made().fit((X, Y), epochs=2, show_progress=False)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ConfigError, match='progress.* Did you mean "lines"'):
        made().fit((X, Y), epochs=1, show_progress="line")


def test_lines_can_go_elsewhere() -> None:
    stream = io.StringIO()
    made().fit((X, Y), epochs=2, callbacks=[Lines(stream)], **QUIET)
    assert stream.getvalue().count("\n") == 2


def test_a_bar_on_a_terminal_and_the_cursor_comes_back() -> None:
    code = """
import sys
from gpunet import Trainer, nn
from gpunet.data import toys
x, y = toys.spirals(200)
class Fail:
    def on_epoch_end(self, trainer, epoch, logs):
        if epoch == 2 and len(sys.argv) > 1: raise SystemExit(3)
Trainer(nn.MLP(2, 8, 3), device="cpu").fit((x, y), validation=0.2, epochs=2, callbacks=[Fail()])
"""
    for extra in ([], ["fail"]):
        primary, secondary = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-c", code, *extra],
            stderr=secondary, stdout=subprocess.PIPE, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}, timeout=60,
        )  # fmt: skip
        os.close(secondary)
        shown = b""
        try:
            while piece := os.read(primary, 65536):
                shown += piece
        except OSError:  # Linux says so at the end of a terminal whose other side is closed
            pass
        os.close(primary)
        assert done.returncode == (3 if extra else 0) and not done.stdout
        assert b"epoch" in shown and "━".encode() in shown and b"rows/s" in shown and b"\x1b[?25l" in shown
        assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l"), "the cursor is shown again"
        assert extra or (b"epoch 2/2" in shown and "★".encode() in shown)


def test_progress_picks_by_the_stream() -> None:
    assert isinstance(progress("bar")[0], Bar) and isinstance(progress("lines")[0], Lines) and progress(False) == []
    assert isinstance(progress(True)[0], Lines), "pytest's stderr is no terminal"


# ---------------------------------------------------------------- predict and evaluate


def test_predict_and_evaluate_in_pieces_leave_the_mode_alone() -> None:
    trainer = made(dropout=0.5, norm="batch")
    trainer.fit((X, Y), epochs=1, **QUIET)
    whole = trainer.predict(X)
    np.testing.assert_allclose(trainer.predict(X, batch_size=7), whole, rtol=1e-5, atol=1e-6)
    assert np.array_equal(trainer.predict(X), whole), "no dropout in predictions"
    assert trainer.model.train().training and trainer.predict(X).shape == (203, 3) and trainer.model.training
    with no_grad():
        loss = losses.cross_entropy(trainer.model.eval()(X), Tensor(Y, trainer.device)).item()
    found = trainer.evaluate((X, Y))
    assert found["loss"] == pytest.approx(loss, rel=1e-5) and found["accuracy"] == np.mean(whole.argmax(1) == Y)


def test_a_float64_model_is_trained_in_float64() -> None:
    net = nn.MLP(2, 8, 3).to("float64")
    trainer = Trainer(net, device="cpu")
    trainer.fit((X, Y), epochs=1, **QUIET)
    assert {a.dtype for a in state(trainer).values()} == {np.dtype(np.float64)} and trainer.predict(
        X
    ).dtype == np.float64
