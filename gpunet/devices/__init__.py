"""Where arrays live and kernels run: one file a device, and one door, `select.device`."""

from .base import ALIGNMENT, Device, Memory, address, aligned, aligned_zeros, overlaps
from .select import device

__all__ = ["ALIGNMENT", "Device", "Memory", "address", "aligned", "aligned_zeros", "device", "overlaps"]
