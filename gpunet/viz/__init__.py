"""See it: graphs with every value and gradient, curves, decision boundaries, weights as images, reports.

Nothing here is loaded by `import gpunet`; matplotlib, Jinja2 and dukpy (pip install "gpunet[plot]") where they are used.
Every picture is a matplotlib Figure, made without a screen, of a run's directory, a net, a model or an estimator.
"""

from .learning import curves
from .files import svg_of
from .picture import Picture, graph, of_tensor
from .plane import boundary, warped
from .scores import calibration, confusion, importance, residuals
from .sweeps import Sweep, sweep
from .weights import Recorder, activation_functions, histograms, parameters, templates

__all__ = [
    "Picture",
    "Recorder",
    "Sweep",
    "activation_functions",
    "boundary",
    "calibration",
    "confusion",
    "curves",
    "graph",
    "histograms",
    "importance",
    "of_tensor",
    "parameters",
    "residuals",
    "svg_of",
    "sweep",
    "templates",
    "warped",
]
