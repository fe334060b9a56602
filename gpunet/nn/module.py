"""A Module holds parameters, states and other modules, each by a dotted name, and says in ops what it computes."""

from __future__ import annotations

import copyreg
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import rng
from ..devices import Device, select
from ..engine import DEFAULT_DTYPE, Spec, Tensor, mode, tensor
from ..errors import ConfigError, GraphError, ShapeError, did_you_mean
from . import init


class Declared(NamedTuple):
    """A parameter whose values are not drawn yet."""

    shape: tuple[int, ...]
    init: str


class Module:
    """Subclass it, declare parameters in the constructor, define `forward(x)`.

        class Scale(nn.Module):
            def __init__(self, n):
                self.declare("factor", (n,), init="ones")
            def forward(self, x):
                return x * self.factor

    Weights are drawn at first use, or by `initialize(seed)`, from the stream of their dotted path below the outermost
    module, so one seed gives the same weights wherever and in whatever order the layers were built.
    """

    fields: tuple[str, ...] = ()  # the constructor's arguments, for config()

    def __new__(cls, *_: Any, **__: Any) -> Module:
        self = super().__new__(cls)
        vars(self).update(
            _declared={}, _training=True, _parent=None, _name="", _seed=0, _dtype=DEFAULT_DTYPE, _device=None, _form=object()
        )
        return self

    # ------------------------------------------------------------------ what it is made of

    def declare(self, name: str, shape: tuple[int, ...], *, init: str) -> None:
        """A parameter of this shape, to be drawn by the initialiser called `init`."""
        self._declared[name] = Declared(tuple(int(n) for n in shape), init)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            value._place(self, name)
        if name in self.__dict__:  # what a compiled function has seen of this module is no longer true
            self.__dict__["_form"] = object()
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_declared", ()):
            self.root.initialize()
            return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _place(self, parent: Module, name: str) -> None:
        vars(self).update(_parent=weakref.ref(parent), _name=name)

    @property
    def parent(self) -> Module | None:
        return self._parent() if self._parent is not None else None

    @property
    def root(self) -> Module:
        module = self
        while module.parent is not None:
            module = module.parent
        return module

    @property
    def path(self) -> str:
        """Its dotted name below the outermost module; "" for that one."""
        parent = self.parent
        return "" if parent is None else f"{parent.path}.{self._name}".lstrip(".")

    def children(self) -> Iterator[tuple[str, Module]]:
        for name, value in list(vars(self).items()):
            if isinstance(value, Module):
                yield name, value

    def modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with their dotted names; one that is used twice comes once."""
        yield from self._walk(prefix, set())

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) not in seen:
            seen.add(id(self))
            yield prefix, self
            for name, child in self.children():
                yield from child._walk(f"{prefix}.{name}".lstrip("."), seen)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All parameters and states, by dotted name."""
        self._ready()
        for prefix, module in self.modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    yield f"{prefix}.{name}".lstrip("."), value

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """What training changes: the Tensors that require a gradient."""
        return ((name, t) for name, t in self.named_tensors() if t.requires_grad)

    def parameters(self) -> list[Tensor]:
        return [t for _, t in self.named_parameters()]

    # ------------------------------------------------------------------ weights

    def _ready(self) -> None:
        if not self._initialized:
            self.root.initialize()

    @property
    def _initialized(self) -> bool:
        return not any(module._declared for _, module in self.modules())

    def initialize(self, seed: int | None = None) -> Module:
        """Draw the weights that are not drawn yet, for this seed (0 unless given before); returns itself."""
        for path, module in self.modules():
            if seed is not None:
                module.__dict__["_seed"] = int(seed)
            for name, (shape, how) in module._declared.items():
                full = f"{path}.{name}".lstrip(".")
                values = init.get(how)(shape, seed=module._seed, stream=rng.stream(full)).astype(module._dtype)
                module._set(name, values)
            module._declared.clear()
        return self

    @property
    def unsettled(self) -> bool:
        """Whether its first weights are still to be fitted to the data it will see; see `settle`."""
        return any(child.unsettled for _, child in self.children())

    def settle(self, x: Tensor) -> Tensor:
        """As a call on training rows x; layers whose first weights depend on their inputs draw them on the way."""
        return self(x)

    def to(self, target: Device | str | npt.DTypeLike) -> Module:
        """Move it to a device ("cpu", "cuda:0"), or give it another floating point dtype; in place, returns itself."""
        is_device = isinstance(target, Device) or (isinstance(target, str) and not target.startswith("float"))
        device = select.device(target) if is_device else None  # type: ignore[arg-type]
        dtype = None if is_device else np.dtype(target)  # type: ignore[arg-type]
        for _, module in self.modules():
            vars(module).update({"_device": device} if device is not None else {"_dtype": dtype})
        for name, t in [pair for _, m in self.modules() for pair in vars(m).items() if isinstance(pair[1], Tensor)]:
            if t.version is not None and not (t.device is device or t.dtype == dtype):
                raise GraphError(
                    f"{name} lives in an optimizer's vector. Move the model before the optimizer is bound to it"
                )
            _move(t, device, dtype)
        return self

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Copies of all parameters and states, by dotted name."""
        return {name: np.array(t.numpy()) for name, t in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Write values into the parameters and states of the same names; all must be there and fit."""
        self._adopt(state)
        mine = dict(self.named_tensors())
        for name in state:
            if name not in mine:
                raise ConfigError(f"load_state_dict: no parameter {name!r}.{did_you_mean(name, mine)}")
        for name, t in mine.items():
            if name not in state:
                raise ConfigError(f"load_state_dict: the value of {name!r} is missing")
            if np.shape(state[name]) != t.shape:
                raise ShapeError(f"load_state_dict: {name} has the shape {t.shape}, the value {np.shape(state[name])}")
        for name, t in mine.items():
            t.assign(Tensor(t.device.upload(np.array(state[name], t.dtype)), t.device))

    def _adopt(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Parameters that are not drawn yet are made of the values for them, and need not be drawn."""
        for path, module in self.modules():
            for name, (shape, _) in list(module._declared.items()):
                value = state.get(f"{path}.{name}".lstrip("."))
                if value is not None and np.shape(value) == shape:
                    module._set(name, np.array(value, module._dtype))
                    del module._declared[name]

    def _set(self, name: str, values: npt.NDArray[Any]) -> None:
        made = Tensor(self.device.upload(values), self.device)
        made.requires_grad = True
        self.__dict__[name] = made

    # ------------------------------------------------------------------ copy and pickle

    def __getstate__(self) -> dict[str, Any]:
        """All but its place in a parent; a copy is a root of its own, with values of its own."""
        device = self._device and self._device.name
        return {name: value for name, value in vars(self).items() if name != "_parent"} | {"_device": device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)  # children find their parent
        vars(self)["_device"] = self._device and select.device(self._device)

    # ------------------------------------------------------------------ running it

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def device(self) -> Device:
        return self._where() or select.device("cpu")

    def _where(self) -> Device | None:
        """Where it was sent; a new container is where its parts are."""
        if self._device is not None:
            return self._device
        for part in vars(self).values():
            found = part._where() if isinstance(part, Module) else part.device if isinstance(part, Tensor) else None
            if found is not None:
                return found
        return None

    @property
    def training(self) -> bool:
        if mode.evaluating:
            return False
        if mode.trace is not None:
            mode.trace.guard(self, "_training", self._training)
        return self._training

    def train(self, on: bool = True) -> Module:
        """Training mode (dropout, batch statistics) on or off, for this module and all below it."""
        for _, module in self.modules():
            module.__dict__["_training"] = on
        return self

    def eval(self) -> Module:
        return self.train(False)

    def forward(self, x: Tensor) -> Tensor:
        raise ConfigError(f"{type(self).__name__} does not define forward(x)")

    def __call__(self, x: Any) -> Tensor:
        if not isinstance(x, Tensor):
            x = _admit(x, self)
        if self._declared:
            self.root.initialize()
        out = self.forward(x)
        node = out.node if out.__class__ is Tensor else None  # a module of the user's may return several
        if node is not None and node.maker is None and node.op is not None:
            node.maker = self
        if mode.trace is not None:
            mode.trace.guard(self, "_form", self._form)
        for watch in _watchers:
            watch(self, x, out)
        return out

    def config(self) -> dict[str, Any]:
        """What `nn.build` needs to make a module like this one, as JSON."""
        if LAYERS.get(type(self).__name__) is not type(self):
            raise ConfigError(
                f"{type(self).__name__} is not one of gpunet's layers, so a file cannot describe it. Save state_dict() instead"
            )
        return {"layer": type(self).__name__, **{name: getattr(self, name) for name in self.fields}}

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.fields)
        return f"{type(self).__name__}({inside})"


LAYERS: dict[str, type[Module]] = {}  # what a model file may name
_watchers: list[Any] = []  # called with (module, input, output) after each forward


def layer(cls: type[Module]) -> type[Module]:
    """Class decorator: a layer that model files may name."""
    LAYERS[cls.__name__] = cls
    return cls


def build(config: Mapping[str, Any]) -> Module:
    """The module that `config()` describes."""
    settings = dict(config)
    name = settings.pop("layer", None)
    if name not in LAYERS:
        raise ConfigError(f"no layer {name!r}.{did_you_mean(str(name), LAYERS)}")
    positional = settings.pop("layers", None) or settings.pop("widths", None) or ()
    return LAYERS[name](*positional, **settings)


def _admit(x: Any, module: Module) -> Tensor:
    """An array from outside, in the model's dtype; a model on a GPU takes Tensors only."""
    module.device.check_host(describe(module))
    array = np.asarray(x)
    if array.dtype.kind == "f":
        array = array.astype(module.dtype, copy=False)
    return Tensor(module.device.upload(array), module.device)


def _revived(values: npt.NDArray[Any], device: str, requires_grad: bool) -> Tensor:
    return tensor(values, device=device, requires_grad=requires_grad)


# A copy of a Tensor is a leaf with memory of its own, also where the original is part of an optimizer's vector.
copyreg.pickle(Tensor, lambda t: (_revived, (np.array(t.numpy()), t.device.name, t.requires_grad)))


def _move(t: Tensor, device: Device | None, dtype: Any) -> None:
    host = np.asarray(t.numpy())
    if dtype is not None and host.dtype.kind == "f":
        host = host.astype(dtype)
    t.device = device or t.device
    t.value = t.device.upload(host)
    if t.node is not None:
        t.node.specs = (Spec(t.shape, t.dtype),)
        t.node.grads = None


def describe(module: Module) -> str:
    """How an error names a layer: layer "2" (Linear 10 -> 10)."""
    sizes = f" {module.inputs} -> {module.outputs}" if "inputs" in vars(module) else ""
    return f'layer "{module.path or type(module).__name__}" ({type(module).__name__}{sizes})'
