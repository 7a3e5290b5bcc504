"""Where checkpoints are saved: by one writer at a time, and where nothing is that a save did not write.

Beside the manifest and the folder it names stand the lock, which stays, and a claim on every folder of data that is to
go: the one of a save that has not ended, and the last one's before it is removed. So whatever a save that died has left
is known, and nothing else is ever removed.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxmf.keeping.files import kind, to_disk
from jaxmf.keeping.manifests import DATA, MANIFEST, read_manifest

LOCK = f"{MANIFEST}.lock"
CLAIM = re.compile(rf"{re.escape(MANIFEST)}\.({DATA.pattern})")

WAIT = 60.0
"""Seconds that a save waits for others to the same place."""

ELSEWHERE = "name a new folder or a checkpoint's"


def check_place(path: Path) -> str | None:
    """The name of the folder of data of the checkpoint that is at `path`; None where nothing is.

    Raises:
        ValueError: If something is there that no save wrote, or a manifest that can't be read.
    """
    nearest = next(place for place in (path, *path.parents) if kind(place) != "nothing")
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is {kind(nearest)} and no checkpoint: {ELSEWHERE}")
    names = [entry.name for entry in path.iterdir()] if nearest == path else []
    for name in names:
        expected = _expected(name)
        if expected is None:
            raise ValueError(f"{path} is no checkpoint, it holds {name!r}: {ELSEWHERE}")
        if (found := kind(path / name)) != expected:
            raise ValueError(f"{path / name} is {found} and not {expected}, which no save does: {ELSEWHERE}")
    current = read_manifest(path)["folder"] if MANIFEST in names else None
    for name in names:
        if DATA.fullmatch(name) and name != current and _claim(path, name).name not in names:
            raise ValueError(f"{path} holds {name!r}, which no save of this checkpoint wrote: {ELSEWHERE}")
    return current


@contextmanager
def writing(path: Path) -> Iterator[str | None]:
    """The place to oneself, made if need be, and the name of the folder of data that is to be replaced.

    Raises:
        ValueError: As `check_place`, before anything is written, or if others write there for longer than `WAIT`.
        ImportError: If filelock is not installed.
    """
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise ImportError("saving needs filelock, the extra `checkpoint`: pip install 'jaxmf[checkpoint]'") from error
    try:
        check_place(path)
    except ValueError:
        # Where somebody saves at the time this sees half of it. What counts is seen again below.
        if kind(path / LOCK) != "a file":
            raise
    path.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(path / LOCK).acquire(timeout=WAIT)
    except Timeout as error:
        raise ValueError(
            f"{path} has been written to by others for {WAIT:g} seconds: save it later, or name another folder"
        ) from error
    with held:
        current = check_place(path)
        sweep(path, current)
        yield current


def begin(path: Path, name: str) -> Path:
    """A new folder of data of this name, which is removed by the next save if this one does not end."""
    claim(path, name)
    (path / name).mkdir()
    return path / name


def claim(path: Path, name: str) -> None:
    """Note, on disk, that a folder of data is ours and to go."""
    _claim(path, name).touch()
    to_disk(_claim(path, name))
    to_disk(path)


def replace_manifest(path: Path, name: str, text: str) -> None:
    """Make the folder of data that was begun the checkpoint's, in one step."""
    fresh = _claim(path, name)
    fresh.write_text(text, encoding="utf-8")
    to_disk(fresh)
    fresh.replace(path / MANIFEST)
    to_disk(path)


def sweep(path: Path, current: str | None) -> None:
    """Remove every folder of data that is claimed, and the claims; not the current one."""
    claims = [match for entry in path.iterdir() if (match := CLAIM.fullmatch(entry.name))]
    for found in claims:
        if found[1] != current and (path / found[1]).exists():
            shutil.rmtree(path / found[1])
        (path / found[0]).unlink()


def _claim(path: Path, name: str) -> Path:
    return path / f"{MANIFEST}.{name}"


def _expected(name: str) -> str | None:
    if DATA.fullmatch(name):
        return "a folder"
    return "a file" if name in (MANIFEST, LOCK) or CLAIM.fullmatch(name) else None
