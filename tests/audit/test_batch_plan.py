from __future__ import annotations

import dataclasses

import pytest
import torch

from mia_lightning.audit.batch_plan import BatchPlan, neighbours_of
from mia_lightning.audit.config import AuditConfig
from mia_lightning.functional.batches import Batch

IMAGE, LABELS = torch.rand(1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.long)
TRANSLATION, SEGMENTATION = Batch(None, IMAGE, IMAGE), Batch(None, IMAGE, LABELS)


def test_the_first_batch_decides_task_errors_and_columns():
    plan = BatchPlan.of(AuditConfig(), [SEGMENTATION])
    assert plan.interpretation.task == "segmentation"
    assert [spec.name for spec in plan.errors] == ["reconstruction", "soft_error"]
    checks = [f"check/{what}" for what in ("content", "foreground", "ignored", "background", "negative", "further")]
    assert plan.columns[:9] == ["reconstruction", "predictability", "soft_error", *checks]
    assert plan.columns[9:-1] == list(plan.statistics)
    assert plan.columns[-1] == "reason"
    assert "check/foreground" not in BatchPlan.of(AuditConfig(), [TRANSLATION]).columns


def test_selected_errors_and_neighbours_have_columns():
    config = AuditConfig(errors="l2", scores=("membership", "neighbour"), neighbours=("hflip", "vflip"))
    columns = BatchPlan.of(config, [TRANSLATION]).columns
    assert {"l2", "neighbour/hflip", "neighbour/vflip"} <= set(columns)


def test_augmentations_leave_neighbours_out():
    config = AuditConfig(scores=("membership", "neighbour"))
    assert "hflip" not in BatchPlan.of(config, [TRANSLATION], augmentations=["hflip"]).copies
    assert BatchPlan.of(AuditConfig(), [TRANSLATION], augmentations=["hflip"]).copies == ()


def test_a_plan_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BatchPlan.of(AuditConfig(), [TRANSLATION]).neighbours = None


def test_neighbours_need_pictures():
    vectors = Batch(None, torch.rand(1, 5), IMAGE)
    with pytest.raises(ValueError, match=r"flips and shifts of images, but the inputs are float32 tensor \(1, 5\)"):
        neighbours_of(AuditConfig(scores=("membership", "neighbour")), vectors, ())


def test_copies_need_a_model():
    with pytest.raises(ValueError, match=r"neighbour, combined\) need the model"):
        BatchPlan.of(AuditConfig(scores=("membership", "neighbour")), [TRANSLATION], has_model=False)
