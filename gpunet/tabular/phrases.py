"""Lists of names, values and rows as messages say them: the first few, and how many in all."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

MOST = 5


def listed(things: Collection[Any]) -> str:
    """The first few, text in quotes: "a", "b", "c", "d", "e", ... (9 in all)."""
    first = [f'"{thing}"' if isinstance(thing, str) else str(thing) for thing in list(things)[:MOST]]
    return ", ".join(first) + (f", ... ({len(things):,} in all)" if len(things) > MOST else "")


def rows_where(mask: npt.NDArray[np.bool_]) -> str:
    """row 3 (the first is 1); of a matrix, the rows in which any cell is marked."""
    rows = np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1)) + 1
    return f"row{'s' * (len(rows) > 1)} {listed(rows.tolist())} (the first is 1)"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' * (count != 1)}"
