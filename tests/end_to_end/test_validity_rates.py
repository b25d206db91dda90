"""Claims of single audits hold as often as they say: the small form of the simulation, with fixed seeds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "validity.py"
NAMES = ("true positives at few false ones", "intervals of the AUC", "intervals of fitted scores", "epsilon")


@pytest.fixture(scope="module")
def sections():
    spec = importlib.util.spec_from_file_location("validity_of_rates", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.SECTIONS


@pytest.mark.parametrize("name", NAMES)
def test_the_measured_rate_is_the_nominal_one(sections, name):
    lines = list(sections[name](True))
    assert lines
    for line in lines:
        if name == "epsilon":
            assert line.measured <= line.nominal + 3.0 * line.error, line
        else:
            assert line.measured >= line.nominal - 3.0 * line.error, line


def test_what_does_not_hold_would_show(sections):
    """Clopper and Pearson's bounds alone, at the threshold that was found, are short of their level."""
    lines = [line for line in sections[NAMES[0]](True) if "alone" in line.beside]
    assert any(float(line.beside.rpartition(" ")[2]) < line.nominal - 3.0 * line.error for line in lines)
