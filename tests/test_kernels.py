"""Each native kernel against plain NumPy in float64: odd sizes, every instruction set, any number of threads."""

from __future__ import annotations

import importlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from kernel_formulas import (
    LAMBDA,
    SELU,
    adagrad,
    adam,
    erf_long,
    lion,
    mish,
    mish_slope,
    nadam,
    normal,
    normal_density,
    rmsprop,
    selu,
    selu_slope,
    sgd,
    sigmoid,
)  # fmt: skip

from gpunet import rng

try:
    cpu: Any = importlib.import_module("gpunet._cpu")
except ImportError as e:
    if os.environ.get("GPUNET_REQUIRE_NATIVE") == "1":
        raise
    pytest.skip(f"gpunet._cpu is not built: {e}", allow_module_level=True)

SIZES = (0, 1, 7, 8, 9, 17, 45, 46, 100, 257, 1023)
FLOATS = [np.float32, np.float64]
each_float = pytest.mark.parametrize("dtype", FLOATS, ids=lambda t: t.__name__)
each_size = pytest.mark.parametrize("n", SIZES)
Array = np.ndarray


@pytest.fixture(autouse=True, params=cpu.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test runs on every instruction set of this machine."""
    before = cpu.isa(), cpu.threads()
    cpu.set_isa(request.param)
    yield request.param
    cpu.set_isa(before[0])
    cpu.set_threads(before[1])


def random(*shape: int, dtype: Any = np.float64, seed: int = 0, scale: float = 1.0) -> Array:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(dtype)


def fresh(shape: Any, dtype: Any) -> Array:
    """Memory in which a forgotten write shows."""
    return np.full(shape, np.nan, dtype)


def close(got: Array, expected: Array, ulps: float = 4, around: Array | float = 0.0) -> None:
    """|got - expected| within so many units of rounding of |expected| + `around`."""
    eps = np.finfo(got.dtype).eps
    bound = ulps * eps * (np.abs(expected) + around) + np.finfo(got.dtype).tiny
    wrong = ~(np.abs(got.astype(np.float64) - expected) <= bound)
    assert not wrong.any(), (
        f"{wrong.sum()} of {wrong.size}: got {got[wrong][:3]}, expected {np.asarray(expected)[wrong][:3]}"
    )


# ---- the formulas, by a reference of higher precision


def tanh(out: Array, x: Array) -> None:
    cpu.activation(out, x, act="tanh", alpha=0.0)


# fmt: off
FORMULAS = {  # name: kernel, reference, range in float32, range in float64
    "exp":  (cpu.exp, np.exp,   (-87.3, 88.7), (-708.3, 709.7)),
    "log":  (cpu.log, np.log,   (0.0, 3e38),   (0.0, 1e308)),
    "tanh": (tanh,    np.tanh,  (-12.0, 12.0), (-25.0, 25.0)),
    "erf":  (cpu.erf, erf_long, (-5.0, 5.0),   (-7.0, 7.0)),
    "sin":  (cpu.sin, np.sin,   (-2e4, 2e4),   (-2e6, 2e6)),  # either side of where the C library takes over
    "cos":  (cpu.cos, np.cos,   (-2e4, 2e4),   (-2e6, 2e6)),
}
# fmt: on


def dense(low: float, high: float, dtype: Any) -> Array:
    """Many points: even over the range, close to 0 and 1, and of every magnitude."""
    g = np.random.default_rng(5)
    tiny = 16 * float(np.finfo(dtype).tiny)  # below, an eighth of the result may be a denormal, which is flushed
    spread = np.exp(g.uniform(math.log(tiny), math.log(min(high, 1e300)), 20_000))
    points = np.concatenate([g.uniform(low, high, 60_000), g.uniform(-2, 2, 60_000), 1 + g.uniform(-1e-3, 1e-3, 5_000)])
    points = np.concatenate([points, spread, -spread, [low, high, tiny]]).astype(dtype)
    return points[(points >= dtype(low)) & (points <= dtype(high)) & ((points == 0) | (np.abs(points) >= tiny))]


wide_reference = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="long double is no wider than double here"
)


@wide_reference
@pytest.mark.parametrize("name", FORMULAS)
@each_float
def test_formula_is_within_two_ulp(name: str, dtype: Any) -> None:
    kernel, reference, single, double = FORMULAS[name]
    x = dense(*(single if dtype is np.float32 else double), dtype)
    x = x[x > 0] if name == "log" else x
    out = fresh(x.shape, dtype)
    assert kernel(out, x) is None
    assert_within_two_ulp(out, reference(x.astype(np.longdouble)))


def assert_within_two_ulp(got: Array, expected: Array) -> None:
    ulp = np.spacing(np.maximum(np.abs(expected).astype(got.dtype), np.finfo(got.dtype).tiny))
    assert float(np.max(np.abs(got - expected) / ulp)) <= 2


@wide_reference
@pytest.mark.parametrize("name", ["sin", "cos"])
@each_float
def test_angles_at_quarter_turns_and_far_out(name: str, dtype: Any) -> None:
    """Where nearly all digits of x cancel against the quarter turns in it, and where x has more of them than digits."""
    turns = (np.arange(1, 600_000, 7) * (np.pi / 2)).astype(dtype)
    far = np.exp(np.random.default_rng(1).uniform(8, 80, 10_000)).astype(dtype)
    x = np.concatenate([turns, np.nextafter(turns, dtype(0)), -np.nextafter(turns, dtype(np.inf)), far, -far])
    out = fresh(x.shape, dtype)
    assert FORMULAS[name][0](out, x) is None
    assert_within_two_ulp(out, FORMULAS[name][1](x.astype(np.longdouble)))


@wide_reference
@each_float
def test_pow_is_within_two_ulp(dtype: Any) -> None:
    r, most, n = np.random.default_rng(2), 87 if dtype is np.float32 else 707, 60_000
    bases = np.exp(r.uniform(-3, 3, n)), 1 + r.uniform(-1e-3, 1e-3, n), np.exp(r.uniform(-0.9, 0.9, n) * most)
    for base in bases:
        x = base.astype(dtype)
        x = x[x != 1]
        y = (r.uniform(-most, most, x.size) / np.log(x.astype(np.float64))).astype(dtype)
        out = fresh(x.shape, dtype)
        assert cpu.pow(out, x, y) is None
        assert_within_two_ulp(out, np.power(x.astype(np.longdouble), y.astype(np.longdouble)))
    x, y = r.standard_normal(n).astype(dtype), r.integers(-3, 4, n).astype(dtype)
    out = fresh(n, dtype)
    cpu.pow(out, x, y)
    assert_within_two_ulp(out, np.power(x.astype(np.longdouble), y.astype(np.longdouble)))


ENDS = [np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 2.5, -2.5, 1e30, -1e30, 2.0**24 + 2, 2.0**60, 1 + 2e-7]


@pytest.mark.parametrize(("name", "reference"), [("pow", np.power), ("mod", np.remainder)])
@each_float
def test_pow_and_mod_at_extremes(name: str, reference: Any, dtype: Any) -> None:
    x, y = (a.copy() for a in np.meshgrid(*[np.array(ENDS, dtype)] * 2))
    out = fresh(x.shape, dtype)
    assert getattr(cpu, name)(out, x, y) is None
    with np.errstate(all="ignore"):
        expected = reference(x, y)
    expected = np.where(np.abs(expected) < np.finfo(dtype).tiny, np.copysign(0, expected), expected)  # denormals
    np.testing.assert_allclose(out, expected, rtol=2 * np.finfo(dtype).eps)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(out)[known], np.signbit(expected)[known])


@each_float
def test_mod_is_exact(dtype: Any) -> None:
    r = np.random.default_rng(3)
    x = np.concatenate([r.standard_normal(50_000) * np.exp(r.uniform(-20, 40, 50_000)), np.arange(-500, 500) * 0.1])
    y = np.concatenate([r.standard_normal(50_000), np.full(1000, 0.1)])
    out = fresh(x.shape, dtype)
    cpu.mod(out, x.astype(dtype), y.astype(dtype))
    np.testing.assert_array_equal(out, np.remainder(x.astype(dtype), y.astype(dtype)))


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@each_float
def test_argmax_is_the_first_of_several_and_nan_the_largest(axis: int | None, dtype: Any) -> None:
    x = np.random.default_rng(4).integers(-3, 4, (5, 9, 7)).astype(dtype)
    for value in (3.0, np.nan):
        x[2, 3, 4] = x[2, 5, 4] = x[3, 3, 4] = value
        want = np.argmax(x, axis=axis)
        out = np.full(want.shape, -1)
        assert cpu.argmax(out, x, axis=axis) is None
        np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4, -1e4], [np.nan, np.inf, 0, 1, 1, np.inf, 0]),
        ("log", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], [np.nan, np.inf, np.nan, -np.inf, -np.inf, 0, np.nan]),
        ("tanh", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4, -1e30], [np.nan, 1, -1, 0, -0.0, 1, -1]),
        ("erf", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4, -1e30], [np.nan, 1, -1, 0, -0.0, 1, -1]),
        ("sin", [np.nan, np.inf, -np.inf, 0.0, -0.0], [np.nan, np.nan, np.nan, 0, -0.0]),
        ("cos", [np.nan, np.inf, -np.inf, 0.0, -0.0], [np.nan, np.nan, np.nan, 1, 1]),
    ],
)
@each_float
def test_formula_at_extremes(name: str, x: list[float], expected: list[float], dtype: Any) -> None:
    out = fresh(len(x), dtype)
    FORMULAS[name][0](out, np.array(x, dtype))
    np.testing.assert_array_equal(out, np.array(expected, dtype))
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(out)[known], np.signbit(np.array(expected, dtype))[known])


def test_denormals_are_flushed_and_the_setting_restored() -> None:
    small, out = np.full(40, -1e-37, np.float32), fresh(40, np.float32)
    cpu.activation(out, small, act="leaky_relu", alpha=1e-3)
    assert (out == 0).all()
    assert (small * np.float32(1e-3) < 0).all(), "denormals are on again outside native code"


# ---- activations

# fmt: off
ACTIVATIONS: dict[str, tuple[float, Callable, Callable, bool]] = {  # alpha, value, slope at the input, needs its input
    "identity":   (0.00, lambda x: x,                                     np.ones_like,                               False),
    "relu":       (0.00, lambda x: np.maximum(x, 0),                      lambda x: (x > 0) * 1.0,                    False),
    "leaky_relu": (0.01, lambda x: np.where(x > 0, x, 0.01 * x),          lambda x: np.where(x > 0, 1.0, 0.01),       False),
    "elu":        (1.50, lambda x: np.where(x > 0, x, 1.5 * np.expm1(x)), lambda x: np.where(x > 0, 1, 1.5 * np.exp(x)), False),
    "selu":       (0.00, selu,                                            selu_slope,                                 False),
    "sigmoid":    (0.00, sigmoid,                                         lambda x: sigmoid(x) * sigmoid(-x),         False),
    "tanh":       (0.00, np.tanh,                                         lambda x: 1 - np.tanh(x) ** 2,              False),
    "softplus":   (0.00, lambda x: np.logaddexp(0, x),                    sigmoid,                                    False),
    "gelu":       (0.00, lambda x: x * normal(x),                lambda x: normal(x) + x * normal_density(x),          True),
    "silu":       (0.00, lambda x: x * sigmoid(x),               lambda x: sigmoid(x) * (1 + x * sigmoid(-x)),         True),
    "mish":       (0.00, mish,                                            mish_slope,                                  True),
}
# fmt: on
each_activation = pytest.mark.parametrize("act", ACTIVATIONS)


def saved_for(act: str, x: Array) -> Array:
    """What activation_vjp is given: the input where the activation needs it, else the output."""
    return x if ACTIVATIONS[act][3] else ACTIVATIONS[act][1](x)


@each_activation
@each_size
@each_float
def test_activation(act: str, n: int, dtype: Any) -> None:
    alpha, value, slope, _ = ACTIVATIONS[act]
    x = random(n, dtype=dtype, scale=3)
    exact = x.astype(np.float64)
    out = fresh(n, dtype)
    assert cpu.activation(out, x, act=act, alpha=alpha) is None
    close(out, value(exact), around=1)
    g, saved = random(n, dtype=dtype, seed=1), saved_for(act, exact).astype(dtype)
    back = fresh(n, dtype)
    assert cpu.activation_vjp(back, g, saved, act=act, alpha=alpha) is None
    close(back, g * slope(exact), around=4 * np.abs(g))
    cpu.activation(x, x, act=act, alpha=alpha)
    cpu.activation_vjp(g, g, saved, act=act, alpha=alpha)
    np.testing.assert_array_equal(x, out)
    np.testing.assert_array_equal(g, back)


LIMITS = {  # at -inf and inf: values, slopes
    "identity": ([-np.inf, np.inf], [1, 1]),
    "relu": ([0, np.inf], [0, 1]),
    "leaky_relu": ([-np.inf, np.inf], [0.01, 1]),
    "elu": ([-1.5, np.inf], [0, 1]),
    "selu": ([-LAMBDA * SELU, np.inf], [0, LAMBDA]),
    "sigmoid": ([0, 1], [0, 0]),
    "tanh": ([-1, 1], [0, 0]),
    "softplus": ([0, np.inf], [0, 1]),
    "gelu": ([0, np.inf], [0, 1]),
    "silu": ([0, np.inf], [0, 1]),
    "mish": ([0, np.inf], [0, 1]),
}


@each_activation
@each_float
def test_activation_at_infinity_and_nan(act: str, dtype: Any) -> None:
    alpha, _, _, needs_input = ACTIVATIONS[act]
    x = np.array([-np.inf, np.inf, np.nan], dtype)
    y, slope = fresh(3, dtype), fresh(3, dtype)
    cpu.activation(y, x, act=act, alpha=alpha)
    cpu.activation_vjp(slope, np.ones(3, dtype), x if needs_input else y, act=act, alpha=alpha)
    values, slopes = LIMITS[act]
    np.testing.assert_allclose(y[:2], np.array(values, dtype), rtol=1e-6)
    np.testing.assert_allclose(slope[:2], np.array(slopes, dtype), rtol=1e-6, atol=1e-6)
    assert np.isnan(y[2])


# ---- products


def laid_out(a: Array, transposed: bool) -> Array:
    """The same matrix, or stack of them, with its last two axes the other way round in memory."""
    return np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2) if transposed else a


def close_product(got: Array, x: Array, y: Array, plus: Array | float = 0.0) -> None:
    exact = x.astype(np.float64) @ y.astype(np.float64)
    close(got, exact + plus, 4 + math.sqrt(x.shape[-1]), around=np.abs(x.astype(np.float64)) @ np.abs(y) + np.abs(plus))


SHAPES = [(m, SIZES[-1 - i], SIZES[(i * 3 + 5) % 11]) for i, m in enumerate(SIZES)]
SHAPES += [(m, SIZES[(i * 7 + 2) % 11], m) for i, m in enumerate(SIZES)]
SHAPES += [(33, 2100, 65), (600, 40, 10), (1, 1023, 1), (5, 0, 3), (64, 64, 32), (13, 5, 49), (520, 300, 520), (1100, 530, 300)]
SHAPES += [(300, 200, 100), (130, 60, 257), (600, 512, 18)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@each_float
def test_matmul(shape: tuple[int, int, int], dtype: Any) -> None:
    m, k, n = shape
    x, y = random(m, k, dtype=dtype), random(k, n, dtype=dtype, seed=1)
    for tx in (False, True):
        for ty in (False, True):
            out = fresh((m, n), dtype)
            assert cpu.matmul(out, laid_out(x, tx), laid_out(y, ty)) is None
            close_product(out, x, y)


@pytest.mark.parametrize("few", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("whole", [16, 32, 96])
@each_float
def test_the_last_columns_beside_a_transposed_matrix_have_the_bits_of_all_others(few: int, whole: int, dtype: Any) -> None:
    m, k = 300, 200
    x, y = random(k, m, dtype=dtype), random(k, whole + 16, dtype=dtype, seed=1)
    for threads in (1, 3):
        cpu.set_threads(threads)
        out, more = fresh((m, whole + few), dtype), fresh((m, whole + 16), dtype)
        assert cpu.matmul(out, x.T, np.ascontiguousarray(y[:, : whole + few])) is None
        assert cpu.matmul(more, x.T, y) is None
        np.testing.assert_array_equal(out, more[:, : whole + few])


@pytest.mark.parametrize(("left", "right"), [((3,), (3,)), ((5,), ()), ((), (4,)), ((1,), (1,)), ((0,), (0,))], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 17, 10), (46, 45, 100), (90, 210, 130)], ids=str)
@each_float
def test_matmul_of_stacks(
    left: tuple[int, ...], right: tuple[int, ...], shape: tuple[int, int, int], dtype: Any
) -> None:
    m, k, n = shape
    x, y = random(*left, m, k, dtype=dtype), random(*right, k, n, dtype=dtype, seed=1)
    for tx in (False, True):
        for ty in (False, True):
            out = fresh((*(left or right), m, n), dtype)
            assert cpu.matmul(out, laid_out(x, tx), laid_out(y, ty)) is None
            close_product(out, x, y)


@pytest.mark.parametrize("shape", [(20, 30, 20), (150, 600, 140)], ids=str)
@each_float
def test_products_of_numbers_that_are_not_finite(shape: tuple[int, int, int], dtype: Any) -> None:
    m, k, n = shape
    x, y = random(m, k, dtype=dtype), random(k, n, dtype=dtype, seed=1)
    x[3, 5], x[7, 2], x[9, 1], x[11, 4] = np.inf, -np.inf, np.nan, np.finfo(dtype).max
    x[11, :4] = x[11, 5:] = 0
    y[:, 6] = np.abs(y[:, 6]) / 16
    y[8, 13] = np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        want = x.astype(np.float64) @ y.astype(np.float64) if dtype == np.float32 else x @ y
        want = want.astype(dtype)
    for tx in (False, True):
        for ty in (False, True):
            found = []
            for threads in (1, 3):
                cpu.set_threads(threads)
                out = fresh((m, n), dtype)
                assert cpu.matmul(out, laid_out(x, tx), laid_out(y, ty)) is None
                found.append(out)
            np.testing.assert_array_equal(found[0], found[1])
            known = np.isfinite(want)
            np.testing.assert_array_equal(out[~known], want[~known])
            np.testing.assert_allclose(out[known], want[known], rtol=1e-4, atol=1e-4)
            assert known[11, 6] and known.sum() > m * n / 2


@pytest.mark.parametrize("size", [128, 1024])
def test_products_on_tiles_are_at_least_as_exact_as_chains(isa: str, size: int) -> None:
    """Three bfloat16 to a number and six products of nine: the error is below that of float32's own multiply-adds."""
    if isa != "amx":
        pytest.skip(f"{isa} has no tiles")

    def error(made: str, x: Array, y: Array) -> float:
        cpu.set_isa(made)
        out = fresh((len(x), y.shape[1]), np.float32)
        cpu.matmul(out, x, y)
        exact = x.astype(np.float64) @ y.astype(np.float64)
        return float(np.sqrt(np.mean(np.square((out - exact) / (np.abs(x).astype(np.float64) @ np.abs(y))))))

    for kind, x in (("any", random(130, size, dtype=np.float32)), ("positive", np.abs(random(130, size, dtype=np.float32)))):
        for exponents in (0, 10):  # all of a size, or from 2^-10 to 2^10
            r = np.random.default_rng(2)
            x, y = (a * np.exp2(r.integers(-exponents, exponents + 1, a.shape)).astype(np.float32)
                    for a in (x, random(size, 150, dtype=np.float32, seed=1)))  # fmt: skip
            assert error("amx", x, y) < error("avx512", x, y) < 2e-7, (kind, exponents)


LINEAR = [
    ((), 32, 64, 10),
    ((), 1, 7, 1),
    ((), 8, 0, 9),
    ((), 0, 9, 8),
    ((), 9, 8, 0),
    ((), 257, 1023, 45),
    ((3,), 17, 46, 100),
    ((), 33, 1300, 1),  # the last few columns of a vector, which are dot products
    ((), 1, 300, 2),
    ((2,), 5, 129, 51),
    ((), 130, 600, 100),
    ((2,), 95, 1100, 161),  # tiles at every edge, and three blocks of k
]


@each_activation
@pytest.mark.parametrize("shape", LINEAR, ids=str)
@each_float
def test_linear(act: str, shape: tuple[tuple[int, ...], int, int, int], dtype: Any) -> None:
    stack, n, k, m = shape
    alpha, value, slope, _ = ACTIVATIONS[act]
    x, w, b = (random(*stack, *s, dtype=dtype, seed=i, scale=0.1) for i, s in enumerate([(n, k), (k, m), (m,)]))
    out, kept, z = (fresh((*stack, n, m), dtype) for _ in range(3))
    assert cpu.linear(out, x, w, b, act=act, alpha=alpha) is None
    assert cpu.linear_keep(kept, z, x, w, b, act=act, alpha=alpha) is None
    close_product(z, x, w, b.astype(np.float64)[..., None, :])
    close(out, value(z.astype(np.float64)), around=1)
    np.testing.assert_array_equal(kept, out)


@each_activation
@pytest.mark.parametrize("shape", [*LINEAR, ((), 300, 40, 601), ((), 1, 700, 129)], ids=str)
@each_float
def test_linear_dz_is_a_product_and_activation_vjp_bit_by_bit(act: str, shape: Any, dtype: Any) -> None:
    stack, n, k, m = shape
    alpha = ACTIVATIONS[act][0]
    g, w, z = (random(*stack, *s, dtype=dtype, seed=i) for i, s in enumerate([(n, k), (k, m), (n, m)]))
    saved = saved_for(act, z.astype(np.float64)).astype(dtype)
    for transposed in (False, True):
        product, dz = fresh(z.shape, dtype), fresh(z.shape, dtype)
        cpu.matmul(product, g, laid_out(w, transposed))
        cpu.activation_vjp(dz, product, saved, act=act, alpha=alpha)
        for threads in (1, 3):
            cpu.set_threads(threads)
            fused = fresh(z.shape, dtype)
            assert cpu.linear_dz(fused, g, laid_out(w, transposed), saved, act=act, alpha=alpha) is None
            np.testing.assert_array_equal(fused, dz)


@pytest.mark.parametrize("shape", [*LINEAR, ((), 1000, 300, 601), ((), 40, 700, 5), ((), 64, 1, 33)], ids=str)
@each_float
def test_linear_dw(shape: Any, dtype: Any) -> None:
    stack, n, k, m = shape
    x, g = (random(*stack, *s, dtype=dtype, seed=i) for i, s in enumerate([(n, k), (n, m)]))
    dw, db = fresh((*stack, k, m), dtype), fresh((*stack, m), dtype)
    assert cpu.linear_dw(dw, db, x, g) is None
    close_product(dw, x.swapaxes(-1, -2), g)
    close(db, g.astype(np.float64).sum(-2), 4 + math.sqrt(n), around=np.abs(g.astype(np.float64)).sum(-2))
    for threads in (2, 3):
        cpu.set_threads(threads)
        again, sums = fresh(dw.shape, dtype), fresh(db.shape, dtype)
        cpu.linear_dw(again, sums, x, g)
        np.testing.assert_array_equal(again, dw)
        np.testing.assert_array_equal(sums, db)


TABLES = [  # rows of the table, of the batch, and the shape of the weights
    (40, 17, 300, 45),
    (300, 257, 784, 100),
    (40, 17, 1300, 49),
    (9, 1, 129, 1),
    (5, 0, 8, 3),
    (7, 20, 3, 16),
    (600, 530, 40, 530),
]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", TABLES, ids=str)
@each_float
def test_products_with_rows_of_a_table_have_the_bits_of_gather_and_product(shape: Any, threads: int, dtype: Any) -> None:
    length, n, k, m = shape
    table, w, b, g = (random(*s, dtype=dtype, seed=i) for i, s in enumerate([(length, k), (k, m), (m,), (n, m)]))
    cpu.set_threads(threads)
    for kind in (np.int32, np.int64):
        rows = np.random.default_rng(0).integers(0, length, n).astype(kind)
        x = table[rows]
        outs = [fresh(s, dtype) for s in [(n, m), (n, m), (n, m), (k, m), (m,)]]
        wants = [fresh(s, dtype) for s in [(n, m), (n, m), (n, m), (k, m), (m,)]]
        assert cpu.linear_rows(outs[0], table, rows, w, b, act="relu", alpha=0.0) is None
        assert cpu.linear_keep_rows(*outs[1:3], table, rows, w, b, act="silu", alpha=0.0) is None
        assert cpu.linear_dw_rows(*outs[3:], table, rows, g) is None
        cpu.linear(wants[0], x, w, b, act="relu", alpha=0.0)
        cpu.linear_keep(*wants[1:3], x, w, b, act="silu", alpha=0.0)
        cpu.linear_dw(*wants[3:], x, g)
        for out, want in zip(outs, wants, strict=True):
            np.testing.assert_array_equal(out, want)


# ---- softmax and its loss


def log_softmax(z: Array) -> Array:
    top = z.max(-1, keepdims=True)
    return z - top - np.log(np.exp(z - top).sum(-1, keepdims=True))


@pytest.mark.parametrize("shape", [(7,), (1, 1), (9, 10), (100, 17), (5, 1023), (2, 3, 45), (0, 4), (4, 0)], ids=str)
@each_float
def test_softmax(shape: tuple[int, ...], dtype: Any) -> None:
    x = random(*shape, dtype=dtype, scale=5)
    exact = log_softmax(x.astype(np.float64)) if x.size else x.astype(np.float64)
    for kernel, expected in ((cpu.softmax, np.exp(exact) if x.size else exact), (cpu.log_softmax, exact)):
        out = fresh(shape, dtype)
        assert kernel(out, x) is None
        close(out, expected, 8, around=np.abs(x) * (np.exp(exact) if kernel is cpu.softmax else 1) + 1e-3)
        kernel(x_copy := x.copy(), x_copy)
        np.testing.assert_array_equal(x_copy, out)


@pytest.mark.parametrize("shape", [(n, c) for n in (0, 1, 8, 17, 100) for c in (1, 2, 9, 10, 46, 257)], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@each_float
def test_softmax_cross_entropy(shape: tuple[int, int], smoothing: float, dtype: Any) -> None:
    n, c = shape
    z, g = random(n, c, dtype=dtype, scale=4), random(n, dtype=dtype, seed=1)
    t = np.random.default_rng(2).integers(0, c, n).astype(np.int64 if c % 2 else np.int32)
    target = np.full((n, c), smoothing / c) + (1 - smoothing) * (np.arange(c) == t[:, None])
    exact = log_softmax(z.astype(np.float64))
    out, back = fresh(n, dtype), fresh((n, c), dtype)
    assert cpu.softmax_cross_entropy(out, z, t, smoothing=smoothing) is None
    close(out, -(target * exact).sum(1), 8, around=np.abs(z).max(1, initial=1))
    assert cpu.softmax_cross_entropy_vjp(back, g, z, t, smoothing=smoothing) is None
    close(back, g[:, None] * (np.exp(exact) - target), 16, around=4 * np.abs(g[:, None]))
    value, both = fresh(n, dtype), fresh((n, c), dtype)
    assert cpu.softmax_cross_entropy_both(value, both, g, z, t, smoothing=smoothing) is None
    assert np.array_equal(value, out) and np.array_equal(both, back), "both in one pass are the bits of each by itself"
    over = z.copy()
    cpu.softmax_cross_entropy_vjp(over, g, over, t, smoothing=smoothing)
    cpu.softmax_cross_entropy_both(value, z, g, z, t, smoothing=smoothing)
    assert np.array_equal(over, back) and np.array_equal(z, back) and np.array_equal(value, out)


def test_softmax_survives_large_and_missing_numbers() -> None:
    z = np.array([[1e30, 0, -1e30], [np.nan, 0, 0], [-np.inf, 0, 0], [0, 0, np.nan]], np.float32)
    out, loss = fresh(z.shape, np.float32), fresh(4, np.float32)
    cpu.softmax(out, z)
    np.testing.assert_array_equal(out[[0, 2]], [[1, 0, 0], [0, 0.5, 0.5]])
    assert np.isnan(out[[1, 3]]).all()
    cpu.softmax_cross_entropy(loss, z, np.array([0, 1, 1, 1]), smoothing=0.0)
    assert loss[0] == 0 and np.isnan(loss[[1, 3]]).all()
    np.testing.assert_allclose(loss[2], math.log(2), rtol=1e-6)


# ---- rows


@each_size
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.999])
@each_float
def test_dropout_is_the_numpy_formula_to_the_bit(n: int, rate: float, dtype: Any) -> None:
    x, step = random(n, dtype=dtype), 5
    kept = rng.kept(n, rate, seed=2**63 + 7, stream=0xFFFFFFF0, step=step)
    expected = np.where(kept, x * dtype(1 / (1 - rate)), dtype(0))
    out = fresh(n, dtype)
    assert cpu.dropout(out, x, np.array(rate), np.array(step), seed=2**63 + 7, stream=0xFFFFFFF0) is None
    np.testing.assert_array_equal(out, expected)
    cpu.dropout(x, x, rate, step, seed=2**63 + 7, stream=0xFFFFFFF0)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64, np.bool_, np.complex128])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(9,), (7, 5), (4, 3, 2), (3, 0)], ids=str)
