#!/usr/bin/env python
"""Fit time of preset="realmlp" beside pytabkit's RealMLP-TD and beside its own matrix products, in one run on one CPU.

    export GPUNET_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1  # or 2, all three
    python scripts/bench_realmlp.py ../shared/data/tabular --tables concrete,abalone
    python scripts/bench_realmlp.py ../shared/data/tabular --tables spambase,adult --epochs 32 --json out.json

Both fit the training part of bench_tabular.py's split, seed 0, by turns, --repeats times; the least seconds count, for other
work on the machine only adds to them: of the processor with one thread, of the clock with more, for all alike. The products
are those of a fit, in the same shapes and number, by NumPy's BLAS in float32 on arrays that stay where they are: of each step
and layer the forward product and its two gradients, of the numeric embeddings too (a stack of small ones, which is given
apart), and of each epoch the forward products of the rows held out. Without pytabkit its column is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_tabular import MOST_ROWS, Table, machine, split, tables

ROWS = 256  # a step, in the recipe
HELD_OUT = 0.2


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    clock = time.process_time if threads() == 1 else time.perf_counter
    begun = clock()
    made = work()
    return clock() - begun, made


def threads() -> int:
    return int(os.environ.get("GPUNET_THREADS", "1"))


def ours(table: Table, x: Any, y: Any, epochs: int) -> Any:
    import gpunet

    kind = gpunet.MLPClassifier if table.classes else gpunet.MLPRegressor
    return kind(preset="realmlp", n_ensemble=1, max_iter=epochs, random_state=0).fit(x, y)


def theirs(table: Table, x: Any, y: Any, epochs: int) -> Any:
    import pytabkit

    kind = pytabkit.RealMLP_TD_Classifier if table.classes else pytabkit.RealMLP_TD_Regressor
    learner = kind(device="cpu", random_state=0, n_threads=threads(), n_epochs=epochs)
    filled = x.assign(**{name: x[name].fillna(x[name].median()) for name in table.numeric})
    return learner.fit(filled, y, cat_col_names=table.categorical)


def shapes(fitted: Any) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """(inputs, outputs) of each dense layer, and (stack, inputs, outputs) of the embeddings' products."""
    from gpunet import nn

    modules = [module for _, module in fitted.model_.net.modules()]
    dense = [(m.inputs, m.outputs) for m in modules if isinstance(m, nn.NTKLinear)]
    waves = [m for m in modules if isinstance(m, nn.PeriodicEmbedding)]
    return dense, [s for m in waves for s in ((m.features, 1, m.frequencies), (m.features, m.frequencies, m.width - 1))]


def products(of: list[tuple[int, ...]], rows: int, *, backward: bool) -> Callable[[], None]:
    """All products of one step through layers of these shapes."""
    r = np.random.default_rng(0)
    calls = []
    for *stack, k, m in of:
        x, w, g = (r.normal(size=(*stack, *s)).astype(np.float32) for s in ((rows, k), (k, m), (rows, m)))
        pairs = [(x, w), (x.swapaxes(-1, -2), g), (g, w.swapaxes(-1, -2))][: 3 if backward else 1]
        calls += [(a, b, np.empty((*stack, a.shape[-2], b.shape[-1]), np.float32)) for a, b in pairs]

    def run() -> None:
        for a, b, out in calls:
            np.matmul(a, b, out=out)

    return run


def of_a_fit(of: list[tuple[int, ...]], rows: int, epochs: int) -> float:
    held_out = round(HELD_OUT * rows)
    step, judged = products(of, ROWS, backward=True), products(of, held_out, backward=False)

    def fit() -> None:
        for _ in range(epochs):
            for _ in range((rows - held_out) // ROWS):
                step()
            judged()

    return seconds(fit)[0]


def measured(table: Table, epochs: int, repeats: int, peer: bool) -> dict[str, Any]:
    x, y, _, _ = split(table, 0)
    found: dict[str, list[float]] = {"fit": [], "dense products": [], "embedding products": [], "RealMLP-TD": []}
    ours(table, x, y, 1), theirs(table, x, y, 1) if peer else None  # imports and first compilations
    for _ in range(repeats):
        took, fitted = seconds(lambda: ours(table, x, y, epochs))
        dense, stacked = shapes(fitted)
        found["fit"].append(took)
        found["dense products"].append(of_a_fit(dense, len(x), epochs))
        found["embedding products"].append(of_a_fit(stacked, len(x), epochs))
        if peer:
            found["RealMLP-TD"].append(seconds(lambda: theirs(table, x, y, epochs))[0])
    least = {name: round(min(times), 3) for name, times in found.items() if times}
    both = least["dense products"] + least["embedding products"]
    ratios = {"over dense": least["fit"] / least["dense products"], "over products": least["fit"] / both}
    ratios |= {"times faster": least["RealMLP-TD"] / least["fit"]} if peer else {}
    about = {"table": table.name, "threads": threads(), "rows": len(x), "dense": dense, "epochs": epochs, "repeats": repeats}
    return about | least | {name: round(ratio, 2) for name, ratio in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help=f"a folder with suite.json; at most {MOST_ROWS:,} rows train")
    parser.add_argument("--tables", required=True, help="names, separated by commas")
    parser.add_argument("--epochs", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="add the figures, with machine and versions, to this file")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    peer = importlib.util.find_spec("pytabkit") is not None
    before = json.loads(args.json.read_text())["tables"] if args.json and args.json.exists() else []
    made = []
    for table in tables(args.suite, args.tables.split(",")):
        made.append(measured(table, args.epochs, args.repeats, peer))
        print("  ".join(f"{name} {value}" for name, value in made[-1].items()), flush=True)
        if args.json:
            args.json.write_text(json.dumps({"machine": machine(), "tables": [*before, *made]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
