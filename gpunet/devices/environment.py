"""What gpunet makes of this machine: the settings, what is missing, and the command that mends it."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from .. import __version__
from ..errors import ConfigError, did_you_mean
from .machine import GPU, Driver, Machine

ISAS = ("portable", "avx2", "avx512", "amx")
MOST_THREADS = 256  # of the pool in csrc/threads.h
OLDEST_CUDA = (12, 0)
OLDEST_FOR_CUDA13 = (7, 5)  # compute capability: CUDA 13 left Maxwell, Pascal and Volta behind
NEW_DRIVER = "sudo ubuntu-drivers install, or https://www.nvidia.com/drivers"
IN_CONTAINER = "in a container: docker run --gpus all"

THIS_MACHINE = Machine()


# ---------------------------------------------------------------- settings


@dataclass(frozen=True)
class Settings:
    """What the environment variables ask for.

    Attributes:
        device: GPUNET_DEVICE, else "auto".
        threads: GPUNET_THREADS, else OMP_NUM_THREADS, else the cores that this process may use.
        isa: GPUNET_ISA, one of ISAS; None: the best there is, but for amx, which is only taken if asked for.
        require_native: GPUNET_REQUIRE_NATIVE=1: to be without the C++ kernels is an error.
    """

    device: str
    threads: int
    isa: str | None
    require_native: bool


def settings(variables: Mapping[str, str] | None = None) -> Settings:
    """The one door for environment variables; an empty one counts as unset.

    Raises:
        ConfigError: a variable has a value that cannot be understood.
    """
    given = os.environ if variables is None else variables

    def read(name: str) -> str:
        return given.get(name, "").strip().lower()

    return Settings(
        device=_device(read("GPUNET_DEVICE")),
        threads=_threads(read("GPUNET_THREADS"), read("OMP_NUM_THREADS")),
        isa=_isa(read("GPUNET_ISA")),
        require_native=_flag("GPUNET_REQUIRE_NATIVE", read("GPUNET_REQUIRE_NATIVE")),
    )


def _device(value: str) -> str:
    if value and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        known = did_you_mean(value, ("auto", "cpu", "cuda", "cuda:1"))
        raise ConfigError(f'GPUNET_DEVICE: no device "{value}".{known}')
    return value or "auto"


def _threads(ours: str, openmp: str) -> int:
    if ours:
        if not ours.isdecimal() or not 1 <= int(ours) <= MOST_THREADS:
            raise ConfigError(f'GPUNET_THREADS: expected a number from 1 to {MOST_THREADS}, got "{ours}"')
        return int(ours)
    outer = openmp.split(",")[0].strip()  # "4,2": four threads, each of which may start two
    if not outer:
        return min(_cores(), MOST_THREADS)
    if not outer.isdecimal() or int(outer) < 1:
        raise ConfigError(f'OMP_NUM_THREADS: expected a number, got "{openmp}". GPUNET_THREADS goes before it')
    return min(int(outer), MOST_THREADS)


@functools.cache
def _cores() -> int:
    return THIS_MACHINE.cores()


def _isa(value: str) -> str | None:
    if value and value not in ISAS:
        raise ConfigError(f'GPUNET_ISA: no instruction set "{value}".{did_you_mean(value, ISAS)}')
    return value or None


def _flag(name: str, value: str) -> bool:
    if value not in ("", "0", "1"):
        raise ConfigError(f'{name}: expected 0 or 1, got "{value}"')
    return value == "1"


# ---------------------------------------------------------------- what is missing


class Problem(NamedTuple):
    """What is wrong, and the command that mends it."""

    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.what}: {self.mend}"


def native_problem(machine: Machine = THIS_MACHINE) -> Problem | None:
    """Why the C++ kernels cannot be used, or are of another version; None when all is well."""
    rebuild = machine.rebuild()
    try:
        built_for = machine.native().version()
    except ModuleNotFoundError:
        needed = machine.lacking()
        if not needed:
            return Problem("not built", rebuild)
        tools = f"sudo apt install {' '.join(needed)}"
        return Problem(f"not built, for want of {' and '.join(needed)}", f"{tools} && {rebuild}")
    except ImportError as error:
        return Problem(f"not loadable ({_first_line(error)})", rebuild)
    if built_for != __version__:
        return Problem(f"built for gpunet {built_for}, this is {__version__}", rebuild)
    return None


def cuda_problem(machine: Machine = THIS_MACHINE) -> str | None:
    """None when CUDA can be used through CuPy; else one line: what is missing, and the command that mends it."""
    problem = _cuda_problem(machine.driver(), machine)
    return None if problem is None else str(problem)


def _cuda_problem(driver: Driver | None, machine: Machine) -> Problem | None:
    if not machine.system().startswith("Linux"):
        return Problem("CUDA is supported on Linux alone", "use device cpu")
    if driver is None:
        return Problem("no NVIDIA driver (libcuda.so.1 is not there)", f"{NEW_DRIVER}; {IN_CONTAINER}")
    return _driver_problem(driver, machine) or _package_problem(driver, machine) or _cupy_problem(driver, machine)


def _driver_problem(driver: Driver, machine: Machine) -> Problem | None:
    if driver.cuda < OLDEST_CUDA:
        return Problem(f"{_offer(driver)}, gpunet needs {_dotted(OLDEST_CUDA)} or newer", NEW_DRIVER)
    if driver.gpus:
        return None
    visible = machine.visible_devices()
    if visible is not None:
        return Problem(f'no GPU is visible, CUDA_VISIBLE_DEVICES is "{visible}"', "unset CUDA_VISIBLE_DEVICES")
    error = driver.error or "it counts 0"
    return Problem(f"the NVIDIA driver finds no GPU ({error})", f"nvidia-smi shows why; {IN_CONTAINER}")


def _package_problem(driver: Driver, machine: Machine) -> Problem | None:
    """CuPy made for one CUDA runs on that one's driver and on every newer one, never on an older one."""
    found = list(machine.cupys())
    instead = f"pip uninstall -y {' '.join(found)} && {_install(driver)}"
    if len(found) > 1:
        return Problem(f"{' and '.join(found)} are installed, of which only one can work", instead)
    made_for = next((int(number) for name in found for number in re.findall(r"cuda(\d+)x", name)), None)
    if made_for is None:  # no CuPy, or one that was built elsewhere than for PyPI
        return None
    if made_for > driver.cuda[0]:
        return Problem(f"{found[0]} is for CUDA {made_for}, but {_offer(driver)}", instead)
    old = _too_old_for_cuda13(driver)
    if made_for >= 13 and old is not None:
        return Problem(f"{found[0]} does not run on {old.name} (compute capability {_dotted(old.capability)})", instead)
    return None


