"""The sweep of alternating least squares for clicks: half a sweep a side, in the axes of the other side's background.

What nobody observed of a row x is w₀·xᵀGx with one matrix G = Σ yyᵀ for all rows of a side. Turned into the axes in
which G is diagonal it is w₀·Σ gₖxₖ²: a precision of each factor, no more to a solve than the prior is. Both tables may
be turned, since r̂ = w·h and the priors don't notice. There the equations of a row with n clicks are a diagonal and
n more, for which it is a good preconditioner: one step of conjugate gradients does what three do in other axes.
"""

from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Key

from jaxmf import sharding
from jaxmf.data.features import Sides
from jaxmf.data.histories import WIDTHS, Block
from jaxmf.data.lengths import SLOTS, by_length
from jaxmf.data.ratings import Ratings
from jaxmf.model import links, objective, params, rows
from jaxmf.model.kernels import Clicks
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.priors import CLICKS, Prior, Priors, check
from jaxmf.model.problem import Problem, background_of
from jaxmf.model.tables import Gram, Table
from jaxmf.training import loop, spread
from jaxmf.training.alternating import REMEDY, State, T
from jaxmf.training.loop import Fit, Info, Watch
from jaxmf.training.spread import Here, Spread

START = 0.1
"""Length of a row at the start."""


@no_type_check
class Histories(struct.PyTreeNode):
    """The clicks of users' rows and of items', as stacks of blocks.

    With an `axis`, they are of the users of one device of a mesh, which has that axis.
    """

    user: tuple[Block, ...]
    item: tuple[Block, ...]
    axis: str | None = struct.field(pytree_node=False, default=None)

    def lying(self, users: T, ratings: T, whole: T) -> "Histories":  # noqa: ARG002 as `alternating.Histories.lying`
        """Of each array what is given for those that lie so on a mesh."""
        return self.replace(user=ratings, item=ratings)


