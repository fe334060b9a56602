"""What can be differentiated: value and gradient side by side. Importing this hangs the operators on Tensor."""

# fmt: off
# isort: skip_file
from . import methods  # noqa: F401 it hangs them
from .activations import (
    ACTIVATIONS, Activation, activate, activation, activation_keep, activation_vjp, elu, gelu, leaky_relu, mish,
    relu, selu, sigmoid, silu, softplus, tanh,
)
from .classify import softmax_cross_entropy, softmax_cross_entropy_both, softmax_cross_entropy_vjp
from .columns import column_nets, column_nets_vjp
from .elementwise import (
    abs, add, cast, clip, copy, cos, div, eq, erf, exp, ge, gt, le, log, lt, maximum, minimum, mod, mul, ne, neg,
    pow, sign, sin, sqrt, square, stop_gradient, sub, where,
)
from .layout import (
    broadcast_to, concat, csr_rows, gather, gather_two, one_hot, pack, pad, pick, reshape, scatter_add, slice, slice_rows,
    split, stack,
    swap_last, transpose, unpack,
)
from .linear import (
    layers, linear, linear_dw, linear_dw_rows, linear_dz, linear_keep, linear_keep_rows, linear_rows, matmul,
)
from .normalize import batch_norm, batch_norm_vjp, layer_norm, layer_norm_dw, layer_norm_dx
from .random import dropout, dropout_keep
from .reduce import argmax, log_softmax, logsumexp, max, mean, min, softmax, sum, sum_to, var
from .rules import same
from .updates import adagrad, adam, lion, nadam, rmsprop, sgd

__all__ = [
    "ACTIVATIONS", "Activation", "abs", "activate", "activation", "activation_keep", "activation_vjp", "adagrad",
    "adam", "add", "argmax", "batch_norm", "batch_norm_vjp", "broadcast_to", "cast", "clip", "column_nets",
    "column_nets_vjp", "concat", "copy", "cos", "csr_rows", "div",
    "dropout", "dropout_keep", "elu", "eq", "erf", "exp", "gather", "gather_two", "ge", "gelu", "gt", "layer_norm", "layer_norm_dw",
    "layer_norm_dx", "layers", "le", "leaky_relu", "linear",
    "linear_dw", "linear_dw_rows", "linear_dz", "linear_keep", "linear_keep_rows", "linear_rows",
    "lion", "log", "log_softmax", "logsumexp", "lt", "matmul", "max", "maximum",
    "mean", "min", "minimum", "mish", "mod", "mul", "nadam", "ne", "neg", "one_hot", "pack", "pad", "pick", "pow",
    "relu", "reshape", "rmsprop", "same", "scatter_add", "selu", "sgd", "sigmoid", "sign", "silu", "sin", "slice",
    "slice_rows", "softmax", "softmax_cross_entropy", "softmax_cross_entropy_both",
    "softmax_cross_entropy_vjp", "softplus", "split", "sqrt",
    "square", "stack", "stop_gradient", "sub", "sum", "sum_to", "swap_last", "tanh", "transpose", "unpack", "var",
    "where",
]
