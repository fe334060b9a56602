"""The compiler: trace a function, fuse, chain, plan its memory, run it as one program; and whether its gradients are right."""

from .check import GradientError, check_grads, jacobian
from .compile import Compiled, compile
from .program import Program
from .trace import Graph, trace

__all__ = ["Compiled", "GradientError", "Graph", "Program", "check_grads", "compile", "jacobian", "trace"]
