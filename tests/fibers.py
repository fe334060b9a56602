"""csrc/*.cu built for the host (fibers.h) and launched as CuPy launches RawKernels, every access watched."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpunet.devices import sources
from gpunet.devices.several import SOURCE

HERE = Path(__file__).parent
CSRC = sources.find("activations.h").parent
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
FLAGS = ["-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-gnu-unique", "-Wall", "-Wextra", "-Werror"]
HEADERS = '#include "operands.h"\n'  # with which the text of a generated kernel begins
SEVERAL = ["-DGPUNET_SEVERAL"]
QUIET = ["-Wno-unknown-pragmas"]  # #pragma unroll
ORDERS = range(8)
TYPES = {"f": np.float32, "d": np.float64, "i": np.int32, "q": np.int64, "B": np.uint8, "?": np.bool_}
SCALARS = {
    "f": ctypes.c_float, "d": ctypes.c_double, "i": ctypes.c_int, "q": ctypes.c_longlong, "B": ctypes.c_ubyte,
    "?": ctypes.c_bool,
}  # fmt: skip
FILLS = 0xA5, 0x5A  # beside the arrays: a result that depends on it shows


class KernelError(RuntimeError):
    """What a kernel did wrong, and where."""


def missing() -> str | None:
    """Why kernels cannot be built for the host here."""
    return None if COMPILER else "no C++ compiler"


def build(source: Path, several: bool = False) -> Path:
    """The library of a .cu file; it is built again only if it, a header or the compiler's flags changed.

    several: of its kernels as csrc/several.h calls them.
    """
    name = f"{'several-' * several}{source.stem}-{digest(source.read_bytes())}.so"
    return compiled(name, "c++", "-O1", "-shared", *SEVERAL[:several], str(source))


def build_generated(code: str) -> Path:
    """As `build`, of a kernel's text as NVRTC is given it. There are many, so that the headers they begin with are compiled
    once for all, and nothing is optimized."""
    several = code.startswith(SOURCE)
    headers = sources.with_headers(SOURCE * several + HEADERS)
    assert code.startswith(headers), f"the text of a generated kernel begins with {HEADERS}"
    header = folder() / f"{'several-' * several}headers-{digest()}.h"
    for file, text in ((header, HEADERS), (header.with_suffix(f".{digest(code.encode())}.cu"), code[len(headers) :])):
        made_once(file, partial(Path.write_text, data=text))
    apart = "-DFIBERS_APART", *SEVERAL[:several]
    scheduler = compiled(f"{header.stem}.so", "c++", "-O1", "-shared", *apart[1:], str(header))
    compiled(f"{header.name}.gch", "c++-header", *apart, str(header))
    return compiled(f"{file.stem}.so", "c++", "-shared", *apart, "-include", str(header), str(file), "-x", "none", str(scheduler))


def digest(text: bytes = b"") -> str:
    """Of all that a build depends on."""
    read = [HERE / "fibers.h", *sorted(CSRC.glob("*.h"))]
    everything = b"".join([text, *(p.read_bytes() for p in read)]) + repr([COMPILER, FLAGS, QUIET]).encode()
    return hashlib.sha256(everything).hexdigest()[:16]


def folder() -> Path:
    made = Path(tempfile.gettempdir()) / f"gpunet-fibers-{os.getuid()}"
    made.mkdir(mode=0o700, exist_ok=True)
    return made


def compiled(name: str, language: str, *arguments: str) -> Path:
    """What the compiler makes, by a name that tells all it depends on."""

    def make(beside: Path) -> None:
        command = [str(COMPILER), *FLAGS, *QUIET, f"-I{HERE}", f"-I{CSRC}", "-x", language, *arguments, "-o", str(beside)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return made_once(folder() / name, make)


def made_once(path: Path, make: Callable[[Path], Any]) -> Path:
    """A file of the cache: of processes that want it at the same time the first makes it, beside, and the others wait."""
    if not path.exists():
        with open(path.with_name(f"{path.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                beside = path.with_name(f"{path.name}.{os.getpid()}")
                make(beside)
                beside.rename(path)
    return path


class Extent(NamedTuple):
    """The bytes that some arguments lie in, and whether a kernel may write there."""

    begin: int
    end: int
    written: bool

    def with_(self, other: Extent) -> Extent:
        return Extent(min(self.begin, other.begin), max(self.end, other.end), self.written or other.written)


def extent(array: np.ndarray, written: bool) -> Extent:
    begin, end = np.lib.array_utils.byte_bounds(array)
    return Extent(begin, end if array.size else begin, written)


def merged(extents: Sequence[Extent]) -> list[Extent]:
    """Those that overlap as one: arguments may be views of one array."""
    found: list[Extent] = []
    for e in sorted(extents):
        if found and e.begin < found[-1].end:
            found[-1] = found[-1].with_(e)
        else:
            found.append(e)
    return found


class Library:
    """The kernels of one .cu file by name (spaces do not count)."""

    def __init__(self, built: Path) -> None:
        self.native = ctypes.CDLL(str(built))
        self.native.fibers_name.restype = self.native.fibers_signature.restype = ctypes.c_char_p
        self.native.fibers_allocate.restype = ctypes.c_void_p
        self.native.fibers_allocate.argtypes = [ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
        self.native.fibers_protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.native.fibers_free.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self.names = [self.native.fibers_name(i).decode() for i in range(self.native.fibers_count())]
        self.kernels = {
            name.replace(" ", ""): (i, self.native.fibers_signature(i).decode()) for i, name in enumerate(self.names)
        }

    def launch(self, name: str, grid: Any, block: Any, args: Sequence[Any], *, order: int = 0) -> None:
        """Run once, on the arrays themselves."""
        index, signature = self.kernels[name.replace(" ", "")]
        check_arguments(name, signature, args)
        self._run(index, name, grid, block, signature, args, {}, order)

    def checked(
        self, name: str, grid: Any, block: Any, args: Sequence[Any], *, orders: Sequence[int] = ORDERS
    ) -> None:
        """Run in every order, on copies that end or begin at a page that nobody may touch; all must agree bit by bit."""
        index, signature = self.kernels[name.replace(" ", "")]
        check_arguments(name, signature, args)
        arrays = [(a, code == "m") for a, code in zip(args, signature[::2], strict=True) if isinstance(a, np.ndarray)]
        extents = merged([extent(a, written) for a, written in arrays])
        seen: list[bytes] | None = None
        for order in orders:
            left = order % 2
            with_guards = Guarded(self.native, extents, left, FILLS[left])
            try:
                self._run(index, name, grid, block, signature, args, with_guards.moved, order)
                found = with_guards.contents(name)
            finally:
                with_guards.free()
            if seen is not None and found != seen:
                raise KernelError(f"{name}: the result depends on the order of threads, or on what lies beside an array")
            seen = found
        for e, content in zip(extents, seen or [], strict=True):
            if e.written:
                ctypes.memmove(e.begin, content, len(content))

    def _run(
        self, index: int, name: str, grid: Any, block: Any, signature: str, args: Sequence[Any],
        moved: dict[Extent, int], order: int,
    ) -> None:  # fmt: skip
        codes = zip(signature[::2], signature[1::2], strict=True)
        values = [a if kind + code == "v*" else as_c(a, code, moved) for a, (kind, code) in zip(args, codes, strict=True)]
        places = [v.ctypes.data if isinstance(v, np.ndarray) else ctypes.addressof(v) for v in values]
        pointers = (ctypes.c_void_p * len(values))(*places)
        error = ctypes.create_string_buffer(400)
        if self.native.fibers_launch(index, triple(grid), triple(block), pointers, order, error, len(error)):
            raise KernelError(f"{name}: {error.value.decode()}")


class Guarded:
    """Copies of extents, with pages around them that fault."""

    def __init__(self, native: Any, extents: Sequence[Extent], left: int, fill: int) -> None:
        self.native, self.left, self.fill = native, left, fill
        self.moved: dict[Extent, int] = {}
        for e in extents:
            size = e.end - e.begin
            # as far from a multiple of 16 as it was: kernels choose their way by it
            shift = e.begin % 16
            at = native.fibers_allocate(size + shift, left, fill) + shift
            self.moved[e] = at
            ctypes.memmove(at, e.begin, size)
            if not e.written:
                native.fibers_protect(at - shift, size + shift)

    def contents(self, name: str) -> list[bytes]:
        found = []
        for e, at in self.moved.items():
            found.append(ctypes.string_at(at, e.end - e.begin))
            after = b"" if self.left else ctypes.string_at(at + e.end - e.begin, -(e.end - e.begin + e.begin % 16) % 16)
            if after.strip(bytes([self.fill])) or ctypes.string_at(at - e.begin % 16, e.begin % 16).strip(
                bytes([self.fill])
            ):
                raise KernelError(f"{name}: wrote beside an array of {e.end - e.begin} bytes")
        return found

    def free(self) -> None:
        for e, at in self.moved.items():
            shift = e.begin % 16
            self.native.fibers_free(at - shift, e.end - e.begin + shift, self.left)


def check_arguments(name: str, signature: str, args: Sequence[Any]) -> None:
    """As strict as a launch is not: CuPy passes any pointer and any number."""
    if len(signature) != 2 * len(args):
        raise TypeError(f"{name} takes {len(signature) // 2} arguments, got {len(args)}")
    for i, (a, kind, code) in enumerate(zip(args, signature[::2], signature[1::2], strict=True)):
        if kind + code == "v*":  # a struct
            continue
        if (kind != "v") != isinstance(a, np.ndarray) or (kind == "v" and not isinstance(a, np.generic)):
            raise TypeError(f"{name}, argument {i}: {'a scalar' if kind == 'v' else 'an array'} wanted, got {type(a).__name__}")
        same_size = a.dtype.itemsize == np.dtype(TYPES.get(code, a.dtype)).itemsize
        same = a.dtype == TYPES.get(code, a.dtype) if code in "fd" and kind == "v" else same_size
        if not same:
            raise TypeError(f"{name}, argument {i}: {np.dtype(TYPES[code])} wanted, got {a.dtype}")
        if kind == "m" and not a.flags.writeable:
            raise TypeError(f"{name}, argument {i}: a kernel would write a read-only array")


def as_c(value: Any, code: str, moved: dict[Extent, int]) -> Any:
    if not isinstance(value, np.ndarray):
        return SCALARS[code](value.item())
    at = value.ctypes.data
    for e, to in moved.items():
        if e.begin <= at <= e.end and (at < e.end or not value.size):
            return ctypes.c_void_p(to + at - e.begin)
    return ctypes.c_void_p(at)


def triple(size: Any) -> Any:
    return (ctypes.c_uint * 3)(*(tuple(size) + (1, 1, 1))[:3])


@functools.cache
def library(source: Path, several: bool = False) -> Library:
    return Library(build(source, several))


@functools.cache
def generated(code: str) -> Library:
    return Library(build_generated(code))


def all_kernels() -> Iterator[tuple[Path, str]]:
    for source in sorted(CSRC.glob("*.cu")):
        for name in library(source).names:
            yield source, name
