#!/usr/bin/env python
"""Times a training step (Adam, gather of the batch included) on a GPU beside its peers, in one process.

    python scripts/bench_gpu.py --json docs/benchmarks/gpu.json
    python scripts/bench_gpu.py --only mnist,wide --peers torch-graph --precision tf32

Each peer runs many steps a launch, as its users get it at its best: gpunet's trainer, PyTorch's CUDA graph of eight
steps (fused, capturable Adam), JAX's lax.scan over an epoch. The figure is the median of interleaved rounds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from gpunet import Trainer, losses, nn, optim
from gpunet.devices import device as open_device
from gpunet.devices import environment

# fmt: off
WORK: dict[str, tuple[tuple[int, ...], int]] = {  # widths, batch
    "digits":  ((64, 32, 10), 32),
    "small":   ((64, 128, 128, 10), 64),
    "cs231n":  ((3072, 100, 10), 256),
    "mnist":   ((784, 256, 128, 10), 128),
    "tabular": ((54, 256, 256, 256, 7), 256),
    "wide":    ((784, 1024, 1024, 10), 512),
    "deep":    ((*[128] * 9, 10), 1024),
    "big":     ((1024, 2048, 2048, 2048, 10), 4096),
}
# fmt: on
MOST_BATCHES, MOST_NUMBERS = 512, 1 << 28  # of the data set that all of them go through
SECONDS = 0.15  # of a round
LR = 1e-4

Epoch = Callable[[], None]  # one pass over the data set, done when it returns


def batches(widths: tuple[int, ...], batch: int) -> int:
    return min(MOST_BATCHES, MOST_NUMBERS // (batch * widths[0]))


def data(widths: tuple[int, ...], batch: int) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    rows = batches(widths, batch) * batch
    x = np.resize(random.standard_normal((8 * batch, widths[0]), np.float32), (rows, widths[0]))
    return x, random.integers(0, widths[-1], rows)


def gpunet_epoch(widths: tuple[int, ...], batch: int, precision: str) -> Epoch:
    device = open_device("cuda")
    trainer = Trainer(
        nn.MLP(*widths), losses.cross_entropy, optim.Adam(lr=LR), device=device, seed=0, metrics=[], precision=precision
    )
    x, y = data(widths, batch)
    steps = batches(widths, batch)
    trainer.fit((x, y), epochs=2, batch_size=batch, show_progress=False, restore_best=False)
    (program,) = next(iter(trainer._programs.values())).programs[()]
    states = [s for s in program.graph.held.values() if s.shape == () and s.dtype == np.int64]
    cursor = next(s for s in states if int(s.numpy()) == len(x))  # back to the first row before each epoch

    def epoch() -> None:
        cursor.value[...] = 0
        assert program.run(steps) == steps

    return epoch


def torch_net(widths: tuple[int, ...], precision: str) -> tuple[Any, Any]:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    layers: list[Any] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1]).cuda()
    return net, torch.optim.Adam(net.parameters(), lr=LR, fused=True, capturable=True)


def torch_step(widths: tuple[int, ...], batch: int, precision: str) -> tuple[Any, Any]:
    import torch

    net, adam = torch_net(widths, precision)
    x, y = (torch.from_numpy(a).cuda() for a in data(widths, batch))
    order = torch.randperm(len(x), device="cuda").reshape(-1, batch)

    def step(i: int) -> None:
        adam.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(net(x[order[i]]), y[order[i]])
        loss.backward()
        adam.step()

    return torch, step


def torch_eager_epoch(widths: tuple[int, ...], batch: int, precision: str) -> Epoch:
    torch, step = torch_step(widths, batch, precision)

    def epoch() -> None:
        for i in range(batches(widths, batch)):
            step(i)
        torch.cuda.synchronize()

    return epoch


def torch_graph_epoch(widths: tuple[int, ...], batch: int, precision: str, steps: int = 8) -> Epoch:
    torch, step = torch_step(widths, batch, precision)
    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        for i in range(4):
            step(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(steps):
            step(i)

    def epoch() -> None:
        for _ in range(batches(widths, batch) // steps):
            graph.replay()
        torch.cuda.synchronize()

    return epoch


def jax_scan_epoch(widths: tuple[int, ...], batch: int, precision: str) -> Epoch:
    import jax
    import optax

    jax.config.update(
        "jax_default_matmul_precision", {"float32": "float32", "tf32": "tensorfloat32", "bf16": "bfloat16"}[precision]
    )
    x, y = map(jax.device_put, data(widths, batch))
    keys = jax.random.split(jax.random.PRNGKey(0), len(widths))
    order = jax.random.permutation(keys[-1], len(x)).reshape(-1, batch)
    net = [
        (jax.random.normal(k, (a, b)) / a**0.5, jax.numpy.zeros(b))
        for k, a, b in zip(keys, widths, widths[1:], strict=False)
    ]
    adam = optax.adam(LR)

    def loss(net: Any, x: Any, y: Any) -> Any:
        for i, (w, b) in enumerate(net):
            x = x @ w + b
            x = jax.nn.relu(x) if i + 1 < len(net) else x
        return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()

    def step(carry: Any, rows: Any) -> Any:
        net, state = carry
        value, grads = jax.value_and_grad(loss)(net, x[rows], y[rows])
        updates, state = adam.update(grads, state)
        return (optax.apply_updates(net, updates), state), value

    scanned = jax.jit(lambda carry: jax.lax.scan(step, carry, order))
    carry = net, adam.init(net)

    def epoch() -> None:
        nonlocal carry
        carry, _ = scanned(carry)
        jax.block_until_ready(carry)

    return epoch


PEERS: dict[str, Callable[..., Epoch]] = {
    "gpunet": gpunet_epoch, "torch-graph": torch_graph_epoch, "jax-scan": jax_scan_epoch, "torch-eager": torch_eager_epoch,
}  # fmt: skip


def timed(epoch: Epoch, steps: int) -> float:
    """Microseconds a step, of which an epoch has so many."""
    epochs, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < SECONDS or not epochs:
        epoch()
        epochs += 1
    return 1e6 * took / (epochs * steps)


def measure(name: str, peers: list[str], precision: str, rounds: int) -> dict[str, float]:
    epochs: dict[str, Epoch] = {}
    for peer in peers:
        try:
            epochs[peer] = PEERS[peer](*WORK[name], precision)
            epochs[peer]()
        except ImportError as error:
            print(f"{name}: no {peer}: {error}")
    found: dict[str, list[float]] = {peer: [] for peer in epochs}
    for _ in range(rounds):
        for peer, epoch in epochs.items():
            found[peer].append(timed(epoch, batches(*WORK[name])))
    return {peer: round(median(times), 2) for peer, times in found.items()}


def line(name: str, precision: str, found: dict[str, float]) -> str:
    best = min((t for peer, t in found.items() if peer != "gpunet"), default=float("nan"))
    times = "".join(f"{found.get(peer, float('nan')):13.1f}" for peer in PEERS)
    return f"{name:9}{precision:9}{times}{best / found['gpunet']:10.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(WORK), help="workloads, separated by commas")
    parser.add_argument("--peers", default=",".join(p for p in PEERS if p != "gpunet"))
    parser.add_argument("--precision", default="float32", help="float32, tf32, bf16; several separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    device, made = open_device("cuda"), []
    print(f"{device.description}; microseconds a step, ratio to the best peer")
    print(f"{'':18}{''.join(f'{peer:>13}' for peer in PEERS)}{'ratio':>10}")
    for precision in given.precision.split(","):
        for name in given.only.split(","):
            found = measure(name, ["gpunet", *given.peers.split(",")], precision, given.rounds)
            print(line(name, precision, found), flush=True)
            widths, batch = WORK[name]
            made.append({"workload": name, "widths": widths, "batch": batch, "precision": precision, "microseconds": found})
    if given.json:
        head = {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": platform.platform(), "device": device.description, "environment": environment.env().to_dict(),
        }  # fmt: skip
        given.json.write_text(json.dumps({**head, "steps": made}, indent=2) + "\n")


if __name__ == "__main__":
    main()