def test_gather(dtype: Any, index: Any, shape: tuple[int, ...]) -> None:
    x = random(*shape, scale=50).astype(dtype)
    for count in (0, 1, 17):
        rows = np.random.default_rng(count).integers(0, shape[0], count).astype(index)
        out = np.zeros((count, *shape[1:]), dtype)
        assert cpu.gather(out, x, rows) is None
        np.testing.assert_array_equal(out, x[rows])


@pytest.mark.parametrize("shape", [(9,), (7, 5), (4, 3, 2), (100, 257), (0, 3), (3, 0)], ids=str)
@each_float
def test_scatter_add(shape: tuple[int, ...], dtype: Any) -> None:
    for count in (0, 1, 46) if shape[0] else (0,):
        rows = np.random.default_rng(count).integers(0, max(shape[0], 1), count)
        g = random(count, *shape[1:], dtype=dtype)
        expected = np.zeros(shape, dtype)
        np.add.at(expected, rows, g)
        out = fresh(shape, dtype)
        assert cpu.scatter_add(out, g, rows) is None
        np.testing.assert_array_equal(out, expected)


def test_rows_out_of_range_are_named() -> None:
    x, z = np.zeros((5, 2), np.float32), np.zeros((3, 4), np.float32)
    with pytest.raises(IndexError, match=r"gather: rows\[1\] is 5, expected 0\.\.4 \(length 5\)"):
        cpu.gather(np.zeros((2, 2), np.float32), x, np.array([0, 5]))
    with pytest.raises(IndexError, match=r"scatter_add: rows\[0\] is -1"):
        cpu.scatter_add(x, np.zeros((1, 2), np.float32), np.array([-1], np.int32))
    w, b, out, beyond = x[:2], x[0], np.full((2, 2), 7, np.float32), np.array([0, 5])
    with pytest.raises(IndexError, match=r"gather: rows\[1\] is 5, expected 0\.\.4 \(length 5\)"):
        cpu.linear_rows(out, x, beyond, w, b, act="relu", alpha=0.0)
    with pytest.raises(IndexError, match=r"gather: rows\[1\] is 5, expected 0\.\.4 \(length 5\)"):
        cpu.linear_dw_rows(out, b.copy(), x, beyond, w)
    assert (out == 7).all()
    for kernel, ins in (
        (cpu.softmax_cross_entropy, (z,)),
        (cpu.softmax_cross_entropy_vjp, (np.zeros(3, np.float32), z)),
        (partial(cpu.softmax_cross_entropy_both, np.zeros(3, np.float32)), (np.zeros(3, np.float32), z)),
    ):
        out = np.zeros(3 if len(ins) == 1 else (3, 4), np.float32)
        with pytest.raises(IndexError, match=r"row 2 has target 4, expected 0\.\.3 \(c = 4\)"):
            kernel(out, *ins, np.array([0, 3, 4]), smoothing=0.0)


