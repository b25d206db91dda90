"""``audit_outputs``: an audit of stored outputs in Python; the command's tests hold what the files may be."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from mia_lightning import AuditConfig, PredictabilityScorer, audit_outputs
from mia_lightning.data.output_layout import OutputFiles
from mia_lightning.result.context import AuditContext
from mia_lightning.stored.outputs_audit import OutputOptions, split_options

SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=6)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twelve outputs, the first six close to their targets."""
    rng = np.random.default_rng(0)
    for number in range(12):
        arrays = {"inputs": rng.uniform(0.2, 0.7, (24, 24, 3)), "targets": rng.uniform(0.2, 0.7, (24, 24, 3))}
        arrays["outputs"] = arrays["targets"] + rng.normal(0, 0.02 if number < 6 else 0.2, (24, 24, 3))
        for name, array in arrays.items():
            (tmp_path / name).mkdir(exist_ok=True)
            pixels = np.rint(255 * np.clip(array, 0, 1)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"s{number:02d}.png")
    return tmp_path


IDS = [f"s{number:02d}" for number in range(12)]


def test_ids_choose_out_of_one_folder(folder):
    config = AuditConfig(scorer=SCORER, scores=("reconstruction", "membership", "calibrated"))
    result = audit_outputs(folder, member_ids=IDS[:6], nonmember_ids=IDS[6:], config=config, task="translation", seed=4)
    assert result.ids == IDS
    assert result.auc == 1.0
    assert (result.meta["settings"]["seed"], list(result.scores)[-1]) == (4, "calibrated")
    assert result.meta["membership"] == {"assignment": "given"}
    (folder / "in.txt").write_text("\n".join(IDS[:6]))
    again = audit_outputs(
        folder, member_ids=folder / "in.txt", nonmember_ids=IDS[6:], config=config, task="translation"
    )
    assert again.meta["member_ids"] == str(folder / "in.txt")
    np.testing.assert_array_equal(again.errors["membership"], result.errors["membership"])


def test_the_task_is_told_by_the_files_and_the_context_goes_in(folder):
    context = AuditContext(membership={"assignment": "coin", "independent": True}, notes=("From the vendor.",))
    result = audit_outputs(folder, member_ids=IDS[:6], nonmember_ids=IDS[6:], scorer=SCORER, context=context)
    assert result.meta["task"] == "translation"
    assert result.meta["membership"]["assignment"] == "coin"
    assert "From the vendor." in result.meta["notes"]
    assert {k: result.meta[k] for k in ("source", "stage", "outputs", "kind")} == {
        "source": "outputs",
        "stage": "audit",
        "outputs": str(folder),
        "kind": "images",
    }


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "does not say who is a member"),
        ({"member_ids": ["s00"]}, "Expected both files"),
        ({"member_ids": ["s00"], "nonmember_ids": ["s00"]}, "Both list and list name 1 id: 's00'"),
        ({"member_ids": ["s00"], "nonmember_ids": ["x"]}, "The list of ids names 1 id that the data do not have: 'x'"),
        ({"member_ids": [], "nonmember_ids": ["s00"]}, "The list of ids names nothing"),
        ({"scores": ["membership", "combined"]}, "The score 'combined' asks the model"),
        ({"primary": "neighbour"}, "The score 'neighbour' asks the model"),
    ],
)
def test_what_does_not_fit_is_said(folder, options, text):
    with pytest.raises(ValueError, match=text):
        audit_outputs(folder, task="translation", **options)


def test_options_are_those_of_the_files_and_of_the_audit():
    declared = {field.name: field.type for field in (*fields(AuditConfig), *fields(OutputFiles))}
    assert {name: hint.__forward_arg__ for name, hint in OutputOptions.__annotations__.items()} == declared
    files, settings = split_options({"kind": "logits", "seed": 3})
    assert files == OutputFiles(kind="logits")
    assert settings == {"seed": 3}
