"""What the lecture calls a gate, and what it does to the gradient that comes back: one row an op."""

from __future__ import annotations

from typing import NamedTuple

from ..engine import Node


class Gate(NamedTuple):
    """How an op is drawn: its sign, its name as a gate ("" if it has none), and what it does to a gradient."""

    sign: str
    role: str = ""
    does: str = ""


_EACH = "passes the upstream gradient on to each input, unchanged: its local gradient is 1"
_TIES = "at a tie"
_LAYER = "the fully-connected layer: x gets dz Wᵀ, W gets xᵀ dz, b the sum of dz over the rows"
_NORM = "x gets γ/σ (g - mean g - x̂ mean(g x̂)), for μ and σ depend on x too; γ gets Σ g x̂, β gets Σ g"
_SIGMOID = "a group of gates in one; its local gradient (1 - s) s needs nothing but its own output s"

# fmt: off
GATES: dict[str, Gate] = {
    #                           sign     role            what it does to the gradient
    "add":               Gate("+",      "distributor",  _EACH),
    "sub":               Gate("−",      "distributor",  "passes the upstream gradient on, to the second input with its sign turned"),
    "mul":               Gate("×",      "switcher",     "gives each input the upstream gradient times the other input"),
    "div":               Gate("÷",      "",             "x / y: its local gradients are 1/y and -x/y²"),
    "neg":               Gate("×(−1)",  "",             "turns the sign: its local gradient is -1"),
    "exp":               Gate("exp",    "",             "its local gradient is its own output"),
    "log":               Gate("log",    "",             "its local gradient is 1/x"),
    "square":            Gate("x²",     "",             "its local gradient is 2x"),
    "sqrt":              Gate("√",      "",             "its local gradient is 1 / (2 √x)"),
    "pow":               Gate("xʸ",     "",             "its local gradient in x is y xʸ⁻¹"),
    "abs":               Gate("|x|",    "router",       "passes the gradient on with the sign of x; 0 at 0"),
    "maximum":           Gate("max",    "router",       f"sends all of the gradient to the larger input; half to each {_TIES}"),
    "minimum":           Gate("min",    "router",       f"sends all of the gradient to the smaller input; half to each {_TIES}"),
    "max":               Gate("max",    "router",       f"sends all of the gradient to the largest value; in equal shares {_TIES}"),
    "min":               Gate("min",    "router",       f"sends all of the gradient to the smallest value; in equal shares {_TIES}"),
    "clip":              Gate("clip",   "router",       "passes the gradient on where x was inside the limits, 0 elsewhere"),
    "where":             Gate("where",  "router",       "sends each gradient to the input that was chosen"),
    "sum":               Gate("Σ",      "distributor",  "passes the upstream gradient on to everything it added up"),
    "mean":              Gate("mean",   "distributor",  "passes the upstream gradient on to each of n values, divided by n"),
    "broadcast_to":      Gate("copy",   "branch",       "copies a value; the gradients that come back add up"),
    "reshape":           Gate("reshape", "",            "only arranges the values in another way, and the gradients back"),
    "transpose":         Gate("transpose", "",          "only arranges the values in another way, and the gradients back"),
    "matmul":            Gate("x W",    "switcher",     "a switcher of matrices: x gets g Wᵀ, W gets xᵀ g"),
    "linear":            Gate("x W + b", "layer",       _LAYER),
    "linear_keep":       Gate("x W + b", "layer",       _LAYER),
    "softmax":           Gate("softmax", "",            "p: gets p (g - Σ g p)"),
    "log_softmax":       Gate("log softmax", "",        "gets g - p Σ g"),
    "softmax_cross_entropy": Gate("softmax loss", "",   "-log p of the right class: the scores get p, minus 1 at the right class"),
    "batch_norm":        Gate("batch norm", "",         f"γ x̂ + β with x̂ = (x - μ)/σ, column by column: {_NORM}"),
    "layer_norm":        Gate("layer norm", "",         f"γ x̂ + β with x̂ = (x - μ)/σ, row by row: {_NORM}"),
    "pick":              Gate("pick",   "router",       "sends the gradient to the value that was picked"),
    "slice":             Gate("slice",  "router",       "sends the gradient to the values that were taken"),
    "gather":            Gate("gather", "router",       "sends the gradient to the rows that were taken; taken twice, it adds up"),
    "concat":            Gate("concat", "router",       "sends each input its piece of the gradient"),
    "dropout":           Gate("dropout", "router",      "passes the gradient on where the value was kept"),
    "chain":             Gate("chain",  "",             "elementwise ops, run one after the other in the cache"),
}
ACTIVATIONS: dict[str, Gate] = {
    "relu":              Gate("ReLU",   "router",       "max(0, x): passes the gradient on where x > 0, nothing where x ≤ 0"),
    "leaky_relu":        Gate("leaky ReLU", "router",   "passes the gradient on where x > 0, a small share of it elsewhere"),
    "sigmoid":           Gate("σ",      "sigmoid gate", _SIGMOID),
    "tanh":              Gate("tanh",   "tanh gate",    "its local gradient 1 - t² needs nothing but its own output t"),
}
# fmt: on


def gate(node: Node) -> Gate:
    """How this node is drawn."""
    assert node.op is not None
    name, act = node.op.name, node.settings.get("act", "identity")
    if name.startswith("activation"):
        return ACTIVATIONS.get(act, Gate(act))
    found = GATES.get(name, Gate(name))
    if name.startswith("linear") and act != "identity":
        then = ACTIVATIONS.get(act, Gate(act))
        return Gate(
            f"{then.sign}({found.sign})", found.role, f"{found.does}; dz is the gradient before the {then.sign}"
        )
    return found


def pointwise(node: Node) -> bool:
    """Whether each input value reaches one output value only: then its Jacobian has one number a value that matters."""
    assert node.op is not None
    if node.op.name == "broadcast_to":
        return False
    return node.op.elementwise or node.op.view or node.op.name in ("sum", "mean", "max", "min", "pick")
