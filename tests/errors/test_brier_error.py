"""The Brier error is asked for by name, as an error and as a score; ignored pixels do not count."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mia_lightning import Auditor, PredictabilityScorer


def test_it_is_the_squared_distance_of_probabilities_and_labels():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 32, 32, generator=generator)
    labels = torch.randint(0, 3, (8, 32, 32), generator=generator)
    labels[:, :4] = 255
    pairs = list(zip(images, labels, strict=True))
    auditor = Auditor(
        scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8), scores=("membership", "brier"), output="logits"
    )
    result = auditor.run(nn.Identity(), pairs[:4], pairs[4:])  # the three channels are three logits
    one_hot = F.one_hot(labels.clamp(max=2), 3).movedim(3, 1)
    distance = (images.softmax(1) - one_hot).square().sum(1)[:, 4:].flatten(1).mean(1)
    assert result.errors["brier"].tolist() == pytest.approx(distance.tolist(), rel=1e-5)
    assert result.scores["brier"].tolist() == (-result.errors["brier"]).tolist()
    assert "audit/auc_low/brier" in result.metrics
