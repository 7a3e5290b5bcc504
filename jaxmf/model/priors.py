"""Where a row stands before its ratings."""

from typing import NamedTuple, no_type_check

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Float, ScalarLike

from jaxmf.data.ratings import AnyArray
from jaxmf.model.tables import Table


@no_type_check
class Prior(struct.PyTreeNode):
    """bias_reg·(b − m_b)² + factor_reg·(n + extra)^power·‖w − m_w‖² for a row of n ratings.

    The mean (m_b, m_w) is 0, or what the row's features say: see `jaxmf.links`.

    With `power` 0 the penalty is a Gaussian prior's; with 1 it grows with the row's ratings, as in ALS-WR (Zhou et
    al. 2008): a penalty a rating. n is the total weight of the row's ratings.

    The numbers are free of the ratings' unit: errors count in the kernel's `unit`, the training ratings' standard
    deviation, and rows have none.

    Attributes:
        bias_reg: Precision of the bias, in units of a rating's.
        factor_reg: Precision of each factor, likewise.
        power: How the factors' precision grows with n.
        extra: What a row's n counts besides its own ratings.
        link_reg: Precision of a link's entries, as a multiple of `bias_reg` for the bias and of `factor_reg` for the
            factors.
    """

    bias_reg: ScalarLike = 2.0
    factor_reg: ScalarLike = 0.1
    power: ScalarLike = 1.0
    link_reg: ScalarLike = 20.0
    extra: ScalarLike = 0.0

    def precision(self, n: Float[AnyArray, " b"]) -> Table:
        """Λ's diagonal for rows with `n` ratings: (`b`,) and (`b`, 1). A row without ratings counts as one of one."""
        return Table(
            jnp.broadcast_to(jnp.asarray(self.bias_reg, n.dtype), n.shape),
            (self.factor_reg * jnp.maximum(n + self.extra, 1.0) ** self.power)[:, None],
        )

    def link_precision(self) -> Table:
        """Precision of a link's entries: a scalar for the bias, and one for the factors."""
        return Table(self.link_reg * self.bias_reg, self.link_reg * self.factor_reg)


class Priors(NamedTuple):
    """A prior for each side."""

    user: Prior
    item: Prior

    def transpose(self) -> "Priors":
        """The same from the other side."""
        return Priors(self.item, self.user)


DEFAULT = Priors(
    user=Prior(bias_reg=3.6, factor_reg=1.8, power=0.5),
    item=Prior(bias_reg=3.6, factor_reg=6.3, power=0.0),
)
"""Found by random search on a validation part of MovieLens latest-small's first training fold: where `jaxmf.evidence`
starts from, and stays where there are few ratings."""


CLICKS = Priors(*2 * [Prior(factor_reg=0.3, power=0.75, extra=10.0)])
"""For `jaxmf.kernels.Clicks`, chosen on validation parts of Epinions and MovieLens 100K, and right on a tenth of both.
Rendle et al. (2022) count the background as well, n + w₀N, which is nearly the same for all rows where clicks are
few."""


def both_sides(prior: Prior | Priors) -> Priors:
    """`prior` for users and items alike where it is one."""
    return prior if isinstance(prior, Priors) else Priors(prior, prior)


def check(prior: Prior | Priors) -> Priors:
    """Both sides' priors, checked.

    Raises:
        ValueError: If a regularisation is not positive and finite, or a power is not between 0 and 1.
    """
    priors = both_sides(prior)
    for side, one in zip(priors._fields, priors, strict=True):
        for name in ("bias_reg", "factor_reg", "link_reg"):
            value = getattr(one, name)
            if not 0 < value < np.inf:
                raise ValueError(
                    f"{name} of the {side} prior must be positive and finite, got {value}: a row with fewer ratings "
                    "than `rank` has no unique factors without it"
                )
        if not 0 <= float(one.extra) < np.inf:
            raise ValueError(f"extra of the {side} prior must be 0 or more and finite, got {one.extra}")
        if not 0.0 <= float(one.power) <= 1.0:
            raise ValueError(f"power of the {side} prior must be between 0 and 1, got {one.power}")
    return priors
