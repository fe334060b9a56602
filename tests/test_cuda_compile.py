"""Every CUDA source compiles, by nvcc and by NVRTC of CUDA 12 and 13, with no GPU at hand; nothing may live in local memory.

Registers go to pytest's report: --junitxml has them. What a compiler made of a text is kept in the folder for temporary
files; where there is none yet that is minutes of work, which a run of all tests begins in a second process (conftest.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fibers
import numpy as np
import pytest
from any_chain import Chain, layer_norm, longest, random_chain

from gpunet import ops
from gpunet.devices import launcher, several, sources

CSRC = sources.find("activations.h").parent
SOURCES = sorted(CSRC.glob("*.cu"))
CUPY_FLAGS = ["-ftz=true", "--device-as-default-execution-space", "-Xptxas=-v"]  # besides the launcher's
MOST_REGISTERS = 128  # of a thread: two blocks of 256 on a multiprocessor of 65,536
MORE_REGISTERS = {"products.cu": 136}  # NVRTC 13.0 takes 130 for sm_100; held to 128, NVRTC 13.5 spills 4 bytes there
MORE_REGISTERS_FOR_SEVERAL = {"products.cu": 168, "columns.cu": 170}  # one block on a multiprocessor, where two would spill

ARCHS = ["sm_80", "sm_90", "sm_100"]
each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
each_arch = pytest.mark.parametrize("arch", ARCHS)


def names_in(source: Path) -> list[str]:
    """The kernels that Python may ask NVRTC for."""
    if fibers.missing():
        pytest.skip(f"the names of kernels are not known: {fibers.missing()}")
    return fibers.library(source).names


WHEELS = {12: "nvidia-cuda-nvrtc-cu12>=12.9", 13: "nvidia-cuda-nvrtc>=13"}
each_nvrtc = pytest.mark.parametrize("major", WHEELS)


@functools.cache
def nvrtc(major: int) -> ctypes.CDLL:
    """NVRTC from its pip wheel (nvidia/cu13/lib, nvidia/cuda_nvrtc/lib), or from the system."""
    spec = importlib.util.find_spec("nvidia")
    wheels = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    file = f"libnvrtc.so.{major}"
    for name in [*(str(p) for root in wheels for p in sorted(root.glob(f"*/lib/{file}"))), file]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    pytest.skip(f"NVRTC {major} is not installed: pip install '{WHEELS[major]}'")


def version(lib: ctypes.CDLL) -> tuple[int, int]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    checked(lib, lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def checked(lib: ctypes.CDLL, status: int) -> None:
    lib.nvrtcGetErrorString.restype = ctypes.c_char_p
    assert status == 0, lib.nvrtcGetErrorString(status).decode()


def text_of(lib: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    checked(lib, getattr(lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    checked(lib, getattr(lib, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw[: size.value]


def compiled(
    lib: ctypes.CDLL, text: str, file: str, names: list[str], arch: str, options: tuple[str, ...] = launcher.OPTIONS
) -> tuple[bytes, list[str], str]:
    """What `compile_by_nvrtc` gives, or gave before for the same text."""
    asked = repr([text, file, names, arch, options, CUPY_FLAGS, version(lib)])

    def make() -> list[Any]:
        cubin, found, log = compile_by_nvrtc(lib, text, file, names, arch, options)[:3]
        return [cubin.hex(), found, log]

    cubin, found, log = kept(asked, make)
    return bytes.fromhex(cubin), found, log


def kept(asked: str, make: Callable[[], list[Any]]) -> list[Any]:
    """What `make` gives, or gave before for what is asked."""
    folder = Path(tempfile.gettempdir()) / f"gpunet-nvrtc-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{hashlib.sha256(asked.encode()).hexdigest()}.json"
    fibers.made_once(path, lambda beside: beside.write_text(json.dumps(make())))
    made: list[Any] = json.loads(path.read_text())
    return made


def compile_by_nvrtc(
    lib: ctypes.CDLL, text: str, file: str, names: list[str], arch: str, options: tuple[str, ...] = launcher.OPTIONS
) -> tuple[bytes, list[str], str, str]:
    """The cubin, the mangled name of each kernel, as cupy.RawModule(name_expressions=...) has them, the log and PTX."""
    program = ctypes.c_void_p()
    checked(lib, lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), file.encode(), 0, None, None))
    for name in names:
        checked(lib, lib.nvrtcAddNameExpression(program, name.encode()))
    given = [f"-arch={arch}", *options, *CUPY_FLAGS]
    flags = (ctypes.c_char_p * len(given))(*[o.encode() for o in given])
    status = lib.nvrtcCompileProgram(program, len(given), flags)
    log = text_of(lib, program, "ProgramLog").decode()
    assert status == 0, log
    mangled = [lowered(lib, program, name) for name in names]
    return text_of(lib, program, "CUBIN"), mangled, log, text_of(lib, program, "PTX").decode()


def lowered(lib: ctypes.CDLL, program: ctypes.c_void_p, name: str) -> str:
    mangled = ctypes.c_char_p()
    checked(lib, lib.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(mangled)))
    return mangled.value.decode() if mangled.value else ""


def assert_no_local_memory(report: str, kernels: int, apart: str = "$^") -> None:
    """No spills, and no stack but in the kernels whose mangled name `apart` finds."""
    properties = r"properties for (\w+)\s[^\d]*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    found = re.findall(properties, report)
    assert len(found) >= kernels, report
    assert {frame[2:] for frame in found} == {("0", "0")}, report
    assert [name for name, stack, *_ in found if stack != "0" and not re.search(apart, name)] == [], report


def far_angles(names: list[str]) -> str:
    """sin and cos: for angles beyond 2^17 or so CUDA's own are called, which keep a table on the stack."""
    unary = list(dict.fromkeys(re.findall(r"Unary::(\w+)", " ".join(names))))
    far = [f"UnaryE{i}E" for i, name in enumerate(unary) if name in ("sin", "cos")]
    return "|".join([*far, "6CosineE"])


