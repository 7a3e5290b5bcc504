"""The systems that `scripts/benchmark.py` compares, a module each, and what they share."""
