"""From a file to arrays or a typed table."""

from .arrays import read_npy, read_npz
from .arrow import read_arrow, read_parquet
from .cifar import read_cifar
from .csv import read_csv, write_csv
from .dataset import Dataset, read
from .digits import digits
from .idx import read_idx, read_mnist
from .jsonl import read_jsonl
from .libsvm import read_libsvm
from .sparse import Csr
from .splits import fingerprint, split
from .table import Column, Table
from .toys import circles, moons, spirals, xor

__all__ = [
    "Column",
    "Dataset",
    "Csr",
    "Table",
    "circles",
    "digits",
    "fingerprint",
    "moons",
    "read",
    "read_arrow",
    "read_cifar",
    "read_csv",
    "read_idx",
    "read_jsonl",
    "read_libsvm",
    "read_mnist",
    "read_npy",
    "read_npz",
    "read_parquet",
    "spirals",
    "split",
    "write_csv",
    "xor",
]
