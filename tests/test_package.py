"""The package from outside: its public names, what importing it costs, and the files that must travel with it."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

import gpunet
from gpunet.devices import sources

PACKAGE = Path(gpunet.__file__).parent


def in_fresh_python(code: str) -> str:
    """What the code prints; it imports the same gpunet as this test."""
    run = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n{code}"]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()


def installed() -> metadata.Distribution:
    try:
        return metadata.distribution("gpunet")
    except metadata.PackageNotFoundError:
        pytest.skip("gpunet is not installed, only on the path")


# ---------------------------------------------------------------- public names


@pytest.mark.parametrize("name", gpunet.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(gpunet, name) is getattr(gpunet, name)
    assert name in dir(gpunet)


def test_names_that_are_modules_are_modules() -> None:
    modules = [name for name in gpunet.__all__ if name not in gpunet._HOME_OF]
    assert all(isinstance(getattr(gpunet, name), ModuleType) for name in modules)


def test_type_checkers_are_told_the_same() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    [block] = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    told = {alias.name: line.module for line in block.body if isinstance(line, ast.ImportFrom) for alias in line.names}
    assert sorted(told) == sorted(gpunet.__all__)
    for name, module in told.items():
        home = f"gpunet.{module}" if module else "gpunet"
        assert getattr(importlib.import_module(home), name) is getattr(gpunet, name)


def test_an_unknown_name_is_an_attribute_error_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match="module 'gpunet' has no attribute 'Tenser'") as raised:
        gpunet.Tenser
    assert (raised.value.name, raised.value.obj) == ("Tenser", gpunet)  # Python adds "Did you mean" from these


# ---------------------------------------------------------------- what an import costs


def test_importing_gpunet_loads_nothing_else() -> None:
    loaded = "sorted(m for m in sys.modules if m.partition('.')[0] in ('gpunet', 'numpy', 'cupy', 'click', 'rich'))"
    assert in_fresh_python(f"import gpunet; print({loaded})") == "['gpunet']"


def test_importing_gpunet_takes_less_than_a_tenth_of_a_second() -> None:
    timed = "import numpy, time; t = time.perf_counter(); import gpunet; print(time.perf_counter() - t)"
    assert min(float(in_fresh_python(timed)) for _ in range(3)) < 0.1


# ---------------------------------------------------------------- what travels with it


CARRIED = [
    "py.typed", "_cpu.pyi", "data/digits.npz", "data/DIGITS.txt", "viz/static/dagre.min.js", "viz/static/dagre.LICENSE",
    "viz/templates/report.html",
]  # fmt: skip


@pytest.mark.parametrize("name", CARRIED)
def test_package_data(name: str) -> None:
    assert (PACKAGE / name).is_file()


@pytest.mark.parametrize("name", ["activations.h", "activations.cu"])
def test_cuda_finds_its_sources(name: str) -> None:
    assert sources.find(name).stat().st_size > 0


def test_one_version() -> None:
    assert installed().version == gpunet.__version__


def test_what_the_metadata_promise() -> None:
    about = installed().metadata
    assert about["License-Expression"] == "Apache-2.0" and about["Requires-Python"] == ">=3.10"
    # the commands in error messages name these
    assert {"cuda12", "cuda13", "tabular", "plot", "sklearn"} <= set(about.get_all("Provides-Extra"))


def test_the_command_is_installed() -> None:
    [command] = [e for e in installed().entry_points if e.name == "gpunet-train"]
    assert command.load() is importlib.import_module("gpunet.cli.main").main
