"""river's models on a stream: `python -m benchmarks.peers.river_stream STREAM.npz OUT.npz`, where river is installed.

With the settings of river's own page on MovieLens 100K (Baseline .954, BiasedMF .948), a rating at a time.
"""

import sys
import time

import numpy as np
from river import optim, reco


def systems() -> dict[str, reco.Baseline | reco.BiasedMF]:
    """What river's page runs."""
    zeros, step = optim.initializers.Zeros(), optim.SGD(0.025)
    factors = {"latent_optimizer": optim.SGD(0.05), "latent_initializer": optim.initializers.Normal(sigma=0.1, seed=73)}
    none = {"weight_initializer": zeros, "l2_bias": 0.0, "l2_latent": 0.0}
    return {
        "river Baseline": reco.Baseline(optimizer=step, l2=0.0, initializer=zeros),
        "river BiasedMF": reco.BiasedMF(n_factors=10, bias_optimizer=optim.SGD(0.025), **factors, **none),
    }


def main(stream: str, out: str) -> None:
    """Write each system's predictions, and its seconds."""
    columns = [column.tolist() for column in np.load(stream).values()]
    found = {}
    for name, model in systems().items():
        predicted, began = [], time.perf_counter()
        for user, item, rating in zip(*columns, strict=True):
            predicted.append(model.predict_one(user, item))
            model.learn_one(user, item, rating)
        found[name] = np.array([*predicted, time.perf_counter() - began])
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
