"""The factors that one has already, taken over by a recommender, and by a model that lives."""

from typing import NamedTuple

import numpy as np

from jaxmf.data.arrays import Column, Frame, to_frame
from jaxmf.data.history import History
from jaxmf.data.ids import Vocabulary
from jaxmf.data.ratings import Columns, Duplicates, Ratings, from_columns
from jaxmf.model.kernels import Clicks
from jaxmf.model.model import Model
from jaxmf.online import given
from jaxmf.serving.fitting import scale_of
from jaxmf.serving.frames import checked
from jaxmf.serving.layered import Layered
from jaxmf.serving.recommender import Recommender


class Converted(NamedTuple):
    """A model with the ids of its rows, in their order."""

    model: Model
    users: Vocabulary
    items: Vocabulary


def adopt(
    converted: Converted | tuple[Model, Column, Column],
    frame: Frame,
    *,
    user: str = "user",
    item: str = "item",
    rating: str | None = "rating",
    weight: str | None = None,
    duplicates: Duplicates | None = None,
) -> Recommender:
    """A recommender that predicts what another library's model does, and goes on from there.

    What a library's arrays don't say is found in the ratings: where a row stands before its ratings and how firmly by
    `jaxmf.given.ready`, how far ratings scatter by `jaxmf.given.noise`. A model of clicks has the numbers of its
    library's own objective, and no spread. Rows that the model has stay as they are until their ratings change; then
    they are solved, as all others are, under these priors. Users and items that the frame has and the model lacks are
    folded in.

    Args:
        converted: What `jaxmf.surprise.from_surprise` or `from_spark` gives; else (model, users, items), a model that
            another function of `jaxmf.interop` gives with the ids of its rows, in the order of the factors.
        frame: The ratings that are known, as `jaxmf.ratings.from_frame` takes them, and so with all that follows: those
            that the library was fitted to, and newer ones.
        user: Its columns' names.
        item: Likewise, and so on.
        rating: Likewise. `None` where each row is a click, for a model of clicks.
        weight: Likewise; how often, for clicks: the values of the matrix that the library was fitted to.
        duplicates: What to do where a user rated an item more than once.

    Raises:
        ValueError: If the model is not of the linear kernel or of clicks, there is not one id a row, an id comes twice,
            the frame can't be used or is of the other kind than the model, or the model predicts the ratings worse than
            their mean does, as one does whose ids are in another order.

    Cost: that of `jaxmf.given.ready`, and of the fold-in of new rows.

    Example:
        >>> import pandas as pd
        >>> from jaxmf.baselines.interop import from_factors
        >>> model = from_factors([[1.0], [-1.0]], [[1.0], [-1.0]], offset=3.0)
        >>> frame = pd.DataFrame({"user": ["ann", "ann", "bob"], "item": [7, 8, 7], "rating": [4.0, 2.0, 2.5]})
        >>> rec = adopt((model, ["ann", "bob"], [7, 8]), frame)
        >>> rec.predict({"user": ["bob"], "item": [8]})
        array([4.], dtype=float32)
    """
    columns = checked(Columns(user, item, rating, weight))
    model, users, items = _known(converted, columns)
    data = from_columns(frame, columns, duplicates=duplicates, users=users, items=items)
    ratings, frames = data.ratings, to_frame(frame).implementation.value
    scale, noise = scale_of(model.kernel, ratings), None
    if isinstance(model.kernel, Clicks):
        _check_clicks(model.kernel, ratings, columns)
    else:
        both = ratings.take((ratings.user < len(users)) & (ratings.item < len(items)))
        both = both.replace(n_users=len(users), n_items=len(items))
        model = given.ready(model, both)
        noise = given.noise(model, both, scale)
    layered, history = Layered.of(model), History(ratings)
    new_users, new_items = np.arange(len(users), len(data.users)), np.arange(len(items), len(data.items))
    if len(new_users) or len(new_items):
        layered = layered.solved(history.touching(users=new_users, items=new_items), new_users, new_items)
    settings = {"library": frames, "measured": noise}
    return Recommender(layered, data.users, data.items, history, columns, scale, **settings)


def _known(converted: Converted | tuple[Model, Column, Column], columns: Columns) -> Converted:
    """The model with its ids, checked.

    Raises:
        ValueError: If it is none, there is not one id a row, or the frame's rows are clicks and the model's are not.
    """
    model = converted[0] if isinstance(converted, tuple) and len(converted) == 3 else None
    if not isinstance(model, Model):
        raise ValueError(
            f"a model with the ids of its rows is needed, got {type(converted).__name__}: pass what from_surprise or "
            "from_spark gives, or (model, users, items)"
        )
    ids = [known if isinstance(known, Vocabulary) else Vocabulary(known) for known in converted[1:]]
    for side, known in zip(("user", "item"), ids, strict=True):
        rows = len(getattr(model.params, side))
        if len(known) != rows:
            raise ValueError(
                f"{len(known)} {side} ids for {rows} rows: give one id a row of the {side} factors, in their order"
            )
    if columns.rating is None and not isinstance(model.kernel, Clicks):
        raise ValueError(
            "rating=None takes each row for a click, and the model predicts ratings: name their column, or make a "
            "model of clicks, such as by from_implicit(…, alpha=…)"
        )
    return Converted(model, *ids)


def _check_clicks(kernel: Clicks, ratings: Ratings, columns: Columns) -> None:
    """Refuse ratings, and weights that a model of clicks can't take.

    Raises:
        ValueError: With the first of them.
    """
    wrong = (ratings.rating < kernel.low) | (ratings.rating > kernel.high)
    if wrong.any():
        raise ValueError(
            f"column {columns.rating!r} has a {ratings.rating[wrong.argmax()]:g}, and the model is of clicks: pass "
            "rating=None, and weight= where a column says how often"
        )
    kernel.check(ratings.weight)
