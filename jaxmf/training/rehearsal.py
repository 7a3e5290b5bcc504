"""A prior for meeting new users: training users are taken for new, a group at a time.

What a user's first ratings say of the later ones is not what a random few would: they are given in one mood, and of the
items that everybody starts with. And items that were trained on a user's ratings know the later ones already. So the
prior of a newcomer's fold-in is found on users whom the items don't know.
"""

import time
from collections.abc import Sequence
from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from jaxmf import sharding
from jaxmf.data.arrays import Column, check_lengths, to_times
from jaxmf.data.features import Sides, check_rows
from jaxmf.data.histories import Block, blocks
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model import links, rows
from jaxmf.model.kernels import Kernel, refuse_clicks, unit_of
from jaxmf.model.model import Model
from jaxmf.model.objective import squares
from jaxmf.model.priors import Prior
from jaxmf.model.tables import Table
from jaxmf.training import alternating, evidence, loop
from jaxmf.training.evidence import Found, Task
from jaxmf.training.loop import Watch

GROUPS = 5
"""Groups of users, each of which is new to a model of the others."""

FIRST = (1, 2, 5, 10, 20, 50)
"""How many of a user's first ratings are folded in, half of all at most."""

MOST, ENOUGH = 2000, 50
"""Most users of a group that rehearse, and the fewest users in all from which it is worth it."""

FACTOR_REG = 4.0
"""The factors' precision from which the descent starts; its power is 0."""

STEPS, WIDEST = 20, 5.0
"""Most steps of the descent, and how far it may go, in logarithms."""


@no_type_check
class Rehearsed(struct.PyTreeNode):
    """What the rehearsal is of, all groups in one model: the items of each stand behind those of the last.

    Attributes:
        model: The models of the others, their items one after the other.
        first: The users' first ratings, a block after the other.
        place: Which of its user's ratings each is, from 0.
        said: What given features say of the users' rows; `None` where there are none.
        hidden: The later ratings, with weights such that every user counts alike.
    """

    model: Model
    first: Block
    place: Float[AnyArray, "g p w"]
    said: Table | None
    hidden: Ratings


def new_users(
    key: Key[Array, ""],
    ratings: Ratings,
    *,
    kernel: Kernel,
    rank: int = 32,
    features: Sides = Sides(),
    order: Column | None = None,
) -> Found:
    """Priors for folding in users that a model wasn't trained on: `model.replace(priors=found.priors)` before it.

    The users' prior is the one by which first ratings best predict later ones. A model is trained without each of
    `GROUPS` groups of users, whose first 1, 2, 5, 10, 20 and 50 ratings are folded in. The bias' and the factors'
    precisions then descend along the gradient through the solves, by the implicit function theorem, to where the later
    ratings of a user are predicted best, the mean over users and numbers of ratings. The factors' does not grow with
    the ratings (`power` is 0): that would hold those least of whom least is known. The items' prior is what
    `jaxmf.evidence.find` finds, and so is the users' where fewer than `ENOUGH` have two ratings.

    It is no prior to train by, nor to solve users by who were trained on: items have adapted to these.

    Args:
        key: Random key of the groups and of the fits.
        ratings: Training ratings, on the host.
        kernel: The kernel.
        rank: Number of factors.
        features: Features of either side.
        order: Numbers or times in whose order each user's ratings were given. Else their order is random, from which
            first ratings seem to say more than they do.

    Raises:
        ValueError: If a setting or a rating is out of range, or there is not one number or time a rating.

    Cost: that of `evidence.find`, `GROUPS` fits by ALS, and about a hundred solves of those users' first ratings.

    Example:
        >>> from jaxmf.model.kernels import Linear
        >>> user, item = np.divmod(np.arange(12), 4)
        >>> ratings = Ratings(user, item, 1.0 + (user + item) % 5, np.ones(12), n_users=3, n_items=4)
        >>> new_users(jax.random.key(0), ratings, kernel=Linear(), rank=2).priors.item.power
        0.0
    """
    refuse_clicks(kernel, "rehearsal")
    sharding.refuse("A rehearsal")
    loop.check(ratings, kernel, rank, evidence.EPOCHS, Watch())
    check_rows(features, ratings.n_users, ratings.n_items)
    times = None if order is None else to_times(order, "order")
    if times is not None:
        check_lengths({"rating": ratings.rating, "order": times})
    task = Task(key, ratings, kernel.replace(unit=unit_of(ratings)), rank, features)
    found = evidence.find(task)
    began = time.perf_counter()
    rehearsed, compile_seconds = _rehearsed(task, found, times)
    if rehearsed is None:
        return found
    start = np.log([float(found.priors.user.bias_reg), FACTOR_REG])
    result = scipy.optimize.minimize(
        lambda at: [np.asarray(x, float) for x in _error(jnp.float32(at), rehearsed)],
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(x - WIDEST, x + WIDEST) for x in start],
        options={"maxiter": STEPS},
    )
    user = jax.tree.map(float, _prior(result.x, found.priors.user))
    seconds = found.seconds + time.perf_counter() - began - compile_seconds
    return Found(found.priors._replace(user=user), seconds, found.compile_seconds + compile_seconds)


