"""river's BiasedMF: online SGD, a rating at a time, in Python."""

from river import optim, reco

from benchmarks.task import Rounds, Task


def train(task: Task) -> Rounds:
    """One pass in order of time; it never sees a rating twice."""
    known = [column[task.in_time].tolist() for column in task.ratings()]
    user, item, _ = (column.tolist() for column in task.hidden())

    def fit() -> reco.BiasedMF:
        step = optim.SGD(0.007)
        start = optim.initializers.Normal(sigma=0.02, seed=0)
        reg = {"l2_bias": 0.02, "l2_latent": 0.02}
        model = reco.BiasedMF(n_factors=10, bias_optimizer=step, latent_optimizer=step, latent_initializer=start, **reg)
        for one in zip(*known, strict=True):
            model.learn_one(*one)
        return model

    def predict(model: reco.BiasedMF) -> list[float]:
        return [model.predict_one(*pair) for pair in zip(user, item, strict=True)]

    return {"river BiasedMF, one pass": lambda: task.trial(fit, predict)}
