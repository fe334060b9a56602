"""The one door through which a device is chosen."""

from __future__ import annotations

import logging
import re

from ..errors import ConfigError
from . import cpu, cuda, environment
from .base import Device

log = logging.getLogger("gpunet")
_opened: dict[str, Device] = {}


def device(name: Device | str | None = None) -> Device:
    """The device called "cpu", "cuda" (the first GPU), "cuda:1", or "auto": the GPU if it can be used, else the CPU.

    None asks for GPUNET_DEVICE, else "auto". Asking for CUDA where there is none raises DeviceError, which says what
    is missing; "auto" falls back to the CPU and logs one line that says why.
    """
    if isinstance(name, Device):
        return name
    wanted = name or environment.settings().device
    if wanted == "auto":
        wanted = _automatic()
    if wanted == "cuda":
        wanted = "cuda:0"
    if wanted not in _opened:
        _opened[wanted] = _open(wanted)
    return _opened[wanted]


def _open(name: str) -> Device:
    if name == "cpu":
        return cpu.open_cpu()
    number = re.fullmatch(r"cuda:(\d+)", name)
    if number is None:
        raise ConfigError(f'no device "{name}". Devices: auto, cpu, cuda, cuda:0, cuda:1, ...')
    return cuda.open_cuda(int(number[1]))


def _automatic() -> str:
    problem = environment.cuda_problem()
    if problem is None:
        return "cuda:0"
    if "auto" not in _reasons:
        _reasons["auto"] = problem
        log.info("device auto: the CPU (%s)", problem)
    return "cpu"


_reasons: dict[str, str] = {}
