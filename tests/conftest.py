"""The devices every test can run on, and what hypothesis may take its time for."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fibers
import numpy as np
import pytest
from hypothesis import settings

from gpunet.devices import Device, cpu, cuda, environment
from gpunet.devices.cpu import CPU, KERNELS
from gpunet.devices.cuda import CUDA

settings.register_profile("gpunet", deadline=None, derandomize=True, max_examples=100, print_blob=True)
settings.load_profile("gpunet")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background: tests of Ctrl-C would wait for ever
    signal.signal(signal.SIGINT, signal.default_int_handler)


COMPILERS = Path(__file__).with_name("test_cuda_compile.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a run of all tests, what waits for CUDA's compilers comes last; they begin now, in a process of their own."""
    late = [item for item in items if item.path == COMPILERS]
    if 0 < len(late) < len(items) and not hasattr(config, "workerinput"):
        items[:] = [*(item for item in items if item.path != COMPILERS), *late]
        config.add_cleanup(subprocess.Popen([sys.executable, str(COMPILERS)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).kill)


# ---------------------------------------------------------------- fresh memory that shows a forgotten write


def poison(array: Any) -> Any:
    """NaN in floats, -1 in integers, True in bools: seldom what an op would write."""
    array.fill({"f": np.nan, "b": True, "u": 255}.get(array.dtype.kind, -1))
    return array


class PoisonedCPU(CPU):
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return poison(super().empty(shape, dtype))


class DecliningCPU(PoisonedCPU):
    """Has a kernel of every name, and each declines: the way composites go on devices with kernels."""

    def __init__(self) -> None:
        super().__init__(native=False)
        self.kernels = dict.fromkeys(KERNELS, lambda *arrays, **settings: NotImplemented)


# ---------------------------------------------------------------- a module that behaves like CuPy, on NumPy


class DeviceArray(np.ndarray):
    """As cupy.ndarray: it does not mix with host arrays, and its reductions stay arrays without axes."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data)

    def set(self, array: Any, stream: Any) -> None:
        """The copy is done when the stream comes to it, from what the host's memory then holds."""
        assert type(array) is np.ndarray and (array.shape, array.dtype) == (self.shape, self.dtype)
        stream.later(lambda: np.copyto(self.view(np.ndarray), array))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **settings: Any) -> Any:
        refuse_host(inputs, out)
        if out is None:
            return to_device(getattr(ufunc, method)(*map(plain, inputs), **settings))
        getattr(ufunc, method)(*map(plain, inputs), out=tuple(map(plain, out)), **settings)
        return out[0] if len(out) == 1 else out

    def __array_function__(self, function: Any, types: Any, args: Any, settings: Any) -> Any:
        assert function is not np.shares_memory, "CuPy's is wrong for arrays of no dimension: devices.overlaps"
        refuse_host(args, settings.values())
        return to_device(function(*plain(args), **{name: plain(value) for name, value in settings.items()}))

    def __setitem__(self, index: Any, value: Any) -> None:
        refuse_host((value,))
        super().__setitem__(index, value)


def refuse_host(*groups: Any) -> None:
    for value in groups:
        if isinstance(value, np.ndarray) and not isinstance(value, DeviceArray):
            raise TypeError(f"Unsupported type {type(value)}")  # as CuPy says it
        if not isinstance(value, (np.ndarray, str, type(None))) and hasattr(value, "__iter__"):
            refuse_host(*value)


def plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(map(plain, value))
    return value.view(np.ndarray) if isinstance(value, DeviceArray) else value


def to_device(value: Any) -> Any:
    return np.asarray(value).view(DeviceArray) if isinstance(value, (np.ndarray, np.generic)) else value


class AtOnce:
    """A stream, or an event, of a device that does everything at once."""

    def __init__(self, **how: Any) -> None: ...
    def record(self, stream: Any = None) -> None: ...
    def wait_event(self, event: Any) -> None: ...
    def synchronize(self) -> None: ...
    def later(self, work: Callable[[], None]) -> None:
        work()