# ---- optimizers


ADAM = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
ADAMS = ADAM | {"decay": 0.01}
NADAM = ADAMS | {"momentum_decay": 0.004}
RMSPROP = {"lr": 0.1, "rho": 0.99, "eps": 1e-8, "momentum": 0.5, "decay": 0.01}
LION = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "decay": 0.01}
# fmt: off
UPDATES: list[tuple[Any, Any, int, bool, dict[str, Any], dict[str, Any]]] = [
    # kernel, formula, flat states, counts steps, scalars by position, settings by keyword
    (cpu.sgd,     sgd,     1, False, {"lr": 0.1, "momentum": 0.0, "decay": 0.01}, {"nesterov": False}),
    (cpu.sgd,     sgd,     1, False, {"lr": 0.1, "momentum": 0.9, "decay": 0.01}, {"nesterov": True}),
    (cpu.adagrad, adagrad, 1, False, {"lr": 0.1, "eps": 1e-10, "decay": 0.01},    {}),
    (cpu.rmsprop, rmsprop, 2, False, RMSPROP,                                     {}),
    (cpu.adam,    adam,    2, True,  ADAMS,                                       {"decoupled": False}),
    (cpu.adam,    adam,    2, True,  ADAMS,                                       {"decoupled": True}),
    (cpu.nadam,   nadam,   2, True,  NADAM,                                       {"decoupled": False}),
    (cpu.nadam,   nadam,   2, True,  NADAM,                                       {"decoupled": True}),
    (cpu.lion,    lion,    1, False, LION,                                        {}),
]
# fmt: on


