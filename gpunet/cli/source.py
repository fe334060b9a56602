"""What DATA may be: a file, a folder, the word "digits", or "-" for stdin."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..data.record import Dataset


def read(data: str, *, digits_split: Literal["random", "official"] = "random", **how: Any) -> Dataset:
    """The data set; `how` is header, delimiter and on_bad_row of a text."""
    if data == "-":
        return _of_stdin(how)
    if data == "digits" and not Path(data).exists():
        from ..data.digits import digits

        return digits(split=digits_split)
    from ..data import dataset

    found = dataset.read(data, **how)
    if Path(data).is_file():
        found.name = Path(data).name  # messages name the file as the user did
    return found


def _of_stdin(how: dict[str, Any]) -> Dataset:
    """A table of text, or whatever its first bytes tell of. Readers want a file: they look at its beginning first."""
    from ..data import dataset
    from ..errors import DataError

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "stdin"
        with open(place, "wb") as file:
            while chunk := sys.stdin.buffer.read(1 << 20):
                file.write(chunk)
        try:
            found = dataset.read(place, **how)
        except DataError as error:
            raise type(error)(str(error).replace(str(place), "stdin")) from None
    found.name = "stdin"
    return found
