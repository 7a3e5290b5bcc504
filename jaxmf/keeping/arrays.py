"""Arrays on disk, by Orbax: as they are, without compression, so that their files say how large they can be."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmf.keeping.files import COPY

CHUNK = 2**22
"""Bytes a chunk of an array."""

BITS = 6
"""Bits of the sizes that a large array is stored in."""

CODECS = {"bytes", "crc32c", "sharding_indexed"}
"""How chunks are stored: by none of these does an array grow as it is read."""

Form = tuple[np.dtype, tuple[int, ...]]
"""An array's dtype and shape."""


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays into a new folder; where all are empty there is none.

    Raises:
        ImportError: If Orbax is not installed.
    """
    full = {name: array for name, array in arrays.items() if array.size}  # Orbax keeps no empty arrays
    if not full:
        return
    orbax = orbax_v1()
    context = orbax.Context()
    # Factors hardly compress, and a chunk is what reading holds besides the array.
    context.array.saving.use_compression = False
    context.array.saving.storage_options.chunk_byte_size = CHUNK
    with context:
        orbax.save(folder, {name: _widened(array) for name, array in full.items()})
    for note in folder.rglob("commit_success.txt"):  # it tells the folder's path on this machine
        note.write_text("", encoding="utf-8")


def forms(told: Mapping[str, Any]) -> dict[str, Form]:
    """Dtypes and shapes by name, from what a manifest tells.

    Raises:
        ValueError: If a dimension is negative.
    """
    found = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in told.items()}
    for name, (_, shape) in found.items():
        if not all(size >= 0 for size in shape):
            raise ValueError(f"{name} has the shape {shape}, which no array has: {COPY}")
    return found


def n_bytes(arrays: Mapping[str, Form]) -> int:
    """Bytes that arrays of these dtypes and shapes take."""
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in arrays.values())


def load_arrays(folder: Path, expected: Mapping[str, Form]) -> dict[str, np.ndarray]:
    """The arrays of a folder, which have to be of these dtypes and shapes, and stored in their own size.

    Raises:
        ValueError: If one is not, which is known before any is read.
        ImportError: If Orbax is not installed.
    """
    full = {name: form for name, form in expected.items() if math.prod(form[1])}
    arrays = {name: np.empty(shape, dtype) for name, (dtype, shape) in expected.items() if name not in full}
    if full:
        orbax = orbax_v1()
        try:
            shapes = check_stored(folder, full)
            # Of an array to load into, Orbax takes no more than the dtype and the shape.
            like = {name: np.broadcast_to(np.zeros((), dtype), shapes[name]) for name, (dtype, _) in full.items()}
            for name, array in orbax.load(folder, like).items():
                arrays[name] = np.asarray(array)[(..., *map(slice, full[name][1]))]
        except (RuntimeError, OSError) as error:
            raise ValueError(f"{folder} can't be read, {type(error).__name__}: {error}. {COPY.capitalize()}") from error
    return {name: arrays[name] for name in expected}


def stored(dtype: np.dtype, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which an array is stored: each size of a large one is rounded up to `BITS` bits.

    A chunk's sizes divide the array's. Of a prime number of ratings each would be a chunk of its own.

    Example:
        >>> stored(np.dtype(np.float32), (19_999_999, 32))
        (20447232, 32)
    """
    if dtype.itemsize * math.prod(shape) <= CHUNK:
        return shape
    units = (1 << max(0, size.bit_length() - BITS) for size in shape)
    return tuple(-(-size // unit) * unit for size, unit in zip(shape, units, strict=True))


def _widened(array: np.ndarray) -> np.ndarray:
    """The array in the shape in which it is stored, zeros behind it."""
    more = [(0, size - there) for size, there in zip(stored(array.dtype, array.shape), array.shape, strict=True)]
    return np.pad(array, more) if any(after for _, after in more) else array


def check_stored(folder: Path, expected: Mapping[str, Form]) -> dict[str, tuple[int, ...]]:
    """Refuse arrays that are stored as no save does: of another form, in chunks larger than the array, or compressed.

    Only their descriptions are read; returns the shapes in which they are stored, in older checkpoints their own.

    Raises:
        ValueError: If one is.
    """
    import tensorstore  # what Orbax stores arrays by

    base = {"driver": "file", "path": f"{folder / 'state'}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    found: dict[str, tuple[int, ...]] = {}
    for name, (dtype, shape) in expected.items():
        text = store.read(f"{name}/zarr.json".lstrip("/")).result().value  # a lone array has no name
        if not text:
            raise ValueError(f"{folder} holds no {name}: {COPY}")
        description = json.loads(text)
        found[name] = tuple(description["shape"])
        if found[name] not in (shape, stored(dtype, shape)):
            raise ValueError(f"{folder} holds {name} of shape {found[name]} and not {shape}: {COPY}")
        if description["data_type"] != dtype.name:
            raise ValueError(f"{folder} holds {name} of {description['data_type']} and not {dtype.name}: {COPY}")
        _check_chunks(f"{folder} holds {name}", description["chunk_grid"], description["codecs"], found[name])
    return found


def _check_chunks(what: str, grid: dict[str, Any], codecs: list[dict[str, Any]], shape: tuple[int, ...]) -> None:
    chunk = tuple(grid["configuration"]["chunk_shape"])
    if len(chunk) != len(shape) or not all(0 < size <= whole for size, whole in zip(chunk, shape, strict=True)):
        raise ValueError(f"{what} of shape {shape} in chunks of {chunk}, which no save does: {COPY}")
    for codec in codecs:
        if codec["name"] not in CODECS:
            raise ValueError(f"{what} by {codec['name']!r}, and a save uses only {sorted(CODECS)}: {COPY}")
        if codec["name"] == "sharding_indexed":
            _check_chunks(what, codec, codec["configuration"]["codecs"], chunk)


def orbax_v1():  # noqa: ANN201 a module
    """Orbax, or how to get it."""
    try:
        from orbax.checkpoint import v1
    except ImportError as error:
        raise ImportError("checkpoints need Orbax, the extra `checkpoint`: pip install 'jaxmf[checkpoint]'") from error
    return v1
