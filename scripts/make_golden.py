"""Writes tests/golden/*.npz: short runs of PyTorch's optimizers and losses, which the tests replay with gpunet.

    pip install torch && python scripts/make_golden.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
STEPS, RECORDED = 10, (1, 2, 5, 10)
DTYPES = {"float64": torch.float64, "float32": torch.float32}
SHAPES = {"0.weight": (4, 5), "0.bias": (5,), "1.weight": (5, 3), "1.bias": (3,)}


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, program 1; PyTorch has none."""

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                c = beta1 * m + (1 - beta1) * p.grad
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * torch.sign(c))
                m.mul_(beta2).add_((1 - beta2) * p.grad)


O = torch.optim  # noqa: E741
# fmt: off
# gpunet's optimizer, gpunet's settings, PyTorch's class, PyTorch's settings where they differ
CASES: dict[str, tuple[str, dict[str, Any], Any, dict[str, Any] | None]] = {
    "sgd":             ("sgd",     {"lr": 0.1}, O.SGD, None),
    "sgd-momentum":    ("sgd",     {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}, O.SGD, None),
    "sgd-nesterov":    ("sgd",     {"lr": 0.1, "momentum": 0.9, "nesterov": True}, O.SGD, None),
    "sgd-clip-norm":   ("sgd",     {"lr": 0.5, "clip_norm": 0.1}, O.SGD, {"lr": 0.5}),
    "sgd-clip-value":  ("sgd",     {"lr": 0.5, "clip_value": 0.02}, O.SGD, {"lr": 0.5}),
    "sgd-clip-both":   ("sgd",     {"lr": 0.5, "clip_value": 0.03, "clip_norm": 0.1}, O.SGD, {"lr": 0.5}),
    "sgd-cosine":      ("sgd",     {"lr": 0.3, "schedule": "cosine"}, O.SGD, {"lr": 0.3}),
    "sgd-step":        ("sgd",     {"lr": 0.3, "schedule": "step:4,0.5"}, O.SGD, {"lr": 0.3}),
    "adagrad":         ("adagrad", {"lr": 0.05}, O.Adagrad, None),
    "adagrad-decay":   ("adagrad", {"lr": 0.05, "weight_decay": 0.02, "eps": 1e-6}, O.Adagrad, None),
    "rmsprop":         ("rmsprop", {"lr": 0.01}, O.RMSprop, None),
    "rmsprop-all":     ("rmsprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.8, "weight_decay": 0.02}, O.RMSprop, None),
    "adam":            ("adam",    {"lr": 0.01}, O.Adam, None),
    "adam-all":        ("adam",    {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-5, "weight_decay": 0.05}, O.Adam, None),
    "adam-cosine":     ("adam",    {"lr": 0.02, "schedule": "cosine", "clip_norm": 0.05}, O.Adam, {"lr": 0.02}),
    "adamw":           ("adamw",   {"lr": 0.01}, O.AdamW, None),
    "adamw-all":       ("adamw",   {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-5, "weight_decay": 0.3}, O.AdamW, None),
    "adamw-groups":    ("adamw",   {"lr": 0.02, "groups": [{"match": "*.bias", "lr_factor": 0.1, "weight_decay": 0.0}]}, O.AdamW, {"lr": 0.02}),
    "nadam":           ("nadam",   {}, O.NAdam, None),
    "nadam-all":       ("nadam",   {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-5, "momentum_decay": 0.01, "weight_decay": 0.05}, O.NAdam, None),
    "nadam-decoupled": ("nadam",   {"lr": 0.02, "weight_decay": 0.05, "decoupled_weight_decay": True}, O.NAdam, None),
    "lion":            ("lion",    {"lr": 0.003, "betas": [0.9, 0.99], "weight_decay": 0.1}, Lion, None),
}
# fmt: on


def groups_of(case: str, params: dict[str, torch.Tensor], lr: float) -> list[Any]:
    if case != "adamw-groups":
        return list(params.values())
    biases = [p for name, p in params.items() if name.endswith("bias")]
    weights = [p for name, p in params.items() if name.endswith("weight")]
    return [{"params": weights}, {"params": biases, "lr": 0.1 * lr, "weight_decay": 0.0}]


def clip(params: Iterable[torch.Tensor], settings: dict[str, Any]) -> None:
    if "clip_value" in settings:
        torch.nn.utils.clip_grad_value_(params, settings["clip_value"])
    if "clip_norm" in settings:
        torch.nn.utils.clip_grad_norm_(params, settings["clip_norm"])


def scheduler(text: str | None, optimizer: torch.optim.Optimizer) -> Any:
    if text is None:
        return None
    return CosineAnnealingLR(optimizer, STEPS) if text == "cosine" else StepLR(optimizer, 4, 0.5)


Arrays = dict[str, np.ndarray]


def train(case: str, start: Arrays, x: np.ndarray, y: np.ndarray, dtype: torch.dtype) -> Arrays:
    """Ten steps of a 4-5-3 tanh net: losses, and gradients and parameters (joined) at the recorded steps."""
    _, settings, kind, theirs = CASES[case]
    theirs = dict(settings if theirs is None else theirs)
    params = {name: torch.tensor(a, dtype=dtype, requires_grad=True) for name, a in start.items()}
    optimizer = kind(groups_of(case, params, theirs.get("lr", 0.0)), **theirs)
    schedule = scheduler(settings.get("schedule"), optimizer)
    inputs, targets = torch.tensor(x, dtype=dtype), torch.tensor(y)
    seen: dict[str, list[Any]] = {"losses": [], "grads": [], "params": []}
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        hidden = torch.tanh(inputs @ params["0.weight"] + params["0.bias"])
        loss = F.cross_entropy(hidden @ params["1.weight"] + params["1.bias"], targets)
        loss.backward()
        seen["losses"].append(loss.item())
        if step in RECORDED:
            seen["grads"].append(torch.cat([p.grad.reshape(-1) for p in params.values()]).numpy())
        clip(params.values(), settings)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        if step in RECORDED:
            seen["params"].append(torch.cat([p.detach().reshape(-1) for p in params.values()]).numpy().copy())
    return {name: np.array(values) for name, values in seen.items()}


def optimizers() -> Arrays:
    rng = np.random.default_rng(7)
    start = {name: rng.normal(size=shape) * 0.5 for name, shape in SHAPES.items()}
    x, y = rng.normal(size=(12, 4)), rng.integers(0, 3, 12)
    cases = {case: {"optimizer": name, "settings": settings} for case, (name, settings, _, _) in CASES.items()}
    meta = {"torch": torch.__version__, "recorded": RECORDED, "steps": STEPS, "shapes": SHAPES, "cases": cases}
    out = {"meta": np.array(json.dumps(meta)), "x": x, "y": y, **{f"start/{name}": a for name, a in start.items()}}
    for case in CASES:
        for name, dtype in DTYPES.items():
            out |= {f"{case}/{name}/{what}": a for what, a in train(case, start, x, y, dtype).items()}
    return out


# ---------------------------------------------------------------- losses


def weighted(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    rows = rows.mean(dim=1) if rows.ndim > 1 else rows
    return (weight * rows).sum() / weight.sum()


# fmt: off
Torch = Callable[..., torch.Tensor]
# gpunet's loss, its settings (a name stands for the array), predictions, targets, PyTorch's of (z, t, arrays)
LOSSES: dict[str, tuple[str, dict[str, Any], str, str, Torch]] = {
    "cross_entropy":          ("cross_entropy", {}, "logits", "classes", lambda z, t, a: F.cross_entropy(z, t)),
    "cross_entropy-smooth":   ("cross_entropy", {"label_smoothing": 0.1}, "logits", "classes", lambda z, t, a: F.cross_entropy(z, t, label_smoothing=0.1)),
    "cross_entropy-classes":  ("cross_entropy", {"class_weight": "class_weight"}, "logits", "classes", lambda z, t, a: F.cross_entropy(z, t, a["class_weight"])),
    "cross_entropy-both":     ("cross_entropy", {"class_weight": "class_weight", "label_smoothing": 0.2}, "logits", "classes",
                               lambda z, t, a: F.cross_entropy(z, t, a["class_weight"], label_smoothing=0.2)),
    "cross_entropy-rows":     ("cross_entropy", {"weight": "weight"}, "logits", "classes", lambda z, t, a: weighted(F.cross_entropy(z, t, reduction="none"), a["weight"])),
    "cross_entropy-soft":     ("cross_entropy", {}, "logits", "soft", lambda z, t, a: F.cross_entropy(z, t)),
    "cross_entropy-soft-smooth": ("cross_entropy", {"label_smoothing": 0.1}, "logits", "soft", lambda z, t, a: F.cross_entropy(z, t, label_smoothing=0.1)),
    "hinge":                  ("hinge", {}, "logits", "classes", lambda z, t, a: F.multi_margin_loss(z, t) * z.shape[1]),  # theirs divides by the classes
    "bce":                    ("bce_with_logits", {}, "logits", "labels", lambda z, t, a: F.binary_cross_entropy_with_logits(z, t)),
    "bce-pos":                ("bce_with_logits", {"pos_weight": "class_weight"}, "logits", "labels",
                               lambda z, t, a: F.binary_cross_entropy_with_logits(z, t, pos_weight=a["class_weight"])),
    "bce-rows":               ("bce_with_logits", {"weight": "weight"}, "logits", "labels",
                               lambda z, t, a: weighted(F.binary_cross_entropy_with_logits(z, t, reduction="none"), a["weight"])),
    "mse":                    ("mse", {}, "logits", "numbers", lambda z, t, a: F.mse_loss(z, t)),
    "mse-rows":               ("mse", {"weight": "weight"}, "logits", "numbers", lambda z, t, a: weighted(F.mse_loss(z, t, reduction="none"), a["weight"])),
    "mae":                    ("mae", {}, "logits", "numbers", lambda z, t, a: F.l1_loss(z, t)),
    "huber":                  ("huber", {"delta": 0.7}, "logits", "numbers", lambda z, t, a: F.huber_loss(z, t, delta=0.7)),
    "poisson":                ("poisson", {}, "logits", "counts", lambda z, t, a: F.poisson_nll_loss(z, t, log_input=True, full=False)),
}
# fmt: on


def losses() -> Arrays:
    rng = np.random.default_rng(11)
    soft = rng.gamma(1.0, size=(7, 4))
    arrays = {
        "logits": rng.normal(size=(7, 4)) * 2,
        "classes": rng.integers(0, 4, 7),
        "soft": soft / soft.sum(axis=1, keepdims=True),
        "labels": rng.integers(0, 2, (7, 4)).astype(np.float64),
        "numbers": rng.normal(size=(7, 4)) * 2,
        "counts": rng.poisson(2.0, (7, 4)).astype(np.float64),
        "weight": rng.uniform(0.1, 2.0, 7),
        "class_weight": rng.uniform(0.3, 3.0, 4),
    }
    columns = ("loss", "settings", "predictions", "targets")
    cases = {case: dict(zip(columns, row, strict=False)) for case, row in LOSSES.items()}
    out = {f"arrays/{k}": a for k, a in arrays.items()}
    out["meta"] = np.array(json.dumps({"torch": torch.__version__, "cases": cases}))
    for case, (_, _, predictions, targets, theirs) in LOSSES.items():
        for name, dtype in DTYPES.items():
            given = {k: torch.tensor(a, dtype=None if a.dtype.kind == "i" else dtype) for k, a in arrays.items()}
            z = given[predictions].requires_grad_()
            value = theirs(z, given[targets], given)
            value.backward()
            out |= {f"{case}/{name}/value": value.detach().numpy(), f"{case}/{name}/grad": z.grad.numpy()}
    return out


def main() -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # NAdam keeps a scalar in the default dtype: in float32 it would be 3e-8 off
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, made in (("optimizers", optimizers()), ("losses", losses())):
        path = GOLDEN / f"{name}.npz"
        np.savez_compressed(path, **made)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB, torch {torch.__version__}")


if __name__ == "__main__":
    main()
