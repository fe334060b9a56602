"""The loop: batches in, a trained model out."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import losses, metrics, ops, optim
from ..data.batches import Batches
from ..data.splits import split
from ..devices import Device, device as open_device
from ..engine import Tensor, grad, no_grad
from ..errors import ConfigError, ShapeError
from ..nn import BatchNorm1d, Module
from . import diagnose
from .callbacks import BestWeights, Callback, progress
from .history import History

CHUNK_SECONDS = 0.05
EVALUATION_ROWS = 4096


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
        metrics: names from gpunet.metrics, or functions (y_true, outputs) -> float. By default the loss's usual ones.
    """

    def __init__(
        self, model: Module, loss: str | Callable[..., Tensor] = "cross_entropy", optimizer: Any = "adamw", *,
        device: Device | str = "auto", seed: int = 0, metrics: Sequence[str | Callable[..., float]] | None = None,
    ) -> None:
        self.device, self.seed = open_device(device), int(seed)
        self.model = model.initialize(self.seed).to(self.device)
        self.loss = losses.get(loss) if isinstance(loss, str) else loss
        self.optimizer = optim.get(optimizer)() if isinstance(optimizer, str) else optimizer
        if not self.optimizer.bound:
            self.optimizer.bind(list(model.named_parameters()))
        self.dtype = next((t.dtype for t in model.parameters()), np.dtype(np.float32))
        self.scores = _scores(self.loss, metrics)
        self.history = History()
        self.epoch = self.step = self.epochs = self.total_steps = 0
        self.speed = 0.0
        self._stop = ""
        self._best: BestWeights | None = None

    # ------------------------------------------------------------------ training

    def fit(
        self, train: Any, *, validation: Any = None, epochs: int = 10, batch_size: int | None = None, shuffle: bool = True,
        drop_last: bool = False, accumulate: int = 1, monitor: str | None = None, patience: int | None = None,
        restore_best: bool = True, max_seconds: float | None = None, average: float | None = None,
        callbacks: Sequence[Callback] = (), show_progress: bool | str = "auto",
    ) -> History:
        """Train, and leave the model with the weights of its best epoch.

        Args:
            train: (x, y) or (x, y, weight per row); x [n, columns], y classes [n] or values [n, k].
            validation: the same, or a fraction of `train` to hold out (stratified for classes), or None.
            batch_size: rows a step; None takes auto_batch_size. accumulate: micro-batches of one step, same result.
            monitor: the history key that chooses the best epoch; by default the first metric on validation, or the loss.
            patience: stop after so many epochs without improvement. max_seconds: stop after the epoch it ends in.
            average: decay of a moving average of the weights, which is what is evaluated and kept.
            show_progress: "auto" (a bar on a terminal, a line an epoch elsewhere), True, False, "bar", "lines".

        Ctrl-C ends training after the current step; the model keeps its best weights. A second one interrupts at once.

        Raises:
            DivergedError: the loss or a gradient was not finite; the model stays as before that step.
        """
        data, held_out = self._load(train, validation)
        batch_size = self.optimizer.batch_size(data.rows, batch_size or auto_batch_size(data.rows))
        smallest = 2 if any(isinstance(m, BatchNorm1d) for _, m in self.model.modules()) else 1
        sizes = data.sizes(batch_size, drop_last=drop_last, smallest=smallest)
        self._begin(epochs, len(sizes), monitor, patience, restore_best, held_out is not None)
        self._average = optim.WeightAverage(self.optimizer, decay=average) if average is not None else None
        self._callbacks = [*([self._best] if self._best else []), *callbacks, *progress(show_progress)]
        started = time.perf_counter()
        with _interruptible(self):
            self._tell("on_train_begin")
            for self.epoch in range(1, epochs + 1):
                self._run_epoch(data, sizes, accumulate, held_out, shuffle)
                if max_seconds is not None and time.perf_counter() - started > max_seconds:
                    self.stop("time")
                if self._stop:
                    break
            self._tell("on_train_end")
        self.history.stopped = self._stop or "finished"
        self.history.seconds = time.perf_counter() - started
        self.history.rows_per_second = data.rows * self.history.epochs / max(self.history.seconds, 1e-9)
        return self.history

    def _begin(self, epochs: int, steps: int, monitor: str | None, patience: int | None, restore: bool, validated: bool) -> None:
        if epochs < 1:
            raise ConfigError(f"fit: epochs must be at least 1, got {epochs}")
        self.history, self.epochs, self.total_steps, self.step, self._stop = History(), epochs, epochs * steps, 0, ""
        self.optimizer.start(self.total_steps)
        prefix = "val_" if validated else ""
        first = next(iter(self.scores), "loss")
        key = monitor or prefix + first
        score = self.scores.get(key.removeprefix("val_"))
        better = score is not None and score.greater_is_better
        wanted = restore or patience is not None
        self._best = BestWeights(key, greater_is_better=better, tie=prefix + "loss", patience=patience) if wanted else None

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
        return Batches(*parts, device=self.device, dtype=self.dtype, seed=self.seed)

    def _run_epoch(self, data: Batches, sizes: list[int], accumulate: int, held_out: Batches | None, shuffle: bool) -> None:
        self._tell("on_epoch_begin", self.epoch)
        data.shuffle(self.epoch) if shuffle else data.rewind()
        self.model.train()
        total, seen, began = 0.0, 0, time.perf_counter()
        chunk_end = 0.0
        for size in sizes:
            if time.perf_counter() > chunk_end:
                chunk_end = self._between_chunks(bool(seen))
            total += self._step(data, size, accumulate) * size
            seen += size
            self.step += 1
            if self._stop == "interrupted":
                break
        self._tell("on_chunk_end", self.step)
        self.speed = seen / max(time.perf_counter() - began, 1e-9)
        logs = {"loss": total / max(seen, 1)} | self._validate(held_out)
        self.optimizer.epoch_end(logs.get("val_loss", logs["loss"]))
        self.history.add(logs)
        self._tell("on_epoch_end", self.epoch, logs)

    def _between_chunks(self, running: bool) -> float:
        if running:
            self._tell("on_chunk_end", self.step)
        self._tell("on_chunk_begin", self.step)
        return time.perf_counter() + CHUNK_SECONDS

    def _step(self, data: Batches, size: int, accumulate: int) -> float:
        """One update from the next `size` rows; the loss over them."""
        parameters = self.optimizer.parameters
        if self.optimizer.full_batch:
            return self._full_batch_step(data, size)
        shares = [len(part) for part in np.array_split(np.arange(size), accumulate) if len(part)]
        batches = [data.next(n) for n in shares]
        value, grads = 0.0, None
        for batch, part in zip(batches, _shares(batches, shares), strict=True):
            loss = self._loss(*batch) * part if len(shares) > 1 else self._loss(*batch)
            found = grad(loss, parameters)
            diagnose.check(self, loss, found, batch)
            grads = found if grads is None else [a if b is None else b if a is None else a + b for a, b in zip(grads, found, strict=True)]
            value += loss.item()
        self.optimizer.update(grads)
        if self._average is not None:
            self._average.update()
        return value

    def _full_batch_step(self, data: Batches, size: int) -> float:
        batch = data.next(size)

        def value_and_gradient() -> tuple[float, list[Tensor | None]]:
            loss = self._loss(*batch)
            return loss.item(), grad(loss, self.optimizer.parameters)

        return self.optimizer.minimize(value_and_gradient)

    def _loss(self, x: Tensor, y: Tensor | None, weight: Tensor | None) -> Tensor:
        if y is None:
            raise ShapeError("fit: the data have no targets; give (x, y)")
        outputs = self.model(x)
        loss = self.loss(outputs, y) if weight is None else self.loss(outputs, y, weight=weight)
        if loss.size != 1:
            raise ShapeError(f"the loss gave the shape {loss.shape}; one number wanted (take its mean)")
        return loss

    # ------------------------------------------------------------------ evaluation

    @no_grad()
    def predict(self, x: Any, *, batch_size: int = EVALUATION_ROWS) -> npt.NDArray[Any]:
        """The model's outputs (logits, values) for rows x, as a NumPy array."""
        return self._outputs(Batches(x, device=self.device, dtype=self.dtype), batch_size)

    @no_grad()
    def evaluate(self, data: Any, *, batch_size: int = EVALUATION_ROWS) -> dict[str, float]:
        """The loss and every metric over (x, y) or (x, y, weight)."""
        return self._evaluate(self._batches(_parts(data, "evaluate")), batch_size)

    def _outputs(self, data: Batches, batch_size: int = EVALUATION_ROWS) -> npt.NDArray[Any]:
        training = self.model.training
        self.model.eval()
        try:
            return np.concatenate([self.model(x).numpy() for x, _ in data.chunks(batch_size)])
        finally:
            self.model.train(training)

    def _evaluate(self, data: Batches, batch_size: int = EVALUATION_ROWS) -> dict[str, float]:
        outputs = self._outputs(data, batch_size)
        if data.y is None:
            raise ShapeError("evaluate: the data have no targets; give (x, y)")
        z, weight = Tensor(self.device.upload(outputs), self.device), None if data.weight is None else data.weight.numpy()
        logs = {"loss": (self.loss(z, data.y) if weight is None else self.loss(z, data.y, weight=data.weight)).item()}
        y = data.y.numpy()
        return logs | {name: score(y, outputs, weight) for name, score in self.scores.items()}

    @no_grad()
    def _validate(self, held_out: Batches | None) -> dict[str, float]:
        if held_out is None:
            return {}
        with self._averaged():
            return {f"val_{name}": value for name, value in self._evaluate(held_out).items()}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        if self._average is None:
            yield
        else:
            with self._average.applied():
                yield

    # ------------------------------------------------------------------ what callbacks may use

    def stop(self, why: str = "callback") -> None:
        """End training after this step."""
        self._stop = self._stop or why

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """The weights as evaluated now."""
        with self._averaged():
            return self.model.state_dict()

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        self.model.load_state_dict(state)

    @property
    def best_epoch(self) -> int:
        return self._best.epoch if self._best is not None else 0

    def _tell(self, moment: str, *args: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, moment)(self, *args)