def update_id(row: tuple) -> str:
    return "-".join([row[1].__name__, *(name for name, on in row[5].items() if on)])


@pytest.mark.parametrize("row", UPDATES, ids=update_id)
@each_size
@each_float
def test_update(row: tuple, n: int, dtype: Any) -> None:
    kernel, formula, states, counts, scalars, settings = row
    flat = [random(n, dtype=dtype, seed=9)] + [np.zeros(n, dtype)] * states
    exact = [a.astype(np.float64) for a in flat] + [np.array(1.0)] * (formula is nadam)
    for t in (1, 2, 3):
        g = random(n, dtype=dtype, seed=t)
        outs = [fresh(a.shape, a.dtype) for a in flat] + [np.array(np.nan)] * (formula is nadam)
        ins = [flat[0], g, *flat[1:]] + [np.array(exact[-1])] * (formula is nadam)
        values = [np.array(t)] * counts + [np.array(v) for v in scalars.values()]
        assert kernel(*outs, *ins, *values, **settings) is None
        exact = list(formula(exact[0], g.astype(np.float64), *exact[1:], *[t] * counts, **scalars, **settings))
        for got, expected in zip(outs, exact, strict=True):
            close(got, np.asarray(expected), 32, around=1)
        in_place = [a.copy() for a in ins]
        ours = [in_place[0], *in_place[2:]]
        assert kernel(*ours, *in_place, *values, **settings) is None
        for got, again in zip(outs, ours, strict=True):
            np.testing.assert_array_equal(again, got)
        flat = outs[: states + 1]


