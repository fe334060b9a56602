"""The configuration of a run: one table of keys, from which come the YAML file, --set, the options of `train` and `init`.

A configuration is read whole: all problems are told at once, each with its line and the nearest key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, did_you_mean

MOST_BYTES = 1 << 20
Check = Callable[[Any], Any]  # a value as YAML or a command line has it -> the value; ValueError says what is wanted

# ---------------------------------------------------------------- kinds of values


def text(value: Any) -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise ValueError("a text wanted")
    return str(value)


def number(interval: str) -> Check:
    """A number in an interval such as "[0, 1)"."""
    low, high = map(float, interval[1:-1].split(","))

    def check(value: Any) -> float:
        found = _float(value)
        above = found >= low if interval[0] == "[" else found > low
        below = found <= high if interval[-1] == "]" else found < high
        if not (above and below and math.isfinite(found)):
            raise ValueError(f"a number in {interval} wanted")
        return found

    return check


def _float(value: Any) -> float:
    """YAML 1.1 has 1e-3 as text; it is a number here."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def whole(least: int) -> Check:
    def check(value: Any) -> int:
        found = _float(value)
        if not least <= found < 2**63 or found != math.floor(found):
            raise ValueError(f"a whole number of at least {least} wanted")
        return int(value) if isinstance(value, (int, str)) and str(value).strip().isdecimal() else int(found)

    return check


def choice(*names: str) -> Check:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError(f"{' or '.join(names)} wanted.{did_you_mean(str(value), names)}")
        return str(value)

    return check


