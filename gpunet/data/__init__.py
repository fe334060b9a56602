"""From a file to arrays or a typed table."""

from .arrays import read_npy, read_npz
from .cifar import read_cifar
from .csv import read_csv, write_csv
from .dataset import Dataset, read
from .digits import digits
from .idx import read_idx, read_mnist
from .splits import fingerprint, split
from .table import Column, Table
from .toys import circles, moons, spirals, xor

__all__ = [
    "Column",
    "Dataset",
    "Table",
    "circles",
    "digits",
    "fingerprint",
    "moons",
    "read",
    "read_cifar",
    "read_csv",
    "read_idx",
    "read_mnist",
    "read_npy",
    "read_npz",
    "spirals",
    "split",
    "write_csv",
    "xor",
]
