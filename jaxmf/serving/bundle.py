"""What a recommender holds: ids, a model and the ratings that its rows come from, which go together."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxmf.data.history import History
from jaxmf.data.ids import Vocabulary
from jaxmf.data.ratings import Columns, Ratings
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.serving.frames import Side, Sides


@dataclass(frozen=True, eq=False)
class Bundle:
    """Ids, a model and its ratings.

    Attributes:
        tables: What answers: the model, where users were folded in with room for more of them, whose rows are zeros.
        users: Ids of the users' rows.
        items: Ids of the items' rows.
        history: The ratings that the rows come from, on the host.
        columns: Names of the frames' columns.
        scale: Smallest and largest rating seen, which predictions are clipped to.
        frozen: How many of the first users and items have no history here, so that their rows can't be solved again.
        library: The frames' library, where no frame is given.
    """

    tables: Model | Posterior
    users: Vocabulary
    items: Vocabulary
    history: History
    columns: Columns
    scale: tuple[float, float]
    frozen: tuple[int, int] = (0, 0)
    library: str = "pandas"

    def __repr__(self) -> str:
        of = f"{len(self.tables)} draws" if isinstance(self.tables, Posterior) else "point estimate"
        counts = f"{len(self.users):,} users, {len(self.items):,} items, {len(self.history):,} ratings"
        kernel, rank = self.tables.kernel, self.tables.params.item.rank
        return f"<{type(self).__name__}: {counts}; {kernel!r}, {of}, rank {rank}>"

    @cached_property
    def model(self) -> Model | Posterior:
        """The model with a row for each user, without room for more: a copy where there is room, made once."""
        exact = self.tables.params.user.bias.shape[-1] == len(self.users)
        return self.tables if exact else self.tables.take_users(np.arange(len(self.users)))

    @property
    def ratings(self) -> Ratings:
        """The history in one piece."""
        return self.history.ratings

    @property
    def sides(self) -> Sides:
        """The users and the items that are known."""
        return Sides(*map(Side, Sides._fields, self.columns, (self.users, self.items), self.frozen))
