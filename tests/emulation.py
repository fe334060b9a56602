"""CuPy and cuBLASLt as far as gpunet calls them, on the host: launches by fibers, graphs recorded and replayed."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import fibers
import numpy as np
from conftest import DeviceArray, StandInCupy, refuse_host, to_device

from gpunet.devices import aligned, cublaslt


class NotCapturable(RuntimeError):
    """What CuPy says of a call that a stream in capture refuses."""


class OutOfMemoryError(MemoryError):
    """CuPy's."""


class EmulatedCupy(StandInCupy):
    """A launch of a kind not seen before (kernel, grid, shapes) goes in all these `orders` of threads, on guarded copies,
    and must give the same bits; others go once and in place, in one order after another.

    counts: launches, products, graph launches, allocations, copies from and to the host, synchronisations.
    """

    def __init__(self, orders: Sequence[int] = fibers.ORDERS) -> None:
        self.orders, self.seen = orders, Counter[Any]()
        self.counts: Counter[str] = Counter()
        self.recording: list[Callable[[], None]] | None = None
        self.stream = Stream(self)
        self.cuda: Any = SimpleNamespace(
            Device=counting_device(self), runtime=StandInCupy.cuda.runtime, Stream=lambda **how: Stream(self, **how),
            get_current_stream=lambda: self.stream, Event=lambda **how: Event(self, **how),
            get_elapsed_time=lambda begin, end: end.at - begin.at, alloc_pinned_memory=self.alloc_pinned_memory,
        )  # fmt: skip
        self.largest = 1 << 40  # bytes: a larger array does not fit
        self.lazy = True  # copies on other streams are done as late as may be, or at once
        self.clock = 0.0  # milliseconds that the device has worked

    def do(self, what: str, work: Callable[[], None]) -> None:
        """Now, or when the graph that is being captured is launched."""

        def counted() -> None:
            self.counts[what] += 1
            work()

        if self.recording is None:
            counted()
        else:
            self.recording.append(counted)

    def outside(self, what: str, count: str) -> None:
        if self.recording is not None:
            raise NotCapturable(f"{what} during stream capture")
        self.counts[count] += 1

    def RawModule(self, *, code: str, options: Any, name_expressions: tuple[str, ...]) -> Any:
        assert "#include" not in code
        return SimpleNamespace(get_function=lambda name: EmulatedKernel(self, name, code))

    def asarray(self, array: Any) -> DeviceArray:  # type: ignore[override]
        self.outside("a copy from the host", "uploads")
        self.check_fits(np.asarray(array).nbytes)
        return to_device(aligned(np.asarray(array)))  # as CuPy's memory is, so that addresses are equally round in each run

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        self.outside("cupy.empty", "array functions")
        made = to_device(np.empty(shape, dtype))
        self.check_fits(made.nbytes)
        return made

    def check_fits(self, nbytes: int) -> None:
        if nbytes > self.largest:
            raise OutOfMemoryError(f"Out of memory allocating {nbytes} bytes")

    def asnumpy(self, array: DeviceArray) -> Any:  # type: ignore[override]
        self.outside("a copy to the host", "downloads")
        return StandInCupy.asnumpy(array)

    def alloc_pinned_memory(self, nbytes: int) -> Any:
        self.counts["pinned"] += 1
        return (ctypes.c_char * nbytes)()

    def ndarray(self, shape: tuple[int, ...], dtype: Any, memptr: Any) -> DeviceArray:
        array, at = memptr
        return np.ndarray(shape, dtype, memoryview(array.view(np.ndarray)), at).view(DeviceArray)

    def __getattr__(self, name: str) -> Any:
        function = super().__getattr__(name)
        if not callable(function) or isinstance(function, type):
            return function

        def counted(*args: Any, **settings: Any) -> Any:
            self.outside(f"cupy.{name}", "array functions")
            return function(*args, **settings)

        return counted


def counting_device(cupy: EmulatedCupy) -> Any:
    class Device(StandInCupy.cuda.Device):
        def synchronize(self) -> None:
            cupy.outside("a synchronisation", "synchronisations")
            super().synchronize()

    return Device


