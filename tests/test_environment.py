"""The settings, and what is said of machines that lack something: what it is, and the command that mends it."""

from __future__ import annotations

import ctypes
import json
import platform
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gpunet
from gpunet.devices import environment
from gpunet.devices.environment import cuda_problem, env, native_problem, settings
from gpunet.devices.machine import GPU, Driver, Machine
from gpunet.errors import ConfigError

H200 = GPU("NVIDIA H200", 139 << 30, (9, 0))
PASCAL = GPU("GeForce GTX 1080", 8 << 30, (6, 1))
DRIVER_13 = Driver((13, 0), "580.95.05", (H200,))
DRIVER_12 = Driver((12, 4), "550.54.14", (H200,))
MEND_13, MEND_12 = 'pip install "gpunet[cuda13]"', 'pip install "gpunet[cuda12]"'


def fails(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def a_cupy(*, count: Any = lambda: 1, nvrtc: Any = lambda: (13, 0)) -> Any:
    runtime = SimpleNamespace(getDeviceCount=count)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, nvrtc=SimpleNamespace(getVersion=nvrtc)))


def machine(
    driver: Driver | None = DRIVER_13,
    *,
    cupys: tuple[str, ...] = ("cupy-cuda13x",),
    cupy: Any = None,
    visible: str | None = None,
    system: str = "Linux 6.1 x86_64",
) -> Machine:
    """A machine with a working GPU, but for what the test says."""
    made = Machine()
    answers = {
        "driver": lambda: driver,
        "cupys": lambda: dict.fromkeys(cupys, "14.2.0"),
        "cupy": cupy or a_cupy,
        "visible_devices": lambda: visible,
        "system": lambda: system,
    }
    vars(made).update(answers)
    return made


def fields(found: Any) -> dict[str, str]:
    return {fact.name: fact.text for fact in found.facts}


# ---------------------------------------------------------------- settings


def test_settings_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_cores", lambda: 6)
    assert settings({}) == environment.Settings(device="auto", threads=6, isa=None, require_native=False)
    assert settings({"GPUNET_DEVICE": " ", "GPUNET_THREADS": "", "OMP_NUM_THREADS": ""}) == settings({})


def test_settings_as_set() -> None:
    given = {"GPUNET_DEVICE": "CUDA:1", "GPUNET_THREADS": "3", "OMP_NUM_THREADS": "7", "GPUNET_ISA": "avx2"}
    assert settings(given | {"GPUNET_REQUIRE_NATIVE": "1"}) == environment.Settings("cuda:1", 3, "avx2", True)
    assert settings({"GPUNET_REQUIRE_NATIVE": "0"}).require_native is False


@pytest.mark.parametrize(("openmp", "threads"), [("5", 5), ("4,2", 4), ("1000", environment.MOST_THREADS)])
def test_openmp_threads_serve_where_ours_are_not_set(openmp: str, threads: int) -> None:
    assert settings({"OMP_NUM_THREADS": openmp}).threads == threads


def test_a_machine_with_more_cores_than_the_pool_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_cores", lambda: 384)
    assert settings({}).threads == environment.MOST_THREADS


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GPUNET_DEVICE", "cdua", 'no device "cdua". Did you mean "cuda"?'),
        ("GPUNET_DEVICE", "cuda:x", 'no device "cuda:x"'),
        ("GPUNET_THREADS", "0", 'from 1 to 256, got "0"'),
        ("GPUNET_THREADS", "two", 'got "two"'),
        ("GPUNET_THREADS", "257", 'got "257"'),
        ("GPUNET_THREADS", "²", 'got "²"'),
        ("OMP_NUM_THREADS", "-1", 'got "-1". GPUNET_THREADS goes before it'),
        ("GPUNET_ISA", "avx", 'no instruction set "avx". Did you mean "avx2"?'),
        ("GPUNET_REQUIRE_NATIVE", "yes", 'expected 0 or 1, got "yes"'),
    ],
)
def test_a_setting_that_cannot_be_understood(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: .*{re.escape(said)}"):
        settings({name: value})


def test_settings_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUNET_DEVICE", "cpu")
    assert settings().device == "cpu"


# ---------------------------------------------------------------- processor and cores


def with_files(root: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Machine(root)


V1 = "9:name=systemd:/x\n4:cpu,cpuacct:/docker/a\n"
QUOTA, PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("group", "files", "quota"),
    [
        ("", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "400000 100000"}, 1),
        (V1, {QUOTA: "-1", PERIOD: "100000"}, None),
        (V1, {QUOTA: "50000", PERIOD: "100000"}, 0.5),
        ("2:cpuset:/\n", {"cpu.max": "100000 100000"}, None),
    ],
    ids=["no-groups", "v2-max", "v2", "v2-parent", "v2-tightest", "v1-none", "v1", "v1-other-controller"],
)
def test_the_quota_of_control_groups(tmp_path: Path, group: str, files: dict[str, str], quota: float | None) -> None:
    limits = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert with_files(tmp_path, {"proc/self/cgroup": group, **limits}).quota() == quota


