"""L-BFGS: a quasi-Newton method for the full batch, with a line search that meets the strong Wolfe conditions.

Nocedal and Wright, Numerical Optimization (2006): algorithms 7.4 and 7.5, and 3.5 and 3.6 for the line search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .. import ops
from ..engine import Tensor
from ..errors import ConfigError
from .optimizer import Optimizer
from .settings import Setting

Point = list[Tensor]  # a vector for each group
Evaluate = Callable[[], tuple[Any, Sequence[Tensor | None]]]  # the loss, and the gradients of `optimizer.parameters`


class Probe(NamedTuple):
    """What is known at distance a along the search direction."""

    a: float
    value: float
    slope: float
    gradient: Point


class LBFGS(Optimizer):
    """Each `minimize(evaluate)` is one direction and one line search; `evaluate()` gives (loss, gradients), all rows.

    Args:
        lr: the first step length tried, 1 as a rule. weight_decay: adds weight_decay / 2 * |p|^2 to the loss.
        history_size: pairs of differences that stand for the curvature.
        tolerance: converged once no element of the gradient exceeds it.
        max_evaluations: of the loss, in one line search.

    Attributes:
        converged: whether the last step found nothing left to gain.
    """

    name, full_batch = "lbfgs", True
    history_size = Setting("[1, inf)")
    tolerance = Setting("[0, inf)")
    max_evaluations = Setting("[1, inf)")

    def __init__(
        self, params: Iterable[Any] | None = None, *, lr: float = 1.0, history_size: int = 10, tolerance: float = 1e-7,
        max_evaluations: int = 25, **common: Any,
    ) -> None:
        senseless = ("schedule", "weight_decay_schedule", "clip_norm", "clip_value")
        refused = [name for name in senseless if common.get(name) is not None]
        if refused:
            raise ConfigError(f"LBFGS: its line search chooses the step, so it takes no {' and no '.join(refused)}")
        super().__init__(params, lr=lr, **common)
        self.history_size, self.tolerance, self.max_evaluations = history_size, tolerance, max_evaluations
        self.converged = False

    def bind(self, named_parameters: Iterable[tuple[str, Tensor]]) -> None:
        if any(rule.get(name) is not None for rule in self.rules for name in ("lr", "lr_factor")):
            raise ConfigError("LBFGS has one step length for all; a group can only have its own weight_decay")
        super().bind(named_parameters)

    def update(self, grads: Sequence[Tensor | None]) -> None:
        raise ConfigError("LBFGS evaluates the loss several times a step, over all rows. Use minimize(evaluate)")

    def minimize(self, evaluate: Evaluate) -> float:
        """One iteration; the loss (weight decay included) where it ends."""
        self._check_bound()
        start = [ops.copy(group.vector) for group in self.groups]
        value, gradient = self._evaluate(evaluate)
        self.converged = max(ops.max(ops.abs(g)).item() for g in gradient) <= self.tolerance
        if self.converged:
            return value
        direction, slope = self._direction(gradient)

        def probe(a: float) -> Probe:
            self._move(start, a, direction)
            f, g = self._evaluate(evaluate)
            return Probe(a, f, _dot(g, direction), g)

        first = self.lr * (1.0 if self.memory else min(1.0, 1.0 / sum(ops.sum(ops.abs(g)).item() for g in gradient)))
        found = wolfe(probe, Probe(0.0, value, slope, gradient), first, most=int(self.max_evaluations))
        self._move(start, found.a, direction)
        self.converged = found.a == 0.0 and not self.memory  # not even straight downhill is better, at this precision
        self._remember([found.a * d for d in direction], _add(found.gradient, -1.0, gradient))
        self.t.assign(self.t + 1)
        return found.value

    def _evaluate(self, evaluate: Evaluate) -> tuple[float, Point]:
        """Loss and gradient where the parameters are now."""
        loss, grads = evaluate()
        value, gradient = float(loss), [group.pack(grads) for group in self.groups]
        for i, group in enumerate(self.groups):
            decay = self.weight_decay if group.weight_decay is None else group.weight_decay
            if decay:
                value += 0.5 * decay * ops.sum(ops.square(group.vector)).item()
                gradient[i] = gradient[i] + decay * group.vector
        return value, gradient

    def _move(self, start: Point, a: float, direction: Point) -> None:
        for group, p in zip(self.groups, _add(start, a, direction), strict=True):
            group.vector.assign(p)

    # ------------------------------------------------------------------ curvature

    def _pairs(self) -> list[tuple[Point, Point]]:
        """Differences of points and of gradients, oldest first."""
        return [(self.memory[f"s{i}"], self.memory[f"y{i}"]) for i in range(len(self.memory) // 2)]

    def _direction(self, gradient: Point) -> tuple[Point, float]:
        """Minus inverse Hessian (as the pairs know it) times gradient, by two loops over the pairs; the slope there."""
        pairs, shares, q = self._pairs(), [], gradient
        for s, y in reversed(pairs):
            shares.append(_dot(s, q) / _dot(s, y))
            q = _add(q, -shares[-1], y)
        if pairs:
            s, y = pairs[-1]
            q = [_dot(s, y) / _dot(y, y) * part for part in q]
        for (s, y), share in zip(pairs, reversed(shares), strict=True):
            q = _add(q, share - _dot(y, q) / _dot(s, y), s)
        slope = -_dot(gradient, q)
        if slope < 0.0:
            return [-part for part in q], slope
        self.memory = {}  # rounding has spoilt the curvature: straight downhill
        return [-g for g in gradient], -_dot(gradient, gradient)

    def _remember(self, s: Point, y: Point) -> None:
        """Keep the newest pairs; a step that did not move, or along which the slope did not rise, tells nothing."""
        if not any(part.value.any() for part in s):
            self.memory = {}
        elif _dot(s, y) > 1e-10 * _dot(y, y):
            kept = [*self._pairs(), (s, y)][-int(self.history_size) :]
            self.memory = {}
            for i, (ds, dy) in enumerate(kept):
                self.memory |= {f"s{i}": ds, f"y{i}": dy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        before, self.memory = self.memory, {name: [g.zeros() for g in self.groups] for name in state.get("memory", ())}
        try:
            super().load_state_dict(state)
        except (ConfigError, ValueError):
            self.memory = before
            raise


def wolfe(
    probe: Callable[[float], Probe], start: Probe, first: float, *, most: int, c1: float = 1e-4, c2: float = 0.9
) -> Probe:
    """A step that lowers the value enough (c1) and flattens the slope enough (c2); the best one met if `most` run out.

    It doubles the step from `first` until an interval holds such a step, then narrows the interval.
    """

    def enough(p: Probe) -> bool:
        return p.value <= start.value + c1 * p.a * start.slope  # False for NaN

    def flat(p: Probe) -> bool:
        return abs(p.slope) <= -c2 * start.slope

    low, a = start, first
    for used in range(1, most + 1):
        now = probe(a)
        if not enough(now) or (used > 1 and now.value >= low.value):
            high = now
            break
        if flat(now):
            return now
        if now.slope >= 0.0:
            low, high = now, low
            break
        low, a = now, 2.0 * a
    else:
        return low
    for _ in range(most - used):  # low is the best so far, and between low and high lies a step that serves
        if abs(high.a - low.a) <= 1e-9 * max(low.a, high.a):
            break  # values closer together than their rounding have shrunk the interval to nothing
        now = probe(_between(low, high))
        if not enough(now) or now.value >= low.value:
            high = now
            continue
        if flat(now):
            return now
        if now.slope * (high.a - low.a) >= 0.0:
            high = low
        low = now
    return low


def _between(low: Probe, high: Probe) -> float:
    """Where the cubic through both values and slopes is least, kept off the ends; the middle where there is none."""
    width = high.a - low.a
    d1 = low.slope + high.slope - 3.0 * (high.value - low.value) / width
    inside = d1 * d1 - low.slope * high.slope
    d2 = math.copysign(math.sqrt(inside), width) if inside >= 0.0 else math.nan
    bottom = high.slope - low.slope + 2.0 * d2
    share = 1.0 - (high.slope + d2 - d1) / bottom if bottom else math.nan
    return low.a + width * (min(max(share, 0.1), 0.9) if math.isfinite(share) else 0.5)


def _add(x: Point, a: float, y: Point) -> Point:
    return [p + a * q for p, q in zip(x, y, strict=True)]


def _dot(x: Point, y: Point) -> float:
    return sum(ops.sum(p * q).item() for p, q in zip(x, y, strict=True))
