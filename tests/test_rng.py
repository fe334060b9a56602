"""The counter-based generator: Random123's known answers, and what a user of random numbers relies on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpunet import rng
from gpunet.devices import Device


def block(counter: list[int], key: list[int]) -> list[int]:
    """The four words of one block: an arange that starts elsewhere reaches every counter."""
    at = SimpleNamespace(
        arange=lambda n, dtype: np.array([counter[0] | counter[1] << 32], dtype), full_like=np.full_like, stack=np.stack
    )
    words = rng.words(4, seed=key[0] | key[1] << 32, step=counter[2], stream=counter[3], xp=at)
    return [int(w) for w in words]


@pytest.mark.parametrize(("counter", "key", "want"), [  # kat_vectors of Random123, "philox4x32 10"
    ([0x00000000] * 4, [0x00000000] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
     [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
])  # fmt: skip
def test_known_answers(counter: list[int], key: list[int], want: list[int]) -> None:
    assert block(counter, key) == want


def test_a_draw_is_the_prefix_of_a_longer_one() -> None:
    long = rng.words(1030, seed=1, stream=2)
    for n in (0, 1, 3, 4, 5, 1023):
        assert rng.words(n, seed=1, stream=2).tolist() == long[:n].tolist()
    assert rng.normal((5,), seed=1, stream=2).tolist() == rng.normal((9,), seed=1, stream=2)[:5].tolist()


def test_seed_stream_and_step_each_give_another_draw() -> None:
    changes = ({}, {"seed": 9}, {"seed": 1 + 2**32}, {"stream": 9}, {"step": 9})
    draws = [rng.words(8, **{"seed": 1, "stream": 2, "step": 3, **change}).tolist() for change in changes]
    assert all(a != b for i, a in enumerate(draws) for b in draws[:i])
    assert rng.words(8, seed=1, stream=2, step=3).tolist() == draws[0]


def test_streams_are_uncorrelated() -> None:
    a, b = (rng.uniform(100_000, seed=1, stream=rng.stream(name)) for name in ("layers.0.weight", "layers.1.weight"))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.013  # four standard deviations


def test_a_stream_is_the_same_in_every_process() -> None:
    assert rng.stream("123456789") == 0xCBF43926  # CRC-32's published check value


def test_uniform_range_and_moments() -> None:
    u = rng.uniform(1 << 20, seed=3, stream=4).astype(np.float64)
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 1 / 2) < 4 / np.sqrt(12 * u.size)
    assert abs(u.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / u.size)
    counts = np.bincount((u * 64).astype(int), minlength=64)
    assert ((counts - u.size / 64) ** 2 / (u.size / 64)).sum() < 63 + 4 * np.sqrt(2 * 63)  # chi squared
    assert (u * 2**24 == np.floor(u * 2**24)).all()  # 24 bits, exact in float32


def test_what_is_kept_is_the_same_on_every_device(device: Device) -> None:
    for n in (0, 1, 7, 1023):
        got = device.download(device.kept(n, 0.3, seed=2**40 + 1, stream=2**31, step=7))
        want = rng.kept(n, 0.3, seed=2**40 + 1, stream=2**31, step=7)
        assert got.dtype == bool and got.tobytes() == want.tobytes()


def test_what_is_kept_follows_from_the_halves_of_the_words() -> None:
    words = [int(w) for w in rng.words(8, seed=1, stream=2, step=3)]
    for rate in (0.0, 0.15, 0.5, 0.9):
        want = [
            (words[4 * block + word] >> 16 * half & 0xFFFF) / 65536 >= round(rate * 65536) / 65536
            for block in (0, 1) for first in (0, 1) for half in (0, 1) for word in (first, first + 2)
        ]  # fmt: skip
        assert rng.kept(16, rate, seed=1, stream=2, step=3).tolist() == want


@pytest.mark.parametrize("rate", [0.0, 1e-6, 1e-3, 0.15, 0.5, 0.999])
def test_a_share_is_dropped_and_each_element_by_itself(rate: float) -> None:
    n = 1 << 20
    kept = rng.kept(n, rate, seed=3, stream=4).astype(np.float64)
    share = round(rate * 65536) / 65536
    assert abs((1 - kept).mean() - share) <= 4 * np.sqrt(share * (1 - share) / n)
    if share > 0:
        for apart in (1, 2, 3, 4, 8):  # within a block and from one to the next: four standard deviations
            assert abs(np.corrcoef(kept[:-apart], kept[apart:])[0, 1]) < 4 / np.sqrt(n)
        assert abs(np.corrcoef(kept, rng.kept(n, rate, seed=3, stream=4, step=1))[0, 1]) < 4 / np.sqrt(n)


def test_nothing_is_dropped_at_rate_0_and_not_all_just_below_1() -> None:
    assert rng.kept(1 << 16, 0.0, seed=1, stream=2).all()
    assert 0 < rng.kept(1 << 20, 1 - 1e-9, seed=1, stream=2).sum() < 64


def test_normal_moments() -> None:
    x = rng.normal((500, 400), seed=5, stream=6)
    assert x.shape == (500, 400) and x.dtype == np.float64
    n = x.size
    assert abs(x.mean()) < 4 / np.sqrt(n)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs((x**3).mean()) < 4 * np.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 4 * np.sqrt(96 / n)
    assert abs((abs(x) < 1.959964).mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / n)
    assert rng.normal((), seed=5, stream=6).shape == () and rng.normal((0, 3), seed=5, stream=6).shape == (0, 3)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1023])
def test_a_permutation_is_one(n: int) -> None:
    order = rng.permutation(n, seed=1, stream=2)
    assert order.dtype == np.int64 and sorted(order.tolist()) == list(range(n))


def test_equal_keys_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.tile(np.array([7, 3, 9, 3], np.uint64), 40)
    monkeypatch.setattr(rng, "words", lambda n, **_: keys.view(np.uint32))
    assert rng.permutation(len(keys), seed=1, stream=2).tolist() == np.argsort(keys, kind="stable").tolist()


def test_permutations_are_fair_and_differ() -> None:
    """Each of 3! orders comes up a sixth of the time."""
    seen: dict[Any, int] = {}
    for step in range(3000):
        order = tuple(rng.permutation(3, seed=1, stream=2, step=step).tolist())
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 6
    assert all(abs(count - 500) < 4 * np.sqrt(3000 * 5 / 36) for count in seen.values())