def histories(ratings: Ratings, kernel: Clicks, place: Here | Spread) -> Histories:
    """Clicks on the host as what `step` takes, counted as the kernel counts them; over a mesh on its devices.

    They come in even sizes, so that fits of about as many share a program.
    """
    rating, weight = map(np.asarray, kernel.weighed(ratings.rating, ratings.weight))
    ratings = ratings.replace(rating=rating, weight=weight)
    if isinstance(place, Spread):
        return Histories(*place.blocks(ratings, SLOTS // WIDTHS[0], joint=False), sharding.SHARDS)
    # A row's clicks in the order of the other side's table, which is then read from one end to the other.
    sides = (side.take(np.argsort(side.item, kind="stable")) for side in (ratings, ratings.transpose()))
    return Histories(*map(by_length, sides))


def init(key: Key[Array, ""], ratings: Ratings, *, rank: int) -> State:
    """Factors N(0, `START`²/`rank`), and 0 for rows without a click."""
    start = params.init(key, ratings.n_users, ratings.n_items, rank, scale=START / np.sqrt(rank))
    n = objective.weights(ratings)
    user, item = (
        table.where(of_side > 0, jax.tree.map(jnp.zeros_like, table))
        for table, of_side in zip((start.user, start.item), n, strict=True)
    )
    return State(start.replace(user=user, item=item), links.init(Sides(), rank))


def step(state: State, data: Histories, *, kernel: Clicks, prior: Priors, cg_steps: int = 1) -> tuple[State, Info]:
    """One sweep: all users with the items frozen, then all items with the users frozen.

    Neither raises the objective, whatever the number of steps. Info's `loss` is the objective after the sweep, a unit
    of the observed weight.

    Args:
        state: The state; donate it.
        data: Both sides' histories.
        kernel: The kernel.
        prior: The priors.
        cg_steps: Conjugate-gradient steps a row, from where it is.
    """
    few = {"kernel": kernel, "cg_steps": cg_steps}
    model, users = half_sweep(state.params, Gram.of(state.params.item.factors), data.user, prior=prior.user, **few)
    users = sharding.summed(users, data.axis)
    gram = sharding.summed(Gram.of(model.user.factors), data.axis)
    turned, items = half_sweep(model.transpose(), gram, data.item, prior=prior.item, **few)
    loss = (items.total + users.held) / users.weight
    return State(turned.transpose(), state.links), {"loss": loss}


class Half(NamedTuple):
    """What half a sweep leaves: the users' part of the objective, of which their prior's; and their observed weight."""

    total: Float[Array, ""]
    held: Float[Array, ""]
    weight: Float[Array, ""]


def half_sweep(
    model: Params, gram: Gram, stacks: tuple[Block, ...], *, kernel: Clicks, prior: Prior, cg_steps: int
) -> tuple[Params, Half]:
    """The users' rows solved, and both tables in the axes of the items' background, whose factors have this `gram`.

    The background there is its diagonal, exactly.
    """
    turned, spectrum = in_axes(model, gram)
    user, item = turned.user, turned.item
    background = background_of(kernel, gram.replace(matrix=jnp.maximum(spectrum, 0)))

    def solve(table: Table, block: Block) -> tuple[Table, Half]:
        x, weight = table[block.rows], rows.row_weights(block)
        precision = prior.precision(background.counted(weight))
        zero = jax.tree.map(jnp.zeros_like, x)
        problem = Problem(kernel, model.offset, item, block, zero, precision, background)
        solved, loss = rows.step_rows(problem, x, cg_steps=cg_steps)
        real = block.rows < len(table)
        losses = loss, solved.dot(solved * precision), weight
        return table.put(block.rows, solved), Half(*(jnp.sum(loss, where=real) for loss in losses))

    table, halves = user, []
    for stack in stacks:
        table, of_blocks = lax.scan(solve, table, stack)
        halves.append(jax.tree.map(jnp.sum, of_blocks))
    return turned.replace(user=table), jax.tree.map(lambda *parts: sum(parts), *halves)


def in_axes(model: Params, gram: Gram) -> tuple[Params, Float[Array, " k"]]:
    """Both tables in the axes in which a Gram matrix is diagonal, and the diagonal; it predicts the same."""
    with jax.default_matmul_precision("highest"):
        spectrum, axes = eigen(gram.matrix)
        user, item = (Table(table.bias, table.factors @ axes) for table in (model.user, model.item))
    return model.replace(user=user, item=item), spectrum


def eigen(matrix: Float[Array, "k k"]) -> tuple[Float[Array, " k"], Float[Array, "k k"]]:
    """Eigenvalues and eigenvectors of one symmetric matrix; of several one after the other.

    The one routine of LAPACK on the way, and never batched: batched ones can block each other for ever.
    """
    return _eigen(matrix)


@jax.custom_batching.sequential_vmap
def _eigen(matrix: Float[Array, "k k"]) -> tuple[Float[Array, " k"], Float[Array, "k k"]]:
    return jnp.linalg.eigh(matrix)


class Sweep(NamedTuple):
    """One sweep with these settings, for `loop.run`."""

    cg_steps: int = 1

    def __call__(self, state: State, data: tuple[Histories, Priors], kernel: Clicks) -> tuple[State, Info]:
        """The state after it."""
        known, priors = data
        return step(state, known, kernel=kernel, prior=priors, cg_steps=self.cg_steps)


class Settings(NamedTuple):
    """Arguments of `als.fit`."""

    rank: int
    prior: Prior | Priors | None
    epochs: int
    steps: int
    cg_steps: int | None


def fit(
    key: Key[Array, ""], ratings: Ratings, kernel: Clicks, features: Sides, settings: Settings, watch: Watch
) -> Fit:
    """`als.fit` for clicks.

    Raises:
        ValueError: As there, or if the background is not positive, or there is what clicks can't be fitted with.
    """
    rank, prior, epochs, steps, cg_steps = settings
    loop.check(ratings, kernel, rank, epochs, watch)
    kernel = kernel.measured(ratings)
    _check(kernel, features, steps, watch)
    kernel.check(ratings.weight)
    priors = check(CLICKS if prior is None else prior)
    sweep = Sweep(1 if cg_steps is None else cg_steps)
    place = spread.where(ratings, features)
    told = {"prior": priors, **sweep._asdict()}
    state, log = loop.run(
        init(key, ratings, rank=rank),
        (histories(ratings, kernel, place), priors),
        place.sweep(sweep),
        loop.Run(ratings, kernel, epochs, REMEDY, told, loop.rmse, place=place),
        watch,
    )
    return Fit(Model(_settled(state.params), kernel, priors), *log)


@jax.jit
def _settled(model: Params) -> Params:
    """The model in the axes of the items' background, in which a user's fold-in takes the fewest steps."""
    return in_axes(model, Gram.of(model.item.factors))[0].counted()


def _check(kernel: Clicks, features: Sides, steps: int, watch: Watch) -> None:
    if not 0 < float(kernel.background) < np.inf:
        raise ValueError(
            f"background must be positive and finite, got {kernel.background}: without it the best prediction of every "
            "pair is a click"
        )
    if features != Sides():
        raise ValueError("clicks are fitted without features: leave them out, a row's clicks are what it is known by")
    if steps != 1:
        raise ValueError(f"steps={steps}: r̂ of clicks is linear in a row, and one step is Newton's; leave it out")
    if watch.validation is not None:
        raise ValueError(
            "watch.validation: an error says nothing of clicks, whose zeros were not observed; rank held-out clicks in "
            "a callback"
        )
