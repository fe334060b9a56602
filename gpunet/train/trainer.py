"""The loop: batches in, a trained model out."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import losses, ops, optim, rng
from ..data.batches import Batches, as_rows, batches, between, load
from ..data.sparse import Csr
from ..data.splits import split
from ..devices import Device
from ..devices import device as open_device
from ..engine import Tensor, grad, mode, no_grad, tensor
from ..errors import ConfigError, DivergedError, OutOfMemoryError, ShapeError
from ..graph.compile import Compiled
from ..graph.program import Program
from ..nn import BatchNorm1d, Dropout, Module
from ..optim.optimizer import ScheduleLike
from . import checkpoint as checkpoints
from . import diagnose
from .callbacks import BestWeights, Callback, progress
from .checkpoint import Checkpoint
from .dropout import ScheduledDropout
from .forward import ROWS, Forward
from .history import History
from .scores import scores
from .signals import ASKED_TO_END, interruptible

log = logging.getLogger("gpunet")

CHUNK_SECONDS = 0.05
MEASURED_ROWS = 10_000
_CHOSEN = ("settings", "options", "groups", "schedules")  # of an optimizer's state: what its user says


class _Interrupted(Exception):
    """A signal came while the end of an epoch was being measured."""


def auto_batch_size(rows: int) -> int:
    """16 rows for small sets, doubling with their size up to 256: about 50 to 200 steps an epoch."""
    return int(min(256, max(16, 2 ** round(np.log2(max(rows, 1) / 50)))))


class Trainer:
    """Trains `model` on `loss` with `optimizer`.

        history = Trainer(net, losses.cross_entropy, optim.AdamW(lr=1e-3), device="auto").fit((X, y), validation=0.1)

    Args:
        model: an nn.Module; it is moved to the device.
        loss: a function (outputs, targets) -> scalar Tensor, or its name.
        optimizer: a recipe such as optim.AdamW(lr=1e-3), or its name; it is bound to the model's parameters.
        device: "auto", "cpu", "cuda", "cuda:1". seed: of weights not drawn yet, batch order and dropout.
        metrics: names from gpunet.metrics, or functions (y_true, outputs) -> float, whose attribute greater_is_better
            must say which way is better if they are to choose the best epoch. By default the loss's usual ones.
        compile: run whole steps as programs (gpunet.graph); False runs op by op, with the same bits.
        precision: of products of float32 matrices, in training and evaluation: "float32", or on an NVIDIA GPU "tf32" or
            "bf16", which round the factors to 10 or 7 bits after the point for the tensor cores and sum in float32
            (cuBLASLt's COMPUTE_32F_FAST_TF32, _FAST_16BF). Weights, activations, gradients and what the optimizer
            remembers stay float32 in either: the weights are their own masters, and no loss is scaled.
        autotune: time the GPU library's algorithms for each product once, before the step is captured. Two runs may
            choose differently and then differ in the last bits; `device.choices()` is the choice, as plain data that
            `device.restore` takes. Nothing to choose, and nothing done, on the CPU.
    """

    def __init__(
        self,
        model: Module,
        loss: str | Callable[..., Tensor] = "cross_entropy",
        optimizer: Any = "adamw",
        *,
        device: Device | str = "auto",
        seed: int = 0,
        metrics: Sequence[Any] | None = None,
        compile: bool = True,
        precision: str = "float32",
        autotune: bool = False,
    ) -> None:
        self.device, self.seed = open_device(device), int(seed)
        self.device.check_precision(precision)
        self.precision, self.autotune = precision, autotune
        self.model = model.initialize(self.seed).to(self.device)
        self.loss = losses.get(loss) if isinstance(loss, str) else loss
        self.optimizer: Any = optim.get(optimizer)() if isinstance(optimizer, str) else optimizer
        if not self.optimizer.bound:
            self.optimizer.bind(list(model.named_parameters()))
        self.dtype = next((t.dtype for t in model.parameters()), np.dtype(np.float32))
        self.scores = scores(self.loss, metrics)
        self.history = History()
        self.epoch = self.step = self.epochs = self.total_steps = 0
        self.speed = 0.0
        self.whole = True  # whether no step is half done, so that the state can be saved
        self.runner: Callable[[Program, int], int] = Program.run  # of the compiled steps
        self.compiles = compile and (self.device.kind == "cpu" or self.device.captures)
        self._stop = ""
        self._best: BestWeights | None = None
        self._average: Any = None
        self._dropout: ScheduledDropout | None = None
        self._measures = True
        self._callbacks: list[Any] = []
        self._made_with: dict[str, Any] = {}
        self._before = 0.0  # seconds that training took until it was resumed
        self._started = time.perf_counter()
        self._programs: dict[int, Compiled] = {}
        self._forward = Forward(model, self.compiles)
        self._pace: dict[int, float] = {}  # seconds a step, by batch size
        self._accumulate = 1  # micro-batches a step
        self._total = Tensor(self.device.upload(np.zeros(())), self.device)  # loss times rows, over the epoch

    # ------------------------------------------------------------------ training

    def fit(
        self,
        train: Any,
        *,
        validation: Any = None,
        epochs: int = 10,
        batch_size: int | Callable[[int], int] | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        accumulate: int = 1,
        monitor: str | Callable[[int], str | None] | None = None,
        patience: int | None = None,
        min_delta: float = 0.0,
        restore_best: bool = True,
        ties: str = "loss",
        dropout_schedule: ScheduleLike = None,
        measure_train: bool = True,
        max_seconds: float | None = None,
        average: float | None = None,
        callbacks: Sequence[Callback] = (),
        show_progress: bool | str = "auto",
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        resume: bool | str = False,
    ) -> History:
        """Train, and leave the model with the weights of its best epoch.

        Args:
            train: (x, y) or (x, y, weight per row); x [n, columns], y classes [n] or values [n, k].
            validation: the same, or a fraction of `train` to hold out (stratified for classes), or None.
            batch_size: rows a step, or a function of the training rows; None is auto_batch_size. accumulate: micro-batches of one step,
                with the same result but for dropout masks and batch statistics.
            monitor: the history key that chooses the best epoch; by default the first metric on validation, or the loss.
                Or a function of the training rows.
            patience: stop after so many epochs in a row without an improvement by more than min_delta.
            ties: of epochs that monitor holds for equal, take the one of lowest "loss" or the "last".
            dropout_schedule: what the rates of all Dropout layers are multiplied by, step by step; see optim.schedules.
            measure_train: whether the metrics are measured on training rows too, which takes another forward pass.
            max_seconds: stop after the epoch it ends in.
            average: decay of a moving average of the weights, which is what is evaluated and kept.
            show_progress: "auto" (a bar on a terminal, a line an epoch elsewhere), True, False, "bar", "lines".
            checkpoint: a file that always holds the state of training, or a Checkpoint that says how often.
            resume: go on from that file if it is there, with the bits of a run never interrupted; data, options, code or
                machine that have changed since are a ConfigError, unless resume="force".

        Where memory runs out, micro-batches are halved (`accumulate` doubles) until a step fits; one line of the log says so.

        Ctrl-C ends training after the current step; the model keeps the best weights of the epochs that were finished. A
        second one interrupts at once. With a checkpoint SIGTERM does the same, and ends the process if nobody else
        handles it.

        Raises:
            DivergedError: the loss or a gradient was not finite; the model stays as before that step.
            OutOfMemoryError: one row does not fit, or halves would change the result (batch norm, a full-batch optimizer).
        """
        keeper = _keeper(checkpoint, resume)
        data, held_out = self._load(train, validation)
        batch_size = batch_size(data.rows) if callable(batch_size) else batch_size
        monitor = monitor(data.rows) if callable(monitor) else monitor
        _check_counts(epochs=epochs, accumulate=accumulate, batch_size=batch_size)
        sizes = self._sizes(data, batch_size, accumulate, drop_last)
        best = {"patience": patience, "min_delta": min_delta, "restore": restore_best}
        self._begin(epochs, len(sizes), monitor, held_out is not None, ties, best)
        self._dropout = ScheduledDropout.of(self.model, self.optimizer, dropout_schedule, self.total_steps)
        self._settle(data)
        self._measures = measure_train
        self._average = optim.WeightAverage(self.optimizer, decay=average) if average is not None else None
        self._programs, self._pace, self._accumulate = {}, {}, accumulate
        self._measured = data.first(MEASURED_ROWS)
        self._callbacks = [*([self._best] if self._best else []), *callbacks, *progress(show_progress)]
        if keeper is not None:
            options = {
                "epochs": epochs, "batch_size": sizes[0], "steps": len(sizes), "shuffle": shuffle, "accumulate": accumulate,
                "patience": patience, "min_delta": min_delta, "ties": ties, "restore_best": restore_best,
                "monitor": self._best.monitor if self._best else None, "average": average, "seed": self.seed,
                "dropout_schedule": optim.schedules.get(dropout_schedule).config() if dropout_schedule else None,
                "measure_train": measure_train, "precision": self.precision, "autotune": self.autotune,
            }  # fmt: skip
            self._made_with = keeper.made_with | self._circumstances(options, data, held_out)
            if resume and keeper.path.exists():
                self._resume(keeper.path, force=resume == "force")
            self._callbacks.append(keeper)
        self._started = time.perf_counter()
        with self._guarded(keeper is not None):
            if keeper is not None:
                keeper.save(self)  # before anybody else is told: a run's first file
            self._tell("on_train_begin")
            self._run_epochs(data, sizes, held_out, shuffle, max_seconds)
            if keeper is not None and self._stop:
                keeper.save(self)
            if self._average is not None and not restore_best:
                self.restore(self.snapshot())
            self._tell("on_train_end")
        self.history.stopped = self._stop or "finished"
        self.history.seconds = self.seconds
        self.history.rows_per_second = data.rows * self.history.epochs / max(self.history.seconds, 1e-9)
        return self.history

    def _begin(self, epochs: int, steps: int, monitor: str | None, validated: bool, ties: str, best: dict[str, Any]) -> None:
        self.history, self.epochs, self.total_steps, self.step, self._stop = History(), epochs, epochs * steps, 0, ""
        self.optimizer.start(self.total_steps)
        self._best, self._before, self.whole = None, 0.0, True
        if not best["restore"] and best["patience"] is None:
            return
        prefix = "val_" if validated else ""
        judges = [name for name, score in self.scores.items() if validated and score.greater_is_better is not None]
        key = monitor or prefix + next(iter(judges), "loss")
        score = self.scores.get(key.removeprefix("val_"))
        if score is not None and score.greater_is_better is None:
            raise ConfigError(f'monitor "{key}": is more of it better? Say so by {score.name}.greater_is_better = True')
        better = score is not None and bool(score.greater_is_better)
        if ties not in ("loss", "last"):
            raise ConfigError(f'fit: ties must be "loss" or "last", got {ties!r}')
        self._best = BestWeights(
            key, greater_is_better=better, tie=f"{prefix}loss" if ties == "loss" else "last", **best
        )

    @no_grad()
    def _settle(self, data: Batches) -> None:
        """Layers that draw their first weights by the data see some of it, once."""
        if self.model.unsettled:
            order = rng.permutation(data.rows, seed=self.seed, stream=rng.stream("settle"))
            order = order[: min(data.at_once, MEASURED_ROWS)]
            self.model.eval().settle(data.some(np.sort(order)))

    @contextmanager
    def _guarded(self, terminable: bool) -> Iterator[None]:
        """Ctrl-C waits for the step, an error is told to the callbacks, and overflow is left to the steps to find."""
        quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
        with interruptible(self, terminable), quiet, self._computing():
            try:
                yield
            except BaseException as error:
                self.whole = self.whole and isinstance(error, Exception)  # Ctrl-C may have come anywhere
                self._tell("on_train_break")
                raise
            finally:
                if self._dropout is not None:
                    self._dropout.reset()

    def _sizes(self, data: Batches, wanted: int | None, accumulate: int, drop_last: bool) -> list[int]:
        """The rows of each step of an epoch."""
        if self.optimizer.full_batch:
            self._check_full_batch(data.rows, wanted, accumulate)
        batch_size = self.optimizer.batch_size(data.rows, wanted or auto_batch_size(data.rows))
        with_statistics = any(isinstance(module, BatchNorm1d) for _, module in self.model.modules())
        smallest = 2 * accumulate if with_statistics else 1  # statistics need two rows in every micro-batch
        return data.sizes(batch_size, drop_last=drop_last, smallest=smallest)

    def _check_full_batch(self, rows: int, batch_size: int | None, accumulate: int) -> None:
        name = type(self.optimizer).__name__
        if batch_size not in (None, rows) or accumulate > 1:
            what = f"accumulate={accumulate}" if accumulate > 1 else f"batch_size={batch_size}"
            raise ConfigError(f"{name} needs all rows in every step; leave {what} out")
        if any(isinstance(module, Dropout) and module.rate for _, module in self.model.modules()):
            raise ConfigError(f"{name} needs a loss that stays the same between evaluations; leave Dropout out")

    def _load(self, train: Any, validation: Any) -> tuple[Batches, Batches | None]:
        parts = _parts(train, "train")
        held_out = None
        if isinstance(validation, (int, float)) and not isinstance(validation, bool):
            if not 0 < validation < 1:
                raise ConfigError(f"validation: a fraction between 0 and 1, or data, got {validation}")
            classes = parts[1] if np.asarray(parts[1]).dtype.kind in "iu" and np.ndim(parts[1]) == 1 else None
            rows, others = split(len(parts[0]), (1 - validation, validation), seed=self.seed, stratify=classes)
            held_out = [None if a is None else np.asarray(a)[others] for a in parts]
            parts = [None if a is None else np.asarray(a)[rows] for a in parts]
        elif validation is not None:
            held_out = _parts(validation, "validation")
        return self._batches(parts), None if held_out is None else self._batches(held_out)

    def _batches(self, parts: Sequence[Any]) -> Batches:
        x, y, weight = parts
        if losses.takes_values(self.loss) and np.asarray(y).dtype.kind in "iub":
            y = np.asarray(y, self.dtype)
        elif np.asarray(y).dtype.kind in "iu":
            y = np.asarray(y, np.int64)
        return batches(x, y, weight, device=self.device, dtype=self.dtype, seed=self.seed)

    def _run_epochs(
        self, data: Batches, sizes: list[int], held_out: Batches | None, shuffle: bool, max_seconds: float | None
    ) -> None:
        self.model.train()
        while self.history.epochs < self.epochs:
            if max_seconds is not None and self.history.epochs and self.seconds > max_seconds:
                self.stop("time")
            if self._stop:
                break
            self.epoch = self.history.epochs + 1
            self._run_epoch(data, sizes, held_out, shuffle)

    def _run_epoch(self, data: Batches, sizes: list[int], held_out: Batches | None, shuffle: bool) -> None:
        self._tell("on_epoch_begin", self.epoch)
        at = self.step - (self.epoch - 1) * len(sizes)  # above 0 where training was interrupted inside this epoch
        if shuffle:
            data.shuffle(self.epoch)
        data.begin(sizes, at)
        if not self.model.training:  # a callback may have left it so; to walk through all layers costs as much as a small step
            self.model.train()
        began, begun_at = time.perf_counter(), at
        if not at:
            self._total.value[...] = 0  # in place, as the batches' order: programs have nothing to adopt
        while at < len(sizes) and not self._asked:
            self._tell("on_chunk_begin", self.step)
            at += self._run_chunk(data, sizes[at : _end(at, data.ready(at))])
            self._tell("on_chunk_end", self.step)
        self.speed = sum(sizes[begun_at:at]) / max(time.perf_counter() - began, 1e-9)
        try:
            self._check_asked()
            logs = {"loss": self._total.item() / sum(sizes)} | self._measure() | self._validate(held_out)
            self._check_asked()
        except _Interrupted:  # an epoch that is not finished has no figures; a resumed run makes them
            return
        self.optimizer.epoch_end(logs.get("val_loss", logs["loss"]))
        self.history.add(logs)
        self._tell("on_epoch_end", self.epoch, logs)

    def _run_chunk(self, data: Batches, sizes: list[int]) -> int:
        """As many steps of one size as take about CHUNK_SECONDS; how many they were."""
        size = sizes[0]
        alike = next((i for i, n in enumerate(sizes) if n != size), len(sizes))
        wanted = max(1, min(alike, round(CHUNK_SECONDS / self._pace.get(size, CHUNK_SECONDS))))
        began, before = time.perf_counter(), self.step
        self.whole = False
        try:
            if self.compiles and not self.optimizer.full_batch:
                self._run_program(data, size, wanted)
            else:
                for _ in range(wanted):
                    self._step(data, size)
        except MemoryError as error:
            self._halve(size, error)  # the same steps again, in the next chunk
        self.whole = True
        done = self.step - before
        if done:
            self._pace[size] = (time.perf_counter() - began) / done
        return done

    def _halve(self, size: int, error: MemoryError) -> None:
        """Twice as many micro-batches from now on, if that keeps the result."""
        rows = -(-size // self._accumulate)
        if rows == 1 or self.optimizer.full_batch:
            raise error
        if any(isinstance(module, BatchNorm1d) for _, module in self.model.modules()):
            raise OutOfMemoryError(
                f"{error}. Half of the {rows} rows at a time would change batch norm's statistics: choose a smaller "
                "batch_size, or accumulate=, yourself"
            ) from error
        self._programs = {}  # with their memory
        self._accumulate *= 2
        log.warning(
            "out of memory with %d rows at once: a step of %d rows is made of %d micro-batches from here on, whose "
            "gradients are accumulated; the result is the same but for rounding and dropout's masks",
            rows, size, self._accumulate,
        )  # fmt: skip

    def _run_program(self, data: Batches, size: int, steps: int) -> None:
        def training_step() -> None:
            self._step(data, size)

        program = self._programs.setdefault(size, Compiled(training_step))
        done = program.run(steps, self.runner)
        if program.eagerly:  # said once, and those steps have counted themselves
            self.compiles = False
            return
        self.step += done
        if done < steps:
            self._step(data, size)  # names what was not finite

    def _step(self, data: Batches, size: int) -> None:
        """All of a step or nothing: if it fails, statistics and counters that its forward pass moved on go back."""
        moved = [data.cursor, *(t for _, t in self.model.named_tensors() if not t.pinned)]
        kept = [(t, t.value) for t in moved]  # bound anew, never written into
        try:
            self._advance(data, size)
        except BaseException as error:
            for t, value in kept:
                t.value = value
            self.whole = isinstance(error, DivergedError)  # which is found before anything is updated
            raise

    def _advance(self, data: Batches, size: int) -> None:
        """One update from the next `size` rows; in ops alone when it is traced."""
        if self._dropout is not None:
            self._dropout.advance()
        if self.optimizer.full_batch:
            loss = self._full_batch_step(data, size)
        else:
            loss, grads, batches = self._value_and_gradient(data, size)
            if mode.trace is not None:
                mode.trace.watch(loss)
            else:
                diagnose.check(self, loss, grads, batches)
            self.optimizer.update(grads)
        with no_grad():
            self._total.assign(self._total + ops.cast(loss, dtype=np.float64) * float(size))
            if self._average is not None:
                self._average.update()
        if mode.trace is None:
            self.step += 1

    def _value_and_gradient(self, data: Batches, size: int) -> tuple[Tensor, list[Tensor | None], list[Any]]:
        """The loss over the next `size` rows and its gradients, from so many micro-batches as fit."""
        batches = [data.next(len(part)) for part in np.array_split(np.arange(size), self._accumulate) if len(part)]
        if len(batches) == 1:
            loss = self._loss(*batches[0])
            return loss, grad(loss, self.optimizer.parameters), batches
        value, total = None, None
        for batch, share in zip(batches, _shares(batches), strict=True):
            loss = self._loss(*batch) * share
            found = grad(loss, self.optimizer.parameters)
            value = loss.detach() if value is None else value + loss.detach()
            total = (
                found
                if total is None
                else [a if b is None else b if a is None else a + b for a, b in zip(total, found, strict=True)]
            )
        assert value is not None and total is not None
        return value, total, batches

    def _full_batch_step(self, data: Batches, size: int) -> Tensor:
        batch = data.next(size)

        def value_and_gradient() -> tuple[Tensor, list[Tensor | None]]:
            loss = self._loss(*batch)
            return loss, grad(loss, self.optimizer.parameters)

        start = [value_and_gradient()]  # what the line search tries may overflow, where it starts may not
        diagnose.check(self, *start[0], [batch])
        value = self.optimizer.minimize(lambda: start.pop() if start else value_and_gradient())
        return tensor(value, dtype=np.float64, device=self.device)

    def _loss(self, x: Tensor, y: Tensor | None, weight: Tensor | None) -> Tensor:
        if y is None:
            raise ShapeError("fit: the data have no targets; give (x, y)")
        outputs = self.model(x)
        loss = self.loss(outputs, y) if weight is None else self.loss(outputs, y, weight=weight)
        if loss.size != 1:
            raise ShapeError(f"the loss gave the shape {loss.shape}; one number wanted (take its mean)")
        return loss

    # ------------------------------------------------------------------ evaluation

    def predict(self, x: Any, *, batch_size: int = ROWS) -> npt.NDArray[Any]:
        """The model's outputs (logits, values) for rows x, as a NumPy array."""
        rows = as_rows(x, self.dtype)
        size = min(batch_size, rows.at_once) if isinstance(rows, Csr) else batch_size
        pieces = (load(rows[at : at + size], self.device, self.dtype) for at in range(0, len(rows), size))
        with self._computing():
            return self._forward.joined((between(piece, 0, size) for piece in pieces), len(rows)).numpy()

    @no_grad()
    def evaluate(self, data: Any, *, batch_size: int = ROWS) -> dict[str, float]:
        """The loss and every metric over (x, y) or (x, y, weight)."""
        with self._computing():
            rows = self._batches(_parts(data, "evaluate"))
            return self._evaluate(rows, rows.pieces(batch_size))

    def _computing(self) -> AbstractContextManager[None]:
        return self.device.computing(precision=self.precision, autotune=self.autotune)

    def _evaluate(self, data: Batches, pieces: Iterable[Tensor]) -> dict[str, float]:
        z, (y, weight) = self._forward.joined(pieces, data.rows), data.answers()
        if y is None:
            raise ShapeError("evaluate: the data have no targets; give (x, y)")
        loss = self.loss(z, y) if weight is None else self.loss(z, y, weight=weight)
        return {"loss": loss.item()} | self._judge(z, y, weight)

    def _judge(self, z: Tensor, y: Tensor, weight: Tensor | None) -> dict[str, float]:
        return {name: score.of(y, z, weight) for name, score in self.scores.items()}

    @no_grad()
    def _measure(self) -> dict[str, float]:
        """The metrics on training rows, at most MEASURED_ROWS of them: another forward pass must not double the time."""
        part = self._measured
        y, weight = part.answers()
        if not self.scores or not self._measures or y is None:
            return {}
        with self._averaged():
            return self._judge(self._forward.joined(self._while_wanted(part.pieces(ROWS)), part.rows), y, weight)

    @no_grad()
    def _validate(self, held_out: Batches | None) -> dict[str, float]:
        if held_out is None:
            return {}
        with self._averaged():
            found = self._evaluate(held_out, self._while_wanted(held_out.pieces(ROWS)))
            return {f"val_{name}": value for name, value in found.items()}

    def _while_wanted(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """The pieces of the work, until a signal comes."""
        for piece in pieces:
            self._check_asked()
            yield piece

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        if self._average is None:
            yield
        else:
            with self._average.applied():
                yield

    # ------------------------------------------------------------------ the state of training

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps of `fit` depend on: nested dicts of JSON values and arrays."""
        return {
            "made_with": self._made_with,
            "step": self.step,
            "stop": self._stop if self._stop in ("patience", "callback") else "",  # other reasons are not the run's own
            "seconds": self.seconds,
            "total": np.array(self._total.numpy()),
            "accumulate": self._accumulate,  # as it was doubled where memory ran out
            "choices": self.device.choices() if self.autotune else {},
            "history": [[name, values] for name, values in self.history.items()],  # JSON's dicts are sorted, these are not
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": {} if self._average is None else self._average.state_dict(),
            "callbacks": {name: callback.state_dict() for name, callback in self._remembering()},
        }

    def _remembering(self) -> list[tuple[str, Any]]:
        """The callbacks that have a state, by kind and place."""
        having = [callback for callback in self._callbacks if hasattr(callback, "state_dict")]
        return [(f"{type(callback).__name__} {i}", callback) for i, callback in enumerate(having)]

    def _circumstances(self, options: dict[str, Any], train: Batches, held_out: Batches | None) -> dict[str, Any]:
        """What the run's bits depend on beside the state: with any of it changed, another run goes on."""

        def rows(data: Batches | None) -> str:
            return checkpoints.fingerprint(*([] if data is None else data.content()))

        optimizer = self.optimizer.state_dict()
        layers = {path: repr(m) for path, m in self.model.modules() if not any(m.children())}
        shapes = {name: f"{t.dtype}{list(t.shape)}" for name, t in self.model.named_tensors()}
        return json.loads(json.dumps({  # as it will be read again
            "data": {"train": rows(train), "validation": rows(held_out)},
            "options": options,
            "layers": layers,
            "tensors": shapes,
            "loss": getattr(self.loss, "__qualname__", type(self.loss).__name__),
            "metrics": list(self.scores),
            "optimizer": {name: optimizer[name] for name in ("optimizer", *_CHOSEN)},
            "code": checkpoints.code_version(),
            "machine": checkpoints.machine(self.device),
        }))  # fmt: skip

    def _resume(self, path: Path, *, force: bool) -> None:
        """Go on from this checkpoint, once it is known to fit."""
        state, _ = checkpoints.read(path)
        saved, now = state["made_with"], self._made_with
        changed = checkpoints.check_same(path, saved, now, force=force)
        self.model.load_state_dict(state["model"])
        self.history.update(dict(state["history"]))
        self.step, self._stop, self._before = state["step"], state["stop"], state["seconds"]
        if saved["options"]["steps"] != now["options"]["steps"]:  # the unfinished epoch cannot be told in these batches
            self.step = self.history.epochs * now["options"]["steps"]
        self._resume_optimizer(state["optimizer"], saved, now)
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._total.value[...] = self.device.upload(state["total"])
        if saved["options"]["accumulate"] == now["options"]["accumulate"]:
            self._accumulate = state["accumulate"]
        if self.autotune:
            self.device.restore(state["choices"])
        for name, callback in self._remembering():
            if name in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][name])
        if changed:
            self._stop = ""  # of a run under other rules
            log.warning("resumed though it is not the same run any more: %s", "; ".join(changed))

    def _resume_optimizer(self, state: dict[str, Any], saved: dict[str, Any], now: dict[str, Any]) -> None:
        """Its state; where the user has chosen otherwise since, that, and the schedule of the new length."""
        mine = self.optimizer.state_dict()
        merged = dict(state)
        for part in _CHOSEN:
            was, is_ = saved["optimizer"][part], now["optimizer"][part]
            if isinstance(was, dict):
                merged[part] = {k: mine[part][k] if was.get(k) != is_.get(k) else state[part][k] for k in mine[part]}
            elif was != is_:
                merged[part] = mine[part]
        if state["total_steps"] != self.total_steps:
            merged |= {"total_steps": self.total_steps, "begun": state["t"] - self.step}
        self.optimizer.load_state_dict(merged)

    # ------------------------------------------------------------------ what callbacks may use

    def stop(self, why: str = "callback") -> None:
        """End training after this step."""
        self._stop = self._stop or why

    @property
    def stopping(self) -> bool:
        """Whether training ends after this step."""
        return bool(self._stop)

    @property
    def seconds(self) -> float:
        """Of training so far, also before it was resumed."""
        return self._before + time.perf_counter() - self._started

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.rate)

    @property
    def best_state(self) -> dict[str, npt.NDArray[Any]] | None:
        """The weights of the best epoch so far."""
        return self._best.state if self._best is not None else None

    @property
    def _asked(self) -> bool:
        return self._stop in ASKED_TO_END.values()

    def _check_asked(self) -> None:
        if self._asked:
            raise _Interrupted

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """The weights as evaluated now."""
        with self._averaged():
            return self.model.state_dict()

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        self.model.load_state_dict(state)

    def release(self) -> None:
        """Let go of the training data, which the compiled steps hold; the next `fit` compiles them again."""
        self._programs = {}

    @property
    def best_epoch(self) -> int:
        return self._best.epoch if self._best is not None else 0

    def _tell(self, moment: str, *args: Any) -> None:
        for callback in self._callbacks:
            told = getattr(callback, moment, None)
            if told is not None:
                told(self, *args)


