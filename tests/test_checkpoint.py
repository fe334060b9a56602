"""A run that is cut off anywhere and resumed has the bits of the run never interrupted; what has changed is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import emulated_cuda, make, missing

from gpunet import nn, optim
from gpunet.data import Csr, toys
from gpunet.errors import ConfigError, FormatError, RunError
from gpunet.optim.schedules import SCHEDULES
from gpunet.train import Callback, Checkpoint, Trainer, checkpoint

X, Y = toys.spirals(203, seed=4)
EPOCHS = 5
FIT: dict[str, Any] = {"validation": 0.2, "epochs": EPOCHS, "batch_size": 16, "show_progress": False}
ALL = [f"{name}:{'5' if name in ('step', 'warmup') else '0' if name == 'plateau' else ''}".rstrip(":") for name in SCHEDULES]


class CutOff(Exception):
    """Stands for whatever ends a process."""


class At(Callback):
    """Raises at the first moment of this name from this step on."""

    def __init__(self, moment: str, step: int) -> None:
        def fail(trainer: Any, *args: Any) -> None:
            if trainer.step >= step:
                raise CutOff

        setattr(self, moment, fail)


class Eager(Checkpoint):
    """After every chunk, however fast they are."""

    def save(self, trainer: Any) -> None:
        super().save(trainer)
        self.due = 0.0

    def on_train_break(self, trainer: Any) -> None:  # a process that is killed saves nothing more
        pass


def made(optimizer: Any = None, *, device: Any = "cpu", compile: bool = True, **net: Any) -> Trainer:
    net = {"dropout": 0.2, "norm": "batch", **net}
    return Trainer(nn.MLP(2, 12, 12, 3, **net), "cross_entropy", optimizer or optim.AdamW(lr=0.02), device=device, seed=3, compile=compile)


def outcome(trainer: Trainer, history: Any) -> Any:
    """All that is to be the same, as bytes."""
    optimizer = {k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in trainer.optimizer.state_dict().items()}
    weights = {name: value.tobytes() for name, value in trainer.model.state_dict().items()}
    return weights, optimizer, list(history.items()), history.best_epoch, history.stopped


def cut_off_at(moments: list[tuple[str, int]], path: Path, maker: Any, **fit: Any) -> Any:
    for moment, step in moments:
        with pytest.raises(CutOff):
            maker().fit((X, Y), **FIT | fit, callbacks=[At(moment, step)], checkpoint=Eager(path), resume=True)
    trainer = maker()
    return outcome(trainer, trainer.fit((X, Y), **FIT | fit, checkpoint=Eager(path), resume=True))


MOMENTS = [("on_chunk_begin", 4), ("on_epoch_end", 11), ("on_chunk_end", 17), ("on_epoch_begin", 33), ("on_epoch_end", 50)]

# fmt: off
RUNS: dict[str, Any] = {
    **{f"{name} {schedule}": (lambda name=name, schedule=schedule: optim.OPTIMIZERS[name](lr=0.01, schedule=schedule), {})
       for name in ("sgd", "adam", "lion") for schedule in ALL},
    "sgd nesterov":   (lambda: optim.SGD(lr=0.05, momentum=0.9, nesterov=True, clip_norm=0.5), {}),
    "adagrad":        (lambda: optim.Adagrad(lr=0.05), {}),
    "rmsprop":        (lambda: optim.RMSprop(lr=0.01, momentum=0.5), {}),
    "nadam":          (lambda: optim.NAdam(lr=0.01), {}),
    "adamw groups":   (lambda: optim.AdamW(lr=0.01, groups=[{"match": "*.bias", "lr_factor": 0.1}], weight_decay_schedule="flat_cos"), {}),
    "average":        (lambda: optim.AdamW(lr=0.01), {"average": 0.9}),
    "accumulate":     (lambda: optim.AdamW(lr=0.01), {"accumulate": 3}),
    "no shuffle":     (lambda: optim.AdamW(lr=0.01), {"shuffle": False, "drop_last": True}),
    "patience":       (lambda: optim.SGD(lr=1e-6), {"patience": 3}),
    "min_delta":      (lambda: optim.AdamW(lr=0.002), {"patience": 3, "min_delta": 0.02, "monitor": "val_loss"}),
    "ties":           (lambda: optim.AdamW(lr=0.01), {"ties": "last", "measure_train": False}),
    "dropout":        (lambda: optim.AdamW(lr=0.01), {"dropout_schedule": "flat_cos"}),
    "several dropouts": (lambda: optim.AdamW(lr=0.01), {"dropout_schedule": "cosine", "average": 0.9, "accumulate": 2}),
    "no validation":  (lambda: optim.AdamW(lr=0.01), {"validation": None}),
    "last weights":   (lambda: optim.AdamW(lr=0.01), {"restore_best": False, "average": 0.9}),
}
# fmt: on


@pytest.mark.parametrize("name", RUNS)
def test_resumed_is_never_interrupted(tmp_path: Path, name: str) -> None:
    make_optimizer, fit = RUNS[name]
    trainer = made(make_optimizer())
    whole = outcome(trainer, trainer.fit((X, Y), **FIT | fit))
    epochs = len(dict(whole[2])["loss"])
    moments = [m for m in MOMENTS if m[1] < 11 * epochs] if name == "patience" else MOMENTS
    resumed = cut_off_at(moments, tmp_path / "a.ckpt", lambda: made(make_optimizer()), **fit)
    assert resumed == whole
    again = cut_off_at([], tmp_path / "a.ckpt", lambda: made(make_optimizer()), **fit)
    assert again == whole, "a finished run is not trained on"


def settled() -> Trainer:
    """A net whose first weights are drawn by the data."""
    ramps = nn.Columns(2, embedding={"frequencies": 3, "width": 3}, piecewise={"bins": 4, "width": 2})
    net = nn.Sequential(ramps, nn.NTKLinear(10, 12, init="data"), nn.SELU(), nn.Dropout(0.1), nn.NTKLinear(12, 3, init="data"))
    return Trainer(net, "cross_entropy", optim.AdamW(lr=0.02), device="cpu", seed=3)


def test_layers_settled_by_the_data_resume(tmp_path: Path) -> None:
    trainer = settled()
    whole = outcome(trainer, trainer.fit((X, Y), **FIT))
    assert cut_off_at(MOMENTS, tmp_path / "a.ckpt", settled) == whole
    state, _ = checkpoint.read(tmp_path / "a.ckpt")
    assert [int(v) for n, v in state["model"].items() if n.endswith("settled")] == [1, 1, 1]


def test_sparse_rows_resume(tmp_path: Path) -> None:
    dense = np.where(np.random.default_rng(0).random((203, 9)) < 0.7, 0, 1.5)
    rows, columns = np.nonzero(dense)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=203))])
    x = Csr(dense[rows, columns], columns, starts, 9)

    def maker() -> Trainer:
        return Trainer(nn.MLP(9, 8, 3, dropout=0.2), optimizer=optim.AdamW(lr=0.02), device="cpu", seed=3)

    def fit(trainer: Trainer, x: Any, **how: Any) -> Any:
        return trainer.fit((x, Y), **FIT | {"validation": (dense[:40], Y[:40])}, **how)

    trainer = maker()
    whole = outcome(trainer, fit(trainer, x))
    with pytest.raises(CutOff):
        fit(maker(), x, callbacks=[At("on_chunk_begin", 17)], checkpoint=Eager(tmp_path / "a.ckpt"))
    other = Csr(x.values, (x.columns + 1) % 9, x.starts, 9)
    with pytest.raises(ConfigError, match=r"data\.train: was"):
        fit(maker(), other, checkpoint=tmp_path / "a.ckpt", resume=True)
    trainer = maker()
    assert outcome(trainer, fit(trainer, x, checkpoint=tmp_path / "a.ckpt", resume=True)) == whole


def test_micro_batches_stay_as_they_were_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Trainer._loss

    def too_many(self: Trainer, x: Any, y: Any, weight: Any) -> Any:
        if self.step >= 5 and len(x) > 8:
            raise MemoryError("planted")
        return plain(self, x, y, weight)

    def maker() -> Trainer:
        return made(norm=None, compile=False)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_loss", too_many)
        trainer = maker()
        whole = outcome(trainer, trainer.fit((X, Y), **FIT))
        with pytest.raises(CutOff):
            maker().fit((X, Y), **FIT, callbacks=[At("on_chunk_end", 17)], checkpoint=Eager(tmp_path / "a.ckpt"))
    state, _ = checkpoint.read(tmp_path / "a.ckpt")
    assert state["accumulate"] == 2 and state["made_with"]["options"]["accumulate"] == 1
    trainer = maker()  # with memory for all: the same bits only as it was halved before
    assert outcome(trainer, trainer.fit((X, Y), **FIT, checkpoint=tmp_path / "a.ckpt", resume=True)) == whole


def test_streamed_data_resume_inside_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing("emulated"):
        pytest.skip(str(missing("emulated")))
    monkeypatch.setattr("gpunet.data.batches.STAGE_BYTES", 3 * 16 * 16)  # three batches at once
    monkeypatch.setattr("gpunet.train.trainer.CHUNK_SECONDS", 1e-9)  # a step a chunk
    streams = []

    def maker(free: int = 1000) -> Trainer:
        device = emulated_cuda(orders=())
        device._device.mem_info = free, 1 << 30
        streams.append(device.xp.counts)
        return made(optim.Adam(lr=0.01, schedule="one_cycle"), device=device)

    fit = {"epochs": 2}
    trainer = maker(free=1 << 30)
    whole = outcome(trainer, trainer.fit((X, Y), **FIT | fit))
    moments = [("on_chunk_end", 2), ("on_chunk_end", 3), ("on_chunk_begin", 7), ("on_epoch_end", 10), ("on_chunk_end", 15)]
    assert cut_off_at(moments, tmp_path / "a.ckpt", maker, **fit) == whole
    assert streams[0]["copies beside the work"] == 0 and all(n["copies beside the work"] for n in streams[1:-1])


def test_what_autotune_chose_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing("emulated"):
        pytest.skip(str(missing("emulated")))
    monkeypatch.setattr("gpunet.devices.cuda_kernels.SMALL_PRODUCT", 0)
    devices, fit = [], {"epochs": 2, "batch_size": 54}

    def maker(costs: tuple[float, ...]) -> Trainer:
        devices.append(emulated_cuda(orders=()))
        devices[-1].products._library.costs = costs
        return Trainer(nn.MLP(2, 12, 3), device=devices[-1], seed=3, autotune=True, precision="tf32")

    cut = {"callbacks": [At("on_epoch_begin", 3)], "checkpoint": Eager(tmp_path / "a.ckpt")}
    with pytest.raises(CutOff):
        maker((2.0, 2.0, 1.0)).fit((X, Y), **FIT | fit, **cut)
    maker((2.0, 1.0, 2.0)).fit((X, Y), **FIT | fit, checkpoint=tmp_path / "a.ckpt", resume=True)
    first, again = (device.products.chosen for device in devices)
    assert len(first) >= 5 and {algorithm[:1] for algorithm in first.values()} == {b"\3"}
    assert {key: again[key] for key in first} == first, "what would be found faster now is not asked for"
    for name, value in (("precision", "float32"), ("autotune", False)):
        how = {"autotune": True, "precision": "tf32", name: value}
        with pytest.raises(ConfigError, match=f"options.{name}: was"):
            Trainer(nn.MLP(2, 12, 3), device=emulated_cuda(orders=()), seed=3, **how).fit(
                (X, Y), **FIT | fit, checkpoint=tmp_path / "a.ckpt", resume=True
            )


def test_evaluate_after_an_interruption(tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
            trainer.stop("interrupted")

    trainer = made()
    assert trainer.fit((X, Y), **FIT, callbacks=[Interrupt()]).stopped == "interrupted"
    assert trainer.evaluate((X, Y))["loss"] > 0 and trainer.predict(X).shape == (203, 3)


def test_lbfgs_resumes(tmp_path: Path) -> None:
    def maker() -> Trainer:
        return made(optim.LBFGS(), dropout=0.0)

    fit = {"batch_size": None, "epochs": 12}
    trainer = maker()
    whole = outcome(trainer, trainer.fit((X, Y), **FIT | fit))
    assert cut_off_at([("on_chunk_end", 3), ("on_epoch_end", 8)], tmp_path / "a.ckpt", maker, **fit) == whole


@pytest.mark.parametrize("kind", ["numpy", "standin", "emulated"])
def test_resumed_on_other_devices(tmp_path: Path, kind: str) -> None:
    if missing(kind):
        pytest.skip(str(missing(kind)))

    def maker() -> Trainer:
        return made(optim.Adam(lr=0.01, schedule="one_cycle"), device=make(kind))

    fit = {"epochs": 2, "batch_size": 54}
    trainer = maker()
    whole = outcome(trainer, trainer.fit((X, Y), **FIT | fit))
    moments = [("on_chunk_end", 2), ("on_epoch_end", 3), ("on_chunk_begin", 4)]
    assert cut_off_at(moments, tmp_path / "a.ckpt", maker, **fit) == whole


def test_a_test_that_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any part of the state left out, the bits differ."""
    trainer = made(optim.Adam(lr=0.01, schedule="cosine"))
    whole = outcome(trainer, trainer.fit((X, Y), **FIT))
    everything = Trainer.state_dict
    for part, change in {
        "step": lambda s: s.update(step=s["step"] - 1),
        "total": lambda s: s.update(total=np.zeros(())),
        "t": lambda s: s["optimizer"].update(t=0),
        "m": lambda s: s["optimizer"].update({"m.0.weight": s["optimizer"]["m.0.weight"] * 0}),
        "draws": lambda s: s["model"].update({n: np.zeros_like(a) for n, a in s["model"].items() if n.endswith("draws")}),
        "statistics": lambda s: s["model"].update({n: np.zeros_like(a) for n, a in s["model"].items() if n.endswith(".mean")}),
    }.items():
        path = tmp_path / f"{part}.ckpt"
        with pytest.raises(CutOff):
            made(optim.Adam(lr=0.01, schedule="cosine")).fit((X, Y), **FIT, callbacks=[At("on_chunk_begin", 17)], checkpoint=Eager(path))
        state, _ = checkpoint.read(path)
        change(state)
        checkpoint.write(path, state, about={})
        other = made(optim.Adam(lr=0.01, schedule="cosine"))
        history = other.fit((X, Y), **FIT, checkpoint=path, resume=True)
        assert outcome(other, history)[:3] != whole[:3], part
    assert Trainer.state_dict is everything


