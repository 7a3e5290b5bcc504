"""A model that lives: events that are kept, rows that follow them, and a state that outlives its process."""

from jaxmf.live.answers import Predicted, Reason, Scored
from jaxmf.live.intake import Ack
from jaxmf.live.live import Live

__all__ = ["Ack", "Live", "Predicted", "Reason", "Scored"]
