"""A schedule is what a setting is multiplied by while training goes on: a function of progress, and a table of steps.

Progress t runs from 0 at the first step towards 1. Lengths are given in steps (1 or more) or as a share of the run
(below 1). Schedules are frozen; what plateau has seen is kept by the optimizer.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, did_you_mean

Array = npt.NDArray[np.float64]


class Seen(NamedTuple):
    """What a schedule has learnt from the metric so far: its best value, epochs without improvement, the factor now."""

    best: float | None = None
    waited: int = 0
    factor: float = 1.0


class Schedule:
    """Subclass it as a frozen dataclass with a `name` and `factor(t)`."""

    name: ClassVar[str] = ""

    def factor(self, t: npt.ArrayLike) -> Array:
        """The factor at progress t in [0, 1], elementwise."""
        raise ConfigError(f"{type(self).__name__} does not define factor(t)")

    def table(self, total_steps: int, seen: Seen = Seen()) -> Array:  # noqa: B008 a NamedTuple cannot change
        """The factor of each step; steps beyond the table keep its last entry."""
        return np.asarray(self.factor(np.arange(total_steps) / total_steps), np.float64)

    def observe(self, seen: Seen, metric: float) -> Seen:
        """What is known after an epoch that ended with this metric."""
        return seen

    def config(self) -> dict[str, Any]:
        """Itself as JSON; `get` makes it again."""
        return {"name": self.name, **{k: v.config() if isinstance(v, Schedule) else v for k, v in vars(self).items()}}


@dataclass(frozen=True)
class Constant(Schedule):
    name = "constant"

    def factor(self, t: npt.ArrayLike) -> Array:
        return np.ones(np.shape(t))


@dataclass(frozen=True)
class Step(Schedule):
    """Times gamma after every `every` (steps, or share of the run)."""

    name = "step"
    every: float
    _: KW_ONLY
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _check(self, every=self.every > 0, gamma=self.gamma > 0)

    def factor(self, t: npt.ArrayLike) -> Array:
        return self._after(np.asarray(t, np.float64), _share(self, self.every))

    def table(self, total_steps: int, seen: Seen = Seen()) -> Array:  # noqa: B008
        return self._after(np.arange(total_steps), self.every * total_steps if self.every < 1 else self.every)

    def _after(self, at: npt.NDArray[Any], every: float) -> Array:
        return self.gamma ** np.floor(at / every + 1e-9)  # a quotient may lie a rounding below the whole number it is


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 down to `end` (Loshchilov and Hutter 2017)."""

    name = "cosine"
    end: float = 0.0

    def __post_init__(self) -> None:
        _check(self, end=0 <= self.end <= 1)

    def factor(self, t: npt.ArrayLike) -> Array:
        return self.end + (1.0 - self.end) * _falling(t)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to `peak` during the share `warmup`, then down; cosines both (Smith and Topin 2019).

    It starts at peak / start_div and ends at peak / (start_div * final_div).
    """

    name = "one_cycle"
    peak: float = 1.0
    _: KW_ONLY
    warmup: float = 0.3
    start_div: float = 25.0
    final_div: float = 1e4

    def __post_init__(self) -> None:
        fine = {"start_div": self.start_div >= 1, "final_div": self.final_div >= 1}
        _check(self, peak=self.peak > 0, warmup=0 < self.warmup < 1, **fine)

    def factor(self, t: npt.ArrayLike) -> Array:
        t = np.asarray(t, np.float64)
        start = self.peak / self.start_div
        end = start / self.final_div
        rise = self.peak + (start - self.peak) * _falling(t / self.warmup)
        fall = end + (self.peak - end) * _falling((t - self.warmup) / (1.0 - self.warmup))
        return np.where(t < self.warmup, rise, fall)


@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line up to 1 during the first `n` (steps, or share of the run), `then` another schedule."""

    name = "warmup"
    n: float
    _: KW_ONLY
    then: Schedule = Constant()

    def __post_init__(self) -> None:
        _check(self, n=self.n > 0)
        object.__setattr__(self, "then", get(self.then))

    def factor(self, t: npt.ArrayLike) -> Array:
        t, n = np.asarray(t, np.float64), _share(self, self.n)
        return np.where(t < n, t / n, self.then.factor(np.clip((t - n) / (1.0 - n), 0.0, 1.0)))

    def table(self, total_steps: int, seen: Seen = Seen()) -> Array:  # noqa: B008
        n = max(1, round(self.n * total_steps if self.n < 1 else self.n))
        rise = np.arange(1, min(n, total_steps) + 1) / n  # the first step is not lost on a factor 0
        return np.concatenate([rise, self.then.table(total_steps - n, seen)]) if n < total_steps else rise

    def observe(self, seen: Seen, metric: float) -> Seen:
        return self.then.observe(seen, metric)


