"""A tree's leaves by name, as arrays on the host, the tree of them again, and what JSON can say of them."""

import hashlib
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

State = TypeVar("State")


def named(tree: PyTree) -> dict[str, np.ndarray]:
    """A tree's leaves on the host by their paths, a random key as its numbers."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for path, leaf in leaves}


def unnamed(like: State, arrays: dict[str, np.ndarray]) -> State:
    """A tree of the form of `like` from its `named` leaves.

    Raises:
        ValueError: If a leaf is missing, left over, or of another shape or dtype than `like`'s.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    expected = {name: (array.dtype.name, array.shape) for name, array in named(like).items()}
    given = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    for name in expected | given:
        if expected.get(name) != given.get(name):
            raise ValueError(
                f"{name} is {given.get(name, 'not there')} in the checkpoint and {expected.get(name, 'not there')} in "
                "the state it is to become: load it with the settings it was saved with"
            )

    def leaf(path: tuple, old: Any) -> jax.Array:  # noqa: ANN401 any leaf
        new = jnp.asarray(arrays[_name(path)])
        return jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new

    return jax.tree.unflatten(treedef, [leaf(*one) for one in leaves])


def facts(tree: PyTree) -> dict[str, Any]:
    """What tells a tree from others, as JSON can say it: numbers and words as they are, arrays by a hash.

    Example:
        >>> facts({"kernel": "Linear()", "prior": {"power": 0.5}, "rated": np.arange(3, dtype=np.int32)})
        {'kernel': 'Linear()', 'prior.power': 0.5, 'rated': 'sha256 9a25ebc17ef66f7e'}
    """
    return {name: leaf.item() if leaf.ndim == 0 else _hash(leaf) for name, leaf in named(tree).items()}


def _hash(array: np.ndarray) -> str:
    """The first digits of the SHA-256 of an array's dtype, shape and numbers."""
    digest = hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array))
    return f"sha256 {digest.hexdigest()[:16]}"


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_key(leaf: Any) -> bool:  # noqa: ANN401 any leaf
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
