"""Alternating least squares: sweeps over both sides' rows, again and again."""

from jaxtyping import Array, Key

from jaxmf.data.features import Sides, check_rows
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Clicks, Kernel, unit_of
from jaxmf.model.priors import Prior, Priors
from jaxmf.training import clicks, evidence, loop, spread
from jaxmf.training.alternating import REMEDY, Histories, State, Sweep, histories, init, solve_blocks, step
from jaxmf.training.evidence import Task
from jaxmf.training.loop import Fit, Watch

__all__ = ["Histories", "State", "fit", "histories", "init", "solve_blocks", "step"]


def fit(  # noqa: PLR0913 a trainer
    key: Key[Array, ""],
    ratings: Ratings,
    *,
    kernel: Kernel,
    rank: int = 32,
    prior: Prior | Priors | None = None,
    features: Sides = Sides(),
    epochs: int = 15,
    steps: int = 1,
    cg_steps: int | None = None,
    watch: Watch = Watch(),
) -> Fit:
    """Fit by alternating least squares.

    Args:
        key: Random key of the start.
        ratings: Training ratings, on the host.
        kernel: The kernel; `jaxmf.kernels.Clicks` for implicit feedback.
        rank: Number of factors.
        prior: The prior of both sides, or one each; else `jaxmf.evidence.find` finds it in the ratings, at the cost of
            `epochs` more sweeps at most, and for clicks it is `jaxmf.priors.CLICKS`.
        features: Features of either side's rows, whose link is found with the rest.
        epochs: Sweeps over both sides.
        steps: Newton steps a row and sweep, for a kernel that is not linear.
        cg_steps: Conjugate-gradient steps in each; else 3, and for clicks 1.
        watch: Validation, early stopping, progress.

    Raises:
        ValueError: If a setting or a rating is out of range, or the loss stops being finite.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> from jaxmf.model.kernels import Linear
        >>> user, item = np.divmod(np.arange(12), 4)
        >>> ratings = Ratings(user, item, 1.0 + (user + item) % 5, np.ones(12), n_users=3, n_items=4)
        >>> result = fit(jax.random.key(0), ratings, kernel=Linear(), rank=2, epochs=5)
        >>> bool(np.all(np.diff(result.history["loss"]) <= 0))
        True
    """
    loop.check(ratings, kernel, rank, epochs, watch)
    check_rows(features, ratings.n_users, ratings.n_items)
    if isinstance(kernel, Clicks):
        return clicks.fit(key, ratings, kernel, features, clicks.Settings(rank, prior, epochs, steps, cg_steps), watch)
    kernel, sweep = kernel.replace(unit=unit_of(ratings)), Sweep(steps, 3 if cg_steps is None else cg_steps)
    place = spread.where(ratings, features)
    task = Task(key, ratings, kernel, rank, features, epochs, sweep, watch.progress, place)
    found = evidence.given_or_found(prior, task)
    settings = {"prior": found.told, "features": features, **sweep._asdict()}
    state, log = loop.run(
        init(key, ratings, kernel=kernel, rank=rank, features=features),
        (place.histories(ratings, features), found.priors),
        place.sweep(sweep),
        loop.Run(ratings, kernel, epochs, REMEDY, settings, loop.rmse, solves=True, place=place),
        watch,
    )
    return found.fit(state, ratings, kernel, features, log)
