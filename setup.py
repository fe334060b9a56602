"""Builds gpunet._cpu from csrc/ where there is a compiler, and carries the CUDA sources; the rest is pyproject.toml."""

from __future__ import annotations

import os
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

ROOT = Path(__file__).parent.resolve()
CARRIED = ["*.h", "*.cu"]  # what CUDA compiles on the user's machine
# No -ffast-math: it hides NaN. No contraction: a fused multiply-add stands where the source asks for one.
FLAGS = "-std=c++17 -O3 -g0 -fvisibility=hidden -ffp-contract=off -fno-math-errno -fno-trapping-math -Wno-psabi"
AVX2 = "-mavx2 -mfma"
# gcc's own AVX-512 header sets off the warning (bug 105593)
AVX512 = f"{AVX2} -mavx512f -mavx512vl -mavx512dq -mavx512bw -Wno-maybe-uninitialized -Wno-uninitialized"
ISA_FLAGS = {"_avx2": AVX2, "_avx512": AVX512, "_amx": f"{AVX512} -mamx-tile -mamx-bf16"}

YOURS = shlex.split(os.environ.get("CXXFLAGS", ""))  # after ours, so that they win


def isa_of(source: str) -> str:
    return next((suffix for suffix in ISA_FLAGS if Path(source).stem.endswith(suffix)), "")


class BuildNative(build_ext):
    """Compiles each source with the flags of its instruction set, all cores at once."""

    def build_extension(self, ext: Extension) -> None:
        x86 = self.plat_name.endswith(("x86_64", "amd64"))
        amx = x86 and self.plat_name.startswith("linux") and self.knows_tiles()
        left_out = [suffix for suffix in ISA_FLAGS if not (amx if suffix == "_amx" else x86)]
        sources = [s for s in ext.sources if isa_of(s) not in left_out]
        sources.sort(key=lambda s: "kernels_" not in s)  # which take longest come first, so that no core waits at the end
        defines = [("GPUNET_VERSION", f'"{self.distribution.get_version()}"')]
        defines += [("GPUNET_X86", "1")] * x86 + [("GPUNET_AMX", "1")] * amx
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda source: self.compile_one(source, defines), sources))
        ext.sources, ext.extra_objects, ext.depends = [], objects, objects
        super().build_extension(ext)

    def knows_tiles(self) -> bool:
        """Whether the compiler and its assembler know AMX (gcc 11, clang 12)."""
        probe = Path(self.build_temp) / "probe_amx.cpp"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("#include <immintrin.h>\nvoid f() { _tile_dpbf16ps(0, 1, 2); }\n")
        try:
            self.compiler.compile([str(probe)], self.build_temp, extra_postargs=ISA_FLAGS["_amx"].split())
        except CompileError:
            return False
        return True

    def compile_one(self, source: str, defines: list[tuple[str, str]]) -> str:
        flags = [*FLAGS.split(), *ISA_FLAGS.get(isa_of(source), "").split(), *YOURS]
        include = [pybind11_headers(), *(self.include_dirs or [])]
        [output] = self.compiler.compile([source], self.build_temp, defines, include, extra_postargs=flags)
        return output


def pybind11_headers() -> str:
    try:
        import pybind11
    except ImportError as e:
        raise CompileError(f"gpunet._cpu needs pybind11 at build time: {e}") from e
    return pybind11.get_include()


class BuildPython(build_py):
    """Puts the sources that CUDA compiles at run time beside the package, as gpunet/csrc."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for source, target in self.carried():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)

    def carried(self) -> list[tuple[Path, Path]]:
        folder = Path(self.build_lib) / "gpunet" / "csrc"
        sources = [source for pattern in CARRIED for source in sorted((ROOT / "csrc").glob(pattern))]
        return [(source, folder / source.name) for source in sources]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return super().get_outputs(include_bytecode) + [str(target) for _, target in self.carried()]


def native() -> Extension:
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").iterdir() if path.is_file())
    return Extension(
        "gpunet._cpu",
        sources=[f for f in files if f.endswith(".cpp")],
        depends=[f for f in files if not f.endswith(".cpp")],
        language="c++",
        extra_link_args=["-Wl,-s"] if not YOURS and os.name == "posix" and os.uname().sysname == "Linux" else [],
        optional=os.environ.get("GPUNET_REQUIRE_NATIVE") != "1",
    )


setup(ext_modules=[native()], cmdclass={"build_ext": BuildNative, "build_py": BuildPython})
