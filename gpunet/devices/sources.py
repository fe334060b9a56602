"""Where the C++ and CUDA sources are: beside the package in a wheel, one folder up in the source tree."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ..errors import DeviceError

PACKAGE = Path(__file__).resolve().parent.parent
_FOLDERS = (PACKAGE / "csrc", PACKAGE.parent / "csrc")


def find(name: str) -> Path:
    """The file csrc/NAME, such as "activations.cu". Its folder holds the headers it includes."""
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    places = " and ".join(str(folder) for folder in _FOLDERS)
    raise DeviceError(f'no csrc file "{name}"; looked in {places}. Reinstall gpunet, or run it from its source tree.')


def inlined(name: str) -> str:
    """The text of csrc/NAME with its headers in it."""
    return with_headers(find(name).read_text())


@functools.cache
def with_headers(text: str) -> str:
    """A source with its headers in it: whoever caches what is compiled by its text, as CuPy does, sees them too."""
    seen: set[str] = set()

    def include(line: re.Match[str]) -> str:
        if line[1] in seen or line[1] == "fibers.h":  # which is the tests', for a host's compiler
            return ""
        seen.add(line[1])
        return expanded(find(line[1]).read_text().replace("#pragma once\n", ""))

    def expanded(text: str) -> str:
        return re.sub(r'^#include "([^"]+)"$', include, text, flags=re.MULTILINE)

    return expanded(text)
