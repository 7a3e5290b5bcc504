"""Settings for clicks: each configuration is fitted on each fold and judged by how it ranks what the fold holds out."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
from jaxtyping import ScalarLike
from tqdm import tqdm

from jaxmf.data.ratings import Ratings, check
from jaxmf.data.splits import Split
from jaxmf.model.kernels import Clicks
from jaxmf.model.priors import CLICKS
from jaxmf.serving.judging import full_ranking
from jaxmf.training import als
from jaxmf.training.configurations import check_columns, columns, numbers, priors

SETTINGS = columns("background", "epochs")

KERNEL = Clicks()
"""Whose settings count where a configuration leaves them out."""


def sweep(
    clicks: Ratings,
    folds: Sequence[Split],
    configurations: pd.DataFrame,
    *,
    kernel: Clicks = KERNEL,
    cuts: Sequence[int] = (10, 20, 50, 100),
    progress: bool = False,
) -> pd.DataFrame:
    """A row for each configuration and fold: its settings, and `jaxmf.judging.full_ranking` of the clicks held out.

    Fits of one rank share a compiled program. `jaxmf.tune.sweep` is for ratings, whose error it measures.

    Args:
        clicks: All clicks, on the host.
        folds: Positions to train on and to test on, a fold each.
        configurations: A row each, from `jaxmf.tune.grid` or `random`. The columns: `rank` (else 32), `seed` (else 0),
            `epochs` (else 15), `background` (else the kernel's), and a prior's as `jaxmf.tune.sweep` takes them.
        kernel: The kernel.
        cuts: Where the lists are cut.
        progress: Show a progress bar, where standard error is a terminal.

    Raises:
        ValueError: If there is no fold or configuration, a column is unknown, or a setting is out of range.

    Example:
        >>> from jaxmf.data.splits import k_fold
        >>> from jaxmf.training.configurations import grid
        >>> user, item = np.divmod(np.arange(12), 4)
        >>> one = np.ones(12, np.float32)
        >>> clicks = Ratings(user, item, one, one, n_users=3, n_items=4)
        >>> found = sweep(clicks, k_fold(12, 2), grid({"rank": [1, 2], "background": [0.1]}), cuts=[2])
        >>> found.columns.tolist()
        ['configuration', 'rank', 'background', 'fold', 'users', 'ndcg2', 'recall2']
    """
    check(clicks, "clicks")
    if not len(folds) or not len(configurations):
        raise ValueError(f"{len(folds)} folds and {len(configurations)} configurations: give one or more of each")
    check_columns(configurations, "clicks", SETTINGS)
    rows = configurations.to_dict("records")
    todo = [
        (at, row, fold) for at, row in zip(numbers(configurations), rows, strict=True) for fold in range(len(folds))
    ]
    found = []
    for at, row, fold in tqdm(todo, disable=None if progress else True, unit="fit", leave=False):
        judged = _judged(clicks, folds[fold], row, kernel, cuts)
        found.append({"configuration": int(at), **row, "fold": fold, **judged})
    return pd.DataFrame(found)


def best(frame: pd.DataFrame, by: str = "ndcg10") -> dict[str, int | float]:
    """The settings of a sweep whose mean over folds and seeds is highest, as `fit_settings` takes them.

    Raises:
        ValueError: If the sweep did not measure `by`.

    Example:
        >>> frame = pd.DataFrame({"configuration": [0, 1], "rank": [8, 16], "fold": 0, "ndcg10": [0.1, 0.2]})
        >>> best(frame)
        {'rank': 16}
    """
    if by not in frame:
        raise ValueError(f"no column {by!r} in the sweep, which has {list(frame)}: name one that it measured")
    means = pd.Series(frame.groupby("configuration")[by].mean())
    first = means.index[int(np.argmax(means))]
    names = [name for name in frame if name in SETTINGS and name != "seed"]
    row = frame[frame["configuration"] == first].iloc[0]
    return {name: frame[name].dtype.type(row[name]).item() for name in names}


def fit_settings(settings: Mapping[str, ScalarLike], kernel: Clicks = KERNEL) -> dict[str, Any]:
    """A configuration as the arguments of `als.fit` but the key and the clicks.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> sorted(fit_settings({"rank": 8, "background": 0.3}))
        ['epochs', 'kernel', 'prior', 'rank']
    """
    background = settings.get("background", kernel.background)
    background = None if background is None else float(background)
    whole = {name: int(settings.get(name, default)) for name, default in (("rank", 32), ("epochs", 15))}
    return {"kernel": kernel.replace(background=background), "prior": priors(settings, CLICKS), **whole}


def _judged(
    clicks: Ratings, fold: Split, row: Mapping[str, ScalarLike], kernel: Clicks, cuts: Sequence[int]
) -> dict[str, int | float]:
    """One fit's lists of what a fold holds out."""
    train, test = clicks.take(np.asarray(fold.train)), clicks.take(np.asarray(fold.test))
    model = als.fit(jax.random.key(int(row.get("seed", 0))), train, **fit_settings(row, kernel)).model
    return full_ranking(model, train, test, cuts=cuts, threshold=0.5)
