"""The kernels of csrc/*.cu on one GPU: each is compiled for it when it is first wanted, and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ..errors import DeviceError
from . import several, sources

WARP = 32
THREADS = 256  # of a block, where nothing else is said
MOST_BLOCKS = 4096  # of a flat launch: each thread then goes on, a whole grid further
OPTIONS = ("--std=c++17",)
FORMULAS = ("elementwise", "activations", "columns", "chain_")
GO, BEYOND, INDEX, DONE = range(4)  # of Control, in csrc/device.h


def options_of(source: str) -> tuple[str, ...]:
    """Formulas are compiled as for the CPU, with a fused multiply-add only where one asks for it: else a chain would round
    once what a product and a sum, each by itself, round twice."""
    return (*OPTIONS, "--fmad=false") if source.startswith(FORMULAS) else OPTIONS


class Launcher:
    """`launch` runs a kernel; `control` is what all of them share: whether to go on, and what went wrong.

    Inside `listing` a launch is only listed.
    """

    def __init__(self, cupy: Any, device: Any) -> None:
        self._cupy, self._device = cupy, device
        self._kernels: dict[str, Any] = {}
        self.texts: dict[str, str] = {}  # sources that are no file: of chains
        self.control = cupy.asarray(np.array([1, 0, 0, 0], np.int64))
        self.done = 0  # the steps counted there, as the host last knew
        self._listed: list[several.Launch] | None = None

    def launch(self, source: str, name: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
        """Run gpunet::NAME of csrc/SOURCE.cu, or of `texts`; Control goes last. Scalars are NumPy's, of the kernel's own type."""
        args = (*args, self.control)
        if self._listed is not None:
            self._listed.append(several.Launch(source, name, grid, block, args))
        else:
            self._run(self._kernel(source, name), grid, block, args)

    def flat(self, source: str, name: str, threads: int, *args: Any) -> None:
        """As `launch`, by about so many threads."""
        block = min(-(-threads // WARP) * WARP, THREADS)
        if block:
            self.launch(source, name, (min(-(-threads // block), MOST_BLOCKS),), (block,), *args)

    def ready(self, launches: Sequence[several.Launch]) -> list[partial[None]]:
        """These launches, with nothing left to find out."""
        return [partial(self._run, self._kernel(a.source, a.name), a.grid, a.block, a.args) for a in launches]

    def joined(self, launches: Sequence[several.Launch]) -> list[partial[None]]:
        """One launch that does what these, which are `several.alike`, would; more where a launch's arguments have no room."""
        first = launches[0]
        kernel = self._kernel(first.source, f"{several.KERNEL}<gpunet::{first.name}>")
        return [partial(self._run, kernel, (blocks,), first.block, (table,)) for blocks, table in several.tables(launches)]

    @contextmanager
    def listing(self) -> Iterator[list[several.Launch]]:
        """Kernels asked for inside, which are neither run nor compiled."""
        before, self._listed = self._listed, []
        try:
            yield self._listed
        finally:
            self._listed = before

    @contextmanager
    def using(self, control: Any) -> Iterator[None]:
        """Kernels asked for inside share this Control."""
        before, self.control = self.control, control
        try:
            yield
        finally:
            self.control = before

    def _run(self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        with self._device:
            kernel(grid, block, args)

    def _kernel(self, source: str, name: str) -> Any:
        if name not in self._kernels:
            self._kernels[name] = self._compile(source, f"gpunet::{name}")
        return self._kernels[name]

    def _compile(self, source: str, name: str) -> Any:
        text = self.texts[source] if source in self.texts else sources.find(f"{source}.cu").read_text()
        code = sources.with_headers(several.SOURCE + text if name.startswith(f"gpunet::{several.KERNEL}<") else text)
        how = {"options": options_of(source), "name_expressions": (name,)}
        try:
            return self._cupy.RawModule(code=code, **how).get_function(name)
        except MemoryError:
            raise
        except Exception as error:  # NVRTC or its headers are missing in many ways, each with an exception of its own
            raise DeviceError(self._why_not(name, error)) from error

    def _why_not(self, name: str, error: Exception) -> str:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if type(error).__name__ == "CompileException":
            return f"device cuda: {name} does not compile ({lines[0]}); this is a bug in gpunet, please report it"
        major = self._cupy.cuda.runtime.runtimeGetVersion() // 1000
        again = f'pip install --force-reinstall "gpunet[cuda{major}]"'
        return f"device cuda: NVRTC, which compiles the kernels, or a header of it is missing ({lines[0]}): {again}"

    # ------------------------------------------------------------------ what went wrong

    def read(self) -> list[int]:
        """Control, as it is once everything asked for has been done."""
        return [int(n) for n in self._cupy.asnumpy(self.control)]

    def reset(self) -> None:
        self.control[...] = self._cupy.asarray(np.array([1, 0, 0, 0], np.int64))
        self.done = 0