@pytest.mark.parametrize(("affinity", "quota", "cores"), [(8, None, 8), (8, 2.5, 2), (2, 4.0, 2), (8, 0.5, 1)])
def test_cores(affinity: int, quota: float | None, cores: int) -> None:
    made = Machine()
    vars(made).update(affinity=lambda: affinity, quota=lambda: quota)
    assert made.cores() == cores


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        ("model name\t: AMD EPYC 9B14\nflags\t\t: fpu avx2 fma avx512f\n", "AMD EPYC 9B14", ("fma", "avx2", "avx512f")),
        ("CPU part\t: 0xd4f\nFeatures\t: fp asimd sve\n", platform.processor() or platform.machine(), ("asimd", "sve")),
    ],
    ids=["x86-64", "aarch64"],
)
def test_the_processor(tmp_path: Path, text: str, name: str, features: tuple[str, ...]) -> None:
    assert with_files(tmp_path, {"proc/cpuinfo": text}).processor() == (name, features)


def test_this_machine_answers() -> None:
    this = Machine()
    assert 1 <= this.cores() <= this.affinity()
    assert this.version("numpy") is not None and this.version("no-such-package") is None


# ---------------------------------------------------------------- the driver


class Libcuda:
    """The driver's library with one H200, as ctypes would call it."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12040
        return 0

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuGetErrorString(self, status: int, text: Any) -> int:
        text._obj.value = b"no CUDA-capable device is detected"
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, handle: Any, index: int) -> int:
        handle._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, handle: ctypes.c_int) -> int:
        name.value = b"NVIDIA H200"
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, handle: ctypes.c_int) -> int:
        memory._obj.value = H200.memory
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, handle: ctypes.c_int) -> int:
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0


def test_the_driver_is_asked_without_cupy(tmp_path: Path) -> None:
    made = with_files(tmp_path, {"sys/module/nvidia/version": "550.54.14\n"})
    vars(made).update(libcuda=Libcuda)
    assert made.driver() == DRIVER_12


def test_a_driver_that_does_not_start(tmp_path: Path) -> None:
    made = Machine(tmp_path)
    vars(made).update(libcuda=lambda: Libcuda(status=100))
    assert made.driver() == Driver((12, 4), None, error="no CUDA-capable device is detected")


def test_no_driver() -> None:
    made = Machine()
    vars(made).update(libcuda=fails(OSError("libcuda.so.1: cannot open shared object file")))
    assert made.driver() is None


# ---------------------------------------------------------------- what keeps CUDA from being used


def test_nothing_is_wrong() -> None:
    assert cuda_problem(machine()) is None


def test_cuda_12_runs_on_a_newer_driver() -> None:
    assert cuda_problem(machine(DRIVER_13, cupys=("cupy-cuda12x",))) is None


NO_CUPY = fails(ModuleNotFoundError("No module named 'cupy'", name="cupy"))
NO_NVRTC = fails(RuntimeError('Failure finding "libnvrtc.so.13"\nNo such file'))
INSTEAD = "pip uninstall -y cupy-cuda13x && "
DRIVERS = "sudo ubuntu-drivers install, or https://www.nvidia.com/drivers"
PROBLEMS: dict[str, tuple[Machine, str, str]] = {
    "not Linux": (
        machine(None, system="Darwin 24.1 arm64"),
        "CUDA is supported on Linux alone",
        "use device cpu",
    ),
    "no driver": (
        machine(None),
        "no NVIDIA driver (libcuda.so.1 is not there)",
        DRIVERS,
    ),
    "driver too old": (
        machine(Driver((11, 8), "520.61", (H200,))),
        "the NVIDIA driver 520.61 offers CUDA 11.8, gpunet needs 12.0 or newer",
        DRIVERS,
    ),
    "hidden GPU": (
        machine(Driver((13, 0), None, error="no device"), visible=""),
        'no GPU is visible, CUDA_VISIBLE_DEVICES is ""',
        "unset CUDA_VISIBLE_DEVICES",
    ),
    "no GPU": (
        machine(Driver((13, 0), None, error="no CUDA-capable device is detected")),
        "the NVIDIA driver finds no GPU (no CUDA-capable device is detected)",
        "docker run --gpus all",
    ),
    "no CuPy": (
        machine(cupys=(), cupy=NO_CUPY),
        "CuPy is not installed",
        MEND_13,
    ),
    "no CuPy, older driver": (
        machine(DRIVER_12, cupys=(), cupy=NO_CUPY),
        "CuPy is not installed",
        MEND_12,
    ),
    "no CuPy, older GPU": (
        machine(Driver((13, 0), None, (PASCAL,)), cupys=(), cupy=NO_CUPY),
        "CuPy is not installed",
        MEND_12,
    ),
    "CuPy newer than the driver": (
        machine(DRIVER_12),
        "cupy-cuda13x is for CUDA 13, but the NVIDIA driver 550.54.14 offers CUDA 12.4",
        INSTEAD + MEND_12,
    ),
    "GPU too old for CuPy": (
        machine(Driver((13, 0), None, (H200, PASCAL))),
        "cupy-cuda13x does not run on GeForce GTX 1080 (compute capability 6.1)",
        INSTEAD + MEND_12,
    ),
    "two CuPys": (
        machine(cupys=("cupy-cuda12x", "cupy-cuda13x")),
        "cupy-cuda12x and cupy-cuda13x are installed",
        f"pip uninstall -y cupy-cuda12x cupy-cuda13x && {MEND_13}",
    ),
    "broken CuPy": (
        machine(cupy=fails(ImportError("libcudart.so.13: cannot open\nmore"))),
        "CuPy cannot be imported (ImportError: libcudart.so.13: cannot open)",
        "--force-reinstall",
    ),
    "a module that CuPy needs": (
        machine(cupy=fails(ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock"))),
        "CuPy cannot be imported (ModuleNotFoundError: No module named 'fastrlock')",
        "--force-reinstall",
    ),
    "CuPy without toolkit": (
        machine(cupy=lambda: a_cupy(nvrtc=NO_NVRTC)),
        "CuPy finds no CUDA libraries (RuntimeError: Failure",
        MEND_13,
    ),
    "CuPy without driver": (
        machine(cupy=lambda: a_cupy(count=fails(RuntimeError("cudaErrorInsufficientDriver")))),
        "CuPy cannot use the driver (RuntimeError: cudaErrorInsufficientDriver)",
        "--force-reinstall",
    ),
    "CuPy counts none": (
        machine(cupy=lambda: a_cupy(count=lambda: 0)),
        "CuPy finds no GPU",
        "--force-reinstall",
    ),
}


@pytest.mark.parametrize(("made", "what", "mend"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_problem_says_what_and_how_to_mend_it_in_one_line(made: Machine, what: str, mend: str) -> None:
    said = cuda_problem(made)
    assert said is not None and "\n" not in said
    assert said.startswith(what) and mend in said.removeprefix(what)


@pytest.mark.parametrize("made", [row[0] for row in PROBLEMS.values()], ids=PROBLEMS)
def test_the_report_mends_the_same_problem(made: Machine) -> None:
    found = env(made)
    assert found.to_dict()["cuda"] is False
    what = fields(found)["cuda"].removeprefix("not usable: ")
    assert f"{what}: {found.to_dict()['mend']['cuda']}" == cuda_problem(made)


# ---------------------------------------------------------------- the C++ kernels


def kernels(native: Any, *, lacking: tuple[str, ...] = ()) -> Machine:
    made = machine()
    vars(made).update(native=native, lacking=lambda: list(lacking), rebuild=lambda: "pip install gpunet")
    return made


UNDEFINED = fails(ImportError("undefined symbol: x"))
NOT_BUILT = fails(ModuleNotFoundError("No module named 'gpunet._cpu'", name="gpunet._cpu"))


def of_version(version: str) -> Callable[[], Any]:
    return lambda: SimpleNamespace(version=lambda: version, isa=lambda: "avx2", isas=lambda: ["avx2", "portable"])


@pytest.mark.parametrize(
    ("made", "what", "mend"),
    [
        (kernels(NOT_BUILT), "not built", "pip install gpunet"),
        (
            kernels(NOT_BUILT, lacking=("g++",)),
            "not built, for want of g++",
            "sudo apt install g++ && pip install gpunet",
        ),
        (kernels(UNDEFINED), "not loadable (ImportError: undefined symbol: x)", "pip install gpunet"),
        (kernels(of_version("0.0.1")), f"built for gpunet 0.0.1, this is {gpunet.__version__}", "pip install gpunet"),
    ],
    ids=["not built", "no compiler", "not loadable", "another version"],
)
def test_kernels_that_are_missing(made: Machine, what: str, mend: str) -> None:
    assert native_problem(made) == (what, mend)
    assert what in fields(env(made))["kernels"]
    assert env(made).to_dict()["mend"]["kernels"] == mend


def test_kernels_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made = kernels(of_version(gpunet.__version__))
    assert native_problem(made) is None
    monkeypatch.delenv("GPUNET_ISA", raising=False)
    assert fields(env(made))["kernels"] == "C++, avx2 of avx2, portable"
    monkeypatch.setenv("GPUNET_ISA", "portable")
    assert fields(env(made))["kernels"] == "C++, portable of avx2, portable"
    monkeypatch.setenv("GPUNET_ISA", "avx1")
    assert fields(env(made))["kernels"] == "C++, avx2 of avx2, portable"


def test_what_compiling_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "g++" in Machine().lacking()
    (tmp_path / "c++").write_text("#!/bin/sh\n")
    (tmp_path / "c++").chmod(0o755)
    assert "g++" not in Machine().lacking()


# ---------------------------------------------------------------- the report


def test_the_report_is_plain_text_in_a_stable_order() -> None:
    made = machine()
    vars(made).update(extras=lambda: {"plot": ["matplotlib", "no-such-package"], "all": ["x"], "test": ["pytest"]})
    text = str(env(made))
    assert text == repr(env(made))
    names = " ".join(fact.name for fact in env(made).facts)
    assert names == "gpunet python system processor cores numpy kernels driver cuda:0 cupy cuda plot settings"
    assert re.search(r"^cuda:0     NVIDIA H200, 139.0 GiB, compute capability 9.0$", text, re.MULTILINE)
    assert re.search(r'^plot .*, no-such-package missing\n +-> pip install "gpunet\[plot\]"$', text, re.MULTILINE)


def test_the_report_as_json() -> None:
    found = env(machine()).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["gpunet"] == gpunet.__version__ and found["cuda"] is True
    assert found["driver"] == {"release": "580.95.05", "cuda": "13.0", "error": None}
    assert found["cupy"] == {"cupy-cuda13x": "14.2.0"}


def test_a_setting_in_error_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUNET_THREADS", "many")
    assert fields(env(machine()))["settings"].startswith("error: GPUNET_THREADS")


def test_this_machine_has_a_report() -> None:
    found = gpunet.env()
    assert found.to_dict()["cuda"] == (cuda_problem() is None)
    assert fields(found)["numpy"].startswith(found.to_dict()["numpy"]["version"])
