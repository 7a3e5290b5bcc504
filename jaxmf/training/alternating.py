"""The sweep of alternating least squares: every user's solve, then every item's.

For a kernel that is not linear in a row the solves are Newton's steps, and the sweep is an alternating Newton method's.
"""

from typing import NamedTuple, TypeVar, no_type_check

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Key

from jaxmf import sharding
from jaxmf.data.features import Sides
from jaxmf.data.histories import PAGES, Block, joint_blocks
from jaxmf.data.ratings import Ratings
from jaxmf.model import links, params, rows
from jaxmf.model.kernels import Kernel
from jaxmf.model.links import Links
from jaxmf.model.objective import Weights, weights
from jaxmf.model.params import Params
from jaxmf.model.priors import Prior, Priors, both_sides
from jaxmf.model.problem import Problem, in_unit
from jaxmf.model.tables import Table
from jaxmf.training.loop import Info

T = TypeVar("T")

REMEDY = "raise `factor_reg`"


@no_type_check
class Histories(struct.PyTreeNode):
    """The training ratings as blocks of both sides' rows, how much each row was rated, and the rows' features.

    With an `axis`, they are of the users of one device of a mesh, which has that axis.
    """

    n: Weights
    blocks: tuple[Block, ...]
    features: Sides
    axis: str | None = struct.field(pytree_node=False, default=None)

    def lying(self, users: T, ratings: T, whole: T) -> "Histories":
        """Of each array what is given for those that lie so on a mesh."""
        return self.replace(n=Weights(users, whole), blocks=ratings, features=whole)


@no_type_check
class State(struct.PyTreeNode):
    """What ALS carries from sweep to sweep."""

    params: Params
    links: Links


def histories(ratings: Ratings, features: Sides = Sides(), *, pages: int = PAGES, even: bool = False) -> Histories:
    """Ratings and features on the host as what `step` takes.

    Args:
        ratings: The ratings.
        features: The features.
        pages: About how many pages a block has.
        even: Fill blocks up to even sizes, so that fits of about as many ratings share a program.
    """
    return Histories(weights(ratings), joint_blocks(ratings, pages=pages, even=even), features)


def init(key: Key[Array, ""], ratings: Ratings, *, kernel: Kernel, rank: int, features: Sides = Sides()) -> State:
    """Factors N(0, 0.1²), biases and links 0, the offset where rows of zeros give the mean rating."""
    mean = float(np.average(ratings.rating, weights=ratings.weight))
    start = params.init(key, ratings.n_users, ratings.n_items, rank, offset=kernel.offset(mean))
    return State(start, links.init(features, rank))


def step(
    state: State, data: Histories, *, kernel: Kernel, prior: Prior | Priors, steps: int = 1, cg_steps: int = 3
) -> tuple[State, Info]:
    """One sweep: all users with the items frozen, then all items with the users frozen, then the links of both.

    No part of it raises the objective, whatever the kernel and the number of steps. Info's `loss` is the objective
    after the sweep, a rating.

    Args:
        state: The state; donate it.
        data: Both sides' histories.
        kernel: The kernel.
        prior: The prior of both sides, or one each.
        steps: Newton steps a row, for a kernel that is not linear.
        cg_steps: Conjugate-gradient steps in each, from where the row is: a few suffice, as the next sweep goes on.
    """
    priors = both_sides(prior)
    model, features, n = state.params, data.features, data.n
    precision = priors.user.precision(n.user).join(priors.item.precision(n.item))
    mean = links.both_means(features, state.links, model)
    before = model.user.join(model.item)
    whole = Problem(kernel, model.offset, before, data.blocks[0], mean.user.join(mean.item), precision)
    table, unexplained = solve_blocks(whole, data.blocks, steps=steps, cg_steps=cg_steps)
    users, items = table.cut(len(model.user))
    model = model.replace(user=users, item=items)
    link = Links(
        links.most_probable(features.user, users, priors.user, n.user, state.links.user),
        links.most_probable(features.item, items, priors.item, n.item, state.links.item),
    )
    mean = links.both_means(features, link, model)
    away = table - mean.user.join(mean.item)
    of_users, of_items = jnp.split(away.dot(away * precision), [len(users)])
    total = unexplained[len(users) :].sum() + sharding.summed(of_users.sum(), data.axis) + of_items.sum()
    for one, of_side in zip(link, priors, strict=True):
        total += links.penalty(one, of_side.link_precision())
    return State(model, link), {"loss": total / n.item.sum()}


def solve_blocks(
    whole: Problem, stacks: tuple[Block, ...], *, steps: int, cg_steps: int
) -> tuple[Table, Float[Array, " rows"]]:
    """The table with each block's rows solved in turn, from where they are and given what the table then holds.

    Beside it Σ w (r − r̂)² of each row as it was solved, in squared units: the items' are those of the whole table.

    Args:
        whole: The problem of both sides' rows, in one table that is also the `others`: the users' rows and then the
            items'. Its block is not looked at.
        stacks: Blocks that point into the table, as `jaxmf.histories.joint_blocks` makes them.
        steps: As in `step`.
        cg_steps: Likewise.
    """

    def solve(so_far: tuple[Table, Float[Array, " rows"]], block: Block) -> tuple[tuple, None]:
        table, unexplained = so_far
        mean, precision = whole.mean[block.rows], whole.precision[block.rows]
        given = in_unit(block, whole.kernel)
        problem = whole.replace(others=table, block=given, mean=mean, precision=precision)
        solved, loss = rows.step_rows(problem, table[block.rows], steps=steps, cg_steps=cg_steps)
        away = solved - mean
        squares = loss - away.dot(away * precision)
        return (table.put(block.rows, solved), unexplained.at[block.rows].set(squares, mode="drop")), None

    so_far = whole.others, jnp.zeros(len(whole.others))
    for stack in stacks:
        so_far, _ = lax.scan(solve, so_far, stack)
    return so_far


class Sweep(NamedTuple):
    """One sweep with these settings, for `loop.run`."""

    steps: int = 1
    cg_steps: int = 3

    def __call__(self, state: State, data: tuple[Histories, Priors], kernel: Kernel) -> tuple[State, Info]:
        """The state after it."""
        known, priors = data
        return step(state, known, kernel=kernel, prior=priors, steps=self.steps, cg_steps=self.cg_steps)
