"""Every CUDA source compiles, by nvcc and by NVRTC, with no GPU at hand; nothing may live in local memory."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gpunet.devices import sources

CSRC = sources.find("activations.h").parent
SOURCES = sorted(CSRC.glob("*.cu"))
ACTIVATIONS = re.findall(r"X\((\w+)\)", (CSRC / "activations.h").read_text().split("define GPUNET_ACTIVATIONS(X)")[1])
# the kernels that Python asks NVRTC for, by source
NAMES = {
    "activations.cu": [
        f"gpunet::{kernel}<gpunet::act::{act}, {dtype}>"
        for kernel in ("activation", "activation_vjp")
        for act in ACTIVATIONS
        for dtype in ("float", "double")
    ]
}
CUPY_FLAGS = ["--std=c++17", "-ftz=true", "--device-as-default-execution-space"]

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
each_arch = pytest.mark.parametrize("arch", ["sm_80", "sm_90"])


def nvrtc() -> ctypes.CDLL | None:
    """NVRTC from its pip wheel (nvidia/cu13/lib, nvidia/cuda_nvrtc/lib), or from the system."""
    spec = importlib.util.find_spec("nvidia")
    wheels = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    found = [str(p) for root in wheels for p in sorted(root.glob("*/lib/libnvrtc.so*"))]
    for name in [*found, "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def checked(lib: ctypes.CDLL, status: int) -> None:
    lib.nvrtcGetErrorString.restype = ctypes.c_char_p
    assert status == 0, lib.nvrtcGetErrorString(status).decode()


def text_of(lib: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    checked(lib, getattr(lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    checked(lib, getattr(lib, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw[: size.value]


def compile_by_nvrtc(lib: ctypes.CDLL, source: Path, names: list[str], arch: str) -> tuple[bytes, list[str]]:
    """The cubin and the mangled name of each kernel, as cupy.RawModule(name_expressions=...) has them."""
    program = ctypes.c_void_p()
    checked(
        lib, lib.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), source.name.encode(), 0, None, None)
    )
    for name in names:
        checked(lib, lib.nvrtcAddNameExpression(program, name.encode()))
    options = [f"-arch={arch}", f"-I{source.parent}", *CUPY_FLAGS]
    flags = (ctypes.c_char_p * len(options))(*[o.encode() for o in options])
    status = lib.nvrtcCompileProgram(program, len(options), flags)
    assert status == 0, text_of(lib, program, "ProgramLog").decode()
    return text_of(lib, program, "CUBIN"), [lowered(lib, program, name) for name in names]


def lowered(lib: ctypes.CDLL, program: ctypes.c_void_p, name: str) -> str:
    mangled = ctypes.c_char_p()
    checked(lib, lib.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(mangled)))
    return mangled.value.decode() if mangled.value else ""


def assert_no_local_memory(report: str, kernels: int) -> None:
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert len(frames) >= kernels, report
    assert set(frames) == {("0", "0", "0")}, report


def test_every_source_has_names() -> None:
    assert len(ACTIVATIONS) == 11
    assert set(NAMES) == {source.name for source in SOURCES}


@each_source
@each_arch
def test_nvcc(source: Path, arch: str, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not on the path")
    command = [nvcc, "-std=c++17", f"-arch={arch}", "-cubin", "-Xptxas", "-v", "-Werror", "all-warnings"]
    done = subprocess.run([*command, "-o", str(tmp_path / "a.cubin"), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_no_local_memory(done.stderr, len(NAMES[source.name]))


@each_source
@each_arch
def test_nvrtc(source: Path, arch: str, tmp_path: Path) -> None:
    lib = nvrtc()
    if lib is None:
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc")
    cubin, names = compile_by_nvrtc(lib, source, NAMES[source.name], arch)
    assert cubin[:4] == b"\x7fELF"
    assert len(set(names)) == len(NAMES[source.name]) and all(name.encode() in cubin for name in names)


def test_nvrtc_reports_errors(tmp_path: Path) -> None:
    lib = nvrtc()
    if lib is None:
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc")
    (tmp_path / "wrong.cu").write_text("__global__ void k(float* p) { *p = INFINITY; }")
    with pytest.raises(AssertionError, match="INFINITY"):
        compile_by_nvrtc(lib, tmp_path / "wrong.cu", [], "sm_90")
