"""Matrix products by cuBLASLt, called through ctypes: CuPy's own cuBLAS calls refuse to be captured in a CUDA graph.

cuBLASLt thinks in columns: our row-major out = x @ y is its D = A B with A = y, B = x and D = out, each transposed for
free by being read column by column. So its "rows of D" are our columns: a bias, or the sums of y's columns.
"""

from __future__ import annotations

import ctypes
import logging
import math
import threading
from collections.abc import Callable, Mapping
from ctypes import byref, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import partial
from typing import Any, NamedTuple

from ..errors import DeviceError
from .base import PRECISIONS

log = logging.getLogger("gpunet")

WORKSPACE = 32 << 20  # bytes: what NVIDIA recommends for Hopper, more than enough elsewhere

# cublasLt.h and library_types.h
R_32F, R_64F = 0, 1
OP_N, OP_T = 0, 1
TRANS_A, TRANS_B, EPILOGUE, BIAS_POINTER = 3, 4, 7, 8  # of a description of a product
BATCH_COUNT, BATCH_STRIDE = 5, 6  # of a layout
MAX_WORKSPACE, ALIGNMENT_A, ALIGNMENT_B, ALIGNMENT_C, ALIGNMENT_D = 1, 5, 6, 7, 8  # of a preference
DEFAULT, BIAS, BGRADA = 1, 4, 256  # epilogues

# of float32 matrices: CUBLAS_COMPUTE_32F, _32F_FAST_TF32, _32F_FAST_16BF. The last two round what is multiplied, on its
# way to the tensor cores, to 10 and 7 bits after the point, and sum in float32; in memory everything stays float32.
COMPUTE = dict(zip(PRECISIONS, (68, 77, 75), strict=True))
COMPUTE_64F = 70
FULLY_ALIGNED = 256  # bytes
BIAS_ALIGNMENT = 16

CANDIDATES, TIMED_CALLS, BLOCKS = 16, 10, 3  # of autotune: algorithms, calls between two looks at the clock, looks
WORTH_IT = 0.97  # of the first choice's time: what comes closer is noise


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: an algorithm, opaque, and what it needs."""

    _fields_ = (
        ("algorithm", c_uint64 * 8), ("workspace", c_size_t), ("status", c_int), ("waves", c_float),
        ("reserved", c_int * 4),
    )  # fmt: skip


class Matrix(NamedTuple):
    """A matrix as it lies: `ld` elements from one row (turned: column) to the next, `next` to the next of a stack."""

    rows: int
    cols: int
    ld: int
    turned: bool
    next: int


class Key(NamedTuple):
    """What a plan depends on."""

    x: Matrix
    y: Matrix
    out: Matrix
    stack: int
    dtype: str
    precision: str
    epilogue: int
    alignments: tuple[int, int, int]


class Planned(NamedTuple):
    description: c_void_p
    x: c_void_p
    y: c_void_p
    out: c_void_p
    found: Heuristic

    @property
    def layouts(self) -> tuple[c_void_p, ...]:
        """As the library counts matrices: A, B, C and D."""
        return self.y, self.x, self.out, self.out


def matrix(a: Any) -> Matrix | None:
    """How the last two axes lie, if a product can read them so."""
    rows, cols = a.shape[-2:]
    row, col = (s // a.itemsize for s in a.strides[-2:])
    step = a.strides[0] // a.itemsize if a.ndim == 3 else 0
    for turned, (n, m, ld, one) in enumerate(((rows, cols, row, col), (cols, rows, col, row))):
        ld = max(m, 1) if n <= 1 else ld
        if (one == 1 or m <= 1) and ld >= m and step >= 0:
            return Matrix(rows, cols, ld, bool(turned), step)
    return None


class How(threading.local):
    """How this thread's products are computed."""

    precision, autotune = PRECISIONS[0], False


