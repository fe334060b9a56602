"""Inside a net: weights as images, activation functions, parameters by layer, and what changes while it learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import ops
from ..engine import Tensor, grad, tensor
from ..errors import ConfigError, ShapeError
from ..nn.layers import Linear
from ..nn.module import Module
from ..nn.tabular import NTKLinear
from ..train.callbacks import Callback
from .style import COLOURS, GRADIENT, VALUE, new_figure, styled
from .subject import activations, encoded, net_of, sample

Array = npt.NDArray[Any]


MOST_LAYERS = 40  # that have a bar of their own

# ---------------------------------------------------------------- templates


def templates(
    model: Any, x: Any = None, *, shape: tuple[int, ...] | None = None, classes: Sequence[Any] | None = None,
    of_class: int | None = None, most: int = 8,
) -> Any:  # fmt: skip
    """First-layer weights as images, those first that add most to a class: a row a class, its score's share above each.

    A linear classifier has one template a class (a horse with two heads); a hidden layer has many, and several can
    serve one class (CS231n, lecture 4).

    Args:
        x: rows it was trained on; with them "adds" is the mean over rows of activation times d score / d activation.
            Without, the outgoing weight of a 2-layer net.
        shape: (height, width) or (height, width, channels) of an image; by default square, grey or of 3 channels.
        of_class: only this class (its place); then up to 25 templates.
    """
    net = net_of(model)
    first, gives = _first(net)
    images = _images(first.weight.numpy(), shape)
    names = list(classes) if classes is not None else [str(c) for c in getattr(model, "classes", None) or range(gives)]
    if gives == first.outputs and not _hidden(net):
        return _one_a_class(images, names)
    adds = _contributions(net, first, None if x is None else encoded(model, x))
    if of_class is not None:
        if not 0 <= of_class < adds.shape[1]:
            raise ConfigError(f"templates: classes 0 to {adds.shape[1] - 1}, got {of_class}")
        return _of_one(images, adds[:, of_class], names[of_class], most=25)
    return _of_all(images, adds, names, min(most, len(images)))


DENSE = (Linear, NTKLinear)


def _first(net: Module) -> tuple[Any, int]:
    linear = [m for _, m in net.modules() if isinstance(m, DENSE)]
    if not linear:
        raise ConfigError("templates: the net has no fully-connected layer")
    return linear[0], linear[-1].outputs


def _hidden(net: Module) -> bool:
    return sum(isinstance(m, DENSE) for _, m in net.modules()) > 1


def _images(weight: Array, shape: tuple[int, ...] | None) -> Array:
    """[units, height, width] or [units, height, width, 3], each between 0 and 1 with its own contrast, 0.5 for 0."""
    columns = weight.shape[0]
    if shape is None:
        side = math.isqrt(columns)
        colour = math.isqrt(columns // 3)
        shape = (
            (side, side) if side * side == columns else (colour, colour, 3) if 3 * colour * colour == columns else ()
        )
    if not shape or math.prod(shape) != columns:
        raise ShapeError(
            f"templates: {columns} inputs are no image{f' of shape {shape}' if shape else ''}. Give shape=(height, width)"
        )
    images = weight.T.reshape(-1, *shape).astype(np.float64)
    largest = np.abs(images).reshape(len(images), -1).max(axis=1)
    return 0.5 + 0.5 * images / np.maximum(largest, 1e-30).reshape(-1, *[1] * len(shape))


def _contributions(net: Module, first: Any, x: Array | None) -> Array:
    """[units of the first layer, classes]: what each unit adds to each class's score, over the rows."""
    linear = [m for _, m in net.modules() if isinstance(m, DENSE)]
    if x is None:
        if len(linear) != 2:
            raise ConfigError("templates: for a net of more than two layers, give rows x to rank the templates by")
        return np.asarray(linear[1].weight.numpy(), np.float64)
    found = activations(net, x[sample(len(x), 2000)])
    paths = list(found)
    at = _after(net, paths, first)
    hidden, scores = found[at], found[paths[-1]]
    adds = []
    for c in range(scores.shape[1]):
        unit = np.zeros(scores.shape, scores.dtype)
        unit[:, c] = 1
        g = grad(scores, hidden, tensor(unit, device=scores.device), retain_graph=True)
        adds.append((hidden.numpy() * g.numpy()).mean(axis=0) if g is not None else np.zeros(hidden.shape[1]))
    return np.stack(adds, axis=1).astype(np.float64)


def _after(net: Module, paths: list[str], first: Any) -> str:
    """The activation that belongs to the first layer: its own, or the one right behind it."""
    at = paths.index(first.path or type(first).__name__)
    if getattr(first, "activation", "identity") == "identity":
        for path in paths[at + 1 :]:
            if isinstance(dict(net.modules())[path], DENSE):
                break
            at = paths.index(path)
    return paths[at]


