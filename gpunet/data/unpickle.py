"""Reads pickled dicts of plain values and NumPy arrays, and calls nothing that the pickle names.

The standard library's tokenizer (pickletools) splits the file and the small stack machine here builds the values, so a
name in the pickle (os.system, builtins.eval, getattr) is a string that is compared, never an object that is imported.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FormatError

MARK = object()
DTYPES = frozenset(("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"))


@dataclass(frozen=True)
class _Name:
    """A global of the pickle; only those of REDUCERS are understood."""

    text: str


@dataclass(eq=False)
class _Box:
    """A dtype or an array between REDUCE, which makes it, and BUILD, which fills it."""

    value: Any


def load_dict(data: bytes) -> dict[str, Any]:
    """The pickled dict, keys as str; FormatError for a pickle of anything but plain values and arrays of numbers."""
    try:
        value = _Machine().run(data)
        if not isinstance(value, dict):
            raise FormatError(f"a pickled dict is expected, got {type(value).__name__}")
        return {_text(key): item.value if isinstance(item, _Box) else item for key, item in value.items()}
    except FormatError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:  # bytes that make no sense
        raise FormatError(f"cut short or damaged ({error})") from error


def _text(key: Any) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


class _Machine:
    """The stack machine of the pickle format, as far as plain values need it."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}  # a dict, not a list: a pickle may name any index

    def run(self, data: bytes) -> Any:
        for opcode, arg, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in CONSTANTS:
                self.stack.append(CONSTANTS[opcode.name])
            elif opcode.name in LITERALS:
                self.stack.append(arg)
            elif opcode.name in ACTIONS:
                ACTIONS[opcode.name](self, arg)
            else:
                raise FormatError(f"the pickle uses {opcode.name}, which plain values do not need: refused")

    def pop(self, count: int) -> list[Any]:
        items = [self.stack.pop() for _ in range(count)]
        return items[::-1]

    def pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]

    def push_list(self, _: Any) -> None:
        self.stack.append([])

    def push_dict(self, _: Any) -> None:
        self.stack.append({})

    def put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("items are added to what is no list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        # Other keys are refused because hashing them can take forever: tuples in tuples, each shared twice.
        if not isinstance(target, dict) or not all(isinstance(key, (str, bytes, int)) for key in keys):
            raise ValueError("a dict with keys of str, bytes or int is expected")
        target.update(zip(keys, items[1::2], strict=True))

    def name(self, text: str) -> None:
        if text not in REDUCERS and text != "numpy ndarray":
            raise FormatError(
                f"the pickle asks for {text.replace(' ', '.')}: refused, only arrays and plain values are read"
            )
        self.stack.append(_Name(text))

    def reduce(self, _: Any) -> None:
        maker, args = self.pop(2)
        if not isinstance(maker, _Name):
            raise TypeError("a call of what is no name")
        self.stack.append(REDUCERS[maker.text](*args))

    def build(self, _: Any) -> None:
        box, state = self.stack[-2], self.stack.pop()
        if not isinstance(box, _Box):
            raise TypeError("a state for what is neither dtype nor array")
        if isinstance(box.value, np.dtype):
            box.value = box.value.newbyteorder(state[1])
        else:
            _, shape, dtype, is_fortran, raw = state
            box.value = _array(raw, dtype, shape, "F" if is_fortran else "C")


def _dtype(code: Any, *_: Any) -> _Box:
    if code not in DTYPES:
        raise FormatError(f"the pickle holds an array of dtype {code!r}: refused, only numbers are read")
    return _Box(np.dtype(code))


def _array(raw: Any, dtype: _Box, shape: Any, order: Any) -> npt.NDArray[Any]:
    """The array of these bytes, which Python 2 pickled as a str."""
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    expected = math.prod(shape) * dtype.value.itemsize
    if not isinstance(raw, (bytes, bytearray)) or len(raw) != expected:
        raise ValueError(f"an array of {dtype.value} {shape} needs {expected} bytes")
    return np.frombuffer(raw, dtype.value).reshape(shape, order="F" if order == "F" else "C").copy()


def _encoded(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in protocol 2."""
    if encoding != "latin1":
        raise ValueError(f"bytes encoded as {encoding}")
    return text.encode("latin-1")


# fmt: off
REDUCERS: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray _reconstruct":  lambda *_: _Box(None),
    "numpy._core.multiarray _reconstruct": lambda *_: _Box(None),
    "numpy.core.numeric _frombuffer":      lambda *args: _Box(_array(*args)),
    "numpy._core.numeric _frombuffer":     lambda *args: _Box(_array(*args)),
    "numpy dtype":                         _dtype,
    "_codecs encode":                      _encoded,
}
CONSTANTS = {"MARK": MARK, "NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
LITERALS = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
))
ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO":        lambda machine, _: None,
    "FRAME":        lambda machine, _: None,
    "EMPTY_LIST":   _Machine.push_list,
    "EMPTY_DICT":   _Machine.push_dict,
    "LIST":         lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "TUPLE":        lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1":       lambda machine, _: machine.stack.append(tuple(machine.pop(1))),
    "TUPLE2":       lambda machine, _: machine.stack.append(tuple(machine.pop(2))),
    "TUPLE3":       lambda machine, _: machine.stack.append(tuple(machine.pop(3))),
    "APPEND":       lambda machine, _: machine.extend(machine.pop(1)),
    "APPENDS":      lambda machine, _: machine.extend(machine.pop_to_mark()),
    "SETITEM":      lambda machine, _: machine.update(machine.pop(2)),
    "SETITEMS":     lambda machine, _: machine.update(machine.pop_to_mark()),
    "PUT":          _Machine.put,
    "BINPUT":       _Machine.put,
    "LONG_BINPUT":  _Machine.put,
    "MEMOIZE":      _Machine.put,
    "GET":          _Machine.get,
    "BINGET":       _Machine.get,
    "LONG_BINGET":  _Machine.get,
    "GLOBAL":       _Machine.name,
    "STACK_GLOBAL": lambda machine, _: machine.name(" ".join(machine.pop(2))),
    "REDUCE":       _Machine.reduce,
    "BUILD":        _Machine.build,
}
# fmt: on
