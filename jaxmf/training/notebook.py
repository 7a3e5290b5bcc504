"""The notebook's model as it was, penalty and all; kept to show what the penalty does.

5·σ(bᵤ + bᵢ + wᵤ·hᵢ) with α·(‖W‖² + ‖H‖²) added to each batch's *mean* squared error. On the objective's scale, a
sum, that is α·n: five orders of magnitude more than a rating is worth, and the factors vanish. The corrected recipe
is `jaxmf.sgd.fit`.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Key

from jaxmf.data.features import Sides
from jaxmf.data.ratings import Ratings
from jaxmf.model import links, params
from jaxmf.model.kernels import Logistic
from jaxmf.model.model import Model
from jaxmf.model.params import Params, predict
from jaxmf.training import loop
from jaxmf.training.loop import Fit, Info, Watch
from jaxmf.training.sgd import State, shuffled


def fit(
    key: Key[Array, ""],
    ratings: Ratings,
    *,
    alpha: float = 0.02,
    rank: int = 100,
    epochs: int = 20,
    batch_size: int = 1024,
    learning_rate: float = 5e-3,
    watch: Watch = Watch(),
) -> Fit:
    """Fit the notebook's model in the notebook's way: dense Adam, since its penalty touches every row every step.

    Besides `loss`, the history holds the Frobenius norms of the factors: `norm_users`, `norm_items`.

    Args:
        key: Random key of the start and of the order.
        ratings: Training ratings, from 0 to 5.
        alpha: The penalty on the full norms.
        rank: Number of factors.
        epochs: Passes over the ratings.
        batch_size: Ratings a step.
        learning_rate: Adam's.
        watch: Validation, early stopping, progress.

    Raises:
        ValueError: As `jaxmf.sgd.fit`.
    """
    kernel = Logistic(0.0, 5.0)
    loop.check(ratings, kernel, rank, epochs, watch)
    if not alpha >= 0:
        raise ValueError(f"alpha must be 0 or more, got {alpha}: it is a penalty")
    optimizer = optax.adam(learning_rate)
    key, key_init = jax.random.split(key)
    start = params.init(key_init, ratings.n_users, ratings.n_items, rank)

    def loss(model: Params, batch: Ratings) -> Float[Array, ""]:
        error = batch.rating - predict(model, kernel, batch.user, batch.item)
        norms = jnp.sum(model.user.factors**2) + jnp.sum(model.item.factors**2)
        return jnp.sum(batch.weight * error**2) / jnp.sum(batch.weight) + alpha * norms

    def step(state: State, batch: Ratings) -> tuple[State, Float[Array, ""]]:
        value, grads = jax.value_and_grad(loss)(state.params, batch)
        grads = grads.replace(offset=jnp.zeros_like(grads.offset))
        updates, opt_state = optimizer.update(grads, state.optimizer, state.params)
        return state.replace(params=optax.apply_updates(state.params, updates), optimizer=opt_state), value

    def epoch(state: State, ratings: Ratings) -> tuple[State, Info]:
        key, key_order = jax.random.split(state.key)
        state, losses = lax.scan(step, state.replace(key=key), shuffled(key_order, ratings, batch_size))
        norms = {
            "norm_users": jnp.linalg.norm(state.params.user.factors),
            "norm_items": jnp.linalg.norm(state.params.item.factors),
        }
        return state, {"loss": losses.mean()} | norms

    state, log = loop.run(
        State(start, optimizer.init(start), key, links.init(Sides(), rank)),
        jax.tree.map(jnp.asarray, ratings),
        epoch,
        ratings=ratings,
        kernel=kernel,
        epochs=epochs,
        watch=watch,
        remedy="lower the learning rate or alpha",
        settings={"alpha": alpha, "batch_size": batch_size, "learning_rate": learning_rate},
    )
    return Fit(Model(state.params, kernel), *log)
