"""See it: graphs with every value and gradient, curves, decision boundaries, weights as images, reports.

Nothing here is loaded by `import gpunet`; matplotlib, Jinja2 and dukpy (pip install "gpunet[plot]") where they are used.
"""

from .picture import Picture, graph, of_tensor

__all__ = ["Picture", "graph", "of_tensor"]
