"""Batches of an epoch: every row once, in an order that the seed and the epoch fix, gathered on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import StandInCupy

from gpunet import tensor
from gpunet.data import batches as module
from gpunet.data.batches import Batches, Streamed, batches
from gpunet.devices import Device
from gpunet.devices.cpu import CPU
from gpunet.devices.cuda import CUDA
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
    assert [x.numpy().tolist() for x in data.pieces(4)] == [X[:4].tolist(), X[4:8].tolist(), X[8:].tolist()]


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


# ---------------------------------------------------------------- data that do not fit

PIXELS = np.random.default_rng(0).integers(0, 256, (103, 5)).astype(np.uint8)
LABELS, WEIGHTS = np.arange(103), np.linspace(0, 1, 103, dtype=np.float32)


def walked(data: Batches, sizes: list[int], epochs: int = 3) -> list[Any]:
    """The rows of all batches, asked for as the trainer does; the first epoch as they lie."""
    found, at = [], 0
    for number in range(epochs):
        data.shuffle(number) if number else data.rewind()
        data.begin(sizes)
        at = 0
        while at < len(sizes):
            steps = data.ready(at)
            for size in sizes[at : None if steps is None else at + steps]:
                found.append([None if t is None else t.numpy() for t in data.next(size)])
                at += 1
    return found


@pytest.mark.parametrize("stage", [1, 200, 1 << 20])
def test_streamed_rows_are_those_of_data_on_the_device(device: Device, stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAGE_BYTES", stage)
    for weight in (None, WEIGHTS):
        there, streamed = (kind(PIXELS, LABELS, weight, device=device, seed=7) for kind in (Batches, Streamed))
        sizes = there.sizes(20, smallest=5)
        assert sizes == [20] * 4 + [23]
        for a, b in zip(walked(there, sizes), walked(streamed, sizes), strict=True):
            for one, other in zip(a, b, strict=True):
                np.testing.assert_array_equal(one, other)
        assert streamed.x is not None and streamed.x.dtype == np.uint8
        np.testing.assert_array_equal(np.concatenate([x.numpy() for x in streamed.pieces(40)]), PIXELS)
        np.testing.assert_array_equal(streamed.answers()[0].numpy(), LABELS)
        assert streamed.first(9).rows == 9 and np.array_equal(streamed.first(9).x.numpy(), PIXELS[:9])


@pytest.mark.parametrize("kind", [Batches, Streamed])
@pytest.mark.parametrize("stage", [1, 200, 1 << 20])
def test_an_epoch_goes_on_at_any_of_its_steps(kind: Any, stage: int, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAGE_BYTES", stage)
    data, sizes = kind(PIXELS, LABELS, device=device, seed=7), [20] * 4 + [23]
    order = Batches(PIXELS, LABELS, device=device, seed=7)
    order.shuffle(3)
    whole = order.order.numpy()
    for at in (4, 1, 5, 0, 3, 2):
        data.shuffle(3)
        data.begin(sizes, at)
        found, step = [], at
        while step < len(sizes):
            steps = data.ready(step)
            for size in sizes[step : None if steps is None else step + steps]:
                found.append(data.next(size)[1].numpy())
                step += 1
        assert np.concatenate([[], *found]).tolist() == whole[sum(sizes[:at]) :].tolist(), at


def test_what_is_streamed_has_the_content_of_what_is_on_the_device() -> None:
    for weight in (None, WEIGHTS):
        there, streamed = (kind(PIXELS, LABELS, weight, device=CPU(native=False)) for kind in (Batches, Streamed))
        for a, b in zip(there.content(), streamed.content(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_epoch_that_was_broken_off_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAGE_BYTES", 1)
    there, streamed = (kind(PIXELS, LABELS, device=CPU(native=False), seed=7) for kind in (Batches, Streamed))
    streamed.begin([20] * 5)
    streamed.ready(0)
    assert [y.tolist() for _, y, _ in walked(streamed, [20] * 5)] == [y.tolist() for _, y, _ in walked(there, [20] * 5)]


def test_what_fits_is_on_the_device_and_what_does_not_is_streamed() -> None:
    def kind(free: int, device: Any) -> type[Batches]:
        device._device.mem_info = free, 1 << 30
        return type(batches(PIXELS, LABELS, device=device, dtype=np.float32))

    needed = PIXELS.nbytes + LABELS.nbytes + 8 * len(LABELS)
    gpu = CUDA(0, StandInCupy(), kernels=False)
    assert kind(2 * needed, gpu) is Batches and kind(2 * needed - 2, gpu) is Streamed
    assert type(batches(PIXELS, LABELS, device=CPU(), dtype=np.float32)) is Batches, "host memory holds them already"
