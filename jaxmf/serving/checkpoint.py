"""Arrays and settings on disk: written whole or not at all, and read only where every byte is what was written.

A checkpoint is a folder. Its `manifest.json` names a data folder inside it, and the size and SHA-256 of every file
there: the arrays, by Orbax, and JSON documents beside them. A save writes a data folder of its own and then replaces
the manifest, which is the one step that counts: where it stops before that, the previous checkpoint is still the one.
Nothing that is read is run: arrays are numbers, documents are JSON. The checksums guard against accidents and not
against a forger, so what a document says is checked again where it is used.
"""

import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import PyTree

from jaxmf.serving.files import COPY, check_file, digest, files, sealed, to_disk
from jaxmf.training.leaves import named, unnamed

FORMAT = 2
"""The format that is written, and the newest that is read; 1 had no links."""

MANIFEST, ARRAYS = "manifest.json", "arrays"
DATA = re.compile(r"data-[0-9a-f]{32}")

CHUNK = 2**22
"""Bytes a chunk of an array."""

TRIES = 5
"""How often reading starts over where a save completes meanwhile."""

NONSENSE = (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError)
"""What comes of taking a document for what it is not."""

State = TypeVar("State")


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        kind: What the contents are of: what wrote it may read it.
        arrays: Arrays on the host, by name.
        documents: What JSON can say, by name.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    documents: dict[str, Any]


def write(path: str | os.PathLike, checkpoint: Checkpoint) -> None:
    """Save a checkpoint, in place of the one that is at `path` if there is one; one writer at a time.

    Raises:
        ValueError: If something else is at `path`.
        ImportError: If Orbax is not installed.
    """
    path = Path(path).absolute()
    _check_place(path)
    path.mkdir(parents=True, exist_ok=True)
    folder = path / f"data-{uuid.uuid4().hex}"
    folder.mkdir()
    arrays = {name: np.asarray(array) for name, array in checkpoint.arrays.items()}
    _write_arrays(folder / ARRAYS, arrays)
    for name, document in checkpoint.documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "kind": checkpoint.kind,
        "folder": folder.name,
        "arrays": {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()},
        "files": {name: [file.stat().st_size, digest(file)] for name, file in files(folder).items()},
    }
    for file in folder.rglob("*"):
        to_disk(file)
    to_disk(folder)
    fresh = path / f"{MANIFEST}.{folder.name}"
    fresh.write_text(sealed(manifest), encoding="utf-8")
    to_disk(fresh)
    fresh.replace(path / MANIFEST)
    to_disk(path)
    for old in path.iterdir():
        if DATA.fullmatch(old.name) and old != folder:
            shutil.rmtree(old)
        elif old.name.startswith(f"{MANIFEST}."):
            old.unlink()


def read(path: str | os.PathLike, kind: str) -> Checkpoint:
    """The checkpoint at `path`, if every byte of it is what was written; the new one if a save completes meanwhile.

    Raises:
        ValueError: If there is none, it is of another kind, was written by a newer version, is truncated or altered, or
            makes no sense.
        ImportError: If Orbax is not installed.
    """
    path = Path(path).absolute()
    with sensible(path):
        for _ in range(TRIES):
            manifest = _manifest(path)
            # A save removes the old folder after it has replaced the manifest: what was read counts where that stands.
            try:
                found = _contents(path, manifest, kind)
            except (ValueError, OSError, *NONSENSE):
                if _manifest(path) == manifest:
                    raise
            else:
                if _manifest(path) == manifest:
                    return found
    raise ValueError(f"{path} was saved anew {TRIES} times while it was read: save it less often, or load it later")


@contextmanager
def sensible(path: str | os.PathLike) -> Iterator[None]:
    """Turns what a document raises where it is taken for what it is not into a ValueError that says so."""
    try:
        yield
    except NONSENSE as error:
        raise ValueError(f"{path} makes no sense, {type(error).__name__}: {error}. No save wrote it: {COPY}") from error


def _contents(path: Path, manifest: dict[str, Any], kind: str) -> Checkpoint:
    if manifest["kind"] != kind:
        raise ValueError(f"{path} holds a {manifest['kind']} and not a {kind}: load it as what it is")
    if not DATA.fullmatch(manifest["folder"]):
        raise ValueError(f"{path / MANIFEST} names the folder {manifest['folder']!r}, which no save does: {COPY}")
    folder = path / manifest["folder"]
    found, told = files(folder), manifest["files"]
    for name in told.keys() | found.keys():
        check_file(folder / name, *told.get(name, (None, None)), missing=name not in found)
    arrays = _load_arrays(folder / ARRAYS, manifest["arrays"], sum(size for size, _ in told.values()))
    documents = {
        name.removesuffix(".json"): json.loads((folder / name).read_bytes())
        for name in told
        if name.endswith(".json") and "/" not in name
    }
    return Checkpoint(kind, arrays, documents)


def _load_arrays(folder: Path, told: Mapping[str, Any], size: int) -> dict[str, np.ndarray]:
    """The arrays, whose dtypes and shapes are told; what is on disk is of `size` bytes."""
    forms = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in told.items()}
    needed = sum(dtype.itemsize * math.prod(shape) for dtype, shape in forms.values())
    if needed > size:
        raise ValueError(f"{folder} is of arrays of {needed} bytes and its files of {size}, which no save does: {COPY}")
    empty = {name: np.empty(shape, dtype) for name, (dtype, shape) in forms.items()}
    whole = {name: array for name, array in empty.items() if array.size}
    loaded = _orbax().load(folder, whole) if whole else {}
    arrays = {name: np.asarray(loaded.get(name, empty[name])) for name in empty}
    for name, array in arrays.items():
        if (array.dtype, array.shape) != forms[name]:
            raise ValueError(f"{folder} holds {name} of shape {array.shape} and not {forms[name][1]}: {COPY}")
    return arrays


