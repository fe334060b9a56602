"""One HTML book: the sixteen things that CS231n's lecture 4 teaches, each computed by gpunet as the book is made.

The code that a reader sees is the code that is run: `picture` and what it prints are what the page shows.
"""

from __future__ import annotations

import contextlib
import html as escape
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, losses, nn, optim
from ..data.record import Dataset
from ..data.table import Table
from ..errors import ConfigError, DataError
from ..train import Trainer
from .files import svg_of, write
from .picture import Picture
from .style import needed

IMPORTS = """\
import gpunet, numpy as np
from gpunet import losses, nn, ops, optim, viz, Trainer
from gpunet.data import digits, toys"""


@dataclass
class Row:
    """A row of the lecture: what it says, the lines that show it, and what its numbers must be ({} if it has none)."""

    title: str
    says: str
    code: str
    expects: dict[str, str] = field(default_factory=dict)  # expression: the lecture's number, to its decimals
    after: str = ""


@dataclass
class Shown:
    """A row that was run."""

    number: int
    row: Row
    printed: str
    picture: str  # HTML
    checks: list[tuple[str, str, str, bool]]  # expression, the lecture's number, ours, equal
    after: str


ROWS = [
    Row(
        "A formula becomes a graph",
        "Every operator is a node. Values run along the edges, from the leaves to the result.",
        """\
x, y, z = (gpunet.tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
q = x + y
f = q * z
picture = f.graph().figure()
print(f.graph())""",
        {"q.item()": "3", "f.item()": "-12"},
    ),
    Row(
        "Backpropagation",
        "Forward, values are computed; backward, from the result on, each node learns how the result depends on it. "
        "Move the slider: first forward, then backward.",
        """\
x, y, z = (gpunet.tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
q = (x + y).retain_grad()
f = q * z
f.backward()
picture = f.graph()""",
        {"z.grad.item()": "3", "q.grad.item()": "-4", "x.grad.item()": "-4", "y.grad.item()": "-4"},
    ),
    Row(
        "Upstream times local",
        "A gate knows its local gradients as soon as it has computed its value. Going back it multiplies what comes from "
        "upstream by them, and knows nothing else of the graph.",
        """\
x, y, z = (gpunet.tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
gates = ((x + y) * z).graph()
for wire in gates["mul"].wires:
    print(f"upstream {gates['mul'].gradient:g} × local {wire.local:g} = {wire.product:g}")
picture = gates.figure()""",
        {"gates['mul'].wires[0].product.item()": "-4", "gates['mul'].wires[1].product.item()": "3"},
    ),
    Row(
        "A neuron, gate by gate",
        "f = 1 / (1 + exp(−(w0 x0 + w1 x1 + w2))). The gate 1/x at 1.37 has the local gradient −1/x² = −0.53, and so on "
        "back to the weights.",
        """\
w0, x0, w1, x1, w2 = (gpunet.tensor(v, requires_grad=True) for v in (2.0, -1.0, -3.0, -2.0, -3.0))
denominator = 1 + (-(w0 * x0 + w1 * x1 + w2)).exp()
f = 1 / denominator
denominator.retain_grad(); f.backward()
picture = f.graph()""",
        {
            "f.item()": "0.73", "w0.grad.item()": "-0.20", "x0.grad.item()": "0.39", "w1.grad.item()": "-0.39",
            "x1.grad.item()": "-0.59", "w2.grad.item()": "0.20", "denominator.item()": "1.37", "denominator.grad.item()": "-0.53",
        },
    ),
    Row(
        "The add gate is a distributor",
        "Its local gradients are 1: it hands what comes from upstream to each input, unchanged.",
        """\
x, y = gpunet.tensor(3.0, requires_grad=True), gpunet.tensor(-7.0, requires_grad=True)
total = x + y
gate = (2.5 * total).graph()
print(gate["total"].role, [float(w.product) for w in gate["total"].wires])
picture = gate.figure()""",
        {"gate['x'].gradient.item()": "2.5", "gate['y'].gradient.item()": "2.5"},
    ),
    Row(
        "The sigmoid gate",
        "A group of gates can be one gate. The derivative of the sigmoid, (1 − s) s, needs nothing but its own output. "
        "gpunet's fuser finds the group; tick “after fusion” to see both.",
        """\
w0, x0, w1, x1, w2 = (gpunet.tensor(v, requires_grad=True) for v in (2.0, -1.0, -3.0, -2.0, -3.0))
s = 1 / (1 + (-(w0 * x0 + w1 * x1 + w2)).exp())
picture = s.graph()
gate = picture.fused["s"]
print(gate.role, "value", gate.value, "local gradient", gate.wires[0].local)""",
        {"gate.value.item()": "0.73", "gate.wires[0].local.item()": "0.20", "(1 - 0.73) * 0.73": "0.20"},
    ),
    Row(
        "Switchers and routers",
        "A mul gate gives each input the upstream gradient times the other input. A max gate sends all of it to the larger "
        "one; at a tie, gpunet gives half to each.",
        """\
x, y, z = (gpunet.tensor(v, requires_grad=True) for v in (3.0, -4.0, 2.0))
f = 2 * (x * y + ops.maximum(z, y))
gates = f.graph()
print(*(f"{item.op}: {item.role}" for item in gates.record.gates), sep="\\n")
picture = gates.figure()""",
        {"gates['x'].gradient.item()": "-8", "gates['z'].gradient.item()": "2"},
    ),
    Row(
        "Where a value branches, gradients add up",
        "x is read three times here, so three gradients come back to it; their sum is the gradient of x.",
        """\
x = gpunet.tensor(3.0, requires_grad=True)
f = x * x + x
print([line for line in str(f.graph()).splitlines() if "add up" in line][0].strip())
picture = f.graph().figure()""",
        {"gpunet.grad(f, x).item()": "7"},
    ),
    Row(
        "Vectors: the Jacobian that nobody builds",
        "A vector of 4096 through max(0, x) has a Jacobian of 4096 × 4096. It is diagonal, so ops multiply value by value; "
        "gpunet.jacobian builds it on request, here for 12.",
        """\
x = gpunet.tensor(np.linspace(-1, 1, 12), requires_grad=True)
J = gpunet.jacobian(ops.relu, x).numpy()
print("diagonal:", np.array_equal(J, np.diag((x.numpy() > 0).astype(float))))
print(f"for 4096 values it would take {4096 * 4096 * 4:,} bytes; the mask takes {4096 * 4:,}")
picture = matrix(J, "the Jacobian of ReLU at 12 values from −1 to 1")""",
        {"4096 * 4096": "16777216", "J.trace()": "6"},
    ),
    Row(
        "From W x to W2 max(0, W1 x)",
        "A score function becomes a 2-layer net: inputs, 100 hidden units, a score a class. Beside it the linear classifier, "
        "on the same rows.",
        """\
nets = {"linear": nn.MLP(data.inputs, data.classes), "2-layer": nn.MLP(data.inputs, 100, data.classes)}
fits = {name: Trainer(net, losses.cross_entropy, optim.AdamW(lr=1e-3, weight_decay=1.0, schedule="one_cycle"), device="cpu").fit(
    data.train, validation=data.test, epochs=data.epochs, show_progress=False) for name, net in nets.items()}
print(*(f"{name}: {fit['val_accuracy'][-1]:.1%} of the test rows" for name, fit in fits.items()), sep="\\n")
picture = viz.curves(*fits.values(), names=list(fits))""",
    ),
    Row(
        "Templates",
        "The linear classifier has one template a class and must put all of it into one picture (a horse with two heads). "
        "The hidden layer has 100, and several of them serve one class.",
        """\
linear = viz.templates(nets["linear"], shape=data.shape, classes=data.names)
hidden = viz.templates(nets["2-layer"], data.train[0], shape=data.shape, classes=data.names, most=6)
picture = [linear, hidden]""",
    ),
    Row(
        "The neuron",
        "A weighted sum, then an activation with a threshold. Alone it can draw one straight line. It only loosely "
        "resembles the biological one.",
        """\
x, y = toys.moons(200, noise=0.15)
neuron = nn.Linear(2, 2)
Trainer(neuron, losses.cross_entropy, optim.Adam(lr=0.05), device="cpu").fit((x, y), epochs=60, show_progress=False)
picture = viz.boundary(neuron, x, y, title="one weighted sum, one threshold: one line")""",
    ),
    Row(
        "Activation functions, and why one is needed",
        "A stack of linear layers without an activation is one linear layer: the product of its matrices. With one, the "
        "same widths bend the boundary.",
        """\
x, y = toys.moons(200, noise=0.15)
stacks = {act: trained(nn.MLP(2, 20, 20, 2, activation=act), x, y, epochs=80) for act in ("identity", "tanh")}
product = collapse(stacks["identity"])  # x W1 W2 W3 and the biases, as one x W + b
print(f"three layers and their product differ by {abs(stacks['identity'](x).numpy() - product(x)).max():.0e}")
picture = [viz.activation_functions(), side_by_side(stacks, x, y)]""",
    ),
    Row(
        "How layers are counted",
        "The input is not a layer: a net with one hidden layer is a 2-layer net. Every unit of a fully-connected layer "
        "sees all units before it.",
        """\
net = nn.MLP(3072, 100, 10)
print(nn.summary(net, (1, 3072)))
picture = viz.parameters(net)""",
        {"nn.summary(net, (1, 3072)).layers": "2", "nn.summary(net, (1, 3072)).parameters": "308310"},
    ),
    Row(
        "More neurons separate more",
        "The same points, the same training; 3, 6 and 20 hidden neurons.",
        """\
x, y = toys.moons(200, noise=0.3)
found = viz.sweep(x, y, hidden=(3, 6, 20))
picture = found.figure""",
        after="found.text",
    ),
    Row(
        "Do not use the size as the regulariser",
        "20 neurons each time, and a stronger λ, counted as the demo counts it that made the lecture's pictures (ConvNetJS: added "
        "to the loss of a batch of 10).",
        """\
x, y = toys.moons(200, noise=0.3)
found = viz.sweep(x, y, hidden=(20,), l2=(0.001, 0.01, 0.1))
picture = found.figure""",
        after="found.text",
    ),
]  # fmt: skip


