"""The heart: nodes, tensors, ops and the walk back. Ops themselves are one floor up, in gpunet.ops."""

from .node import Edge, Node, Recorder, Spec, mode, no_grad, set_mode
from .op import Composite, Op, composite, op
from .tape import grad, walk
from .tensor import DEFAULT_DTYPE, Tensor, tensor

__all__ = [
    "DEFAULT_DTYPE",
    "Composite",
    "Edge",
    "Node",
    "Op",
    "Recorder",
    "Spec",
    "Tensor",
    "composite",
    "grad",
    "mode",
    "no_grad",
    "op",
    "set_mode",
    "tensor",
    "walk",
]
