#!/usr/bin/env python
"""Times gpunet beside its peers: a training step (Adam, float32) of nine nets, inference, and what a call costs.

    python scripts/bench.py --threads 1                   # all workloads, whatever peers are installed
    python scripts/bench.py --calls                       # predict, first calls, epochs: gpunet alone, in this process
    python scripts/bench.py --readers                     # CSV and Parquet files of 5 to 100 MB, beside pyarrow's readers
    python scripts/bench.py --only digits,mnist --peers numpy,torch --json docs/benchmarks/cpu.json

Each peer runs in a process of its own, pinned to the same cores with the same number of threads. Blocks of about 0.1 s
are interleaved, peer after peer, round after round; the figure is the median of a peer's blocks.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

BLOCK_SECONDS = 0.1
PAUSE_SECONDS = 0.15  # OpenBLAS's threads spin for 0.1 s after their last call, on the cores of whoever comes next
Run = tuple[Callable[[], Any], int]  # what to time, and how many steps one call of it makes


class Work(NamedTuple):
    widths: tuple[int, ...]
    batch: int
    activation: str = "relu"
    kind: str = "train"  # or "infer": one forward pass of the batch


# fmt: off
WORK = {
    "xor":      Work((2, 16, 2), 4),
    "digits":   Work((64, 32, 10), 32),
    "small":    Work((64, 128, 128, 10), 64),
    "cs231n":   Work((3072, 100, 10), 256),
    "mnist":    Work((784, 256, 128, 10), 128),
    "sigmoid":  Work((784, 256, 128, 10), 128, "sigmoid"),
    "tabular":  Work((54, 256, 256, 256, 7), 256),
    "wide":     Work((784, 1024, 1024, 10), 512),
    "deep":     Work((*[128] * 9, 10), 1024),
    "odd45":    Work((45, 45, 45, 10), 100),
    "odd257":   Work((100, 257, 257, 7), 257),
    "infer1":   Work((64, 128, 128, 10), 1, kind="infer"),
    "infer8k":  Work((64, 128, 128, 10), 8192, kind="infer"),
}
# fmt: on
BATCHES = 8


def flops(work: Work) -> float:
    """Of the matrix products: forward, and in training the weights' and (but for the first layer) the inputs' gradients."""
    products = [2.0 * work.batch * a * b for a, b in zip(work.widths, work.widths[1:], strict=False)]
    return sum(products) if work.kind == "infer" else 3 * sum(products) - products[0]


def moved(work: Work) -> float:
    """Bytes that a step must move besides: Adam reads p, g, m, v and writes p, m, v; the batch is gathered."""
    if work.kind == "infer":
        return 0.0
    parameters = sum((a + 1) * b for a, b in zip(work.widths, work.widths[1:], strict=False))
    return 4.0 * (7 * parameters + 2 * work.batch * work.widths[0])


def batches(work: Work) -> tuple[Any, Any]:
    r = np.random.default_rng(0)
    x = r.standard_normal((BATCHES, work.batch, work.widths[0])).astype(np.float32)
    return x, r.integers(0, work.widths[-1], (BATCHES, work.batch))


# ---------------------------------------------------------------- gpunet


def gpunet(work: Work) -> Run:
    """The trainer's own step, many in one call."""
    from gpunet import losses, nn, optim
    from gpunet.data.batches import Batches
    from gpunet.devices import device
    from gpunet.engine import grad, tensor
    from gpunet.graph import compile

    if work.kind == "infer":
        return gpunet_call(work)
    x, y = batches(work)
    net = nn.MLP(*work.widths, activation=work.activation)
    optimizer = optim.Adam(lr=1e-3)
    optimizer.bind(list(net.named_parameters()))
    data = Batches(x.reshape(-1, work.widths[0]), y.reshape(-1), device=device("cpu"))

    def step() -> None:
        inputs, targets, _ = data.next(work.batch)
        optimizer.update(grad(losses.cross_entropy(net(inputs), targets), optimizer.parameters))

    steps = compile(step)
    many = max(1, min(1000, int(1e9 / max(flops(work), 1e5))))
    around = np.arange(many * work.batch) % data.rows  # an epoch of `many` steps, round and round
    data.order = tensor(around)

    def run() -> None:
        data.rewind()
        steps.run(many)

    return run, many


