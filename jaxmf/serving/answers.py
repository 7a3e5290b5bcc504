"""A recommender's answers as frames: ids in, ids out."""

from collections.abc import Hashable

import numpy as np
from jaxtyping import Int

from jaxmf.data.arrays import to_values
from jaxmf.data.settings import check_whole
from jaxmf.model.kernels import Clicks
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.serving import neighbours, shapes
from jaxmf.serving.bundle import Bundle
from jaxmf.serving.explain import explain
from jaxmf.serving.frames import Frame, Ids, Side, answer, asked, of_users, rows_of_ids
from jaxmf.serving.recommend import TopN


def best(
    known: Bundle, users: Ids, n: int, *, exclude_seen: bool, candidates: Ids | None, exclude: Ids | None
) -> Frame:
    """What `Recommender.recommend` answers.

    Raises:
        ValueError: As it says.
    """
    sides = known.sides
    ids, library = asked(users, sides.user, known.library, "users")
    rows = rows_of_ids(sides.user, ids)
    if exclude_seen:
        check_history(sides.user, rows, "pass exclude_seen=False, or ")
    few = _choice(sides.item, candidates, exclude)
    n = min(check_whole("n", n, least=1, meaning="the length of each list"), max(1, len(sides.item.known)))
    seen = of_users(known.history.of_users(rows[rows >= 0]), rows) if exclude_seen else None
    found = shapes.best(known.layered, rows, n=n, seen=seen, **few)
    return _frame(found, ids, sides.item, (sides.user.column, sides.item.column), library)


def similar(known: Bundle, side: Side, given: Ids, n: int, *, candidates: Ids | None, exclude: Ids | None) -> Frame:
    """What `Recommender.similar_items` answers, or for the other side `similar_users`.

    Raises:
        ValueError: As they say.
    """
    ids, library = asked(given, side, known.library, f"{side.name}s")
    rows = rows_of_ids(side, ids, remedy="fold it in first")
    few = _choice(side, candidates, exclude)
    nearest = neighbours.similar_users if side.name == "user" else neighbours.similar_items
    n = min(check_whole("n", n, least=1, meaning="the length of each list"), max(1, len(side.known)))
    found = nearest(known.model, rows, n=n, **few)
    return _frame(found, ids, side, (side.column, "neighbour"), library)


def explained(known: Bundle, user: Hashable, item: Hashable) -> Frame:
    """What `Recommender.explain` answers.

    Raises:
        ValueError: As it says.
    """
    model, sides = known.model, known.sides
    if not isinstance(model, Model):
        raise ValueError('a posterior has no one prediction to take apart: fit with method="als" or "sgd"')
    rows = rows_of_ids(sides.user, [user], remedy="fold it in first")
    check_history(sides.user, rows)
    (at,) = rows_of_ids(sides.item, [item], remedy="fold it in first")
    theirs = known.history.of_users(rows)
    why = explain(model, theirs, int(at))
    order = np.argsort(-why.contribution, kind="stable")
    columns = {
        sides.item.column: to_values(sides.item.known.decode(theirs.item[order]), "items"),
        "rating": theirs.rating[order],
        "contribution": why.contribution[order],
    }
    return answer(columns, known.library)


def chosen(side: Side, ids: Ids, name: str) -> Int[np.ndarray, " n"]:
    """Rows of the ids that the argument `name` gives.

    Raises:
        ValueError: If they are no list of ids, or one is unknown.
    """
    return rows_of_ids(side, asked(ids, side, "", name)[0], remedy="leave it out, or fold it in first")


def check_spread(model: Model | Posterior, frozen: tuple[int, int]) -> None:
    """Refuse the spread of clicks, and of a point estimate whose history was dropped.

    Raises:
        ValueError: With how many users and items have none.
    """
    if isinstance(model.kernel, Clicks):
        raise ValueError("clicks have no spread: most of their zeros were not observed; rank them instead")
    if isinstance(model, Model) and any(frozen):
        raise ValueError(
            f"the ratings of {frozen[0]} users and {frozen[1]} items were dropped with the history, and the spread of "
            'a point estimate needs them: fit with keep_history=True, or method="gibbs"'
        )


def check_history(side: Side, rows: Int[np.ndarray, " b"], remedy: str = "") -> None:
    """Refuse rows whose ratings were dropped, where they are needed.

    Raises:
        ValueError: With the first such id, and another `remedy` than to keep the history.
    """
    without = rows[(rows >= 0) & (rows < side.frozen)]
    if len(without):
        raise ValueError(
            f"the ratings of {side.name} {side.known.index[without].tolist()[0]!r} were dropped with the history, and "
            f"this needs them: {remedy}fit with keep_history=True"
        )


def _choice(side: Side, candidates: Ids | None, exclude: Ids | None) -> dict[str, Int[np.ndarray, " n"] | None]:
    """Those arguments of `top_n` as rows."""
    given = {"candidates": candidates, "exclude": exclude}
    return {name: None if ids is None else chosen(side, ids, name) for name, ids in given.items()}


def _frame(found: TopN, ids: np.ndarray | list, side: Side, names: tuple[str, str], library: str) -> Frame:
    """Of each of the `ids` the rows found on a side, with their ids, ranks from 1, and scores."""
    at, rank = np.nonzero(found.item < len(side.known))
    columns = {
        names[0]: ids[at] if isinstance(ids, np.ndarray) else [ids[row] for row in at],
        names[1]: to_values(side.known.decode(found.item[at, rank]), "items"),
        "rank": rank + 1,
        "score": found.score[at, rank],
    }
    return answer(columns, library)
