"""Makes tests/golden/first-format.gpunet, which every later version must load, and the predictions it must then give.

It was run once, with the first version of the format. Do not run it again over the files that are there: a new format
gets a new file. The rows of data and the predictions lie beside the model, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from gpunet.data.dataset import Dataset
from gpunet.data.table import Table
from gpunet.train.recipe import Recipe, train

COLORS = ["red", "green", "blue", "grey"]


def rows() -> dict[str, list[object]]:
    """Every treatment of a column: numbers, numbers with blanks, two texts, several, constant, nearly all different."""
    draw = np.random.default_rng(7)
    size = draw.normal(size=80).round(3)
    color = [COLORS[i] for i in draw.integers(0, 4, 80)]
    return {
        "size": size.tolist(),
        "weight": [None if i % 9 == 0 else float(w) for i, w in enumerate(draw.normal(size=80).round(3))],
        "kind": ["soft" if flip else "hard" for flip in draw.integers(0, 2, 80)],
        "color": list(color),
        "unit": ["kg"] * 80,
        "label": [f"item {i}" for i in range(80)],
        "class": ["warm" if (c == "red") != (s > 0.5) else "cold" for c, s in zip(color, size, strict=True)],
    }


def main(folder: Path) -> None:
    model_file, rows_file = folder / "first-format.gpunet", folder / "first-format.json"
    if model_file.exists():
        sys.exit(f"{model_file} is there; a golden file is made once")
    table = Table.from_frame(rows())
    recipe = Recipe(hidden=(5, 4), norm="batch", dropout=0.1, epochs=8, seed=3, device="cpu")
    model = train(Dataset("golden", table), target="class", recipe=recipe, show_progress=False).model
    asked = table.take(np.arange(12)).drop("class")
    model.save(model_file)
    columns = {
        c.name: [None if gone else v for v, gone in zip(c.values.tolist(), c.missing, strict=True)]
        for c in asked.columns
    }
    found = {"classes": model.predict(asked).tolist(), "probabilities": model.predict_proba(asked).tolist()}
    rows_file.write_text(json.dumps({"rows": columns, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).parent.parent / "tests" / "golden")
