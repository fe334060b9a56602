"""Every reader gets files with bytes cut, flipped, doubled and made up: a sound result or a DataError, nothing else."""

from __future__ import annotations

import bz2
import gzip
import io
import pickle
import struct
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunet.data import Dataset, Table, read, read_csv
from gpunet.errors import DataError

ROUNDS = 150  # damaged versions of each file
MOST_SECONDS, MOST_BYTES = 5.0, 64 << 20  # for one of these small files; the base is far below both

CSV = b'id,price,kind\n1,2.5,"a, b"\n2,?,"say ""no"""\n3,1e-3,x\n4,NA,"two\nlines"\n' * 3


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def saved(save: Callable[..., None], *args: object, **arrays: object) -> bytes:
    stream = io.BytesIO()
    save(stream, *args, **arrays)
    return stream.getvalue()


IMAGES = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
LABELS = np.arange(5, dtype=np.uint8)
CIFAR = np.arange(2 * 3073, dtype=np.uint8).reshape(2, 3073) % 10
BATCH = {b"data": CIFAR[:, 1:], b"labels": [1, 2], b"filenames": [b"a", b"b"], b"batch_label": b"one"}

TRAIN = {"train-images-idx3-ubyte": idx(IMAGES), "train-labels-idx1-ubyte": idx(LABELS)}

# fmt: off
FILES = {  # name of the file -> (content, what else lies in its folder; then the folder is read)
    "t.csv":           (CSV, {}),
    "latin.csv":       ("naïve;Größe\né;1\nü;2\n".encode("latin-1"), {}),
    "t.csv.gz":        (gzip.compress(CSV), {}),
    "t.tsv.bz2":       (bz2.compress(CSV.replace(b",", b"\t")), {}),
    "x.npy":           (saved(np.save, np.arange(12.0).reshape(4, 3)), {}),
    "stored.npz":      (saved(np.savez, x=IMAGES, y=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2]), {}),
    "packed.npz":      (saved(np.savez_compressed, x=IMAGES, y=np.array(["a", "b", "a", "b", "c"])), {}),
    "images-idx3":     (idx(IMAGES), {}),
    "images-idx3.gz":  (gzip.compress(idx(IMAGES)), {}),
    "data_batch_1.bin": (CIFAR.tobytes(), {}),
    "data_batch_1":    (pickle.dumps(BATCH, 2), {}),
    "data_batch_2":    (pickle.dumps(BATCH, 4), {"test_batch": pickle.dumps(BATCH, 3)}),
    "data_batch_3":    (pickle.dumps(BATCH, 5), {"data_batch_1": pickle.dumps(BATCH, 2)}),
    "train-labels-idx1-ubyte": (idx(LABELS), {"train-images-idx3-ubyte": idx(IMAGES)}),
    "t10k-images-idx3-ubyte":  (idx(IMAGES), {"t10k-labels-idx1-ubyte": idx(LABELS), **TRAIN}),
}
# fmt: on


def damaged(content: bytes, seed: int) -> Iterator[bytes]:
    """Cut short, bits flipped, bytes replaced, a piece doubled or taken out, zeros put in; headers more often."""
    random = np.random.default_rng(seed)
    for round_ in range(ROUNDS):
        data = bytearray(content)
        place = int(random.integers(len(data)) if round_ % 2 else random.integers(min(64, len(data))))
        kind = round_ % 6
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data[place] ^= 1 << int(random.integers(8))
        elif kind == 2:
            for at in random.integers(len(data), size=4):
                data[at] = int(random.integers(256))
        elif kind == 3:
            data[place:place] = data[place : place + int(random.integers(1, 40))]
        elif kind == 4:
            del data[place : place + int(random.integers(1, 40))]
        else:
            data[place : place + 4] = bytes([[0, 0xFF, 0x7F][round_ % 3]]) * 4
        yield bytes(data)


def check_sound(data: Dataset) -> None:
    """Whatever is read must fit together, as a trainer relies on it."""
    for x, y in ((data.x, data.y), (data.test_x, data.test_y)):
        if isinstance(x, Table):
            assert x.rows > 0
            assert len(set(x.names)) == len(x.names)
            assert {len(column.values) for column in x.columns} == {x.rows}
            for column in x.columns:
                assert column.kind == "numeric" or all(c is None or isinstance(c, str) for c in column.values)
        elif x is not None:
            assert x.ndim == 2
            assert x.size
            assert x.dtype.kind in "biuf"
            assert y is None or len(y) == len(x)
    if data.classes is not None and data.y is not None:
        assert data.y.min() >= 0
        assert data.y.max() < len(data.classes)
    if data.image_shape is not None:
        assert np.prod(data.image_shape) == data.x.shape[1]


