"""Graph -> Graph: a training step's first layer reads the rows of its batch from the table, and nobody copies them first."""

from __future__ import annotations

from .. import ops
from ..engine import Node
from ..ops.linear import _linear
from .trace import Graph

LONG_ROW = 1024  # bytes; shorter rows are copied in no time, and are read faster side by side
WIDEST = 512  # a wider layer would read them again
BY_ROWS = {_linear: ops.linear_rows, ops.linear_keep: ops.linear_keep_rows, ops.linear_dw: ops.linear_dw_rows}


def read_rows(graph: Graph) -> Graph:
    """Where the device has products that do so, and all that is read is read by them."""
    if graph.device is None or any(op.kernel not in graph.device.kernels for op in BY_ROWS.values()):
        return graph
    batches = [node for node in graph.nodes if node.op is ops.gather and _has_long_rows(node)]
    users = graph.users() if batches else {}
    for batch in batches:
        readers = [node for node in graph.nodes if _reads(node, batch)]
        if len(readers) == users.get((batch, 0)) and any(node.op is ops.linear_dw for node in readers):
            for node in readers:
                assert node.op is not None
                node.op, node.inputs = BY_ROWS[node.op], batch.inputs + node.inputs[1:]
            graph.nodes.remove(batch)
    return graph


def _has_long_rows(batch: Node) -> bool:
    spec = batch.specs[0]
    return len(spec.shape) == 2 and spec.dtype.kind == "f" and spec.shape[1] * spec.dtype.itemsize >= LONG_ROW


def _reads(node: Node, batch: Node) -> bool:
    """As the left side of a product; whoever reads it otherwise is not counted."""
    return node.op in BY_ROWS and node.inputs[0] == (batch, 0) and node.specs[0].shape[-1] <= WIDEST