# ---- normalisation


def normal_and_back(x: Array, g: Array, gamma: Array, eps: float, axis: int) -> tuple[Array, ...]:
    """In float64: mean, variance and scale; x normalised; and the gradient of x."""
    mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
    scale = 1 / np.sqrt(var + eps)
    normal, h = (x - mean) * scale, g * gamma
    dx = scale * (h - h.mean(axis, keepdims=True) - normal * (h * normal).mean(axis, keepdims=True))
    return mean, var, scale, normal, dx


MATRICES = [(n, m) for n in (1, 2, 9, 129, 300) for m in (1, 7, 8, 46, 257)]


@pytest.mark.parametrize("shape", [*MATRICES, (0, 3), (2, 3, 45)], ids=str)
@each_float
def test_layer_norm(shape: tuple[int, ...], dtype: Any) -> None:
    x, g = random(*shape, dtype=dtype, scale=3) + dtype(1), random(*shape, dtype=dtype, seed=1)
    gamma, beta = random(shape[-1], dtype=dtype, seed=2), random(shape[-1], dtype=dtype, seed=3)
    mean, _, scale, normal, dx = normal_and_back(*(a.astype(np.float64) for a in (x, g, gamma)), 1e-3, -1)
    out, means, scales = fresh(shape, dtype), fresh(mean.shape, dtype), fresh(mean.shape, dtype)
    assert cpu.layer_norm(out, means, scales, x, gamma, beta, eps=1e-3) is None
    near = 64 * np.maximum(scale, 1)  # x - mean rounds as x does
    close(means, mean, 8, around=8)
    close(scales, scale, 16, around=near)
    close(out, normal * gamma + beta, 16, around=near)
    back = fresh(shape, dtype)
    assert cpu.layer_norm_dx(back, g, x, means, scales, gamma) is None
    close(back, dx, 16, around=near * np.maximum(scale, 1) * 4)
    over = g.copy()
    cpu.layer_norm_dx(over, over, x, means, scales, gamma)
    np.testing.assert_array_equal(over, back)
    dgamma, dbeta, rows = fresh(gamma.shape, dtype), fresh(gamma.shape, dtype), tuple(range(x.ndim - 1))
    assert cpu.layer_norm_dw(dgamma, dbeta, g, x, means, scales) is None
    sums = np.abs(g).sum(rows, dtype=np.float64)
    close(dgamma, (g * normal).sum(rows), 16, around=float(near.max(initial=1)) * sums)
    close(dbeta, g.sum(rows, dtype=np.float64), 16, around=sums)


