"""Training: the loop, what watches it, and the model it leaves."""

from .callbacks import BestWeights, Callback
from .checkpoint import Checkpoint
from .history import History
from .trainer import Trainer

__all__ = ["BestWeights", "Callback", "Checkpoint", "History", "Trainer"]
