"""A recommender: ids, a model and the ratings it was trained on, in one immutable bundle for the host side."""

import os
from collections.abc import Hashable
from typing import Literal

import jax
import numpy as np
from jaxtyping import Float

from jaxmf.data.arrays import Frame, to_frame
from jaxmf.data.history import History
from jaxmf.data.ratings import Columns, Duplicates, from_columns
from jaxmf.data.settings import check_choice, check_whole
from jaxmf.keeping.checkpoint import Checkpoint, read, write
from jaxmf.keeping.files import sensible
from jaxmf.model.kernels import Kernel
from jaxmf.model.posterior import Posterior
from jaxmf.model.priors import Prior, Priors
from jaxmf.serving import answers, models, shapes, updates
from jaxmf.serving.bundle import Bundle
from jaxmf.serving.fitting import Method, Settings, fit_model, kernel_of, scale_of
from jaxmf.serving.frames import Ids, Unknown, UnknownItems, checked, known_items, pair_rows
from jaxmf.serving.layered import Layered
from jaxmf.training.loop import Watch

Solved = Literal["new", "touched"]
KIND = "recommender"


class Recommender(Bundle):
    """Ids, a model and its ratings; nothing that a method returns shares what another changes.

    It costs its arrays. Frames are of any library that narwhals reads, and come back in the one given. A dict of
    columns or a list of records, as a JSON body has them, is taken for a frame everywhere.

    Its attributes are those of a `jaxmf.serving.bundle.Bundle`.

    Example:
        >>> import pandas as pd
        >>> user, item = np.divmod(np.arange(40), 8)
        >>> frame = pd.DataFrame({"user": user, "item": item, "rating": 1.0 + (user + item) % 5})
        >>> rec = Recommender.fit(frame, rank=2)
        >>> new = rec.fold_in(pd.DataFrame({"user": [99, 99], "item": [0, 3], "rating": [5.0, 1.0]}))
        >>> new.recommend([99], n=1)[["user", "item", "rank"]].values.tolist()
        [[99, 5, 1]]
    """

    @classmethod
    def fit(  # noqa: PLR0913 the one door where a person names everything
        cls,
        frame: Frame,
        *,
        user: str = "user",
        item: str = "item",
        rating: str | None = "rating",
        weight: str | None = None,
        timestamp: str | None = None,
        duplicates: Duplicates | None = None,
        kernel: Kernel | str | None = None,
        method: Method = "als",
        rank: int = 32,
        prior: Prior | Priors | None = None,
        epochs: int | None = None,
        implicit: bool = False,
        seed: int = 0,
        progress: bool = False,
        watch: Watch = Watch(),
        keep_history: bool = True,
    ) -> "Recommender":
        """A recommender fitted to a frame of ratings or of clicks, one a row.

        Args:
            frame: The ratings, as `jaxmf.ratings.from_frame` takes them, and so with all down to `duplicates`.
            user: Its columns' names.
            item: Likewise, and so on.
            rating: Likewise. `None` where there is none: each row is a click, or some event of its weight, and the
                kernel `jaxmf.kernels.Clicks`.
            weight: Likewise.
            timestamp: Likewise.
            duplicates: What to do where a user rated an item more than once.
            kernel: The kernel, or the name of one over the data's range, "logistic" where none is given, and for clicks
                "clicks".
            method: The trainer: alternating least squares, SGD, or Gibbs sampling.
            rank: Number of factors.
            prior: The prior of both sides, or one each, for "sgd" and "als"; else they find it in the ratings.
            epochs: Passes over the ratings, sweeps for "gibbs"; else the trainer's default.
            implicit: Which items a user rated, and which users an item, say what its row is like (SVD++).
            seed: Seed of all that is random.
            progress: Show a progress bar.
            watch: Validation, early stopping, a callback, a keeper. Validation ratings are rows, as
                `jaxmf.ratings.from_columns` gives them with the `users` and `items` that `from_frame` gives of `frame`.
            keep_history: Keep the ratings, which later updates of these users and items need.

        Raises:
            ValueError: If the frame or a setting can't be used.
        """
        columns = checked(Columns(user, item, rating, weight, timestamp))
        key = jax.random.key(check_whole("seed", seed, least=0, meaning="the seed of all that is random"))
        ratings, users, items, _ = from_columns(frame, columns, duplicates=duplicates)
        kernel = kernel_of(kernel, ratings, rated=rating is not None)
        scale = scale_of(kernel, ratings)
        watch = watch._replace(progress=progress or watch.progress)
        settings = Settings(kernel, method, rank, prior, epochs, implicit, watch)
        model = fit_model(key, ratings, settings)
        library = to_frame(frame).implementation.value
        fitted = cls(Layered.of(model), users, items, History(ratings), columns, scale, library=library)
        return fitted if keep_history else fitted.without_history()

    def predict(self, pairs: Frame, *, unknown: Unknown = "bias") -> Float[np.ndarray, " n"]:
        """Predicted ratings of the pairs in a frame's user and item columns, clipped to the scale.

        Args:
            pairs: The frame.
            unknown: What a pair with an unknown id gets: the prediction for a row at its prior mean (μ + the other
                side's bias, μ where neither is known), NaN, or an error.

        Raises:
            ValueError: If a column is missing, or an id is unknown and that is an error.
        """
        user, item = pair_rows(pairs, self.sides, unknown=unknown)
        predicted = np.clip(models.predict(self.layered, user, item), *self.scale)
        return np.where((user < 0) | (item < 0), np.nan, predicted) if unknown == "nan" else predicted

    def predict_std(self, pairs: Frame, *, unknown: Unknown = "bias") -> Float[np.ndarray, " n"]:
        """Standard deviations of the ratings of the pairs about their predictions, noise included; else as `predict`.

        A posterior's is its own. A point estimate's is estimated on the training ratings: their noise, and by Laplace's
        method what the ratings of the user and of the item leave open; it needs the history of both.

        Raises:
            ValueError: As `predict`, or if the history that it needs was dropped.
        """
        user, item = pair_rows(pairs, self.sides, unknown=unknown)
        answers.check_spread(self.layered.model, self.frozen)
        if isinstance(self.layered.model, Posterior):
            std = models.spread(self.layered, user, item)
        else:
            std = models.std(self.model, self.history, self.noise, user, item)
        return np.where((user < 0) | (item < 0), np.nan, std) if unknown == "nan" else std

    def fold_in(
        self, frame: Frame, *, items: Solved = "new", unknown_items: UnknownItems | None = None
    ) -> "Recommender":
        """A recommender that knows the ratings of `frame` too; this one stays as it is.

        The last rating of a pair wins; clicks of one are added up. The rows of all users in the frame, new or known,
        and of its new items are solved; nothing is trained again. It costs the ratings of those rows, however long the
        history is and however many users there are; a new item costs a copy of the tables. Without ratings it is the
        recommender as it is, to which a new user is a stranger.

        Args:
            frame: What is new, in columns of the names that `fit` was given.
            items: Whether the rows of known items in the frame are solved as well: they hardly move unless they had few
                ratings, and the cost is all their ratings.
            unknown_items: What to do with the rating of an item that is not known: give the item a row, refuse, or
                leave the rating out. By default the item is new; it is an error to the serving form
                (`without_users`), since a request is no place for the catalogue to grow.

        Raises:
            ValueError: If the frame can't be used, or a row's history was dropped and it can't be solved again.
        """
        check_choice("items", items, Solved)
        unknown_items = unknown_items or ("error" if self.frozen[1] and not self.frozen[0] else "new")
        given = known_items(to_frame(frame), self.sides.item, unknown_items)
        if not len(given):
            return self
        data = from_columns(given, self.columns, duplicates=self.repeated, users=self.users, items=self.items)
        return updates.folded(self, data, touched=items == "touched")

    def forget(self, users: Ids = None, *, pairs: Frame | None = None) -> "Recommender":
        """A recommender without these users, their rows and their ratings, or without the ratings of these pairs.

        The rows of the users who stay and of the items that lost a rating are solved again. What other rows learnt
        through those stays; a fit without the ratings leaves no trace at all.

        Args:
            users: Ids, or as in `recommend`; O(history), since all others are numbered anew.
            pairs: Instead of them a frame, whose pairs of user and item lose their rating.

        Raises:
            ValueError: If an id is unknown, a pair has no rating, a row's history was dropped, or nobody would be left.
        """
        if pairs is None:
            return updates.without_users(self, np.unique(answers.chosen(self.sides.user, users, "users")))
        if users is not None:
            raise ValueError("users and pairs are both given: forget whole users, or the ratings of some pairs")
        return updates.without_pairs(self, *pair_rows(pairs, self.sides, unknown="error"))

    def warm(self, *, ratings: int = 1000, users: int = 1, n: int = 10) -> None:
        """Compile what requests need, so that none of them waits: `fold_in` of known items' ratings, and `recommend`.

        An item that is new changes the table of items, and then everything is compiled again; what looks up users'
        rows is when their table doubles.

        Args:
            ratings: Most ratings of the users of a request together, those that they had before included.
            users: Most users of a request.
            n: Most items to recommend to each.

        Raises:
            ValueError: If one of them is below 1.
        """
        for name, given in (("ratings", ratings), ("users", users), ("n", n)):
            check_whole(name, given, least=1, meaning="what a request has at most")
        shapes.warm(self.layered, len(self.users), self.scale[0], ratings=ratings, users=users, n=n)

    def without_history(self) -> "Recommender":
        """The same without ratings: it answers and folds new users in; rows of its own can't be solved again."""
        return updates.without_history(self)

    def without_users(self) -> "Recommender":
        """The serving form: items alone. `fold_in` of a request's ratings gives a recommender of just those users."""
        return updates.items_alone(self)

    def recommend(
        self, users: Ids, n: int = 10, *, exclude_seen: bool = True, candidates: Ids = None, exclude: Ids = None
    ) -> Frame:
        """The `n` items with the highest predictions for each user: a frame of user, item, rank (from 1) and score.

        The score is the predicted rating, not clipped. A user who is unknown gets what a row at its prior mean gets.

        Args:
            users: Ids, or a frame, or a column of one, whose library the answer comes in.
            n: Items a user; fewer where there are not so many.
            exclude_seen: Leave out what the user has rated.
            candidates: Ids of the only items to choose from.
            exclude: Ids of items to leave out.

        Raises:
            ValueError: If `n` is below 1, an item is unknown, or what a user has rated was dropped with the history.
        """
        few = {"exclude_seen": exclude_seen, "candidates": candidates, "exclude": exclude}
        return answers.best(self, users, n, **few)

    def similar_items(self, items: Ids, n: int = 10, *, candidates: Ids = None, exclude: Ids = None) -> Frame:
        """Each item's `n` nearest others by `jaxmf.neighbours`: a frame of item, neighbour, rank (from 1) and score.

        Args:
            items: Ids, or as in `recommend`, and so are the rest.
            n: Neighbours an item.
            candidates: Ids of the only items to choose from: one with few ratings lies in some direction by chance.
            exclude: Ids of items to leave out.

        Raises:
            ValueError: If `n` is below 1, an id is unknown, or the model is a posterior.
        """
        return answers.similar(self, self.sides.item, items, n, candidates=candidates, exclude=exclude)

    def similar_users(self, users: Ids, n: int = 10, *, candidates: Ids = None, exclude: Ids = None) -> Frame:
        """Each user's `n` nearest others; else as `similar_items`."""
        return answers.similar(self, self.sides.user, users, n, candidates=candidates, exclude=exclude)

    def explain(self, user: Hashable, item: Hashable) -> Frame:
        """Each item that the user rated, the rating, and its contribution to the score of `item`, largest first.

        Contributions are `jaxmf.explain`'s, in the unit of ratings: they sum to the score less that for a user without
        ratings.

        Raises:
            ValueError: If an id is unknown, the model is a posterior, or the user's ratings were dropped with the
                history.
        """
        return answers.explained(self, user, item)

    def save(self, path: str | os.PathLike) -> None:
        """Save as a `jaxmf.checkpoint`, in place of the one that is at `path` if there is one.

        Raises:
            ValueError: If something else is at `path`, or an id or the kernel can't be kept.
            ImportError: If Orbax is not installed.
        """
        write(path, Checkpoint(KIND, *self.contents()))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Recommender":
        """The recommender that was saved at `path`; nothing in a checkpoint is run.

        Raises:
            ValueError: If there is none, or it is truncated, altered, too new, or makes no sense.
            ImportError: If Orbax is not installed.
        """
        _, arrays, documents = read(path, KIND)
        with sensible(path):
            return cls.of_contents(arrays, documents)