def most_registers(report: str) -> int:
    return max(int(n) for n in re.findall(r"Used (\d+) registers", report))


def by_nvcc(source: Path) -> tuple[int, str]:
    """The exit status and what nvcc says."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not on the path")
    options = launcher.options_of(source.stem)
    command = [nvcc, *options, "-arch=sm_90", "-cubin", "-Xptxas", "-v", "-Werror", "all-warnings", "-o", os.devnull, str(source)]

    def make() -> list[Any]:
        done = subprocess.run(command, capture_output=True, text=True)
        return [done.returncode, done.stderr]

    which = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    status, said = kept(repr([sources.inlined(source.name), command, which]), make)
    return status, said


def plain(source: Path, arch: str, major: int) -> tuple[bytes, list[str], str]:
    """As CuPy compiles it: the text alone, with no header of CUDA's in reach."""
    text, options = sources.inlined(source.name), launcher.options_of(source.stem)
    return compiled(nvrtc(major), text, source.name, names_in(source), arch, options)


def for_several(source: Path, arch: str, major: int) -> tuple[bytes, list[str], str]:
    wanted = [f"gpunet::{several.KERNEL}<{name}>" for name in names_in(source)]
    text = sources.with_headers(several.SOURCE + source.read_text())
    return compiled(nvrtc(major), text, source.name, wanted, arch, launcher.options_of(source.stem))


@each_source
def test_nvcc(source: Path, record_property: Any) -> None:
    status, said = by_nvcc(source)
    assert status == 0, said
    assert_no_local_memory(said, len(names_in(source)), far_angles(names_in(source)))
    record_property("registers", most_registers(said))


@each_source
@each_arch
@each_nvrtc
def test_nvrtc(source: Path, arch: str, major: int, record_property: Any) -> None:
    wanted = names_in(source)
    cubin, names, log = plain(source, arch, major)
    assert cubin[:4] == b"\x7fELF"
    assert len(set(names)) == len(wanted) and all(name.encode() in cubin for name in names)
    assert_no_local_memory(log, len(wanted), far_angles(wanted))
    registers = most_registers(log)
    record_property("registers", registers)
    assert registers <= MORE_REGISTERS.get(source.name, MOST_REGISTERS)


