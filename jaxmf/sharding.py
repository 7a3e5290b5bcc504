"""Many devices: what the axes of arrays are to a mesh of them. No other file names a mesh's axes.

What is trained inside `with jaxmf.sharding.over(jax.devices()):` is trained over all of them.

A user lives on one device with all of its ratings, so that its row is solved where it is. Items are on every device:
what their rows are solved from is summed over all.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

Tree = TypeVar("Tree")
Whole = TypeVar("Whole")
Out = TypeVar("Out")

SHARDS = "shards"
"""The one axis of a mesh: its devices."""

AXES = {"users": SHARDS, "ratings": SHARDS, "configurations": SHARDS, "items": None}
"""The mesh's axis of each axis of arrays; `None` where all of it is on every device."""

_current: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


def spec(axis: str | None = None) -> PartitionSpec:
    """How an array with this axis in front, one of `AXES`, lies on a mesh; without one all of it is on every device.

    Example:
        >>> tuple(spec("users")), tuple(spec("items"))
        (('shards',), ())
    """
    along = AXES[axis] if axis else None
    return PartitionSpec() if along is None else PartitionSpec(along)


def mesh_of(devices: Sequence[Any]) -> Mesh:
    """A mesh of these devices.

    Raises:
        ValueError: If there are none.
    """
    if not len(devices):
        raise ValueError("a mesh of no devices: give such as jax.devices()")
    return jax.make_mesh((len(devices),), (SHARDS,), axis_types=(AxisType.Auto,), devices=devices)


@contextmanager
def over(devices: Sequence[Any]) -> Iterator[Mesh]:
    """Train, fold in and rank over these devices inside.

    Trained over them are ALS without features and clicks; SGD and Gibbs sampling are refused. Users that are folded in
    as a batch, and those whose items are ranked, are divided among them.

    Raises:
        ValueError: If there are none.

    Example:
        >>> with over(jax.devices()[:1]) as mesh:
        ...     mesh.size
        1
    """
    mesh = mesh_of(devices)
    token = _current.set(mesh)
    try:
        with jax.default_device(devices[0]) if mesh.size == 1 else nullcontext():
            yield mesh
    finally:
        _current.reset(token)


def current() -> Mesh | None:
    """The mesh of `over`; `None` outside of it and where it is of one device."""
    found = _current.get()
    return None if found is None or found.size == 1 else found


def refuse(what: str) -> None:
    """Refuse to do on one device what is asked for over several.

    Raises:
        ValueError: Inside `over` several.
    """
    if (mesh := current()) is not None:
        raise ValueError(f"{what} over {mesh.size} devices: it runs on one only; leave `over` for it, or train by als")


def summed(here: Tree, axis: str | None) -> Tree:
    """What is summed on each device, over all of an axis of their mesh; without one it is as it is."""
    return here if axis is None else lax.psum(here, axis)


def parts(n: int, mesh: Mesh | None) -> int:
    """`n` and as many more as it takes for every device to have the same number."""
    return n if mesh is None else -(-n // mesh.size) * mesh.size


def cut(function: Callable[[Whole, Tree], Out], mesh: Mesh | None, axis: str) -> Callable[[Whole, Tree], Out]:
    """A function of what all devices have and of arrays that are cut along this axis, their first, as its result is.

    Without a mesh it is the function itself.
    """
    if mesh is None:
        return function
    lying = spec(axis)
    return jax.shard_map(function, mesh=mesh, in_specs=(spec(), lying), out_specs=lying, check_vma=False)


def home(tree: Tree) -> Tree:
    """Arrays on a mesh as arrays on one device, where whatever is not spread goes on."""
    return jax.device_put(jax.tree.map(np.asarray, tree))


def on(mesh: Mesh, tree: PyTree, axis: str | None = None) -> Any:  # noqa: ANN401 such a tree of arrays of the mesh
    """Arrays as arrays on a mesh, cut along this axis, their first, or whole on every device."""
    return jax.device_put(tree, NamedSharding(mesh, spec(axis)))


def made(mesh: Mesh, of_shard: Callable[[int], Tree]) -> Tree:
    """Arrays of which each device of a mesh has a part, one behind the other, made one after the other on the host."""
    lying = NamedSharding(mesh, spec("ratings"))
    shards = [jax.device_put(of_shard(at), device) for at, device in enumerate(mesh.devices.flat)]

    def joined(*leaves: jax.Array) -> jax.Array:
        shape = (mesh.size * leaves[0].shape[0], *leaves[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, lying, list(leaves))

    return jax.tree.map(joined, *shards)
