"""Layers and nets: modules with parameters by dotted name."""

from . import init
from .layers import (
    ELU, FC, GELU, SELU, BatchNorm1d, Dropout, Embedding, Flatten, Identity, LayerNorm, LeakyReLU, Linear, Maxout, Mish, ReLU, Residual,
    Sequential, Sigmoid, SiLU, Softplus, Tanh,
)
from .mlp import MLP
from .module import Module, build, layer
from .summary import Summary, summary

__all__ = [
    "ELU", "FC", "GELU", "MLP", "SELU", "BatchNorm1d", "Dropout", "Embedding", "Flatten", "Identity", "LayerNorm", "LeakyReLU", "Linear",
    "Maxout", "Mish", "Module", "ReLU", "Residual", "Sequential", "SiLU", "Sigmoid", "Softplus", "Summary", "Tanh", "build", "init", "layer",
    "summary",
]
