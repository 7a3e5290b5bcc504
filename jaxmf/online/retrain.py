"""The paper's way of updating a row: forget it and train it again by SGD."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key, ScalarLike

from jaxmf.data.histories import Block, blocks
from jaxmf.data.ratings import Ratings
from jaxmf.model import rows
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import Params
from jaxmf.model.priors import DEFAULT, Prior, Priors, both_sides, check
from jaxmf.model.tables import Table
from jaxmf.online.update import check_fold_in, resized, unstack


def sgd_retrain(
    key: Key[Array, ""],
    params: Params,
    kernel: Kernel,
    ratings: Ratings,
    *,
    prior: Prior | Priors = DEFAULT,
    epochs: int = 60,
    learning_rate: float = 0.02,
) -> Params:
    """The model with the row of every user in `ratings` retrained by SGD over its profile, the items frozen.

    UserUpdate of Rendle & Schmidt-Thieme (RecSys 2008, Fig. 3): the row starts anew at random, and takes a gradient
    step for each of its ratings, in turn, `epochs` times over. It departs from the paper in that all rows go at once
    (`vmap` over rows, `lax.scan` over ratings), and in that the penalty of a step is the rating's share of the row's
    prior, so that it descends the same objective as `fold_in_users`.

    Args:
        key: Random key of the rows' start.
        params: The model.
        kernel: Its kernel.
        ratings: All ratings of the users to retrain, on the host.
        prior: The prior of both sides, or one each.
        epochs: Passes over each profile.
        learning_rate: Step size.

    Raises:
        ValueError: As `fold_in_users`.
    """
    check_fold_in(params, kernel, ratings)
    touched, count = np.unique(ratings.user, return_counts=True)
    table = resized(params.user, ratings.n_users)
    user_prior = check(prior).user
    width = 2 ** np.ceil(np.log2(count)).astype(int)
    for size in np.unique(width):  # profiles of like length together: a row takes as many steps as the longest
        for stack in blocks(ratings, touched[width == size], width=int(size)):
            for block in unstack(stack):
                key, key_block = jax.random.split(key)
                solved = _sgd_block(
                    key_block, kernel, params.offset, params.item, block, user_prior, learning_rate, epochs=epochs
                )
                table = table.put(block.rows, solved)
    return params.replace(user=table)


def sgd_retrain_items(
    key: Key[Array, ""],
    params: Params,
    kernel: Kernel,
    ratings: Ratings,
    *,
    prior: Prior | Priors = DEFAULT,
    epochs: int = 60,
    learning_rate: float = 0.02,
) -> Params:
    """The model with the row of every item in `ratings` retrained, the users frozen; else as `sgd_retrain`.

    After `sgd_retrain` of the users it is the paper's order: users first, then items.
    """
    settings = {"prior": both_sides(prior).transpose(), "epochs": epochs, "learning_rate": learning_rate}
    return sgd_retrain(key, params.transpose(), kernel, ratings.transpose(), **settings).transpose()


@partial(jax.jit, static_argnames="epochs")
def _sgd_block(
    key: Key[Array, ""],
    kernel: Kernel,
    offset: Float[Array, ""],
    others: Table,
    block: Block,
    prior: Prior,
    learning_rate: ScalarLike,
    *,
    epochs: int,
) -> Table:
    """A block of one page a row, retrained by SGD."""
    b = block.rows.shape[0]
    total = rows.row_weights(block)
    precision = jax.tree.map(jnp.atleast_1d, prior.precision(total))
    start = Table(jnp.zeros(b), 0.1 * jax.random.normal(key, (b, others.rank)))

    def retrain(x: Table, precision: Table, n: Float[Array, ""], page: tuple) -> Table:
        def descend(x: Table, slot: tuple) -> tuple[Table, None]:
            other, rating, weight = slot

            def share(x: Table) -> Float[Array, ""]:
                error = rating - kernel(x, others[other], offset)
                prior_loss = precision.bias * x.bias**2 + jnp.sum(precision.factors * x.factors**2)
                return weight * (error**2 + prior_loss / jnp.maximum(n, 1e-9))

            return jax.tree.map(lambda x, g: x - learning_rate * g, x, jax.grad(share)(x)), None

        def epoch(_: ScalarLike, x: Table) -> Table:
            return lax.scan(descend, x, page)[0]

        return lax.fori_loop(0, epochs, epoch, x)

    return jax.vmap(retrain)(start, precision, total, (block.other, block.rating, block.weight))
