"""Where arrays live and kernels run: one file a device, and one door, `select.device`."""

from .base import Device, Memory
from .select import device

__all__ = ["Device", "Memory", "device"]