def switch(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false", "yes", "no"):
        return value.lower() in ("true", "yes")
    if not isinstance(value, bool):
        raise ValueError("true or false wanted")
    return value


def widths(value: Any) -> list[int]:
    if isinstance(value, str):
        value = value.replace("x", ",").split(",") if value.strip() else []
    parts = value if isinstance(value, list) else [value]
    try:
        found = [whole(0)(part) for part in parts]
    except ValueError:
        if any(_float(part) < 0 for part in parts):
            raise ValueError("widths are at least 1") from None
        raise ValueError("widths such as 256,128 wanted") from None
    if 0 in found:
        raise ValueError("widths are at least 1")
    return found


def share_or_file(value: Any) -> float | str:
    if isinstance(value, str) and math.isnan(_float(value)) and value.strip().lower() != "nan":
        return value
    try:
        return number("[0, 1)")(value)
    except ValueError:
        raise ValueError("a file, or a fraction in [0, 1), wanted") from None


def character(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 1:
        raise ValueError("one character wanted")
    return value


def kinds(value: Any) -> str:
    from ..tabular.asked import parsed

    given = ",".join(map(str, value)) if isinstance(value, list) else text(value)
    return ",".join(f"{name}={kind}" for name, kind in parsed(given).items())


def activation(value: Any) -> str:
    from ..ops.activations import lookup

    return _known(lookup, text(value))


def optimizer(value: Any) -> str:
    from ..optim import get

    return _known(get, text(value))


def schedule(value: Any) -> str:
    from ..optim.schedules import get

    return _known(get, text(value))


def device(value: Any) -> str:
    from ..devices.environment import settings

    try:
        return settings({"GPUNET_DEVICE": text(value)}).device
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("GPUNET_DEVICE: ")) from None


def precision(value: Any) -> str:
    from ..devices.base import PRECISIONS

    return choice(*PRECISIONS)(value)


def _known(lookup: Callable[[str], Any], name: str) -> str:
    try:
        lookup(name)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return name


# ---------------------------------------------------------------- the table


class Key(NamedTuple):
    """A key of the configuration; None is a value where `auto` says what happens then."""

    options: str  # of gpunet-train train
    metavar: str
    check: Check
    default: Any
    auto: str
    help: str


# fmt: off
KEYS: dict[str, Key] = {
    "data.path":            Key("", "", text, None, "given on the command line",
                                'The data: a file, a folder, "digits", or "-" for stdin.'),
    "data.target":          Key("--target", "COLUMN", text, None, "data that bring their own targets",
                                "The column to predict (tables)."),
    "data.test":            Key("--test", "FILE|FRACTION", share_or_file, 0.2, "",
                                "Test rows: a file, or a share of DATA; data with a test set of their own use that."),
    "data.validation":      Key("--validation", "FRACTION", number("[0, 1)"), 0.2, "",
                                "Share of the other rows that chooses the best epoch."),
    "data.task":            Key("--task", "TASK", choice("auto", "classification", "regression"), "auto", "",
                                "What the target is: auto, classification or regression."),
    "data.split":           Key("--split", "random|official", choice("random", "official"), "random", "",
                                "Of the embedded digits: by seed, or disjoint writers."),
    "data.columns":         Key("--columns", "NAME=KIND,...", kinds, None, "found out",
                                "Columns that are not what they look like: numeric, categorical or drop, as in id=drop,zip=categorical."),
    "data.header":          Key("--header/--no-header", "", switch, None, "found out",
                                "Whether a CSV's first line names the columns."),
    "data.delimiter":       Key("--delimiter", "CHAR", character, None, "found out",
                                "Of a CSV."),
    "data.on_bad_row":      Key("--on-bad-row", "error|skip", choice("error", "skip"), "error", "",
                                "What a row is that does not fit: an error, or left out."),
    "model.hidden":         Key("--hidden", "WIDTHS", widths, [128, 64], "",
                                'Hidden widths, such as 256,128; "" for a linear model.'),
    "model.activation":     Key("--activation", "NAME", activation, "relu", "",
                                "Activation after each hidden layer."),
    "model.dropout":        Key("--dropout", "RATE", number("[0, 1)"), 0.0, "",
                                "Dropout rate after each hidden layer."),
    "model.norm":           Key("--norm", "none|batch|layer", choice("none", "batch", "layer"), "none", "",
                                "Normalisation before each activation."),
    "optimizer.name":       Key("--optimizer", "NAME", optimizer, "adamw", "",
                                "sgd, adagrad, rmsprop, adam, adamw, nadam, lion or lbfgs."),
    "optimizer.lr":         Key("--lr", "RATE", number("(0, inf)"), None, "the optimizer's, 0.002 for adamw",
                                "Peak learning rate."),
    "optimizer.weight_decay": Key("--weight-decay", "DECAY", number("[0, inf)"), None, "the optimizer's, 0.01 for adamw",
                                "Weight decay."),
    "optimizer.schedule":   Key("--schedule", "NAME", schedule, "one_cycle", "",
                                "constant, cosine, one_cycle, coslog4, flat_cos, step:0.3, warmup:100,cosine, plateau:5."),
    "train.epochs":         Key("--epochs -e", "N", whole(1), None, "15 to 60, by their number",
                                "Passes over the training rows."),
    "train.batch_size":     Key("--batch-size -b", "N", whole(1), None, "16 to 256, by their number",
                                "Rows a step."),
    "train.patience":       Key("--patience", "N", whole(0), None, "never",
                                "Stop after so many epochs without improvement."),
    "train.max_seconds":    Key("--max-seconds", "SECONDS", number("(0, inf)"), None, "never",
                                "Stop after the epoch it ends in."),
    "train.seed":           Key("--seed", "N", whole(0), 0, "",
                                "Of the split, the weights, the batches and dropout."),
    "train.device":         Key("--device -d", "DEVICE", device, None, "GPUNET_DEVICE, else auto",
                                "auto, cpu, cuda or cuda:1."),
    "train.precision":      Key("--precision", "NAME", precision, "float32", "",
                                "Of products: float32, or tf32 or bf16 on an NVIDIA GPU."),
    "train.autotune":       Key("--autotune/--no-autotune", "", switch, False, "",
                                "Time the GPU library's algorithms for each product once."),
    "run.checkpoint_every": Key("--checkpoint-every", "SECONDS", number("[0, inf)"), 10.0, "",
                                "Seconds between two checkpoints at least; saving takes 1 % of the time at most."),
    "run.tensorboard":      Key("--tensorboard/--no-tensorboard", "", switch, False, "",
                                "Write TensorBoard event files too."),
    "run.report":           Key("--report/--no-report", "", switch, True, "",
                                "Draw plots/ and report.html at the end, where gpunet[plot] is installed."),
}
# fmt: on
SECTIONS = tuple(dict.fromkeys(name.split(".")[0] for name in KEYS))


def parameter(name: str) -> str:
    """What click calls the option of a key."""
    return name.replace(".", "__")


def defaults() -> dict[str, Any]:
    return {name: key.default for name, key in KEYS.items()}


# ---------------------------------------------------------------- from files and command lines


class Given(NamedTuple):
    """A value and where it was written: "run.yaml line 7", "--set", "--lr"."""

    value: Any
    where: str


def resolve(
    file: str | None, assignments: tuple[str, ...], options: Mapping[str, Any], base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Defaults (or `base`), then the file, then --set, then the options; a flat dict by dotted key.

    Raises:
        ConfigError: every problem there is, one line each.
    """
    problems: list[str] = []
    given: dict[str, Given] = {}
    if file is not None:
        given |= dict(_of_file(file, problems))
    for assignment in assignments:
        given |= dict(_of_assignment(assignment, problems))
    for name, key in KEYS.items():
        value = options.get(parameter(name))
        if value is not None:
            given[name] = Given(value, re.split("[ /]", key.options)[0] or "DATA")
    found = defaults() | dict(base or {})
    for name, (value, where) in given.items():
        try:
            found[name] = _checked(name, value)
        except ValueError as error:
            problems.append(f"{where}: {name}: {error}, got {_short(value)}")
    if problems:
        count = f"{len(problems)} problems:\n  " if len(problems) > 1 else ""
        raise ConfigError(count + "\n  ".join(problems))
    return found


def _checked(name: str, value: Any) -> Any:
    key = KEYS[name]
    if value is None or (isinstance(value, str) and value.lower() in ("null", "~") and key.auto):
        if key.default is not None:
            raise ValueError("a value wanted")
        return None
    return key.check(value)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _unknown(name: str) -> str:
    """The nearest key: one that ends alike (lr for optimizer.lr), else one that is spelt alike."""
    section, _, leaf = name.rpartition(".")
    alike = [known for known in KEYS if known.split(".")[1] == leaf]
    near = f' Did you mean "{alike[0]}"?' if alike else did_you_mean(name, [*KEYS, *SECTIONS]).split(" Known:")[0]
    known = [k for k in KEYS if k.startswith(f"{section}.")] if section in SECTIONS else SECTIONS
    return f'no key "{name}".{near} Known: {", ".join(known)}'


def _of_assignment(assignment: str, problems: list[str]) -> Iterator[tuple[str, Given]]:
    name, equals, value = assignment.partition("=")
    name = name.strip()
    if not equals:
        problems.append(f"--set {assignment}: KEY=VALUE wanted, such as optimizer.lr=1e-3")
    elif name not in KEYS:
        problems.append(f"--set {assignment}: {_unknown(name)}")
    else:
        yield name, Given(value, f"--set {assignment}")


def _of_file(file: str, problems: list[str]) -> Iterator[tuple[str, Given]]:
    import sys

    import yaml

    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{file}: {len(content):,} bytes are no configuration; {MOST_BYTES:,} are read")
        root = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
        found = list(_walk(root, file, problems))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file. gpunet-train init DATA > run.yaml writes one") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: not YAML ({type(error).__name__})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{file}{where}: not YAML: {getattr(error, 'problem', None) or error}") from None
    yield from found


def _walk(root: Any, file: str, problems: list[str]) -> Iterator[tuple[str, Given]]:
    """(key, value and line) of each leaf; what is no section, no key, or there twice, is a problem."""
    import yaml

    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        problems.append(f"{file} line {root.start_mark.line + 1}: sections ({', '.join(SECTIONS)}) wanted")
        return
    seen: dict[str, int] = {}

    def where(node: Any, name: str) -> str:
        line = node.start_mark.line + 1
        if name in seen:
            problems.append(f'{file} line {line}: "{name}" is there twice, first in line {seen[name]}')
        seen[name] = line
        return f"{file} line {line}"

    for head, body in root.value:
        section = str(head.value)
        at = where(head, section)
        if section in KEYS:  # a dotted key at the top
            yield section, Given(_value(body, at, problems), at)
        elif section not in SECTIONS:
            problems.append(f"{at}: {_unknown(section)}")
        elif isinstance(body, yaml.MappingNode):
            for leaf, value in body.value:
                name = f"{section}.{leaf.value}"
                at = where(leaf, name)
                if name in KEYS:
                    yield name, Given(_value(value, at, problems), at)
                else:
                    problems.append(f"{at}: {_unknown(name)}")
        elif not (isinstance(body, yaml.ScalarNode) and body.tag.endswith(":null")):
            problems.append(f"{at}: {section} is a section; its keys go below it, indented")


def _value(node: Any, where: str, problems: list[str]) -> Any:
    """A scalar, or a list of scalars; deeper things are left as text, which no key takes."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            problems.append(f"{where}: {getattr(error, 'problem', None) or error}")
            return None
    if isinstance(node, yaml.SequenceNode) and len(node.value) <= 1000:
        return [_value(item, where, problems) if isinstance(item, yaml.ScalarNode) else {} for item in node.value]
    return {}


# ---------------------------------------------------------------- to files


def nested(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {s: {n.split(".")[1]: v for n, v in found.items() if n.startswith(f"{s}.")} for s in SECTIONS}


def to_yaml(found: Mapping[str, Any]) -> str:
    """A line for each key."""
    return "\n".join(line for section in nested(found) for line in [f"{section}:", *_lines(found, section)]) + "\n"


def template(found: Mapping[str, Any], head: str) -> str:
    """A YAML file to edit: every key with its value and what it means."""
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    for section in nested(found):
        lines += ["", f"{section}:"]
        for (leaf, _), shown in zip(nested(found)[section].items(), _lines(found, section), strict=True):
            key = KEYS[f"{section}.{leaf}"]
            about = key.help + (f" null: {key.auto}." if key.auto else "")
            lines.append(f"{shown:30}  # {about}")
    return "\n".join(lines) + "\n"


def _lines(found: Mapping[str, Any], section: str) -> Iterator[str]:
    import yaml

    for leaf, value in nested(found)[section].items():
        plain = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10**9)
        yield f"  {leaf}: {plain.removesuffix(chr(10)).removesuffix('...').strip()}"
