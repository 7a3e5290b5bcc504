"""What a recommender holds: ids, a model and the ratings that its rows come from, which go together."""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from jaxmf.data.history import History
from jaxmf.data.ids import Vocabulary
from jaxmf.data.ratings import Columns, Duplicates, Ratings
from jaxmf.keeping import kept
from jaxmf.keeping.kept import Document
from jaxmf.model.kernels import Clicks
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.serving import models
from jaxmf.serving.frames import Side, Sides
from jaxmf.serving.layered import Layered

Held = TypeVar("Held", bound="Bundle")


@dataclass(frozen=True, eq=False)
class Bundle:
    """Ids, a model and its ratings.

    Attributes:
        layered: What answers: the model, with the rows that were folded in beside it.
        users: Ids of the users' rows.
        items: Ids of the items' rows.
        history: The ratings that the rows come from, on the host.
        columns: Names of the frames' columns.
        scale: Smallest and largest rating seen, which predictions are clipped to.
        frozen: How many of the first users and items have no history here, so that their rows can't be solved again.
        library: The frames' library, where no frame is given.
        measured: A point estimate's `noise`, where it was measured on ratings that its rows were found without.
    """

    layered: Layered
    users: Vocabulary
    items: Vocabulary
    history: History
    columns: Columns
    scale: tuple[float, float]
    frozen: tuple[int, int] = (0, 0)
    library: str = "pandas"
    measured: float | None = None

    def __repr__(self) -> str:
        model = self.layered.model
        of = f"{len(model)} draws" if isinstance(model, Posterior) else "point estimate"
        events = "clicks" if self.clicked else "ratings"
        counts = f"{len(self.users):,} users, {len(self.items):,} items, {len(self.history):,} {events}"
        return f"<{type(self).__name__}: {counts}; {model.kernel!r}, {of}, rank {model.params.item.rank}>"

    def contents(self) -> tuple[dict[str, np.ndarray], Document]:
        """All of it as arrays and documents, which a checkpoint keeps.

        Raises:
            ValueError: If an id or the kernel can't be kept.
        """
        settings = {name: getattr(self, name) for name in kept.SETTINGS}
        fields = {"model": self.model, "users": self.users, "items": self.items, "ratings": self.ratings}
        return kept.of_fields(fields | settings)

    @classmethod
    def of_contents(cls: type[Held], arrays: dict[str, np.ndarray], documents: Document) -> Held:
        """It again.

        Raises:
            ValueError: If they make no sense.
        """
        fields = kept.to_fields(arrays, documents)
        return cls(Layered.of(fields.pop("model")), history=History(fields.pop("ratings")), **fields)

    @property
    def clicked(self) -> bool:
        """Whether the history is of clicks, and not of ratings."""
        return isinstance(self.layered.model.kernel, Clicks)

    @property
    def repeated(self) -> Duplicates:
        """What a pair's second event does: clicks add up, and of ratings the last wins."""
        return "sum" if self.clicked else "last"

    @cached_property
    def model(self) -> Model | Posterior:
        """The model with a row for each user: a copy where users were folded in, made once."""
        return self.layered.whole(len(self.users))

    @cached_property
    def noise(self) -> float:
        """Variance of a point estimate's noise about its predictions: O(history), once, unless it was `measured`."""
        return models.noise(self.model, self.history) if self.measured is None else self.measured

    @property
    def ratings(self) -> Ratings:
        """The history in one piece."""
        return self.history.ratings

    @property
    def sides(self) -> Sides:
        """The users and the items that are known."""
        return Sides(*map(Side, Sides._fields, self.columns, (self.users, self.items), self.frozen))