@dataclass(frozen=True)
class Plateau(Schedule):
    """Times gamma when a metric has not improved for more than `patience` epochs.

    "min" or "max" says where the metric is better; an improvement is more than `min_delta`, relative to the best.
    """

    name = "plateau"
    patience: int = 10
    _: KW_ONLY
    gamma: float = 0.1
    mode: str = "min"
    min_delta: float = 1e-4
    min_factor: float = 0.0

    def __post_init__(self) -> None:
        _check(
            self, patience=self.patience >= 0, gamma=0 < self.gamma < 1, mode=self.mode in ("min", "max"),
            min_delta=self.min_delta >= 0, min_factor=0 <= self.min_factor <= 1,
        )

    def factor(self, t: npt.ArrayLike) -> Array:
        return np.ones(np.shape(t))

    def table(self, total_steps: int, seen: Seen = Seen()) -> Array:  # noqa: B008
        return np.array([seen.factor])

    def observe(self, seen: Seen, metric: float) -> Seen:
        sign = 1.0 if self.mode == "min" else -1.0
        if seen.best is None or sign * metric < sign * seen.best - self.min_delta * abs(seen.best):
            return Seen(float(metric), 0, seen.factor) if np.isfinite(metric) else seen
        if seen.waited < self.patience:
            return seen._replace(waited=seen.waited + 1)
        return Seen(seen.best, 0, max(seen.factor * self.gamma, self.min_factor))


@dataclass(frozen=True)
class CosLog4(Schedule):
    """Four cosine cycles, each twice as long as the one before (RealMLP; Holzmüller et al. 2024)."""

    name = "coslog4"

    def factor(self, t: npt.ArrayLike) -> Array:
        return 0.5 * (1.0 - np.cos(2.0 * np.pi * np.log2(1.0 + 15.0 * np.asarray(t, np.float64))))


@dataclass(frozen=True)
class FlatCos(Schedule):
    """1 for the first half, then a cosine down to 0 (RealMLP's weight decay and dropout)."""

    name = "flat_cos"

    def factor(self, t: npt.ArrayLike) -> Array:
        return _falling(2.0 * np.asarray(t, np.float64) - 1.0)


SCHEDULES: dict[str, type[Schedule]] = {
    s.name: s for s in (Constant, Step, Cosine, OneCycle, Warmup, Plateau, CosLog4, FlatCos)
}


def get(schedule: str | Mapping[str, Any] | Schedule) -> Schedule:
    """The schedule called "cosine", "step:0.3,0.5", "warmup:100,cosine" (fields in order), or from a config()."""
    if isinstance(schedule, Schedule):
        return schedule
    if not isinstance(schedule, str):
        settings = dict(schedule)
        return _made(str(settings.pop("name", None)), settings)
    name, _, text = schedule.partition(":")
    values = [_value(part) for part in text.split(",")] if text else []
    known = _fields_of(name)
    if len(values) > len(known):
        takes = ", ".join(known) or "nothing"
        raise ConfigError(f'schedule "{schedule}": {name} takes {takes}, got {len(values)} values')
    return _made(name, dict(zip(known, values, strict=False)))


def _fields_of(name: str) -> list[str]:
    if name not in SCHEDULES:
        raise ConfigError(f'no schedule "{name}".{did_you_mean(name, SCHEDULES)}')
    return list(inspect.signature(SCHEDULES[name]).parameters)


def _made(name: str, settings: dict[str, Any]) -> Schedule:
    known = _fields_of(name)
    for key in settings:
        if key not in known:
            raise ConfigError(f"schedule {name}: no setting {key!r}.{did_you_mean(key, known)}")
    try:
        return SCHEDULES[name](**settings)
    except TypeError as error:
        raise ConfigError(f"schedule {name}({settings}): {error}") from None


def _value(text: str) -> float | str:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text.strip()


def _falling(t: npt.ArrayLike) -> Array:
    """Half a cosine from 1 at t = 0 to 0 at t = 1, flat outside."""
    return 0.5 * (1.0 + np.cos(np.pi * np.clip(np.asarray(t, np.float64), 0.0, 1.0)))


def _share(schedule: Schedule, length: float) -> float:
    if length >= 1:
        raise ConfigError(f"{schedule}: a length in steps is no progress. Use table(total_steps), or a share below 1")
    return length


def _check(schedule: Schedule, **holds: bool) -> None:
    for name, fine in holds.items():
        if not fine:
            raise ConfigError(f"schedule {schedule.name}: {name}={getattr(schedule, name)!r} is out of range")
