"""From the columns of a table to what a net takes, and back to answers; fitted on training rows, kept with the model."""

from .encoder import ArrayEncoder, Encoder, encoder_from_config
from .robust import RobustEncoder
from .sparse import SparseEncoder
from .target import Target

__all__ = ["ArrayEncoder", "Encoder", "RobustEncoder", "SparseEncoder", "Target", "encoder_from_config"]
