"""MLPClassifier and MLPRegressor: a table in, answers out; scikit-learn's contract, with or without scikit-learn."""

from .contract import NotFittedError
from .mlp import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "NotFittedError"]
