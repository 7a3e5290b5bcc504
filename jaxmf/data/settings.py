"""Settings that a caller gives, checked."""

import operator
from typing import Any, get_args


def check_whole(name: str, value: Any, *, least: int, meaning: str) -> int:  # noqa: ANN401 whatever was given
    """The whole number `value`, NumPy's included.

    Raises:
        ValueError: If it is none, or below `least`; `meaning` says what it is.

    Example:
        >>> check_whole("rank", 32, least=1, meaning="the number of factors a row")
        32
    """
    try:
        whole = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < least:
        raise ValueError(f"{name} must be a whole number of {least} or more, got {value!r}: it is {meaning}")
    if whole >= 2**63:
        raise ValueError(f"{name} must be below 2⁶³, got {value!r}: it is {meaning}")
    return whole


def check_number(name: str, value: Any, *, rule: str, meaning: str) -> float:  # noqa: ANN401 whatever was given
    """The number `value`; `rule` says what it must be, `meaning` what it is.

    Raises:
        ValueError: If it is no number. NaN is one, and the caller's to refuse.

    Example:
        >>> check_number("level", 0.9, rule="between 0 and 1", meaning="a share")
        0.9
    """
    try:
        if not isinstance(value, str | bytes | bool):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} must be {rule}, got {value!r}: it is {meaning}")


def check_choice(name: str, value: Any, choices: Any) -> None:  # noqa: ANN401 whatever was given, and a `Literal`
    """Refuse a `value` that is none of a `Literal`'s.

    Raises:
        ValueError: With those it may be.

    Example:
        >>> from typing import Literal
        >>> check_choice("method", "als", Literal["sgd", "als"])
    """
    if not isinstance(value, str) or value not in get_args(choices):
        raise ValueError(f"{name} must be one of {get_args(choices)}, got {value!r}")
