"""Frozen backbones that turn an image into feature maps, and the scorer of predictability errors built on them."""

from mia_lightning.features.extractors import FeatureExtractor, load_extractor
from mia_lightning.features.scorer import PredictabilityScorer
from mia_lightning.features.weights import lite0_state

__all__ = ["FeatureExtractor", "PredictabilityScorer", "lite0_state", "load_extractor"]
