"""What becomes of a document: an event to be learnt, one that is known, or one that is refused and why."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from jaxmf.live.events import Event, parse
from jaxmf.live.log import Log, Refused
from jaxmf.live.state import State


class Ack(NamedTuple):
    """What became of an event.

    Attributes:
        id: The event's id; `None` where it had none that makes sense.
        status: "learnt": it is on disk, and in the model. "known": it was already. "refused": it is no event, or not
            one for this model, and is kept beside the log.
        reason: Why it was refused.
    """

    id: str | None
    status: Literal["learnt", "known", "refused"]
    reason: str = ""


class Intake(NamedTuple):
    """Documents sorted out: an acknowledgement each, what is to be learnt, and what is refused."""

    acks: list[Ack]
    events: list[Event]
    refused: list[Refused]


def sort_out(documents: Sequence[Mapping[str, Any]], state: State, log: Log) -> Intake:
    """What becomes of each document; nothing is changed."""
    found, kinds = Intake([], [], []), {}
    parsed = [_parsed(document) for document in documents]
    known = log.known([event.id for event in parsed if isinstance(event, Event)])
    for document, event in zip(documents, parsed, strict=True):
        try:
            if isinstance(event, ValueError):
                raise event
            if event.id in known:
                found.acks.append(Ack(event.id, "known"))
                continue
            state.admit(event, kinds)
        except ValueError as error:
            found.acks.append(Ack(_id(document), "refused", str(error)))
            found.refused.append(Refused(document, str(error)))
        else:
            known.add(event.id)
            found.acks.append(Ack(event.id, "learnt"))
            found.events.append(event)
    return found


def _parsed(document: Any) -> Event | ValueError:  # noqa: ANN401 whatever came
    try:
        return parse(document)
    except ValueError as error:
        return error


def _id(document: Any) -> str | None:  # noqa: ANN401 likewise
    name = document.get("id") if isinstance(document, Mapping) else None
    return name if isinstance(name, str) else None
