"""Our model as an algorithm of Surprise's; since it imports Surprise, `jaxmf.surprise.KMF` loads it when asked."""

from numbers import Integral
from typing import Any

import jax
import numpy as np
from surprise import AlgoBase, Prediction, PredictionImpossible, Trainset
from surprise.utils import get_rng

from jaxmf.data.history import History
from jaxmf.data.ids import Vocabulary
from jaxmf.data.ratings import Columns, Ratings
from jaxmf.model.kernels import Kernel, for_range
from jaxmf.model.priors import Prior, Priors
from jaxmf.serving import models
from jaxmf.serving.fitting import Method, Settings, fit_model
from jaxmf.serving.layered import Layered
from jaxmf.serving.recommender import Recommender
from jaxmf.training.loop import Watch

UNKNOWN = "User and item are unknown."


class KMF(AlgoBase):
    """Kernel matrix factorisation for `cross_validate`, `GridSearchCV`, `train_test_split` and `dump`.

    A pair with one unknown side is predicted from the other's bias; with two it is impossible, and Surprise predicts
    the mean.

    Attributes:
        recommender: After `fit`, the `jaxmf.Recommender`, with its fold-in.
        users: Raw ids in row order, others among them; else the trainset's, in its order. A start is drawn row by row,
            so that with the same ids as elsewhere the fit is the same as elsewhere.
        items: The same of items.
        verbose: Whether a fit shows a progress bar.

    Example:
        >>> from surprise import Dataset, Reader
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"user": ["ann", "ann", "bob"], "item": [1, 2, 1], "rating": [4.0, 2.0, 5.0]})
        >>> data = Dataset.load_from_df(frame, Reader(rating_scale=(1, 5))).build_full_trainset()
        >>> algorithm = KMF(n_factors=2, n_epochs=3).fit(data)
        >>> algorithm.predict("ann", 1).details, algorithm.predict("eve", 3).details["was_impossible"]
        ({'was_impossible': False}, True)
    """

    recommender: Recommender
    users: Vocabulary | None = None
    items: Vocabulary | None = None
    verbose: bool = False

    def __init__(
        self,
        n_factors: int = 32,
        n_epochs: int | None = None,
        *,
        method: Method = "als",
        kernel: Kernel | str = "logistic",
        prior: Prior | Priors | None = None,
        implicit: bool = False,
        random_state: int | np.integer | np.random.RandomState | None = 0,
    ) -> None:
        """Settings under Surprise's names.

        Args:
            n_factors: Number of factors.
            n_epochs: Passes over the ratings; else the trainer's default.
            method: As in `jaxmf.Recommender.fit`, and so are `prior` and `implicit`.
            kernel: The kernel, or the kind of one for the trainset's rating scale.
            prior: The prior of both sides, or one each.
            implicit: Implicit feedback as features.
            random_state: Seed of all that is random; a generator, or `None` for NumPy's global one, draws it anew for
                each fit.
        """
        super().__init__()
        self.n_factors, self.n_epochs, self.method, self.kernel = n_factors, n_epochs, method, kernel
        self.prior, self.implicit, self.random_state = prior, implicit, random_state

    def fit(self, trainset: Trainset) -> "KMF":
        """Fit the trainset's ratings."""
        super().fit(trainset)
        raw_users = [trainset.to_raw_uid(at) for at in trainset.all_users()]
        raw_items = [trainset.to_raw_iid(at) for at in trainset.all_items()]
        users, items = self.users or Vocabulary(raw_users), self.items or Vocabulary(raw_items)
        self.user_rows, self.item_rows = users.encode(raw_users), items.encode(raw_items)
        self.row_of_user = dict(zip(raw_users, self.user_rows, strict=True))
        self.row_of_item = dict(zip(raw_items, self.item_rows, strict=True))
        user, item, rating = (np.array(column) for column in zip(*trainset.all_ratings(), strict=True))
        ratings = Ratings(
            user=self.user_rows[user],
            item=self.item_rows[item],
            rating=rating.astype(np.float32),
            weight=np.ones(len(rating), np.float32),
            n_users=len(users),
            n_items=len(items),
        )
        low, high = map(float, trainset.rating_scale)
        settings = Settings(
            kernel=for_range(low, high, self.kernel) if isinstance(self.kernel, str) else self.kernel,
            method=self.method,
            rank=self.n_factors,
            prior=self.prior,
            epochs=self.n_epochs,
            implicit=self.implicit,
            watch=Watch(progress=self.verbose),
        )
        model = fit_model(jax.random.key(self._seed()), ratings, settings)
        self.recommender = Recommender(Layered.of(model), users, items, History(ratings), Columns(), (low, high))
        return self

    def _seed(self) -> int:
        generator = get_rng(self.random_state)
        return int(self.random_state) if isinstance(self.random_state, Integral) else int(generator.randint(2**31 - 1))

    def estimate(self, u: int | np.integer | str, i: int | np.integer | str) -> float:
        """One prediction, by Surprise's inner ids; unknown ones are strings."""
        user = self.user_rows[u] if isinstance(u, Integral) else -1
        item = self.item_rows[i] if isinstance(i, Integral) else -1
        if max(user, item) < 0:
            raise PredictionImpossible(UNKNOWN)
        return float(models.predict(self.recommender.layered, np.array([user]), np.array([item]))[0])

    def test(self, testset: list[tuple[Any, Any, float]], verbose: bool = False) -> list[Prediction]:
        """The predictions of `predict`, of all pairs at once; one by one where Surprise is to print them."""
        if verbose:
            return super().test(testset, verbose=True)
        user = np.array([self.row_of_user.get(pair[0], -1) for pair in testset], np.int32)
        item = np.array([self.row_of_item.get(pair[1], -1) for pair in testset], np.int32)
        impossible = np.maximum(user, item) < 0
        estimate = np.where(impossible, self.default_prediction(), models.predict(self.recommender.layered, user, item))
        return [
            Prediction(
                *pair, float(est), {"was_impossible": True, "reason": UNKNOWN} if no else {"was_impossible": False}
            )
            for pair, est, no in zip(testset, np.clip(estimate, *self.trainset.rating_scale), impossible, strict=True)
        ]
