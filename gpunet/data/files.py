"""From a path to bytes and back: what is missing is named with its neighbours, what is written appears whole or not."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import DataError, FormatError, did_you_mean

CHUNK = 1 << 20
PART = ".part"  # how files end that are not whole yet


def unpacked_limit(packed: int) -> int:
    """The most bytes that `packed` bytes may unpack to: real tables stay far below, a zip bomb does not."""
    return (256 << 20) + 200 * packed


def existing(path: str | os.PathLike[str]) -> Path:
    """The path, if there is something at it; a URL and a missing file are a DataError that says how to go on."""
    text = os.fspath(path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise DataError(f"{text}: only local files are read; fetch it first, for example with  curl -LO {text}")
    place = Path(text).expanduser()
    if place.exists():
        return place
    if not place.parent.is_dir():
        raise DataError(f"{text}: the folder {place.parent} does not exist")
    near = did_you_mean(place.name, sorted(os.listdir(place.parent))).replace("Known:", f"In {place.parent}:")
    raise DataError(f"{text}: no such file.{near}")


def read_bytes(path: Path) -> bytes:
    """The whole content, unpacked where it begins as gzip, bzip2 and zstandard files do (the suffix does not matter)."""
    parts, size = [], 0
    with _opened(path) as (file, packed):
        if not packed:
            return file.read()
        limit = unpacked_limit(path.stat().st_size)
        while chunk := file.read(CHUNK):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise FormatError(f"{path}: unpacks to more than {limit:,} bytes, 200 times its size: refused")
    return b"".join(parts)


def is_packed(path: Path) -> bool:
    with _opened(path) as (_, packed):
        return packed


def head(path: Path, size: int = 16) -> bytes:
    """The first bytes of the content, unpacked."""
    with _opened(path) as (file, _):
        return file.read(size)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """(the file, whether it is packed); every failure while it is open is told as a DataError with the path."""
    if not path.is_file():
        raise DataError(f"{path}: a regular file is expected")
    try:
        with open(path, "rb") as file:
            opener = _opener(file.read(4))
        with opener(path) as file:
            yield file, opener is not _plain
    except DataError:
        raise
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (OSError, EOFError, ValueError, MemoryError, zlib.error) as error:  # what unpackers raise on a damaged file
        raise FormatError(f"{path}: cut short or damaged ({error})") from error


def _plain(path: Path) -> BinaryIO:
    return open(path, "rb")


def _zstandard(path: Path) -> BinaryIO:
    try:
        import pyarrow
    except ImportError:
        raise DataError(f'{path}: unpacking zstandard needs pyarrow: pip install "gpunet[tabular]"') from None
    # by readinto: pyarrow's own read leaks what it has allocated when the file turns out to be damaged
    return io.BufferedReader(cast(io.RawIOBase, pyarrow.input_stream(str(path), compression="zstd")))


def _opener(magic: bytes) -> Callable[..., Any]:
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile
    if magic == b"\x28\xb5\x2f\xfd":
        return _zstandard
    return bz2.BZ2File if magic.startswith(b"BZh") else _plain


# ---------------------------------------------------------------- writing


def write_whole(path: Path, content: bytes, *, sync: bool = True) -> Path:
    """Write a file beside and rename it, so that a file of this name is always whole; with `sync` also after a power cut."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_umask())
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(path.parent)
    return path


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk too, where folders can be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------- memory


def check_fits(path: object, rows: int, columns: int, *, at_least: int = 0) -> None:
    """Refuse a file whose table would not fit: 8 bytes a cell as read and 4 as encoded, or `at_least` bytes."""
    needed = max(12 * rows * columns, at_least)
    free = available_memory()
    if free is not None and needed > free:
        size = f"{rows:,} rows of {columns:,} columns" if rows else "its content"
        raise DataError(
            f"{path}: {size} would need about {_gib(needed)}, and {_gib(free)} of memory are available. "
            "Take fewer rows or columns, or a machine with more memory"
        )


def available_memory() -> int | None:
    """Bytes that this process may still use: the system's, and the control group's limit; None where nobody tells."""
    found = []
    with suppress(OSError, ValueError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        found.append(limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return max(0, min(found)) if found else None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
