"""Where alternating least squares runs: here, or over the devices of a mesh, by the very same sweep."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxmf import sharding
from jaxmf.data.features import Sides
from jaxmf.data.histories import PAGES, Block
from jaxmf.data.ratings import Ratings
from jaxmf.data.shards import Deal, deal, stacks
from jaxmf.model.kernels import Kernel
from jaxmf.model.objective import Weights, weights
from jaxmf.model.priors import Priors
from jaxmf.model.tables import Table
from jaxmf.training.alternating import Histories, State, histories
from jaxmf.training.loop import Info
from jaxmf.training.place import Place


class Here(Place):
    """On one device."""

    def histories(self, ratings: Ratings, features: Sides) -> Histories:
        """What a sweep takes, in even sizes."""
        return histories(ratings, features, even=True)

    def sweep(self, sweep: Callable) -> Callable:
        """The sweep."""
        return sweep


class Spread(Place):
    """Over a mesh: each device has the rows of its users, and the items' of all.

    Attributes:
        mesh: The mesh.
        dealt: Which device each user is dealt to.
    """

    def __init__(self, mesh: Mesh, dealt: Deal) -> None:
        self.mesh, self.dealt = mesh, dealt

    def histories(self, ratings: Ratings, features: Sides) -> Histories:
        """What a sweep takes, each device's made in turn and put there."""
        n_user, n_item = map(np.asarray, weights(ratings))
        n = Weights(self._dealt(n_user), sharding.on(self.mesh, n_item))
        users, items = self.blocks(ratings, PAGES)
        return Histories(n, (*users, *items), features, sharding.SHARDS)

    def blocks(
        self, ratings: Ratings, pages: int, *, joint: bool = True
    ) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
        """The users' and the items' histories as `jaxmf.data.shards.stacks`, on their devices."""
        users, items = stacks(ratings, self.dealt, pages=pages, joint=joint)
        return (
            tuple(sharding.made(self.mesh, stack.of) for stack in users),
            tuple(sharding.made(self.mesh, stack.of).replace(axis=sharding.SHARDS) for stack in items),
        )

    def sweep(self, sweep: Callable) -> "Sharded":
        """The sweep over the mesh."""
        return Sharded(sweep, self.mesh)

    def spread(self, state: State) -> State:
        """The state with each user's row on its device."""
        model = jax.tree.map(np.asarray, state.params)
        user = Table(self._dealt(model.user.bias), self._dealt(model.user.factors))
        rest = sharding.on(self.mesh, (model.item, model.offset, jax.tree.map(np.asarray, state.links)))
        return State(model.replace(user=user, item=rest[0], offset=rest[1]), rest[2])

    def gathered(self, state: State) -> State:
        """The state on one device, users in their order."""
        model, links = sharding.home((state.params, state.links))
        return State(model.replace(user=model.user[self.dealt.row]), links)

    def pairs(self, ratings: Ratings) -> Ratings:
        """Ratings of the users where their rows are."""
        return ratings.replace(user=self.dealt.row[ratings.user], n_users=self.dealt.size * self.dealt.shards)

    def _dealt(self, of_users: np.ndarray) -> jax.Array:
        rows = np.zeros((self.dealt.size * self.dealt.shards, *of_users.shape[1:]), of_users.dtype)
        rows[self.dealt.row] = of_users
        return sharding.on(self.mesh, rows, "users")


class Sharded(NamedTuple):
    """A sweep over a mesh, for `loop.run`: each device's part of it is the sweep of its users."""

    sweep: Callable
    mesh: Mesh

    def __call__(self, state: State, data: tuple[Any, Priors], kernel: Kernel) -> tuple[State, Info]:
        """The state after it."""
        users, ratings, whole = (sharding.spec(axis) for axis in ("users", "ratings", None))
        of_state = State(state.params.replace(user=users, item=whole, offset=whole), whole)
        of_data = data[0].lying(users, ratings, whole), whole
        local = jax.shard_map(
            self.sweep,
            mesh=self.mesh,
            in_specs=(of_state, of_data, whole),
            out_specs=(of_state, whole),
            check_vma=False,
        )
        return local(state, data, kernel)


def where(ratings: Ratings, features: Sides) -> Here | Spread:
    """Where to train on these ratings.

    Raises:
        ValueError: If it is a mesh and there are features.
    """
    mesh = sharding.current()
    if mesh is None:
        return Here()
    if features != Sides():
        raise ValueError("features are not spread over devices yet: leave them out, or train on one device")
    return Spread(mesh, deal(ratings, mesh.size))