def _tiled(images: Array, captions: list[str], columns: int, title: str, rows: Sequence[str] = ()) -> Any:
    """Images in rows of one picture (an Axes for each would take seconds), a caption above each, a name for each row."""
    height, width = images.shape[1:3]
    zoom = max(1, 32 // max(height, width))  # so that a gap of a few pixels is a small one
    images = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    height, width = images.shape[1:3]
    gap_x, gap_y = round(0.14 * width), round(0.28 * height)
    lines = math.ceil(len(images) / columns)
    whole = np.full(
        (lines * (height + gap_y), columns * (width + gap_x), *images.shape[3:]), np.nan if images.ndim == 3 else 1.0
    )
    inch = (0.95 if columns > 5 else 1.2) / width
    with styled():
        figure, ax = new_figure(0.5 + inch * whole.shape[1], 0.45 + inch * whole.shape[0])
        for i, image in enumerate(images):
            x, y = (i % columns) * (width + gap_x), (i // columns) * (height + gap_y) + gap_y
            whole[y : y + height, x : x + width] = image
            ax.text(x + width / 2, y - 0.05 * height, captions[i], ha="center", va="bottom", size=8)
        for i, name in enumerate(rows):
            y = i * (height + gap_y) + gap_y + height / 2
            ax.text(-0.06 * width, y, name, ha="right", va="center", rotation=90, size=9)
        ax.imshow(whole[:, : whole.shape[1] - gap_x], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.axis("off")
        figure.suptitle(title, size=10)
    return figure


def _one_a_class(images: Array, names: list[str]) -> Any:
    title = "the linear classifier: one template a class\n(white adds to its score, black takes away)"
    return _tiled(images, [f"class {name}" for name in names], min(len(images), 5), title)


def _of_all(images: Array, adds: Array, names: list[str], most: int) -> Any:
    order = np.argsort(adds, axis=0)[::-1][:most].T  # [classes, most]
    captions = [f"{adds[unit, c]:+.2f}".replace("-", "−") for c, units in enumerate(order) for unit in units]
    title = f"templates of the hidden layer ({len(images)} units),\nthose first that add most to a class's score"
    return _tiled(images[order.ravel()], captions, most, title, [f"class {name}" for name in names])


def _of_one(images: Array, adds: Array, name: str, most: int) -> Any:
    order = np.argsort(adds)[::-1][:most]
    captions = [f"unit {unit}: {adds[unit]:+.2f}".replace("-", "−") for unit in order]
    return _tiled(images[order], captions, min(5, len(order)), f"what adds to the score of class {name}")


# ---------------------------------------------------------------- activation functions


def activation_functions(names: Sequence[str] | None = None, *, low: float = -4.0, high: float = 4.0) -> Any:
    """Each activation function and its derivative, computed by gpunet's own ops; by default all, with a Maxout of 2 lines."""
    shown = list(names) if names is not None else [*(n for n in ops.ACTIVATIONS if n != "identity"), "maxout"]
    x = tensor(np.linspace(low, high, 401), requires_grad=True)
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    with styled():
        figure, axes = new_figure(2.5 * columns, 0.5 + 2.15 * rows, rows, columns, squeeze=False, sharex=True)
        for ax, name in zip(axes.flat, shown, strict=False):
            y = maxout(x) if name == "maxout" else ops.activate(x, name)
            slope = grad(y.sum(), x)
            ax.axhline(0, color="#999999", lw=0.6)
            ax.axvline(0, color="#999999", lw=0.6)
            ax.plot(x.numpy(), y.numpy(), color=VALUE, lw=2)
            ax.plot(x.numpy(), slope.numpy(), color=GRADIENT, lw=1.4, ls="--")
            ax.set(title=name.replace("_", " "), ylim=(-2.1, 3.1))
        for ax in axes.flat[len(shown) :]:
            ax.set_visible(False)
        for ax in axes.flat[max(len(shown) - columns, 0) : len(shown)]:
            ax.set_xlabel("x")
            ax.tick_params(labelbottom=True)
        figure.legend(handles=_two_lines(), loc="outside lower center", ncols=2)
    return figure


def maxout(x: Tensor) -> Tensor:
    """The larger of two lines, for the picture: Maxout learns them."""
    return ops.maximum(0.9 * x - 0.3, -0.4 * x)


def _two_lines() -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=VALUE, lw=2, label="value"),
        Line2D([], [], color=GRADIENT, lw=1.4, ls="--", label="derivative"),
    ]


# ---------------------------------------------------------------- parameters


def parameters(model: Any) -> Any:
    """How many parameters each layer has: a bar a layer, weights and biases apart; of very many, by outermost module."""
    net = net_of(model)
    by_layer: dict[str, list[int]] = {}
    named = list(net.named_parameters())
    many = len({name.rpartition(".")[0] for name, _ in named}) > MOST_LAYERS
    for name, t in named:
        layer, _, kind = name.rpartition(".")
        layer = layer.partition(".")[0] if many else layer
        counts = by_layer.setdefault(layer or type(net).__name__, [0, 0])
        counts[0 if kind == "weight" else 1] += t.size
    modules = dict(net.modules())
    labels = [f"{path}  {_sized(modules[path])}" if path in modules else path for path in by_layer]
    weights, others = (np.array([counts[i] for counts in by_layer.values()]) for i in (0, 1))
    with styled():
        figure, ax = new_figure(6.6, 1.5 + 0.34 * len(labels))
        places = np.arange(len(labels))[::-1]
        ax.barh(places, weights, color=COLOURS[0], label="weights")
        ax.barh(places, others, left=weights, color=COLOURS[4], label="biases and others")
        total = int(weights.sum() + others.sum())
        for place, n in zip(places, weights + others, strict=True):
            ax.annotate(f" {n:,}", (n, place), va="center", size=8.5)
        ax.set_yticks(places, labels)
        ax.margins(x=0.16)
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.set(xlabel="parameters", title=f"{total:,} parameters")
        ax.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _sized(module: Module) -> str:
    return f"{module.inputs} → {module.outputs}" if isinstance(module, DENSE) else type(module).__name__


# ---------------------------------------------------------------- while it learns


class Recorder(Callback):
    """A callback that keeps histograms of activations, gradients and updates of each layer, epoch by epoch.

        recorder = viz.Recorder(x[:256], y[:256])
        trainer.fit((x, y), callbacks=[recorder])
        viz.histograms(recorder)

    Args:
        x, y: rows to probe the net with after each epoch, as the loss takes them.
        bins: of each histogram, between the smallest and the largest value of all epochs.
    """

    def __init__(self, x: Any, y: Any, *, bins: int = 60) -> None:
        self.x, self.y, self.bins = np.asarray(x), np.asarray(y), bins
        self.values: dict[str, dict[str, list[Array]]] = {"activations": {}, "gradients": {}, "updates": {}}
        self._before: dict[str, Array] = {}

    def on_train_begin(self, trainer: Any) -> None:
        self._before = trainer.model.state_dict()

    def on_epoch_end(self, trainer: Any, epoch: int, logs: dict[str, float]) -> None:
        net = trainer.model
        found = activations(net, self.x)
        out = found[list(found)[-1]]
        loss = trainer.loss(
            out, tensor(self.y if self.y.dtype.kind in "iu" else self.y.astype(net.dtype), device=out.device)
        )
        named = [(name, t) for name, t in net.named_parameters() if name.rpartition(".")[2] == "weight"]
        for path, t in found.items():
            self._keep("activations", path, t.numpy())
        for (name, t), g in zip(named, grad(loss, [t for _, t in named]), strict=True):
            layer = name.rpartition(".")[0] or type(net).__name__
            self._keep("gradients", layer, np.zeros(t.shape) if g is None else g.numpy())
            self._keep("updates", layer, t.numpy() - self._before[name])
        self._before = net.state_dict()

    def _keep(self, what: str, layer: str, values: Array) -> None:
        """A few quantile points say as much as all values, and an epoch costs no memory to speak of."""
        cuts = np.quantile(values.astype(np.float64).ravel(), np.linspace(0, 1, 1001))
        self.values[what].setdefault(layer, []).append(cuts)


def histograms(recorder: Recorder) -> Any:
    """Histograms by layer (a row) over the epochs (to the right): activations, gradients, updates; darker is more."""
    layers = list(recorder.values["gradients"])
    if not layers:
        raise ConfigError("histograms: the recorder has seen no epoch. Give it to fit(..., callbacks=[recorder])")
    with styled():
        figure, axes = new_figure(9.6, 0.8 + 1.75 * len(layers), len(layers), 3, squeeze=False, sharex=True)
        for row, layer in zip(axes, layers, strict=True):
            for ax, of in zip(row, recorder.values.values(), strict=True):
                if layer in of:
                    _strip(ax, np.array(of[layer]), recorder.bins)
                else:
                    ax.set_visible(False)
            row[0].set_ylabel(f"layer {layer}")
        for ax, what in zip(axes[0], recorder.values, strict=True):
            ax.set_title(what if what != "updates" else "updates in an epoch")
        for ax in axes[-1]:
            ax.set_xlabel("epoch")
        figure.supxlabel("line: median; dotted: the middle 68% of the values", size=9, color="#555555")
    return figure


def _strip(ax: Any, cuts: Array, bins: int) -> None:
    """Epoch by epoch a column; the colour is the square root of the share, so that tails are seen."""
    low, high = np.quantile(cuts, [0.002, 0.998])
    if low == high:
        low, high = low - 1e-12, high + 1e-12
    edges = np.linspace(low, high, bins + 1)
    shares = np.stack([np.histogram(np.clip(one, low, high), bins=edges)[0] / len(one) for one in cuts], axis=1)
    epochs = np.arange(len(cuts) + 1) + 0.5
    ax.pcolormesh(epochs, edges, np.sqrt(shares), cmap="Blues", rasterized=True)
    middle = np.arange(1, len(cuts) + 1)
    ax.plot(middle, cuts[:, 500], color=COLOURS[1], lw=1.2)
    for k in (159, 841):
        ax.plot(middle, cuts[:, k], color=COLOURS[1], lw=0.7, ls=":")
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    ax.grid(False)
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