def gpunet_call(work: Work) -> Run:
    """One call from Python with Tensors: a compiled forward pass, or a compiled step."""
    from gpunet import losses, nn, optim
    from gpunet.engine import grad, tensor
    from gpunet.graph import compile

    x, y = (tensor(a[0]) for a in batches(work))
    net = nn.MLP(*work.widths, activation=work.activation)
    if work.kind == "infer":
        forward = compile(lambda x: net(x))
        net.eval()
        return lambda: forward(x), 1
    optimizer = optim.Adam(list(net.named_parameters()), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        loss = losses.cross_entropy(net(x), y)
        optimizer.update(grad(loss, optimizer.parameters))
        return loss

    run = compile(step)
    return lambda: run(x, y), 1


def calls() -> dict[str, float]:
    """What gpunet costs beside its programs: medians, in microseconds."""
    from gpunet import Model, Trainer, nn
    from gpunet.tabular import ArrayEncoder, Target

    found = {f"{name}: a call": block(*gpunet_call(WORK[name])) for name in ("xor", "digits", "infer1")}
    rows = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    classes, net = np.arange(500) % 10, nn.MLP(64, 128, 128, 10).initialize(0)
    model = Model(net, ArrayEncoder.fit(rows), Target.fit(classes, task="classification"))
    trainer = Trainer(net)
    for name, predict in (("Model", model.predict), ("Trainer", trainer.predict)):
        predict(rows[:1])
        found[f"{name}.predict, one row"] = block(lambda predict=predict: predict(rows[:1]), 1)
    for name in list(WORK)[:9]:
        found[f"{name}: the first call"] = median(first_call(WORK[name]) for _ in range(5))
    found["gpunet-train --help"] = median(help_takes() for _ in range(7))
    tiny = Trainer(nn.MLP(64, 4, 10), metrics=[])
    found["an epoch of one step"] = block(
        lambda: tiny.fit((rows[:16], classes[:16]), epochs=1000, show_progress=False), 1000
    )
    return found


def help_takes() -> float:
    """Microseconds from the command to its help, the interpreter's start included."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "gpunet.cli.main", "--help"], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1e6


def first_call(work: Work) -> float:
    run, _ = gpunet_call(work)
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1e6


# ---------------------------------------------------------------- readers


def readers(rounds: int) -> None:
    """Seconds to read files of each kind; gpunet and pyarrow by turns, each time a fresh table."""
    import tempfile

    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    from gpunet.data import read_csv, read_parquet

    print(f"{'':26}{'MB':>5}{'pyarrow':>14}{'gpunet':>14}{'ratio':>8}   medians; CPU seconds of all threads in brackets")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        for kind, columns in _tables():
            table = pyarrow.table({f"c{i}": c for i, c in enumerate(columns)})
            more = 1 if len(columns[0]) > 200_000 else 3  # small files are read more often
            style = "needed" if kind == "quoted text" else "none"  # the needed ones are those of every text
            pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(quoting_style=style))
            _beside(f"CSV, {kind}", path, pyarrow.csv.read_csv, read_csv, rounds * more)
            pyarrow.parquet.write_table(table, path, row_group_size=200_000)
            _beside(f"Parquet, {kind}", path, pyarrow.parquet.read_table, read_parquet, rounds * more)


def _tables() -> Iterator[tuple[str, list[Any]]]:
    """(kind, columns) of what becomes CSV files of about 100 MB, and of 16 and 5 MB."""
    r = np.random.default_rng(0)
    words = np.array(["Private", "Self-emp-not-inc", "Local-gov", "State-gov", "?", "HS-grad"])

    def floats(rows: int, count: int) -> list[Any]:
        return [np.round(r.normal(size=rows) * 100, 4) for _ in range(count)]

    def whole(rows: int, count: int, below: int = 100_000) -> list[Any]:
        return [r.integers(0, below, rows) for _ in range(count)]

    def texts(rows: int, count: int) -> list[Any]:
        return [words[r.integers(0, len(words), rows)] for _ in range(count)]

    rows = 600_000
    yield "numbers", floats(rows, 12) + whole(rows, 6)
    yield "numbers and text", floats(rows, 6) + whole(rows, 6) + texts(rows, 6)
    yield "short integers", whole(3 * rows, 18, 1000)
    yield "quoted text", floats(rows, 4) + whole(rows, 4) + [np.char.add(t, ', "etc"') for t in texts(rows, 6)]
    for rows in (160_000, 50_000):  # like the table of adults
        yield "people", whole(rows, 1, 90) + whole(rows, 2) + whole(rows, 3, 100) + texts(rows, 9)


def _beside(name: str, path: Path, theirs: Callable[[Path], Any], ours: Callable[[Path], Any], rounds: int) -> None:
    taken = np.zeros((rounds + 1, 2, 2))  # the first is not counted
    for i in range(rounds + 1):
        for j, read in enumerate((theirs, ours)):
            began, cpu = time.perf_counter(), time.process_time()
            read(path)
            taken[i, j] = time.perf_counter() - began, time.process_time() - cpu
    (their, their_cpu), (our, our_cpu) = np.median(taken[1:], axis=0)
    ratio, of_cpu = np.median(taken[1:, 1] / taken[1:, 0], axis=0)
    print(
        f"{name:26}{path.stat().st_size / 1e6:5.0f}{their:7.3f} ({their_cpu:.2f}){our:7.3f} ({our_cpu:.2f}){ratio:6.2f} ({of_cpu:.2f})",
        flush=True,
    )


# ---------------------------------------------------------------- peers


def by_hand(work: Work) -> Run:
    """NumPy, written out."""
    r = np.random.default_rng(0)
    pairs = list(zip(work.widths, work.widths[1:], strict=False))
    weights = [(r.standard_normal(p) * np.sqrt(2 / p[0])).astype(np.float32) for p in pairs]
    biases = [np.zeros(b, np.float32) for _, b in pairs]
    parameters = weights + biases
    first, second = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    (x, y), rows, count = batches(work), np.arange(work.batch), [0]
    relu = work.activation == "relu"

    def forward(h: Any) -> list[Any]:
        kept = [h]
        for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
            z = kept[-1] @ w + b
            last = k == len(weights) - 1
            kept.append(z if last else np.maximum(z, 0, out=z) if relu else 1 / (1 + np.exp(-z)))
        return kept

    def step() -> None:
        i, count[0] = count[0] % BATCHES, count[0] + 1
        kept = forward(x[i])
        z = kept[-1]
        z -= z.max(1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(1, keepdims=True)
        z[rows, y[i]] -= 1
        z /= work.batch
        of_weights: list[Any] = []
        of_biases: list[Any] = []
        for k in reversed(range(len(weights))):
            of_weights.insert(0, kept[k].T @ z)
            of_biases.insert(0, z.sum(0))
            if k:
                z = z @ weights[k].T
                z *= (kept[k] > 0) if relu else kept[k] * (1 - kept[k])
        rate = np.float32(1e-3 * (1 - 0.999 ** count[0]) ** 0.5 / (1 - 0.9 ** count[0]))
        for p, m, v, g in zip(parameters, first, second, of_weights + of_biases, strict=True):
            m += np.float32(0.1) * (g - m)
            v += np.float32(0.001) * (g * g - v)
            p -= rate * m / (np.sqrt(v) + np.float32(1e-8))

    return (lambda: forward(x[0])) if work.kind == "infer" else step, 1


def torch(work: Work, compiled: bool = False) -> Run:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    layers: list[Any] = []
    for a, b in zip(work.widths, work.widths[1:], strict=False):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU() if work.activation == "relu" else torch.nn.Sigmoid()]
    net = torch.nn.Sequential(*layers[:-1])
    x, y = (torch.from_numpy(a) for a in batches(work))
    if work.kind == "infer":
        call = torch.compile(net) if compiled else net
        one = x[0]
        return torch.inference_mode()(lambda: call(one)), 1
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    loss_of = torch.nn.CrossEntropyLoss()
    loss = (lambda x, y: loss_of(net(x), y)) if not compiled else torch.compile(lambda x, y: loss_of(net(x), y))
    count = [0]

    def step() -> None:
        i, count[0] = count[0] % BATCHES, count[0] + 1
        optimizer.zero_grad(set_to_none=True)
        loss(x[i], y[i]).backward()
        optimizer.step()

    return step, 1


def jax(work: Work, scan: int = 0) -> Run:
    """One jitted step a call, or `scan` of them inside lax.scan: JAX at its best."""
    import jax
    import jax.numpy as jnp

    key, parameters = jax.random.PRNGKey(0), []
    for a, b in zip(work.widths, work.widths[1:], strict=False):
        key, mine = jax.random.split(key)
        parameters.append((jax.random.normal(mine, (a, b)) * (2 / a) ** 0.5, jnp.zeros(b)))
    act = jax.nn.relu if work.activation == "relu" else jax.nn.sigmoid

    def forward(p: Any, x: Any) -> Any:
        for w, b in p[:-1]:
            x = act(x @ w + b)
        return x @ p[-1][0] + p[-1][1]

    def loss(p: Any, x: Any, y: Any) -> Any:
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(forward(p, x)), y[:, None], 1))

    def update(state: Any, x: Any, y: Any) -> Any:
        p, m, v, n = state
        g, n = jax.grad(loss)(p, x, y), n + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 - 0.9**n, 1 - 0.999**n
        return jax.tree.map(lambda p, m, v: p - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), p, m, v), m, v, n

    x, y = (jnp.asarray(a) for a in batches(work))
    if work.kind == "infer":
        call, one = jax.jit(forward), x[0]
        return lambda: call(parameters, one).block_until_ready(), 1
    zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
    state: list[Any] = [(parameters, *zeros, jnp.float32(0))]
    if scan:
        many = jax.jit(
            lambda s: jax.lax.scan(lambda s, i: (update(s, x[i % BATCHES], y[i % BATCHES]), 0), s, jnp.arange(scan))[0],
            donate_argnums=0,
        )
    else:
        many = jax.jit(lambda s, i: update(s, x[i], y[i]), donate_argnums=0)
    count = [0]

    def step() -> None:
        i, count[0] = count[0] % BATCHES, count[0] + 1
        state[0] = many(state[0]) if scan else many(state[0], i)
        jax.block_until_ready(state[0])

    return step, scan or 1


def scikit_learn(work: Work) -> Run:
    """MLPClassifier.fit: its own loop over an epoch of 64 batches."""
    from sklearn.neural_network import MLPClassifier

    warnings.filterwarnings("ignore")
    x, y = (np.concatenate([a] * 8) for a in batches(work))
    settings: dict[str, Any] = {
        "activation": {"relu": "relu", "sigmoid": "logistic"}[work.activation],
        "batch_size": work.batch,
    }
    net = MLPClassifier(work.widths[1:-1], max_iter=1, warm_start=True, tol=0, n_iter_no_change=10**9, **settings)
    flat, targets = x.reshape(-1, work.widths[0]), y.reshape(-1)
    net.fit(flat, targets)
    return (lambda: net.predict_proba(x[0]), 1) if work.kind == "infer" else (lambda: net.fit(flat, targets), 64)


def onnx_runtime(work: Work) -> Run:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    if work.kind != "infer":
        raise NotImplementedError("inference only")
    r, nodes, constants, at = np.random.default_rng(0), [], [], "x"
    for k, (a, b) in enumerate(zip(work.widths, work.widths[1:], strict=False)):
        constants += [
            numpy_helper.from_array(r.standard_normal((a, b)).astype(np.float32), f"w{k}"),
            numpy_helper.from_array(np.zeros(b, np.float32), f"b{k}"),
        ]
        nodes.append(helper.make_node("Gemm", [at, f"w{k}", f"b{k}"], [f"z{k}"]))
        at = f"z{k}"
        if k < len(work.widths) - 2:
            nodes.append(helper.make_node("Relu", [at], [f"h{k}"]))
            at = f"h{k}"
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [work.batch, w])
        for n, w in (("x", work.widths[0]), (at, work.widths[-1]))
    ]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], constants)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = batches(work)[0][0]
    return lambda: session.run(None, {"x": x}), 1


def sgemm(work: Work) -> Run:
    """The machine's own rate: NumPy's product of two 1024 x 1024 matrices; its 'step' is one product."""
    a = np.ones((1024, 1024), np.float32)
    return lambda: a @ a, 1


COPIED = 64 << 20  # bytes


def copy(work: Work) -> Run:
    """The machine's own bandwidth: NumPy copies 64 MB; its 'step' is one copy."""
    a, b = np.ones(COPIED, np.uint8), np.empty(COPIED, np.uint8)
    return lambda: np.copyto(b, a), 1


class Peer(NamedTuple):
    make: Callable[[Work], Run]
    needs: str


# fmt: off
PEERS = {
    "gpunet":        Peer(gpunet, "gpunet"),
    "gpunet call":   Peer(gpunet_call, "gpunet"),
    "numpy":         Peer(by_hand, "numpy"),
    "torch":         Peer(torch, "torch"),
    "torch.compile": Peer(lambda work: torch(work, compiled=True), "torch"),
    "jax":           Peer(jax, "jax"),
    "jax scan":      Peer(lambda work: jax(work, scan=64), "jax"),
    "scikit-learn":  Peer(scikit_learn, "sklearn"),
    "onnxruntime":   Peer(onnx_runtime, "onnxruntime"),
    "sgemm":         Peer(sgemm, "numpy"),
    "copy":          Peer(copy, "numpy"),
}
# fmt: on
MACHINE = ("sgemm", "copy")  # not peers, but what they all have


# ---------------------------------------------------------------- a peer's process


def serve(peer: str) -> None:
    """Read workload names and lines "go"; answer each with microseconds a step, or the reason why not."""
    run, per = None, 1
    for line in sys.stdin:
        word = line.strip()
        try:
            if word == "go" and run is not None:
                answer: Any = block(run, per)
            else:
                run, per = PEERS[peer].make(WORK[word])
                for _ in range(3):
                    run()
                answer = "ready"
        except Exception as error:  # a peer that cannot do this workload is left out of its row
            run, answer = None, f"{type(error).__name__}: {error}".splitlines()[0]
        print(json.dumps(answer), flush=True)


def block(run: Callable[[], Any], per: int) -> float:
    calls, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < BLOCK_SECONDS or not calls:
        run()
        calls += 1
    return taken / (calls * per) * 1e6


class Worker:
    def __init__(self, peer: str, threads: int) -> None:
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "GPUNET_THREADS")
        environment = {
            **os.environ,
            **dict.fromkeys(names, str(threads)),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "JAX_PLATFORMS": "cpu",
        }
        command = ["taskset", "-c", cores, sys.executable, __file__, "--serve", peer]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, word: str) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(word, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else "the process ended"


# ---------------------------------------------------------------- the tables


def measure(workers: dict[str, Worker], name: str, rounds: int) -> dict[str, list[float]]:
    """Microseconds a step of every peer that can do this workload, block by block."""
    able = []
    for peer, worker in workers.items():
        answer = worker.ask(name)
        if answer == "ready":
            able.append(peer)
        else:
            if "inference only" not in answer:
                print(f"  {peer} leaves out {name}: {answer}", file=sys.stderr)
    times: dict[str, list[float]] = {peer: [] for peer in able}
    for _ in range(rounds):
        for peer in able:
            times[peer].append(workers[peer].ask("go"))
            time.sleep(PAUSE_SECONDS)
    return times


def row(name: str, times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, gpunet's lead over the best peer in the same run, and its share of the speed that the machine allows."""
    middle = {peer: median(values) for peer, values in times.items()}
    of_products = flops(WORK[name]) * middle["sgemm"] / (2 * 1024**3)
    floor = of_products + moved(WORK[name]) * middle["copy"] / (2 * COPIED)
    peers = {p: v for p, v in middle.items() if not p.startswith("gpunet") and p not in MACHINE}
    best = min(peers, key=lambda p: peers[p]) if peers else ""
    lead = median([a / b for a, b in zip(times[best], times["gpunet"], strict=True)]) if best else float("nan")
    return {
        "microseconds": {p: v for p, v in middle.items() if p not in MACHINE}, "best peer": best, "ratio": lead,
        "sgemm GFLOP/s": 2e-3 * 1024**3 / middle["sgemm"], "copy GB/s": 2e-3 * COPIED / middle["copy"],
        "of sgemm": of_products / middle["gpunet"], "floor": floor, "of floor": floor / middle["gpunet"],
    }  # fmt: skip


def show(rows: dict[str, Any], peers: list[str]) -> None:
    """Microseconds a step; floor: the products at the machine's sgemm rate, optimizer and gather at its copy rate."""
    shown = [p for p in peers if p not in MACHINE]
    wide = max(len(p) for p in shown) + 1
    heads = "".join(f"{p:>{wide}}" for p in shown)
    print(f"{'us a step':9}{heads}{'best / gpunet':>15}{'of sgemm':>10}{'of floor':>10}")
    for name, r in rows.items():
        cells = "".join(f"{r['microseconds'].get(p, float('nan')):>{wide}.1f}" for p in shown)
        print(f"{name:9}{cells}{r['ratio']:>15.2f}{r['of sgemm']:>10.0%}{r['of floor']:>10.0%}")
    ratios = [r["ratio"] for r in rows.values() if r["ratio"] == r["ratio"]]
    if ratios:
        print(f"geometric mean of the ratios {np.exp(np.mean(np.log(ratios))):.2f}")


def machine(threads: int) -> dict[str, Any]:
    versions = {}
    for module in ("numpy", "gpunet", "torch", "jax", "sklearn", "onnxruntime"):
        if importlib.util.find_spec(module):
            found = subprocess.run(
                [sys.executable, "-c", f"import {module}; print({module}.__version__)"], capture_output=True, text=True
            )
            versions[module] = found.stdout.strip()
    isa = "import gpunet; print(getattr(gpunet.device('cpu').native, 'isa', lambda: 'numpy')())"
    kernels = subprocess.run([sys.executable, "-c", isa], capture_output=True, text=True).stdout.strip()
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(), "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)), "threads": threads, "kernels": kernels,
        "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(WORK), help="workloads, separated by commas")
    parser.add_argument(
        "--peers", default=",".join(PEERS), help="peers, separated by commas; gpunet, sgemm and copy always run"
    )
    parser.add_argument("--rounds", type=int, default=9, help="blocks of 0.1 s for each peer and workload")
    parser.add_argument("--json", type=Path, help="write the figures, with machine and versions, to this file")
    parser.add_argument("--calls", action="store_true", help="only what gpunet costs beside its programs")
    parser.add_argument("--readers", action="store_true", help="only how fast files are read")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve)
    if given.readers:
        return readers(given.rounds)
    if given.calls:
        for name, microseconds in calls().items():
            print(f"{name:32}{microseconds:10.1f} us")
        return None
    wanted = ["gpunet", *given.peers.split(","), *MACHINE]
    for kind, names, known in (("workload", given.only.split(","), WORK), ("peer", wanted, PEERS)):
        if unknown := [name for name in names if name not in known]:
            parser.error(f"no {kind} {unknown[0]!r}: {', '.join(known)}")
    peers = [p for p in PEERS if p in wanted and importlib.util.find_spec(PEERS[p].needs)]
    workers = {peer: Worker(peer, given.threads) for peer in peers}
    rows = {name: row(name, measure(workers, name, given.rounds)) for name in given.only.split(",")}
    show(rows, peers)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({**machine(given.threads), "rows": rows}, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
