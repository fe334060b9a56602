"""The pages in a real browser: the slider, folding, the keyboard, dark and light; nothing leaves, nothing complains."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Opened, chromium

import gpunet
from gpunet import losses, nn, viz
from gpunet.engine import tensor


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    pages: list[Opened] = []

    def opening(picture: Any, **how: Any) -> Any:
        pages.append(Opened(browser, picture.save(tmp_path / f"page{len(pages)}.html"), **how))
        return pages[-1].page

    yield opening
    for page in pages:
        page.close()


def first() -> viz.Picture:
    x, y, z = (tensor(v, requires_grad=True) for v in (-2.0, 5.0, -4.0))
    q = x + y
    f = q * z
    return f.graph()


def net(rows: int = 8) -> viz.Picture:
    model = nn.Sequential(
        nn.Linear(6, 8), nn.Residual(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU())), nn.Linear(8, 3)
    )
    x = np.random.default_rng(0).normal(size=(rows, 6)).astype(np.float32)
    compiled = gpunet.compile(lambda x: losses.cross_entropy(model(x), tensor(np.arange(rows) % 3)))
    return viz.graph(compiled, x)


def written(page: Any, of: str) -> list[str]:
    """The texts of a class that can be seen."""
    found: list[str] = page.eval_on_selector_all(
        f"svg text.{of}", "all => all.filter(e => getComputedStyle(e).visibility === 'visible').map(e => e.textContent)"
    )
    return found


def test_the_slider_steps_forward_and_then_backward(opened: Callable[..., Any]) -> None:
    page = opened(first())
    assert sorted(written(page, "value")) == sorted(["−2", "5", "−4", "3", "−12"])
    assert sorted(written(page, "gradient")) == sorted(["−4", "−4", "−4", "3", "1"])
    seen = []
    page.keyboard.press("Home")
    for _ in range(7):
        seen.append((len(written(page, "value")), sorted(written(page, "gradient")), page.inner_text("#caption")))
        page.keyboard.press("ArrowRight")
    assert [(values, gradients) for values, gradients, _ in seen] == [
        (3, []), (4, []), (5, []), (5, ["1"]), (5, sorted(["1", "−4", "3"])), (5, sorted(["1", "−4", "3", "−4", "−4"])),
        (5, sorted(["1", "−4", "3", "−4", "−4"])),
    ]  # fmt: skip
    captions = [caption for *_, caption in seen]
    assert captions[1] == "Forward 1 of 2: q = add(x, y) = 3" and captions[0].startswith("Start")
    assert captions[4] == "Backward 1 of 2: f, a switcher: q gets 1 × (−4) = −4; z gets 1 × 3 = 3"
    assert captions[6].startswith("Done")
    page.locator("#slider").fill("1")
    assert page.inner_text("#caption") == captions[1]


def test_layers_open_and_fold_by_mouse_and_by_keyboard(opened: Callable[..., Any]) -> None:
    page = opened(net())
    boxes = page.locator(".box")
    folded = boxes.count()
    page.click('[aria-label^="open layer 1"]')
    assert boxes.count() > folded and page.locator(".cluster").count() == 1
    page.focus('[aria-label^="open layer 1.inner"]')
    page.keyboard.press("Enter")
    assert page.locator(".cluster").count() == 2
    page.focus('[aria-label="fold layer 1"]')
    page.keyboard.press("Enter")
    assert boxes.count() == folded and page.locator(".cluster").count() == 0
    page.click("#unfold")
    assert page.locator(".box.group").count() == 0
    page.click("#fold")
    assert boxes.count() == folded


def test_boxes_do_not_overlap_and_nothing_is_wider_than_its_box(opened: Callable[..., Any]) -> None:
    page = opened(net())
    page.click("#unfold")
    problems = page.evaluate(
        """() => { const boxes = [...document.querySelectorAll('.box')], found = [];
        const r = boxes.map(b => b.querySelector('rect').getBoundingClientRect());
        boxes.forEach((b, i) => { for (const t of b.querySelectorAll('text')) { const w = t.getBoundingClientRect();
            if (w.left < r[i].left - 1 || w.right > r[i].right + 1 || w.bottom > r[i].bottom + 1) found.push('wide: ' + t.textContent); }
          const meets = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
          for (let j = 0; j < i; j++) if (meets(r[i], r[j]))
            found.push('overlap: ' + b.getAttribute('aria-label') + ' and ' + boxes[j].getAttribute('aria-label')); });
        return found; }"""
    )
    assert problems == []


def test_a_node_tells_its_local_gradients(opened: Callable[..., Any]) -> None:
    page = opened(first())
    page.focus('.box[aria-label="× f"]')
    page.keyboard.press("Enter")
    told = page.inner_text("#detail")
    assert "mul: switcher" in told and re.search(r"q\s+1\s+−4\s+−4", told) and re.search(r"z\s+1\s+3\s+3", told)


def test_before_and_after_fusion_stand_side_by_side(opened: Callable[..., Any]) -> None:
    w, x, b = (tensor(v, requires_grad=True) for v in (2.0, -1.0, 3.0))
    page = opened((1 / (1 + (-(w * x + b)).exp())).graph())
    assert not page.is_visible("#steps")
    page.check("#fused")
    assert page.locator(".pane h2").all_inner_texts() == ["before fusion: 11 nodes", "after fusion: 6 nodes"]
    assert page.locator(".pane").nth(1).locator("text.soft", has_text="sigmoid gate").count() == 1
    page.keyboard.press("Home")
    assert len(written(page, "gradient")) == 0
    page.uncheck("#fused")
    assert page.locator(".pane").count() == 1


def test_the_program_is_a_table_of_calls(opened: Callable[..., Any]) -> None:
    picture = net()
    page = opened(picture)
    assert not page.is_visible("#program")
    page.check("#steps")
    assert picture.steps is not None and page.locator("#program tr").count() == 1 + len(picture.steps.calls)


def test_dark_and_light_can_be_read(opened: Callable[..., Any]) -> None:
    def contrast(page: Any, of: str) -> float:
        ratio: float = page.evaluate(
            """of => { const linear = x => (x /= 255) <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4;
            const lum = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(linear);
            return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
            const a = lum(getComputedStyle(document.querySelector(of)).color), b = lum(getComputedStyle(document.body).backgroundColor);
            return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); }""",
            of,
        )
        return ratio

    for scheme in ("light", "dark"):
        page = opened(first(), scheme=scheme)
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        for _ in range(2):
            assert (
                min(contrast(page, of) for of in ("body", "footer", "footer .value", "footer .gradient")) >= 4.5
            )  # WCAG AA
            page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == before


def test_ten_thousand_nodes_open_in_two_seconds_and_stay_responsive(browser: Any, tmp_path: Path) -> None:
    x = tensor(np.linspace(0, 1, 8), requires_grad=True)
    y = x
    for _ in range(3400):
        y = (y + 0.1).sin()
    picture = y.graph()
    assert len(picture.record.items) > 10_000
    path = picture.save(tmp_path / "large.html")
    began = time.perf_counter()
    opened = Opened(browser, path)
    opened.page.wait_for_selector(".box")
    assert time.perf_counter() - began < 2
    began = time.perf_counter()
    opened.page.click(".box.group >> nth=0")
    opened.page.keyboard.press("ArrowLeft")
    opened.page.wait_for_selector(".cluster")
    assert time.perf_counter() - began < 2
    opened.close()
