"""What DATA may be: a file, a folder, or the word "digits"."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..data.record import Dataset


def read(data: str, *, digits_split: Literal["random", "official"] = "random", **how: Any) -> Dataset:
    """The data set; `how` is header, delimiter and on_bad_row of a CSV."""
    if data == "digits" and not Path(data).exists():
        from ..data.digits import digits

        return digits(split=digits_split)
    from ..data import dataset

    found = dataset.read(data, **how)
    if Path(data).is_file():
        found.name = Path(data).name  # messages name the file as the user did
    return found
