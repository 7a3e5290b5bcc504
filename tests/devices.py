"""What is trained and asked over 1, 2, 4 and 8 devices of this process: `python devices.py FILE`."""

import contextlib
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from reference import random_ratings

import jaxmf
from jaxmf.data.features import Sides
from jaxmf.model.kernels import Clicks, Linear, Logistic
from jaxmf.training import spread

COUNTS = (1, 2, 4, 8)
LONG = 20_000
"""Ratings of an item whose pages fill more than a block, on each of two devices too."""

NAMES = ("als", "als_logistic", "clicks", "fold_in", "fold_in_posterior", "top_n", "few_users", "long_rows")


def found(posterior: jaxmf.Posterior) -> dict[str, list]:
    """Numbers of everything, as one process finds them on the devices that it trains over."""
    rng = np.random.default_rng(0)
    key, ratings, new = jax.random.key(0), random_ratings(rng, 203, 90, 3000), random_ratings(rng, 1100, 90, 9000)
    watch = jaxmf.Watch(validation=ratings.take(np.arange(500)))
    linear = jaxmf.als.fit(key, ratings, kernel=Linear(), rank=8, epochs=4, watch=watch)
    logistic = jaxmf.als.fit(key, ratings, kernel=Logistic(0.5, 5.0), rank=8, prior=jaxmf.priors.Prior(), epochs=4)
    played, more = (one.replace(rating=np.ones_like(one.rating)) for one in (ratings, new))
    clicks = jaxmf.als.fit(key, played, kernel=Clicks(), rank=8, epochs=4)
    folded = [jaxmf.fold_in.fold_in_users(*given) for given in ((linear.model, new), (clicks.model, more))]
    drawn = jaxmf.fold_in.fold_in_users(posterior, new)
    top = jaxmf.recommend.top_n(folded[0], np.arange(1100), n=10, seen=new)
    every = np.arange(203), np.arange(203) % 90
    products = [one.params.user.factors @ one.params.item.factors.T for one in (clicks.model, folded[1])]
    few = random_ratings(rng, 5, 30, 100)
    user = np.arange(LONG, dtype=np.int32)
    long = few.replace(
        user=user,
        item=user // (LONG - 5),
        rating=few.rating[user % 100],
        weight=np.ones(LONG, np.float32),
        n_users=LONG,
    )
    place, start = spread.where(ratings, Sides()), jaxmf.als.init(key, ratings, kernel=Linear(), rank=8)
    rows = place.spread(start).params.user.bias.addressable_shards[0].data.shape[0]
    return {
        "rows": [np.array(rows)],
        "als": [
            *_numbers(linear),
            linear.history["rmse"],
            jaxmf.params.predict(linear.model.params, linear.model.kernel, *every),
        ],
        "als_logistic": _numbers(logistic),
        "clicks": [clicks.history["loss"], products[0]],
        "fold_in": [*jax.tree.leaves(folded[0].params.user), products[1]],
        "fold_in_posterior": jax.tree.leaves(drawn.draws.params.user),
        "top_n": [top.item, top.score],
        "few_users": _numbers(jaxmf.als.fit(key, few, kernel=Linear(), rank=3, epochs=3)),
        "long_rows": _numbers(jaxmf.als.fit(key, long, kernel=Linear(), rank=2, epochs=2)),
    }


def resumed(folder: str) -> dict[str, np.ndarray]:
    """A fit over two devices that ends after two of its four sweeps and goes on over four, and one of one device."""
    ratings = random_ratings(np.random.default_rng(0), 203, 90, 3000)

    def fit(watch: jaxmf.Watch) -> jaxmf.Fit:
        return jaxmf.als.fit(jax.random.key(0), ratings, kernel=Logistic(0.5, 5.0), rank=8, epochs=4, watch=watch)

    def stop(epoch: int, *_: object) -> None:
        if epoch == 3:
            raise InterruptedError

    keeper = jaxmf.checkpoint.Keeper(folder)
    with jaxmf.sharding.over(jax.devices()[:2]), contextlib.suppress(InterruptedError):
        fit(jaxmf.Watch(keeper=keeper, callback=stop))
    with jaxmf.sharding.over(jax.devices()[:4]):
        later = fit(jaxmf.Watch(keeper=keeper))
    whole = fit(jaxmf.Watch())
    pairs = zip(_numbers(later)[1:], _numbers(whole)[1:], strict=True)
    both = {
        f"{name}.{at}": array
        for at, pair in enumerate(pairs)
        for name, array in zip(("later", "whole"), pair, strict=True)
    }
    return both | {"later.sweeps": np.array(len(later.history["loss"]))}


def _numbers(fit: jaxmf.als.Fit) -> list:
    return [fit.history["loss"], *jax.tree.leaves(fit.model.params)]


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    numbers, key = {}, jax.random.key(0)
    posterior = jaxmf.gibbs.fit(
        key, random_ratings(np.random.default_rng(0), 203, 90, 3000), rank=4, sweeps=6, burn=2, keep=3
    ).posterior
    for count in COUNTS:
        with jaxmf.sharding.over(jax.devices()[:count]):
            for name, arrays in found(posterior).items():
                numbers |= {f"{count}.{name}.{at}": np.asarray(array) for at, array in enumerate(arrays)}
    with tempfile.TemporaryDirectory() as folder:
        numbers |= resumed(f"{folder}/run")
    np.savez(Path(sys.argv[1]), **numbers)
