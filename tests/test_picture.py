"""tensor.graph(): the lecture's graphs with the lecture's numbers, whatever way they are shown."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import gpunet
from gpunet import losses, nn, ops, viz
from gpunet.devices import Device
from gpunet.engine import Tensor, tensor
from gpunet.errors import ConfigError, GraphError
from gpunet.viz.words import Group, brief, number, tree


def leaf(value: float, device: Device | str = "cpu") -> Tensor:
    return tensor(value, device=device, requires_grad=True)


def first(device: Device | str = "cpu") -> viz.Picture:
    x, y, z = leaf(-2.0, device), leaf(5.0, device), leaf(-4.0, device)
    q = x + y
    f = q * z
    f.backward()
    return f.graph()


def neuron() -> viz.Picture:
    w0, x0, w1, x1, w2 = map(leaf, (2.0, -1.0, -3.0, -2.0, -3.0))
    s = 1 / (1 + (-(w0 * x0 + w1 * x1 + w2)).exp())
    return s.graph()


def wires(picture: viz.Picture, name: str) -> list[tuple[str, str, str, str]]:
    """(input, upstream, local, product) of a gate, as they are written."""
    item, items = picture[name], picture.record.items
    return [(items[w.source].name, brief(item.gradient), brief(w.local), brief(w.product)) for w in item.wires]


# ---------------------------------------------------------------- the lecture's rows


def test_row_2_the_first_backpropagation_with_the_callers_names(device: Device) -> None:
    picture = first(device)
    values = {item.name: (brief(item.value), brief(item.gradient)) for item in picture.record.items}
    assert values == {"x": ("−2", "−4"), "y": ("5", "−4"), "z": ("−4", "3"), "q": ("3", "−4"), "f": ("−12", "1")}


def test_row_3_upstream_local_and_product_at_each_gate() -> None:
    assert wires(first(), "f") == [("q", "1", "−4", "−4"), ("z", "1", "3", "3")]
    assert wires(first(), "q") == [("x", "−4", "1", "−4"), ("y", "−4", "1", "−4")]


def test_row_4_the_sigmoid_neuron() -> None:
    picture = neuron()
    assert brief(picture["s"].value) == "0.73"
    gradients = {name: brief(picture[name].gradient) for name in ("w0", "x0", "w1", "x1", "w2")}
    assert gradients == {"w0": "−0.20", "x0": "0.39", "w1": "−0.39", "x1": "−0.59", "w2": "0.20"}
    assert wires(picture, "div")[1] == ("g7", "1", "−0.53", "−0.53")  # the -1/x² gate at 1.37
    assert brief(picture["g7"].value) == "1.37"


def test_row_5_and_7_gates_have_the_lectures_names() -> None:
    x, y = leaf(3.0), leaf(-1.0)
    for made, role in (
        (x + y, "distributor"), (x - y, "distributor"), (x * y, "switcher"), (ops.maximum(x, y), "router"),
        (ops.relu(x), "router"), (ops.sigmoid(x), "sigmoid gate"), (ops.tanh(x), "tanh gate"),
    ):  # fmt: skip
        assert made.graph().record.gates[-1].role == role


def test_row_6_the_fuser_makes_one_sigmoid_gate_of_the_group() -> None:
    picture = neuron()
    fused = picture.fused
    assert fused is not None and len(fused.record.gates) == len(picture.record.gates) - 3
    assert wires(fused, "s") == [("g4", "1", "0.20", "0.20")]  # (1 - 0.73) 0.73
    assert fused["s"].role == "sigmoid gate"
    assert brief(fused["w1"].gradient) == brief(picture["w1"].gradient) == "−0.39"
    assert first().fused is None


def test_row_7_a_tie_at_a_max_gate_is_split_and_said() -> None:
    x, y = leaf(2.0), leaf(2.0)
    picture = ops.maximum(x, y).graph()
    assert [w[3] for w in wires(picture, "maximum")] == ["0.50", "0.50"]
    assert "half to each at a tie" in picture["maximum"].does


def test_row_8_branches_add_up_and_say_so() -> None:
    x = leaf(3.0)
    f = x * x + x
    picture = f.graph()
    assert picture["x"].readers == 3 and brief(picture["x"].gradient) == "7"
    assert "x branches, its gradients add up: 3 + 3 + 1 = 7" in str(picture)


def test_row_9_a_vector_of_4096_through_relu_has_a_diagonal_jacobian_that_is_not_built() -> None:
    x = tensor(np.linspace(-1, 1, 4096, dtype=np.float32), requires_grad=True)
    picture = ops.relu(x).sum().graph()
    gate = picture["activation"]
    assert gate.note == "Jacobian 4,096 × 4,096, diagonal, never built"
    assert gate.wires[0].local is not None and gate.wires[0].local.shape == (4096,)
    assert np.array_equal(gate.wires[0].local, (np.linspace(-1, 1, 4096) > 0).astype(np.float32))


# ---------------------------------------------------------------- what is drawn is what was computed


def test_the_gradients_drawn_are_those_of_backward() -> None:
    net = nn.Sequential(nn.Linear(4, 8, activation="gelu"), nn.Dropout(0.3), nn.BatchNorm1d(8), nn.Linear(8, 3))
    x, t = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32), tensor(np.arange(16) % 3)
    loss = losses.cross_entropy(net(x), t)
    picture = loss.graph()
    loss.backward()
    after = loss.graph()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        for made in (picture, after):
            np.testing.assert_array_equal(made[name].gradient, parameter.grad.numpy())
    assert float(after["loss"].value) == loss.item()
    assert picture["x"].gradient is None  # data want none


def test_each_gradient_is_the_sum_of_the_products_on_its_wires() -> None:
    net = nn.MLP(3, 5, 5, 2, activation="tanh", residual=True).to("float64")
    x = tensor(np.random.default_rng(1).normal(size=(7, 3)), requires_grad=True)
    record = (net(x) ** 2).mean().graph().record
    for item in record.items:
        sent = [
            w.product for gate in record.gates for w in gate.wires if w.source == item.number and w.product is not None
        ]
        if sent and item.gradient is not None:
            np.testing.assert_allclose(sum(sent), item.gradient, rtol=1e-12, atol=1e-15)


def test_a_compiled_function_shows_its_calls_with_memory_and_times_and_changes_nothing() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    before = net.state_dict()
    compiled = gpunet.compile(lambda a: net(a).sum())
    picture = viz.graph(compiled, x)
    assert picture.steps is not None
    program = compiled.program(tensor(x))
    assert [s.op for s in picture.steps.calls] == [c.node.op.name for c in program.calls]
    assert all(s.microseconds > 0 and s.writes and s.reads for s in picture.steps.calls)
    assert str(picture.steps).endswith(f"arena {program.plan.arena_bytes:,} bytes")
    assert all(np.array_equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_module_is_drawn_with_the_names_of_its_parameters() -> None:
    net = nn.MLP(2, 3, 1)
    picture = viz.graph(net, np.ones((4, 2)))
    assert {"x", "0.weight", "0.bias", "1.weight", "1.bias"} <= {item.name for item in picture.record.items}
    assert [child.title for child in tree(picture.record).children if isinstance(child, Group)] == [
        "layer 0",
        "layer 1",
    ]
    assert "8 values" not in " ".join(picture.record.notes) and "4 values" in " ".join(picture.record.notes)


def test_parameters_that_have_changed_since_are_said() -> None:
    net = nn.Linear(2, 1)
    x = tensor([[1.0, 2.0]])
    out = net(x).sum()
    net.load_state_dict({"weight": np.zeros((2, 1)), "bias": np.ones(1)})
    assert "Parameters have changed" not in str(out.graph())  # bound anew: the old values are still there
    net.weight.pin().assign(tensor([[3.0], [4.0]]))
    out = net(x).sum()
    before = out.graph()
    net.weight.assign(tensor([[5.0], [5.0]]))
    assert before["weight"].value.tolist() == [[3.0], [4.0]]  # a picture stays as it is
    assert "Parameters have changed" in str(out.graph())


# ---------------------------------------------------------------- what cannot be drawn


def test_a_tensor_that_needs_no_gradient_says_how_to_be_drawn() -> None:
    with pytest.raises(GraphError, match=r"requires_grad=True, or draw the function: gpunet\.viz\.graph"):
        (tensor(2.0) + 1).graph()
    picture = viz.graph(lambda a: a * 2 + 1, 3.0)
    assert brief(picture["add"].value) == "7" and brief(picture["a"].gradient) == "2"


def test_a_large_batch_that_is_gone_is_said_with_the_way_out() -> None:
    w = tensor(np.ones(5000), requires_grad=True)
    f = (w * np.arange(5000.0)).sum()
    f.backward()
    with pytest.raises(GraphError, match=r"went into mul are gone.*viz\.graph"):
        f.graph()


def test_losses_that_are_kept_hold_no_batch() -> None:
    import gc
    import weakref

    w = tensor(np.ones(5000), requires_grad=True)
    batch = tensor(np.arange(5000.0))
    seen = weakref.ref(batch.value)
    f = (w * batch).sum()
    f.backward()
    del batch
    gc.collect()
    assert seen() is None and f.item() > 0


def test_an_unknown_name_has_a_suggestion() -> None:
    with pytest.raises(ConfigError, match='nothing called "qq"'):
        first()["qq"]


def test_settings_are_shown_unless_they_are_the_usual_ones() -> None:
    x = tensor(np.ones((2, 3)), requires_grad=True)
    picture = ops.relu(x.mean(axis=0)).sum().graph()
    assert picture["mean"].settings == "axis=0" and picture["sum"].settings == ""
    assert picture["activation"].settings == "act=relu"


def test_integers_and_an_output_without_gradient() -> None:
    picture = viz.graph(lambda a: ops.argmax(a, axis=0), np.array([1.0, 3.0, 2.0]))
    assert "No gradient flows" in str(picture) and brief(picture["argmax"].value) == "1"


# ---------------------------------------------------------------- ways to show it


def test_dot_names_gates_and_products() -> None:
    dot = first().dot()
    assert dot.count("->") == 4 and 'label="1 × (−4) = −4"' in dot and "switcher" in dot


def test_a_still_has_every_value_and_is_the_same_file_each_time(tmp_path: Path) -> None:
    pytest.importorskip("dukpy", reason="dukpy lays graphs out; it is not installed")
    one, two = first().save(tmp_path / "a.svg"), first().save(tmp_path / "b.svg")
    texts = [e.text for e in ElementTree.parse(one).iter("{http://www.w3.org/2000/svg}text")]
    assert {"x", "−2", "distributor  q", "switcher  f", "1 × (−4)", "= −4", "1 × 3", "= 3"} <= set(texts)
    assert one.read_bytes() == two.read_bytes()
    assert first().save(tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.svg", "b.svg"]
    with pytest.raises(ConfigError, match=r"\.html, \.svg"):
        first().save(tmp_path / "a.jpeg")


def test_the_page_is_one_file_that_asks_nobody_for_anything(tmp_path: Path) -> None:
    page = neuron().save(tmp_path / "graph.html", title="s < 1 & more").read_text()
    assert "<title>s &lt; 1 &amp; more</title>" in page and "connect-src" not in page and "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "Chris Pettitt" in page  # dagre's licence
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert [item["value"] for item in data["items"] if item["name"] == "s"] == ["0.73"]
    assert data["fused"] is not None and data["steps"] is None


def test_text_in_names_cannot_leave_the_page() -> None:
    x = leaf(1.0)
    page = (x * 2).graph(**{"</script><b>": x}).html()
    assert "</script><b>" not in page


def test_notebooks_show_it() -> None:
    assert first()._repr_html_().startswith("<iframe srcdoc=")


def test_a_flat_graph_is_folded_so_that_no_level_is_large() -> None:
    x = leaf(0.5)
    y = x
    for _ in range(500):
        y = (y + 0.1).sin()
    root = tree(y.graph().record)
    todo, seen = [root], 0
    while todo:
        group = todo.pop()
        assert len(group.children) <= 40
        todo += [child for child in group.children if isinstance(child, Group)]
        seen += sum(not isinstance(child, Group) for child in group.children)
    assert seen == 1 + 500 * 3  # x; a constant, a sum and a sine each


NUMBERS = [
    (0.7310586, "0.73"), (-0.196, "−0.20"), (3.0, "3"), (0.0123, "0.012"), (0.0999, "0.10"), (1e-9, "1.0e−09"), (1e12, "1.0e+12"),
    (np.nan, "nan"), (-np.inf, "−inf"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_numbers_are_written_as_in_the_lecture(value: float, text: str) -> None:
    assert number(value) == text


def test_a_step_that_returns_nothing_is_drawn_to_the_state_it_changes() -> None:
    w, rate = tensor([1.0, 2.0], requires_grad=True), 0.1

    def step() -> None:
        g = gpunet.grad((w * w).sum(), w)
        w.assign(w - rate * g)

    compiled = gpunet.compile(step)
    picture = viz.graph(compiled)
    assert w.tolist() == [1.0, 2.0]  # drawing it is not doing it
    assert np.allclose(picture.record.gates[-1].value, [0.8, 1.6]) and picture.steps is not None
    with pytest.raises(GraphError, match="computes nothing"):
        viz.graph(lambda: None)


def test_a_module_that_returns_several_tensors_is_called_as_before() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return x + 1, x * 2

    one, two = Both()(leaf(3.0))
    assert (one.item(), two.item()) == (4.0, 6.0)
