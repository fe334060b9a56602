"""Batches of an epoch: every row once, in an order that the seed and the epoch fix, gathered on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet import tensor
from gpunet.data.batches import Batches
from gpunet.devices import Device
from gpunet.devices.cpu import CPU
from gpunet.errors import DataError, ShapeError
from gpunet.graph.compile import Compiled

X = np.arange(30, dtype=np.float32).reshape(10, 3)
Y = np.arange(10) * 7


def epoch(data: Batches, sizes: list[int]) -> list[Any]:
    return [data.next(size) for size in sizes]


def test_an_epoch_gives_every_row_once_with_its_target_and_weight(device: Device) -> None:
    data = Batches(X, Y, Y / 2, device=device, seed=3)
    data.shuffle(1)
    found = epoch(data, data.sizes(4))
    x, y, weight = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*found, strict=True))
    assert [len(b[0]) for b in found] == [4, 4, 2] and sorted(y) == sorted(Y) and list(y) != list(Y)
    assert np.array_equal(x, X[y // 7]) and np.array_equal(weight, (y / 2).astype(np.float32))
    assert all(t.device is device for t in found[0])


def test_the_order_is_of_the_seed_and_the_epoch_alone(device: Device) -> None:
    def order(seed: int, number: int, device: Device = device) -> list[int]:
        data = Batches(X, Y, device=device, seed=seed)
        data.shuffle(number)
        return data.next(10)[1].numpy().tolist()

    assert order(1, 1) == order(1, 1) == order(1, 1, CPU(native=False))
    assert len({tuple(order(seed, number)) for seed in (1, 2) for number in (1, 2, 3)}) == 6


def test_unshuffled_rows_come_as_they_lie_after_a_rewind() -> None:
    data = Batches(X, Y, device=CPU())
    for _ in range(2):
        data.rewind()
        assert np.array_equal(np.concatenate([x.numpy() for x, _, _ in epoch(data, [3, 7])]), X)
    data.shuffle(4)
    assert [x.numpy().tolist() for x, _ in data.chunks(4)] == [X[:4].tolist(), X[4:8].tolist(), X[8:].tolist()]


def test_a_traced_step_walks_the_epoch_too() -> None:
    device = CPU()
    data, seen = Batches(X, Y, device=device), tensor(np.zeros((), np.int64), device=device)

    def step() -> None:
        seen.assign(seen * 100 + data.next(2)[1].sum())

    program = Compiled(step)
    assert program.run(2) == 2 and seen.item() == 7 * 100 + 14 + 21 and data.cursor.item() == 4
    data.rewind()
    assert program.run(1) == 1 and data.cursor.item() == 2, "the program reads the cursor that was set meanwhile"


@pytest.mark.parametrize(
    ("rows", "settings", "sizes"),
    [
        (10, {"batch_size": 4}, [4, 4, 2]),
        (10, {"batch_size": 5}, [5, 5]),
        (10, {"batch_size": 99}, [10]),
        (10, {"batch_size": 4, "drop_last": True}, [4, 4]),
        (3, {"batch_size": 4, "drop_last": True}, [3]),
        (9, {"batch_size": 4, "smallest": 2}, [4, 5]),
        (10, {"batch_size": 4, "smallest": 2}, [4, 4, 2]),
        (1, {"batch_size": 4, "smallest": 2}, [1]),
        (3, {"batch_size": 1, "smallest": 2}, [1, 2]),
    ],
)
def test_sizes(rows: int, settings: dict[str, Any], sizes: list[int]) -> None:
    assert Batches(np.zeros((rows, 1)), device=CPU()).sizes(**settings) == sizes


@pytest.mark.parametrize(
    ("given", "kept"),
    [("float64", "float32"), ("float16", "float32"), ("int64", "int64"), ("uint8", "uint8"), ("bool", "float32")],
)
def test_floats_take_the_models_type_and_integers_stay(given: str, kept: str) -> None:
    assert Batches(X.astype(given), device=CPU()).x.dtype == kept


def test_tensors_lists_and_other_layouts_are_taken() -> None:
    for x in (X.tolist(), tensor(X), np.asfortranarray(X), X[:, ::1][::1], np.repeat(X, 2, axis=1)[:, ::2]):
        assert np.array_equal(Batches(x, device=CPU()).next(10)[0].numpy(), X)


def test_what_cannot_be_batches() -> None:
    with pytest.raises(ShapeError, match=r"number of rows: \{'x': 10, 'y': 9\}"):
        Batches(X, Y[:9], device=CPU())
    with pytest.raises(ShapeError, match="'weight': 3"):
        Batches(X, Y, np.ones(3), device=CPU())
    with pytest.raises(DataError, match="no rows"):
        Batches(X[:0], Y[:0], device=CPU())
    with pytest.raises(DataError, match=r"numbers wanted, got an array of <U1.*gpunet.tabular"):
        Batches(np.array([["a"], ["b"]]), device=CPU())
    with pytest.raises(DataError, match="object"):
        Batches(np.array([[1], [None]], object), device=CPU())
