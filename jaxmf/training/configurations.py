"""What a search tries: a frame with a row a configuration and seed."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int, ScalarLike

from jaxmf.data.settings import check_whole
from jaxmf.model.priors import DEFAULT, Prior, Priors, both_sides
from jaxmf.model.priors import check as check_prior
from jaxmf.training.trainers import Trainer

PRIOR = ("bias_reg", "factor_reg", "power", "link_reg", "extra")
WHOLE = {"rank": 1, "seed": 0}
"""Settings that are whole numbers, and the lowest of each."""


def grid(values: Mapping[str, Sequence[ScalarLike]]) -> pd.DataFrame:
    """Every combination of the values, a row each.

    Example:
        >>> grid({"rank": [8, 16], "factor_reg": [1.0, 4.0]})
           rank  factor_reg
        0     8         1.0
        1     8         4.0
        2    16         1.0
        3    16         4.0
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"values must be a mapping of settings to lists of values, got {values!r}")
    return pd.DataFrame(list(itertools.product(*values.values())), columns=list(values))


def random(seed: int, n: int, ranges: Mapping[str, tuple[float, float] | Sequence[ScalarLike]]) -> pd.DataFrame:
    """`n` random configurations: a pair (low, high) is drawn from log-uniformly, of a list one value is picked.

    Raises:
        ValueError: If `n` is below 1, a pair is not ascending and positive, or is of `rank` or `seed`, which are whole.

    Example:
        >>> random(0, 2, {"rank": [8, 16], "factor_reg": (0.1, 10.0)}).round(3)
           rank  factor_reg
        0    16       0.346
        1    16       0.121
    """
    check_whole("n", n, least=1, meaning="how many configurations to draw")
    rng = np.random.default_rng(seed)
    columns = {}
    for name, values in ranges.items():
        if isinstance(values, tuple):
            ends = [float(end) for end in values]
            if not (len(ends) == 2 and 0 < ends[0] < ends[1] < np.inf):
                raise ValueError(
                    f"{name} can't be drawn log-uniformly from {values}: give 0 < low < high, or a list to pick from"
                )
            if name in WHOLE:
                raise ValueError(
                    f"{name} must be whole, and draws from {values} are not: give a list to pick from, "
                    f"such as {list(values)}"
                )
            columns[name] = np.exp(rng.uniform(np.log(ends[0]), np.log(ends[1]), n))
        else:
            columns[name] = rng.choice(np.asarray(values), n)
    return pd.DataFrame(columns)


def priors(settings: Mapping[str, ScalarLike], prior: Prior | Priors = DEFAULT) -> Priors:
    """A configuration's priors, for a `fit` with its settings; `prior` is what they leave out.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> found = priors({"rank": 8, "bias_reg": 3.0, "item_factor_reg": 2.0})
        >>> found.user.bias_reg, found.item.bias_reg, found.item.factor_reg
        (3.0, 3.0, 2.0)
    """

    def side(name: str, one: Prior) -> Prior:
        fields = {field: settings.get(field, getattr(one, field)) for field in PRIOR}
        return one.replace(**{field: settings.get(f"{name}_{field}", value) for field, value in fields.items()})

    default = both_sides(prior)
    return check_prior(Priors(side("user", default.user), side("item", default.item)))


def numbers(configurations: pd.DataFrame) -> Int[np.ndarray, " rows"]:
    """Which configuration each row is of, in order of appearance: rows that differ in `seed` alone are of one.

    Example:
        >>> numbers(grid({"seed": [0, 1], "rank": [8, 16]})).tolist()
        [0, 1, 0, 1]
    """
    settings = configurations.drop(columns="seed", errors="ignore")
    if settings.columns.empty:
        return np.zeros(len(configurations), np.int64)
    return settings.groupby(list(settings), sort=False).ngroup().to_numpy()


def columns(*settings: str) -> tuple[str, ...]:
    """What columns configurations may have: rank, seed, a prior's, and these `settings`."""
    return (*WHOLE, *settings, *(side + name for side in ("", "user_", "item_") for name in PRIOR))


def check_columns(configurations: pd.DataFrame, of: str, known: Sequence[str]) -> None:
    """Refuse what is no configuration, whatever it is of.

    Args:
        configurations: The rows.
        of: What they are of.
        known: Columns that there may be.

    Raises:
        ValueError: If there is no row, a column is unknown, or a number that must be whole is not.
    """
    if not len(configurations):
        raise ValueError("no configuration: give one row or more, from `grid` or `random`")
    unknown = [name for name in configurations if name not in known]
    if unknown:
        raise ValueError(f"no setting {unknown[0]!r} of {of}: the columns may be {', '.join(known)}")
    for name, lowest in WHOLE.items():
        values = configurations[name].to_numpy() if name in configurations else np.array([lowest])
        bad = ~((values >= lowest) & (values < 2**31) & (values % 1 == 0))
        if bad.any():
            raise ValueError(
                f"{name} must be a whole number of {lowest} or more, got {values[bad][0]}: round it, or leave it out"
            )


def check(configurations: pd.DataFrame, trainer: Trainer) -> list[Priors]:
    """Each row's priors, when all its settings are in range.

    Args:
        configurations: The rows.
        trainer: What fits them.

    Raises:
        ValueError: If there is no row, a column is unknown, or a value is out of range.
    """
    check_columns(configurations, type(trainer).__name__, columns(*trainer.settings))
    if "learning_rate" in configurations:
        values = configurations["learning_rate"].to_numpy()
        bad = ~((values > 0) & (values < np.inf))
        if bad.any():
            raise ValueError(
                f"learning_rate must be positive and finite, got {values[bad][0]}: give values such as 0.01, or leave "
                "the column out"
            )
    return [priors(row, trainer.prior) for row in configurations.to_dict("records")]
