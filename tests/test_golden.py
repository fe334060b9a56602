"""Ten steps of every optimizer, and every loss, against what PyTorch computed (scripts/make_golden.py wrote it)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunet import losses, ops, optim
from gpunet.devices import Device
from gpunet.engine import Tensor, grad, tensor

GOLDEN = Path(__file__).parent / "golden"
# float32: PyTorch's order of operations within a step is not ours, so the last bits differ; ten steps add them up.
TOLERANCE = {"float64": {"rtol": 1e-10, "atol": 1e-14}, "float32": {"rtol": 2e-5, "atol": 2e-6}}


def load(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("meta"))), arrays


RUNS, RUN_ARRAYS = load("optimizers")
LOSSES, LOSS_ARRAYS = load("losses")


def pieces(joined: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    at = 0
    for name, shape in RUNS["shapes"].items():
        yield name, joined[at : at + math.prod(shape)].reshape(shape)
        at += math.prod(shape)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", RUNS["cases"])
def test_ten_steps_are_pytorchs(case: str, dtype: str, device: Device) -> None:
    start = {name: RUN_ARRAYS[f"start/{name}"].astype(dtype) for name in RUNS["shapes"]}
    made = {name: tensor(array, device=device, requires_grad=True) for name, array in start.items()}
    x, y = tensor(RUN_ARRAYS["x"].astype(dtype), device=device), tensor(RUN_ARRAYS["y"], device=device)
    recipe = RUNS["cases"][case]
    optimizer = optim.get(recipe["optimizer"])(made.items(), **recipe["settings"])
    optimizer.start(RUNS["steps"])
    golden = {what: RUN_ARRAYS[f"{case}/{dtype}/{what}"] for what in ("losses", "grads", "params")}
    for step in range(1, RUNS["steps"] + 1):
        hidden = ops.linear(x, made["0.weight"], made["0.bias"], act="tanh")
        loss = losses.cross_entropy(ops.linear(hidden, made["1.weight"], made["1.bias"]), y)
        np.testing.assert_allclose(loss.item(), golden["losses"][step - 1], **TOLERANCE[dtype])
        grads = grad(loss, list(made.values()))
        optimizer.update(grads)
        if step not in RUNS["recorded"]:
            continue
        row = RUNS["recorded"].index(step)
        for g, (name, want) in zip(grads, pieces(golden["grads"][row]), strict=True):
            np.testing.assert_allclose(g.numpy(), want, err_msg=f"gradient of {name}, step {step}", **TOLERANCE[dtype])
        for name, want in pieces(golden["params"][row]):
            np.testing.assert_allclose(made[name].numpy(), want, err_msg=f"{name}, step {step}", **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", LOSSES["cases"])
def test_loss_and_its_gradient_are_pytorchs(case: str, dtype: str, device: Device) -> None:
    def given(name: str) -> Tensor:
        array = LOSS_ARRAYS[f"arrays/{name}"]
        return tensor(array.astype(dtype) if array.dtype.kind == "f" else array, device=device)

    row = LOSSES["cases"][case]
    settings = {k: given(v) if isinstance(v, str) else v for k, v in row["settings"].items()}
    z = given(row["predictions"])
    z.requires_grad = True
    loss = losses.get(row["loss"])(z, given(row["targets"]), **settings)
    assert loss.shape == ()
    np.testing.assert_allclose(loss.numpy(), LOSS_ARRAYS[f"{case}/{dtype}/value"], **TOLERANCE[dtype])
    np.testing.assert_allclose(grad(loss, z).numpy(), LOSS_ARRAYS[f"{case}/{dtype}/grad"], **TOLERANCE[dtype])


def test_files_name_the_torch_that_made_them_and_stay_small() -> None:
    assert RUNS["torch"] == LOSSES["torch"] and RUNS["torch"][0].isdigit()
    assert sum(path.stat().st_size for path in GOLDEN.glob("*.npz")) < 500_000