class Products:
    """`matmul(out, x, y)` writes x @ y into out, or returns False where the library cannot.

    Attributes:
        how.precision: "float32"; "tf32" and "bf16" round the factors to 10 and 7 bits and sum in float32.
        how.autotune: whether the library's candidates for a product not seen before are timed. What came out first is
            kept in `chosen`; two runs may choose differently, and then differ in their last bits.
    """

    def __init__(self, library: Any, cupy: Any, workspace: Any, gpu: str = "") -> None:
        self._library, self._cupy, self._workspace = library, cupy, workspace
        self.how = How()
        self.chosen: dict[Key, bytes] = {}
        self._plans: dict[Key, Planned | None] = {}
        self._handle = c_void_p()
        self._call("Create", byref(self._handle))
        self._library.cublasLtGetVersion.restype = c_size_t
        self.about = {"gpu": gpu, "cublaslt": int(self._library.cublasLtGetVersion())}

    def matmul(self, out: Any, x: Any, y: Any, *, bias: Any = None, column_sums: Any = None) -> bool:
        """bias: one number a column, added. column_sums: where the sums of y's columns go. One of them at most."""
        extra = bias if bias is not None else column_sums
        key = self._key(out, x, y, DEFAULT if extra is None else BIAS if bias is not None else BGRADA)
        if key is None or (extra is not None and (key.stack != 1 or extra.data.ptr % BIAS_ALIGNMENT)):
            return False
        if key not in self._plans:
            self._plans[key] = self._plan(key)
        plan = self._plans[key]
        if plan is None:
            return False
        if extra is not None:
            self._set("MatmulDesc", plan.description, BIAS_POINTER, c_uint64(extra.data.ptr))
        if self.how.autotune and key not in self.chosen and not self._cupy.cuda.get_current_stream().is_capturing():
            plan = self._plans[key] = self._fastest(key, plan, out, x, y)
            self.chosen[key] = bytes(plan.found.algorithm)
        self._multiply(key, plan, out, x, y)
        return True

    def _multiply(self, key: Key, plan: Planned, out: Any, x: Any, y: Any) -> None:
        number = c_double if key.dtype == "float64" else c_float
        pointer = c_void_p(out.data.ptr)
        self._call(
            "Matmul", self._handle, plan.description, byref(number(1)), c_void_p(y.data.ptr), plan.y,
            c_void_p(x.data.ptr), plan.x, byref(number(0)), pointer, plan.out, pointer, plan.out,
            byref(plan.found), c_void_p(self._workspace.data.ptr), c_size_t(self._workspace.nbytes),
            c_void_p(self._cupy.cuda.get_current_stream().ptr),
        )  # fmt: skip

    # ------------------------------------------------------------------ autotune

    def _fastest(self, key: Key, plan: Planned, *arrays: Any) -> Planned:
        """By one of the library's candidates; its first one unless another is clearly faster."""
        candidates = [plan._replace(found=found) for found in self._ask(key, plan.description, *plan.layouts, most=CANDIDATES)]
        times = [self._time(partial(self._multiply, key, candidate, *arrays)) for candidate in candidates]
        best = min(range(len(times)), key=times.__getitem__)
        return candidates[best if times[best] < WORTH_IT * times[0] else 0]

    def _time(self, work: Callable[[], None]) -> float:
        """Milliseconds of TIMED_CALLS calls, in the best of BLOCKS; infinite for what does not run after all."""
        cuda = self._cupy.cuda
        try:
            work()
        except DeviceError:
            return math.inf
        blocks = []
        for _ in range(BLOCKS):
            begin, end = cuda.Event(), cuda.Event()
            begin.record()
            for _ in range(TIMED_CALLS):
                work()
            end.record()
            end.synchronize()
            blocks.append(cuda.get_elapsed_time(begin, end))
        return float(min(blocks))

    def choices(self) -> dict[str, Any]:
        """`chosen` as plain data, with the GPU and the library that it holds for."""
        listed = [[_listed(key), algorithm.hex()] for key, algorithm in self.chosen.items()]
        return {**self.about, "products": listed} if listed else {}

    def restore(self, choices: Mapping[str, Any]) -> None:
        """What `choices` gave, in this run or another; not used where the GPU or the library is another."""
        if not choices:
            return
        other = {name: choices.get(name) for name in self.about}
        if other != self.about:
            log.warning("products are not tuned as before: they were tuned for %s, this is %s", other, self.about)
            return
        for listed, algorithm in choices["products"]:
            key = _key_of(listed)
            self.chosen[key] = bytes.fromhex(algorithm)
            self._plans.pop(key, None)

    # ------------------------------------------------------------------ plans

    def _key(self, out: Any, x: Any, y: Any, epilogue: int) -> Key | None:
        if x.ndim != y.ndim or x.ndim not in (2, 3) or not x.dtype == y.dtype == out.dtype:
            return None
        if out.dtype.name not in ("float32", "float64") or not x.size or not y.size or x.shape[:-2] != y.shape[:-2]:
            return None
        of_x, of_y, of_out = matrix(x), matrix(y), matrix(out)
        if of_x is None or of_y is None or of_out is None or of_out.turned:
            return None
        count = x.shape[0] if x.ndim == 3 else 1
        alignments = tuple(min(a.data.ptr & -a.data.ptr or FULLY_ALIGNED, FULLY_ALIGNED) for a in (x, y, out))
        return Key(of_x, of_y, of_out, count, out.dtype.name, self.how.precision, epilogue, alignments)  # type: ignore[arg-type]

    def _plan(self, key: Key) -> Planned | None:
        """By the algorithm chosen before, or else the library's first choice: the same one in every run."""
        wide = key.dtype == "float64"
        description = c_void_p()
        compute = COMPUTE_64F if wide else COMPUTE[key.precision]
        self._call("MatmulDescCreate", byref(description), c_int(compute), c_int(R_64F if wide else R_32F))
        self._set("MatmulDesc", description, TRANS_A, c_int32(OP_T if key.y.turned else OP_N))
        self._set("MatmulDesc", description, TRANS_B, c_int32(OP_T if key.x.turned else OP_N))
        self._set("MatmulDesc", description, EPILOGUE, c_uint32(key.epilogue))
        x, y, out = (self._layout(m, key) for m in (key.x, key.y, key.out))
        found = self._chosen(key, description, y, x, out, out) or self._ask(key, description, y, x, out, out)
        return Planned(description, x, y, out, found[0]) if found else None

    def _chosen(self, key: Key, description: c_void_p, *layouts: c_void_p) -> list[Heuristic]:
        """The algorithm that `restore` brought, if the library says that it can be used."""
        algorithm = self.chosen.get(key)
        if algorithm is None:
            return []
        found, checked = Heuristic(), Heuristic()
        if len(algorithm) == ctypes.sizeof(found.algorithm):
            ctypes.memmove(found.algorithm, algorithm, len(algorithm))
            status = self._library.cublasLtMatmulAlgoCheck(
                self._handle, description, *layouts, byref(found), byref(checked)
            )
            if not status and not checked.status and checked.workspace <= self._workspace.nbytes:
                return [found]
        del self.chosen[key]
        return []

    def _layout(self, m: Matrix, key: Key) -> c_void_p:
        layout = c_void_p()
        rows, cols = (m.rows, m.cols) if m.turned else (m.cols, m.rows)
        kind = R_64F if key.dtype == "float64" else R_32F
        self._call("MatrixLayoutCreate", byref(layout), c_int(kind), c_uint64(rows), c_uint64(cols), c_int64(m.ld))
        if key.stack > 1:
            self._set("MatrixLayout", layout, BATCH_COUNT, c_int32(key.stack))
            self._set("MatrixLayout", layout, BATCH_STRIDE, c_int64(m.next))
        return layout

    def _ask(self, key: Key, description: c_void_p, *layouts: c_void_p, most: int = 1) -> list[Heuristic]:
        """The library's candidates, its best guess first."""
        wishes, found, count = c_void_p(), (Heuristic * most)(), c_int()
        of_x, of_y, of_out = key.alignments
        self._call("MatmulPreferenceCreate", byref(wishes))
        self._set("MatmulPreference", wishes, MAX_WORKSPACE, c_uint64(self._workspace.nbytes))
        for attribute, bytes_ in (
            (ALIGNMENT_A, of_y), (ALIGNMENT_B, of_x), (ALIGNMENT_C, of_out), (ALIGNMENT_D, of_out),
        ):  # fmt: skip
            self._set("MatmulPreference", wishes, attribute, c_uint32(bytes_))
        status = self._library.cublasLtMatmulAlgoGetHeuristic(
            self._handle, description, *layouts, wishes, c_int(most), found, byref(count)
        )
        self._call("MatmulPreferenceDestroy", wishes)
        return [] if status else [one for one in found[: count.value] if not one.status]

    def _set(self, what: str, thing: c_void_p, attribute: int, value: Any) -> None:
        self._call(f"{what}SetAttribute", thing, c_int(attribute), byref(value), c_size_t(ctypes.sizeof(value)))

    def _call(self, function: str, *args: Any) -> None:
        status = getattr(self._library, f"cublasLt{function}")(*args)
        if status:
            raise DeviceError(f"cublasLt{function} failed with status {status}")


class NoProducts:
    """Where the library is missing: CuPy multiplies, and nothing can be captured."""

    def __init__(self) -> None:
        self.how = How()

    def matmul(self, *arrays: Any, **extra: Any) -> bool:
        return False

    def choices(self) -> dict[str, Any]:
        return {}

    def restore(self, choices: Mapping[str, Any]) -> None:
        pass


def _listed(key: Key) -> list[Any]:
    return [list(part) if isinstance(part, tuple) else part for part in key]


def _key_of(listed: Any) -> Key:
    x, y, out, stack, dtype, precision, epilogue, alignments = listed
    return Key(Matrix(*x), Matrix(*y), Matrix(*out), stack, dtype, precision, epilogue, tuple(alignments))


def load(major: int) -> Any:
    """libcublasLt of CUDA `major`, from NVIDIA's wheels or from the system; None where there is none."""
    name = f"libcublasLt.so.{major}"
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib  # CuPy brings it

        name = load_nvidia_dynamic_lib("cublasLt").abs_path or name
    except (ImportError, RuntimeError, OSError):  # not installed, or it found nothing: the system's loader is asked
        pass
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
