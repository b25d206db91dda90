"""Axes and marks: values land where they belong, ticks are round, gaps stay gaps."""

import re

import numpy as np
import pytest

from mia_lightning.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, linear_axis, rate_axis, shade


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-0.03, 0.08, ["-0.025", "0.000", "0.025", "0.050", "0.075"]),
        (0.0, 5000.0, ["0", "1000", "2000", "3000", "4000", "5000"]),
        (0.0001, 0.0002, ["0.00010", "0.00012", "0.00014", "0.00016", "0.00018", "0.00020"]),
    ],
)
def test_ticks_are_round(low, high, labels):
    assert [label for _, label in linear_axis("x", low, high).ticks] == labels


@pytest.mark.parametrize("high", [2, 3, 7, 20, 99, 1000])
def test_epochs_have_whole_ticks(high):
    ticks = linear_axis("epoch", 1, high, whole=True).ticks
    assert 2 <= len(ticks) <= 11
    assert all(value == int(value) and label == str(int(value)) for value, label in ticks)


def test_a_lone_value_has_an_axis():
    for value in (0.0, 3.0, -2.0):
        axis = linear_axis("x", value, value)
        assert axis.low < value < axis.high


@pytest.mark.parametrize(
    ("low", "high"),
    [(1e-17, 3e-17), (1e-17, 1e-17), (0.3, np.nextafter(0.3, 1.0)), (-1e308, 1e308), (-np.inf, np.inf), (1e20, 3e20)],
)
def test_an_axis_of_any_size_has_ticks_that_differ(low, high):
    axis = linear_axis("x", low, high)
    labels = [label for _, label in axis.ticks]
    assert 2 <= len(labels) == len(set(labels)) <= 11
    assert max(map(len, labels)) <= 18
    assert all(float(label) == pytest.approx(value, rel=1e-6, abs=1e-300) for value, label in axis.ticks)
    assert np.isfinite(axis.place([low, high], 0.0, 1.0)).all()


def test_values_land_between_the_axes():
    chart = Chart(linear_axis("x", 0.0, 10.0), linear_axis("y", 0.0, 1.0))
    x, y = chart.points([0.0, 10.0, 20.0], [0.0, 1.0, -5.0])
    np.testing.assert_allclose(x, [LEFT, WIDTH - RIGHT, WIDTH - RIGHT])
    np.testing.assert_allclose(y, [HEIGHT - BOTTOM, TOP, HEIGHT - BOTTOM])


def test_rates_stand_at_their_powers():
    axis = rate_axis("rate", 0.01)
    np.testing.assert_allclose(axis.place([0.01, 0.1, 1.0], 0.0, 2.0), [0.0, 1.0, 2.0])
    np.testing.assert_allclose(axis.place([0.0], 0.0, 2.0), [0.0])


def test_a_missing_value_is_a_gap():
    chart = Chart(linear_axis("x", 0.0, 4.0), linear_axis("y", 0.0, 1.0))
    chart.line([0, 1, 2, 3, 4], [0.1, 0.2, np.nan, 0.4, 0.5], "red")
    path = re.search(r'<path d="(M[^"]+)" fill="none"', chart.svg("a", "b"))[1]
    assert (path.count("M"), path.count("L")) == (2, 2)
    assert "nan" not in chart.svg("a", "b")


def test_text_is_escaped():
    chart = Chart(linear_axis("<b>", 0.0, 4.0), linear_axis('"&', 0.0, 1.0))
    chart.label(1, 0.5, "</svg><script>")
    svg = chart.svg("</title><script>", "<desc>")
    assert "<script>" not in svg
    assert "&lt;/svg&gt;&lt;script&gt;" in svg
    assert svg.count("<desc>") == 1


def test_scores_keep_their_colours_and_others_take_turns():
    assert shade("membership", 4) == "var(--score-membership)"
    assert shade("lira_online", 1) == "var(--spare-1)"
    assert shade("x);background:url(http://y", 2) == "var(--spare-2)"
