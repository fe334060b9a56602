"""The model's file: exact, the same for equal runs, whole or refused; the first format's golden file keeps loading."""

from __future__ import annotations

import json
import os
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as save_tensors

import gpunet
from gpunet import nn
from gpunet.data.dataset import Dataset
from gpunet.data.table import Table
from gpunet.errors import ConfigError, DataError, FormatError, ShapeError
from gpunet.train import archive
from gpunet.train.model import Model, load
from gpunet.train.recipe import Recipe, train

GOLDEN = Path(__file__).parent / "golden"
DRAW = np.random.default_rng(1)
ROWS: dict[str, list[Any]] = {
    "size": DRAW.normal(size=60).round(2).tolist(),
    "colour": [["red", "green", "blue", None][i] for i in DRAW.integers(0, 4, 60)],
}
ROWS["y"] = [
    f"{'high' if size > 0 else 'low'}, {colour or 'none'}" for size, colour in zip(ROWS["size"], ROWS["colour"])
]
TABLE = Table.from_frame(ROWS)
ASKED = TABLE.drop("y")
RECIPE = Recipe(hidden=(6,), epochs=2, norm="batch", dropout=0.1, device="cpu")


def trained(target: str = "y", **changes: Any) -> Model:
    recipe = Recipe(**{**vars(RECIPE), **changes})
    return train(Dataset("rows", TABLE), target=target, recipe=recipe, show_progress=False).model


@pytest.fixture(scope="module")
def model() -> Model:
    return trained()


