"""The online update: rows that got new ratings are solved, and nothing else is touched.

One set of verbs for point models and posteriors. A point model's row is the most probable one; a posterior's is drawn
once against every kept draw of the other side, so that means and spreads over the draws are those of a row of the
model itself.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from jaxmf import sharding
from jaxmf.data.features import Features, Sides
from jaxmf.data.histories import CACHED_PAGES, blocks, packed_row, padded, unpacked
from jaxmf.data.packing import even
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.model import Model
from jaxmf.model.params import Params, check_rows
from jaxmf.model.posterior import Posterior
from jaxmf.model.tables import Table
from jaxmf.online.means import said_of_rows
from jaxmf.online.retrain import sgd_retrain
from jaxmf.online.update import (
    check_fold_in,
    check_given,
    check_priors,
    fits,
    on_device,
    solve_stacks,
    solve_user,
    unstack,
    update,
)

__all__ = ["fold_in", "fold_in_items", "fold_in_user", "fold_in_users", "sgd_retrain"]

Fitted = TypeVar("Fitted", Model, Posterior)

TOL = 1e-3
"""Largest change of a point model's bias or factor at which rows of both sides count as settled."""

AT_MOST, ROUNDS = 20, 4
"""Most rounds over the rows of both sides of a point model, and the rounds over a posterior's."""


def fold_in_users(
    model: Fitted,
    ratings: Ratings,
    *,
    users: Int[AnyArray, " b"] | None = None,
    features: Features | None = None,
) -> Fitted:
    """The model with the rows of `users` solved from their ratings, the items frozen.

    New users and known ones alike, with more ratings, other ratings or fewer: a row is a function of its ratings, the
    items and the prior, not of where it was. Rows of other users stay as they are. Where `ratings.n_users` is larger
    than the table, the table grows to it, and a row without ratings is the prior mean.

    Args:
        model: A point model, or a posterior.
        ratings: *All* ratings of the users to solve, old and new, on the host; see `jaxmf.changes.merge`.
        users: Rows to solve; else those of every user in `ratings`. One of them without ratings (a removed user) gets
            the prior mean, or is drawn from the prior.
        features: Features of all rows of `ratings`, where the model was trained with features of users; implicit
            feedback is read off the ratings.

    Raises:
        ValueError: If a rating is outside the kernel's scale, or points to an item that the model does not have, or
            the features are missing, not of the ratings' rows, or not those of the model.

    Cost: linear in the ratings, and in a posterior's draws.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> from jaxmf.model.params import init
        >>> model = Model(init(jax.random.key(0), n_users=3, n_items=5, rank=2, offset=3.0), Linear())
        >>> new = Ratings(np.array([3, 3]), np.array([0, 4]), np.array([5.0, 4.0]), np.ones(2), n_users=4, n_items=5)
        >>> fold_in_users(model, new)
        Model(4 users, 5 items, rank 2, Linear())
    """
    check_fold_in(model, ratings)
    said = said_of_rows(model, features, ratings.n_users)
    users = np.unique(ratings.user) if users is None else np.unique(users)
    grown = model.grown(ratings.n_users, 0)
    table, frozen = jax.tree.map(jnp.copy, grown.params.user), grown.frozen()  # `update` writes into the copy
    check_rows(users, table, "user")
    mesh = sharding.current()
    for stack in blocks(ratings, users, pages=CACHED_PAGES, ladder=True):
        if mesh is None or len(stack.rows) == 1:
            for block in unstack(stack):
                table = update(table, frozen, block, said)
        else:
            whole = padded(stack, even(len(stack.rows)))
            table = table.put(whole.rows.ravel(), *sharding.home(solve_stacks(frozen, (whole,), said, mesh=mesh)))
    return grown.with_users(table).advanced()


def fold_in_items(
    model: Fitted,
    ratings: Ratings,
    *,
    items: Int[AnyArray, " b"] | None = None,
    features: Features | None = None,
) -> Fitted:
    """The model with the rows of `items` solved from their ratings, the users frozen; else as `fold_in_users`."""
    return fold_in_users(model.transpose(), ratings.transpose(), users=items, features=features).transpose()