def check_read(path: Path, **settings: object) -> bool:
    """Reads it: True for a sound result, False for a DataError; anything else is raised."""
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy warns of headers that Python 2 wrote
            check_sound(read(path, **settings))
        return True
    except DataError:
        return False
    finally:
        assert time.perf_counter() - begin < MOST_SECONDS


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_read_soundly_or_refused(tmp_path: Path, name: str) -> None:
    content, others = FILES[name]
    for other, its_content in others.items():
        (tmp_path / other).write_bytes(its_content)
    path = tmp_path / name
    path.write_bytes(content)
    assert check_read(tmp_path if others else path) or name == "latin.csv"
    outcomes = set()
    tracemalloc.start()
    try:
        for data in damaged(content, seed=len(content)):
            path.write_bytes(data)
            outcomes.add(check_read(tmp_path if others else path))
            outcomes.add(check_read(path))
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    assert False in outcomes, "no damage was ever noticed"


@pytest.mark.parametrize(
    "name", ["t.csv", "x.npy", "x.npz", "x-idx3", "data_batch_1", "data_batch_1.bin", "t.csv.gz", "x"]
)
@given(content=st.binary(max_size=200))
def test_made_up_files(tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / name
    magic = {"x.npy": b"\x93NUMPY\1\0", "x.npz": b"PK\3\4", "x-idx3": b"\0\0\x08\2", "t.csv.gz": b"\x1f\x8b\x08"}
    for begin in {b"", magic.get(name, b""), b"\x80\2}(" if name == "data_batch_1" else b""}:
        path.write_bytes(begin + content)
        check_read(path)


@given(st.binary(max_size=80), st.sampled_from([None, True, False]), st.sampled_from([None, ",", "\t"]))
def test_made_up_texts(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, header: bool | None, mark: str | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "made_up.csv"
    path.write_bytes(content.translate(bytes(b'ab1,;"\n\r \t.?|-e\xc3'[i % 16] for i in range(256))))
    for on_bad_row in ("error", "skip"):
        check_read(path, header=header, delimiter=mark, on_bad_row=on_bad_row)


PUSHES = [
    b"]",
    b"}",
    b")",
    b"K\1",
    b"U\1a",
    b"N",
    b"(",
    b"cnumpy\ndtype\n",
    b"cnumpy\nndarray\n",
    b"U\2u1",
    b"J\xff\xff\xff\xff",
]
ACTS = [
    b"R",
    b"b",
    b"a",
    b"s",
    b"u",
    b"e",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"q\0",
    b"h\0",
    b"\x94",
    b"r\xff\xff\xff\x7f",
]
MAKES = [b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n", b"\x93", b"T\xff\xff\xff\x7f", b"U\4data"]


@given(st.lists(st.sampled_from(PUSHES + ACTS + MAKES), max_size=40))
def test_made_up_pickles(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "data_batch_1"
    path.write_bytes(b"\x80\2" + b"".join(parts) + b".")
    check_read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"," * 20_000 + b"\n" + b"1," * 20_000 + b"1\n",
        b"a,b\n" + b'1,"' * 20_000,
        b'"' * 99_999,
        b"\n" * 500_000 + b"a\n1\n",
        b"a;b|c,d\te\n" * 5_000,
        b"1e" + b"9" * 100_000 + b"\n",
        b"-" * 100_000 + b",1\n2,3\n",
    ],
    ids=["wide", "quotes", "only quotes", "blank lines", "all delimiters", "a long number", "a long word"],
)
def test_texts_made_to_be_slow(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "slow.csv"
    path.write_bytes(content)
    check_read(path)
    check_read(path, header=False, on_bad_row="skip")


def test_a_reader_that_crashes_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tester tested: an error of another family does not pass for a refusal."""
    from gpunet.data import dataset

    path = tmp_path / "t.csv"
    path.write_bytes(CSV)
    monkeypatch.setattr(dataset, "read_csv", lambda *_, **__: read_csv(path).columns[99])
    with pytest.raises(IndexError):
        check_read(path)
