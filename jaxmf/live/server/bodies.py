"""What requests and answers look like; an event's fields are those of `jaxmf.live.events`."""

from typing import Annotated, Any, Literal
from urllib.parse import unquote

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from jaxmf.live.events import LARGEST, LONGEST
from jaxmf.live.warm import Limits

LIMITS = Limits()
"""The largest requests that are answered."""

LEAST, MOST = -(2**63), 2**63 - 1
"""The whole numbers that are ids."""


def _whole(value: Any) -> Any:  # noqa: ANN401 whatever came
    """To JSON 7.0 is a whole number, as 7 is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST, pattern=r"^[^\u0000]+$")]
Id = Annotated[int, Field(ge=LEAST, le=MOST), BeforeValidator(_whole)] | Text
Rating = Annotated[float, Field(ge=-LARGEST["rating"], le=LARGEST["rating"])]
Weight = Annotated[float, Field(gt=0, le=LARGEST["weight"])]
Time = Annotated[float, Field(ge=-LARGEST["time"], le=LARGEST["time"])]

InPath = Annotated[
    Text, BeforeValidator(lambda text: unquote(text, errors="strict")), Path(description="An id, a slash in it as %2F.")
]
Length = Annotated[int, Query(ge=1, le=LIMITS.n, description="Length of the list.")]
Words = Annotated[str, Query(max_length=LONGEST, description="Words of a title, or an id; else what has most ratings.")]


def named(text: str, kind: str | None) -> int | str:
    """The id that a text in a path names: a whole number where the model's ids are, and it is written as one.

    Example:
        >>> named("7", "int"), named("7", "str"), named("07", "int")
        (7, '7', '07')
    """
    digits = text.removeprefix("-")
    if kind == "int" and digits.isascii() and digits.isdigit() and len(digits) < 20:
        number = int(text)
        if str(number) == text and LEAST <= number <= MOST:
            return number
    return text


class Body(BaseModel):
    """A body: nothing in it is taken for what it is not, or ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Told(Body):
    """One fact, under an id of its own: told again under the same id it is the same fact."""

    id: Text
    time: Time | None = Field(default=None, description="Seconds since 1970; only kept.")


class RatingTold(Told):
    """A rating, in place of an older one of the pair."""

    kind: Literal["rating"]
    user: Id
    item: Id
    rating: Rating
    weight: Weight = 1.0


class ClickTold(Told):
    """A click, which adds to those of the pair; of rating 0 a dislike."""

    kind: Literal["click"]
    user: Id
    item: Id
    rating: Rating = 1.0
    weight: Weight = 1.0


class RemovalTold(Told):
    """The removal of what the pair has."""

    kind: Literal["removal"]
    user: Id
    item: Id


class UserTold(Told):
    """The departure of a user."""

    kind: Literal["user"]
    user: Id


class ItemTold(Told):
    """The departure of an item."""

    kind: Literal["item"]
    item: Id


AnyEvent = Annotated[RatingTold | ClickTold | RemovalTold | UserTold | ItemTold, Field(discriminator="kind")]
Events = Annotated[list[AnyEvent], Field(min_length=1, max_length=LIMITS.events)]


class Pairs(Body):
    """A user, and the items whose ratings are asked for."""

    user: Id
    items: Annotated[list[Id], Field(min_length=1, max_length=LIMITS.items)]


class Items(Body):
    """Items whose titles are asked for."""

    items: Annotated[list[Id], Field(min_length=1, max_length=LIMITS.items)]


class Given(Body):
    """An item and a rating of it."""

    item: Id
    rating: Rating


class Session(Body):
    """All that is known of somebody: of an item that comes twice the last rating counts."""

    ratings: Annotated[list[Given], Field(min_length=1, max_length=LIMITS.ratings)]
    n: Annotated[int, Field(ge=1, le=LIMITS.n, description="Length of the list."), BeforeValidator(_whole)] = 10


class Acknowledged(BaseModel):
    """What became of an event: as `jaxmf.live.Ack`."""

    id: str | None
    status: Literal["learnt", "known", "refused"]
    reason: str


class Score(BaseModel):
    """An item and its score."""

    item: int | str
    score: float


class Prediction(BaseModel):
    """A predicted rating, its standard deviation, and what 90 % of such ratings lie within; of clicks none."""

    item: int | str
    rating: float
    std: float | None
    low: float | None
    high: float | None


class Why(BaseModel):
    """A rating of the user's, and how much it moves the prediction."""

    item: int | str
    rating: float
    contribution: float


class Rated(BaseModel):
    """A rating that a user gave, or of a model of clicks what they clicked."""

    item: int | str
    rating: float
    weight: float


class Listed(BaseModel):
    """An item, what it is called, and how many ratings it has."""

    item: int | str
    title: str | None
    ratings: int


class About(BaseModel):
    """What the model is: as `jaxmf.live.answers.About`."""

    users: int
    items: int
    ratings: int
    batches: int
    clicked: bool
    explains: bool
    low: float
    high: float
    user_ids: Literal["int", "str"] | None
    item_ids: Literal["int", "str"] | None


class Stream(BaseModel):
    """How the stream goes: events and the time to tell them in the last minute, what waits, and errors.

    Those are the root mean square errors of predictions that were made before each rating was learnt, of the first
    ratings since the server started or took a fit over and of the last ones, of some hundreds each.
    """

    events_a_second: float
    median_ms: float | None
    p99_ms: float | None
    waiting: int
    rated: int
    rmse_first: float | None
    rmse_last: float | None


class Now(BaseModel):
    """The model and its stream just now."""

    model: About
    stream: Stream


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str