@pytest.mark.parametrize("shape", MATRICES, ids=str)
@each_float
def test_batch_norm(shape: tuple[int, int], dtype: Any) -> None:
    x, g = random(*shape, dtype=dtype, scale=3) + dtype(1), random(*shape, dtype=dtype, seed=1)
    gamma, beta = random(shape[-1], dtype=dtype, seed=2), random(shape[-1], dtype=dtype, seed=3)
    mean, var, scale, normal, dx = normal_and_back(*(a.astype(np.float64) for a in (x, g, gamma)), 1e-3, 0)
    out, means, variances = fresh(shape, dtype), fresh(gamma.shape, dtype), fresh(gamma.shape, dtype)
    assert cpu.batch_norm(out, means, variances, x, gamma, beta, eps=1e-3) is None
    near = 64 * np.maximum(scale, 1)
    close(means, mean[0], 8, around=8)
    close(variances, var[0], 16, around=16)
    close(out, normal * gamma + beta, 16, around=near)
    back, dgamma, dbeta = fresh(shape, dtype), fresh(gamma.shape, dtype), fresh(gamma.shape, dtype)
    assert cpu.batch_norm_vjp(back, dgamma, dbeta, g, x, means, variances, gamma, eps=1e-3) is None
    sums = np.abs(g).sum(0, dtype=np.float64)
    close(back, dx, 16, around=near * np.maximum(scale, 1) * 4)
    close(dgamma, (g * normal).sum(0), 16, around=near[0] * sums)
    close(dbeta, g.sum(0, dtype=np.float64), 16, around=sums)
    cpu.batch_norm_vjp(over := g.copy(), dgamma, dbeta, over, x, means, variances, gamma, eps=1e-3)
    np.testing.assert_array_equal(over, back)


