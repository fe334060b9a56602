"""An optimizer holds the parameters as flat vectors; an update is a few ops on each, what it remembers are states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import ops
from ..engine import Tensor, mode, no_grad
from ..errors import ConfigError, GraphError, ShapeError
from . import schedules
from .clip import clip_by_norm, clip_by_value
from .groups import Group, arrange, check_matched, check_rules, parse, trained
from .schedules import Schedule, Seen
from .settings import Setting, Settings, upload

MOST_STEPS = 1 << 28  # of a schedule's table: 2 GiB of float64

ScheduleLike = str | Mapping[str, Any] | Schedule | None
Tensors = Sequence[Tensor]


class Optimizer(Settings):
    """A recipe until it is bound to parameters, by `params` or by `bind`; subclasses say what a `rule` does.

    Args:
        params: Tensors, (name, Tensor) pairs, or dicts {"params": [...], "lr": ..., "weight_decay": ...}.
        lr: the learning rate. weight_decay: added to the gradient, unless the rule decouples it.
        groups: rules {"match": "*.bias", "lr_factor": 0.1, "weight_decay": 0.0} on dotted names; the first match wins.
            One that matches nothing is an error unless it is "optional": True.
        schedule, weight_decay_schedule: what lr and weight decay are multiplied by, step by step; see `schedules`.
        clip_value: keeps each element of the gradients within +-clip_value; then
        clip_norm: scales all of them so that their common norm is at most this.

    Attributes:
        parameters, names: those that are trained, in the order in which `update` takes their gradients.
        groups: their flat vectors. memory: what the rule remembers, name -> one Tensor for each group.
        t: the number of updates made, an int64 state; begun: what it was when `start` was called.
        full_batch: whether every step must see all rows.
    """

    lr = Setting("[0, inf)")
    weight_decay = Setting("[0, inf)")
    clip_norm = Setting("(0, inf)", optional=True)
    clip_value = Setting("(0, inf)", optional=True)

    t: Tensor
    begun: Tensor
    name: ClassVar[str] = ""
    remembers: ClassVar[tuple[str, ...]] = ()  # its vectors, in the order in which its op takes and returns them
    options: ClassVar[tuple[str, ...]] = ()  # attributes that are no numbers, for state_dict
    full_batch: ClassVar[bool] = False

    def __init__(
        self, params: Iterable[Any] | None = None, *, lr: float, weight_decay: float = 0.0,
        groups: Iterable[Mapping[str, Any]] = (), schedule: ScheduleLike = None,
        weight_decay_schedule: ScheduleLike = None, clip_norm: float | None = None, clip_value: float | None = None,
    ) -> None:
        super().__init__()
        self.lr, self.weight_decay, self.clip_norm, self.clip_value = lr, weight_decay, clip_norm, clip_value
        given = {"lr": schedule, "weight_decay": weight_decay_schedule}
        self.schedules = {name: None if s is None else schedules.get(s) for name, s in given.items()}
        self.rules = check_rules(groups)
        self.names: list[str] = []
        self.parameters: list[Tensor] = []
        self.groups: list[Group] = []
        self.memory: dict[str, list[Tensor]] = {}
        self.total_steps: int | None = None
        self._tables: dict[str, Tensor] = {}
        self._seen = Seen()
        if params is not None:
            named, rules = parse(params)
            self.rules = check_rules(rules) + self.rules
            self.bind(named)

    # ------------------------------------------------------------------ parameters

    @property
    def bound(self) -> bool:
        return bool(self.groups)

    def bind(self, named_parameters: Iterable[tuple[str, Tensor]]) -> None:
        """Take these parameters over: each becomes a view of its group's vector. Frozen ones are left alone."""
        every = list(named_parameters)
        named = trained(every)
        if self.bound:
            if [id(t) for _, t in named] == [id(t) for t in self.parameters]:
                return
            raise ConfigError(f"{type(self).__name__} is bound to other parameters ({self._listed()}). Make a new one")
        check_matched(self.rules, [name for name, _ in every])
        self.groups = arrange(named, self.rules)
        self.names, self.parameters = [name for name, _ in named], [t for _, t in named]
        device = self.parameters[0].device
        self.place(device)
        self.t, self.begun = upload(0, device, np.int64), upload(0, device, np.int64)
        self.memory = self.initial()

    def initial(self) -> dict[str, list[Tensor]]:
        """What the rule remembers before the first step."""
        return {name: [group.zeros() for group in self.groups] for name in self.remembers}

    def _listed(self) -> str:
        return ", ".join(self.names[:5]) + (", ..." if len(self.names) > 5 else "")

    def _check_bound(self) -> None:
        if not self.bound:
            raise ConfigError(f"{type(self).__name__} has no parameters yet. Call bind(model.named_parameters())")
        for group in self.groups:
            for piece in group.pieces:
                if self.parameters[piece.place].version is not group.vector.version:
                    raise GraphError(f"{piece.name} was taken over by another optimizer; this one cannot change it")

    # ------------------------------------------------------------------ stepping

    def update(self, grads: Sequence[Tensor | None]) -> None:
        """One step from the gradients of `parameters` (None counts as zeros); all in ops, so that it can be traced."""
        self._check_bound()
        if len(grads) != len(self.parameters):
            raise ShapeError(f"update: {len(self.parameters)} gradients wanted ({self._listed()}), got {len(grads)}")
        with no_grad():
            vectors = [group.pack(grads) for group in self.groups]
            if mode.trace is not None:
                for part in (self, *self.groups):
                    mode.trace.guard(part, "structure", part.structure)
                for g in vectors:
                    mode.trace.watch(g)
            vectors = self._clipped(vectors)
            factors = self._factors()
            scheduled: dict[int, Tensor] = {}
            t = self.t + 1
            for i, (group, g) in enumerate(zip(self.groups, vectors, strict=True)):
                states = [group.vector, *(vectors[i] for vectors in self.memory.values())]
                lr, decay = (self._of_group(group, name, factors, scheduled) for name in ("lr", "weight_decay"))
                new = self.rule(states[0], g, states[1:], t, lr, decay)
                for state, value in zip(states, new, strict=True):
                    state.assign(value)
            self.t.assign(t)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name in self.options:
            self.restructure()

    def rule(self, p: Tensor, g: Tensor, memory: Tensors, t: Tensor, lr: Tensor, decay: Tensor) -> Tensors:
        """New values of p and of memory."""
        raise ConfigError(f"{type(self).__name__} does not define rule")

    def read(self, *names: str) -> list[Tensor]:
        """Settings, as the device's scalars."""
        return [self.scalars[name] for name in names]

    def _clipped(self, vectors: list[Tensor]) -> list[Tensor]:
        if "clip_value" in self.scalars:
            vectors = clip_by_value(vectors, self.scalars["clip_value"])
        if "clip_norm" in self.scalars:
            vectors = clip_by_norm(vectors, self.scalars["clip_norm"])
        return vectors

    def _tables_wanted(self) -> list[str]:
        wanted = [name for name, schedule in self.schedules.items() if schedule is not None]
        if wanted and not self._tables:
            raise ConfigError(f"{type(self).__name__}: a schedule needs the number of steps. Call start(total_steps)")
        return wanted

    def _factors(self) -> dict[str, Tensor]:
        """What the schedules multiply settings by in the next step; tables of one length are read at one place."""
        places: dict[int, Tensor] = {}
        found = {}
        for name in self._tables_wanted():
            table = self._tables[name]
            if table.size not in places:
                places[table.size] = ops.minimum(self.t - self.begun, table.size - 1)
            found[name] = ops.gather(table, places[table.size])
        return found

    @property
    def rate(self) -> float:
        """The learning rate of the next step, with its schedule."""
        if "lr" not in self._tables:
            return float(self.lr)
        with no_grad():
            return float(self.lr) * self._factors()["lr"].item()

    def _of_group(self, group: Group, name: str, factors: Mapping[str, Tensor], scheduled: dict[int, Tensor]) -> Tensor:
        """A setting as this group has it; what groups have in common is multiplied by its factor once, and kept."""
        value = group.scalars.get(name, self.scalars[name])
        if name in factors:
            if id(value) not in scheduled:
                scheduled[id(value)] = value * factors[name]
            value = scheduled[id(value)]
        return value * group.scalars["lr_factor"] if name == "lr" and "lr_factor" in group.scalars else value

    def step(self) -> None:
        """One update from the parameters' `.grad`."""
        self.update([p.grad for p in self.parameters])

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    # ------------------------------------------------------------------ schedules

    def start(self, total_steps: int) -> None:
        """Training is going to take so many steps from here: the schedules begin, their tables go to the device."""
        if total_steps < 1:
            raise ConfigError(f"start: at least one step, got {total_steps}")
        self._check_bound()
        self.total_steps, self._seen = int(total_steps), Seen()
        self.begun.assign(upload(self.t.item(), self.t.device, np.int64))
        for name in self.schedules:
            self._send_table(name)

    def _send_table(self, name: str) -> None:
        schedule = self.schedules[name]
        if schedule is None or self.total_steps is None:
            if self._tables.pop(name, None) is not None:
                self.restructure()
            return
        device = self.parameters[0].device
        if self.total_steps > MOST_STEPS:
            raise ConfigError(
                f"{self.total_steps:,} steps: a schedule is a table of them, of {MOST_STEPS:,} at most. Fewer epochs or larger batches"
            )
        table = upload(schedule.table(self.total_steps, self._seen), device)
        if name in self._tables and self._tables[name].shape == table.shape:
            self._tables[name].assign(table)
        else:
            self._tables[name] = table
            self.restructure()

    def epoch_end(self, metric: float) -> None:
        """Tell the schedule what an epoch came to; only plateau listens."""
        schedule = self.schedules["lr"]
        if schedule is None:
            return
        before, self._seen = self._seen, schedule.observe(self._seen, float(metric))
        if self._seen.factor != before.factor:
            self._send_table("lr")

    def batch_size(self, rows: int, wanted: int) -> int:
        """The rows of a step: all of them for a full-batch method."""
        return rows if self.full_batch else wanted

    # ------------------------------------------------------------------ saving

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, beside the parameters: JSON values, and arrays called "m.<parameter>"."""
        self._check_bound()
        state: dict[str, Any] = {
            "optimizer": self.name,
            "t": self.t.item(),
            "begun": self.begun.item(),
            "total_steps": self.total_steps,
            "settings": dict(self.numbers),
            "options": {name: getattr(self, name) for name in self.options},
            "groups": [{"parameters": [p.name for p in g.pieces], **g.numbers} for g in self.groups],
            "schedules": {name: None if s is None else s.config() for name, s in self.schedules.items()},
            "seen": list(self._seen),
            "memory": list(self.memory),
        }
        for name, tensors in self.memory.items():
            state |= self._named(name, tensors)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where the optimizer stood that gave `state`; nothing is changed if it does not fit."""
        self._check_bound()
        self._check_state(state)
        for name, value in [*state["settings"].items(), *state["options"].items()]:
            setattr(self, name, value)
        for group, saved in zip(self.groups, state["groups"], strict=True):
            for name in group.numbers:
                setattr(group, name, saved[name])
        for name, config in state["schedules"].items():
            self.schedules[name] = None if config is None else schedules.get(config)
        self._seen, self.total_steps = Seen(*state["seen"]), state["total_steps"]
        for name in self.schedules:
            self._send_table(name)
        self.t.assign(upload(state["t"], self.t.device, np.int64))
        self.begun.assign(upload(state["begun"], self.t.device, np.int64))
        for name, tensors in self.memory.items():
            for old, new in zip(tensors, self._from_named(name, tensors, state), strict=True):
                old.assign(new)

    def _named(self, name: str, tensors: Sequence[Tensor]) -> dict[str, npt.NDArray[Any]]:
        """One Tensor for each group as arrays: a vector's by parameter, "m.0.weight"; a scalar's by group, "mu.0"."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for i, (group, t) in enumerate(zip(self.groups, tensors, strict=True)):
            parts = group.split(t) if t.ndim else {str(i): np.array(t.numpy())}
            arrays |= {f"{name}.{key}": array for key, array in parts.items()}
        return arrays

    def _from_named(self, name: str, like: Sequence[Tensor], state: Mapping[str, Any]) -> list[Tensor]:
        made = []
        for i, (group, t) in enumerate(zip(self.groups, like, strict=True)):
            if t.ndim:
                made.append(group.join({p.name: state[f"{name}.{p.name}"] for p in group.pieces}))
            else:
                made.append(upload(state[f"{name}.{i}"], t.device, t.dtype))
        return made

    def _check_state(self, state: Mapping[str, Any]) -> None:
        mine = self.state_dict()
        if state.get("optimizer") != self.name:
            raise ConfigError(f"load_state_dict: the state is of {state.get('optimizer')!r}, this is {self.name!r}")
        for part in ("settings", "options", ""):
            here, there = (s.get(part, {}) if part else s for s in (mine, state))
            missing, extra = [k for k in here if k not in there], [k for k in there if k not in here]
            if missing or extra:
                raise ConfigError(f"load_state_dict: missing {missing[:5]}, unexpected {extra[:5]}")
        for key, value in mine.items():
            if isinstance(value, np.ndarray) and np.shape(state[key]) != value.shape:
                raise ShapeError(f"load_state_dict: {key} is {value.shape}, the saved one {np.shape(state[key])}")
        of_mine, of_state = ([g["parameters"] for g in s["groups"]] for s in (mine, state))
        if of_mine != of_state:
            raise ConfigError(f"load_state_dict: the groups differ: expected {of_mine}, got {of_state}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v:g}' for k, v in self.numbers.items() if v is not None)})"
