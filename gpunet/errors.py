"""The error family: each message names the op, column or line, shows expected and got, and offers the way out.

`exit_code` is what the command `gpunet-train` ends with when the error reaches it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GpunetError(Exception):
    """Whatever gpunet raises on purpose."""

    exit_code = 1


class ShapeError(GpunetError, ValueError):
    """Shapes that do not fit together."""


class RangeError(GpunetError, IndexError):
    """An index beyond what there is."""


class DTypeError(GpunetError, TypeError):
    """Element types that do not fit together; gpunet never promotes a float silently."""


class GraphError(GpunetError, RuntimeError):
    """The graph cannot be walked: freed, changed in place, or not there."""


class TraceError(GraphError):
    """A traced function asked for a value, which only a running function has."""


class ConfigError(GpunetError, ValueError):
    """A setting that does not exist or cannot be had."""

    exit_code = 2


class DataError(GpunetError, ValueError):
    """A data file or table that cannot be used as it is."""

    exit_code = 3


class FormatError(DataError):
    """A file that is cut short, altered, of a newer format, or not what it was taken for."""


class RunError(GpunetError, RuntimeError):
    """A run's directory that cannot be written or is in use; what was saved in it is whole."""


class DeviceError(GpunetError, RuntimeError):
    """The device asked for is not there, or arrays live on different ones."""

    exit_code = 4


class OutOfMemoryError(DeviceError, MemoryError):
    """The device has too little memory left."""


class DivergedError(GpunetError, ArithmeticError):
    """NaN or infinity appeared in training; the message names epoch, step and layer."""

    exit_code = 5


def did_you_mean(name: str, known: Iterable[str], *, most: int = 20) -> str:
    """The tail of an error about an unknown name: the nearest known one, and all of them if they are few."""
    names = [str(k) for k in known]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    listed = ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
    return f"{hint} Known: {listed}" if listed else hint
