"""How good a model's lists of all items are: the protocol of published results for clicks.

It is on this floor, and not with the measures, because it makes the lists itself: `jaxmf.recommend` does.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import ScalarLike
from numpy.typing import ArrayLike

from jaxmf.data.ratings import Ratings, check
from jaxmf.data.settings import check_whole
from jaxmf.evaluation.ranking import at_cuts, judgements
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.serving.recommend import top_n


def full_ranking(
    model: Model | Posterior,
    seen: Ratings | None,
    held_out: Ratings,
    *,
    cuts: Sequence[int] = (10, 20, 50, 100),
    threshold: ScalarLike = -np.inf,
    users: ArrayLike | None = None,
) -> dict[str, int | float]:
    """NDCG and capped recall at each of the `cuts`, of all items but those a user has `seen`: `jaxmf.ranking.at_cuts`.

    Args:
        model: What ranks. New users are folded in first, with what is revealed of them.
        seen: Ratings whose items their users are not shown: those in training, or what was revealed.
        held_out: What the model has not seen.
        cuts: Where the lists are cut.
        threshold: Held-out ratings from here on are relevant; 1 leaves dislikes out, which are clicks rated 0.
        users: User rows; else all who have a held-out rating. Those with nothing relevant are left out of the means.

    Raises:
        ValueError: If a cut is no whole number of 1 or more, or as `jaxmf.recommend.top_n` and
            `jaxmf.ranking.judgements` do.

    Cost: that of `jaxmf.recommend.top_n`: no array of users × items is made.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxmf.model.kernels import Linear
        >>> from jaxmf.model.params import Params
        >>> from jaxmf.model.tables import Table
        >>> items = Table(jnp.array([0.1, 0.3, 0.2]), jnp.zeros((3, 2)))
        >>> model = Model(Params(Table(jnp.zeros(1), jnp.ones((1, 2))), items, jnp.array(3.0)), Linear())
        >>> train, test = (Ratings(np.array([0]), np.array([at]), np.ones(1), np.ones(1), 1, 3) for at in (1, 2))
        >>> full_ranking(model, train, test, cuts=(1,))
        {'users': 1, 'ndcg1': 1.0, 'recall1': 1.0}
    """
    check(held_out, "held_out")
    depth = max((check_whole("a cut", cut, least=1, meaning="how many items are looked at") for cut in cuts), default=0)
    if not depth:
        raise ValueError(f"cuts={cuts}: name at least one place where the lists are cut")
    if users is None:
        users = np.unique(np.asarray(held_out.user)[np.asarray(held_out.weight) > 0])
    top = top_n(model, users, n=depth, seen=seen)
    return at_cuts(judgements(top.item, held_out, threshold=threshold, users=users), cuts)
