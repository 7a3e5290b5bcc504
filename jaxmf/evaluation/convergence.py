"""Whether the chains of a Bayesian fit agree, by ArviZ."""

import warnings

import numpy as np
import pandas as pd

from jaxmf.data.arrays import Column, check_lengths, to_rows
from jaxmf.model.params import check_rows
from jaxmf.model.posterior import ratings_of_draws
from jaxmf.training.gibbs import GibbsFit


def convergence(fit: GibbsFit, user: Column, item: Column) -> pd.DataFrame:
    """Split-R̂ and effective sample size of the noise precision and of predictions, over the kept draws.

    Rows and factors themselves are not looked at: chains are free to rotate them, and only what they predict can agree.
    R̂ (Vehtari et al. 2021) is near 1 where chains can't be told apart; the size is in independent draws.

    Args:
        fit: A fit of two chains or more, each with four kept draws or more; forget its beginning (`burn=60` or so).
        user: User rows of the predictions to look at, such as a hundred test ratings'.
        item: Their item rows.

    Returns:
        A line each for the noise precision and for the median and the worst of the predictions; columns `r_hat`, `ess`.

    Raises:
        ValueError: If there are fewer than two chains, too few draws, or no pairs of known rows.
        ImportError: If ArviZ is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about ArviZ's own next version
        try:
            import arviz
        except ImportError as error:
            raise ImportError("ArviZ comes with the extra `bayes`: pip install 'jaxmf[bayes]'") from error
    chains, kept = fit.history["noise"].shape[1], len(fit.posterior)
    if chains < 2 or kept < 4 * chains:
        raise ValueError(
            f"{kept} draws of {chains} chains: agreement needs two chains or more and four draws of each; "
            "fit with `chains` and `keep` larger"
        )
    user, item = to_rows(user, "user"), to_rows(item, "item")
    check_lengths({"user": user, "item": item})
    check_rows(user, fit.posterior.params.user, "user")
    check_rows(item, fit.posterior.params.item, "item")
    if not len(user):
        raise ValueError("no pairs of a user and an item: give some whose predictions are compared")
    noise = np.asarray(fit.posterior.draws.noise, np.float64).reshape(chains, -1)
    each = np.asarray(ratings_of_draws(fit.posterior, user, item), np.float64).reshape(chains, -1, len(user))
    predictions = [each[..., at] for at in range(len(user))]
    r_hat = np.array([float(arviz.rhat(draws)) for draws in predictions])
    ess = np.array([float(arviz.ess(draws)) for draws in predictions])
    return pd.DataFrame(
        {
            "r_hat": [float(arviz.rhat(noise)), np.median(r_hat), r_hat.max()],
            "ess": [float(arviz.ess(noise)), np.median(ess), ess.min()],
        },
        index=["noise precision", "predictions, median", "predictions, worst"],
    )
