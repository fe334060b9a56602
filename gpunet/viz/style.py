"""Colours that everybody can tell apart (Okabe and Ito 2008), and matplotlib set up for them, with or without a screen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ConfigError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
VALUE, GRADIENT = COLOURS[0], COLOURS[1]  # what goes forward, what comes back
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def look_of(k: int) -> dict[str, str]:
    """Colour and shape of the class number k: no two of the first 64 are alike in both."""
    n = len(COLOURS)
    return {"color": COLOURS[k % n], "marker": _MARKERS[(k + 3 * (k // n)) % n]}


_RC = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "text.parse_math": False,  # a column may be called "$" something
    "svg.fonttype": "none",
    "svg.hashsalt": "gpunet",  # equal pictures are equal files
}


@contextmanager
def styled() -> Iterator[None]:
    """Our settings, for what is drawn inside; the user's stay as they are."""
    matplotlib = needed("matplotlib")
    with matplotlib.rc_context({**_RC, "axes.prop_cycle": matplotlib.cycler(color=COLOURS)}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # in an SVG the browser has other fonts
        yield


def needed(name: str) -> Any:
    """A package of the extra "plot"."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f'pictures need the package {name}, which is not installed: pip install "gpunet[plot]"'
        ) from None


def shortened(name: Any, most: int) -> str:
    """A name that leaves room for the picture."""
    text = str(name)
    return text if len(text) <= most else text[: most - 1] + "…"


def few_ticks(axis: Any) -> None:
    """At most six ticks, large numbers with k and M, so that labels do not run into each other."""
    ticker = needed("matplotlib.ticker")
    axis.set_major_locator(ticker.MaxNLocator(6))
    if max(map(abs, axis.get_view_interval())) >= 10_000:
        axis.set_major_formatter(ticker.EngFormatter(sep=""))


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **how: Any) -> tuple[Any, Any]:
    """A Figure that no window knows of (no pyplot, so that it works headless and leaks nothing), and its Axes."""
    figure = needed("matplotlib.figure").Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, **how)
