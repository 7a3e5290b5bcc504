"""A living model behind HTTP: what is asked and told in JSON, by many at once."""
