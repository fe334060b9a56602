"""What one can ask of a graph: today whether its gradients are right, and for a whole Jacobian."""

from .check import GradientError, check_grads, jacobian

__all__ = ["GradientError", "check_grads", "jacobian"]
