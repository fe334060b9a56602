"""A group is the parameters with common settings, laid out as one flat vector of which each parameter is a view."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import ops
from ..engine import Spec, Tensor, mode
from ..errors import ConfigError, DeviceError, DTypeError, ShapeError, did_you_mean
from .settings import Setting, Settings, upload

ALIGN = 16  # elements: every piece starts on a vector register's boundary; what lies between is zero and stays zero

Named = tuple[str, Tensor]


class Piece(NamedTuple):
    """Where one parameter lies in its group's vector; `place` is its index among the optimizer's parameters."""

    name: str
    place: int
    start: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def padding(self) -> int:
        return -self.size % ALIGN

    def of(self, flat: Any) -> Any:
        return flat[self.start : self.start + self.size].reshape(self.shape)


class Group(Settings):
    """Parameters that share settings; lr and weight_decay are the optimizer's unless given.

    Attributes:
        vector: all of its parameters, flat and pinned.
        pieces: what lies where.
    """

    lr = Setting("[0, inf)", optional=True)
    lr_factor = Setting("[0, inf)", optional=True)
    weight_decay = Setting("[0, inf)", optional=True)

    def __init__(self, rule: Mapping[str, Any], named: Sequence[tuple[int, str, Tensor]]) -> None:
        super().__init__()
        self.lr, self.lr_factor, self.weight_decay = (rule.get(name) for name in ("lr", "lr_factor", "weight_decay"))
        self.pieces: list[Piece] = []
        at = 0
        for index, name, t in named:
            piece = Piece(name, index, at, t.shape)
            self.pieces.append(piece)
            at += piece.size + piece.padding
        tensors = [t for _, _, t in named]
        device = tensors[0].device
        dtype = tensors[0].dtype
        self.vector = upload(self._joined([t.numpy() for t in tensors], dtype), device, dtype).pin()
        for piece, t in zip(self.pieces, tensors, strict=True):
            t.value, t.pinned, t.version = piece.of(self.vector.value), True, self.vector.version
        self._blanks: dict[tuple[int, ...], Tensor] = {}
        self.place(device)

    def pack(self, grads: Sequence[Tensor | None]) -> Tensor:
        """The gradients of all the optimizer's parameters, as a vector laid out like this one."""
        parts: list[Tensor] = []
        for piece in self.pieces:
            g = grads[piece.place]
            parts.append(self._blank(piece.shape) if g is None else self._fitting(piece, g))
            if piece.padding:
                parts.append(self._blank((piece.padding,)))
        return ops.pack(*parts)

    def _fitting(self, piece: Piece, g: Tensor) -> Tensor:
        if g.shape != piece.shape:
            raise ShapeError(f"update: {piece.name} has the shape {piece.shape}, its gradient {g.shape}")
        if g.dtype != self.vector.dtype:
            dtype = self.vector.dtype
            raise DTypeError(f"update: {piece.name} is {dtype}, its gradient {g.dtype}. Use g.cast(dtype='{dtype}')")
        return g

    def _blank(self, shape: tuple[int, ...]) -> Tensor:
        """Zeros: in a traced step a constant, which need not be written every time."""
        if mode.trace is not None:
            zero = Tensor(Spec((), self.vector.dtype), self.vector.device, mode.trace.constant(0.0, self.vector.dtype))
            return ops.broadcast_to(zero, shape=shape)
        if shape not in self._blanks:
            self._blanks[shape] = upload(np.zeros(shape), self.vector.device, self.vector.dtype)
        return self._blanks[shape]

    def zeros(self) -> Tensor:
        """A vector like this one, all zero."""
        return upload(np.zeros(self.vector.shape), self.vector.device, self.vector.dtype)

    def split(self, vector: Tensor) -> dict[str, npt.NDArray[Any]]:
        """Copies of a vector's pieces, by parameter name."""
        flat = vector.numpy()
        return {piece.name: np.array(piece.of(flat)) for piece in self.pieces}

    def join(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Tensor:
        """The vector of such pieces."""
        dtype = self.vector.dtype
        return upload(self._joined([arrays[piece.name] for piece in self.pieces], dtype), self.vector.device, dtype)

    def _joined(self, arrays: Sequence[npt.NDArray[Any]], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        flat = np.zeros(sum(piece.size + piece.padding for piece in self.pieces), dtype)
        for piece, array in zip(self.pieces, arrays, strict=True):
            piece.of(flat)[...] = array
        return flat


# ---------------------------------------------------------------- who is in which group

RULE = ("match", "lr", "lr_factor", "weight_decay")


def parse(params: Iterable[Any], first: int = 0) -> tuple[list[Named], list[dict[str, Any]]]:
    """Tensors, (name, Tensor) pairs or PyTorch's dicts: all with names (numbers from `first`), a rule for each dict."""
    if isinstance(params, Tensor):
        raise ConfigError("an optimizer takes a list of parameters, got one Tensor. Use [tensor]")
    named: list[Named] = []
    rules: list[dict[str, Any]] = []
    for entry in params:
        if isinstance(entry, Mapping):
            inside, nested = parse(entry.get("params", ()), first + len(named))
            if nested or not inside:
                raise ConfigError('a group is {"params": [Tensors], "lr": ..., "weight_decay": ...}; no params here')
            named += inside
            rules.append({"match": [name for name, _ in inside], **{k: v for k, v in entry.items() if k != "params"}})
            continue
        name, t = entry if isinstance(entry, tuple) else (str(first + len(named)), entry)
        if not isinstance(t, Tensor):
            raise ConfigError(f"an optimizer takes Tensors, (name, Tensor) pairs or dicts, got {type(t).__name__}")
        named.append((name, t))
    return named, rules


def trained(named: Iterable[Named]) -> list[Named]:
    """Those that require a gradient, a shared Tensor once; all on one device and of one dtype."""
    kept: dict[int, Named] = {}
    for name, t in named:
        if t.requires_grad:
            kept.setdefault(id(t), (name, t))
    if not kept:
        raise ConfigError("an optimizer without parameters: none of the Tensors requires a gradient")
    first_name, first = next(iter(kept.values()))
    names = set()
    for name, t in kept.values():
        if t.device is not first.device:
            where = f"{name} lives on {t.device.name}, {first_name} on {first.device.name}"
            raise DeviceError(f"{where}. Move the model to one device first")
        if t.dtype != first.dtype:
            raise DTypeError(f"{name} is {t.dtype}, {first_name} is {first.dtype}. Give the model one dtype first")
        if name in names:
            raise ConfigError(f'two different parameters are called "{name}"')
        names.add(name)
    return list(kept.values())


def arrange(named: Sequence[Named], rules: Sequence[Mapping[str, Any]]) -> list[Group]:
    """One group for each rule that catches a parameter (the first match wins), and one for the rest."""
    members: dict[int, list[tuple[int, str, Tensor]]] = {}
    for index, (name, t) in enumerate(named):
        rule = next((i for i, r in enumerate(rules) if matches(r, name)), len(rules))
        members.setdefault(rule, []).append((index, name, t))
    return [Group(rules[i] if i < len(rules) else {}, members[i]) for i in sorted(members)]


def matches(rule: Mapping[str, Any], name: str) -> bool:
    pattern = rule["match"]
    return fnmatchcase(name, pattern) if isinstance(pattern, str) else name in pattern


def check_rules(rules: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    checked = []
    for rule in rules:
        unknown = next((key for key in rule if key not in RULE), None)
        if unknown is not None:
            raise ConfigError(f'a group has no setting "{unknown}".{did_you_mean(unknown, RULE)}')
        if "match" not in rule:
            raise ConfigError(f'a group says which parameters it is for: {{"match": "*.bias", ...}}, got {dict(rule)}')
        checked.append(dict(rule))
    return checked


def check_matched(rules: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    for rule in rules:
        if not any(matches(rule, name) for name in names):
            hint = did_you_mean(str(rule["match"]), names)
            raise ConfigError(f"no parameter matches the group {rule['match']!r}.{hint}")
