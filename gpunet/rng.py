"""Random numbers that depend on what is asked for and never on who asks: the same on every device, in any order.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Element i of a draw is word
i % 4 of block i // 4; the counter of a block is (block low, block high, step, stream) and the key is the 64-bit seed.
Devices run only `kept`; weights and permutations are made here and uploaded.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def stream(path: str) -> int:
    """The 32-bit stream of a name such as a layer's dotted path."""
    return zlib.crc32(path.encode())


def words(n: int, *, seed: int, stream: int, step: int = 0, xp: Any = np) -> npt.NDArray[np.uint32]:
    """The first n 32-bit words of the draw (seed, stream, step), as an array of the module `xp`."""
    blocks = xp.arange((n + 3) // 4, dtype=np.uint64)
    c0, c1 = blocks & _LOW, blocks >> _32
    c2, c3 = xp.full_like(blocks, step & 0xFFFFFFFF), xp.full_like(blocks, stream & 0xFFFFFFFF)
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _32) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return xp.stack((c0, c1, c2, c3), axis=1).astype(np.uint32).reshape(-1)[:n]


def uniform(n: int, *, seed: int, stream: int, step: int = 0) -> npt.NDArray[np.float32]:
    """n numbers in [0, 1): the upper 24 bits of each word, exact in float32."""
    upper = words(n, seed=seed, stream=stream, step=step) >> np.uint32(8)
    return upper.astype(np.float32) * np.float32(2.0**-24)


def kept(n: int, rate: float, *, seed: int, stream: int, step: int = 0, xp: Any = np) -> npt.NDArray[np.bool_]:
    """Whether each of n elements is kept where a share `rate` in [0, 1) is to be dropped, to the nearest 1 / 65,536.

    Each takes 16 bits, eight a block: those of words 0 and 2, low and high, then those of words 1 and 3, in which order
    vectors of the words lie without being shuffled. It is kept if they are at least 65,536 rate.
    """
    halves = words(-(-n // 8) * 4, seed=seed, stream=stream, step=step, xp=xp).view(np.uint16)
    in_order = halves.reshape(-1, 2, 2, 2).transpose(0, 2, 3, 1).reshape(-1)[:n]
    return in_order >= np.uint16(min(math.floor(rate * 65536 + 0.5), 65535))


def _uniform53(n: int, *, seed: int, stream: int, step: int) -> npt.NDArray[np.float64]:
    """n float64 numbers in (0, 1) with 53 random bits."""
    pairs = words(2 * n, seed=seed, stream=stream, step=step).reshape(-1, 2).astype(np.uint64)
    bits = ((pairs[:, 0] << np.uint64(21)) ^ (pairs[:, 1] >> np.uint64(11))) & np.uint64((1 << 53) - 1)
    return (bits.astype(np.float64) + 0.5) * 2.0**-53


def normal(shape: tuple[int, ...], *, seed: int, stream: int, step: int = 0) -> npt.NDArray[np.float64]:
    """Standard normal numbers by Box and Muller (1958), on the host, in float64."""
    n = math.prod(shape)
    u = _uniform53(n + n % 2, seed=seed, stream=stream, step=step).reshape(-1, 2)
    radius, angle = np.sqrt(-2 * np.log(u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1).reshape(-1)[:n].reshape(shape)


def permutation(n: int, *, seed: int, stream: int, step: int = 0) -> npt.NDArray[np.int64]:
    """A random order of range(n): the ranks of 64-bit keys; equal keys keep their order."""
    keys = words(2 * n, seed=seed, stream=stream, step=step).view(np.uint64)
    order = np.argsort(keys)  # five times as fast as a stable sort; where no two are equal there is one order only
    ranked = keys[order]
    if (ranked[1:] == ranked[:-1]).any():
        order = np.argsort(keys, kind="stable")
    return order.astype(np.int64, copy=False)
