"""Ratings and rows that are made up, of the shapes that real ones have."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxmf.data.features import Sides
from jaxmf.data.histories import Block
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Clicks, Kernel, for_range, unit_of
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.priors import CLICKS, DEFAULT
from jaxmf.model.tables import Table
from jaxmf.training import clicks as clicks_sweeps
from jaxmf.training import spread

STEEP, BEND, SPREAD = 11.0, 0.45, 1.2
"""An item at the share q of the popularity order is rated exp(−STEEP·q^BEND) times as often as the first, and users'
numbers of ratings are lognormal: with 20,000,000 ratings of 27,000 items the first has .3 % of them, the median 20, and
a user 70 in the median, about as in MovieLens 20M."""

LOW, HIGH = 0.5, 5.0


class Size(NamedTuple):
    """Of a set of ratings."""

    users: int
    items: int
    ratings: int


def ratings(rng: np.random.Generator, size: Size) -> Ratings:
    """Half stars at random, popular items and busy users more often; sorted by user, as files of ratings are."""
    order = np.arange(size.items) / size.items
    item = _repeated(rng, size.ratings, np.exp(-STEEP * order**BEND))
    rng.shuffle(item)
    user = _repeated(rng, size.ratings, rng.lognormal(0, SPREAD, size.users))
    stars = rng.integers(1, 11, size.ratings).astype(np.float32) / 2
    return Ratings(user, item, stars, np.ones_like(stars), size.users, size.items)


def clicks(rng: np.random.Generator, given: Ratings) -> Ratings:
    """The same pairs, each clicked one to nine times."""
    times = rng.integers(1, 10, len(given)).astype(np.float32)
    return given.replace(rating=np.ones_like(times), weight=times)


def table(rng: np.random.Generator, rows: int, rank: int) -> Table:
    """Rows of about the length 1, and small biases."""
    bias, factors = 0.3 * rng.standard_normal(rows), rng.standard_normal((rows, rank)) / np.sqrt(rank)
    return Table(jnp.asarray(bias, jnp.float32), jnp.asarray(factors, jnp.float32))


def kernel_of(kind: str, given: Ratings) -> Kernel:
    """The kernel of a kind, in the unit of these ratings."""
    kernel = for_range(LOW, HIGH, kind)
    return kernel.measured(given) if isinstance(kernel, Clicks) else kernel.replace(unit=unit_of(given))


def model(rng: np.random.Generator, kind: str, given: Ratings, rank: int) -> Model:
    """A model of random items, whose users nobody has solved yet."""
    kernel = kernel_of(kind, given)
    nobody = Table(jnp.zeros(given.n_users), jnp.zeros((given.n_users, rank)))
    offset = jnp.asarray(kernel.offset(float(given.rating.mean())), jnp.float32)
    params = Params(nobody, table(rng, given.n_items, rank), offset)
    if kind == "clicks":
        return Model(params.counted(), kernel, CLICKS)
    return Model(params, kernel, DEFAULT)


def stack(rng: np.random.Generator, size: Size, pages: int) -> Block:
    """Blocks of users with equally many ratings each, a page of them: what `jaxmf.histories.blocks` makes of such.

    Made straight away: a million users would be cut up for longer than they are solved.
    """
    pages = min(pages, size.users)
    blocks, width = -(-size.users // pages), size.ratings // size.users
    shape = (blocks, pages, width)
    rows = np.arange(blocks * pages, dtype=np.int32).reshape(blocks, pages)
    owner = np.broadcast_to(np.arange(pages, dtype=np.int32), (blocks, pages))
    stars = rng.integers(1, 11, shape).astype(np.float32) / 2
    return Block(rows, owner, rng.integers(0, size.items, shape, np.int32), stars, np.ones_like(stars))


def click_histories(known: Ratings, kernel: Clicks) -> clicks_sweeps.Histories:
    """Clicks as a sweep takes them, on the host."""
    return clicks_sweeps.histories(known, kernel, spread.where(known, Sides()))


def _repeated(rng: np.random.Generator, n: int, weight: np.ndarray) -> np.ndarray:
    """`n` numbers of rows, ascending, each as often as its weight makes likely."""
    return np.repeat(np.arange(len(weight), dtype=np.int32), rng.multinomial(n, weight / weight.sum()))
