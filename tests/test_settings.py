"""Settings: whole numbers of any library, and words of a few."""

from typing import Literal

import numpy as np
import pytest

from jaxmf.data.settings import check_choice, check_whole


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3)])
def test_whole_numbers(value):
    assert check_whole("n", value, least=3, meaning="a length") == 3


@pytest.mark.parametrize("value", [2, 2.0, 3.0, "3", None, True, [3], np.float32(3), np.arange(3)])
def test_what_is_none(value):
    with pytest.raises(ValueError, match=r"n must be a whole number of 3 or more, got .*: it is a length"):
        check_whole("n", value, least=3, meaning="a length")


def test_choices():
    check_choice("side", "left", Literal["left", "right"])
    with pytest.raises(ValueError, match=r"side must be one of \('left', 'right'\), got 'Left'"):
        check_choice("side", "Left", Literal["left", "right"])
