"""The manifest of a checkpoint: which folder holds its data, and what every file there must be."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from jaxmf.keeping.files import COPY, EACH, ROOM, kind, sensible, whole

FORMAT = 2
"""The format that is written, and the newest that is read; 1 had no links."""

MANIFEST = "manifest.json"
DATA = re.compile(r"data-[0-9a-f]{32}")
"""The name of a folder of data."""


def sealed(manifest: dict[str, Any]) -> str:
    """The manifest's one and only text, its own checksum last."""
    checksum = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps(manifest | {"checksum": checksum})


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint at `path`, whole, of a format that is read, and with the name of a data folder.

    Raises:
        ValueError: If there is none, or another.
    """
    file = path / MANIFEST
    if kind(file) == "nothing":
        raise ValueError(f"no checkpoint at {path}: there is no {MANIFEST}")
    entries = sum(len(names) for _, _, names in os.walk(path))
    with sensible(path):
        text = whole(file, ROOM + EACH * entries)
        manifest = _opened(file, text)
        if manifest["format"] not in range(1, FORMAT + 1):
            raise ValueError(
                f"{path} is of format {manifest['format']!r} and this version of jaxmf reads 1 to {FORMAT}: "
                "update jaxmf"
            )
        if not DATA.fullmatch(manifest["folder"]):
            raise ValueError(f"{file} names the folder {manifest['folder']!r}, which no save does: {COPY}")
    return manifest


def _opened(file: Path, text: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
        del manifest["checksum"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is truncated or altered, it is no whole manifest: {COPY}") from error
    if text != sealed(manifest).encode():
        raise ValueError(f"{file} is altered, its checksum is another: {COPY}")
    return manifest