def _write_arrays(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    whole = {name: array for name, array in arrays.items() if array.size}  # Orbax keeps no empty arrays
    if not whole:
        return
    orbax = _orbax()
    context = orbax.Context()
    # Factors hardly compress, and a chunk is what reading holds besides the array.
    context.array.saving.use_compression = False
    context.array.saving.storage_options.chunk_byte_size = CHUNK
    with context:
        orbax.save(folder, whole)
    for note in folder.rglob("commit_success.txt"):  # it tells the folder's path on this machine
        note.write_text("", encoding="utf-8")


def save_state(path: str | os.PathLike, state: PyTree, *, epoch: int = 0, run: dict[str, Any] | None = None) -> None:
    """Save a trainer's state, its random key included, to go on from after `epoch` epochs.

    `run` is what tells its run from others: numbers and words by name.

    Example:
        >>> import tempfile
        >>> import jax
        >>> import jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_state(f"{folder}/run", {"rows": jnp.ones(2), "key": jax.random.key(3)}, epoch=7)
        ...     state, epoch = load_state(f"{folder}/run", {"rows": jnp.zeros(2), "key": jax.random.key(0)})
        >>> state["rows"], epoch
        (Array([1., 1.], dtype=float32), 7)
    """
    write(path, Checkpoint("state", named(state), {"progress": {"epoch": epoch, "run": run}}))


def load_state(path: str | os.PathLike, like: State, *, run: dict[str, Any] | None = None) -> tuple[State, int]:
    """A state that was saved, and after how many epochs; `like` is one of the same settings, such as `init`'s.

    Raises:
        ValueError: As `read`, or if the state is not like `like`, or is of another `run` than is asked for.
    """
    _, arrays, documents = read(path, "state")
    with sensible(path):
        epoch, kept = documents["progress"]["epoch"], documents["progress"].get("run") or {}
        if not (type(epoch) is int and epoch >= 0):
            raise ValueError(f"{path} is of a state after {epoch!r} epochs, which no save does: {COPY}")
        asked = kept if run is None else json.loads(json.dumps(run))
        for name in asked | kept:
            if asked.get(name) != kept.get(name):
                raise ValueError(
                    f"{path} keeps a run with {name} {kept.get(name)!r} and this one has {asked.get(name)!r}: "
                    "name another folder, or remove it"
                )
        return unnamed(like, arrays), epoch


class Keeper(NamedTuple):
    """Keeps a training run at `path`, to go on from where it ended: `jaxmf.Watch(keeper=Keeper("run", every=10))`.

    Attributes:
        path: The checkpoint.
        every: Epochs between two saves.
        settings: What tells the run from others besides its own facts, as JSON can say it, by name.

    The state of a run with other facts is refused. A trainer's own facts are the number of epochs, on which learning
    rates and kept draws depend, the kernel, the rank, the trainer's settings (of an optimizer of Optax, whether there
    is one), the ratings, and the first state (`start`), which depends on the random key. Arrays are told apart by
    hashes, and first states that a CPU and a GPU draw may not be the same to the last bit.
    """

    path: str | os.PathLike
    every: int = 1
    settings: dict[str, Any] | None = None

    def load(self, state: State, run: Mapping[str, Any]) -> tuple[State, int]:
        """The state that was saved last of such a run, and after how many epochs; `state` and 0 where there is none.

        Raises:
            ValueError: As `load_state`, or if `every` is below 1, something else is at `path`, or it is of
                another run.
            ImportError: If Orbax is not installed.
        """
        if not self.every >= 1:
            raise ValueError(f"every must be 1 or more, got {self.every}: it is the number of epochs between two saves")
        if not (Path(self.path) / MANIFEST).exists():
            _orbax()
            _check_place(Path(self.path))
            return state, 0
        return load_state(self.path, state, run=self._run(run))

    def save(self, state: PyTree, epoch: int, run: Mapping[str, Any]) -> None:
        """Save the state of such a run after `epoch` epochs, in place of the last."""
        save_state(self.path, state, epoch=epoch, run=self._run(run))

    def _run(self, run: Mapping[str, Any]) -> dict[str, Any]:
        return {**{f"settings.{name}": value for name, value in (self.settings or {}).items()}, **run}


def _check_place(path: Path) -> None:
    """Refuse a file, and a folder that holds something else."""
    nearest = next(place for place in (path, *path.parents) if place.exists())
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is a file and no checkpoint: name a new folder or a checkpoint's")
    names = [entry.name for entry in path.iterdir()] if path.exists() else []
    strangers = [name for name in names if not (name.startswith(MANIFEST) or DATA.fullmatch(name))]
    if strangers:
        raise ValueError(f"{path} is no checkpoint, it holds {strangers[0]!r}: name a new folder or a checkpoint's")


def _manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.is_file():
        raise ValueError(f"no checkpoint at {path}: there is no {MANIFEST}")
    try:
        text = file.read_text(encoding="utf-8")
        manifest = json.loads(text)
        del manifest["checksum"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is truncated or altered, it is no whole manifest: {COPY}") from error
    if text != sealed(manifest):
        raise ValueError(f"{file} is altered, its checksum is another: {COPY}")
    if manifest["format"] not in range(1, FORMAT + 1):
        raise ValueError(
            f"{path} is of format {manifest['format']!r} and this version of jaxmf reads 1 to {FORMAT}: update jaxmf"
        )
    return manifest


def _orbax():  # noqa: ANN202 a module
    try:
        from orbax.checkpoint import v1
    except ImportError as error:
        raise ImportError("checkpoints need Orbax, the extra `checkpoint`: pip install 'jaxmf[checkpoint]'") from error
    return v1
