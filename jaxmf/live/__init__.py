"""A model that lives: events that are kept, rows that follow them, and a state that outlives its process."""