def _keeper(checkpoint: str | os.PathLike[str] | Checkpoint | None, resume: bool | str) -> Checkpoint | None:
    keeper = checkpoint if isinstance(checkpoint, Checkpoint) or checkpoint is None else Checkpoint(checkpoint)
    if resume and keeper is None:
        raise ConfigError('fit: resume from which file? Give checkpoint="run.ckpt" too')
    if keeper is not None and not resume and keeper.path.exists():
        raise ConfigError(f"{keeper.path}: another run's state is there. resume=True goes on with it; or give another name")
    return keeper


def _check_counts(**counts: int | None) -> None:
    for name, n in counts.items():
        if n is not None and (n != int(n) or n < 1):
            raise ConfigError(f"fit: {name} must be a whole number of at least 1, got {n}")


def _parts(data: Any, what: str) -> list[Any]:
    parts = list(data) if isinstance(data, (tuple, list)) else []
    if not 2 <= len(parts) <= 3:
        raise ConfigError(f"{what}: (x, y) or (x, y, weight) wanted, got {type(data).__name__}")
    return parts + [None] * (3 - len(parts))


def _end(at: int, steps: int | None) -> int | None:
    return None if steps is None else at + steps


def _shares(batches: Sequence[Any]) -> list[Any]:
    """Each micro-batch's part of the logical batch's mean: of its rows, or of its weights (in ops, for they change)."""
    if batches[0][2] is None:
        rows = sum(x.shape[0] for x, _, _ in batches)
        return [x.shape[0] / rows for x, _, _ in batches]
    weights = [ops.sum(w) for _, _, w in batches]
    total = weights[0]
    for w in weights[1:]:
        total = total + w
    return [w / total for w in weights]
