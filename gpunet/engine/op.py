"""An op is one row: name, forward, shape rule, vjp. The names of their parameters are the declaration.

@op(shape=same, elementwise=True)
def tanh(dev, out, x):                    # always (dev, *outs, *ins, *, settings): writes into out
    dev.xp.tanh(x, out=out)

@tanh.vjp
def _(g, out):                            # written in ops; asks for out alone, so the tape keeps out alone
    return g * (1 - out * out)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import numpy as np

from ..devices import Device
from ..errors import ConfigError, DeviceError, DTypeError, GraphError, RangeError, ShapeError, TraceError, did_you_mean
from .node import Node, Recorder, Spec, mode, set_mode
from .tape import walk
from .tensor import DEFAULT_DTYPE, Tensor

SMALL = 512  # elements of an input that the tape may hold for a drawing
IN, OUT, IN_SHAPE, OUT_SHAPE, IN_DTYPE, ALL_SHAPES = range(6)  # what a parameter of a vjp can ask to be kept


class Op:
    """What it computes, what comes out, how gradients flow back; a device may have a faster kernel of its name.

    Args:
        forward: `forward(dev, *outs, *ins, **settings)` writes into outs; a view op has no outs and returns views.
        shape: `shape(*ins, **settings)` gives the Spec of the output, or one for each; it sees Specs or arrays.
        outs: number of outputs.
        view: the result shares the memory of the first input.
        elementwise: a gradient that comes back broadcast is summed down to the input's shape.
        commutes: op(x, y) is op(y, x); the fuser tries both.
        inplace: for each output the input whose memory it may take, if a kernel promises so.
        kernel: the device kernel's name, where it is not the op's own.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        shape: Callable[..., Any],
        *,
        name: str = "",
        outs: int = 1,
        view: bool = False,
        elementwise: bool = False,
        commutes: bool = False,
        inplace: Sequence[str] = (),
        kernel: str = "",
    ) -> None:
        self.name = name or forward.__name__.lstrip("_")  # _reshape is the op, reshape the function around it
        self.forward, self.shape, self.n_outs, self.view = forward, shape, outs, view
        self.elementwise, self.commutes, self.inplace = elementwise, commutes, tuple(inplace)
        self.kernel, self.__doc__ = kernel or self.name, forward.__doc__
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        self._declare(parameters, n_named_outs=0 if view else outs)
        self.backward: Callable[..., Any] | None = None
        self.keeps: tuple[tuple[int, int], ...] = ()
        self.asks: tuple[str, ...] = ()
        self._runs: dict[Device, Callable[..., Any]] = {}

    def _declare(self, parameters: list[inspect.Parameter], n_named_outs: int) -> None:
        arrays = [p.name for p in parameters if p.kind != p.KEYWORD_ONLY]
        self.variadic = any(p.kind == p.VAR_POSITIONAL for p in parameters)
        self.outs, self.ins = tuple(arrays[:n_named_outs]), tuple(arrays[n_named_outs:])
        self.settings = tuple(p.name for p in parameters if p.kind == p.KEYWORD_ONLY)
        self._names = frozenset(self.settings)
        self.defaults = {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is not p.empty}

    def vjp(self, backward: Callable[..., Any]) -> Callable[..., Any]:
        """Register `backward(*gs, <what it needs>, *, <settings>)`: one gradient, or a tuple, one for each input.

        It may ask by name for inputs and outputs, for `x_shape`, `out_shape`, `x_dtype` (which keep no array) and for
        `shapes` (of all inputs). A gradient may be None (none flows) or a lambda (called only if it is wanted).
        """
        parameters = inspect.signature(backward).parameters.values()
        named = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD][self.n_outs :]
        self.backward, self.keeps = backward, tuple(map(self._locate, named))
        self.asks = tuple(p.name for p in parameters if p.kind == p.KEYWORD_ONLY)
        return backward

    def _locate(self, name: str) -> tuple[int, int]:
        if name == "shapes":
            return ALL_SHAPES, 0
        for suffix, place_in, place_out in (("", IN, OUT), ("_shape", IN_SHAPE, OUT_SHAPE), ("_dtype", IN_DTYPE, -1)):
            stem = name[: len(name) - len(suffix)] if suffix and name.endswith(suffix) else name if not suffix else ""
            if stem in self.ins:
                return place_in, self.ins.index(stem)
            if stem in self.outs and place_out >= 0:
                return place_out, self.outs.index(stem)
        raise GraphError(
            f"the vjp of {self.name} asks for {name!r}; there are inputs {self.ins} and outputs {self.outs}"
        )

    # ------------------------------------------------------------------ applying it

    def __call__(self, *args: Any, **settings: Any) -> Any:
        if self.settings or settings:
            settings = self._fill(settings)
        for a in args:
            if a.__class__ is not Tensor:
                args = self.admit(args)
                break
        device = args[0].device
        for a in args:
            if a.device is not device:
                raise DeviceError(
                    f"{self.name}: Tensors on {device.name} and on {a.device.name}. Move one with .to({device.name!r})"
                )
        try:
            if mode.trace is not None:
                return self._record(mode.trace, args, settings, device)
            return self._run(args, settings, device)
        except Exception as error:
            self._explain(error, args)
            raise

    def _run(self, args: tuple[Tensor, ...], settings: dict[str, Any], device: Device) -> Any:
        arrays = [a.value for a in args]
        if self.view:
            made = self.forward(device, *arrays, **settings)
            values = made if isinstance(made, tuple) else (made,)
        else:
            specs = self.shape(*arrays, **settings)
            if self.n_outs == 1:
                values = (device.empty(specs.shape, specs.dtype),)
            else:
                values = tuple(device.empty(s.shape, s.dtype) for s in specs)
            self.runner(device)(*values, *arrays, **settings)
        node = None
        if self.backward is not None and mode.record:
            for a in args:
                if a.node is not None and a.node.tracked:
                    node = self._tape(args, arrays, values, settings)
                    break
        if len(values) == 1:
            out = Tensor(values[0], device, node)
            if self.view and args[0].version is not None:
                out.version = args[0].version
            return out
        return tuple(Tensor(v, device, node if v.dtype.kind == "f" else None, i) for i, v in enumerate(values))

    def _tape(
        self, args: Sequence[Tensor], arrays: list[Any], values: tuple[Any, ...], settings: dict[str, Any]
    ) -> Node:
        """The node that remembers this application: edges to tracked inputs, and what the vjp will ask for."""
        edges = tuple([(a.node, a.index) if a.node is not None and a.node.tracked else None for a in args])
        specs = tuple([Spec(v.shape, v.dtype) for v in values])
        node = Node(self, edges, settings, specs, True)
        node.given = tuple(
            [
                None if e is not None and e[0].op is not None else a if a.size <= SMALL else ref(a)
                for e, a in zip(edges, arrays, strict=True)
            ]
        )
        kept: list[Any] = []
        for place, i in self.keeps:
            if place == IN:
                kept.append(arrays[i])
                version = args[i].version
                if version is not None:
                    node.stamps += ((version, version.count),)
            else:
                kept.append(self._shape_of(place, i, arrays, specs) if place != OUT else values[i])
        node.kept = tuple(kept)
        return node

    @staticmethod
    def _shape_of(place: int, i: int, ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        if place == IN_SHAPE:
            return ins[i].shape
        if place == OUT_SHAPE:
            return outs[i].shape
        return ins[i].dtype if place == IN_DTYPE else tuple(a.shape for a in ins)

    def _record(self, trace: Recorder, args: tuple[Tensor, ...], settings: dict[str, Any], device: Device) -> Any:
        made = self.shape(*[a.value for a in args], **settings)
        specs = tuple([Spec(tuple(s.shape), np.dtype(s.dtype)) for s in ((made,) if isinstance(made, Spec) else made)])
        tracked = mode.record and self.backward is not None and any(a.tracked for a in args)
        node = Node(self, tuple([trace.edge(a) for a in args]), settings, specs, tracked)
        trace.nodes.append(node)
        if len(specs) == 1:
            return Tensor(specs[0], device, node)
        return tuple([Tensor(s, device, node, i) for i, s in enumerate(specs)])

    def _fill(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Every setting is there, so that vjps and patterns can ask for it."""
        if settings.keys() == self._names:
            return settings
        full = {**self.defaults, **settings}
        if full.keys() != self._names:
            unknown = next((name for name in settings if name not in self.settings), None)
            if unknown is not None:
                raise ConfigError(f"{self.name}: no setting {unknown!r}.{did_you_mean(unknown, self.settings)}")
            missing = next(name for name in self.settings if name not in full)
            raise ConfigError(f"{self.name}: the setting {missing!r} is missing")
        return full

    def admit(self, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Numbers and NumPy arrays beside a Tensor become Tensors; a Python number takes the Tensors' dtype."""
        like: Tensor | None = None
        for a in args:
            if a.__class__ is Tensor and (like is None or (a.dtype.kind == "f" and like.dtype.kind != "f")):
                like = a
        if like is None:
            raise DeviceError(f"{self.name}: no Tensor among the arguments. Make one with gpunet.tensor(...)")
        dtype, device = like.dtype, like.device
        return tuple([a if a.__class__ is Tensor else self._constant(a, dtype, device) for a in args])

    def _constant(self, value: Any, like: np.dtype[Any], device: Device) -> Tensor:
        if isinstance(value, (bool, int, float)):
            dtype = like
            if like.kind != "f" and not isinstance(value, bool):
                dtype = DEFAULT_DTYPE if isinstance(value, float) else like if like.kind in "iu" else np.dtype(np.int64)
            if mode.trace is not None:
                return Tensor(Spec((), dtype), device, mode.trace.constant(value, dtype))
            return Tensor(device.upload(np.asarray(value, dtype)), device)
        if isinstance(value, (np.ndarray, np.generic, list, tuple)):
            device.check_host(self.name)
            return Tensor(np.asarray(value, like if isinstance(value, (list, tuple)) else None), device)
        raise DeviceError(f"{self.name}: a Tensor, a number or an array wanted, got {type(value).__name__}")

    def runner(self, device: Device) -> Callable[..., Any]:
        """How this device runs the op: its own kernel, which may decline (NotImplemented), else the xp code."""
        found = self._runs.get(device)
        if found is None:
            found = self._runs[device] = self._bind(device)
        return found

    def _bind(self, device: Device) -> Callable[..., Any]:
        kernel, forward, n = device.kernels.get(self.kernel), self.forward, self.n_outs
        if kernel is None:

            def run(*arrays: Any, **settings: Any) -> None:
                forward(device, *arrays, **settings)
        else:

            def run(*arrays: Any, **settings: Any) -> None:
                if kernel(*arrays, **settings) is NotImplemented:
                    plain = plain_copies(arrays[n:])
                    if plain is None or kernel(*arrays[:n], *plain, **settings) is NotImplemented:
                        forward(device, *arrays, **settings)

        return run

    def _explain(self, error: Exception, args: Sequence[Tensor]) -> None:
        """Raise something better than `error` where the cause can be told; only called once it has gone wrong."""
        if mode.trace is None and any(isinstance(a.value, Spec) for a in args):
            raise TraceError(
                f"{self.name} got a Tensor that a traced function left behind. Return it from that function instead"
            ) from None
        if not self.variadic and len(args) != len(self.ins):
            raise ConfigError(
                f"{self.name} takes {len(self.ins)} Tensors ({', '.join(self.ins)}), got {len(args)}. "
                f"Settings go by keyword: {', '.join(self.settings) or 'none'}"
            ) from None
        if isinstance(error, (ShapeError, DTypeError)) and not str(error).startswith(f"{self.name}:"):
            raise type(error)(f"{self.name}: {error}") from None
        if type(error) is IndexError:  # a kernel's
            raise RangeError(str(error)) from None

    # ------------------------------------------------------------------ walking back through it

    def pull(self, node: Node, gs: Sequence[Tensor | None], device: Device) -> tuple[Any, ...]:
        """The gradients of the node's inputs, from those of its outputs; the vjp gets what its parameters name."""
        assert self.backward is not None
        if mode.trace is None:
            if node.kept is None:
                raise GraphError(
                    f"backward went through this graph before and freed it (at {self.name}). Use retain_graph=True the first time"
                )
            for version, count in node.stamps:
                if version.count != count:
                    raise GraphError(
                        f"{self.name}: a parameter was written in place after the forward pass that used it. "
                        "Call backward() before the optimizer's step"
                    )
        given = [self._give(node, place, i, k, device) for k, (place, i) in enumerate(self.keeps)]
        grads = self.backward(*gs, *given, **{name: node.settings[name] for name in self.asks})
        return grads if isinstance(grads, tuple) else (grads,)

    def _give(self, node: Node, place: int, i: int, k: int, device: Device) -> Any:
        kept = node.kept[k] if mode.trace is None and node.kept is not None else None
        if place == OUT:
            return Tensor(node.specs[i] if kept is None else kept, device, node, i)
        if place == IN:
            parent, index = node.inputs[i] or (None, 0)
            return Tensor(parent.specs[index] if kept is None and parent is not None else kept, device, parent, index)
        if kept is not None:
            return kept
        return self._shape_of(place, i, [n.specs[j] for n, j in (e for e in node.inputs if e is not None)], node.specs)

    def __repr__(self) -> str:
        return f"<op {self.name}({', '.join(self.ins + tuple(f'{s}=' for s in self.settings))})>"


def plain_copies(arrays: Sequence[Any]) -> list[Any] | None:
    """For a kernel that declines the layout of views: the same with copies in their place; None if there are no views."""
    plain = [a if a.flags.c_contiguous else a.copy() for a in arrays]
    return plain if any(a is not b for a, b in zip(plain, arrays, strict=True)) else None


def op(shape: Callable[..., Any], **kinds: Any) -> Callable[[Callable[..., Any]], Op]:
    """Make an Op of the forward function below: `@op(shape=same, elementwise=True)`."""
    return lambda forward: Op(forward, shape, **kinds)


class Composite(Op):
    """An op whose meaning is a small function of other ops. It *is* that function until a device has a kernel of its name.

    The one function is its specification, its shape rule, its default vjp and the pattern that the fuser looks for.

    shape: the same shape rule in fewer words, where a step of a new size would run the function for each layer again.
    """

    def __init__(
        self,
        meaning: Callable[..., Any],
        *,
        shape: Callable[..., Any] | None = None,
        outs: int = 1,
        elementwise: bool = False,
        inplace: Sequence[str] = (),
    ) -> None:
        super().__init__(meaning, shape or self.meant_shape, outs=outs, elementwise=elementwise, inplace=inplace)
        parameters = list(inspect.signature(meaning).parameters.values())
        self._declare(parameters, n_named_outs=0)
        self.outs = ("out",) if outs == 1 else tuple(f"out{i}" for i in range(outs))
        self.meaning, self.forward = meaning, self._forward
        self.backward, self.keeps = self.by_meaning, tuple((IN, i) for i in range(len(self.ins)))
        self.asks = self.settings
        self._specs: dict[Any, Any] = {}

    def __call__(self, *args: Any, **settings: Any) -> Any:
        for a in args:
            if a.__class__ is Tensor:
                if self.kernel in a.device.kernels:
                    return super().__call__(*args, **settings)
                break
        return self.meaning(*args, **settings)

    def _forward(self, dev: Device, *arrays: Any, **settings: Any) -> None:
        """The meaning, run and copied into outs: what a kernel that declines falls back to."""
        with set_mode(record=False):
            made = self.meaning(*[Tensor(a, dev) for a in arrays[self.n_outs :]], **settings)
        for out, value in zip(arrays, made if isinstance(made, tuple) else (made,), strict=False):
            out[...] = value.value

    def meant_shape(self, *ins: Any, **settings: Any) -> Any:
        """The shape rule, by the meaning."""
        key = tuple([(a.shape, a.dtype) for a in ins]), tuple(settings.items())
        if key not in self._specs:
            specs = [Spec(tuple(a.shape), np.dtype(a.dtype)) for a in ins]
            with set_mode(trace=Recorder(), record=False):
                made = self.meaning(*[Tensor(s, _NOWHERE, Node(specs=(s,))) for s in specs], **settings)
            self._specs[key] = tuple(t.spec for t in made) if isinstance(made, tuple) else made.spec
        return self._specs[key]

    def by_meaning(self, *args: Any, **settings: Any) -> tuple[Any, ...]:
        """The default vjp: of the outputs' gradients and the inputs. A vjp of its own may leave rare cases to it."""
        gs, ins = args[: self.n_outs], args[self.n_outs :]
        with set_mode(record=True):
            made = self.meaning(*ins, **settings)
        outs = made if isinstance(made, tuple) else (made,)
        stop = {t.edge for t in ins if t.edge is not None}
        found = walk(outs, gs, stop=stop, create_graph=mode.record, retain_graph=True)
        return tuple(
            found.pop(t.edge, None) if t.edge is not None else None for t in ins
        )  # pop: x * x has its sum once


def composite(meaning: Callable[..., Any] | None = None, **kinds: Any) -> Any:
    """Make a Composite of the function below: `@composite` or `@composite(outs=2)`."""
    return Composite(meaning) if meaning is not None else lambda meaning: Composite(meaning, **kinds)


_NOWHERE = Device()