# ---------------------------------------------------------------- the data of rows 10 and 11


@dataclass
class Images:
    """Images with classes, cut into rows to train on and rows to test on; values with mean 0 and spread 1."""

    name: str
    train: tuple[Any, Any]
    test: tuple[Any, Any]
    shape: tuple[int, ...]
    names: list[str]
    epochs: int

    @property
    def inputs(self) -> int:
        return int(self.train[0].shape[1])

    @property
    def classes(self) -> int:
        return len(self.names)


def images(dataset: Dataset) -> Images:
    """A data set of images as rows 10 and 11 want it; a fifth is held out where the files bring no test set."""
    if isinstance(dataset.x, Table) or dataset.y is None or dataset.image_shape is None:
        raise DataError(f"{dataset.name}: a folder of image files (IDX, CIFAR-10) with classes is wanted")
    from ..data.splits import split

    x, y = np.asarray(dataset.x), np.asarray(dataset.y, np.int64)
    names = list(dataset.classes or map(str, range(int(y.max()) + 1)))
    if dataset.test_x is None or dataset.test_y is None:
        rows, others = split(len(y), (0.8, 0.2), seed=0, stratify=y)
        parts = (x[rows], y[rows]), (x[others], y[others])
    else:
        parts = (x, y), (np.asarray(dataset.test_x), np.asarray(dataset.test_y, np.int64))
    mean, spread = parts[0][0].mean(dtype=np.float64), parts[0][0].std(dtype=np.float64) or 1.0
    train, test = (((a.astype(np.float32) - mean) / spread, b) for a, b in parts)
    return Images(dataset.name, train, test, dataset.image_shape, names, epochs=15 if len(y) < 20_000 else 8)