def _cupy_problem(driver: Driver, machine: Machine) -> Problem | None:
    install = _install(driver)
    again = install.replace("install", "install --force-reinstall")
    try:
        cupy = machine.cupy()
    except Exception as error:  # a broken installation raises anything
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            return Problem("CuPy is not installed", install)
        return Problem(f"CuPy cannot be imported ({_first_line(error)})", again)
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # the type differs between CuPy's versions
        return Problem(f"CuPy finds no CUDA libraries ({_first_line(error)})", install)
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return Problem(f"CuPy cannot use the driver ({_first_line(error)})", again)
    return None if count else Problem("CuPy finds no GPU, though the driver does", again)


def _install(driver: Driver) -> str:
    extra = "cuda13" if driver.cuda >= (13, 0) and _too_old_for_cuda13(driver) is None else "cuda12"
    return f'pip install "gpunet[{extra}]"'


def _too_old_for_cuda13(driver: Driver) -> GPU | None:
    return next((gpu for gpu in driver.gpus if gpu.capability < OLDEST_FOR_CUDA13), None)


def _offer(driver: Driver) -> str:
    release = f" {driver.release}" if driver.release else ""
    return f"the NVIDIA driver{release} offers CUDA {_dotted(driver.cuda)}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


# ---------------------------------------------------------------- the report


class Fact(NamedTuple):
    """One thing found: for reading, for programs, and the command that would mend or add what is missing."""

    name: str
    text: str
    value: Any
    mend: str | None = None


