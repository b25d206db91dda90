from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from mia_lightning.functional.roc import tpr_at_fpr
from mia_lightning.metrics.membership_auc import MembershipAUC, TPRAtFPR


@pytest.fixture
def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    member = torch.rand(90, generator=generator) < 0.4
    scores = 20 + 25 * torch.rand(90, generator=generator) + 5 * member
    return list(zip(scores.split(17), member.split(17), strict=True))


def test_scores_far_outside_the_unit_interval_are_ranked_as_they_are(batches):
    auc, rate = MembershipAUC(), TPRAtFPR(fpr=0.1)
    for scores, member in batches:
        auc.update(scores, member)
        rate.update(scores, member)
    scores, member = (torch.cat(part).numpy() for part in zip(*batches, strict=True))
    assert auc.compute().item() == pytest.approx(roc_auc_score(member, scores))
    assert 0.55 < auc.compute() < 0.95
    assert rate.compute().item() == tpr_at_fpr(scores, member, 0.1)[0]


def test_reset_forgets(batches):
    metric = MembershipAUC()
    metric.update(torch.tensor([1.0, 0.0]), torch.tensor([True, False]))
    metric.compute()
    metric.reset()
    metric.update(torch.tensor([0.0, 1.0]), torch.tensor([True, False]))
    assert metric.compute() == 0.0


def test_one_side_alone_has_no_curve():
    metric = TPRAtFPR()
    metric.update(torch.tensor([1.0]), torch.tensor([True]))
    with pytest.raises(ValueError, match="needs both sides, but got 1 members and 0 nonmembers"):
        metric.compute()
