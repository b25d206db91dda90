"""Draws from the global random generators are noticed."""

import random

import numpy as np
import pytest
import torch

from mia_lightning.data.demo import DemoDataModule
from mia_lightning.data.segmentation import SegmentationDataModule
from mia_lightning.posthoc.global_draws import GlobalDraws, Seeds


def test_our_data_modules_draw_from_no_global_generator(wbc):
    draws = GlobalDraws()
    cells = SegmentationDataModule(wbc, num_classes=3, augment="hflip", membership="coin")
    for data in (cells, DemoDataModule("translation")):
        with draws.watch(type(data).__name__):
            data.setup("fit")
            data.train_dataloader()
            data.test_dataloader()
            data.audit_dataloaders()
    assert draws.found == []


@pytest.mark.parametrize("draw", [lambda: torch.rand(1), lambda: np.random.rand(), random.random])
def test_a_draw_is_noticed_and_taken_back(draw):
    draws, values = GlobalDraws(), []
    for part in ("one", "two", "two"):
        with draws.watch(part):
            values.append(float(draw()))
    assert draws.found == ["one", "two"]
    assert values[0] == values[1] == values[2]


def test_the_note_names_the_seeds_that_are_known():
    draws = GlobalDraws(["setup()", "train_dataloader()"])
    assert draws.note("owner", Seeds(3, 3)) is None
    assert GlobalDraws().note("owner", Seeds()) is None
    note = draws.note("owner", Seeds(None, 4))
    assert note.startswith("str: setup() and train_dataloader() draw from the global random generators.")
    assert "this audit did not seed them, the training had 4. Repeat it with --seed_everything=4" in note
