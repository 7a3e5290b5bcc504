"""The online update: rows that got new ratings are solved, and nothing else is touched."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from jaxmf.data.histories import CACHED_PAGES, blocks, packed_row
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.kernels import Kernel, check_ratings
from jaxmf.model.params import Params, check_rows
from jaxmf.model.priors import DEFAULT, Prior, Priors, both_sides, check
from jaxmf.model.tables import Table
from jaxmf.online.retrain import sgd_retrain, sgd_retrain_items
from jaxmf.online.update import check_fold_in, fits, on_device, resized, solve_user, unstack, update

__all__ = ["fold_in", "fold_in_items", "fold_in_user", "fold_in_users", "sgd_retrain", "sgd_retrain_items"]


def fold_in_users(
    params: Params,
    kernel: Kernel,
    ratings: Ratings,
    *,
    users: Int[AnyArray, " b"] | None = None,
    prior: Prior | Priors = DEFAULT,
    means: Table | None = None,
) -> Params:
    """The model with the rows of `users` solved from their ratings, the items frozen.

    New users and known ones alike, with more ratings, other ratings or fewer: a row is a function of its ratings, the
    items and the prior, not of where it was. Rows of other users stay as they are. Where `ratings.n_users` is larger
    than the table, the table grows to it, and a row without ratings is the prior mean.

    Args:
        params: The model.
        kernel: Its kernel.
        ratings: *All* ratings of the users to solve, old and new, on the host; see `jaxmf.changes.merge`.
        users: Rows to solve; else those of every user in `ratings`. One of them without ratings (a removed user) gets
            the prior mean.
        prior: The prior of both sides, or one each; the one the model was trained with.
        means: Prior means of all rows of `ratings`, where the model was trained with features of users:
            `jaxmf.links.row_means(features, fit.links.user)`; else 0.

    Raises:
        ValueError: If a rating is outside the kernel's scale, or points to an item that the model does not have, or
            the means are not of the ratings' rows.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> from jaxmf.model.params import init
        >>> model = init(jax.random.key(0), n_users=3, n_items=5, rank=2, offset=3.0)
        >>> new = Ratings(np.array([3, 3]), np.array([0, 4]), np.array([5.0, 4.0]), np.ones(2), n_users=4, n_items=5)
        >>> len(fold_in_users(model, Linear(), new).user)
        4
    """
    check_fold_in(params, kernel, ratings)
    user_prior = check(prior).user
    users = np.unique(ratings.user) if users is None else np.unique(users)
    table = resized(params.user, ratings.n_users)
    check_rows(users, table, "user")
    if means is not None and len(means) < ratings.n_users:
        raise ValueError(f"means of {len(means)} rows for ratings of {ratings.n_users}: give a row each")
    for stack in blocks(ratings, users, pages=CACHED_PAGES, ladder=True):
        for block in unstack(stack):
            table = update(table, kernel, params.offset, params.item, block, user_prior, means)
    return params.replace(user=table)


def fold_in_items(
    params: Params,
    kernel: Kernel,
    ratings: Ratings,
    *,
    items: Int[AnyArray, " b"] | None = None,
    prior: Prior | Priors = DEFAULT,
    means: Table | None = None,
) -> Params:
    """The model with the rows of `items` solved from their ratings, the users frozen; else as `fold_in_users`."""
    prior = both_sides(prior).transpose()
    flipped = fold_in_users(params.transpose(), kernel, ratings.transpose(), users=items, prior=prior, means=means)
    return flipped.transpose()


def fold_in(
    params: Params,
    kernel: Kernel,
    ratings: Ratings,
    *,
    users: Int[AnyArray, " b"],
    items: Int[AnyArray, " c"],
    prior: Prior | Priors = DEFAULT,
    means: tuple[Table | None, Table | None] = (None, None),
    tol: float = 1e-3,
    at_most: int = 20,
) -> Params:
    """The model with the rows of `users` and of `items` solved together: new users who rate new items.

    The two sides take turns, as in training, on the touched rows alone, until no row's numbers move by more than
    `tol`.

    Args:
        params: The model.
        kernel: Its kernel.
        ratings: All ratings of the touched rows of either side; others may be among them.
        users: User rows to solve.
        items: Item rows to solve.
        prior: The prior of both sides, or one each.
        means: Prior means of all user rows, and of all item rows, as in `fold_in_users`.
        tol: Largest change of a bias or factor at which the rows count as settled.
        at_most: Most rounds.

    Raises:
        ValueError: As `fold_in_users`.
    """
    check_ratings(kernel, np.asarray(ratings.rating))
    of_users = ratings.take(np.isin(ratings.user, users))
    of_items = ratings.take(np.isin(ratings.item, items))
    params = Params(
        _with_rows(params.user, ratings.n_users, users),
        _with_rows(params.item, ratings.n_items, items),
        params.offset,
    )
    for _ in range(at_most):
        before = params
        # Items first: a new item has no row to solve a user by, but a known user has one to solve an item by.
        params = fold_in_items(params, kernel, of_items, items=items, prior=prior, means=means[1])
        params = fold_in_users(params, kernel, of_users, users=users, prior=prior, means=means[0])
        if _moved(before.user, params.user, users) <= tol and _moved(before.item, params.item, items) <= tol:
            break
    return params


def fold_in_user(
    params: Params,
    kernel: Kernel,
    item: ArrayLike,
    rating: ArrayLike,
    *,
    weight: ArrayLike | float = 1.0,
    prior: Prior | Priors = DEFAULT,
) -> Table:
    """One user's row, from the ratings alone: the shortest way from arrays to a row.

    Args:
        params: The model; its user table is not looked at.
        kernel: Its kernel.
        item: Item rows that the user rated.
        rating: The ratings.
        weight: Their weights, such as `jaxmf.changes.time_decay`'s.
        prior: The prior of both sides, or one each.

    Returns:
        A table of one row.

    Raises:
        ValueError: If there are not as many ratings as items, a rating is outside the kernel's scale, an item is not in
            the model, or a weight or a regularisation is negative.
    """
    packed = packed_row(item, rating, weight)
    if not fits(packed, kernel, params.item):  # say why not
        check_ratings(kernel, np.asarray(rating))
        check_rows(np.asarray(item), params.item, "item")
        raise ValueError(f"weights {weight}: weights must be finite and 0 or more")
    return solve_user(kernel, params.offset, params.item, packed, on_device(both_sides(prior).user))


def _with_rows(table: Table, size: int, rows: Int[AnyArray, " b"]) -> Table:
    """A copy of the table of at least `size` rows; those of `rows` that nobody has written are the prior mean."""
    table = resized(table, size)
    check_rows(np.asarray(rows), table, "touched")
    return table.put(rows, jax.tree.map(lambda x: jnp.where(jnp.isnan(x), 0.0, x), table[rows]))


def _moved(before: Table, after: Table, rows: Int[AnyArray, " b"]) -> float:
    """The largest change of a number in `rows`."""
    change = jax.tree.map(lambda a, b: np.abs(np.asarray(a)[rows] - np.asarray(b)[rows]).max(initial=0), before, after)
    return float(max(jax.tree.leaves(change)))
