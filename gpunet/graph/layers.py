"""Graph -> Graph: layers whose results nobody else reads become one call, which takes rows through all of them in the cache."""

from __future__ import annotations

from ..engine import Node
from ..ops.linear import _linear, layers, linear_keep
from .trace import Graph

WIDEST = 256  # beyond, the weights would have to be copied for each block of rows
MOST = 16


def join_layers(graph: Graph) -> Graph:
    """Where the device has such a kernel; training needs what is between, so there it finds nothing."""
    if graph.device is None or "layers" not in graph.device.kernels:
        return graph
    users, gone = graph.users(), set()
    for node in graph.nodes:
        if not _is_layer(node, users):
            continue
        before = node.inputs[0][0] if node.inputs[0] is not None else node
        joined = before.op is layers and len(before.inputs) < 2 * MOST
        if users.get((before, 0)) != 1 or not (joined or _is_layer(before, users)):
            continue
        first = before.settings if joined else _settings(before)
        node.settings = {name: first[name] + mine for name, mine in _settings(node).items()}
        node.op, node.inputs, node.specs = layers, before.inputs + node.inputs[1:], node.specs[:1]
        gone.add(before)
    graph.nodes = [node for node in graph.nodes if node not in gone]
    return graph


def _is_layer(node: Node, users: dict) -> bool:
    wanted = node.op is _linear or (node.op is linear_keep and (node, 1) not in users)
    shape = node.specs[0].shape
    return wanted and len(shape) == 2 and shape[1] <= WIDEST


def _settings(node: Node) -> dict[str, tuple]:
    return {"acts": (node.settings["act"],), "alphas": (node.settings["alpha"],)}
