"""The notebook's model as it was, penalty and all; kept to show what the penalty does.

5·σ(bᵤ + bᵢ + wᵤ·hᵢ) with α·(‖W‖² + ‖H‖²) added to each batch's *mean* squared error. On the objective's scale, a
sum, that is α·n: five orders of magnitude more than a rating is worth, and the factors vanish. The corrected recipe
is `jaxmf.sgd.fit`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Key

from jaxmf.data.features import Sides
from jaxmf.data.ratings import Ratings
from jaxmf.model import links, params
from jaxmf.model.kernels import Kernel, Logistic
from jaxmf.model.model import Model
from jaxmf.model.params import Params, predict
from jaxmf.training import loop
from jaxmf.training.loop import Fit, Info, Watch
from jaxmf.training.sgd import State, shuffled


class Recipe(NamedTuple):
    """The notebook's epoch, for `loop.run`.

    Attributes:
        alpha: The penalty on the full norms.
        batch_size: Ratings a step.
        learning_rate: Adam's.
    """

    alpha: float = 0.02
    batch_size: int = 1024
    learning_rate: float = 5e-3

    def optimizer(self) -> optax.GradientTransformation:
        """Adam, dense."""
        return optax.adam(self.learning_rate)

    def __call__(self, state: State, ratings: Ratings, kernel: Kernel) -> tuple[State, Info]:
        """The state after an epoch."""

        def step(state: State, batch: Ratings) -> tuple[State, Float[Array, ""]]:
            value, grads = jax.value_and_grad(self.loss)(state.params, kernel, batch)
            grads = grads.replace(offset=jnp.zeros_like(grads.offset))
            updates, opt_state = self.optimizer().update(grads, state.optimizer, state.params)
            return state.replace(params=optax.apply_updates(state.params, updates), optimizer=opt_state), value

        key, key_order = jax.random.split(state.key)
        state, losses = lax.scan(step, state.replace(key=key), shuffled(key_order, ratings, self.batch_size))
        norms = {
            "norm_users": jnp.linalg.norm(state.params.user.factors),
            "norm_items": jnp.linalg.norm(state.params.item.factors),
        }
        return state, {"loss": losses.mean()} | norms

    def loss(self, model: Params, kernel: Kernel, batch: Ratings) -> Float[Array, ""]:
        """Mean squared error of a batch, and the penalty."""
        error = batch.rating - predict(model, kernel, batch.user, batch.item)
        norms = jnp.sum(model.user.factors**2) + jnp.sum(model.item.factors**2)
        return jnp.sum(batch.weight * error**2) / jnp.sum(batch.weight) + self.alpha * norms


def fit(
    key: Key[Array, ""],
    ratings: Ratings,
    *,
    recipe: Recipe = Recipe(),
    rank: int = 100,
    epochs: int = 20,
    watch: Watch = Watch(),
) -> Fit:
    """Fit the notebook's model in the notebook's way: dense Adam, since its penalty touches every row every step.

    Besides `loss`, the history holds the Frobenius norms of the factors: `norm_users`, `norm_items`.

    Args:
        key: Random key of the start and of the order.
        ratings: Training ratings, from 0 to 5.
        recipe: Its numbers.
        rank: Number of factors.
        epochs: Passes over the ratings.
        watch: Validation, early stopping, progress.

    Raises:
        ValueError: As `jaxmf.sgd.fit`.
    """
    kernel = Logistic(0.0, 5.0)
    loop.check(ratings, kernel, rank, epochs, watch)
    if not recipe.alpha >= 0:
        raise ValueError(f"alpha must be 0 or more, got {recipe.alpha}: it is a penalty")
    key, key_init = jax.random.split(key)
    start = params.init(key_init, ratings.n_users, ratings.n_items, rank)
    state = State(start, recipe.optimizer().init(start), key, links.init(Sides(), rank))
    of = loop.Run(ratings, kernel, epochs, "lower the learning rate or alpha", recipe._asdict(), loop.rmse)
    state, log = loop.run(state, ratings, recipe, of, watch)
    return Fit(Model(state.params, kernel), *log)