# ---------------------------------------------------------------- signals and errors


SCRIPT = """
import sys
from test_checkpoint import *
class Say(Callback):
    def on_epoch_end(self, trainer, epoch, logs):
        if epoch == 3: print("going", flush=True)
history = made().fit((X, Y), **FIT | {{"epochs": 10**6}}, callbacks=[Say()], checkpoint=sys.argv[1])
print(history.stopped, flush=True)
"""


@pytest.mark.parametrize(("number", "code", "says"), [(signal.SIGINT, 0, "interrupted\n"), (signal.SIGTERM, -signal.SIGTERM, "")])
def test_signals_save_and_end(tmp_path: Path, number: int, code: int, says: str) -> None:
    here = Path(__file__).parent
    paths = os.pathsep.join(filter(None, [str(here), str(here.parent), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(), str(tmp_path / "a.ckpt")], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "going\n"
    before = time.monotonic()
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == code and out == says and time.monotonic() - before < 10
    state, _ = checkpoint.read(tmp_path / "a.ckpt")
    assert state["step"] >= 33 and len(dict(state["history"])["loss"]) >= 3 and state["stop"] == ""


@pytest.mark.parametrize("moment", ["on_epoch_begin", "on_chunk_begin", "on_chunk_end", "on_epoch_end"])
def test_ctrl_c_at_any_moment_then_resumed(tmp_path: Path, moment: str) -> None:
    trainer = made()
    whole = outcome(trainer, trainer.fit((X, Y), **FIT))

    class Interrupt(Callback):
        pass

    def raise_signal(self: Any, trainer: Any, *args: Any) -> None:
        if trainer.step >= 25:
            signal.raise_signal(signal.SIGINT)

    setattr(Interrupt, moment, raise_signal)
    stopped = made().fit((X, Y), **FIT, callbacks=[Interrupt()], checkpoint=tmp_path / "a.ckpt")
    assert stopped.stopped == "interrupted" and 2 <= stopped.epochs < EPOCHS
    trainer = made()
    assert outcome(trainer, trainer.fit((X, Y), **FIT, checkpoint=tmp_path / "a.ckpt", resume=True)) == whole


def test_ctrl_c_while_validating_is_served_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = made()
    whole = outcome(trainer, trainer.fit((X, Y), **FIT))
    stopping, judge = made(), Trainer._judge
    pieces = []

    def interrupted(self: Trainer, *args: Any) -> Any:
        if self.epoch == 3 and not pieces:
            pieces.append(1)
            signal.raise_signal(signal.SIGINT)
        return judge(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_judge", interrupted)
        assert stopping.fit((X, Y), **FIT, checkpoint=tmp_path / "a.ckpt").epochs == 2, "no figures of half an epoch"
    trainer = made()
    assert outcome(trainer, trainer.fit((X, Y), **FIT, checkpoint=tmp_path / "a.ckpt", resume=True)) == whole


def test_an_exception_and_nan_leave_a_checkpoint_of_their_step(tmp_path: Path) -> None:
    with pytest.raises(CutOff):
        made().fit((X, Y), **FIT, callbacks=[At("on_chunk_end", 9)], checkpoint=tmp_path / "a.ckpt")
    assert checkpoint.read(tmp_path / "a.ckpt")[0]["step"] >= 9
    trainer = made(optim.SGD(lr=1e30))
    with pytest.raises(ArithmeticError):
        trainer.fit((X, Y), **FIT, checkpoint=tmp_path / "nan.ckpt")
    state, _ = checkpoint.read(tmp_path / "nan.ckpt")
    assert state["step"] == trainer.step > 0 and all(np.isfinite(a).all() for a in state["model"].values())


def test_the_first_checkpoint_is_of_step_0_and_saving_takes_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    path = tmp_path / "a.ckpt"

    class Watch(Callback):
        def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
            steps.append(checkpoint.read(path)[0]["step"])

    slept = []
    plain = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *a, **k: (time.sleep(0.01), slept.append(1), plain(*a, **k)))
    made().fit((X, Y), **FIT | {"epochs": 30}, callbacks=[Watch()], checkpoint=Checkpoint(path, every=0))
    assert steps[0] == 0 and checkpoint.read(path)[0]["step"] == 330
    assert len(slept) <= 3, "a save of 10 ms is not repeated before a second has passed, but at the end"


# ---------------------------------------------------------------- what is refused


def test_what_changed_is_said_and_refused_unless_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    path = tmp_path / "a.ckpt"

    def start() -> None:
        with pytest.raises(CutOff):
            made().fit((X, Y), **FIT, callbacks=[At("on_chunk_begin", 17)], checkpoint=Eager(path))

    start()
    kept = path.read_bytes()
    other = np.where(np.arange(len(X))[:, None] == 5, X + 1e-3, X)
    # fmt: off
    changes: list[tuple[Any, Any, dict[str, Any], str]] = [
        (lambda: made(), (other, Y), {}, "data.train: was "),
        (lambda: made(), (X, Y), {"epochs": 7}, "options.epochs: was 5, is 7"),
        (lambda: made(), (X, Y), {"batch_size": 20}, "options.batch_size: was 16, is 20"),
        (lambda: made(), (X, Y), {"patience": 2}, "options.patience: was None, is 2"),
        (lambda: made(), (X, Y), {"ties": "last"}, "options.ties: was loss, is last"),
        (lambda: made(), (X, Y), {"min_delta": 0.1}, "options.min_delta: was 0.0, is 0.1"),
        (lambda: made(), (X, Y), {"dropout_schedule": "cosine"}, "options.dropout_schedule: was None, is {"),
        (lambda: made(optim.AdamW(lr=0.03)), (X, Y), {}, "optimizer.settings.lr: was 0.02, is 0.03"),
        (lambda: made(dropout=0.3), (X, Y), {}, "Dropout(rate=0.2), is Dropout(rate=0.3)"),
    ]
    # fmt: on
    for maker, data, fit, says in changes:
        trainer = maker()
        before = {k: v.tobytes() for k, v in trainer.model.state_dict().items()}
        with pytest.raises(ConfigError) as caught:
            trainer.fit(data, **FIT | fit, checkpoint=path, resume=True)
        assert says in str(caught.value) and "--force" in str(caught.value)
        assert path.read_bytes() == kept and before == {k: v.tobytes() for k, v in trainer.model.state_dict().items()}
        history = trainer.fit(data, **FIT | fit, checkpoint=tmp_path / "none.ckpt", resume="force")
        (tmp_path / "none.ckpt").unlink()
        caplog.clear()
        trainer = maker()
        history = trainer.fit(data, **FIT | fit, checkpoint=path, resume="force")
        assert history.epochs == fit.get("epochs", EPOCHS) and says in caplog.text
        assert trainer.optimizer.lr == maker().optimizer.lr and trainer.optimizer.total_steps == trainer.total_steps
        path.write_bytes(kept)
    monkeypatch.setattr(checkpoint, "code_version", lambda: "0.0.9+abc")
    with pytest.raises(ConfigError, match=r"code: was .* is 0\.0\.9\+abc"):
        made().fit((X, Y), **FIT, checkpoint=path, resume=True)


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    with pytest.raises(ConfigError, match="resume from which file"):
        made().fit((X, Y), **FIT, resume=True)
    with pytest.raises(FormatError, match="no such checkpoint"):
        checkpoint.read(path)
    made().fit((X, Y), **FIT, checkpoint=path)
    whole = path.read_bytes()
    with pytest.raises(ConfigError, match=r"a\.ckpt: another run's state is there. resume=True"):
        made().fit((X, Y), **FIT, checkpoint=path)
    assert path.read_bytes() == whole
    for content in (b"", whole[:-1], whole[: len(whole) // 2], whole[:200] + b"x" + whole[201:], whole[:-40] + bytes(40)):
        path.write_bytes(content)
        with pytest.raises(FormatError):
            made().fit((X, Y), **FIT, checkpoint=path, resume=True)


def test_a_disk_that_is_full_or_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / "a.ckpt"
    path.parent.mkdir()
    with pytest.raises(CutOff):
        made().fit((X, Y), **FIT, callbacks=[At("on_chunk_begin", 17)], checkpoint=Eager(path))
    kept = path.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"a\.ckpt: cannot be written \(No space left on device\)\. The one before is whole"):
            made().fit((X, Y), **FIT, checkpoint=path, resume=True)
    assert path.read_bytes() == kept and os.listdir(path.parent) == ["a.ckpt"]

    class Delete(Callback):
        def on_chunk_end(self, trainer: Any, step: int) -> None:
            if path.exists():
                path.unlink()
                path.parent.rmdir()

    path.unlink()
    with pytest.raises(RunError, match="No such file or directory"):
        made().fit((X, Y), **FIT, callbacks=[Delete()], checkpoint=Eager(path))
