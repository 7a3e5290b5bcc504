"""What happens to a model: one event a fact, checked as it comes in."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

Kind = Literal["rating", "click", "removal", "user", "item"]

LONGEST = 256
"""Most characters of an id."""

LARGEST = {"rating": 1e9, "weight": 1e9, "time": 1e12}
"""Largest of each number: the equations square ratings in float32, and a larger time is no seconds."""

NEEDS: dict[str, tuple[str, ...]] = {
    "rating": ("user", "item", "rating"),
    "click": ("user", "item"),
    "removal": ("user", "item"),
    "user": ("user",),
    "item": ("item",),
}
"""What each kind of event has to name."""

MAY: dict[str, tuple[str, ...]] = {"rating": ("weight",), "click": ("rating", "weight")}
"""What it may have besides; any may have a time."""

Id = str | int


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One fact about users and items.

    Attributes:
        id: Its own id: an event that comes again under the same one is the same event.
        kind: A "rating" of an item by a user, in place of an older one of the pair; a "click", which adds to those of
            the pair; the "removal" of what the pair has; the departure of a "user", or of an "item".
        user: The user's id.
        item: The item's id.
        rating: The rating; of a click 1, or 0 for a dislike.
        weight: Its weight.
        time: When it happened, in seconds since 1970; only told, never acted on.
    """

    id: str
    kind: Kind
    user: Id | None = None
    item: Id | None = None
    rating: float = 1.0
    weight: float = 1.0
    time: float | None = None

    def document(self) -> dict[str, Any]:
        """What `parse` makes the event of."""
        named = (
            "id",
            "kind",
            *NEEDS[self.kind],
            *MAY.get(self.kind, ()),
            *(("time",) if self.time is not None else ()),
        )
        return {name: getattr(self, name) for name in named}


def parse(document: Mapping[str, Any]) -> Event:
    """The event that a document, such as a JSON body, tells of.

    Raises:
        ValueError: With the field that is missing, unknown or makes no sense.

    Example:
        >>> parse({"id": "e1", "kind": "rating", "user": "ann", "item": 7, "rating": 4})
        Event(id='e1', kind='rating', user='ann', item=7, rating=4.0, weight=1.0, time=None)
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"an event is a mapping of names to values, got {type(document).__name__}")
    kind = document.get("kind")
    if not (isinstance(kind, str) and kind in NEEDS):
        raise ValueError(f"kind {_shown(kind)}: an event is one of {list(NEEDS)}")
    needed, allowed = {"id", "kind", *NEEDS[kind]}, {"time", *MAY.get(kind, ())}
    for name in sorted(needed - document.keys()):
        raise ValueError(f"{name} is missing: an event of kind {kind!r} has {sorted(needed)}")
    for name in document.keys() - needed - allowed:
        raise ValueError(f"{name!r:.80} is no field of an event of kind {kind!r}: leave it out")
    fields: dict[str, Any] = {"id": _text(document["id"]), "kind": kind}
    fields |= {name: checked_id(name, document[name]) for name in ("user", "item") if name in document}
    fields |= {name: _number(name, document[name]) for name in ("rating", "weight", "time") if name in document}
    if fields.get("weight", 1.0) <= 0:
        raise ValueError(f"weight {fields['weight']}: it must be above 0; a removal takes away what a pair has")
    return Event(**fields)


def checked_id(name: str, value: Any) -> Id:  # noqa: ANN401 whatever came
    """A user's or an item's id, if it is one that a log can keep.

    Raises:
        ValueError: If not; `name` says whose it is.
    """
    if _is_text(value):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return int(value)
    raise ValueError(
        f"{name} {_shown(value)}: an id is a whole number of 64 bits or a text of 1 to {LONGEST} characters, none of "
        "them NUL or half of a pair"
    )


def _is_text(value: Any) -> bool:  # noqa: ANN401 likewise
    """Whether it is a text that every database can keep."""
    plain = isinstance(value, str) and 0 < len(value) <= LONGEST and "\0" not in value
    return plain and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _text(value: Any) -> str:  # noqa: ANN401 likewise
    if not _is_text(value):
        raise ValueError(f"id {_shown(value)}: an event's id is a text of 1 to {LONGEST} characters")
    return value


def _number(name: str, value: Any) -> float:  # noqa: ANN401 likewise
    limit = LARGEST[name]
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not (real and -limit <= value <= limit):
        raise ValueError(f"{name} {_shown(value)}: it must be a number from {-limit:g} to {limit:g}")
    return float(value)


def _shown(value: Any) -> str:  # noqa: ANN401 likewise
    """A value in an error: whole numbers of thousands of digits have no text."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        return f"of type {type(value).__name__}"
