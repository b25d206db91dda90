"""Claims hold as often as they say: the small form of the simulation, with fixed seeds."""

from __future__ import annotations

from functools import cache

import pytest
from benchmark_scripts import benchmark_script

AT_MOST = (
    "family-wise",
    "verdict by another score",
    "fitted scores",
    "epsilon",
    "Gaussian privacy",
    "tests of groups",
    "false claims",
    "few exposed",
    "control",
)
AT_LEAST = (
    *("power over looks", "simultaneous bands"),
    *("true positives at few false ones", "intervals of the AUC", "intervals of fitted scores"),
    *("intervals of groups", "found leaks", "melded intervals", "melded intervals of groups"),
)
LONG = ("false claims", "few exposed", "simultaneous bands", "verdict by another score", "fitted scores")


@pytest.fixture(scope="module")
def lines():
    with benchmark_script("validity") as script:
        yield cache(lambda name: list(script.SECTIONS[name](True)))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in (*AT_MOST, *AT_LEAST)]
)
def test_the_measured_rate_is_the_nominal_one(lines, name):
    assert lines(name)
    for line in lines(name):
        if name in AT_MOST:
            assert line.measured <= line.nominal + 3.0 * line.error, line
        else:
            assert line.measured >= line.nominal - 3.0 * line.error, line


def test_a_rate_that_is_not_held_would_show(lines):
    """Without a correction some look at a harmless training shows in far more than 5 %."""
    uncorrected = [line for line in lines("family-wise") if "uncorrected" in line.beside]
    assert uncorrected
    for line in uncorrected:
        assert float(line.beside.rpartition("uncorrected ")[2]) > line.nominal + 3.0 * line.error


def test_bounds_that_are_short_of_their_level_would_show(lines):
    """Clopper and Pearson's bounds alone, at the threshold that was found, are short of their level."""
    alone = [line for line in lines(AT_LEAST[2]) if "alone" in line.beside]
    assert any(float(line.beside.rpartition(" ")[2]) < line.nominal - 3.0 * line.error for line in alone)


def test_the_blind_test_finds_a_blur_and_nothing_where_there_is_nothing(lines):
    nothing, blurred = lines("blind")
    assert nothing.measured <= nothing.nominal + 3.0 * nothing.error
    assert blurred.measured >= blurred.nominal
