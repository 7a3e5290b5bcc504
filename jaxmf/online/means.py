"""What features say of rows that are solved anew: the prior means of every door of the online update."""

import jax
from jax import lax

from jaxmf.data.features import Features
from jaxmf.model import links
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.model.tables import Table


def said_of_rows(model: Model | Posterior, features: Features | None, size: int) -> Table | None:
    """What features say of every user's row, of a posterior under every draw; `None` where ratings tell, or none say.

    Raises:
        ValueError: If the features are not the model's, or have not a row for each of the ratings' users.
    """
    link = model.link()
    if features is None and (link is None or model.implicit[0]):
        return None
    known = 0 if link is None else len(link)
    given = 0 if features is None else features.n_features
    if features is None or link is None or known != given:
        raise ValueError(
            f"the model was trained with {known} features of a row and the fold-in is given {given}: "
            "pass the same kind of features"
        )
    if features.n_rows < size:
        raise ValueError(f"the features have {features.n_rows} rows, the ratings {size}: give a row each")
    return _row_means(features, link)


@jax.jit
def _row_means(features: Features, link: Table) -> Table:
    """What features say of each row, of a posterior under each draw."""
    if link.bias.ndim == 1:
        return links.row_means(features, link)
    return lax.map(lambda of_draw: links.row_means(features, of_draw), link)
