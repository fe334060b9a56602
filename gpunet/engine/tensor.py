"""A Tensor is a value and the node that made it. Its operators are hung on by gpunet.ops, from the op table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..devices import Device, select
from ..errors import DeviceError, DTypeError, GraphError, ShapeError, TraceError
from .node import Edge, Node, Spec, Version, mode

if TYPE_CHECKING:
    import numpy.typing as npt

DEFAULT_DTYPE = np.dtype(np.float32)


class Tensor:
    """An array on a device that remembers how it was made.

    Attributes:
        value: the device's array, or a `Spec` while a function is traced.
        device: where it lives.
        grad: what `backward()` left here (leaves with `requires_grad=True`, and whoever asked by `retain_grad()`).
    """

    __slots__ = ("__weakref__", "device", "home", "index", "node", "pinned", "value", "version")
    __array_ufunc__ = None  # numpy_array + tensor is tensor's business
    # Operators and methods such as sum(), exp(), reshape() come from gpunet.ops.
    if TYPE_CHECKING:
        T: ClassVar[Any]
        mT: ClassVar[Any]

        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...

    def __init__(self, value: Any, device: Device, node: Node | None = None, index: int = 0) -> None:
        self.value, self.device, self.node, self.index = value, device, node, index
        self.pinned = False
        self.home: Any = None  # the array in which programs keep this state, nobody else's
        self.version: Version | None = None

    # ------------------------------------------------------------------ what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def size(self) -> int:
        n = 1
        for length in self.value.shape:
            n *= length
        return n

    @property
    def spec(self) -> Spec:
        value = self.value
        return value if value.__class__ is Spec else Spec(value.shape, value.dtype)

    @property
    def tracked(self) -> bool:
        """Whether a gradient flows through it."""
        return self.node is not None and self.node.tracked and self.dtype.kind == "f"

    @property
    def edge(self) -> Edge | None:
        return None if self.node is None else (self.node, self.index)

    @property
    def is_leaf(self) -> bool:
        return self.node is None or self.node.op is None

    @property
    def requires_grad(self) -> bool:
        return self.tracked

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if not self.is_leaf:
            raise GraphError(
                "requires_grad can be set on leaves only; this Tensor is the result of an op. Use detach() first"
            )
        if wanted and self.dtype.kind != "f":
            raise DTypeError(
                f"only floating point Tensors can require a gradient, this one is {self.dtype}. Use cast(dtype=...)"
            )
        if wanted != self.tracked:
            self.node = Node(specs=(self.spec,), tracked=True) if wanted else None

    # ------------------------------------------------------------------ its values

    def numpy(self) -> npt.NDArray[Any]:
        """Its values as a NumPy array in host memory (shared with the Tensor on the CPU)."""
        return self.device.download(self._concrete("numpy()"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def item(self, what: str = "item()") -> Any:
        value = self._concrete(what)
        if self.size != 1:
            raise ShapeError(
                f"{what} takes a Tensor with one element, this one has the shape {self.shape}. Use numpy()"
            )
        return self.device.download(value).item()

    def tolist(self) -> Any:
        return self.device.download(self._concrete("tolist()")).tolist()

    def __float__(self) -> float:
        return float(self.item("float()"))

    def __int__(self) -> int:
        return int(self.item("int()"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError(f"only an integer Tensor can be an index, this one is {self.dtype}")
        return int(self.item("an index"))

    def __bool__(self) -> bool:
        return bool(self.item("bool()"))

    def __len__(self) -> int:
        if not self.ndim:
            raise ShapeError("len() of a Tensor without axes")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def _concrete(self, what: str) -> Any:
        if not isinstance(self.value, Spec):
            return self.value
        raise TraceError(
            f"{what} needs the values of a Tensor of shape {self.shape}, which a traced function does not have "
            f"({_caller()}). Use ops (where, maximum, ...) instead, or run the function without compile"
        )

    # ------------------------------------------------------------------ moving and changing

    def to(self, target: Device | str | np.dtype[Any] | type) -> Tensor:
        """On another device (a new leaf), or in another dtype (an op, through which gradients flow)."""
        if not isinstance(target, (Device, str)) or (
            isinstance(target, str) and target.startswith(("float", "int", "uint", "bool"))
        ):
            return self.cast(dtype=target)
        device = select.device(target)
        if device is self.device:
            return self
        moved = Tensor(device.upload(self.numpy()), device)
        moved.requires_grad = self.is_leaf and self.tracked
        return moved

    def assign(self, new: Tensor) -> None:
        """This state's next value; the only way a Tensor changes.

        Traced, the name moves on to `new` and the graph notes it. Eager, pinned memory is written in place and its
        version counted; any other state is bound to the new array, so that what backward has kept stays as it was.
        """
        if not isinstance(new, Tensor):
            raise DTypeError(f"assign: a Tensor wanted, got {type(new).__name__}. Make one with gpunet.tensor(...)")
        if new.shape != self.shape or new.dtype != self.dtype:
            raise ShapeError(f"assign: expected {self.dtype}{list(self.shape)}, got {new.dtype}{list(new.shape)}")
        if new.device.name != self.device.name:
            raise DeviceError(
                f"assign: the state is on {self.device.name}, its new value on {new.device.name}. "
                f"Move it with .to({self.device.name!r})"
            )
        if mode.trace is not None:
            mode.trace.assign(self, new)
        elif self.pinned:
            if new.value is not self.value:
                self.value[...] = new.value
            assert self.version is not None
            self.version.count += 1
        else:  # pinned memory changes under whoever shares it
            self.value = new.value if new.version is None else new.value.copy()

    def pin(self) -> Tensor:
        """From now on written in place only: other Tensors are views of this memory."""
        self.pinned, self.version = True, self.version or Version()
        return self

    # ------------------------------------------------------------------ gradients

    @property
    def grad(self) -> Tensor | None:
        return None if self.node is None or self.node.grads is None else self.node.grads.get(self.index)

    @grad.setter
    def grad(self, g: Tensor | None) -> None:
        if self.node is None:
            raise GraphError("this Tensor requires no gradient. Make it with requires_grad=True")
        if g is None:
            self.node.grads = None
        else:
            self.node.grads = {**(self.node.grads or {}), self.index: g}

    def retain_grad(self) -> Tensor:
        """Let `backward()` leave the gradient here too, although this is not a leaf; returns itself."""
        if not self.tracked or self.node is None:
            raise GraphError("retain_grad(): no gradient flows through this Tensor")
        self.node.retains = True
        return self

    def graph(self, **names: Any) -> Any:
        """How it was computed, to look at: every value and gradient, gate by gate (`gpunet.viz.Picture`).

        names: Tensors or modules to call so in the picture; the caller's variables are found by themselves.
        """
        # The one call that goes up the house: the picture is built of everything that stands above a Tensor.
        return import_module("gpunet.viz").of_tensor(self, {**sys._getframe(1).f_locals, **names})

    def __repr__(self) -> str:
        if isinstance(self.value, Spec):
            return f"Tensor(traced {self.dtype}{list(self.shape)})"
        parts = [np.array2string(self.numpy(), separator=", ", threshold=20, edgeitems=3, prefix="Tensor(")]
        if self.dtype != DEFAULT_DTYPE:
            parts.append(f"dtype={self.dtype}")
        if self.device.name != "cpu":
            parts.append(f"device={self.device.name}")
        if self.node is not None and self.node.tracked:
            parts.append("requires_grad=True" if self.node.op is None else f"op={self.node.op.name}")
        return f"Tensor({', '.join(parts)})"


def tensor(value: Any, *, dtype: Any = None, device: Device | str = "cpu", requires_grad: bool = False) -> Tensor:
    """A Tensor of `value`: a number, nested lists, or an array, which is copied.

    Python floats become float32 (int64 for ints, bool for bools); NumPy arrays keep their dtype.
    """
    array = value.numpy() if isinstance(value, Tensor) else value
    array = np.array(array, dtype=dtype)
    if dtype is None and array.dtype == np.float64 and not isinstance(value, (np.ndarray, np.generic, Tensor)):
        array = array.astype(DEFAULT_DTYPE)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"tensor: numbers wanted, got {array.dtype} (from {type(value).__name__})")
    where = select.device(device)
    made = Tensor(where.upload(array), where)
    made.requires_grad = requires_grad
    return made


def _caller() -> str:
    """File and line of the nearest frame outside this package."""
    frame = sys._getframe(1)
    package = __name__.partition(".")[0]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame = frame.f_back
    return f"at {frame.f_code.co_filename}:{frame.f_lineno}"