@pytest.mark.parametrize("act", ["cos", "ramp"])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (7, 3, 16, 3), (256, 30, 16, 4), (257, 17, 5, 13), (600, 2, 1, 64)], ids=str)
@each_float
def test_column_nets(sizes: tuple[int, int, int, int], act: str, dtype: Any) -> None:
    n, k, m, w = sizes
    x, g, weight = random(n, k, dtype=dtype), random(n, k * w, dtype=dtype, seed=1), random(k, m, w, dtype=dtype, seed=2)
    slope, start, bias = (random(k, size, dtype=dtype, seed=s) for s, size in ((3, m), (4, m), (5, w)))
    z = x.astype(np.float64)[:, :, None] * slope + start
    f, steep = (np.cos(z), -np.sin(z)) if act == "cos" else (np.clip(z, 0, 1), ((z >= 0) & (z <= 1)).astype(float))
    out, up = fresh((n, k * w), dtype), g.reshape(n, k, w)
    assert cpu.column_nets(out, x, slope, start, weight, bias, act=act) is None
    close(out, (np.einsum("nkm,kmw->nkw", f, weight) + bias).reshape(n, -1), 8, around=8 * m)
    found = [fresh(a.shape, dtype) for a in (slope, start, weight, bias)]
    assert cpu.column_nets_vjp(*found, g, x, slope, start, weight, act=act) is None
    d = np.einsum("nkw,kmw->nkm", up.astype(np.float64), weight)
    rows = float(n)
    close(found[0], np.einsum("nkm,nk->km", d * steep, x), 16, around=8 * rows * w)
    close(found[1], (d * steep).sum(0), 16, around=8 * rows * w)
    close(found[2], np.einsum("nkm,nkw->kmw", f, up), 16, around=8 * rows)
    close(found[3], up.sum(0, dtype=np.float64), 16, around=8 * rows)


