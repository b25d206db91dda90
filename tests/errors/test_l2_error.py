"""The L2 error is asked for by name, as an error and as a score."""

import pytest
import torch
from torch import nn

from mia_lightning import Auditor, PredictabilityScorer


def test_it_is_the_mean_squared_difference():
    generator = torch.Generator().manual_seed(0)
    pairs = [tuple(torch.rand(2, 3, 32, 32, generator=generator)) for _ in range(8)]
    auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8), scores=("membership", "l2"))
    result = auditor.run(nn.Identity(), pairs[:4], pairs[4:])
    assert result.errors["l2"].tolist() == pytest.approx([float(((x - y) ** 2).mean()) for x, y in pairs])
    assert result.scores["l2"].tolist() == (-result.errors["l2"]).tolist()
    assert "audit/auc_low/l2" in result.metrics