class EmulatedKernel:
    """cupy.RawKernel: kernel(grid, block, args)."""

    def __init__(self, cupy: EmulatedCupy, name: str, code: str) -> None:
        self.cupy, self.name = cupy, name
        several = code.startswith("#define GPUNET_SEVERAL")
        libraries = (fibers.library(source, several) for source in sorted(fibers.CSRC.glob("*.cu")))
        found = (library for library in libraries if name.replace(" ", "") in library.kernels)
        self.library = next(found, None) or fibers.generated(code)

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        kind = self.name, grid, block, tuple(map(described, args))

        def run() -> None:
            seen = self.cupy.seen[kind]
            self.cupy.seen[kind] += 1
            if seen or not self.cupy.orders or "::several<" in self.name:  # whose arrays only its struct knows
                self.library.launch(self.name, grid, block, args, order=seen % len(fibers.ORDERS))
            else:
                self.library.checked(self.name, grid, block, args, orders=self.cupy.orders)

        for a in args:
            struct = isinstance(a, np.ndarray) and a.dtype.names and a.shape == ()
            assert struct or isinstance(a, (DeviceArray, np.generic)), f"{self.name}: {type(a)} is no argument of a kernel"
        self.cupy.do("launches", run)


def described(a: Any) -> Any:
    """What an argument of a launch is, but for the address of an array, or of those in a struct."""
    if isinstance(a, DeviceArray):
        return a.shape, a.strides, a.data.ptr % 16
    return a if isinstance(a, np.generic) else str(a.dtype)


class Stream:
    """cupy.cuda.Stream: current inside `with`; what is asked for between begin and end of a capture becomes a Graph."""

    ptr = 0x57

    def __init__(self, cupy: EmulatedCupy, non_blocking: bool = False) -> None:
        self.cupy, self.non_blocking = cupy, non_blocking
        self.queue: list[Callable[[], None]] = []
        self.done, self.turn = 0, threading.RLock()

    def later(self, work: Callable[[], None]) -> None:
        assert self.non_blocking, "the null stream would wait for it"
        self.cupy.counts["copies beside the work"] += 1
        self.queue.append(work)
        if not self.cupy.lazy:
            self.reach(len(self.queue))

    def reach(self, end: int) -> None:
        """All that was queued up to `end` has been done."""
        with self.turn:
            while self.done < end:
                self.queue[self.done]()
                self.done += 1

    def wait_event(self, event: Event) -> None:
        event.reach()

    def __enter__(self) -> Stream:
        self.before, self.cupy.stream = self.cupy.stream, self
        return self

    def __exit__(self, *error: Any) -> None:
        self.cupy.stream = self.before

    def is_capturing(self) -> bool:
        return self.cupy.recording is not None

    def begin_capture(self) -> None:
        if not self.non_blocking or self.cupy.stream is not self:
            raise NotCapturable("the null stream cannot be captured")
        self.cupy.recording = []

    def end_capture(self) -> Graph:
        recorded, self.cupy.recording = self.cupy.recording, None
        assert recorded is not None
        return Graph(self.cupy, recorded)


class Event:
    """cupy.cuda.Event."""

    def __init__(self, cupy: EmulatedCupy, disable_timing: bool = False) -> None:
        self.cupy, self.disable_timing = cupy, disable_timing

    def record(self, stream: Stream | None = None) -> None:
        if not self.disable_timing:
            self.cupy.outside("an event that is timed", "timed events")
        self.stream = stream or self.cupy.stream
        self.end, self.at = len(self.stream.queue), self.cupy.clock

    def reach(self) -> None:
        self.stream.reach(self.end)

    def synchronize(self) -> None:
        if not self.disable_timing:
            self.cupy.outside("waiting for an event", "synchronisations")
        self.reach()


class Graph:
    def __init__(self, cupy: EmulatedCupy, recorded: list[Callable[[], None]]) -> None:
        self.cupy, self.recorded = cupy, recorded

    def launch(self) -> None:
        self.cupy.outside("a graph launch", "graph launches")
        for work in self.recorded:
            work()


# ---------------------------------------------------------------- cuBLASLt


def value(reference: Any, size: Any) -> int:
    """What byref(c_thing) refers to, if its size is what it says."""
    assert ctypes.sizeof(reference._obj) == size.value, "the size of an attribute"
    return reference._obj.value


# fmt: off
ATTRIBUTES = {  # cublasLt.h: attribute -> bytes
    "MatmulDesc":       {3: 4, 4: 4, 7: 4, 8: 8},
    "MatrixLayout":     {5: 4, 6: 8},
    "MatmulPreference": {1: 8, 5: 4, 6: 4, 7: 4, 8: 4},
}
COMPUTES = {68: (0, 0), 77: (0, 0), 75: (0, 0), 70: (1, 1)}  # compute type -> matrices, scale
# fmt: on


