"""What to do with the spread of a posterior: which items to show a user, and which to ask about."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, ScalarLike

from jaxmf.data.ratings import AnyArray
from jaxmf.model.posterior import Posterior, noise_variance, pick, predictive, ratings_of_draws


def upper_bound(
    posterior: Posterior, user: ScalarLike, item: Int[AnyArray, " n"], *, width: ScalarLike = 1.0
) -> Float[Array, " n"]:
    """Scores of items for one user: mean + `width` standard deviations of the model (UCB).

    Args:
        posterior: Draws of the model, the user's row among them.
        user: The user's row.
        item: Item rows to score.
        width: How much the unknown counts; 0 is the mean, below 0 the cautious choice.
    """
    predicted = predictive(posterior, jnp.full(len(item), user), item)
    return predicted.mean + width * predicted.model_std


def thompson(
    key: Key[Array, ""], posterior: Posterior, user: ScalarLike, item: Int[AnyArray, " n"]
) -> Float[Array, " n"]:
    """Scores of items for one user under one draw of the model, picked at random (Thompson sampling)."""
    return pick(key, posterior).predict(jnp.full(len(item), user), item)


@jax.jit
def information(
    posterior: Posterior,
    user: ScalarLike,
    item: Int[AnyArray, " n"],
    *,
    targets: Int[AnyArray, " m"] | None = None,
) -> Float[Array, " n"]:
    """How much a rating of each item would lower the variance of the user's predictions of the `targets`, in sum.

    With C the covariance of the predictions over the draws, j a target and σ² the noise, Σⱼ Cᵢⱼ² / (Cᵢᵢ + σ²): the
    expected reduction under a Gaussian posterior (Cohn 1996). Ask about the item where it is largest.

    Args:
        posterior: Draws of the model, the user's row among them (of a new user `fold_in.fold_in_user`).
        user: The user's row.
        item: Item rows that could be asked about.
        targets: Item rows whose ratings one would know, such as those that could be shown; else `item`.

    Cost: O(s² (n + m)) for s draws: their s × s Gram matrix stands in for the n × m covariance.
    """
    away = _about_mean(posterior, user, item)
    wanted = away if targets is None else _about_mean(posterior, user, targets)
    squares = jnp.einsum("sn,st,tn->n", away, wanted @ wanted.T, away) / away.shape[0] ** 2
    return squares / (jnp.mean(away**2, 0) + noise_variance(posterior, jnp.full(item.shape, user), item))


def _about_mean(posterior: Posterior, user: ScalarLike, item: Int[AnyArray, " n"]) -> Float[Array, "s n"]:
    """Each draw's predicted ratings less their means over the draws."""
    rating = ratings_of_draws(posterior, jnp.full(item.shape, user), item)
    return rating - rating.mean(0, keepdims=True)
