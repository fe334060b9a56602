#!/usr/bin/env python
"""Feeds every reader and the configuration with damaged and made-up input: a crash, a hang or a wrong silent read fails.

    python scripts/fuzz.py --inputs 1000000                   # all targets, 10^6 inputs in all
    python scripts/fuzz.py --only csv,config --inputs 20000 --seed 7

An input is a whole file with bytes changed, cut, doubled or swapped with another's, or words of the format thrown together.
It may be read or refused with a DataError or ConfigError; anything else is a failure, and so is more than 10 s, more than
1 GiB, or a table that differs from what an independent reader sees (CSV: the standard library, and pyarrow by both engines;
JSON lines: json; libsvm: a parser of three lines). Each target runs in a process of its own; a failing input is kept in --keep.
"""

from __future__ import annotations

import argparse
import csv
import faulthandler
import io
import json
import math
import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SECONDS, BYTES = 10, 1 << 30


# ---------------------------------------------------------------- whole files to begin with, and their words


def seeds() -> dict[str, tuple[str, list[bytes], list[bytes]]]:
    """target -> (file name, whole files, words)."""
    found: dict[str, tuple[str, list[bytes], list[bytes]]] = {
        "csv": ("t.csv", [
            b"a,b,y\n1,x,u\n2,y,v\n3,,u\n", b'"a";"b"\r\n1;"x;""y"""\r\n2;"line\r\nend"\r\n', b"1\t2\n3\t4\n", "ä,ö\n1,é\n".encode(),
        ], [b",", b";", b"\n", b"\r\n", b'"', b'""', b"1", b"2.5", b"NA", b"", b"x", b"nan(1)", b"1e999", b"\xef\xbb\xbf", b"\t", b" "]),
        "jsonl": ("t.jsonl", [
            b'{"a": 1, "b": "x"}\n{"a": null, "b": "y"}\n', b'[{"a": 1}, {"a": 2.5e3}]', b'{"a": true}\n\n{"b": -0.0}\n',
        ], [b"{", b"}", b"[", b"]", b'"a"', b":", b",", b"1", b"null", b"true", b"1e400", b"NaN", b"\n", b'"\\u00e9"', b"-", b"\\"]),
        "libsvm": ("t.libsvm", [b"+1 1:0.5 3:2 # n\n-1 2:1e-3\n", b"0.5 qid:1 7:1\n1\n"],
                   [b"1", b" ", b":", b"2:3", b"#", b"\n", b"-", b"1:1e5", b"qid:1", b"0:1", b"9999999:1", b"x", b"\t"]),
        "config": ("c.yaml", [b"data: {path: t.csv, target: y}\ntrain:\n  epochs: 3\n", b"model:\n  hidden: [1, 2]\noptimizer.lr: 1e-3\n"],
                   [b"data", b":", b" ", b"\n", b"  ", b"-", b"[", b"]", b"{", b"}", b"&a", b"*a", b"!!binary", b"|", b">", b"epochs",
                    b"train", b"1", b"1e-3", b".inf", b"null", b"'", b'"', b"#", b"? ", b"<<", b"2024-01-01", b"0x1F", b"1_0"]),
        "npy": ("t.npy", [_npy(np.arange(12.0).reshape(4, 3)), _npy(np.arange(6, dtype=np.uint8))], [b"\x93NUMPY", b"\1\0", b"{'descr'"]),
        "npz": ("t.npz", [_npz(x=np.ones((4, 2)), y=np.array([0, 1, 0, 1]))], [b"PK\3\4", b"x.npy"]),
        "idx": ("t-idx3-ubyte", [struct.pack(">HBBIII", 0, 8, 3, 2, 2, 2) + bytes(range(8))], [b"\0\0\x08\3", b"\xff\xff\xff\xff"]),
        "cifar": ("data_batch_1.bin", [bytes([3]) + bytes(3072)], [b"\x80\2", b"}", b"U"]),
    }  # fmt: skip
    try:
        import pyarrow as pa
        import pyarrow.feather
        import pyarrow.parquet
    except ImportError:
        print("pyarrow is not installed: parquet, arrow and feather are left out")
        return found
    found["engines"] = found["csv"]
    table = pa.table({"a": [1, None, 3], "b": ["x", "y", None], "c": pa.array(["u", "v", "u"]).dictionary_encode()})
    for name, write in (("parquet", pyarrow.parquet.write_table), ("feather", pyarrow.feather.write_feather)):
        stream = io.BytesIO()
        write(table, stream)
        found[name] = (f"t.{name}", [stream.getvalue()], [b"PAR1", b"ARROW1", b"\0\0\0\0", b"\xff\xff\xff\xff"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    found["arrow"] = ("t.arrows", [sink.getvalue().to_pybytes()], [b"\xff\xff\xff\xff", b"\0\0\0\0"])
    found["zst"] = ("t.csv.zst", [pa.compress(found["csv"][1][0], "zstd", asbytes=True)], [b"\x28\xb5\x2f\xfd"])
    return found


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def made_up(draw: random.Random, whole: list[bytes], words: list[bytes]) -> bytes:
    if draw.random() < 0.4:
        return b"".join(draw.choices(words, k=draw.randint(0, 30)))
    data = bytearray(draw.choice(whole))
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(5)
        if kind == 0 and data:
            data[at - 1] = draw.randrange(256)
        elif kind == 1:
            data[at:at] = draw.choice(words)
        elif kind == 2:
            del data[at : at + draw.randint(1, 8)]
        elif kind == 3:
            data[at:at] = data[: draw.randint(0, 40)]
        elif len(data) > 4:
            data[at : at + 4] = struct.pack("<I", draw.choice([0, 1, 2**31, 2**32 - 1, len(data)]))
    return bytes(data)


# ---------------------------------------------------------------- what must hold


def check(target: str, path: Path, content: bytes) -> bool:
    """Whether it was read; raises if what was read is wrong."""
    from gpunet.cli import config
    from gpunet.data import read
    from gpunet.errors import ConfigError, DataError

    if target == "config":
        try:
            found = config.resolve(str(path), (), {})
        except ConfigError:
            return False
        assert set(found) == set(config.KEYS)
        assert all(v is None or config.KEYS[n].check(v) == v for n, v in found.items()), found
        return True
    if target == "engines":
        return same_by_both(path)
    try:
        found = read(path)
    except DataError as error:
        if not str(error):
            raise AssertionError("an error without a word") from error
        return False
    assert found.rows > 0
    oracle: Callable[[bytes, Any], None] | None = {"csv": same_as_csv, "jsonl": same_as_json, "libsvm": same_as_libsvm}.get(target)
    if oracle is not None:
        oracle(content, found)
    return True


def same_by_both(path: Path) -> bool:
    """The engine changes the speed, never the result: the table, or the words of the refusal."""
    from gpunet.data import read_csv
    from gpunet.errors import DataError

    found: list[Any] = []
    for engine in ("csv", "pyarrow"):
        try:
            table = read_csv(path, engine=engine)
        except DataError as error:
            found.append(str(error))
        else:
            cells = [(c.name, c.kind, [_cell(v) if c.kind == "numeric" else v for v in c.values]) for c in table.columns]
            found.append((table.notes, table.layout, cells))
    assert found[0] == found[1], found
    return not isinstance(found[0], str)


def same_as_csv(content: bytes, found: Any) -> None:
    """Every number and text is a cell of the file, and in its row."""
    text = content.decode("utf-8-sig")
    table = found.x
    if '"' in text or "\r" in text:  # what lenient parsers may take in several ways has tests of its own
        return
    for delimiter in "\t;|,":
        rows = [r for r in csv.reader(text.split("\n"), delimiter=delimiter) if len(r) == len(table.columns)]
        full = [r for r in rows if any(c.strip() for c in r)]
        for body in (full, full[1:], rows, rows[1:]):
            if len(body) == table.rows and all(_cell(v) == _read(r[i]) for i, c in enumerate(table.columns)
                                               for v, r in zip(c.values, body, strict=True) if c.kind == "numeric"):  # fmt: skip
                return
    if len(table.columns) > 1:
        raise AssertionError("no reading of the text gives these numbers")


def _cell(value: float) -> float | None:
    return None if math.isnan(value) else value


def _read(cell: str) -> float | str | None:
    from gpunet.data.table import MISSING

    try:
        return None if cell.strip() in MISSING else float(cell.strip())  # str.strip takes more for white space
    except ValueError:
        return cell


def same_as_json(content: bytes, found: Any) -> None:
    text = content.decode("utf-8-sig")
    rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.split("\n") if line.strip()]
    assert found.rows == len(rows)
    for column in found.x.columns:
        for value, row in zip(column.values, rows, strict=True):
            given = row.get(column.name)
            if column.kind == "numeric" and isinstance(given, (int, float)) and not isinstance(given, bool):
                assert _cell(value) == _cell(float(given)) or abs(given) > 1e308


def same_as_libsvm(content: bytes, found: Any) -> None:
    lines = [line.split(b"#")[0].split() for line in content.split(b"\n")]
    rows = [{int(i): float(v) for i, v in (p.split(b":") for p in parts[1:] if not p.startswith(b"qid:"))} for parts in lines if parts]
    assert len(rows) == len(found.x)
    for i, row in enumerate(rows[:50]):
        start, end = found.x.starts[i], found.x.starts[i + 1]
        assert dict(zip((found.x.columns[start:end] + 1).tolist(), found.x.values[start:end].tolist(), strict=True)) == row


# ---------------------------------------------------------------- running it


def fuzz(target: str, inputs: int, seed: int, keep: str) -> str:
    import warnings

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    draw = random.Random(f"{target} {seed}")
    name, whole, words = seeds()[target]
    read, worst = 0, 0.0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        path = Path(folder) / name
        for k in range(inputs):
            content = made_up(draw, whole, words)
            path.write_bytes(content)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            began = time.perf_counter()
            try:
                read += check(target, path, content)
            except BaseException as error:
                kept = Path(keep) / f"{target}-{seed}-{k}-{name}"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(content)
                return f"FAILED at input {k}, kept as {kept}: {type(error).__name__}: {error}"
            worst = max(worst, time.perf_counter() - began)
    faulthandler.cancel_dump_traceback_later()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if used > BYTES:
        return f"FAILED: {used / 2**30:.1f} GiB of memory"
    return f"{inputs:,} inputs, {read:,} read, {inputs - read:,} refused, {worst * 1000:.0f} ms at most"


def _into(queue: Any, *args: Any) -> None:
    queue.put(fuzz(*args))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="in all, shared among the targets")
    parser.add_argument("--only", default="", help="targets, by comma")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", default="fuzz-failures", help="folder for inputs that fail")
    given = parser.parse_args()
    targets = [t for t in seeds() if not given.only or t in given.only.split(",")]
    context, failed = multiprocessing.get_context("spawn"), 0
    for target in targets:
        queue = context.Queue()
        process = context.Process(target=_into, args=(queue, target, -(-given.inputs // len(targets)), given.seed, given.keep))
        process.start()
        process.join()
        told = queue.get(timeout=5) if process.exitcode == 0 else f"FAILED: the process ended with {process.exitcode} (a crash or a hang)"
        failed += told.startswith("FAILED")
        print(f"{target:8} {told}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
