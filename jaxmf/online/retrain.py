"""The paper's way of updating a row: forget it and train it again by SGD."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key, ScalarLike

from jaxmf.data.features import Features
from jaxmf.data.histories import Block, blocks
from jaxmf.data.ratings import Ratings
from jaxmf.model import rows
from jaxmf.model.kernels import refuse_clicks
from jaxmf.model.model import Model
from jaxmf.model.tables import Table
from jaxmf.online.means import said_of_rows
from jaxmf.online.update import check_fold_in, unstack


def sgd_retrain(
    key: Key[Array, ""],
    model: Model,
    ratings: Ratings,
    *,
    features: Features | None = None,
    epochs: int = 60,
    learning_rate: float = 0.02,
) -> Model:
    """The model with the row of every user in `ratings` retrained by SGD over its profile, the items frozen.

    Items are the users of `model.transpose()`; the paper's order is users first, then items.

    UserUpdate of Rendle & Schmidt-Thieme (RecSys 2008, Fig. 3): the row starts anew at random, and takes a gradient
    step for each of its ratings, in turn, `epochs` times over. It departs from the paper in that all rows go at once
    (`vmap` over rows, `lax.scan` over ratings), and in that it descends the same objective as `fold_in_users`: the row
    starts about its prior mean, and the penalty of a step is the rating's share of the prior.

    Args:
        key: Random key of the rows' start.
        model: The model.
        ratings: All ratings of the users to retrain, on the host.
        features: As in `fold_in_users`.
        epochs: Passes over each profile.
        learning_rate: Step size.

    Raises:
        ValueError: As `fold_in_users`, or if the model is of clicks.
    """
    refuse_clicks(model.kernel, "sgd_retrain")
    check_fold_in(model, ratings)
    said = said_of_rows(model, features, ratings.n_users)
    touched, count = np.unique(ratings.user, return_counts=True)
    model = model.grown(ratings.n_users, 0)
    table, frozen = model.params.user, model.frozen()
    width = 2 ** np.ceil(np.log2(count)).astype(int)
    for size in np.unique(width):  # profiles of like length together: a row takes as many steps as the longest
        for stack in blocks(ratings, touched[width == size], width=int(size)):
            for block in unstack(stack):
                key, key_block = jax.random.split(key)
                table = table.put(block.rows, _sgd_block(key_block, frozen, block, said, learning_rate, epochs))
    return model.with_users(table)


@partial(jax.jit, static_argnames="epochs")
def _sgd_block(
    key: Key[Array, ""], frozen: Model, block: Block, said: Table | None, learning_rate: ScalarLike, epochs: int
) -> Table:
    """A block of one page a row, retrained by SGD; `said` as in `jaxmf.update.solve_block`."""
    problem = frozen.problem(block, None if said is None else said.take(block.rows))
    mean, others = problem.mean, problem.others
    start = mean.replace(factors=mean.factors + 0.1 * jax.random.normal(key, mean.factors.shape))

    def retrain(x: Table, mean: Table, precision: Table, n: Float[Array, ""], page: tuple) -> Table:
        def descend(x: Table, slot: tuple) -> tuple[Table, None]:
            other, rating, weight = slot

            def share(x: Table) -> Float[Array, ""]:
                error = (rating - problem.kernel(x, others[other], problem.offset)) / problem.kernel.unit
                away = x - mean
                prior_loss = precision.bias * away.bias**2 + jnp.sum(precision.factors * away.factors**2)
                return weight * (error**2 + prior_loss / jnp.maximum(n, 1e-9))

            return jax.tree.map(lambda x, g: x - learning_rate * g, x, jax.grad(share)(x)), None

        def epoch(_: ScalarLike, x: Table) -> Table:
            return lax.scan(descend, x, page)[0]

        return lax.fori_loop(0, epochs, epoch, x)

    pages = (block.other, block.rating, block.weight)
    return jax.vmap(retrain)(start, mean, problem.precision, rows.row_weights(block), pages)
