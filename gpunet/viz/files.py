"""Files that are whole or not there: written beside, then renamed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ..data.files import write_whole
from .style import styled


def write(path: Path, content: str | bytes) -> Path:
    """Write text (UTF-8) or bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, content.encode() if isinstance(content, str) else content, sync=False)


def save_figure(figure: Any, path: Path) -> Path:
    """A matplotlib Figure as .svg, .png or .pdf; equal figures are equal files."""
    kind, made = path.suffix[1:].lower(), io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with styled():
        figure.savefig(made, format=kind, dpi=150, metadata=undated)
    return write(path, made.getvalue())


def svg_of(figure: Any) -> str:
    """A matplotlib Figure as SVG, without the XML header, to stand in a page."""
    made = io.StringIO()
    with styled():
        figure.savefig(made, format="svg", metadata={"Date": None})
    text = made.getvalue()
    return text[text.index("<svg") :]
