"""Quick features for what is about the command line, and not about the numbers."""

import pytest
from torch import nn

from mia_lightning.features import PredictabilityScorer


@pytest.fixture
def quick_features(monkeypatch):
    """Audits without a scorer of their own take block means for features: the usual ones take 0.06 s an image."""
    monkeypatch.setattr(
        "mia_lightning.audit.auditor.PredictabilityScorer", lambda: PredictabilityScorer(nn.AvgPool2d(4), grid=4)
    )
