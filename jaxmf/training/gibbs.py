"""Gibbs sampling: chains of sweeps, the draws that are kept of them, and the mean of what they predict."""

from functools import partial
from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, Key, ScalarLike

from jaxmf import sharding
from jaxmf.data.features import Sides, check_rows
from jaxmf.data.packing import even
from jaxmf.data.ratings import Ratings, filled
from jaxmf.model.kernels import Kernel, Linear, refuse_clicks, unit_of
from jaxmf.model.likelihoods import Gaussian, Likelihood
from jaxmf.model.params import Params
from jaxmf.model.posterior import Draw, Posterior
from jaxmf.training import loop
from jaxmf.training.centring import centred_posterior
from jaxmf.training.loop import Info, Watch
from jaxmf.training.sampler import Data, State, data_of, init, step

__all__ = ["Chain", "Data", "GibbsFit", "State", "fit", "init", "step"]


@no_type_check
class Chain(struct.PyTreeNode):
    """A chain with what it has gathered; with an axis more in front, several chains.

    Attributes:
        state: The chain's state.
        kept: Draws kept so far, in order; the rest zeros.
        total: Sum of predicted ratings of the validation part over the sweeps since burn-in.
        sweep: Sweeps done.
        burn: Sweeps that are forgotten.
        span: Sweeps that are not, over which the kept draws are spread.
    """

    state: State
    kept: Draw
    total: Float[Array, " n"]
    sweep: Int[Array, ""]
    burn: int = struct.field(pytree_node=False)
    span: int = struct.field(pytree_node=False)

    @property
    def params(self) -> Params:
        """Rows of the last draw, with the chains' axis in front."""
        return self.state.draw.params


class GibbsFit(NamedTuple):
    """What `fit` returns.

    Attributes:
        posterior: The kept draws of all chains, one chain after the other.
        history: Per sweep: `loss` (see `step`), the noise precision `noise` of each chain, and the `rmse` of the
            running mean on the validation part.
        seconds: Wall time of training, compilation apart.
        compile_seconds: Wall time of tracing and compiling.
        predicted: Mean of the validation part's predictions over all sweeps since burn-in of all chains; not clipped.
    """

    posterior: Posterior
    history: dict[str, np.ndarray]
    seconds: float
    compile_seconds: float
    predicted: np.ndarray

    def __repr__(self) -> str:
        return loop.told("GibbsFit", self.posterior, loop.Log(*self[1:4]))