def _rehearsed(task: Task, found: Found, order: Shaped[np.ndarray, " n"] | None) -> tuple[Rehearsed | None, float]:
    """The groups' models and ratings, and the seconds of compiling; `None` for too few users."""
    ratings, random = task.ratings, np.random.default_rng(np.asarray(jax.random.key_data(task.key)))
    counts = np.asarray(ratings.weight) > 0
    place = _places(ratings, random.permutation(len(ratings)) if order is None else order, counts)
    n = np.bincount(ratings.user, counts, ratings.n_users)[ratings.user]
    first = counts & (place < np.minimum(FIRST[-1], n // 2))
    users = random.permutation(np.unique(ratings.user[first]))
    if len(users) < ENOUGH:
        return None, 0.0
    group = np.full(ratings.n_users, -1)
    group[users] = np.arange(len(users)) % GROUPS
    models, compiling = zip(*(_without(task, found, group == one) for one in range(GROUPS)), strict=True)

    chosen = np.isin(ratings.user, users[: GROUPS * MOST])
    behind = np.asarray(ratings.item) + ratings.n_items * group[ratings.user]
    moved = ratings.replace(item=behind, n_items=GROUPS * ratings.n_items)
    told = moved.take(first & chosen)
    (stack,), (of_place,) = (
        blocks(one, np.unique(told.user)) for one in (told, told.replace(rating=place[first & chosen]))
    )
    hidden = moved.take(counts & ~first & chosen)
    each = np.bincount(hidden.user, minlength=ratings.n_users)
    hidden = hidden.replace(weight=(1 / each[hidden.user] / np.sum(each > 0)).astype(np.float32))
    parts = Rehearsed(_side_by_side(models), stack, of_place.rating, _said(task, models, group), hidden)
    return jax.device_put(parts), sum(compiling)


def _places(ratings: Ratings, order: Int[np.ndarray, " n"], counts: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Which of its user's ratings that count each is in that order, from 0; the others come last."""
    by_user = np.lexsort((order, ~counts, ratings.user))
    sorted_users = ratings.user[by_user]
    place = np.empty(len(ratings), np.float32)
    place[by_user] = np.arange(len(ratings)) - np.searchsorted(sorted_users, sorted_users)
    return place


def _without(task: Task, found: Found, group: Bool[np.ndarray, " users"]) -> tuple[Model, float]:
    """A model of the ratings of the users that are not in the group, and the seconds of compiling."""
    seen, features = evidence.without(task, group[task.ratings.user])
    state = alternating.init(task.key, seen, kernel=task.kernel, rank=task.rank, features=features)
    of_all = task.kernel.offset(float(np.average(task.ratings.rating, weights=task.ratings.weight)))
    state = state.replace(params=state.params.replace(offset=jnp.full_like(state.params.offset, of_all)))
    data = (task.place.histories(seen, features), found.priors)
    state, log = evidence.swept(task, state, data, Watch(progress=task.progress))
    return found.fit(state, seen, task.kernel, features, log).model, log.compile_seconds


def _side_by_side(models: tuple[Model, ...]) -> Model:
    """One model without users, the items of each behind those of the last, and so what rating them says."""

    def behind(tables: Sequence[Table]) -> Table:
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *tables)

    model = models[0].frozen()
    unit = model.kernel.unit if model.kernel.linear else 1.0
    moved = [(one.params.offset - model.params.offset) / unit for one in models]  # what centring made them differ by
    items = behind(
        [one.params.item.replace(bias=one.params.item.bias + by) for one, by in zip(models, moved, strict=True)]
    )
    model = model.replace(params=model.params.replace(item=items))
    if model.links is None or not model.implicit[0]:
        return model.replace(links=None)
    return model.replace(links=model.links._replace(user=behind(_links(models))))


def _links(models: tuple[Model, ...]) -> list[Table]:
    """Each model's link of users' features."""
    return [link for model in models if (link := model.link()) is not None]


def _said(task: Task, models: tuple[Model, ...], group: Int[np.ndarray, " users"]) -> Table | None:
    """What given features say of each user's row, by the model of its group; `None` where ratings tell, or none say."""
    features = task.features.user
    if features is None or features.implicit:
        return None
    tables = [links.row_means(features, link) for link in _links(models)]
    return jax.tree.map(lambda *parts: jnp.stack(parts)[np.maximum(group, 0), np.arange(len(group))], *tables)


def _prior(at: Float[AnyArray, "2"], like: Prior) -> Prior:
    """The users' prior of these logarithms of precisions."""
    return like.replace(bias_reg=jnp.exp(at[0]), factor_reg=jnp.exp(at[1]), power=0.0)


@jax.jit
@jax.value_and_grad
def _error(at: Float[Array, "2"], of: Rehearsed) -> Float[Array, ""]:
    """Mean squared error of the later ratings in squared units, the mean over users and numbers of first ratings."""
    model = of.model.replace(priors=of.model.priors._replace(user=_prior(at, of.model.priors.user)))
    empty = Table(jnp.zeros(of.hidden.n_users), jnp.zeros((of.hidden.n_users, model.params.item.rank)))

    def after(count: Float[Array, ""]) -> Float[Array, ""]:
        """The error where so many ratings of each user are folded in."""

        def solved(part: tuple[Block, Float[Array, "p w"]]) -> Table:
            block, place = part
            told = block.replace(weight=jnp.where(place < count, block.weight, 0))
            return rows.solve_rows(model.problem(told, None if of.said is None else of.said.take(block.rows)))

        tables = lax.map(solved, (of.first, of.place))
        user = empty.put(of.first.rows.ravel(), jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tables))
        return squares(model.params.replace(user=user), model.kernel, of.hidden) / model.kernel.unit**2

    return lax.map(after, jnp.array(FIRST, jnp.float32)).mean()
