"""Rows that were found elsewhere, made ready to be folded into: what they don't say is found in the ratings.

A library's factors say what its users would give its items, and not where a row stands before its ratings, how firmly,
or how far ratings scatter about predictions: that was in the fit.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Linear, unit_of
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.priors import DEFAULT, Prior, Priors
from jaxmf.model.tables import Table
from jaxmf.online.fold_in import fold_in_items, fold_in_users
from jaxmf.online.laplace import leverage
from jaxmf.training.evidence import NOISE, RATINGS, ROWS

GROUPS, MOST = 5, 500
"""Groups of users of which each is taken for new, and how many users are enough."""

EACH = 50
"""Most of such a user's ratings that are folded in, half of all at most, and most of those that are then predicted."""

ENOUGH, SAMPLE = 200, 2000
"""Fewest predicted ratings by which the noise is measured, and those whose leverage is."""

PARTS = 2**16
"""Ratings at a time: what bounds the memory of a prediction on the host."""


def ready(model: Model, ratings: Ratings) -> Model:
    """A model of the same predictions, whose rows are counted from their averages and whose priors the ratings tell.

    A row's prior mean is the average row: with w = w' + c and h = h' + d the score has w'·h' + w'·d + c·h' + c·d, of
    which the last three are the users' biases', the items' and the offset's. Errors count in the ratings' standard
    deviation.

    A side's precisions are σ² over the variance of its biases, and over that of its factors, with σ² the mean square of
    what the rows leave of the ratings: the joint mode of rows and variances (Lindley & Smith 1972, §4), at which the
    rows are held as a regularised fit holds them. The likelihood of the variances with the other side's rows as given
    (Laird & Ware 1982) would hold them too weakly: items that were found with a user's ratings explain these better
    than a newcomer's. Few rows and ratings count beside `ROWS` and `RATINGS` of the default.

    Args:
        model: A model of the linear kernel and without features.
        ratings: The ratings that are known of its rows, on the host.

    Raises:
        ValueError: If it is another model, no rating is known, or the model predicts the ratings worse than their mean.

    Cost: linear in the ratings and in the tables.

    Example:
        >>> user, item = Table(np.zeros(2), np.array([[1.0], [3.0]])), Table(np.zeros(2), np.array([[1.0], [2.0]]))
        >>> rated = Ratings(np.array([0, 1]), np.array([0, 1]), np.array([1.0, 6.0]), np.ones(2), n_users=2, n_items=2)
        >>> found = ready(Model(Params(user, item, np.float32(0)), Linear()), rated)
        >>> found.params.offset, found.predict([0, 1], [0, 1])
        (Array(3., dtype=float32), Array([1., 6.], dtype=float32))
    """
    if not isinstance(model.kernel, Linear) or model.links is not None:
        raise ValueError(
            f"{model!r} is no model of the linear kernel without features: give one that jaxmf.interop or "
            "jaxmf.surprise.from_surprise makes, and fit others by Recommender.fit"
        )
    square = _square(model, ratings)
    unit = float(unit_of(ratings))
    of_users = np.flatnonzero(np.bincount(ratings.user, ratings.weight, ratings.n_users))
    of_items = np.flatnonzero(np.bincount(ratings.item, ratings.weight, ratings.n_items))
    params = _counted(model, of_users, of_items, unit)
    weight = float(np.sum(ratings.weight, dtype=float))
    left = (square / unit**2 * weight + RATINGS * NOISE) / (weight + RATINGS)
    user = _prior(left, params.user.take(of_users), params.item.take(of_items), DEFAULT.user)
    item = _prior(left, params.item.take(of_items), params.user.take(of_users), DEFAULT.item)
    return Model(jax.tree.map(jnp.asarray, params), Linear(np.float32(unit)), Priors(user, item))


def noise(model: Model, ratings: Ratings, scale: tuple[float, float]) -> float | None:
    """Variance of the noise such that standard deviations are right for new users, in squared units of the ratings.

    What given rows leave of the ratings that they were found with is too little, by how much only the library knows. So
    a fifth of the users is taken for new: the items that they rated are solved without them, half of their ratings, at
    most `EACH`, are folded in, and the others' errors are measured; then the next fifth, until `MOST` users are
    through. The mean square is the noise's variance times the mean of 1 + `jaxmf.laplace.leverage` of both rows.

    Args:
        model: The model, from `ready`.
        ratings: The ratings that are known of its rows, on the host.
        scale: What predictions are clipped to.

    Returns:
        The variance; `None` where there are fewer than `ENOUGH` such ratings.

    Cost: the fold-in of at most `MOST` users, and one to `GROUPS` times that of the items that they rated.
    """
    group, place, told = _newcomers(ratings)
    hidden = (group >= 0) & (place >= told) & (place < told + EACH) & (ratings.weight > 0)
    if hidden.sum() < ENOUGH:
        return None
    parts = [(group == one, place < told, hidden) for one in range(group.max() + 1)]
    square, whole = np.sum([_errors(model, ratings, part, scale) for part in parts], 0)
    return float(square / whole)


