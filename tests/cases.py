"""One row per op: how it is called, what it means in plain NumPy, and inputs that stay away from its kinks.

A row's domains say how each input is drawn; a number in their place is an input without axes (float64, int64) of that
value. `smooth` is how many derivatives to check: 2, or 0 where the op has no gradient on purpose.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gpunet import ops, rng
from gpunet.engine import Tensor

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class Case(NamedTuple):
    op: str
    call: Callable[..., Any]
    meaning: Callable[..., Any]
    domains: tuple[str | int | float, ...]
    shapes: tuple[tuple[Shape, ...], ...]
    smooth: int
    tolerance: float
    note: str

    def __str__(self) -> str:
        return f"{self.op}-{self.note}" if self.note else self.op

    def draws(self, dtype: npt.DTypeLike) -> Iterator[list[Array]]:
        """The inputs, once for each set of shapes; the same ones in both dtypes but for rounding."""
        random = np.random.default_rng(zlib.crc32(str(self).encode()))
        for shapes in self.shapes:
            at = iter(shapes)
            yield [draw(d, random, next(at), dtype) if isinstance(d, str) else np.array(d) for d in self.domains]


def draw(domain: str, random: np.random.Generator, shape: Shape, dtype: npt.DTypeLike) -> Array:
    made = DOMAINS[domain](random, shape)
    return made.astype(dtype) if made.dtype.kind == "f" else made


def _apart(random: np.random.Generator, shape: Shape) -> Array:
    """Distinct multiples of 1/64 in random order: no ties, and no two that a small step would swap."""
    n = math.prod(shape)
    return (random.permutation(n) - n // 2).reshape(shape) / 64


# fmt: off
DOMAINS: dict[str, Callable[[np.random.Generator, Shape], Array]] = {
    "real":     lambda r, s: np.clip(r.normal(size=s), -3, 3),
    "positive": lambda r, s: r.uniform(0.5, 2, s),
    "nonzero":  lambda r, s: r.uniform(0.2, 2, s) * r.choice([-1.0, 1.0], s),
    "wide":     lambda r, s: r.uniform(0.2, 30, s) * r.choice([-1.0, 1.0], s),
    "grid":     lambda r, s: r.integers(-4, 5, s) / 2,
    "offgrid":  lambda r, s: r.integers(-4, 5, s) / 2 + 0.25,
    "between":  lambda r, s: r.integers(-8, 9, s) / 8 + 1 / 16,  # offgrid times grid plus this is never 0 nor 1
    "apart":    _apart,
    "bool":     lambda r, s: r.integers(0, 2, s) == 1,
    "index3":   lambda r, s: r.integers(0, 3, s),
    "index5":   lambda r, s: r.integers(0, 5, s).astype(np.int32),
}

SIZES = (0, 1, 7, 8, 9, 1023)
ONE  = (*(((n,),) for n in SIZES), ((),), ((3, 5),), ((2, 0, 3),))
TWO  = (*(((n,), (n,)) for n in SIZES), ((), ()), ((3, 1), (1, 4)), ((4,), (3, 4)), ((3, 4), ()), ((), (0,)),
        ((0, 3), (3,)), ((2, 1, 3), (4, 1)))
CUBE = (((2, 3, 4),), ((1, 1, 1),), ((5, 9, 7),))
ROWS = (((3, 4),), ((0, 3),), ((1, 1),), ((7, 9),), ((2, 3, 5),), ((3, 1023),))
# fmt: on

CASES: list[Case] = []


def row(
    op: str, call: Callable[..., Any], meaning: Callable[..., Any], domains: str | tuple[Any, ...],
    shapes: tuple[Any, ...], *, smooth: int = 2, tolerance: float = 1, note: str = "",
) -> None:
    listed = tuple(domains.split()) if isinstance(domains, str) else domains
    CASES.append(Case(op, call, meaning, listed, shapes, smooth, tolerance, note))


# ---------------------------------------------------------------- elementwise

_erf = np.vectorize(math.erf, otypes=[float])

# fmt: off
#    op           call                        plain NumPy                     domains             shapes
row("neg",        ops.neg,                    np.negative,                    "real",             ONE)
row("exp",        ops.exp,                    np.exp,                         "real",             ONE)
row("log",        ops.log,                    np.log,                         "positive",         ONE)
row("sqrt",       ops.sqrt,                   np.sqrt,                        "positive",         ONE)
row("square",     ops.square,                 np.square,                      "real",             ONE)
row("abs",        ops.abs,                    np.abs,                         "nonzero",          ONE)
row("sign",       ops.sign,                   np.sign,                        "nonzero",          ONE)
row("sin",        ops.sin,                    np.sin,                         "real",             ONE)
row("cos",        ops.cos,                    np.cos,                         "real",             ONE)
row("erf",        ops.erf,                    _erf,                           "real",             ONE)
row("erf",        ops.erf,                    _erf,                           "wide",       ONE, smooth=0, note="wide")
row("copy",       ops.copy,                   np.array,                       "real",             ONE)
row("copy",       lambda x: ops.copy(ops.transpose(x)), lambda x: x.T.copy(), "real",
    (((3, 5),), ((17, 33),), ((2, 3, 4),), ((40, 1, 19),), ((2, 3, 4, 5),), ((0, 3),)), note="transposed")
row("copy",       lambda x: ops.copy(x[::2, 1:]), lambda x: x[::2, 1:].copy(), "real", (((5, 7),), ((4, 2),)), note="cut")
row("stop_gradient", ops.stop_gradient,       lambda x: x,                    "real",             ONE, smooth=0)
row("cast",       lambda x: ops.cast(ops.cast(x, dtype=np.float64), dtype=x.dtype), lambda x: x, "real", ONE)
row("cast",       lambda x: ops.cast(x, dtype=np.int32), np.trunc,            "real",       ONE, smooth=0, note="int")
row("clip",       lambda x: ops.clip(x, low=-1, high=1), lambda x: np.clip(x, -1, 1), "offgrid",  ONE)
row("clip",       lambda x: ops.clip(x, low=0), lambda x: np.clip(x, 0, None), "offgrid",         ONE, note="low")
row("clip",       lambda x: ops.clip(x, high=0.5), lambda x: np.clip(x, None, 0.5), "nonzero",    ONE, note="high")

row("add",        ops.add,                    np.add,                         "real real",        TWO)
row("sub",        ops.sub,                    np.subtract,                    "real real",        TWO)
row("mul",        ops.mul,                    np.multiply,                    "real real",        TWO)
row("div",        ops.div,                    np.divide,                      "real nonzero",     TWO)
row("pow",        ops.pow,                    np.power,                       "positive real",    TWO)
row("pow",        lambda x: ops.pow(x, 3),    lambda x: x**3,                 "real",             ONE, note="cube")
row("pow",        lambda x: ops.pow(x, -2.0), lambda x: 1 / x**2,             "nonzero",          ONE, note="inverse")
row("pow",        lambda x: ops.pow(x, 0),    np.ones_like,                   "real",             ONE, note="zero")
row("mod",        ops.mod,                    np.remainder,                   "offgrid positive", TWO, smooth=0)
row("maximum",    ops.maximum,                np.maximum,                     "grid offgrid",     TWO)
row("minimum",    ops.minimum,                np.minimum,                     "grid offgrid",     TWO)
row("where",      ops.where,                  np.where, "bool real real", tuple((y, x, y) for x, y in TWO))
row("eq",         ops.eq,                     np.equal,                       "grid grid",        TWO, smooth=0)
row("ne",         ops.ne,                     np.not_equal,                   "grid grid",        TWO, smooth=0)
row("lt",         ops.lt,                     np.less,                        "grid grid",        TWO, smooth=0)
row("le",         ops.le,                     np.less_equal,                  "grid grid",        TWO, smooth=0)
row("gt",         ops.gt,                     np.greater,                     "grid grid",        TWO, smooth=0)
row("ge",         ops.ge,                     np.greater_equal,               "grid grid",        TWO, smooth=0)

# ---------------------------------------------------------------- reductions

for axis, keep in ((None, False), (0, False), (-1, True), ((0, 2), False), ((1, -1), True)):
    s: dict[str, Any] = {"axis": axis, "keepdims": keep}
    note = f"{axis}{'-kept' * keep}"
    row("sum",        lambda x, s=s: ops.sum(x, **s),
                      lambda x, s=s: np.sum(x, **s), "real", CUBE, tolerance=10, note=note)
    row("mean",       lambda x, s=s: ops.mean(x, **s), lambda x, s=s: np.mean(x, **s), "real",        CUBE, note=note)
    row("max",        lambda x, s=s: ops.max(x, **s), lambda x, s=s: np.max(x, **s), "apart",         CUBE, note=note)
    row("min",        lambda x, s=s: ops.min(x, **s), lambda x, s=s: np.min(x, **s), "apart",         CUBE, note=note)
    row("var",        lambda x, s=s: ops.var(x, **s), lambda x, s=s: np.var(x, **s), "real",          CUBE, note=note)
    row("logsumexp",  lambda x, s=s: ops.logsumexp(x, **s),
                      lambda x, s=s: np.log(np.sum(np.exp(x), **s)), "real", CUBE, note=note)
row("sum",        lambda x: ops.sum(x, axis=-1),
                  lambda x: np.sum(x, -1), "real", (*ROWS, ((2, 0),)), tolerance=20, note="rows")
row("mean",       lambda x: ops.mean(x, axis=-1), lambda x: np.mean(x, -1),   "real",             ROWS, note="rows")
row("max",        lambda x: ops.max(x, axis=-1), lambda x: np.max(x, -1),     "apart",            ROWS, note="rows")
row("min",        lambda x: ops.min(x, axis=-1), lambda x: np.min(x, -1),     "apart",            ROWS, note="rows")
row("argmax",     lambda x: ops.argmax(x, axis=-1), lambda x: np.argmax(x, -1), "apart",          ROWS, smooth=0)
row("argmax",     lambda x: ops.argmax(x, axis=0, keepdims=True),
                  lambda x: np.argmax(x, 0, keepdims=True), "grid", CUBE, smooth=0, note="ties")
row("argmax",     ops.argmax,                 np.argmax,                      "apart",      CUBE, smooth=0, note="all")
row("sum_to",     lambda x: ops.sum_to(x, shape=(3, 1)),
                  lambda x: x.sum((0, 2))[:, None], "real", (((2, 3, 4),), ((0, 3, 4),), ((5, 3, 1),)), tolerance=10)

def _softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)

row("softmax",    ops.softmax,                _softmax,                       "real",             ROWS)
row("softmax",    lambda x: ops.softmax(x, axis=1), lambda x: _softmax(x, 1), "real",             CUBE, note="axis1")
row("log_softmax", ops.log_softmax,           lambda x: np.log(_softmax(x)),  "real",             ROWS, tolerance=3)
row("log_softmax", lambda x: ops.log_softmax(x, axis=0),
                   lambda x: np.log(_softmax(x, 0)), "real", CUBE, tolerance=3, note="axis0")

# ---------------------------------------------------------------- shapes, pieces, rows

row("reshape",    lambda x: ops.reshape(x, shape=(4, -1)),
                  lambda x: x.reshape(4, -1), "real", (((2, 6),), ((4, 1),), ((2, 3, 4),)))
row("transpose",  ops.transpose,              np.transpose,                   "real",             (*ROWS, ((5,),)))
row("transpose",  lambda x: ops.transpose(x, axes=(1, -1, 0)),
                  lambda x: x.transpose(1, 2, 0), "real", CUBE, note="axes")
row("swap_last",  ops.swap_last,              lambda x: np.swapaxes(x, -1, -2), "real",           ROWS)
row("broadcast_to", lambda x: ops.broadcast_to(x, shape=(2, 3, 4)),
                    lambda x: np.broadcast_to(x, (2, 3, 4)),
                    "real", (((),), ((4,),), ((3, 1),), ((1, 1, 4),), ((2, 3, 4),)))
row("slice",      lambda x: x[1:, ::-2, None, 0], lambda x: x[1:, ::-2, None, 0], "real",         CUBE)
row("slice",      lambda x: x[[1, 0, 1]],     lambda x: x[[1, 0, 1]],         "real", (((2, 3, 4),),), note="rows")
row("concat",     lambda x, y: ops.concat([x, y, x], axis=1),
                  lambda x, y: np.concatenate([x, y, x], 1),
                  "real real", (((3, 4), (3, 2)), ((0, 4), (0, 1)), ((2, 0), (2, 3)), ((2, 1, 3), (2, 2, 3))))
row("stack",      lambda x, y: ops.stack([x, y], axis=-1),
                  lambda x, y: np.stack([x, y], -1), "real real", (((3, 4), (3, 4)), ((), ()), ((0,), (0,))))
row("split",      lambda x: ops.split(x, [1, 0, 3], axis=1),
                  lambda x: np.split(x, [1, 1], 1), "real", (((3, 4),), ((0, 4),)))
row("split",      lambda x: ops.split(x, 2),  lambda x: np.split(x, 2), "real", (((4, 3),), ((0,),)), note="equal")
row("pad",        lambda x: ops.pad(x, widths=((1, 2), (0, 3)), value=-0.5),
                  lambda x: np.pad(x, ((1, 2), (0, 3)), constant_values=-0.5),
                  "real", (((3, 4),), ((0, 4),), ((1, 1),)))
row("pack",       lambda x, y, z: ops.pack(x, y, z),
                  lambda *xs: np.concatenate([x.ravel() for x in xs]),
                  "real real real", (((3, 4), (), (5,)), ((0, 2), (1,), (1, 1))))
row("unpack",     lambda x: ops.unpack(x, [(2, 3), (), (0, 4), (5,)]),
                  lambda x: (x[:6].reshape(2, 3), x[6], np.zeros((0, 4)), x[7:]), "real", (((12,),),))
row("gather",     ops.gather,
                  lambda x, t: x[t],
                  "real index3", (((3,), (5,)), ((3, 4), (2, 7)), ((3, 4), ()), ((3, 4), (0,)), ((3, 2, 2), (1023,))))
row("scatter_add", lambda g, t: ops.scatter_add(g, t, n=6),
                   lambda g, t: _scattered(g, t, 6),
                   "real index5",
                   (((5,), (5,)), ((9, 4), (9,)), ((2, 7, 3), (2, 7)), ((0, 4), (0,)), ((1023, 2), (1023,))),
                    tolerance=40)
row("pick",       ops.pick,
                  lambda x, t: np.take_along_axis(x, t[..., None], -1)[..., 0],
                  "real index3", (((5, 3), (5,)), ((0, 3), (0,)), ((2, 4, 3), (2, 4)), ((3,), ())))
row("one_hot",    lambda t: ops.one_hot(t, n=5, dtype=np.float64),
                  lambda t: np.eye(5)[t], ("index3",), (((7,),), ((0,),), ((2, 3),), ((),)), smooth=0)
row("gather_two", lambda x, y, order, start: ops.gather_two(x, y, order, start, size=4),
                  lambda x, y, order, start: (x[order[1:5]], y[order[1:5]]),
                  ("real", "real", "index3", 1), (((3, 4), (3,), (6,)), ((5, 2, 3), (3, 0), (5,)), ((3, 784), (3, 1), (7,))),
                  smooth=0)
row("csr_rows",   lambda v, t: ops.csr_rows(v, *_csr(v), t, width=6, most=4),
                  lambda v, t: _dense(v)[t], "real index3", (((7,), (5,)), ((7,), (0,)), ((7,), (1023,))), smooth=0)
row("slice_rows", lambda x, start: ops.slice_rows(x, start, size=3),
                  lambda x, start: x[2:5], ("real", 2), (((9, 4),), ((5,),)), smooth=0)

CSR_COLUMNS, CSR_STARTS = [5, 0, 2, 1, 3, 4, 0], [0, 1, 1, 5]  # a row of one, an empty one, a full one; 2 beyond

def _csr(v: Any) -> list[Tensor]:
    return [Tensor(v.device.upload(np.array(a)), v.device) for a in (CSR_COLUMNS, CSR_STARTS)]

def _dense(v: Array) -> Array:
    out = np.zeros((3, 6))
    for i, (begin, end) in enumerate(zip(CSR_STARTS, CSR_STARTS[1:])):
        out[i, CSR_COLUMNS[begin:end]] = v[begin:end]
    return out

def _scattered(g: Array, t: Array, n: int) -> Array:
    out = np.zeros((n, *g.shape[t.ndim:]))
    np.add.at(out, t, g)
    return out

# ---------------------------------------------------------------- products

PRODUCTS = (
    ((3, 4), (4, 5)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)),
    ((2, 3, 4), (4,)), ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((3, 4), (4, 0)), ((1, 1), (1, 1)), ((7, 9), (9, 8)),
    ((9, 1023), (1023, 7)), ((65, 33), (33, 17)),
)
row("matmul",     ops.matmul,                 np.matmul,                      "real real",  PRODUCTS, tolerance=60)

# ---------------------------------------------------------------- activations: value and derivative

_SCALE, _ALPHA = 1.0507009873554805, 1.6732632423543772

def _logistic(x: Array) -> Array: return 1 / (1 + np.exp(-x))
def _gauss(x: Array) -> Array:    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
def _below(x: Array) -> Array:    return (1 + _erf(x / math.sqrt(2))) / 2
def _mixed(x: Array) -> Array:    return np.tanh(np.log1p(np.exp(x)))

FORMULAS: dict[str, tuple[float, Callable[[Array], Array], Callable[[Array], Array]]] = {
    #             alpha value                                        derivative
    "identity":   (0.0,  lambda x: x,                                 np.ones_like),
    "relu":       (0.0,  lambda x: np.maximum(x, 0),                  lambda x: (x > 0) * 1.0),
    "leaky_relu": (0.01, lambda x: np.where(x > 0, x, 0.01 * x),      lambda x: np.where(x > 0, 1, 0.01)),
    "elu":        (1.0,  lambda x: np.where(x > 0, x, np.exp(x) - 1), lambda x: np.where(x > 0, 1, np.exp(x))),
    "selu":       (0.0,  lambda x: _SCALE * np.where(x > 0, x, _ALPHA * (np.exp(x) - 1)),
                                                  lambda x: _SCALE * np.where(x > 0, 1, _ALPHA * np.exp(x))),
    "sigmoid":    (0.0,  _logistic,                                   lambda x: _logistic(x) * _logistic(-x)),
    "tanh":       (0.0,  np.tanh,                                     lambda x: 1 - np.tanh(x) ** 2),
    "softplus":   (0.0,  lambda x: np.log1p(np.exp(x)),               _logistic),
    "gelu":       (0.0,  lambda x: x * _below(x),                     lambda x: _below(x) + x * _gauss(x)),
    "silu":       (0.0,  lambda x: x * _logistic(x),                  lambda x: _logistic(x) * (1 + x * _logistic(-x))),
    "mish":       (0.0,  lambda x: x * _mixed(x),
                                                  lambda x: _mixed(x) + x * _logistic(x) * (1 - _mixed(x) ** 2)),
}
LAYERS = (((3, 4), (4, 5), (5,)), ((0, 4), (4, 5), (5,)), ((1, 1), (1, 1), (1,)), ((7, 9), (9, 8), (8,)),
          ((2, 3, 4), (2, 4, 5), (2, 5)), ((9, 33), (33, 17), (17,)))
BACK = (((3, 4), (4, 5), (3, 5)), ((0, 4), (4, 5), (0, 5)), ((1, 1), (1, 1), (1, 1)), ((1, 9), (9, 40), (1, 40)),
        ((2, 3, 4), (2, 4, 5), (2, 3, 5)), ((33, 17), (17, 52), (33, 52)))


TABLES = (((3, 4), (6,), (4, 5), (5,)), ((3, 2), (0,), (2, 5), (5,)), ((3, 17), (33,), (17, 52), (52,)))


def _affine(x: Array, w: Array, b: Array) -> Array:
    return x @ w + (b[:, None] if b.ndim == 2 else b)


def _saved(x: Tensor, act: str, alpha: float) -> Tensor:
    return x if ops.ACTIVATIONS[act].needs == "input" else ops.activate(x, act, alpha)


row("linear_dw", ops.linear_dw, lambda x, g: (x.swapaxes(-1, -2) @ g, g.sum(-2)), "real real",
    (((4, 3), (4, 5)), ((0, 3), (0, 5)), ((1, 1), (1, 1)), ((2, 3, 4), (2, 3, 5)), ((33, 17), (33, 52))), tolerance=60)

row("linear_rows", lambda x, t, w, b: ops.linear_rows(x, t, w, b, act="tanh", alpha=0.0),
    lambda x, t, w, b: np.tanh(x[t] @ w + b), "real index3 real real", TABLES, tolerance=60)
row("linear_keep_rows", lambda x, t, w, b: ops.linear_keep_rows(x, t, w, b, act="silu", alpha=0.0),
    lambda x, t, w, b: (FORMULAS["silu"][1](x[t] @ w + b), x[t] @ w + b), "real index3 real real", TABLES, tolerance=60)
row("linear_dw_rows", ops.linear_dw_rows, lambda x, t, g: (x[t].T @ g, g.sum(0)), "real index3 real",
    (((3, 4), (6,), (6, 5)), ((3, 2), (0,), (0, 5)), ((3, 1), (1,), (1, 1)), ((3, 17), (33,), (33, 52))), tolerance=60)

row("layers", lambda *xs: ops.layers(*xs, acts=("tanh", "gelu", "identity"), alphas=(0.0, 0.0, 0.0)),
    lambda x, w, b, u, c, v, d: FORMULAS["gelu"][1](np.tanh(x @ w + b) @ u + c) @ v + d, "real real real real real real real",
    tuple(((n, 3), (3, 33), (33,), (33, 8), (8,), (8, 5), (5,)) for n in (0, 1, 7, 600)), smooth=0, tolerance=60)

for name, (alpha, value, derivative) in FORMULAS.items():
    c: dict[str, Any] = {"act": name, "alpha": alpha}
    row("activate",   lambda x, c=c: ops.activate(x, c["act"]),
                      lambda x, f=value: f(x), "nonzero", ONE, tolerance=2, note=name)
    row("linear",     lambda *xwb, c=c: ops.linear(*xwb, act=c["act"]),
                      lambda *xwb, f=value: f(_affine(*xwb)), "nonzero positive real", LAYERS, tolerance=60, note=name)
    row("activation_vjp", lambda g, x, c=c: ops.activation_vjp(g, _saved(x, **c), **c),
                          lambda g, x, d=derivative: g * d(x),
                          "real nonzero", (*(((n,), (n,)) for n in SIZES), ((3, 5), (3, 5))), tolerance=4, note=name)
    row("linear_dz", lambda g, w, x, c=c: ops.linear_dz(g, w, _saved(x, **c), **c),
                     lambda g, w, x, d=derivative: (g @ w) * d(x), "real real nonzero", BACK, tolerance=60, note=name)
    if ops.ACTIVATIONS[name].needs == "output":
        row("activation", lambda x, c=c: ops.activation(x, **c),
                          lambda x, f=value: f(x), "nonzero", ONE, tolerance=2, note=name)
    else:
        row("activation_keep", lambda x, c=c: ops.activation_keep(x, **c),
                               lambda x, f=value: f(x), "nonzero", ONE, tolerance=2, note=name)
        row("linear_keep", lambda *xwb, c=c: ops.linear_keep(*xwb, **c),
                           lambda *xwb, f=value: (f(_affine(*xwb)), _affine(*xwb)),
                           "nonzero positive real", LAYERS, tolerance=60, note=name)
    if name not in ("identity", "leaky_relu", "elu"):  # so far out, a derivative is smaller than its rounding
        row(name,         getattr(ops, name),
                          lambda x, f=value: f(x), "wide", ONE, smooth=0, tolerance=4, note="wide")
row("leaky_relu", lambda x: ops.leaky_relu(x, alpha=0.3), lambda x: np.where(x > 0, x, 0.3 * x), "nonzero", ONE)
row("elu",        lambda x: ops.elu(x, alpha=0.7), lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1)), "nonzero", ONE)
row("linear",     lambda x, w: ops.linear(x, w),
                  np.matmul,
                  "real real", (((3, 4), (4, 5)), ((4,), (4, 5)), ((2, 3, 4), (4, 5))), tolerance=10, note="no-bias")
row("linear",     lambda x, w, b: ops.linear(x, w, b, act="tanh"),
                  lambda x, w, b: np.tanh(x @ w + b),
                  "real real real", (((4,), (4, 5), (5,)), ((2, 3, 4), (4, 5), (5,))), tolerance=20, note="axes")

# ---------------------------------------------------------------- classifiers, normalisation, dropout

def _entropy(z: Array, t: Array, e: float = 0.0) -> Array:
    return -(_target(z, t, e) * np.log(_softmax(z))).sum(-1)

def _target(z: Array, t: Array, e: float) -> Array:
    return (1 - e) * np.eye(z.shape[-1])[t] + e / z.shape[-1]

def _columns(x: Array, slope: Array, start: Array, weight: Array, bias: Array, act: str) -> Array:
    z = x[:, :, None] * slope + start
    f = np.cos(z) if act == "cos" else np.clip(z, 0, 1)
    return (np.einsum("nkm,kmw->nkw", f, weight) + bias).reshape(len(x), -1)

def _columns_vjp(g: Array, x: Array, slope: Array, start: Array, weight: Array, act: str) -> Any:
    z, g = x[:, :, None] * slope + start, g.reshape(len(x), *weight.shape[::2])
    f, steep = (np.cos(z), -np.sin(z)) if act == "cos" else (np.clip(z, 0, 1), (z >= 0) & (z <= 1))
    dz = np.einsum("nkw,kmw->nkm", g, weight) * steep
    return np.einsum("nkm,nk->km", dz, x), dz.sum(0), np.einsum("nkm,nkw->kmw", f, g), g.sum(0)

def _normalized(x: Array, gamma: Array, beta: Array, axis: int) -> Array:
    return gamma * (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-3) + beta

def _kept(x: Array, rate: float = 0.4) -> Array:
    return rng.kept(x.size, rate, seed=7, stream=3, step=5).reshape(x.shape)

def _normalized_vjp(g: Array, x: Array, m: Array, r: Array, gamma: Any, axis: int) -> Any:
    normal, h = (x - m) * r, g * gamma
    rows = tuple(range(x.ndim - 1))
    dx = r * (h - h.mean(axis, keepdims=True) - normal * (h * normal).mean(axis, keepdims=True))
    return dx, (g * normal).sum(rows), g.sum(rows)

def _dropped(x: Array) -> Array:
    return np.where(_kept(x), x / 0.6, 0)

LABELLED = (((4, 3), (4,)), ((0, 3), (0,)), ((1, 3), (1,)), ((9, 5), (9,)), ((65, 1023), (65,)))
WEIGHTED = tuple((t, z, t) for z, t in LABELLED)
for e in (0.0, 0.1):
    row("softmax_cross_entropy", lambda z, t, e=e: ops.softmax_cross_entropy(z, t, smoothing=e),
                                 lambda z, t, e=e: _entropy(z, t, e), "real index3", LABELLED, tolerance=4, note=f"{e}")
    row("softmax_cross_entropy_vjp", lambda g, z, t, e=e: ops.softmax_cross_entropy_vjp(g, z, t, smoothing=e),
                                     lambda g, z, t, e=e: (_softmax(z) - _target(z, t, e)) * g[:, None],
                                     "real real index3", WEIGHTED, tolerance=4, note=f"{e}")
    row("softmax_cross_entropy_both", lambda g, z, t, e=e: ops.softmax_cross_entropy_both(g, z, t, smoothing=e),
                                      lambda g, z, t, e=e: (_entropy(z, t, e), (_softmax(z) - _target(z, t, e)) * g[:, None]),
                                      "real real index3", WEIGHTED, tolerance=4, note=f"{e}")
row("batch_norm", lambda *xs: ops.batch_norm(*xs, eps=1e-3),
                  lambda x, *gb: (_normalized(x, *gb, 0), x.mean(0), x.var(0)),
                  "real real real", (((5, 3), (3,), (3,)), ((65, 7), (7,), (7,)), ((300, 85), (85,), (85,))), tolerance=10)
row("batch_norm_vjp", lambda *xs: ops.batch_norm_vjp(*xs, eps=1e-3),
                  lambda g, x, m, v, gamma: _normalized_vjp(g, x, m, 1 / np.sqrt(v + 1e-3), gamma, 0),
                  "real real real positive real",
                  (((5, 3), (5, 3), (3,), (3,), (3,)), ((300, 85), (300, 85), (85,), (85,), (85,))), tolerance=20)
row("layer_norm", lambda *xs: ops.layer_norm(*xs, eps=1e-3),
                  lambda *xs: _normalized(*xs, -1),
                  "real real real", (((5, 3), (3,), (3,)), ((0, 3), (3,), (3,)), ((2, 4, 9), (9,), (9,)), ((3, 1023), (1023,), (1023,))),
                  tolerance=10)
row("layer_norm_dx", ops.layer_norm_dx, lambda *xs: _normalized_vjp(*xs, -1)[0],
                  "real real real positive real",
                  (((5, 3), (5, 3), (5, 1), (5, 1), (3,)), ((0, 3), (0, 3), (0, 1), (0, 1), (3,)),
                   ((2, 4, 85), (2, 4, 85), (2, 4, 1), (2, 4, 1), (85,))), tolerance=20)
row("layer_norm_dw", ops.layer_norm_dw, lambda g, x, m, r: _normalized_vjp(g, x, m, r, 1.0, -1)[1:],
                  "real real real positive",
                  (((5, 3), (5, 3), (5, 1), (5, 1)), ((0, 3), (0, 3), (0, 1), (0, 1)), ((1100, 85), (1100, 85), (1100, 1), (1100, 1)),
                   ((2, 4, 9), (2, 4, 9), (2, 4, 1), (2, 4, 1))), tolerance=20)
NETS = (((5, 3), (3, 4), (3, 4), (3, 4, 2), (3, 2)), ((1, 1), (1, 1), (1, 1), (1, 1, 1), (1, 1)),
        ((300, 3), (3, 5), (3, 5), (3, 5, 3), (3, 3)), ((9, 25), (25, 2), (25, 2), (25, 2, 3), (25, 3)),
        ((7, 2), (2, 3), (2, 3), (2, 3, 70), (2, 70)))
for act, drawn in (("cos", "real real real"), ("ramp", "offgrid grid between")):
    row("column_nets", lambda *xs, act=act: ops.column_nets(*xs, act=act), lambda *xs, act=act: _columns(*xs, act),
                       f"{drawn} real real", NETS, tolerance=20, note=act)
    row("column_nets_vjp", lambda *xs, act=act: ops.column_nets_vjp(*xs, act=act), lambda *xs, act=act: _columns_vjp(*xs, act),
                       f"real {drawn} real", tuple(((x[0], x[1] * b[1]), x, *more) for x, *more, b in NETS),
                       tolerance=100, note=act)
row("dropout",    lambda x: ops.dropout(x, 0.4, 5, seed=7, stream=3), _dropped, "real",           ONE)
row("dropout_keep", lambda x, rate, step: ops.dropout_keep(rate, step, shape=x.shape, seed=7, stream=3),
                    lambda x, rate, step: _kept(x, rate), ("real", 0.4, 5), ONE, smooth=0)

# ---------------------------------------------------------------- optimizer updates, as their papers have them

def _sgd(p: Array, g: Array, m: Array, lr: float, momentum: float, decay: float, nesterov: bool) -> Any:
    g = g + decay * p
    m = momentum * m + g
    return p - lr * (g + momentum * m if nesterov else m), m

def _adagrad(p: Array, g: Array, v: Array, lr: float, eps: float, decay: float) -> Any:
    v = v + (g + decay * p) ** 2
    return p - lr * (g + decay * p) / (np.sqrt(v) + eps), v

def _rmsprop(
    p: Array, g: Array, v: Array, m: Array, lr: float, rho: float, eps: float, momentum: float, decay: float
) -> Any:
    g = g + decay * p
    v = rho * v + (1 - rho) * g * g
    m = momentum * m + g / (np.sqrt(v) + eps)
    return p - lr * m, v, m

def _adam(
    p: Array, g: Array, m: Array, v: Array, t: int, lr: float, b1: float, b2: float, eps: float, decay: float,
    decoupled: bool,
) -> Any:
    p, g = (p - lr * decay * p, g) if decoupled else (p, g + decay * p)
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    return p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps), m, v

def _nadam(
    p: Array, g: Array, m: Array, v: Array, mu: float, t: int, lr: float, b1: float, b2: float, eps: float,
    decay: float,
    momentum_decay: float, decoupled: bool,
) -> Any:
    p, g = (p - lr * decay * p, g) if decoupled else (p, g + decay * p)
    now, then = (b1 * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
    m, v, mu = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g, mu * now
    step = (1 - now) * g / (1 - mu) + then * m / (1 - mu * then)
    return p - lr * step / (np.sqrt(v / (1 - b2**t)) + eps), m, v, mu

def _lion(p: Array, g: Array, m: Array, lr: float, b1: float, b2: float, decay: float) -> Any:
    return p * (1 - lr * decay) - lr * np.sign(b1 * m + (1 - b1) * g), b2 * m + (1 - b2) * g

THREE, FOUR = tuple(((n,),) * 3 for n in SIZES), tuple(((n,),) * 4 for n in SIZES)
for flag in (False, True):
    note = f"{flag}"
    row("sgd",        lambda *a, f=flag: ops.sgd(*a, nesterov=f),
                      lambda *a, f=flag: _sgd(*a, f),
                      ("real", "real", "real", 0.1, 0.9, 0.01), THREE, tolerance=4, note=note)
    row("adam",       lambda *a, f=flag: ops.adam(*a, decoupled=f),
                      lambda *a, f=flag: _adam(*a, f),
                      ("real", "real", "real", "positive", 3, 0.1, 0.8, 0.9, 1e-3, 0.01), FOUR, tolerance=8, note=note)
    row("nadam",      lambda *a, f=flag: ops.nadam(*a, decoupled=f),
                      lambda *a, f=flag: _nadam(*a, f),
                      ("real", "real", "real", "positive", 0.7, 3, 0.1, 0.8, 0.9, 1e-3, 0.01, 0.004), FOUR,
                      tolerance=8, note=note)
row("adagrad",    ops.adagrad, _adagrad, ("real", "real", "positive", 0.1, 1e-3, 0.01), THREE, tolerance=4)
row("rmsprop",    ops.rmsprop,
                  _rmsprop, ("real", "real", "positive", "real", 0.1, 0.9, 1e-3, 0.5, 0.01), FOUR, tolerance=4)
row("lion",       ops.lion, _lion, ("real", "nonzero", "real", 0.1, 0.9, 0.99, 0.01), THREE, tolerance=4)
# fmt: on