def fit(  # noqa: PLR0913 a trainer
    key: Key[Array, "*chains"],
    ratings: Ratings,
    *,
    kernel: Kernel = Linear(),
    likelihood: Likelihood = Gaussian(),
    rank: int = 10,
    features: Sides = Sides(),
    sweeps: int = 300,
    burn: int = 10,
    keep: int = 40,
    watch: Watch = Watch(),
) -> GibbsFit:
    """Fit by Gibbs sampling.

    Args:
        key: Random key of the chain; or several, `jax.random.split(key, chains)`, of as many chains that run side by
            side, each from a start of its own.
        ratings: Training ratings, on the host.
        kernel: The kernel; for the linear one every row's draw is exact.
        likelihood: What a rating is: a number, or with `jaxmf.likelihoods.Ordinal(np.unique(ratings.rating))` one of
            ordered steps.
        rank: Number of factors.
        features: Features of either side; for SVD++ on both, `jaxmf.features.implicit_sides(ratings)`.
        sweeps: Sweeps of each chain.
        burn: Sweeps that are forgotten. A chain's rows are soon as large as they will stay, and its predictions agree
            with other chains' from then on: on validation parts of four data sets 10 predict as 60 do, or better, for
            the sweeps that they leave. Precisions of columns move slowly all along: to judge them, forget more.
        keep: Draws to keep of the rest, evenly spaced, as many of each chain: the posterior that is returned, and
            folded in with.
        watch: Validation, progress. The validation part's predictions are averaged over every sweep since burn-in.

    Raises:
        ValueError: If a setting or a rating is out of range.

    Cost: that of one chain times their number, compiled once.

    Example:
        >>> user, item = np.divmod(np.arange(12), 4)
        >>> ratings = Ratings(user, item, 1.0 + (user + item) % 5, np.ones(12), n_users=3, n_items=4)
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> fit(keys, ratings, rank=2, sweeps=20, burn=10, keep=6).posterior
        Posterior(6 draws of 3 users, 4 items, rank 2, Linear())
    """
    keys = jnp.atleast_1d(key)
    chains = len(keys)
    likelihood.check(np.asarray(ratings.rating), kernel)
    refuse_clicks(kernel, "gibbs")
    sharding.refuse("Gibbs sampling")
    loop.check(ratings, kernel, rank, sweeps, watch)
    check_rows(features, ratings.n_users, ratings.n_items)
    kernel = kernel if likelihood.latent else kernel.replace(unit=unit_of(ratings))
    _check(sweeps=sweeps, burn=burn, keep=keep, chains=chains, watch=watch)
    held = None if watch.validation is None else filled(watch.validation, even(len(watch.validation)))
    n = 0 if held is None else len(held)

    def start(key: Key[Array, ""]) -> State:
        return init(key, ratings, kernel=kernel, rank=rank, likelihood=likelihood, features=features)

    settings = {
        "likelihood": type(likelihood).__name__,
        "features": features,
        "burn": burn,
        "keep": keep,
        "chains": chains,
        "validation": watch.validation,
    }
    state = jax.vmap(start)(keys)
    of = loop.Run(ratings, kernel, sweeps, "standardise the features", settings, _running_rmse, solves=True)
    data = data_of(ratings, likelihood, features), held
    kept, total = _room(state.draw, keep // chains, n)
    begin = Chain(state, kept, total, jnp.zeros(chains, jnp.int32), burn, sweeps - burn)
    chain, log = loop.run(begin, data, _SWEEPS[chains > 1], of, watch)
    predicted = np.asarray(chain.total.mean(0))[: len(watch.validation or ())] / (sweeps - burn)
    posterior = Posterior(_one_after_another(chain.kept), kernel, jax.random.fold_in(keys[0], 1), features.implicit)
    posterior = centred_posterior(posterior, ratings)
    return GibbsFit(posterior, log.history, log.seconds, log.compile_seconds, predicted)


@partial(jax.jit, static_argnames=("keep", "n"))
def _room(draw: Draw, keep: int, n: int) -> tuple[Draw, Float[Array, "chains n"]]:
    """What chains have gathered before their first sweep: zeros for `keep` draws each and for `n` predictions."""
    chains = len(draw.noise)
    kept = jax.tree.map(lambda x: jnp.zeros((chains, keep, *x.shape[1:]), x.dtype), draw)
    return kept, jnp.zeros((chains, n))


@jax.jit
def _one_after_another(kept: Draw) -> Draw:
    """Every chain's draws along one axis."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), kept)


def _one_chain(chain: Chain, data: tuple[Data, Ratings | None], kernel: Kernel) -> tuple[Chain, Info]:
    """A sweep of a single chain without the axis of chains, which costs it a third of its time."""
    swept = _sweep(jax.tree.map(lambda x: x[0], chain), *data, kernel=kernel)
    chain, info = jax.tree.map(lambda x: x[None], swept)
    return chain, info | {"loss": info["loss"].mean()}


def _several_chains(chain: Chain, data: tuple[Data, Ratings | None], kernel: Kernel) -> tuple[Chain, Info]:
    """A sweep of every chain, side by side."""
    chain, info = jax.vmap(lambda chain: _sweep(chain, *data, kernel=kernel))(chain)
    return chain, info | {"loss": info["loss"].mean()}


_SWEEPS = (_one_chain, _several_chains)


def _sweep(chain: Chain, data: Data, validation: Ratings | None, *, kernel: Kernel) -> tuple[Chain, Info]:
    """One chain's sweep, and what it leaves: a kept draw when one is due, predictions of the validation part."""
    state, info = step(chain.state, data, kernel=kernel)
    after, keep = chain.sweep + 1 - chain.burn, len(chain.kept.noise)
    slot, before = after * keep // chain.span, (after - 1) * keep // chain.span
    due, at = (after > 0) & (slot > before), jnp.maximum(slot - 1, 0)

    def kept_in(all: Array, one: Array) -> Array:
        return lax.dynamic_update_index_in_dim(all, jnp.where(due, one, all[at]), at, 0)

    told = state.told(data.ratings.weight, data.ratings.user)
    kept = jax.tree.map(kept_in, chain.kept, told)
    total = chain.total
    if validation is not None:
        total += jnp.where(after > 0, state.draw.predict(kernel, validation.user, validation.item), 0)
    return chain.replace(state=state, kept=kept, total=total, sweep=chain.sweep + 1), info | {"noise": told.noise}


def _check(*, sweeps: int, burn: int, keep: int, chains: int, watch: Watch) -> None:
    if not 0 <= burn < sweeps:
        raise ValueError(f"burn must be between 0 and the {sweeps} sweeps, got {burn}: some must be left")
    if not chains >= 1:
        raise ValueError("no key: a chain needs one, and several chains one each")
    if not (chains <= keep <= chains * (sweeps - burn) and keep % chains == 0):
        raise ValueError(
            f"keep must be a multiple of the {chains} chains and at most their {chains * (sweeps - burn)} sweeps "
            f"after burn-in, got {keep}"
        )
    if watch.patience is not None:
        raise ValueError(f"patience={watch.patience}: a chain has no best sweep to stop at; set `sweeps` instead")


def _running_rmse(
    chain: Chain, kernel: Kernel, validation: Ratings, low: ScalarLike, high: ScalarLike
) -> Float[Array, ""]:
    """RMSE of the running mean, and before the first sweep after burn-in of the first chain's last draw."""
    count = chain.sweep[0] - chain.burn
    last = jax.tree.map(lambda x: x[0], chain.state.draw).predict(kernel, validation.user, validation.item)
    predicted = jnp.where(count > 0, chain.total.mean(0) / jnp.maximum(count, 1).astype(jnp.float32), last)
    squares = (validation.rating - jnp.clip(predicted, low, high)) ** 2
    return jnp.sqrt(jnp.sum(validation.weight * squares) / jnp.sum(validation.weight))