def _errors(
    model: Model, ratings: Ratings, part: tuple[Bool[np.ndarray, " n"], ...], scale: tuple[float, float]
) -> tuple[float, float]:
    """Σ w e² of a group's hidden ratings, and Σ w (1 + leverage): which are the group's, which told, which hidden."""
    theirs, told, hidden = part
    users, items = np.unique(ratings.user[theirs]), np.unique(ratings.item[theirs])
    others, first = ratings.take(~theirs & np.isin(ratings.item, items)), ratings.take(theirs & told)
    met = fold_in_users(fold_in_items(model, others, items=items), first, users=users)
    at = np.random.default_rng(0).permutation(np.flatnonzero(theirs & hidden))
    pairs = ratings.take(at)
    errors = pairs.rating - np.clip(np.asarray(met.predict(pairs.user, pairs.item)), *scale)
    some = pairs.take(slice(0, SAMPLE // GROUPS))
    unsure = leverage(met, first, some.user, some.item)
    unsure = unsure + leverage(met.transpose(), others.transpose(), some.item, some.user)
    weight = np.asarray(pairs.weight, float)
    mean = float(np.mean(unsure)) if len(pairs) else 0.0
    return float(weight @ errors**2), float(weight.sum()) * (1 + mean)


def _square(model: Model, ratings: Ratings) -> float:
    """Mean square of what the rows leave of the ratings, less than what their mean leaves.

    Raises:
        ValueError: If it is not less, or there is no rating.
    """
    weight = np.asarray(ratings.weight, float)
    if not weight.sum() > 0:
        raise ValueError(
            "no rating is of a user and an item that both have factors: give the ratings that the library was fitted "
            "to, with ids of the same type"
        )
    rating, user, item = np.asarray(ratings.rating, float), model.params.user, model.params.item
    error = np.empty(len(ratings))
    for at in range(0, len(ratings), PARTS):
        some = slice(at, at + PARTS)
        w, h = (np.asarray(x.factors)[r[some]] for x, r in ((user, ratings.user), (item, ratings.item)))
        biases = np.asarray(user.bias)[ratings.user[some]] + np.asarray(item.bias)[ratings.item[some]]
        score = biases + np.einsum("nk,nk->n", w, h)
        error[some] = rating[some] - float(model.params.offset) - float(model.kernel.unit) * score
    square = float(np.average(error**2, weights=weight))
    about_mean = float(np.average((rating - np.average(rating, weights=weight)) ** 2, weights=weight))
    if len(ratings) > RATINGS and not square < about_mean:
        raise ValueError(
            f"the model is {square**0.5:.3g} off the ratings, and their mean only {about_mean**0.5:.3g}: give each "
            "row its own id, in the order of the factors, and the ratings that the library was fitted to"
        )
    return square


def _counted(model: Model, of_users: Int[np.ndarray, " b"], of_items: Int[np.ndarray, " c"], unit: float) -> Params:
    """The rows from the average of those that are rated on, in this unit."""
    scale, params = float(model.kernel.unit), model.params
    (bias_u, w), (bias_i, h) = (
        (np.asarray(table.bias, float) * scale, np.asarray(table.factors, float))
        for table in (params.user, params.item)
    )
    w = w * scale
    c, d, of_user, of_item = w[of_users].mean(0), h[of_items].mean(0), bias_u[of_users].mean(), bias_i[of_items].mean()
    user = Table((bias_u - of_user + (w - c) @ d) / unit, (w - c) / unit)
    item = Table((bias_i - of_item + (h - d) @ c) / unit, h - d)
    params = Params(user, item, np.asarray(float(params.offset) + of_user + of_item + c @ d))
    return jax.tree.map(np.float32, params)


def _prior(noise: float, own: Table, other: Table, default: Prior) -> Prior:
    """A side's prior: the noise's variance over its rows', beside rows whose factors spread as far as the bias does."""
    spread = NOISE / float(default.bias_reg)
    length = float(np.square(other.factors, dtype=float).sum(1).mean())
    of_factors = spread / length if length > 0 else 1.0

    def precision(numbers: Float[np.ndarray, "..."], expected: float) -> float:
        square = np.square(numbers, dtype=float).reshape(len(numbers), -1).mean(1).sum()
        return noise * (len(numbers) + ROWS) / float(square + ROWS * expected)

    return Prior(bias_reg=precision(own.bias, spread), factor_reg=precision(own.factors, of_factors), power=0.0)


def _newcomers(
    ratings: Ratings,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Of each rating its user's group, −1 where there is none; its place among theirs, at random; how many are told."""
    random, user = np.random.default_rng(0), np.asarray(ratings.user)
    users = random.permutation(np.unique(user))
    size = max(1, min(MOST, len(users) // GROUPS))
    groups = min(GROUPS, -(-MOST // size))
    group = np.full(ratings.n_users, -1)
    group[users[: groups * size]] = np.arange(min(len(users), groups * size)) // size
    order = np.lexsort((random.random(len(user)), user))
    place = np.empty(len(user), int)
    place[order] = np.arange(len(user)) - np.searchsorted(user[order], user[order])
    total = np.bincount(user, minlength=ratings.n_users)[user]
    return group[user], place, np.minimum(EACH, total // 2)
