"""Layers, oldest first, each several times as large as the next: how what never changes grows in small steps.

What is new becomes a layer of its own, and the old ones are shared. Now and then layers are joined, so that there are
ever few: each thing is copied as often as the logarithm of their number (Bentley & Saxe 1980).
"""

from collections.abc import Callable, Iterable, Sized
from typing import TypeVar

RATIO = 4
"""How many times as large as the next a layer is at least."""

Layer = TypeVar("Layer", bound=Sized)


def settled(layers: Iterable[Layer], join: Callable[[Layer, Layer], Layer]) -> tuple[Layer, ...]:
    """The layers with those joined that are not `RATIO` times as large as what follows them.

    Example:
        >>> settled(["abcdefghijkl", "mn", "o"], str.__add__)
        ('abcdefghijkl', 'mno')
        >>> settled(["abc", "d", "e"], str.__add__)
        ('abcd', 'e')
    """
    large: list[Layer] = []
    for layer in layers:
        while large and len(large[-1]) < RATIO * len(layer):
            layer = join(large.pop(), layer)  # noqa: PLW2901 what the next comparison is with
        large.append(layer)
    return tuple(large)
