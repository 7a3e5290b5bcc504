"""What a trainer returns and every other door takes: rows, and all that says how a row follows from its ratings."""

from typing import no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from jaxmf.data.arrays import Column
from jaxmf.data.histories import Block
from jaxmf.data.ratings import AnyArray
from jaxmf.model import links
from jaxmf.model.kernels import Clicks, Kernel
from jaxmf.model.links import Links
from jaxmf.model.params import Params, predict
from jaxmf.model.priors import DEFAULT, Priors
from jaxmf.model.problem import Problem, background_of, in_unit
from jaxmf.model.rows import row_weights
from jaxmf.model.tables import Table, resized


@no_type_check
class Model(struct.PyTreeNode):
    """A point model: one row a user and an item.

    Attributes:
        params: The rows of both sides, and the kernel's offset.
        kernel: What makes a rating of two rows.
        priors: Where the rows of each side stand before their ratings.
        links: What features say of a row; `None` where neither side has any.
        implicit: Whether the users' features, and the items', are their implicit feedback: a fold-in reads that off the
            ratings, and has to be given any other.

    Example:
        >>> import jax
        >>> from jaxmf.model.kernels import Linear
        >>> from jaxmf.model.params import init
        >>> Model(init(jax.random.key(0), n_users=3, n_items=5, rank=2), Linear())
        Model(3 users, 5 items, rank 2, Linear())
    """

    params: Params
    kernel: Kernel
    priors: Priors = DEFAULT
    links: Links | None = None
    implicit: tuple[bool, bool] = struct.field(pytree_node=False, default=(False, False))

    def __repr__(self) -> str:
        return described("Model", self.params, self.kernel, self.implicit)

    def transpose(self) -> "Model":
        """The same model seen from the other side: items as users, users as items."""
        turned = None if self.links is None else Links(self.links.item, self.links.user)
        return Model(self.params.transpose(), self.kernel, self.priors.transpose(), turned, self.implicit[::-1])

    def frozen(self) -> "Model":
        """The model without the users' rows, whatever their number: what these are solved against."""
        links = None if self.links is None else self.links._replace(item=None)
        priors = self.priors._replace(item=None)
        return self.replace(params=self.params.replace(user=None), priors=priors, links=links)

    def with_users(self, table: Table) -> "Model":
        """The model with another table of users."""
        return self.replace(params=self.params.replace(user=table))

    def with_strangers(self, table: Table) -> "Model":
        """The model with a table of other users, and nothing said of an item by their having rated it."""
        model = self.with_users(table)
        if self.links is None or not self.implicit[1]:
            return model
        return model.replace(links=self.links._replace(item=unheard(table)))

    def advanced(self) -> "Model":
        """Itself: a point model draws nothing."""
        return self

    def take_users(self, kept: Int[AnyArray, " b"]) -> "Model":
        """The model with only the users `kept`, in this order."""
        links = self.links
        if links is not None and self.implicit[1]:
            links = links._replace(item=links.item.take(kept))
        user = self.params.user.take(kept)
        user = user if self.params.user.gram is None else user.counted()
        return self.replace(params=self.params.replace(user=user), links=links)

    def grown(self, n_users: int, n_items: int) -> "Model":
        """The model with at least so many rows: new ones are 0, and so is what being rated by or of one says."""
        params = self.params.replace(user=resized(self.params.user, n_users), item=resized(self.params.item, n_items))
        return self.replace(
            params=params, links=self.links and grown_links(self.links, self.implicit, n_users, n_items)
        )

    def link(self) -> Table | None:
        """The users' link; `None` where they have no features."""
        return None if self.links is None or not len(self.links.user) else self.links.user

    def predict(self, user: Column, item: Column) -> Float[Array, " n"]:
        """Predicted ratings of the pairs (user, item), in the unit of the ratings; not clipped.

        Raises:
            ValueError: If a row on the host is not in its table.
        """
        return predict(self.params, self.kernel, user, item)

    def problem(self, block: Block, said: Table | None = None) -> Problem:
        """What the users' rows of a block are to explain.

        Args:
            block: Their ratings.
            said: What their features say of them; else what their implicit feedback does, where that is the features.
        """
        given, others, background = in_unit(block, self.kernel), self.params.item, None
        n = row_weights(block)
        if isinstance(self.kernel, Clicks):
            background = background_of(self.kernel, (others if others.gram else others.counted()).gram)
            n = background.counted(row_weights(given))
        mean = links.said_of(block, self.link() if self.implicit[0] else None, self.params.item.rank)
        mean = mean if said is None else said
        precision = self.priors.user.precision(n)
        return Problem(self.kernel, self.params.offset, others, given, mean, precision, background)


def unheard(table: Table) -> Table:
    """The items' link to the users of a table, of whom it says nothing: zeros."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), table)


def grown_links(links: Links, implicit: tuple[bool, bool], n_users: int, n_items: int) -> Links:
    """The links of implicit feedback with at least a row for each row of the other side."""
    sides = zip(links, implicit, (n_items, n_users), strict=True)
    return Links(*(resized(link, size) if feedback else link for link, feedback, size in sides))


def described(name: str, params: Params, kernel: Kernel, implicit: tuple[bool, bool], more: str = "") -> str:
    """A model in words: counts, rank and kernel, and no arrays."""
    users, items = (0 if table is None else table.bias.shape[-1] for table in (params.user, params.item))
    feedback = ", implicit feedback" if any(implicit) else ""
    return f"{name}({more}{users} users, {items} items, rank {params.item.rank}, {kernel}{feedback})"