@pytest.fixture(scope="module")
def content(model: Model, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return model.save(tmp_path_factory.mktemp("model") / "m.gpunet").read_bytes()


def refused(path: Path, content: bytes) -> str:
    """What the error of loading this content says; anything but a FormatError fails."""
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        load(path)
    return str(caught.value)


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewritten(content: bytes, **about: Any) -> bytes:
    """The file with changes in its description and a checksum that fits: what a hostile author would send."""
    header, tensors = header_of(content)
    described = {**json.loads(header["__metadata__"]["gpunet"]), **about}
    described.pop("checksum", None)
    arrays = {
        name: np.frombuffer(tensors[slice(*t["data_offsets"])], {"F32": "<f4", "F64": "<f8", "I64": "<i8"}[t["dtype"]])
        .reshape(t["shape"]) for name, t in header.items() if name != "__metadata__"
    }  # fmt: skip
    described["checksum"] = archive.checksum(described, arrays)
    return save_tensors(arrays, {"gpunet": json.dumps(described, sort_keys=True)})


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("target", ["y", "size"])
def test_a_loaded_model_predicts_the_same_bits(target: str, tmp_path: Path) -> None:
    model = trained(target)
    back = load(model.save(tmp_path / "deep" / "folders" / "m.gpunet"))
    asked = TABLE.drop(target)
    assert np.array_equal(back.outputs(asked), model.outputs(asked))
    assert back.predict(asked).tolist() == model.predict(asked).tolist()
    assert back.classes == model.classes and back.task == model.task and back.info == json.loads(json.dumps(model.info))
    assert back.evaluate(asked, ROWS[target]) == model.evaluate(asked, ROWS[target])
    assert back.save(tmp_path / "again").read_bytes() == (tmp_path / "deep" / "folders" / "m.gpunet").read_bytes()


def test_equal_runs_give_equal_files(content: bytes, tmp_path: Path) -> None:
    assert trained().save(tmp_path / "m").read_bytes() == content
    assert trained(seed=1).save(tmp_path / "m").read_bytes() != content


def test_a_model_of_arrays(tmp_path: Path) -> None:
    x, y = DRAW.integers(0, 17, (80, 6)).astype(np.uint8), DRAW.integers(3, 6, 80)
    model = train(Dataset("a", x, y), recipe=RECIPE, show_progress=False).model
    back = load(model.save(tmp_path / "m"))
    assert np.array_equal(back.outputs(x), model.outputs(x)) and set(back.predict(x)) <= {3, 4, 5}
    np.testing.assert_allclose(back.predict_proba(x).sum(axis=1), 1, rtol=1e-12)
    table = Table.from_array(x.astype(float))
    assert np.array_equal(back.outputs(table), model.outputs(x)), "a CSV of the same numbers"
    for wrong, error in ((x[:, :5], ShapeError), (ASKED, DataError), (Table.from_array(x + 0.5), DataError)):
        with pytest.raises((error, TypeError, DataError)):
            back.predict(wrong)


def test_everything_a_net_can_be_is_described(tmp_path: Path, model: Model) -> None:
    inputs = len(model.encoder.output_names)
    net = nn.Sequential(
        nn.Linear(inputs, 6, bias=False), nn.Residual(nn.Sequential(nn.LayerNorm(6), nn.ELU(0.5), nn.Maxout(6, 6))),
        nn.BatchNorm1d(6), nn.Dropout(0.2), nn.MLP(6, 5, 5, len(model.classes or []), residual=True, activation="mish"),
    ).initialize(3)  # fmt: skip
    mine = Model(net, model.encoder, model.target)
    back = load(mine.save(tmp_path / "m"))
    assert back.net.config() == net.config() and np.array_equal(back.outputs(ASKED), mine.outputs(ASKED))
    assert not back.net.training


def test_a_run_directory_stands_for_its_model(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "best.gpunet")
    assert load(tmp_path).classes == model.classes == gpunet.load(str(tmp_path)).classes


def test_there_is_no_pickle_inside(content: bytes) -> None:
    header, tensors = header_of(content)
    assert json.loads(header["__metadata__"]["gpunet"])["format"] == 1
    assert {t["dtype"] for name, t in header.items() if name != "__metadata__"} <= {"F32", "F64", "I64"}
    for start in (0, 8, len(content) - len(tensors)):
        with pytest.raises(Exception):  # whatever pickletools says of what is no pickle
            list(pickletools.genops(content[start:]))


# ---------------------------------------------------------------- the first format


def test_the_golden_file_loads_and_predicts_what_it_did() -> None:
    wanted = json.loads((GOLDEN / "first-format.json").read_text())
    model = load(GOLDEN / "first-format.gpunet")
    rows = Table.from_frame(wanted["rows"])
    assert model.predict(rows).tolist() == wanted["classes"]
    np.testing.assert_allclose(model.predict_proba(rows), wanted["probabilities"], rtol=1e-5)
    assert model.classes == ["cold", "warm"] and model.info["target"] == "class"


# ---------------------------------------------------------------- what is refused


def test_cut_short_at_any_length(content: bytes, tmp_path: Path) -> None:
    ends = {*range(0, 40), *range(0, len(content), 61), len(content) - 1}
    for end in sorted(ends):
        assert "m.gpunet" in refused(tmp_path / "m.gpunet", content[:end]), end
    assert "cut short, altered" in refused(tmp_path / "m.gpunet", content + b"\0")


def test_any_byte_changed(content: bytes, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    places = [*range(8), *draw.integers(0, len(content), 400).tolist()]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= int(draw.integers(1, 256))
        assert "m: " in refused(tmp_path / "m", bytes(changed)), place


def test_bytes_moved_inserted_and_repeated(content: bytes, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    for a, b in np.sort(draw.integers(0, len(content), (100, 2)), axis=1):
        for changed in (content[:a] + content[b:], content[:b] + content[a:], content[:a] + content[b:] + content[a:b]):
            if changed != content:
                assert "m: " in refused(tmp_path / "m", changed)


def test_a_newer_format_says_so(content: bytes, tmp_path: Path) -> None:
    said = refused(tmp_path / "m", rewritten(content, format=2))
    assert "format 2; this version of gpunet reads up to 1" in said and "--upgrade" in said
    assert load_bytes(tmp_path / "m", rewritten(content)).task == "classification", "rewriting alone does no harm"


def load_bytes(path: Path, content: bytes) -> Model:
    path.write_bytes(content)
    return load(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cut short"),
        (b"\0" * 100, "cut short"),
        (b"size,colour\n1,red\n", "cut short"),
        (b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00]\x94K\x01a.", "cut short"),
        (struct.pack("<Q", 2**63) + b"{}", "cut short"),
        (struct.pack("<Q", 2) + b"[]", "cut short"),
        (save_tensors({"w": np.ones(3)}), "a safetensors file, but not a gpunet model"),
        (save_tensors({"w": np.ones(3)}, {"format": "pt"}), "a safetensors file, but not a gpunet model"),
        (save_tensors({"w": np.ones(3)}, {"gpunet": "{"}), "cut short, altered"),
        (save_tensors({"w": np.ones(3)}, {"gpunet": "[" * 100_000}), "cut short, altered"),
        (save_tensors({"w": np.ones(3)}, {"gpunet": "[1]"}), "not a gpunet model"),
        (save_tensors({"w": np.ones(3)}, {"gpunet": '{"format": true}'}), "not a gpunet model"),
        (save_tensors({"w": np.ones(3)}, {"gpunet": '{"format": 0}'}), "not a gpunet model"),
        (save_tensors({"w": np.ones(3)}, {"gpunet": '{"format": 1}'}), "checksum"),
    ],
)
def test_what_is_not_ours(content: bytes, says: str, tmp_path: Path) -> None:
    assert says in refused(tmp_path / "file.gpunet", content)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.gpunet", tmp_path / "none" / "none", "/dev/null"):
        with pytest.raises(FormatError, match=r"no such model file|cut short"):
            load(path)


NET: dict[str, Any] = {"layer": "MLP", "widths": [4, 6, 6], "activation": "relu", "norm": None, "dropout": 0.0}


@pytest.mark.parametrize(
    "about",
    [
        {"net": {**NET, "widths": [10**12, 10**12]}},
        {"net": {**NET, "widths": [4, 10**400]}},
        {"net": {**NET, "widths": ["a"]}},
        {"net": {**NET, "widths": []}},
        {"net": {**NET, "layer": "os.system"}},
        {"net": {**NET, "layer": ["MLP"]}},
        {"net": {**NET, "more": 1}},
        {"net": {"layer": "Sequential", "layers": [1, 2]}},
        {"net": "MLP"},
        {"net": None},
        {"encoder": {"kind": "table"}},
        {"encoder": {"kind": "pickle"}},
        {"encoder": []},
        {"encoder": {"kind": "array", "columns": 3, "pixels": False, "center": "x", "scale": None}},
        {"target": {}},
        {"target": {"task": "classification", "reason": "", "classes": None, "surprise": 1}},
    ],
    ids=str,
)
def test_a_description_that_makes_no_model(about: dict[str, Any], content: bytes, tmp_path: Path) -> None:
    assert "does not make a model" in refused(tmp_path / "m", rewritten(content, **about))


# ---------------------------------------------------------------- writing


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    model: Model, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.gpunet"
    path.write_bytes(b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            model.save(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["m.gpunet"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            model.save(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["m.gpunet"]
    assert model.save(path).read_bytes() == content and os.listdir(tmp_path) == ["m.gpunet"]


def test_others_may_read_the_file_as_the_umask_says(model: Model, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert model.save(tmp_path / "m").stat().st_mode & 0o777 == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_layer_of_the_users_own_cannot_be_saved_and_says_so(model: Model, tmp_path: Path) -> None:
    class Mine(nn.Module):
        pass

    with pytest.raises(ConfigError, match="Mine is not one of gpunet's layers"):
        Model(nn.Sequential(Mine()), model.encoder, model.target).save(tmp_path / "m")
    assert not os.listdir(tmp_path)


# ---------------------------------------------------------------- predicting


def test_columns_go_by_name_and_what_is_missing_is_named(model: Model) -> None:
    turned = Table.from_frame({"more": [1] * 60, **dict(reversed(ROWS.items()))})
    assert np.array_equal(model.outputs(ASKED), model.outputs(turned))
    assert any('ignored, not there in training: "more"' in note for note in model.encoder.notes)
    with pytest.raises(DataError, match='reads the column "size", not in this table'):
        model.predict(ASKED.drop("size"))
    with pytest.raises(DataError, match="predicts values"):
        trained("size").predict_proba(TABLE.drop("size"))
    np.testing.assert_allclose(model.predict_proba(ASKED).sum(axis=1), 1, rtol=1e-12)


def test_evaluate_agrees_with_the_metrics(model: Model) -> None:
    found = model.evaluate(ASKED, ROWS["y"])
    assert found["accuracy"] == np.mean(model.predict(ASKED) == np.array(ROWS["y"], object))
    values = trained("size")
    asked = TABLE.drop("size")
    error = np.array(ROWS["size"]) - values.predict(asked)
    scores = values.evaluate(asked, ROWS["size"])
    assert scores["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert scores["loss"] == pytest.approx(np.mean((error / values.target.scale[0]) ** 2), rel=1e-5)
    with pytest.raises(DataError, match="words"):
        values.evaluate(asked, ["words"] * 60)
    with pytest.raises(DataError, match="no class .*purple"):
        model.evaluate(ASKED, ["purple"] * 60)
