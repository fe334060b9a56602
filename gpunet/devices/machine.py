"""What there is on this machine: processor, cores, NVIDIA driver and GPUs, installed packages. Facts, no advice."""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import platform
import re
import shlex
import shutil
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

# those that decide which kernels run, and how fast
FEATURES = ("fma", "avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
CUPYS = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy-cuda14x")


class GPU(NamedTuple):
    """A GPU as its driver describes it; memory in bytes."""

    name: str
    memory: int
    capability: tuple[int, int]


class Driver(NamedTuple):
    """The NVIDIA driver: the newest CUDA it offers, its release, its visible GPUs, or why it does not start."""

    cuda: tuple[int, int]
    release: str | None
    gpus: tuple[GPU, ...] = ()
    error: str | None = None


class Machine:
    """This machine, asked anew each time; `root` is where its /proc and /sys are. Tests put another in its place."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def _text(self, path: str | Path) -> str | None:
        try:
            return (self.root / path).read_text().strip()
        except OSError:
            return None

    # ------------------------------------------------------------------ system and processor

    def system(self) -> str:
        """Such as "Linux 6.1.0 x86_64, Debian GNU/Linux 12 (bookworm)"."""
        name = re.search(r'^PRETTY_NAME="?([^"\n]*)', self._text("etc/os-release") or "", re.MULTILINE)
        kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
        return f"{kernel}, {name[1]}" if name else kernel

    def processor(self) -> tuple[str, tuple[str, ...]]:
        """The processor's name, and which of FEATURES it has."""
        text = self._text("proc/cpuinfo") or ""
        fields = dict(re.findall(r"^(model name|Features|flags)\s*:\s*(.*)$", text, re.MULTILINE))
        flags = (fields.get("flags") or fields.get("Features") or "").split()
        name = fields.get("model name") or platform.processor() or platform.machine()
        return name, tuple(f for f in FEATURES if f in flags)

    def affinity(self) -> int:
        """Cores that the scheduler lets this process run on."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def quota(self) -> float | None:
        """Cores' worth of time that the control groups (version 2 or 1) allow, as in a container; None: no limit."""
        limits = [limit for folder in self._cgroups() if (limit := self._limit(folder)) is not None]
        return min(limits, default=None)

    def _cgroups(self) -> list[Path]:
        """The folders of this process's groups and of all above them: the tightest limit binds."""
        folders = []
        for line in (self._text("proc/self/cgroup") or "").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):  # version 2 names no controllers
                base, below = Path("sys/fs/cgroup", "cpu" if controllers else ""), Path(path.lstrip("/"))
                folders += [base / part for part in (below, *below.parents)]
        return folders

    def _limit(self, folder: Path) -> float | None:
        text = self._text(folder / "cpu.max")
        if text is None:
            text = f"{self._text(folder / 'cpu.cfs_quota_us')} {self._text(folder / 'cpu.cfs_period_us')}"
        number = re.fullmatch(r"(\d+) (\d+)", text)  # neither "max" nor -1
        return int(number[1]) / int(number[2]) if number else None

    def cores(self) -> int:
        """Cores to use. A share of a core is left: a thread that gets only a share makes the others wait."""
        quota = self.quota()
        return max(1, min(self.affinity(), math.floor(quota) if quota else self.affinity()))

    # ------------------------------------------------------------------ NVIDIA

    def libcuda(self) -> Any:
        """The driver's library; OSError where there is none."""
        return ctypes.CDLL("libcuda.so.1")

    def driver(self) -> Driver | None:
        """The NVIDIA driver, asked without CuPy; None where there is none."""
        try:
            cuda = self.libcuda()
        except OSError:
            return None
        version = ctypes.c_int()
        cuda.cuDriverGetVersion(ctypes.byref(version))
        offered, release = (version.value // 1000, version.value % 1000 // 10), self._text("sys/module/nvidia/version")
        status = cuda.cuInit(0)
        if status:
            return Driver(offered, release, error=_cuda_error(cuda, status))
        return Driver(offered, release, _gpus(cuda))

    def visible_devices(self) -> str | None:
        """What CUDA_VISIBLE_DEVICES says; an empty text hides every GPU."""
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    def cupys(self) -> dict[str, str]:
        """The installed packages that bring CuPy, with their versions; only one of them can work."""
        found = {name: self.version(name) for name in CUPYS}
        return {name: version for name, version in found.items() if version is not None}

    def cupy(self) -> Any:
        """The module, imported; whatever it raises is the caller's."""
        return importlib.import_module("cupy")

    # ------------------------------------------------------------------ packages and tools

    def native(self) -> Any:
        """gpunet._cpu; ImportError where it was not built."""
        return importlib.import_module("gpunet._cpu")

    def lacking(self) -> list[str]:
        """Debian's names of what compiling the kernels would still need."""
        compilers = (os.environ.get("CXX"), "c++", "g++", "clang++")
        header = Path(sysconfig.get_path("include"), "Python.h")
        compiler = [] if any(name and shutil.which(name) for name in compilers) else ["g++"]
        return compiler + ([] if header.is_file() else ["python3-dev"])

    def rebuild(self) -> str:
        """The command that builds the kernels again; pip's cache would bring back the wheel that has none."""
        source = Path(__file__).parents[2]
        in_tree = (source / "setup.py").is_file()
        what = f"-e {shlex.quote(str(source))}" if in_tree else "--no-cache-dir --no-binary gpunet gpunet"
        return f"pip install --force-reinstall --no-deps {what}"

    def version(self, package: str) -> str | None:
        from importlib import metadata  # takes 20 ms, which `import gpunet.nn` need not pay

        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    def extras(self) -> dict[str, list[str]]:
        """The packages behind each extra of the installed gpunet; empty where it runs without being installed."""
        from importlib import metadata

        try:
            required = metadata.requires("gpunet") or []
        except metadata.PackageNotFoundError:
            return {}
        found: dict[str, list[str]] = {}
        for line in required:
            extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
            if extra:
                found.setdefault(extra[1], []).append(re.split(r"[^\w.-]", line, maxsplit=1)[0])
        return found


def _cuda_error(cuda: Any, status: int) -> str:
    text = ctypes.c_char_p()
    cuda.cuGetErrorString(status, ctypes.byref(text))
    return (text.value or b"unknown error").decode()


def _gpus(cuda: Any) -> tuple[GPU, ...]:
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    return tuple(_gpu(cuda, i) for i in range(count.value))


def _gpu(cuda: Any, index: int) -> GPU:
    handle, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    major, minor = ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(handle), index)
    cuda.cuDeviceGetName(name, len(name), handle)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, handle)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, handle)
    return GPU(name.value.decode(), memory.value, (major.value, minor.value))
