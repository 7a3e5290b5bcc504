"""Few shapes for requests of every size: each shape is a program, whose compiling takes as long as many requests.

What is asked is rounded up, so that a service can compile all that it will need before anybody waits for it.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxmf.data.histories import WIDTHS, ladder_shapes, rung
from jaxmf.data.history import NONE
from jaxmf.data.ratings import Ratings
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.serving import models
from jaxmf.serving.layered import Layered
from jaxmf.serving.recommend import TopN
from jaxmf.serving.top import SEEN


def best(
    layered: Layered,
    rows: Int[np.ndarray, " b"],
    *,
    n: int,
    seen: Ratings | None,
    **few: Any,  # noqa: ANN401 those of `top_n`
) -> TopN:
    """Each user's `n` best items, from a program for up to so many users and items."""
    asked = np.pad(rows, (0, rung(len(rows)) - len(rows)), constant_values=-1)
    found = models.best(layered, asked, n=rung(n), seen=seen, **few)
    return TopN(*(np.ascontiguousarray(part[: len(rows), :n]) for part in found))


def warm(layered: Layered, known: int, rating: float, *, ratings: int, users: int, n: int) -> None:
    """Run all programs that fold-ins and recommendations need up to these numbers.

    Args:
        layered: The model.
        known: Users that have a row.
        rating: A rating that the kernel can fit.
        ratings: Most ratings of a request.
        users: Most users.
        n: Most items to recommend.
    """
    for size in _rungs(users):
        for width, pages in ladder_shapes(ratings, users):
            request = _request(layered.model, size, rating, width, pages)
            layered.solved(request, np.unique(request.user), NONE)
    full = layered.filled(known + users)
    for of in (layered, full):
        for asked in _rungs(users):
            for length in _rungs(n):
                best(of, np.arange(asked) % max(1, known), n=length, seen=None)
                for most in _rungs(max(SEEN, ratings)):
                    seen = _ratings(layered.model, np.zeros(most, np.int32), asked, rating)
                    best(of, np.zeros(asked, np.int32), n=length, seen=seen)
    jax.block_until_ready(jax.tree.leaves(full))


def _rungs(n: int) -> list[int]:
    return sorted({rung(some) for some in range(1, n + 1)})


def _request(model: Model | Posterior, size: int, rating: float, width: int, pages: int) -> Ratings:
    """Ratings that fill so many pages of one width, each a user's where the table is large enough."""
    each = width if width == max(WIDTHS) else 1
    return _ratings(model, np.arange(pages * each) // each % size, size, rating)


def _ratings(model: Model | Posterior, user: Int[np.ndarray, " n"], n_users: int, rating: float) -> Ratings:
    n, n_items = len(user), model.params.item.bias.shape[-1]
    item = np.arange(n, dtype=np.int32) % n_items
    return Ratings(
        user.astype(np.int32), item, np.full(n, rating, np.float32), np.ones(n, np.float32), n_users, n_items
    )
