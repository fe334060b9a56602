"""The tester of CUDA kernels is tested: each planted fault is caught and named, and what is sound passes."""

from __future__ import annotations

from typing import Any

import fibers
import numpy as np
import pytest
from fibers import HERE, KernelError

if fibers.missing():
    pytest.skip(f"csrc/*.cu cannot be built for the host: {fibers.missing()}", allow_module_level=True)


def run(kernel: str, *args: Any, grid: int = 1, block: int = 32, **how: Any) -> None:
    fibers.library(HERE / "planted.cu").checked(f"gpunet::{kernel}", (grid,), (block,), args, **how)


def floats(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.float32)


def blank(n: int) -> np.ndarray:
    return np.full(n, np.nan, np.float32)


# fmt: off
FAULTS = {  # kernel: arguments, threads, what is said
    "unmasked":                (lambda: (blank(1024), floats(1000)), 1024, "global memory fault"),
    "wide_tail":               (lambda: (blank(30), floats(30), np.int32(30)), 32, "16-byte read: beside the array"),
    "wide_unaligned":          (lambda: (blank(8), floats(8)), 1, "16-byte read: address not a multiple of 16"),
    "writes_input":            (lambda: (blank(1), floats(1)), 1, "global memory fault"),
    "last_wins":               (lambda: (np.zeros(1, np.int32),), 64, "depends on the order of threads"),
    "reads_padding":           (lambda: (blank(1), floats(3), np.int32(3)), 1, "depends on .* what lies beside"),
    "beyond_shared":           (lambda: (blank(32),), 32, r"shared index 32 of 32 \[block 0,0,0 thread 31,0,0\]"),
    "uninitialised":           (lambda: (blank(32),), 32, "read of uninitialised shared memory at offset"),
    "reversed<false>":         (lambda: (blank(64),), 64, "uninitialised shared memory|shared memory race: read"),
    "reversed_in_warp<false>": (lambda: (blank(32),), 32, "uninitialised shared memory|shared memory race: read"),
    "overwritten<false>":      (lambda: (blank(64),), 64, "shared memory race"),
    "early_exit":              (lambda: (blank(32),), 32, "__syncthreads at line .*: 16 threads of the block have exited"),
    "two_barriers":            (lambda: (blank(32),), 32, "__syncthreads at line .* while others wait at line"),
    "part_of_a_warp":          (lambda: (blank(32),), 32, "warp|deadlock"),
    "two_shuffles":            (lambda: (blank(32),), 32, "divergent warp operation"),
}
# fmt: on


@pytest.mark.parametrize("kernel", FAULTS)
def test_each_fault_is_caught_and_named(kernel: str) -> None:
    arguments, block, said = FAULTS[kernel]
    with pytest.raises(KernelError, match=said):
        run(kernel, *arguments(), block=block)


def test_each_order_by_itself_catches_what_is_no_matter_of_order() -> None:
    for kernel in ("early_exit", "two_barriers", "two_shuffles", "beyond_shared", "uninitialised"):
        arguments, block, said = FAULTS[kernel]
        for order in fibers.ORDERS:
            with pytest.raises(KernelError, match=said):
                run(kernel, *arguments(), block=block, orders=[order])


@pytest.mark.parametrize("n", [1, 7, 8, 31, 33, 1000, 1024])
def test_what_is_masked_passes(n: int) -> None:
    out = blank(n)
    run("masked", out, floats(n), np.int32(n), grid=2, block=512)
    np.testing.assert_array_equal(out, floats(n))


@pytest.mark.parametrize("kernel", ["reversed<true>", "overwritten<true>"])
def test_what_waits_passes(kernel: str) -> None:
    out = blank(64)
    run(kernel, out, block=64)
    np.testing.assert_array_equal(out, floats(64)[::-1])


def test_what_waits_in_its_warp_passes() -> None:
    out = blank(32)
    run("reversed_in_warp<true>", out)
    np.testing.assert_array_equal(out, floats(32)[::-1])


@pytest.mark.parametrize("block", [32, 64, 256, 1024])
def test_a_block_joins_what_its_threads_found(block: int) -> None:
    out = blank(block)
    run("whole_block", out, block=block)
    assert (out == sum(range(block))).all()


def test_a_failed_launch_leaves_nothing_behind() -> None:
    for _ in range(3):
        with pytest.raises(KernelError):
            run("beyond_shared", blank(32))
        run("reversed<true>", blank(64), block=64)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((blank(4), floats(4)), "takes 3 arguments, got 2"),
        ((blank(4), floats(4), floats(1)), "argument 2: a scalar wanted"),
        ((blank(4), floats(4), 4), "argument 2: a scalar wanted, got int"),
        ((blank(4), floats(4).astype(np.float64), np.int32(4)), "argument 1: float32 wanted, got float64"),
        ((blank(4), floats(4), np.int64(4)), "argument 2: int32 wanted, got int64"),
    ],
)  # fmt: skip
def test_arguments_must_fit(args: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        run("masked", *args)


def test_arguments_that_are_one_array_stay_one() -> None:
    x = floats(40)
    run("masked", x[:32], x[8:], np.int32(8))
    np.testing.assert_array_equal(x[:8], np.arange(8, 16))


def test_a_launch_that_cuda_refuses() -> None:
    for grid, block in ((0, 32), (1, 0), (1, 2048)):
        with pytest.raises(KernelError, match="no such launch"):
            run("masked", blank(4), floats(4), np.int32(4), grid=grid, block=block)
