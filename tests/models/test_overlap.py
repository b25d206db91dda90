from __future__ import annotations

import torch
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from mia_lightning.models.overlap import overlap


def test_agrees_with_torchmetrics_where_it_has_the_same_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randint(0, 4, (3, 20, 20), generator=generator)
    target = torch.randint(0, 4, (3, 20, 20), generator=generator)
    iou, dice = overlap(multiclass_confusion_matrix(prediction, target, num_classes=6))
    torch.testing.assert_close(iou.nanmean(), multiclass_jaccard_index(prediction, target, num_classes=6))
    wanted = multiclass_f1_score(prediction, target, num_classes=6, average="macro")
    torch.testing.assert_close(dice.nanmean(), wanted)
    assert iou.isnan().tolist() == dice.isnan().tolist() == [False] * 4 + [True] * 2


def test_counts_beyond_float32() -> None:
    many = 2**24
    iou, _ = overlap(torch.tensor([[many, 1], [1, many]]))
    assert iou[0].item() == torch.tensor(many / (many + 2), dtype=torch.float32).item()
