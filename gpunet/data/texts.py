"""The cells of a text column: each different text once, and a code for each row. Found when first asked for.

A reader need not make a Python string for each cell, for hardly anybody asks for them: what looks at a column's texts looks
at each different one once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.integer[Any]]
Coded = tuple[list[Any], Codes]  # cell i is distinct[codes[i]]


class Texts:
    """`rows` texts, None where missing; `code()` will tell (distinct, codes), whatever they are now.

    No two of the distinct texts are equal, and some of them need not occur.
    """

    def __init__(self, rows: int, code: Callable[[], Coded]) -> None:
        self._rows, self._code = rows, code
        self._coded: Coded | None = None
        self._cells: npt.NDArray[np.object_] | None = None

    @classmethod
    def of_cells(cls, cells: npt.NDArray[np.object_]) -> Texts:
        """Of an object array of str and None."""
        made = cls(len(cells), partial(_encoded, cells))
        made._cells = cells
        return made

    @classmethod
    def of_codes(cls, texts: Sequence[str | None], codes: Codes) -> Texts:
        """Cell i is texts[codes[i]]; several of the texts may be equal."""
        if len(set(texts)) == len(texts):
            return cls._of((list(texts), codes))
        distinct, places = encode(texts)
        return cls._of((distinct, places[codes]))

    @classmethod
    def _of(cls, coded: Coded) -> Texts:
        made = cls(len(coded[1]), _known)
        made._coded = coded
        return made

    def __len__(self) -> int:
        return self._rows

    @property
    def coded(self) -> Coded:
        code = self._code
        if self._coded is None:
            self._coded = code()
            self._code = _known  # what it was made of may go
        return self._coded

    @property
    def cells(self) -> npt.NDArray[np.object_]:
        """The texts as an object array."""
        if self._cells is None:
            distinct, codes = self.coded
            texts = np.empty(len(distinct), object)
            texts[:] = distinct
            self._cells = texts[codes]
        return self._cells

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        distinct, codes = self.coded
        return codes == distinct.index(None) if None in distinct else np.zeros(len(codes), np.bool_)

    def each(self, of: Callable[[Any], Any], dtype: Any) -> npt.NDArray[Any]:
        """of(cell) for each cell, called once for each different one."""
        distinct, codes = self.coded
        return np.fromiter(map(of, distinct), dtype, len(distinct))[codes]

    def counts(self) -> dict[str, int]:
        """How often each text occurs; without the missing."""
        distinct, codes = self.coded
        times = np.bincount(codes, minlength=len(distinct)).tolist()
        return {text: n for text, n in zip(distinct, times, strict=True) if n and text is not None}

    def take(self, rows: Any) -> Texts:
        """The cells at these indices (or a slice, or where a mask is true), in that order."""
        if self._coded is None and self._cells is not None:
            return Texts.of_cells(self._cells[rows])
        distinct, codes = self.coded
        return Texts._of((distinct, codes[rows]))

    @classmethod
    def joined(cls, parts: Iterable[Texts]) -> Texts:
        """The cells of all parts, one part after the other."""
        texts: list[Any] = []
        codes = []
        for distinct, places in (part.coded for part in parts):
            codes.append(places + len(texts))
            texts += distinct
        return cls.of_codes(texts, np.concatenate(codes))


def encode(cells: Sequence[Any]) -> Coded:
    """The distinct cells in order of appearance, and for each cell its place among them."""
    place = {cell: i for i, cell in enumerate(dict.fromkeys(cells))}
    return list(place), np.fromiter(map(place.__getitem__, cells), np.int64, len(cells))


def _encoded(cells: npt.NDArray[np.object_]) -> Coded:
    return encode(cells.tolist())


def _known() -> Coded:
    raise AssertionError("the codes are known")