class FakeCublasLt:
    """Multiplies by NumPy, and fails where the real library would, or would read beside an array.

    refuses: epilogues it has no algorithm for. calls: what it was asked for, by name. costs: what a call by each of its
    candidates takes, its best guess first; inf: it does not run. version: of the library; an algorithm is of use in one version only.
    """

    def __init__(
        self, cupy: EmulatedCupy, refuses: Sequence[int] = (), needs: int = 4096, costs: Sequence[float] = (3, 2, 1, 4),
        version: int = 130100,
    ) -> None:  # fmt: skip
        self.cupy, self.refuses, self.needs, self.costs, self.version = cupy, refuses, needs, costs, version
        self.cublasLtGetVersion = Function(lambda: self.version)
        self.used: Counter[int] = Counter()  # number of the candidate
        self.calls: Counter[str] = Counter()
        self.things: dict[int, dict[Any, Any]] = {}
        self.epilogues: Counter[int] = Counter()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cublasLt"):
            raise AttributeError(name)
        raise AssertionError(f"{name}: not in this cuBLASLt")

    def _new(self, reference: Any, **what: Any) -> int:
        number = 16 * (len(self.things) + 1)
        self.things[number], reference._obj.value = what, number
        return 0

    def _get(self, pointer: Any, kind: str) -> dict[Any, Any]:
        thing = self.things[pointer.value]
        assert thing["kind"] == kind, f"{kind} wanted, got {thing['kind']}"
        return thing

    def cublasLtCreate(self, handle: Any) -> int:
        return self._new(handle, kind="handle")

    def cublasLtMatmulDescCreate(self, made: Any, compute: Any, scale: Any) -> int:
        assert COMPUTES[compute.value][1] == scale.value
        return self._new(made, kind="MatmulDesc", compute=compute.value)

    def cublasLtMatrixLayoutCreate(self, made: Any, kind: Any, rows: Any, cols: Any, ld: Any) -> int:
        assert ld.value >= rows.value > 0 < cols.value
        return self._new(
            made, kind="MatrixLayout", type=kind.value, rows=rows.value, cols=cols.value, ld=ld.value
        )

    def cublasLtMatmulPreferenceCreate(self, made: Any) -> int:
        return self._new(made, kind="MatmulPreference")

    def cublasLtMatmulPreferenceDestroy(self, pointer: Any) -> int:
        self._get(pointer, "MatmulPreference")["kind"] = "destroyed"
        return 0

    def _set(self, what: str, thing: Any, attribute: Any, given: Any, size: Any) -> int:
        assert ATTRIBUTES[what][attribute.value] == size.value, f"{what} {attribute.value}: so many bytes"
        self._get(thing, what)[attribute.value] = value(given, size)
        return 0

    def cublasLtMatmulDescSetAttribute(self, *args: Any) -> int:
        return self._set("MatmulDesc", *args)

    def cublasLtMatrixLayoutSetAttribute(self, *args: Any) -> int:
        return self._set("MatrixLayout", *args)

    def cublasLtMatmulPreferenceSetAttribute(self, *args: Any) -> int:
        return self._set("MatmulPreference", *args)

    def _asked(self, description: Any, *layouts: Any) -> Any:
        """All that an algorithm is chosen by."""
        kept = {k: v for k, v in self._get(description, "MatmulDesc").items() if k != cublaslt.BIAS_POINTER}
        return repr([kept, *[self._get(layout, "MatrixLayout") for layout in layouts]])

    def cublasLtMatmulAlgoGetHeuristic(
        self, handle: Any, description: Any, a: Any, b: Any, c: Any, d: Any, wishes: Any, wanted: Any, results: Any,
        count: Any,
    ) -> int:  # fmt: skip
        self._get(handle, "handle")
        self.calls["heuristic"] += 1
        wish = self._get(wishes, "MatmulPreference")
        assert set(wish) == {"kind", 1, 5, 6, 7, 8} and wanted.value == len(results)
        if self._get(description, "MatmulDesc")[cublaslt.EPILOGUE] in self.refuses or wish[1] < self.needs:
            count._obj.value = 0
            return 0
        asked = self._asked(description, a, b, c, d)
        for number, found in enumerate(results[: len(self.costs)]):
            aligned = [wish[attribute] for attribute in (5, 6, 7, 8)]
            found.algorithm[:] = [number + 1, digest(asked), self.version, *aligned, 0]
            found.workspace, found.status = self.needs, 0
        count._obj.value = min(len(results), len(self.costs))
        return 0

    def cublasLtMatmulAlgoCheck(
        self, handle: Any, description: Any, a: Any, b: Any, c: Any, d: Any, algorithm: Any, result: Any
    ) -> int:
        self._get(handle, "handle")
        self.calls["check"] += 1
        number, of, version = algorithm._obj.algorithm[:3]
        asked = self._asked(description, a, b, c, d)
        result._obj.workspace, result._obj.status = self.needs, 0
        return 0 if (of, version) == (digest(asked), self.version) and 0 < number <= len(self.costs) else 7

    def cublasLtMatmul(
        self, handle: Any, description: Any, alpha: Any, a: Any, a_layout: Any, b: Any, b_layout: Any, beta: Any,
        c: Any, c_layout: Any, d: Any, d_layout: Any, algorithm: Any, workspace: Any, workspace_size: Any, stream: Any,
    ) -> int:  # fmt: skip
        self._get(handle, "handle")
        number, of, version, *aligned, _ = algorithm._obj.algorithm
        asked = digest(self._asked(description, a_layout, b_layout, c_layout, d_layout))
        assert (of, version) == (asked, self.version), "an algorithm of another product, or of another version"
        for pointer, alignment in zip((a, b, c, d), aligned, strict=True):
            assert pointer.value % alignment == 0, "an address less aligned than was promised"
        assert workspace.value % 16 == 0 and workspace_size.value >= self.needs
        assert (stream.value or 0) == self.cupy.stream.ptr, "another stream than the current one"
        assert alpha._obj.value == 1 and beta._obj.value == 0 and c.value == d.value
        told = dict(self._get(description, "MatmulDesc"))
        A, B, D = (Laid(p.value, self._get(q, "MatrixLayout")) for p, q in ((a, a_layout), (b, b_layout), (d, d_layout)))
        assert type(alpha._obj) is (ctypes.c_double if D.dtype == np.float64 else ctypes.c_float)
        assert all(m.told["type"] == COMPUTES[told["compute"]][0] for m in (A, B, D))
        assert A.count == B.count == D.count
        if self.costs[number - 1] == np.inf:
            return 15  # CUBLAS_STATUS_NOT_SUPPORTED
        self.epilogues[told[cublaslt.EPILOGUE]] += 1
        self.used[number - 1] += 1

        def work() -> None:
            self.cupy.clock += self.costs[number - 1]
            multiply(told, A, B, D)

        self.cupy.do("products", work)
        return 0