@each_source
@each_arch
@each_nvrtc
def test_kernels_for_several_nets_by_nvrtc(source: Path, arch: str, major: int, record_property: Any) -> None:
    wanted = names_in(source)
    _, names, log = for_several(source, arch, major)
    assert len(set(names)) == len(wanted)
    assert_no_local_memory(log, len(wanted), far_angles(wanted))
    registers = most_registers(log)
    record_property("registers", registers)
    assert registers <= (MORE_REGISTERS_FOR_SEVERAL if arch == "sm_100" else {}).get(source.name, MOST_REGISTERS)


CHAINS = {
    "of layer norm": lambda: layer_norm(np.float32),
    "longest": longest,
    "random": lambda: random_chain(4, np.float64),
}


@pytest.mark.parametrize("chain", CHAINS)
@each_arch
@each_nvrtc
def test_chains_by_nvrtc(chain: str, arch: str, major: int, record_property: Any) -> None:
    name, text = CHAINS[chain]().source().named()
    for before, wanted in (("", f"gpunet::{name}"), (several.SOURCE, f"gpunet::{several.KERNEL}<gpunet::{name}>")):
        code, options = sources.with_headers(before + text), launcher.options_of(name)
        _, _, log = compiled(nvrtc(major), code, f"{name}.cu", [wanted], arch, options)
        assert_no_local_memory(log, 1, name if "Unary::sin" in text or "Unary::cos" in text else "$^")
        registers = most_registers(log)
        record_property("registers", registers)
        assert registers <= MOST_REGISTERS


@each_nvrtc
def test_nothing_is_contracted_from_step_to_step(major: int) -> None:
    """A product and a sum that are two kernels' are rounded twice. They would not be as NVRTC compiles by default."""
    chain = Chain((1023,), np.float32, [np.ones(1023, np.float32)] * 2)
    chain.add(ops.add, chain.add(ops.mul, 0, 1), 1)
    name, text = chain.source().named()
    made = [
        compile_by_nvrtc(nvrtc(major), sources.with_headers(text), "chain.cu", [f"gpunet::{name}"], "sm_90", options)[3]
        for options in (launcher.OPTIONS, launcher.options_of(name))
    ]
    assert ["fma.rn" in ptx for ptx in made] == [True, False]
    assert "mul.rn.ftz.f32" in made[1] and "add.rn.ftz.f32" in made[1]  # .rn: ptxas leaves them apart, too


@each_nvrtc
def test_nvrtc_is_new_enough(major: int) -> None:
    """12.9 is the first that is tested of CUDA 12; sm_100 came with 12.8."""
    assert version(nvrtc(major)) >= (12, 9)


@each_nvrtc
def test_nvrtc_reports_errors(major: int) -> None:
    lib = nvrtc(major)
    with pytest.raises(AssertionError, match="INFINITY"):
        compile_by_nvrtc(lib, "__global__ void k(float* p) { *p = INFINITY; }", "wrong.cu", [], "sm_90")
    spills = "__global__ void k(int* p, int i) { int a[64]; for (int k = 0; k < 64; ++k) a[p[k]] = k; p[0] = a[i]; }"
    with pytest.raises(AssertionError, match="stack frame"):
        assert_no_local_memory(compile_by_nvrtc(lib, spills, "spills.cu", ["k"], "sm_90")[2], 1)


if __name__ == "__main__":  # what the tests are going to ask for, but the last first: there the two meet
    os.nice(10)
    for work in (for_several, plain):
        for source, arch, major in itertools.product(reversed(SOURCES), reversed(ARCHS), reversed(WHEELS)):
            with contextlib.suppress(pytest.skip.Exception):
                work(source, arch, major)
    for source in reversed(SOURCES):
        with contextlib.suppress(pytest.skip.Exception):
            by_nvcc(source)
