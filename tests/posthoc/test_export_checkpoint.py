"""Shapes of inputs that an export finds out by itself."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch import LightningModule

from mia_lightning.models.pix2pix_hd import Pix2PixHD
from mia_lightning.posthoc import export_checkpoint

SMALL = {"image_size": 16, "ngf": 2, "ndf": 2, "global_blocks": 1, "local_blocks": 1}


class Foreign(LightningModule):
    """Its attribute means something else than its hyperparameter."""

    def __init__(self, in_channels: int = 5, image_size: int = 32) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.in_channels = [64, 128]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Foreign(), (5, 32, 32)),
        (Pix2PixHD(in_channels=2, **SMALL), (2, 16, 16)),
        (Pix2PixHD(in_channels=2, instance_key="instance", **SMALL), (3, 16, 16)),
    ],
)
def test_channels_are_those_of_the_hyperparameters_and_those_that_a_model_adds(model: Any, shape: tuple) -> None:
    assert export_checkpoint._shape_of_inputs(model, {}) == shape
