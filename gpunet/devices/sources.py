"""Where the C++ and CUDA sources are: beside the package in a wheel, one folder up in the source tree."""

from __future__ import annotations

from pathlib import Path

from ..errors import DeviceError

_PACKAGE = Path(__file__).resolve().parent.parent
_FOLDERS = (_PACKAGE / "csrc", _PACKAGE.parent / "csrc")


def find(name: str) -> Path:
    """The file csrc/NAME, such as "activations.cu". Its folder holds the headers it includes."""
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    places = " and ".join(str(folder) for folder in _FOLDERS)
    raise DeviceError(f'no csrc file "{name}"; looked in {places}. Reinstall gpunet, or run it from its source tree.')
