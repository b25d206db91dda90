from __future__ import annotations

from dataclasses import replace

import pytest

from mia_lightning.report.statements import assignment, key_numbers, provenance

COIN = {"assignment": "coin", "unit": "sample", "seed": 7}
FAIR = "Randomised assignment: a fair coin for every sample decided whether it was trained on (seed 7)."


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"independent": True, "independent_units": True}, ""),
        ({"independent": True, "independent_units": True, "capped": True}, " A cap left samples out before the coins."),
        (
            {"independent": False, "capped": True},
            " A cap left samples out, so that the assignments are not independent.",
        ),
        (
            {"independent": False, "independent_units": False},
            " The seed was chosen for similar sides, so that the assignments do not count as independent.",
        ),
        (
            {"independent": False},  # as it was recorded before units were
            " The seed was chosen for similar sides, so that the assignments do not count as independent.",
        ),
    ],
)
def test_what_coins_decided_is_said(run_of_three, how, said):
    result = run_of_three.result
    assert assignment(replace(result, meta=result.meta | {"membership": COIN | how})) == FAIR + said


def test_groups_with_coins_of_their_own_are_independent(run_of_three):
    how = COIN | {"unit": "group", "independent": False, "independent_units": True}
    result = run_of_three.result
    text = assignment(replace(result, meta=result.meta | {"membership": how}))
    assert text == FAIR.replace("every sample", "every group of samples")


def test_the_note_of_epsilon_says_what_is_known_of_gaussian_trainings_and_of_groups(run_of_three):
    result = run_of_three.result

    def note(mu: float, **epsilon: object) -> str:
        metrics = result.metrics | {"audit/epsilon_low": 0.0, "audit/mu_low_fdp": mu, "audit/epsilon_low_fdp": 2.5}
        meta = result.meta | {"epsilon": {"delta": 1e-5, "level": 0.95, "standing": "valid: made up"} | epsilon}
        numbers = {n.label: n for n in key_numbers(replace(result, metrics=metrics, meta=meta))}
        assert numbers["Epsilon, at least"].value == "0.00"
        return numbers["Epsilon, at least"].note

    assert note(0.0) == "delta 1e-05, 95 % confidence; no epsilon is ruled out"
    assert note(float("nan"), unit="group") == "delta 1e-05, 95 % confidence, groups as units; no epsilon is ruled out"
    assert note(0.7) == (
        "delta 1e-05, 95 % confidence; 2.50 (mu 0.70) if the training is Gaussian-private, as DP-SGD is; valid: made up"
    )


def test_batches_and_steps_of_optimizers_are_told_apart(run_of_three):
    result = run_of_three.result

    def steps(**counters: int) -> dict[str, str]:
        rows = dict(provenance(replace(result, meta=result.meta | {"step": 6, "logged_step": 5} | counters)))
        return {name: text for name, text in rows.items() if "step" in name}

    assert steps() == {"step": "6", "logged_step": "5"}
    both = {"step (batches)": "6", "logged_step (batches)": "5", "global_step (of all optimizers)": "12"}
    assert steps(global_step=12) == both
