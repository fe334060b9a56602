"""Checks that pip finds a binary wheel of every dependency, for each Python and processor that gpunet supports.

    python scripts/check_wheels.py [GROUP...]

A group is "base" or an extra of pyproject.toml. Nothing is installed. pip evaluates environment markers for the
Python that runs it, so a dependency of other Pythons alone is not seen. Needs Python 3.11 for tomllib.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomllib

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
PROCESSORS = ("x86_64", "aarch64")
GROUPS = ("base", "test", "all", "cuda12", "cuda13")
NEWEST_GLIBC = 28  # 2.28: RHEL 8, Debian 10, Ubuntu 18.10

Project = dict[str, Any]


def requirements(project: Project, group: str) -> list[str]:
    """A group's requirements, those of gpunet[a,b] in place of it."""
    listed = project["dependencies"] if group == "base" else project["optional-dependencies"][group]
    found = []
    for line in listed:
        inner = re.fullmatch(r"gpunet\[(.*)\]", line)
        found += [r for g in inner[1].split(",") for r in requirements(project, g.strip())] if inner else [line]
    return found


def resolve(wanted: list[str], python: str, processor: str) -> dict[str, str] | str:
    """Package -> version as pip would install them from wheels alone; else pip's own words."""
    platforms = [f"--platform=manylinux_2_{glibc}_{processor}" for glibc in range(5, NEWEST_GLIBC + 1)]
    platforms.append(f"--platform=manylinux2014_{processor}")
    with tempfile.TemporaryDirectory() as nowhere:
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--report=-"]
        how = ["--only-binary=:all:", f"--target={nowhere}", f"--python-version={python}", "--implementation=cp"]
        run = subprocess.run([*pip, *how, *platforms, *wanted], capture_output=True, text=True)
    if run.returncode:
        errors = [line for line in run.stderr.splitlines() if line.startswith("ERROR")]
        return errors[-1] if errors else run.stderr.strip()
    installed = [item["metadata"] for item in json.loads(run.stdout)["install"]]
    return {about["name"].lower(): about["version"] for about in installed}


def row(group: str, python: str, processor: str, wanted: list[str]) -> bool:
    """Print one line of the table; whether it is good."""
    found = resolve(wanted, python, processor)
    good = not isinstance(found, str)
    if isinstance(found, str):
        text = found
    else:
        direct = [re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in wanted]
        text = " ".join(f"{name}={found[name]}" for name in direct) + f" ({len(found)} packages)"
    print(f"{group:7} {python:6} {processor:8} {'ok  ' if good else 'FAIL'} {text}", flush=True)
    return good


def main(groups: list[str]) -> int:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    good = [
        row(group, python, processor, requirements(project, group))
        for group in groups or GROUPS
        for python in PYTHONS
        for processor in PROCESSORS
    ]
    print(f"{sum(good)} of {len(good)} resolve to binary wheels")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
