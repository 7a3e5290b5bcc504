"""Arrays and settings on disk: written whole or not at all, and read only where every byte is what was written.

A checkpoint is a folder. Its `manifest.json` names a data folder inside it, and the size and SHA-256 of every file
there: the arrays, by Orbax, and JSON documents beside them. A save writes a data folder of its own and then replaces
the manifest, which is the one step that counts: where it stops before that, the previous checkpoint is still the one.
Nothing that is read is run: arrays are numbers, documents are JSON. The checksums guard against accidents and not
against a forger, so what a document says is checked again where it is used.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import PyTree

from jaxmf.serving.leaves import named, unnamed

FORMAT = 2
"""The format that is written, and the newest that is read; 1 had no links."""

MANIFEST, ARRAYS = "manifest.json", "arrays"
DATA = re.compile(r"data-[0-9a-f]{32}")
COPY = "restore it from a copy, or save it anew"

CHUNK = 2**22
"""Bytes a chunk of an array."""

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
        "files": {name: [file.stat().st_size, _digest(file)] for name, file in _files(folder).items()},
    }
    for file in folder.rglob("*"):
        _to_disk(file)
    _to_disk(folder)
    fresh = path / f"{MANIFEST}.{folder.name}"
    fresh.write_text(_sealed(manifest), encoding="utf-8")
    _to_disk(fresh)
    fresh.replace(path / MANIFEST)
    _to_disk(path)
    for old in path.iterdir():
        if DATA.fullmatch(old.name) and old != folder:
            shutil.rmtree(old)
        elif old.name.startswith(f"{MANIFEST}."):
            old.unlink()


def read(path: str | os.PathLike, kind: str) -> Checkpoint:
    """The checkpoint at `path`, if every byte of it is what was written.

    Raises:
        ValueError: If there is none, it is of another kind, was written by a newer version, or is truncated or altered.
        ImportError: If Orbax is not installed.
    """
    path = Path(path).absolute()
    manifest = _manifest(path)
    if manifest["kind"] != kind:
        raise ValueError(f"{path} holds a {manifest['kind']} and not a {kind}: load it as what it is")
    if not DATA.fullmatch(manifest["folder"]):
        raise ValueError(f"{path / MANIFEST} names the folder {manifest['folder']!r}, which no save does: {COPY}")
    folder = path / manifest["folder"]
    found, files = _files(folder), manifest["files"]
    for name in files.keys() | found.keys():
        _check_file(folder / name, *files.get(name, (None, None)), missing=name not in found)
    empty = {name: np.empty(shape, np.dtype(dtype)) for name, (dtype, shape) in manifest["arrays"].items()}
    whole = {name: array for name, array in empty.items() if array.size}
    loaded = _orbax().load(folder / ARRAYS, whole) if whole else {}
    documents = {
        name.removesuffix(".json"): json.loads((folder / name).read_bytes())
        for name in files
        if name.endswith(".json") and "/" not in name
    }
    return Checkpoint(kind, {name: np.asarray(loaded.get(name, empty[name])) for name in empty}, documents)


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

    `run` is what tells its run from others, as JSON can say it.

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
    kept, asked = documents["progress"].get("run"), json.loads(json.dumps(run))
    if asked is not None and kept != asked:
        raise ValueError(f"{path} keeps a run of {kept} and not of {asked}: name another folder, or remove it")
    return unnamed(like, arrays), int(documents["progress"]["epoch"])


class Keeper(NamedTuple):
    """Keeps a training run at `path`, to go on from where it ended: `jaxmf.Watch(keeper=Keeper("run", every=10))`.

    Attributes:
        path: The checkpoint.
        every: Epochs between two saves.
        settings: What tells the run from others, as JSON can say it: the state of a run of other settings is refused.
    """

    path: str | os.PathLike
    every: int = 1
    settings: dict[str, Any] | None = None

    def load(self, state: State, run: Mapping[str, Any]) -> tuple[State, int]:
        """The state that was saved last of such a run, and after how many epochs; `state` and 0 where there is none.

        Raises:
            ValueError: As `load_state`, or if `every` is below 1, something else is at `path`, or it is of
                another run: of another number of epochs, on which learning rates and kept draws depend, of another
                kernel, or of other settings.
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
        return {**run, **(self.settings or {})}


def _check_place(path: Path) -> None:
    """Refuse a folder that holds something else."""
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
    if text != _sealed(manifest):
        raise ValueError(f"{file} is altered, its checksum is another: {COPY}")
    if manifest["format"] > FORMAT:
        raise ValueError(
            f"{path} is of format {manifest['format']} and this version of jaxmf reads up to {FORMAT}: update jaxmf"
        )
    return manifest


def _sealed(manifest: dict[str, Any]) -> str:
    """The manifest's one and only text, its own checksum last."""
    checksum = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps(manifest | {"checksum": checksum})


def _check_file(file: Path, size: int | None, digest: str | None, *, missing: bool) -> None:
    if missing:
        raise ValueError(f"{file} is missing, the checkpoint is truncated: {COPY}")
    if size is None:
        raise ValueError(f"{file} was not there when the checkpoint was written, it is altered: remove the file")
    found = file.stat().st_size
    if found < size:
        raise ValueError(f"{file} is truncated, it has {found} of {size} bytes: {COPY}")
    if _digest(file) != digest:
        raise ValueError(f"{file} is altered, its checksum is another: {COPY}")


def _files(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its path from there."""
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if not file.is_dir()}


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _to_disk(file: Path) -> None:
    """Wait until a file, or a folder's list of files, has reached the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _orbax():  # noqa: ANN202 a module
    try:
        from orbax.checkpoint import v1
    except ImportError as error:
        raise ImportError("checkpoints need Orbax, the extra `checkpoint`: pip install 'jaxmf[checkpoint]'") from error
    return v1
