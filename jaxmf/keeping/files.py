"""Files of a checkpoint: on disk before anything says so, and checked before they are opened and before they are read.

Only regular files in real folders are read. A link is not followed, a pipe or a device not opened.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COPY = "restore it from a copy, or remove the checkpoint and save anew"
"""What to do about a checkpoint that is not what was saved."""

ROOM, EACH = 2**22, 2**12
"""Bytes that what describes files or arrays never exceeds, and so many more for each of them."""

NONSENSE = (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError)
"""What comes of taking a document for what it is not."""

KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


@contextmanager
def sensible(path: str | os.PathLike) -> Iterator[None]:
    """Turns what a document raises where it is taken for what it is not into a ValueError that says so."""
    try:
        yield
    except NONSENSE as error:
        raise ValueError(f"{path} makes no sense, {type(error).__name__}: {error}. No save wrote it: {COPY}") from error


def kind(path: Path) -> str:
    """What is at a path: a file, a folder, a link, a pipe, a socket, a device, or nothing; of a link, not its target.

    Example:
        >>> kind(Path("/dev/null")), kind(Path("/dev/null/nowhere"))
        ('a device', 'nothing')
    """
    try:
        return KINDS.get(stat.S_IFMT(path.lstat().st_mode), "a device")
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"


def expect(path: Path, expected: str) -> None:
    """Refuse what is not of the `kind` that is expected.

    Raises:
        ValueError: If something else is there, or nothing.
    """
    found = kind(path)
    if found == "nothing":
        raise ValueError(f"{path} is missing, the checkpoint is truncated: {COPY}")
    if found != expected:
        raise ValueError(f"{path} is {found} and not {expected}, the checkpoint is altered: {COPY}")


def files(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its path from there.

    Raises:
        ValueError: If it is no folder, or there is something below it that is neither a file nor a folder.
    """

    def fail(error: OSError) -> None:
        raise error

    expect(folder, "a folder")
    found = {}
    for place, folders, names in os.walk(folder, onerror=fail):
        for name in folders:
            expect(Path(place, name), "a folder")
        for name in sorted(names):
            expect(Path(place, name), "a file")
            found[Path(place, name).relative_to(folder).as_posix()] = Path(place, name)
    return found


def check_file(file: Path, size: int | None, checksum: str | None, *, missing: bool) -> None:
    """Refuse a file that is not what was written: of `size` bytes and this SHA-256, neither where none was.

    Raises:
        ValueError: If it is missing, left over, truncated or altered.
    """
    if missing:
        raise ValueError(f"{file} is missing, the checkpoint is truncated: {COPY}")
    if size is None:
        raise ValueError(f"{file} was not there when the checkpoint was written, it is altered: remove the file")
    found = file.stat().st_size
    if found != size:
        how = "truncated" if found < size else "altered"
        raise ValueError(f"{file} is {how}, it has {found} bytes and was written with {size}: {COPY}")
    if digest(file) != checksum:
        raise ValueError(f"{file} is altered, its checksum is another: {COPY}")


def whole(file: Path, limit: int) -> bytes:
    """What a file of at most `limit` bytes holds.

    Raises:
        ValueError: If it is no file, or larger; it is not read then.
    """
    expect(file, "a file")
    size = file.stat().st_size
    if size > limit:
        raise ValueError(f"{file} is altered, it has {size} bytes and no save writes more than {limit}: {COPY}")
    return file.read_bytes()


def digest(file: Path) -> str:
    """SHA-256 of what a file holds."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def to_disk(file: Path) -> None:
    """Wait until a file, or a folder's list of files, has reached the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
