"""What may be done to a column: the base of all treatments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..data.table import Column

Matrix = npt.NDArray[np.float32]
Role = Literal["number", "mark", "code"]


@dataclass(frozen=True)
class Treatment(ABC):
    """Turns the cells of the column `name` into float32 [rows, len(output_names)]. Its fields are all it knows."""

    kind: ClassVar[str]
    name: str

    @property
    def remark(self) -> str:
        """What a person should know of every column that is treated so; nothing if it is as expected."""
        return ""

    @property
    @abstractmethod
    def output_names(self) -> list[str]: ...

    @property
    def roles(self) -> list[Role]:
        """What each output is: a number, a mark (0 or 1, say), or the code of a category."""
        return ["mark"] * len(self.output_names)

    @abstractmethod
    def describe(self) -> str: ...

    @abstractmethod
    def transform(self, column: Column, notes: list[str]) -> Matrix:
        """The column's numbers; what is odd about its cells is appended to `notes`."""

    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}
