"""Sweeps over all combinations of several axes: a part of them runs with the usual tests, the others with -m slow."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def latin(every: int, *axes: Iterable[Any]) -> list[Any]:
    """All combinations of the axes' values, of which one in ``every`` is usual and the others are slow.

    Usual are those whose places on the axes add up to a multiple of ``every``, as the cells of one letter of a Latin
    square do: each value is among them, beside others of every other axis.
    """
    numbered = itertools.product(*(list(enumerate(axis)) for axis in axes))
    return [
        pytest.param(
            *(value for _, value in case), marks=() if sum(i for i, _ in case) % every == 0 else pytest.mark.slow
        )
        for case in numbered
    ]
