"""Makes gpunet/data/digits.npz from the UCI optical digits as a CSV file: 64 pixel columns, then `target`.

    python scripts/make_digits.py optdigits.csv.gz

Rows 0-3822 of that file are the official training set, the others the official test set, which is what scikit-learn
has as load_digits: that part is compared with it, so scikit-learn is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from gpunet.data import read_csv
from gpunet.data.digits import OFFICIAL_TRAIN_ROWS

TARGET = Path(__file__).parents[1] / "gpunet" / "data" / "digits.npz"


def main(source: str) -> None:
    table = read_csv(source, header=True)
    x = np.stack([column.values for column in table.drop("target").columns], axis=1).astype(np.uint8)
    y = table["target"].values.astype(np.uint8)
    assert (x.shape, x.max(), y.max()) == ((5620, 64), 16, 9)
    test = load_digits()
    assert np.array_equal(x[OFFICIAL_TRAIN_ROWS:], test.data)
    assert np.array_equal(y[OFFICIAL_TRAIN_ROWS:], test.target)
    np.savez_compressed(TARGET, x=x, y=y)
    print(f"{TARGET}: {len(x):,} digits, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