def _parts(data: Any, what: str) -> list[Any]:
    parts = list(data) if isinstance(data, (tuple, list)) else []
    if not 2 <= len(parts) <= 3:
        raise ConfigError(f"{what}: (x, y) or (x, y, weight) wanted, got {type(data).__name__}")
    return parts + [None] * (3 - len(parts))


def _shares(batches: Sequence[Any], sizes: Sequence[int]) -> list[float]:
    """Each micro-batch's part of the logical batch's mean: of its rows, or of its weights."""
    weights = [float(np.sum(w.numpy())) if w is not None else float(n) for (_, _, w), n in zip(batches, sizes, strict=True)]
    return [w / sum(weights) for w in weights]


class _Score:
    """A metric of the model's raw outputs."""

    def __init__(self, metric: Any, name: str) -> None:
        self.name, self.metric = name, metric
        self.greater_is_better = bool(getattr(metric, "greater_is_better", False))

    def __call__(self, y: npt.NDArray[Any], outputs: npt.NDArray[Any], weight: npt.NDArray[Any] | None) -> float:
        needs = getattr(self.metric, "needs", None)
        if needs is None:
            return float(self.metric(y, outputs))
        given = outputs
        if needs == "labels":
            given = outputs.argmax(axis=-1)
        elif needs == "probabilities":
            e = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
            given = e / e.sum(axis=-1, keepdims=True)
        return self.metric.function(y, given, sample_weight=weight)


def _scores(loss: Any, wanted: Sequence[Any] | None) -> dict[str, _Score]:
    if wanted is None:
        wanted = ["accuracy"] if loss in (losses.cross_entropy, losses.hinge) else ["rmse"] if loss is losses.mse else []
    named = [(m, metrics.get(m)) if isinstance(m, str) else (getattr(m, "__name__", "metric"), m) for m in wanted]
    return {name: _Score(metric, name) for name, metric in named}


@contextmanager
def _interruptible(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C is served between steps; a second one at once. Only the main thread can catch signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(number: int, frame: Any) -> None:
        trainer.stop("interrupted")
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
