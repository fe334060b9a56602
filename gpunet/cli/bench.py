"""gpunet-train bench: how fast training and predicting are on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import click

# (widths, rows a step)
NETS = (((2, 16, 2), 4), ((64, 32, 10), 32), ((64, 128, 128, 10), 64), ((784, 256, 128, 10), 128), ((784, 1024, 1024, 10), 512))
BLOCKS, BLOCK_SECONDS = 5, 0.1


@click.command()
@click.option("--device", "-d", help="auto, cpu, cuda or cuda:1.  [default: GPUNET_DEVICE, else auto]")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object on stdout.")
def command(device: str | None, as_json: bool) -> int:
    """Time training steps (Adam, float32) and predictions of five nets: medians of five blocks of 0.1 s.

    scripts/bench.py in the sources compares with other libraries.
    """
    from ..devices import device as open_device

    on = open_device(device)
    if not as_json:
        click.echo(on.description)
        click.echo(f"{'net':>18}  {'rows a step':>11}  {'us a step':>10}  {'rows/s trained':>14}  {'rows/s predicted':>16}")
    found = []
    for widths, batch in NETS:
        step, forward = _net(widths, batch, on)
        row = {
            "net": "-".join(map(str, widths)), "batch": batch, "step_us": step * 1e6, "train_rows_per_second": batch / step,
            "predict_rows_per_second": 8192 / forward,
        }  # fmt: skip
        found.append(row)
        if not as_json:
            click.echo(
                f"{row['net']:>18}  {batch:>11,}  {row['step_us']:>10,.1f}  {row['train_rows_per_second']:>14,.0f}  "
                f"{row['predict_rows_per_second']:>16,.0f}"
            )
    if as_json:
        click.echo(json.dumps({"device": on.description, "nets": found}))
    return 0


def _net(widths: tuple[int, ...], batch: int, device: Any) -> tuple[float, float]:
    """(seconds a training step, seconds for 8,192 rows predicted)."""
    import numpy as np

    from .. import compile, losses, nn, optim
    from ..data.batches import Batches
    from ..engine import grad

    draw = np.random.default_rng(0)
    x = draw.normal(size=(max(8192, batch), widths[0])).astype(np.float32)
    y = draw.integers(0, widths[-1], len(x))
    net = nn.MLP(*widths).initialize(0).to(device)
    optimizer = optim.Adam(list(net.named_parameters()), lr=1e-3)
    data = Batches(x, y, device=device, seed=0)

    def training_step() -> None:
        rows, targets, _ = data.next(batch)
        assert targets is not None
        optimizer.update(grad(losses.cross_entropy(net(rows), targets), optimizer.parameters))

    program = compile(training_step)

    def steps(n: int) -> None:
        for start in range(0, n, len(x) // batch):
            data.rewind()
            program.run(min(len(x) // batch, n - start))
        device.synchronize()

    forward = compile(net.eval())

    def predict(n: int) -> None:
        for _ in range(n):
            forward(data.x)
        device.synchronize()

    trained = _seconds(steps)
    return trained, _seconds(predict) * 8192 / len(x)


def _seconds(run: Callable[[int], None]) -> float:
    """Of one unit of work: the median of blocks."""
    n = 1
    run(1)
    while True:
        began = time.perf_counter()
        run(n)
        took = time.perf_counter() - began
        if took > BLOCK_SECONDS / 4:
            break
        n *= 4
    n = max(1, round(n * BLOCK_SECONDS / took))
    blocks = []
    for _ in range(BLOCKS):
        began = time.perf_counter()
        run(n)
        blocks.append((time.perf_counter() - began) / n)
    return median(blocks)