@dataclass(frozen=True, repr=False)
class Environment:
    """What `env()` found; its text can be pasted into a bug report."""

    facts: tuple[Fact, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: each fact under its name, and the missing things' commands under "mend"."""
        return {fact.name: fact.value for fact in self.facts} | {"mend": {f.name: f.mend for f in self.facts if f.mend}}

    def __str__(self) -> str:
        width = max(len(fact.name) for fact in self.facts)
        return "\n".join(line for fact in self.facts for line in _lines(fact, width))

    __repr__ = __str__


def _lines(fact: Fact, width: int) -> Iterator[str]:
    yield f"{fact.name:{width}}  {fact.text}"
    if fact.mend:
        yield f"{'':{width}}  -> {fact.mend}"


def env(machine: Machine = THIS_MACHINE) -> Environment:
    """What was found on this machine, what is missing, and the command that mends it."""
    facts = (*_basics(machine), _numpy(), _native(machine), *_cuda(machine), *_extras(machine), _settings())
    return Environment(facts)


def _basics(machine: Machine) -> Iterator[Fact]:
    import platform

    python = f"{platform.python_version()} ({platform.python_implementation()})"
    name, features = machine.processor()
    quota = machine.quota()
    limit = f", control group allows {quota:.2f}" if quota else ""
    yield Fact("gpunet", __version__, __version__)
    yield Fact("python", python, platform.python_version())
    yield Fact("system", machine.system(), machine.system())
    yield Fact("processor", f"{name}: {', '.join(features)}", {"name": name, "features": list(features)})
    yield Fact(
        "cores", f"{machine.cores()} (affinity {machine.affinity()}{limit})",
        {"used": machine.cores(), "affinity": machine.affinity(), "quota": quota},
    )  # fmt: skip


def _numpy() -> Fact:
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    text = f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
    return Fact("numpy", f"{np.__version__}, BLAS {text}", {"version": np.__version__, "blas": text})


def _native(machine: Machine) -> Fact:
    what, mend = native_problem(machine) or (None, None)
    try:
        native = machine.native()
    except ImportError:
        return Fact("kernels", f"NumPy's, slower: the C++ kernels are {what}", None, mend)
    usable, isa = list(native.isas()), native.isa()
    with suppress(ConfigError):  # which `settings` reports
        isa = settings().isa or isa
    text = f"C++, {isa} of {', '.join(usable)}" + (f"; {what}" if what else "")
    return Fact("kernels", text, {"isa": isa, "isas": usable}, mend)


def _cuda(machine: Machine) -> Iterator[Fact]:
    driver = machine.driver()
    yield Fact("driver", "none", None) if driver is None else _driver(driver)
    for index, gpu in enumerate(driver.gpus if driver else ()):
        yield _gpu(index, gpu)
    found = machine.cupys()
    yield Fact("cupy", ", ".join(f"{name} {version}" for name, version in found.items()) or "none", found)
    what, mend = _cuda_problem(driver, machine) or (None, None)
    yield Fact("cuda", f"not usable: {what}" if what else "usable", what is None, mend)


def _driver(driver: Driver) -> Fact:
    offered = _dotted(driver.cuda)
    text = f"{driver.release or 'NVIDIA'}, CUDA {offered}" + (f", {driver.error}" if driver.error else "")
    return Fact("driver", text, {"release": driver.release, "cuda": offered, "error": driver.error})


def _gpu(index: int, gpu: GPU) -> Fact:
    capability = _dotted(gpu.capability)
    text = f"{gpu.name}, {gpu.memory / 2**30:.1f} GiB, compute capability {capability}"
    return Fact(f"cuda:{index}", text, {"name": gpu.name, "memory": gpu.memory, "capability": capability})


def _extras(machine: Machine) -> Iterator[Fact]:
    skipped = ("all", "cuda12", "cuda13", "dev", "test")
    for extra, packages in sorted(machine.extras().items()):
        if extra not in skipped:
            versions = {package: machine.version(package) for package in packages}
            text = ", ".join(f"{package} {version or 'missing'}" for package, version in versions.items())
            yield Fact(extra, text, versions, None if all(versions.values()) else f'pip install "gpunet[{extra}]"')


def _settings() -> Fact:
    try:
        found = asdict(settings())
    except ConfigError as error:
        return Fact("settings", f"error: {error}", {"error": str(error)})
    return Fact("settings", ", ".join(f"{name} {value}" for name, value in found.items()), found)