@pytest.mark.parametrize("shape", [(1, 1), (15, 17), (16, 16), (33, 100), (256, 57)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_a_transposed_view_is_copied(shape: tuple[int, int], dtype: Any) -> None:
    stack = np.arange(3 * shape[0] * shape[1]).reshape(3, *shape).astype(dtype)
    for view in (stack[1].T, stack.swapaxes(1, 2), stack.transpose(1, 0, 2), stack.transpose(2, 0, 1)):
        out = np.zeros(view.shape, dtype)
        if cpu.copy(out, view) is None:
            np.testing.assert_array_equal(out, view)
        else:
            assert view.flags.c_contiguous or view.ndim > 2


def test_what_is_not_finite_stays_in_its_row_or_column() -> None:
    x, one = random(5, 40, dtype=np.float32), np.ones(40, np.float32)
    x[2, 3] = np.nan
    out, m, r = fresh(x.shape, np.float32), fresh((5, 1), np.float32), fresh((5, 1), np.float32)
    cpu.layer_norm(out, m, r, x, one, one, eps=1e-5)
    assert np.isnan(out[2]).all() and np.isfinite(np.delete(out, 2, 0)).all()
    cpu.batch_norm(out, fresh(40, np.float32), fresh(40, np.float32), x, one, one, eps=1e-5)
    assert np.isnan(out[:, 3]).all() and np.isfinite(np.delete(out, 3, 1)).all()


# ---- threads, processes, odd arguments


def everything(dtype: Any) -> list[Array]:
    """The outputs of kernels on arrays that are large enough for several threads."""
    n, c = 600, 1100
    x, w, b = random(300, 400, dtype=dtype), random(400, 130, dtype=dtype), random(130, dtype=dtype)
    z, out = fresh((300, 130), dtype), fresh((300, 130), dtype)
    stack, stacked, product = random(3, 120, 370, dtype=dtype), fresh((3, 120, 120), dtype), fresh((400, 400), dtype)
    big, same = random(n, c, dtype=dtype), [fresh((300, c), dtype), *(fresh((n, c), dtype) for _ in range(6))]
    dw, db, loss, t = fresh((400, c), dtype), fresh(c, dtype), fresh(n, dtype), np.arange(n)
    cpu.linear_keep(out, z, x, w, b, act="gelu", alpha=0.0)
    cpu.matmul(stacked, stack, stack.swapaxes(1, 2))
    cpu.matmul(product, x.T, x)
    cpu.linear_dz(same[0], z, random(130, c, dtype=dtype), big[:300], act="silu", alpha=0.0)
    cpu.linear_dw(dw, db, x, big[:300])
    cpu.softmax(same[1], big)
    cpu.dropout(same[2], big, 0.5, 1, seed=1, stream=2)
    cpu.softmax_cross_entropy(loss, big, t, smoothing=0.1)
    cpu.scatter_add(same[3], big, t[::-1].copy() // 2)
    slope, start, weight, bias = (random(40, *size, dtype=dtype) for size in ((16,), (16,), (16, 3), (3,)))
    made, back = fresh((n, 120), dtype), [fresh(a.shape, dtype) for a in (slope, start, weight, bias)]
    cpu.column_nets(made, table := big[:, :40].copy(), slope, start, weight, bias, act="cos")
    cpu.column_nets_vjp(*back, made, table, slope, start, weight, act="cos")
    norms, gamma = [fresh((n, c), dtype) for _ in range(4)], random(c, dtype=dtype)
    rows, columns = [fresh((n, 1), dtype) for _ in range(2)], [fresh(c, dtype) for _ in range(6)]
    cpu.layer_norm(norms[0], *rows, big, gamma, gamma, eps=1e-5)
    cpu.layer_norm_dx(norms[1], norms[0], big, *rows, gamma)
    cpu.layer_norm_dw(*columns[:2], norms[0], big, *rows)
    cpu.batch_norm(norms[2], *columns[2:4], big, gamma, gamma, eps=1e-5)
    cpu.batch_norm_vjp(norms[3], *columns[4:], norms[0], big, *columns[2:4], gamma, eps=1e-5)
    p, m, v, flat = (a.reshape(-1) for a in (*same[4:], big))
    cpu.adam(p, m, v, flat, flat, flat, np.abs(flat), 1, 0.1, 0.9, 0.99, 1e-8, 0.0, decoupled=False)
    return [out, z, stacked, product, dw, db, loss, *same, made, *back, *norms, *rows, *columns]


@each_float
def test_bits_do_not_depend_on_threads(dtype: Any) -> None:
    cpu.set_threads(1)
    alone = everything(dtype)
    assert all(np.isfinite(a).all() for a in alone)
    for threads in (2, 3, 4, 7):
        cpu.set_threads(threads)
        assert cpu.threads() == threads
        for one, many in zip(alone, everything(dtype), strict=True):
            np.testing.assert_array_equal(many, one)


def test_callers_on_several_threads() -> None:
    cpu.set_threads(3)
    expected, results = everything(np.float32), []
    callers = [threading.Thread(target=lambda: results.append(everything(np.float32))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 4
    for result in results:
        for got, want in zip(result, expected, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    cpu.set_threads(4)
    expected = everything(np.float32)
    child = os.fork()
    if child == 0:
        same = all(np.array_equal(a, b) for a, b in zip(everything(np.float32), expected, strict=True))
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for got, want in zip(everything(np.float32), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def nets(w: int) -> list[Array]:
    """What column_nets takes, for two columns of w results each."""
    return [np.zeros(s, np.float32) for s in ((4, 2 * w), (4, 2), (2, 5), (2, 5), (2, 5, w), (2, w))]


def test_declines() -> None:
    x, y = random(4, 6, dtype=np.float32), random(6, 5, dtype=np.float32)
    out, both = fresh((4, 5), np.float32), random(8, 12, dtype=np.float32)
    read_only = fresh((4, 5), np.float32)
    read_only.flags.writeable = False
    unaligned = np.frombuffer(bytearray(4 * 24 + 1), np.uint8)[1:].view(np.float32).reshape(4, 6)
    cases = [
        cpu.matmul(out, x, y.astype(np.float64)),
        cpu.matmul(out, x.astype(np.float16), y.astype(np.float16)),
        cpu.matmul(out, x.astype(">f4"), y),
        cpu.matmul(out, both[::2, ::2], y),
        cpu.matmul(out, unaligned, y),
        cpu.matmul(read_only, x, y),
        cpu.matmul(fresh((5, 4), np.float32).T, x, y),
        cpu.matmul(out[0], x[0], y),
        cpu.matmul(x, x, random(6, 6, dtype=np.float32)),
        cpu.matmul(out, x.tolist(), y),
        cpu.activation(x, np.float32(3), act="relu", alpha=0.0),
        cpu.activation(x, x, act="nothing", alpha=0.0),
        cpu.activation(both.reshape(-1)[1:], both.reshape(-1)[:-1], act="relu", alpha=0.0),
        cpu.activation_vjp(x, x, x, act="leaky_relu", alpha=-1.0),
        cpu.softmax(np.array(1.0), np.array(1.0)),
        cpu.layer_norm(out[:, :0].copy(), y[:4, :1].copy(), y[2:, :1].copy(), y[:4, :0].copy(), y[0, :0], y[0, :0], eps=0.1),
        cpu.layer_norm(out[::2], out[:2, 0].copy(), out[:2, 1].copy(), y[:2], y[0].copy(), y[1].copy(), eps=0.1),
        cpu.batch_norm(out[0], *y[:2].copy(), y[2], y[3], y[4], eps=0.1),
        cpu.batch_norm(out, y[0].copy(), y[1].astype(np.float64), y[:4], y[4], y[5], eps=0.1),
        cpu.column_nets(*nets(3), act="sin"),
        cpu.column_nets(*nets(65), act="cos"),
        cpu.column_nets(*nets(0), act="cos"),
        cpu.softmax_cross_entropy(out[:, 0].copy(), x, np.zeros(4, np.uint8), smoothing=0.0),
        cpu.gather(out, out.astype(object), np.zeros(4, np.int64)),
        cpu.sgd(out[0], out[0], y[0], y[0], y[0], 0.1, 0.9, 0.0, nesterov=False),
    ]
    assert [i for i, answer in enumerate(cases) if answer is not NotImplemented] == []


def test_shapes_that_do_not_fit_are_named() -> None:
    a = np.zeros((4, 6), np.float32)
    with pytest.raises(ValueError, match=r"matmul: shapes do not fit: out \(4, 6\) x \(4, 6\) y \(4, 6\)"):
        cpu.matmul(a.copy(), a, a)
    with pytest.raises(ValueError, match=r"batch_norm: shapes do not fit: out \(4, 6\) mean \(4,\)"):
        cpu.batch_norm(a.copy(), a[:, 0].copy(), a[0].copy(), a, a[1].copy(), a[2].copy(), eps=1e-5)
    with pytest.raises(ValueError, match=r"layer_norm: shapes do not fit: out \(4, 6\) x \(4, 6\) gamma \(4,\)"):
        cpu.layer_norm(a.copy(), a[:, 0].copy(), a[:, 1].copy(), a, a[:, 0].copy(), a[2].copy(), eps=1e-5)
    with pytest.raises(ValueError, match=r"column_nets: shapes do not fit: out \(4, 6\) x \(4, 6\) slope \(4, 6\)"):
        cpu.column_nets(a.copy(), a, a, a, a[None], a, act="cos")
    out, w, b = (np.zeros(shape, np.float32) for shape in ((4, 5), (6, 5), 3))
    with pytest.raises(ValueError, match=r"linear: .* b \(3,\)"):
        cpu.linear(out, a, w, b, act="relu", alpha=0.0)
    with pytest.raises(ValueError, match="adagrad"):
        cpu.adagrad(a.copy(), a.copy(), a[0].copy(), a, a, 0.1, 0.1, 0.0)


def test_choices_are_checked(isa: str) -> None:
    assert cpu.isa() == isa
    with pytest.raises(ValueError, match=r"usable: .*portable"):
        cpu.set_isa("sse9")
    for n in (0, -1, 10_000):
        with pytest.raises(ValueError, match="set_threads"):
            cpu.set_threads(n)
