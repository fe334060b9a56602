"""5,620 handwritten digits of 8x8 pixels that come with the package (E. Alpaydin, C. Kaynak; UCI 1998; CC BY 4.0)."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import numpy as np

from ..errors import ConfigError, did_you_mean
from .record import Dataset

OFFICIAL_TRAIN_ROWS = 3823  # by 30 writers; the other 1,797 rows are by 13 writers of whom none is among the 30


def digits(*, split: Literal["random", "official"] = "random") -> Dataset:
    """x uint8 [N, 64] from 0 to 16, y int64 [N] from 0 to 9.

    "random" leaves all rows in x and y, to be split at random; "official" has the test set by other writers apart.
    """
    if split not in ("random", "official"):
        raise ConfigError(f'no split "{split}" of the digits.{did_you_mean(split, ("random", "official"))}')
    with (files("gpunet.data") / "digits.npz").open("rb") as file, np.load(file) as arrays:
        x, y = arrays["x"], arrays["y"].astype(np.int64)
    data = Dataset("digits", x, y, classes=[str(i) for i in range(10)], image_shape=(8, 8))
    if split == "official":
        data.x, data.test_x = x[:OFFICIAL_TRAIN_ROWS], x[OFFICIAL_TRAIN_ROWS:]
        data.y, data.test_y = y[:OFFICIAL_TRAIN_ROWS], y[OFFICIAL_TRAIN_ROWS:]
    return data
