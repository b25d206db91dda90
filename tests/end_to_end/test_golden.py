"""Audits of fixed pairs against files of the first format: the errors, what is made of them, and that the files load.

The results in tests/golden were written at commit e7d2363 by ``audit(task).to_json(...)``, the evidence there by
``mia-lightning evidence --task translation``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from mia_lightning import Auditor, AuditResult, Evidence, PredictabilityScorer
from mia_lightning.functional.calibration import combined_score
from mia_lightning.scores.analysis import Plan, analyse

GOLDEN = Path(__file__).parents[1] / "golden"
SCORES = ("reconstruction", "membership", "calibrated", "neighbour", "combined", "trained")
TASKS = ("translation", "segmentation")
MOVED = ("audit/tpr_low_at_fpr_0.0", "audit/tpr_high_at_fpr_0.0")
"""Bounds of true-positive rates took the threshold as given."""
NEW = "combined"
"""This score has a second edition; what the file holds is the first one."""
RANKS = ("auc", "tpr_at_fpr", "realised_fpr", "samples", "blind_auc/predictability")


def pairs(count: int, first: int, detail: float, task: str) -> list[tuple[torch.Tensor, torch.Tensor, str]]:
    made = []
    for number in range(first, first + count):
        generator = torch.Generator().manual_seed(number)
        image = interpolate(torch.rand(1, 3, 6, 6, generator=generator), (24, 24), mode="bilinear")[0]
        strength = detail * torch.rand(1, generator=generator)
        target = (0.8 * image.flip(0) + 0.1 + strength * torch.randn(3, 24, 24, generator=generator)).clamp(0, 1)
        if task == "segmentation":
            target = (4 * target.mean(0)).long().clamp(0, 3)
            target[: 24 if number == 500 else 2] = 255  # one target without a class
        made.append((image, target, f"pair{number}"))
    return made


def model(task: str, x: torch.Tensor) -> torch.Tensor:
    guess = 0.8 * avg_pool2d(x, 3, 1, 1).flip(1) + 0.1
    if task == "translation":
        return guess
    centres = torch.tensor([0.125, 0.375, 0.625, 0.875]).view(1, 4, 1, 1)
    return -20 * (guess.mean(1, keepdim=True) - centres) ** 2


def audit(task: str) -> AuditResult:
    scorer = PredictabilityScorer(torch.nn.AvgPool2d(4), grid=6)
    auditor = Auditor(scores=SCORES, scorer=scorer, batch_size=5)
    return auditor.run(lambda x: model(task, x), pairs(25, 0, 0.08, task), pairs(22, 500, 0.13, task))


def stored(task: str) -> AuditResult:
    return AuditResult.from_json(GOLDEN / f"{task}.json")


@pytest.mark.parametrize("task", TASKS)
def test_the_errors_of_single_samples_are_those_of_the_file(task):
    golden, found = stored(task), audit(task)
    assert found.ids == golden.ids
    assert found.member.tolist() == golden.member.tolist()
    assert found.excluded == golden.excluded
    assert set(golden.errors) <= set(found.errors)
    for name, errors in golden.errors.items():
        # Log-ratios and differences of errors may be near zero, where only their size beside the errors counts.
        np.testing.assert_allclose(found.errors[name], errors, rtol=1e-5, atol=1e-6, err_msg=name)
    for name in ("reconstruction", "predictability"):
        np.testing.assert_allclose(found.errors[name], golden.errors[name], rtol=1e-5, err_msg=name)
    assert set(golden.metrics) <= set(found.metrics)


@pytest.mark.parametrize("task", TASKS)
def test_the_statistics_are_what_is_made_of_the_errors_in_the_file(task):
    golden = stored(task)
    raw = {name: errors for name, errors in golden.errors.items() if name != "membership"}
    found = analyse(raw, golden.blind, golden.member, Plan(SCORES))
    first = combined_score(found.errors["membership"], found.errors["weighted_neighbour"], golden.member)
    for name, scores in golden.scores.items():
        same = first if name == NEW else found.scores[name]
        np.testing.assert_allclose(same, scores, rtol=1e-9, atol=1e-12, err_msg=name)
    for key, value in golden.metrics.items():
        if key.endswith(f"/{NEW}"):
            assert math.isfinite(found.metrics[key]) == math.isfinite(value), key
        elif key.startswith(MOVED):
            end = key.removeprefix("audit/tpr_").split("_")[0]
            assert found.metrics[key] <= value if end == "low" else found.metrics[key] >= value, key
        elif key.removeprefix("audit/").startswith(RANKS) and not key.startswith(("audit/auc_low", "audit/auc_high")):
            same = found.metrics[key] == value or (math.isnan(found.metrics[key]) and math.isnan(value))
            assert same, f"{key} was {value}, and is {found.metrics[key]}"
        else:
            assert found.metrics[key] == pytest.approx(value, rel=1e-9, nan_ok=True), key


@pytest.mark.parametrize("task", TASKS)
def test_a_result_of_the_first_format_is_read_and_written_again(task, tmp_path):
    before = json.loads((GOLDEN / f"{task}.json").read_text())
    after = json.loads(stored(task).to_json(tmp_path / "again.json").read_text())
    for part in ("ids", "member", "positions", "errors", "scores", "blind", "metrics", "excluded"):
        assert after[part] == before[part], part
    assert before["meta"].items() <= after["meta"].items()


def test_evidence_of_the_first_format_is_read_and_written_again(tmp_path):
    before = json.loads((GOLDEN / "evidence.json").read_text())
    evidence = Evidence.from_json(GOLDEN / "evidence.json")
    assert evidence.conclusion == before["conclusion"] == "supported"
    assert len(evidence.suspects) == before["whole"]["suspects"]
    after = json.loads(evidence.to_json(tmp_path / "again.json").read_text())
    assert before.items() <= after.items()
