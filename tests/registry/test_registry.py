"""What can be measured is declared once; plug-ins and user code declare theirs without a fork."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

from mia_lightning import AuditConfig, registry
from mia_lightning.registry import ErrorSpec, ScoreInputs, ScoreSpec, register_error, register_metric, register_score
from mia_lightning.registry import registry as loading

ATTACKS = ["reconstruction", "membership", "calibrated", "neighbour", "combined"]
RMIA = ["rmia_online", "rmia_offline"]
WITH_REFERENCES = ["lira_online", "lira_offline", *RMIA, "difficulty", "patch", "combined_references"]


def test_the_package_registers_its_own_in_the_order_in_which_they_are_shown():
    assert registry.scores.names()[:13] == [*ATTACKS, "trained", *WITH_REFERENCES]
    assert {s.name for s in registry.scores if "references" in s.needs} == set(WITH_REFERENCES)
    assert [s.name for s in registry.scores if not s.attack] == ["trained"]
    assert [s.name for s in registry.scores if not s.interval] == ["trained"]
    assert [s.name for s in registry.errors if s.always] == [
        "reconstruction",
        "predictability",
        "soft_error",
        "membership",
    ]
    assert {"auc", "tpr_at_fpr_0.01", "p_value", "blind_auc", "epsilon_low"} <= set(registry.metrics.names())


@pytest.mark.parametrize("kind", ["errors", "scores", "metrics"])
def test_every_specification_can_be_shown(kind):
    for spec in getattr(registry, kind):
        assert 0 < len(spec.label) <= 16, spec.name
        assert spec.sentence.endswith("."), spec.name


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(KeyError, match=r"Unknown score 'conbined' \(did you mean 'combined'\?\); registered are recon"):
        registry.scores.get("conbined")
    assert registry.scores.find("conbined") is None
    assert "conbined" not in registry.scores
    assert 7 not in registry.scores


def test_the_name_of_a_score_is_no_end_of_another_key():
    with pytest.raises(ValueError, match=r"'estimable' ends a key of its own \(tpr_at_fpr_0.01/estimable\)"):
        register_score("estimable", label="mine", sentence="Mine.")(lambda inputs: inputs.errors["membership"])


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="The score 'membership' is registered already"):
        register_score("membership", label="mine", sentence="Mine.")(lambda inputs: inputs.errors["membership"])


@pytest.mark.parametrize("name", ["", "With Space", "a/b", "Ärger", "_a", "a__b"])
def test_names_become_parts_of_keys_and_columns(name):
    with pytest.raises(ValueError, match="Expected a name of lower case letters"):
        ErrorSpec(name=name, label="x", sentence="X.")


def test_a_label_and_a_sentence_are_needed():
    with pytest.raises(ValueError, match="Expected a label and a sentence for 'mine'"):
        ScoreSpec(name="mine", label="mine", sentence="")


def test_an_error_without_a_score_has_one_all_the_same():
    @register_error("worst_pixel", label="worst pixel", sentence="largest difference.", tasks=("translation",))
    def worst_pixel(outputs: registry.Outputs) -> torch.Tensor:
        return (outputs.prediction - outputs.target).abs().flatten(1).amax(1)

    try:
        spec = registry.scores.get("worst_pixel")
        assert spec.function is not None
        score = spec.function(ScoreInputs({"worst_pixel": np.array([0.5, 0.1])}, np.array([True, False])))
        assert score.tolist() == [-0.5, -0.1]
        assert (spec.errors, spec.label) == (("worst_pixel",), "worst pixel")
        assert "worst_pixel" not in registry.scores.names()  # it is offered under the errors
    finally:
        registry.errors.remove("worst_pixel")


def test_decorators_leave_the_function_as_it_is():
    def spread(score: np.ndarray, member: np.ndarray, level: float) -> float:
        del member, level
        return float(np.ptp(score))

    try:
        assert register_metric("spread", label="spread", sentence="Range of the score.")(spread) is spread
        assert registry.metrics.get("spread").function is spread
        assert registry.metrics.names()[-1] == "spread"
    finally:
        registry.metrics.remove("spread")


def test_plug_ins_register_through_an_entry_point(monkeypatch, tmp_path):
    (tmp_path / "a_plug_in.py").write_text(
        textwrap.dedent("""
        from mia_lightning.registry import register_score

        @register_score("from_outside", label="outside", sentence="A score of a plug-in.", errors=("reconstruction",))
        def from_outside(inputs):
            return -2.0 * inputs.errors["reconstruction"]
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    plugin = EntryPoint("mine", "a_plug_in", registry.ENTRY_POINTS)
    broken = EntryPoint("broken", "there_is_no_such_module", registry.ENTRY_POINTS)
    monkeypatch.setattr(loading, "entry_points", lambda group: [broken, plugin] if group == plugin.group else [])
    monkeypatch.setattr(loading, "_loaded", False)
    try:
        with pytest.warns(UserWarning, match="plug-in 'broken' .* could not be loaded and is left out"):
            assert "from_outside" in registry.scores
        assert registry.scores.names()[:5] == ATTACKS  # what was there is there once
    finally:
        registry.scores.remove("from_outside")


def test_the_registry_loads_nothing_until_it_is_read_and_then_no_built_in_name_can_be_taken():
    code = """
import sys
from mia_lightning.registry import errors, register_error, scores
print("torch" in sys.modules)
try:
    register_error("l2", label="mine", sentence="Mine.")(len)
except ValueError as error:
    print(error)
print("l2" in errors, len(scores.names()))
print("torch" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [
        "False",
        "The error 'l2' is registered already; register yours under another name.",
        f"True {len(registry.scores.names())}",
        "True",
    ]


def test_the_blind_baseline_is_no_attack():
    assert not registry.scores.get("predictability").attack
    with pytest.raises(ValueError, match="The primary score 'predictability' is no attack"):
        AuditConfig(scores=("membership", "predictability"), primary="predictability")