class StandInCupy:
    """NumPy's functions on DeviceArrays, and the few of CuPy's own that gpunet calls."""

    class cuda:
        runtime = SimpleNamespace(
            getDeviceCount=lambda: 2, runtimeGetVersion=lambda: 13000, getDeviceProperties=lambda index: {"name": b"Stand-in %d" % index}
        )

        Stream = Event = AtOnce
        get_current_stream = staticmethod(AtOnce)
        alloc_pinned_memory = staticmethod(bytearray)

        class Device:
            mem_info = 3 << 30, 4 << 30

            def __init__(self, index: int) -> None:
                self.index, self.entered, self.synchronized = index, 0, 0

            def __enter__(self) -> None:
                self.entered += 1

            def __exit__(self, *error: Any) -> None:
                self.entered -= 1

            def synchronize(self) -> None:
                self.synchronized += 1

    @staticmethod
    def get_default_memory_pool() -> Any:
        return SimpleNamespace(free_bytes=lambda: 0)

    @staticmethod
    def asarray(array: Any) -> DeviceArray:
        return to_device(np.array(array))

    @staticmethod
    def asnumpy(array: DeviceArray) -> Any:
        return np.array(plain(array))

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        if isinstance(function, type) or not callable(function):
            return function

        def on_device(*args: Any, **settings: Any) -> Any:
            refuse_host(args, settings.values())
            out = settings.get("out")
            made = function(*plain(args), **{name: plain(value) for name, value in settings.items()})
            return to_device(made) if out is None else out

        return on_device


class PoisonedCUDA(CUDA):
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return poison(super().empty(shape, dtype))


def emulated_cuda(**how: Any) -> CUDA:
    """The CUDA device as it is, on the host: kernels by fibers, products by a cuBLASLt that checks what it is told."""
    from emulation import EmulatedCupy, FakeCublasLt

    cupy = EmulatedCupy(**how)
    return PoisonedCUDA(0, cupy, FakeCublasLt(cupy))


def cuda_device(kind: str, **how: Any) -> CUDA:
    """The emulated device, or a real one where there is one."""
    if kind == "emulated":
        return emulated_cuda(**how)
    problem = environment.cuda_problem()
    if problem is not None:
        pytest.skip(f"no GPU: {problem}")
    return cuda.open_cuda(0)


@pytest.fixture(params=["emulated", "cuda"], name="cuda")
def fresh_cuda(request: pytest.FixtureRequest) -> CUDA:
    """Fresh each time, so that what it was asked for can be counted."""
    return cuda_device(request.param, orders=())


# ---------------------------------------------------------------- the fixture


def missing(name: str) -> str | None:
    """Why this device cannot be had here."""
    if name.startswith("native") and cpu._native is None:
        return "gpunet._cpu was not built"
    if name == "emulated" and fibers.missing():
        return f"csrc/*.cu cannot be built for the host: {fibers.missing()}"
    return environment.cuda_problem() if name == "cuda" else None


# fmt: off
DEVICES: dict[str, Callable[[], Device]] = {
    "numpy":           lambda: CPU(native=False),
    "numpy-poisoned":  lambda: PoisonedCPU(native=False),
    "declining":       DecliningCPU,
    "native":          CPU,
    "native-poisoned": PoisonedCPU,
    "standin":         lambda: PoisonedCUDA(0, StandInCupy(), kernels=False),
    "emulated":        lambda: emulated_cuda(),
    "cuda":            lambda: cuda.open_cuda(0),
}
# fmt: on


@functools.cache
def make(name: str) -> Device:
    """One device of each kind a session."""
    return DEVICES[name]()


@pytest.fixture(params=[name for name in DEVICES if missing(name) is None])
def device(request: pytest.FixtureRequest) -> Device:
    """Each device there is; test_devices.py has a test that skips, with the reason, for each there is not."""
    return make(request.param)


@pytest.fixture
def numpy_device() -> Device:
    return make("numpy")


@pytest.fixture
def native_device() -> Device:
    reason = missing("native")
    if reason is not None and environment.settings().require_native:
        pytest.fail(f"GPUNET_REQUIRE_NATIVE is set, but {reason}")
    if reason is not None:
        pytest.skip(reason)
    return make("native")


@pytest.fixture
def standin() -> CUDA:
    return CUDA(1, StandInCupy(), kernels=False)


@pytest.fixture
def count_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Count how often a vjp or kernel runs: `with count_calls(op, "backward") as calls`."""

    @contextmanager
    def counting(owner: Any, name: str) -> Iterator[list[int]]:
        calls, function = [0], getattr(owner, name)

        def counted(*args: Any, **settings: Any) -> Any:
            calls[0] += 1
            return function(*args, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, counted)
            yield calls

    return counting


def pytest_report_header() -> list[str]:
    built = "built" if cpu._native is not None else "not built: tests of native kernels are skipped"
    return [f"gpunet._cpu: {built}", f"cuda: {environment.cuda_problem() or 'found'}"]
