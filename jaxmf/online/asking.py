"""What to do with the spread of a posterior: which items to show a user, and which to ask about."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, ScalarLike

from jaxmf.data.ratings import AnyArray
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import predict
from jaxmf.model.posterior import Draw, noise_variance, pick, predictive, ratings_of_draws


def upper_bound(
    posterior: Draw, kernel: Kernel, user: ScalarLike, item: Int[AnyArray, " n"], *, width: ScalarLike = 1.0
) -> Float[Array, " n"]:
    """Scores of items for one user: mean + `width` standard deviations of the model (UCB).

    Args:
        posterior: Draws of the model, the user's row among them.
        kernel: The kernel.
        user: The user's row.
        item: Item rows to score.
        width: How much the unknown counts; 0 is the mean, below 0 the cautious choice.
    """
    predicted = predictive(posterior, kernel, jnp.full(len(item), user), item)
    return predicted.mean + width * predicted.model_std


def thompson(
    key: Key[Array, ""], posterior: Draw, kernel: Kernel, user: ScalarLike, item: Int[AnyArray, " n"]
) -> Float[Array, " n"]:
    """Scores of items for one user under one draw of the model, picked at random (Thompson sampling)."""
    return predict(pick(key, posterior), kernel, jnp.full(len(item), user), item)


@jax.jit
def information(posterior: Draw, kernel: Kernel, user: ScalarLike, item: Int[AnyArray, " n"]) -> Float[Array, " n"]:
    """How much a rating of each item would lower the variance of the user's predictions of all of `item`, in sum.

    With C the covariance of the predictions over the draws and σ² the noise, Σⱼ Cᵢⱼ² / (Cᵢᵢ + σ²): the expected
    reduction under a Gaussian posterior (Cohn 1996). Ask about the item where it is largest.

    Args:
        posterior: Draws of the model, the user's row among them (of a new user `posterior.fold_in_user`).
        kernel: The kernel.
        user: The user's row.
        item: Item rows that could be asked about.

    Cost: O(s² n) for s draws and n items: the s × s Gram matrix of the draws stands in for the n × n covariance.
    """
    user = jnp.full(item.shape, user)
    rating = ratings_of_draws(posterior, kernel, user, item)
    away = rating - rating.mean(0, keepdims=True)
    draws = rating.shape[0]
    squares = jnp.einsum("sn,st,tn->n", away, away @ away.T, away) / draws**2
    return squares / (jnp.mean(away**2, 0) + noise_variance(posterior, kernel, user, item))
