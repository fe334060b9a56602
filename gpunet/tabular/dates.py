"""Dates and times: how long ago, and where in the year, the week and the day, on a circle each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.table import Column
from .treatment import Matrix, Role, Treatment

_ISO = re.compile(
    r"(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))"
    r"(?:[T ]((?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?)\s*(?:(Z)|([+-])([01]\d):?([0-5]\d))?)?"
)
PERIODS = {"year": 365.2425, "week": 7.0, "day": 1.0}  # in days
_MONDAY = 3.0  # 1970-01-01 was a Thursday
_SECONDS = 86400.0


def days_of(text: str) -> float | None:
    """Days since 1970-01-01 of a date or time in ISO 8601; None for other text."""
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    date, clock, _, sign, hours, minutes = found.groups()
    try:
        since = np.datetime64(date if clock is None else f"{date}T{clock}") - np.datetime64("1970-01-01")
    except ValueError:  # the 30th of February
        return None
    days = float(since / np.timedelta64(1, "s")) / _SECONDS
    if sign is None:
        return days
    offset = (int(hours) * 60 + int(minutes)) / 1440
    return days - offset if sign == "+" else days + offset


def all_dates(texts: Iterable[str]) -> bool:
    """Whether every one of these is a date; most columns are told by their first cell."""
    return all(days_of(text) is not None for text in texts)


@dataclass(frozen=True)
class Dates(Treatment):
    """(days - center) / scale, and sine and cosine of each period in which training rows differ; 0 where blank."""

    kind = "dates"
    center: float
    scale: float
    periods: list[str]
    blanks: int

    @classmethod
    def fit(cls, column: Column) -> Dates:
        days, blank = _days(column)
        days = days[~blank]
        low, high = float(days.min()), float(days.max())
        differ = {
            "year": high - low > 31,
            "week": len(np.unique(np.floor(days) % 7)) > 1,
            "day": len(np.unique(np.round(days % 1, 6))) > 1,
        }
        return cls(
            column.name, float(days.mean()), float(days.std()), [p for p in PERIODS if differ[p]], int(blank.sum())
        )

    @property
    def output_names(self) -> list[str]:
        circles = [f"{self.name} ({what} of the {period})" for period in self.periods for what in ("sine", "cosine")]
        return [self.name, *circles, *([f"{self.name} (missing)"] if self.blanks else [])]

    @property
    def roles(self) -> list[Role]:
        numbers: list[Role] = ["number"] * (1 + 2 * len(self.periods))
        return [*numbers, "mark"] if self.blanks else numbers

    def describe(self) -> str:
        parts = f", and its place in the {', '.join(self.periods)}" if self.periods else ""
        return f"a date: days, standardised{parts}; blank is 0{', and a column marks it' if self.blanks else ''}"

    def transform(self, column: Column, notes: list[str]) -> Matrix:
        days, blank = _days(column)
        odd = int((blank & ~column.missing).sum())
        if odd:
            notes.append(f'column "{self.name}": taken for blank, no date: {odd:,} cells')
        days = np.where(blank, self.center, days)
        out = [np.clip((days - self.center) / (self.scale or 1.0), -1e6, 1e6)]
        for period in self.periods:
            angle = 2 * np.pi * ((days + (_MONDAY if period == "week" else 0.0)) / PERIODS[period])
            out += [np.where(blank, 0.0, np.sin(angle)), np.where(blank, 0.0, np.cos(angle))]
        if self.blanks:
            out.append(blank.astype(np.float64))
        return np.stack(out, axis=1).astype(np.float32)


def _days(column: Column) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Days of each cell, and where there are none."""
    if column.kind == "numeric":
        return np.zeros(len(column)), np.ones(len(column), np.bool_)
    days = column.cells.each(lambda text: math.nan if text is None or (d := days_of(text)) is None else d, np.float64)
    blank = np.isnan(days)
    return np.where(blank, 0.0, days), blank