# ---------------------------------------------------------------- what the lines may use besides gpunet


def matrix(values: Any, title: str) -> Any:
    """A matrix as a picture, with its numbers."""
    from .style import new_figure, styled

    with styled():
        figure, ax = new_figure(4.6, 3.9)
        drawn = ax.imshow(values, cmap="cividis")
        ax.set(xlabel="input", ylabel="output", title=title)
        ax.grid(False)
        figure.colorbar(drawn, ax=ax, label="∂ output / ∂ input")
    return figure


def trained(net: nn.Module, x: Any, y: Any, *, epochs: int) -> nn.Module:
    """The net after so many epochs of Adam, in training mode no more."""
    Trainer(net, losses.cross_entropy, optim.Adam(lr=0.02), device="cpu").fit((x, y), epochs=epochs, show_progress=False)
    return net.eval()


def collapse(net: nn.Module) -> Callable[[Any], Any]:
    """A stack of linear layers as one: x W + b with W = W1 W2 ..."""
    layers = [m for _, m in net.modules() if isinstance(m, nn.Linear)]
    weight, bias = np.eye(layers[0].inputs), np.zeros(layers[0].inputs)
    for layer in layers:
        weight, bias = weight @ layer.weight.numpy(), bias @ layer.weight.numpy() + layer.bias.numpy()
    return lambda x: np.asarray(x) @ weight + bias


