"""Files of a checkpoint: on disk before anything says so, and checked against what the manifest says of them."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

COPY = "restore it from a copy, or save it anew"
"""What to do about a checkpoint that is not what was saved."""


def sealed(manifest: dict[str, Any]) -> str:
    """The manifest's one and only text, its own checksum last."""
    checksum = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps(manifest | {"checksum": checksum})


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
    if found < size:
        raise ValueError(f"{file} is truncated, it has {found} of {size} bytes: {COPY}")
    if digest(file) != checksum:
        raise ValueError(f"{file} is altered, its checksum is another: {COPY}")


def files(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its path from there."""
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if not file.is_dir()}


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
