"""Columns read as the user says, where they are not what they look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..data.table import Column, Table
from ..errors import ConfigError, did_you_mean
from .columns import as_numbers, as_texts


def retyped(table: Table, wanted: Mapping[str, str]) -> Table:
    """The table with columns read as the user says: "numeric", "categorical" or "drop"."""
    for name, kind in wanted.items():
        if name not in table.names:
            raise ConfigError(f'columns: no column "{name}".{did_you_mean(name, table.names)}')
        if kind not in KINDS:
            raise ConfigError(f'columns: "{name}" can be read as {", ".join(KINDS)}, not as {kind!r}')
    kept = [c for c in table.columns if wanted.get(c.name) != "drop"]
    read = (replace(_READ[wanted[c.name]](c), asked=True) if c.name in wanted else c for c in kept)
    return replace(table, columns=tuple(read))


def parsed(text: str) -> dict[str, str]:
    """What "id=drop, zip=categorical" says.

    Raises:
        ValueError: it says something else.
    """
    found = {}
    for part in text.split(","):
        name, equals, kind = (piece.strip() for piece in part.rpartition("="))
        if not equals or not name or kind not in KINDS:
            raise ValueError(f"NAME=KIND wanted, where KIND is {', '.join(KINDS)}")
        found[name] = kind
    return found


def _as_categories(column: Column) -> Column:
    return Column(column.name, "text", as_texts(column, ()))


_READ: dict[str, Any] = {"numeric": lambda c: Column(c.name, "numeric", as_numbers(c)), "categorical": _as_categories}
KINDS = (*_READ, "drop")
