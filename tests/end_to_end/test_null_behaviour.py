"""Where there is nothing to find, the audit finds nothing, as rarely wrong as it says; where the sides differ by
themselves, it says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare
from torch import Tensor, nn

from mia_lightning import Auditor, AuditResult, DemoDataModule, Pix2Pix, PredictabilityScorer, UNetSegmenter
from mia_lightning.functional.blind import blind_test
from mia_lightning.functional.classifier import permutation_test
from mia_lightning.scores.analysis import Plan, analyse
from mia_lightning.scores.fairness import Fairness
from mia_lightning.scores.trained_score import log_errors

DRAWS = 200
ATTACKS = ("reconstruction", "membership", "calibrated", "neighbour", "combined")
SCORES = (*ATTACKS, "trained")


def untrained(task: str, pairs: int = 120) -> tuple[nn.Module, DemoDataModule]:
    torch.manual_seed(0)
    data = DemoDataModule(task, image_size=32, num_pairs=pairs)  # the default coins made sides that are alike
    if task == "translation":
        return Pix2Pix(image_size=32, ngf=4, ndf=4, audit=False), data
    return UNetSegmenter(data.num_classes, base_channels=4, depth=2, audit=False), data


def audited(model: nn.Module, members: Any, nonmembers: Any, **settings: Any) -> AuditResult:
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
    return Auditor(scorer=scorer, primary="combined", max_samples=None, **settings).run(model, members, nonmembers)


@pytest.fixture(scope="module", params=["translation", "segmentation"])
def result(request: pytest.FixtureRequest) -> AuditResult:
    model, data = untrained(request.param)
    return audited(model, *data.audit_dataloaders(), scores=SCORES)


def shuffled(result: AuditResult, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(result.member)


def test_an_untrained_model_gives_nothing_away(result: AuditResult) -> None:
    for name in ATTACKS:
        low, high = result.interval(name)
        assert low < 0.5 < high, name
    assert result.metric("p_value") > 0.05
    assert result.metric("p_value/trained") > 0.05
    assert result.metric("epsilon_low") == 0
    assert not result.flagged().any()


@pytest.mark.slow
def test_attacks_are_wrong_as_rarely_as_they_say(result: AuditResult) -> None:
    raw = {k: v for k, v in result.errors.items() if k != "membership"}
    unknown = Fairness(np.nan, np.nan, None)  # the blind test has its own test
    covered = dict.fromkeys(ATTACKS, 0)
    rejected = leaked = 0
    p_values: list[float] = []
    for seed in range(DRAWS):
        member = shuffled(result, seed)
        draw = analyse(raw, {}, member, Plan(ATTACKS, "combined", seed=seed), fairness=unknown)
        for name in ATTACKS:
            covered[name] += draw.metrics[f"audit/auc_low/{name}"] < 0.5 < draw.metrics[f"audit/auc_high/{name}"]
        rejected += draw.metrics["audit/p_value"] <= 0.05
        leaked += draw.metrics["audit/epsilon_low"] > 0
        told = AuditResult(draw.metrics, result.ids, member, draw.errors, draw.scores)
        p_values.append(float(np.random.default_rng(seed).choice(told.p_values("combined")[member])))
    for name, count in covered.items():
        assert 0.91 <= count / DRAWS <= 0.985, (name, count / DRAWS)
    # 99.8 % of fair tests reject so often at 5 %.
    assert binom.ppf(0.001, DRAWS, 0.05) <= rejected <= binom.ppf(0.999, DRAWS, 0.05)
    assert leaked / DRAWS <= 0.05
    counts = np.histogram(p_values, bins=np.linspace(0, 1, 11))[0]
    assert chisquare(counts).pvalue > 0.01


@pytest.mark.slow
def test_classifiers_reject_at_their_nominal_rate(result: AuditResult) -> None:
    """Cross-fitted classifiers have no interval: their permutation tests must be right instead."""
    raw = {k: v for k, v in result.errors.items() if k != "membership"}
    low, high = binom.ppf(0.001, DRAWS, 0.05), binom.ppf(0.999, DRAWS, 0.05)
    trained = blind = 0
    for seed in range(DRAWS):
        member = shuffled(result, seed)
        trained += permutation_test(log_errors(raw), member, permutations=99, seed=seed).p_value <= 0.05
        p = result.errors["predictability"]
        blind += blind_test(result.blind, member, predictability=p, permutations=99, seed=seed).p_value <= 0.05
    assert low <= trained <= high
    assert low <= blind <= high


class Brighter(torch.utils.data.Dataset[dict[str, Any]]):
    """The same pairs, brighter by differing amounts."""

    def __init__(self, base: Any, amount: float) -> None:
        self.base, self.amount = base, amount

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = dict(self.base[index])
        key = "image" if "image" in item else "input"
        shift = self.amount * float(np.random.default_rng(index).uniform(0.5, 1.5))
        image: Tensor = item[key]
        item[key] = 0.7 * image + shift
        return item


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_brighter_members_are_told_apart_without_the_model(task: str) -> None:
    model, data = untrained(task, pairs=140 if task == "translation" else 240)
    members, nonmembers = (loader.dataset for loader in data.audit_dataloaders())
    result = audited(model, Brighter(members, 0.11), Brighter(nonmembers, 0.08), scores=ATTACKS)
    assert result.metric("blind_p_value") < 0.05
    assert result.metric("blind_auc") > 0.55
    each = int(result.metric("samples/matched")) // 2
    assert each >= 20
    assert result.metric("matched_auc_low") < 0.5 < result.metric("matched_auc_high")
    judged = result.verdict
    assert judged.grade == "unfair"
    assert f"on {each} members and {each} nonmembers" in judged.certainty
    assert not any("gives away" in line for line in judged)