def fold_in(
    model: Fitted,
    ratings: Ratings,
    *,
    users: Int[AnyArray, " b"],
    items: Int[AnyArray, " c"],
    features: Sides = Sides(),
) -> Fitted:
    """The model with the rows of `users` and of `items` solved together: new users who rate new items.

    The two sides take turns, as in training, on the touched rows alone, until no row of a point model moves by more
    than `TOL`; a posterior's are drawn `ROUNDS` times.

    Args:
        model: A point model, or a posterior.
        ratings: All ratings of the touched rows of either side; others may be among them.
        users: User rows to solve.
        items: Item rows to solve.
        features: As in `fold_in_users`, of either side.

    Raises:
        ValueError: As `fold_in_users`.
    """
    check_given(model, np.asarray(ratings.rating), np.asarray(ratings.weight))
    of_users = ratings.take(np.isin(ratings.user, users))
    of_items = ratings.take(np.isin(ratings.item, items))
    model = model.grown(ratings.n_users, ratings.n_items)
    model = _written(_written(model, users).transpose(), items).transpose()
    for _ in range(ROUNDS if isinstance(model, Posterior) else AT_MOST):
        before = model
        # Items first: a new item has no row to solve a user by, but a known user has one to solve an item by.
        model = fold_in_items(model, of_items, items=items, features=features.item)
        model = fold_in_users(model, of_users, users=users, features=features.user)
        if isinstance(model, Model) and _settled(before.params, model.params, users, items):
            break
    return model


def fold_in_user(
    model: Fitted,
    item: ArrayLike,
    rating: ArrayLike,
    *,
    weight: ArrayLike | float = 1.0,
    features: Features | None = None,
) -> Fitted:
    """The model of one user alone, from the ratings alone: the shortest way for a request.

    Args:
        model: A point model, or a posterior; its user table is not looked at. For many requests `thin` a posterior.
        item: Item rows that the user rated.
        rating: The ratings.
        weight: Their weights, such as `jaxmf.changes.time_decay`'s.
        features: The user's features, one row, where the model was trained with features that ratings don't tell.

    Returns:
        The model with a user table of one row, row 0.

    Raises:
        ValueError: If there are not as many ratings as items, a rating is outside the kernel's scale, an item is not in
            the model, features are missing, or a weight or a regularisation is negative.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> from jaxmf.model.params import init
        >>> model = Model(init(jax.random.key(0), n_users=3, n_items=5, rank=2, offset=3.0), Linear())
        >>> visitor = fold_in_user(model, [0, 4], [5.0, 4.0])
        >>> visitor.predict(np.array([0]), np.array([1])).round(1)
        Array([3.5], dtype=float32)
    """
    packed = packed_row(item, rating, weight)
    if isinstance(model, Posterior) or not fits(packed, model.kernel, model.params.item):  # say why not
        items, ratings, weights = unpacked(packed)
        check_given(model, ratings, weights)
        check_priors(model)
        check_rows(items, model.params.item, "item")
        if not (np.isfinite(weights).all() and weights.min(initial=0) >= 0):
            raise ValueError(f"weights {weights}: weights must be finite and 0 or more")
    said = said_of_rows(model, features, 1)
    user = solve_user(on_device(model.frozen()), packed, said)
    return model.with_strangers(user)


def _written(model: Fitted, users: Int[AnyArray, " b"]) -> Fitted:
    """The model where those of `users` that nobody has written are the prior mean."""
    table = model.params.user
    check_rows(np.asarray(users), table, "touched")
    given = jax.tree.map(lambda x: jnp.where(jnp.isnan(x), 0.0, x), table.take(users))
    return model.with_users(table.put(users, given))


def _settled(before: Params, now: Params, users: Int[AnyArray, " b"], items: Int[AnyArray, " c"]) -> bool:
    return max(_moved(before.user, now.user, users), _moved(before.item, now.item, items)) <= TOL


def _moved(before: Table, after: Table, rows: Int[AnyArray, " b"]) -> float:
    """The largest change of a number in `rows`."""
    change = after.take(rows) - before.take(rows)
    return float(max(np.abs(np.asarray(numbers)).max(initial=0) for numbers in jax.tree.leaves(change)))
