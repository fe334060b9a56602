"""The C++ kernels: kernel(*outs, *ins, **settings) writes into outs; NotImplemented where a kernel declines.

A kernel declines element types other than all-float32 or all-float64, arrays that are not contiguous, aligned and of
native byte order, and ranks it does not know. Shapes that do not fit are a ValueError, rows out of range an IndexError.
"""

from types import NotImplementedType

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]
_Rows = npt.NDArray[np.int32] | npt.NDArray[np.int64]
_Scalar = float | npt.NDArray[np.float64]  # a Python float or a 0-d array
_Step = int | npt.NDArray[np.int64]
_Done = NotImplementedType | None

def isas() -> list[str]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def threads() -> int: ...
def set_threads(n: int) -> None: ...
def version() -> str: ...
def exp(out: _Array, x: _Array) -> _Done: ...
def log(out: _Array, x: _Array) -> _Done: ...
def erf(out: _Array, x: _Array) -> _Done: ...
def activation(out: _Array, x: _Array, *, act: str, alpha: float) -> _Done: ...
def activation_vjp(out: _Array, g: _Array, s: _Array, *, act: str, alpha: float) -> _Done: ...
def linear(out: _Array, x: _Array, w: _Array, b: _Array, *, act: str, alpha: float) -> _Done: ...
def linear_keep(out: _Array, z: _Array, x: _Array, w: _Array, b: _Array, *, act: str, alpha: float) -> _Done: ...
def linear_vjp(dz: _Array, db: _Array, g: _Array, s: _Array, *, act: str, alpha: float) -> _Done: ...
def matmul(out: _Array, x: _Array, y: _Array) -> _Done: ...
def softmax(out: _Array, x: _Array) -> _Done: ...
def log_softmax(out: _Array, x: _Array) -> _Done: ...
def softmax_cross_entropy(out: _Array, z: _Array, t: _Rows, *, smoothing: float) -> _Done: ...
def softmax_cross_entropy_vjp(out: _Array, g: _Array, z: _Array, t: _Rows, *, smoothing: float) -> _Done: ...
def dropout(out: _Array, x: _Array, rate: _Scalar, step: _Step, *, seed: int, stream: int) -> _Done: ...
def gather(out: npt.NDArray, x: npt.NDArray, rows: _Rows) -> _Done: ...
def scatter_add(out: _Array, g: _Array, rows: _Rows) -> _Done: ...
def sgd(
    p1: _Array,
    m1: _Array,
    p: _Array,
    g: _Array,
    m: _Array,
    lr: _Scalar,
    momentum: _Scalar,
    decay: _Scalar,
    *,
    nesterov: bool,
) -> _Done: ...
def adagrad(
    p1: _Array, v1: _Array, p: _Array, g: _Array, v: _Array, lr: _Scalar, eps: _Scalar, decay: _Scalar
) -> _Done: ...
def rmsprop(
    p1: _Array,
    v1: _Array,
    m1: _Array,
    p: _Array,
    g: _Array,
    v: _Array,
    m: _Array,
    lr: _Scalar,
    rho: _Scalar,
    eps: _Scalar,
    momentum: _Scalar,
    decay: _Scalar,
) -> _Done: ...
def adam(
    p1: _Array,
    m1: _Array,
    v1: _Array,
    p: _Array,
    g: _Array,
    m: _Array,
    v: _Array,
    t: _Step,
    lr: _Scalar,
    beta1: _Scalar,
    beta2: _Scalar,
    eps: _Scalar,
    decay: _Scalar,
    *,
    decoupled: bool,
) -> _Done: ...
def nadam(
    p1: _Array,
    m1: _Array,
    v1: _Array,
    mu1: npt.NDArray[np.float64],
    p: _Array,
    g: _Array,
    m: _Array,
    v: _Array,
    mu: _Scalar,
    t: _Step,
    lr: _Scalar,
    beta1: _Scalar,
    beta2: _Scalar,
    eps: _Scalar,
    decay: _Scalar,
    momentum_decay: _Scalar,
    *,
    decoupled: bool,
) -> _Done: ...
def lion(
    p1: _Array, m1: _Array, p: _Array, g: _Array, m: _Array, lr: _Scalar, beta1: _Scalar, beta2: _Scalar, decay: _Scalar
) -> _Done: ...
