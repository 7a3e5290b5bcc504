"""A model that lives: events that are kept, rows that follow them, and a state that outlives its process."""

from jaxmf.live.live import Ack, Live, Scored

__all__ = ["Ack", "Live", "Scored"]
