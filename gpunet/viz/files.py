"""Files that are whole or not there: written beside, then renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def write(path: Path, content: str | bytes) -> Path:
    """Write text (UTF-8) or bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def save_figure(figure: Any, path: Path) -> Path:
    """A matplotlib Figure as .svg, .png or .pdf."""
    import io

    made = io.BytesIO()
    figure.savefig(made, format=path.suffix[1:].lower(), dpi=150)
    return write(path, made.getvalue())
