"""The sanity suite sees what is planted, and passes what is well; the learning-rate finder says when it is not sure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import losses, nn, optim
from gpunet.data import digits
from gpunet.errors import ConfigError
from gpunet.train import lrfind, sanity

DIGITS = digits()
X = ((DIGITS.x - DIGITS.x.mean(0)) / (DIGITS.x.std(0) + 1e-6)).astype(np.float32)
Y = np.asarray(DIGITS.y)
TRAIN, VALIDATION = (X[:2000], Y[:2000]), (X[2000:2600], Y[2000:2600])


def subject(**changes: Any) -> sanity.Subject:
    settings: dict[str, Any] = {
        "build": lambda: nn.MLP(64, 32, 16, 10), "loss": losses.cross_entropy, "optimizer": lambda: optim.AdamW(lr=2e-3),
        "train": TRAIN, "validation": VALIDATION, "classes": 10, "batch_size": 64,
    }  # fmt: skip
    return sanity.Subject(**settings | changes)


def verdicts(of: sanity.Subject) -> dict[str, bool]:
    return {finding.name: finding.passed for finding in sanity.suite(of)}


def test_a_healthy_net_passes_everything() -> None:
    findings = list(sanity.suite(subject()))
    assert all(f.passed for f in findings), [str(f) for f in findings]
    assert [f.name for f in findings][-1] == "leak" and len(findings) == 8
    assert all(str(f).startswith("PASS  ") and f.to_dict()["result"] == "PASS" for f in findings)
    assert [f.values for f in findings] == [f.values for f in sanity.suite(subject())], "the same twice"


@pytest.mark.parametrize(
    "settings",
    [{"activation": "tanh"}, {"activation": "gelu"}, {"norm": "batch", "dropout": 0.1}, {"norm": "layer", "activation": "silu"}],
    ids=str,
)
def test_other_healthy_nets(settings: dict[str, Any]) -> None:
    of = subject(build=lambda: nn.MLP(64, 16, 10, **settings), activation=settings.get("activation", "relu"))
    found = verdicts(of)
    assert found["gradients"] and found["20 rows can be overfitted"] and found["beats zeroed inputs"]


def test_regression_is_checked_too() -> None:
    y = (X[:, :1] - 2 * X[:, 1:2]).astype(np.float32)
    y = (y - y.mean()) / y.std()
    of = subject(
        build=lambda: nn.MLP(64, 16, 1), loss=losses.mse, classes=None, train=(X[:2000], y[:2000]), validation=(X[2000:], y[2000:])
    )
    assert all(verdicts(of).values())


def test_what_is_planted_is_seen() -> None:
    draw = np.random.default_rng(0)

    def loud() -> nn.Module:
        net = nn.MLP(64, 32, 10).initialize(0)
        for _, t in net.named_parameters():
            t.assign(gpunet.tensor(t.numpy() * np.float32(30)))
        return net

    noise = draw.normal(size=TRAIN[0].shape).astype(np.float32)
    planted = {
        "initial loss": subject(build=loud),
        "beats zeroed inputs": subject(train=(noise, TRAIN[1])),
        "updates to weights": subject(optimizer=lambda: optim.AdamW(lr=1e-7)),
        "dead units": subject(optimizer=lambda: optim.SGD(lr=3.0)),
        "saturated units": subject(build=lambda: nn.MLP(64, 32, 10, activation="tanh"), activation="tanh", train=(TRAIN[0] * 50, TRAIN[1])),
        "leak": subject(validation=(np.concatenate([VALIDATION[0], TRAIN[0][:60]]), np.concatenate([VALIDATION[1], TRAIN[1][:60]]))),
        "20 rows can be overfitted": subject(train=(TRAIN[0] * 0, TRAIN[1])),
        "activation spread": subject(build=lambda: nn.MLP(64, 32, 10), train=(TRAIN[0] * 1e-6, TRAIN[1])),
    }  # fmt: skip
    for name, of in planted.items():
        found = {f.name: f for f in sanity.suite(of)}
        assert not found[name].passed and found[name].advice and "WARN" in str(found[name]), name


def test_a_wrong_gradient_is_seen_by_its_layer() -> None:
    @gpunet.op(shape=gpunet.ops.same)
    def doubled(dev: Any, out: Any, x: Any) -> None:
        out[...] = 2 * x

    @doubled.vjp
    def _(g: Any) -> Any:
        return g * 2.002  # a thousandth too large

    class Wrong(nn.Module):
        def __init__(self) -> None:
            self.first, self.second = nn.Linear(64, 8, activation="tanh"), nn.Linear(8, 10)

        def forward(self, x: Any) -> Any:
            return self.second(doubled(self.first(x)))

    finding = sanity.gradients(subject(build=Wrong))
    assert not finding.passed and "first." in finding.text
    assert finding.values["second.weight"] < 1e-6 < 1e-4 < finding.values["first.weight"]


def test_the_learning_rate_finder() -> None:
    def find(x: np.ndarray, **changes: Any) -> lrfind.Suggestion:
        settings: dict[str, Any] = {"batch_size": 64, "device": "cpu", "seed": 0, "optimizer": lambda: optim.AdamW(lr=1.0)}
        settings |= changes
        return lrfind.find(lambda: nn.MLP(64, 32, 10), losses.cross_entropy, settings.pop("optimizer"), (x, Y), **settings)

    found = find(X)
    assert found.lr is not None and 1e-4 < found.lr < 0.1 and str(found).startswith("lr ") and len(found.curves) == 3
    assert find(X).lr == found.lr, "the same twice"
    noise = find(np.random.default_rng(0).normal(size=X.shape).astype(np.float32))
    assert noise.lr is None and str(noise).startswith("unsure: ")
    huge = find(X * np.float32(1e30))
    assert huge.lr is None
    for rates, losses_ in found.curves:
        assert np.isfinite(losses_).all() and found.lr <= rates[-1]
    with pytest.raises(ConfigError, match="no rate to find"):
        find(X, optimizer=optim.LBFGS)