class Function:
    """A function of a library, which can be told what it returns."""

    def __init__(self, call: Callable[[], int]) -> None:
        self.call, self.restype = call, ctypes.c_int

    def __call__(self) -> Any:
        return self.restype(self.call()).value


def digest(asked: str) -> int:
    return int.from_bytes(hashlib.sha256(asked.encode()).digest()[:8], "little")


class Laid:
    """A column-major matrix, or a stack of them, in memory."""

    def __init__(self, address: int, told: dict[Any, Any]) -> None:
        self.told, self.address = told, address
        self.dtype = np.dtype([np.float32, np.float64][told["type"]])
        self.count = told.get(cublaslt.BATCH_COUNT, 1)

    @property
    def array(self) -> Any:  # [count, rows, cols]
        rows, cols, ld, size = self.told["rows"], self.told["cols"], self.told["ld"], self.dtype.itemsize
        step = self.told.get(cublaslt.BATCH_STRIDE, 0)
        extent = (self.count - 1) * step + (cols - 1) * ld + rows
        memory = np.frombuffer((ctypes.c_char * (extent * size)).from_address(self.address), self.dtype)
        return np.lib.stride_tricks.as_strided(memory, (self.count, rows, cols), (step * size, size, ld * size), writeable=True)


def multiply(told: dict[Any, Any], a: Laid, b: Laid, d: Laid) -> None:
    A = a.array.swapaxes(1, 2) if told[cublaslt.TRANS_A] else a.array
    B = b.array.swapaxes(1, 2) if told[cublaslt.TRANS_B] else b.array
    assert A.shape[2] == B.shape[1] and d.array.shape == (d.count, A.shape[1], B.shape[2])
    made = A @ B
    if told[cublaslt.EPILOGUE] != cublaslt.DEFAULT:
        assert told[cublaslt.BIAS_POINTER] % 16 == 0 and d.count == 1
        rows = {"type": d.told["type"], "rows": d.told["rows"], "cols": 1, "ld": d.told["rows"]}
        vector = Laid(told[cublaslt.BIAS_POINTER], rows).array[0]
        if told[cublaslt.EPILOGUE] == cublaslt.BIAS:
            made = made + vector
        else:
            assert told[cublaslt.EPILOGUE] == cublaslt.BGRADA
            vector[:, 0] = A[0].sum(1)
    d.array[...] = made


__all__ = ["EmulatedCupy", "FakeCublasLt", "NotCapturable", "refuse_host", "to_device"]
