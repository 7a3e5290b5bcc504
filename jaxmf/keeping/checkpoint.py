"""Arrays and settings on disk: written whole or not at all, and read only where every byte is what was written.

A checkpoint is a folder. Its `manifest.json` names a data folder inside it, and the size and SHA-256 of every file
there: the arrays, by Orbax, and JSON documents beside them. A save writes a data folder of its own and then replaces
the manifest, which is the one step that counts: where it stops before that, the previous checkpoint is still the one.
Saves to one place wait for each other, and leave alone what none of them wrote.
Nothing that is read is run: arrays are numbers, documents are JSON. The checksums guard against accidents and not
against a forger. So only files inside the folder are opened, sizes are checked before anything is read, arrays' forms
before anything is allocated, and what a document says where it is used.
"""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import PyTree

from jaxmf.keeping.arrays import Form, forms, load_arrays, n_bytes, orbax_v1, write_arrays
from jaxmf.keeping.files import COPY, EACH, NONSENSE, ROOM, check_file, digest, files, sensible, to_disk
from jaxmf.keeping.manifests import FORMAT, MANIFEST, read_manifest, sealed
from jaxmf.keeping.places import begin, check_place, claim, replace_manifest, sweep, writing
from jaxmf.training.leaves import named, unnamed

ARRAYS = "arrays"

TEXT = 256
"""Bytes of ids that a byte of arrays may have beside it: a row of a table is at least eight bytes."""

TRIES = 5
"""How often reading starts over where a save completes meanwhile."""

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
    """Save a checkpoint, in place of the one that is at `path` if there is one.

    One writer at a time: others to the same place wait for it. What a save that died has left there is removed.

    Raises:
        ValueError: If something else is at `path`, others save there for longer than `places.WAIT`, or the documents
            are too large for the arrays.
        ImportError: If Orbax or filelock is not installed.
    """
    path = Path(path).absolute()
    arrays = {name: np.asarray(array) for name, array in checkpoint.arrays.items()}
    texts = {f"{name}.json": json.dumps(document).encode() for name, document in checkpoint.documents.items()}
    size, limit = sum(map(len, texts.values())), _room({name: (a.dtype, a.shape) for name, a in arrays.items()})
    if size > limit:
        raise ValueError(f"ids and settings take {size} bytes, beside these arrays at most {limit}: make ids shorter")
    orbax_v1()
    with writing(path) as last:
        folder = begin(path, f"data-{uuid.uuid4().hex}")
        write_arrays(folder / ARRAYS, arrays)
        for name, text in texts.items():
            (folder / name).write_bytes(text)
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
        if last:
            claim(path, last)
        replace_manifest(path, folder.name, sealed(manifest))
        sweep(path, folder.name)


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
            manifest = read_manifest(path)
            # A save removes the old folder after it has replaced the manifest: what was read counts where that stands.
            try:
                found = _contents(path, manifest, kind)
            except (ValueError, OSError, *NONSENSE):
                if read_manifest(path) == manifest:
                    raise
            else:
                if read_manifest(path) == manifest:
                    return found
    raise ValueError(f"{path} was saved anew {TRIES} times while it was read: save it less often, or load it later")


def _contents(path: Path, manifest: dict[str, Any], kind: str) -> Checkpoint:
    if manifest["kind"] != kind:
        raise ValueError(f"{path} holds a {manifest['kind']} and not a {kind}: load it as what it is")
    folder = path / manifest["folder"]
    told, expected = manifest["files"], forms(manifest["arrays"])
    documents = {name for name in told if name.endswith(".json") and "/" not in name}
    _check_sizes(folder, expected, {name: entry[0] for name, entry in told.items()}, documents)
    found = files(folder)
    for name in told.keys() | found.keys():
        check_file(folder / name, *told.get(name, (None, None)), missing=name not in found)
    arrays = load_arrays(folder / ARRAYS, expected)
    texts = {name.removesuffix(".json"): (folder / name).read_bytes() for name in documents}
    return Checkpoint(kind, arrays, {name: json.loads(text) for name, text in texts.items()})


def _check_sizes(folder: Path, expected: Mapping[str, Form], told: Mapping[str, int], documents: set[str]) -> None:
    """Refuse files that are too small or too large for the arrays, before any is read."""
    needed = n_bytes(expected)
    size = sum(told[name] for name in told if name not in documents)
    if not needed <= size <= 2 * needed + ROOM + EACH * len(expected):
        raise ValueError(f"{folder} is of arrays of {needed} bytes and its files of {size}, which no save does: {COPY}")
    if (size := sum(told[name] for name in documents)) > _room(expected):
        raise ValueError(f"{folder} is of documents of {size} bytes beside arrays of {needed}: no save does so. {COPY}")


def _room(arrays: Mapping[str, Form]) -> int:
    """Bytes that documents beside these arrays never exceed."""
    return ROOM + TEXT * n_bytes(arrays)


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
            orbax_v1()
            check_place(Path(self.path).absolute())
            return state, 0
        return load_state(self.path, state, run=self._run(run))

    def save(self, state: PyTree, epoch: int, run: Mapping[str, Any]) -> None:
        """Save the state of such a run after `epoch` epochs, in place of the last."""
        save_state(self.path, state, epoch=epoch, run=self._run(run))

    def _run(self, run: Mapping[str, Any]) -> dict[str, Any]:
        return {**{f"settings.{name}": value for name, value in (self.settings or {}).items()}, **run}
