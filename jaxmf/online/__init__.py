"""The online update: rows solved as their ratings come in."""