def side_by_side(nets: dict[str, nn.Module], x: Any, y: Any) -> Any:
    """The boundaries of several nets."""
    from .plane import boundary
    from .style import new_figure, styled

    with styled():
        figure, axes = new_figure(3.6 * len(nets) + 0.7, 3.6, 1, len(nets), squeeze=False)
        for ax, (name, net) in zip(axes[0], nets.items(), strict=True):
            boundary(net, x, y, title=f"activation: {name}", ax=ax)
    return figure


# ---------------------------------------------------------------- the book


def book(dataset: Dataset | None = None, *, tell: Callable[[str], None] = lambda _: None) -> str:
    """The whole page, as HTML; `dataset` are the images of rows 10 and 11 (the embedded digits if None)."""
    jinja2 = needed("jinja2")
    if dataset is None:
        from ..data.digits import digits

        dataset = digits()
    data = images(dataset)
    shown = []
    space = _namespace(data)
    for number, row in enumerate(ROWS, 1):
        tell(f"{number:2} {row.title}")
        shown.append(run(row, number, space))
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return str(made.get_template("lecture.html").render(rows=shown, imports=IMPORTS, data=data, version=__version__))


def _namespace(data: Images) -> dict[str, Any]:
    space: dict[str, Any] = {"data": data, "matrix": matrix, "trained": trained, "collapse": collapse, "side_by_side": side_by_side}
    exec(IMPORTS, space)
    return space


def run(row: Row, number: int, space: dict[str, Any]) -> Shown:
    """Run a row's lines in the book's namespace."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(row.code, f"<row {number}>", "exec"), space)
    checks = []
    for expression, wanted in row.expects.items():
        decimals = len(wanted.partition(".")[2])
        got = f"{float(eval(expression, space)):.{decimals}f}"
        checks.append((expression, wanted, got, got == wanted))
    pictures = space["picture"] if isinstance(space["picture"], list) else [space["picture"]]
    drawn = "\n".join(_as_html(p, row.title) for p in pictures)
    return Shown(
        number, row, printed.getvalue().rstrip(), drawn, checks, str(eval(row.after, space)) if row.after else ""
    )


def _as_html(picture: Any, title: str) -> str:
    if isinstance(picture, Picture):
        page = escape.escape(picture.html(title), quote=True)
        return (
            f'<iframe srcdoc="{page}" title="{escape.escape(title)}: a graph to step through" loading="lazy"></iframe>'
        )
    return f'<figure role="img" aria-label="{escape.escape(title)}">{svg_of(picture)}</figure>'


def save(path: str | os.PathLike[str], dataset: Dataset | None = None, *, force: bool = False, **how: Any) -> Path:
    """Write the book; a file of this name is replaced only if asked to."""
    file = Path(path)
    if file.exists() and not force:
        raise ConfigError(f"{file}: exists already. Another name, or --force")
    return write(file, book(dataset, **how))
