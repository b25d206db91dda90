"""Every registered error that is measured on batches gives one number a sample, low for a good prediction."""

import pytest
import torch
import torch.nn.functional as F

from mia_lightning import registry
from mia_lightning.functional.reconstruction import segmentation_error, translation_error
from mia_lightning.registry import Outputs

MEASURED = [(spec.name, task) for spec in registry.errors if spec.measure is not None for task in spec.tasks]


def outputs(task: str) -> tuple[Outputs, Outputs]:
    """A good and a bad prediction of the same targets."""
    generator = torch.Generator().manual_seed(0)
    if task == "translation":
        target = torch.rand(2, 3, 16, 16, generator=generator)
        return Outputs((0.9 * target), target, task), Outputs(1 - target, target, task)
    if task == "multilabel":
        masks = torch.randint(0, 2, (2, 3, 16, 16), generator=generator).float()
        return Outputs(8.0 * masks - 4.0, masks, task), Outputs(4.0 - 8.0 * masks, masks, task)
    labels = torch.randint(0, 3, (2, 16, 16), generator=generator)
    logits = 4.0 * F.one_hot(labels, 3).movedim(3, 1).float()
    return Outputs(logits, labels, task), Outputs(-logits, labels, task)


@pytest.mark.parametrize(("name", "task"), MEASURED)
def test_low_is_good(name, task):
    good, bad = (registry.errors.get(name).measure(o) for o in outputs(task))
    assert good.shape == bad.shape == (2,)
    assert torch.isfinite(good).all()
    assert (good < bad).all()


@pytest.mark.parametrize(
    ("name", "task", "kind"),
    [
        ("reconstruction", "translation", "l1"),
        ("l2", "translation", "l2"),
        ("ssim", "translation", "ssim"),
        ("reconstruction", "segmentation", "cross_entropy"),
        ("soft_error", "segmentation", "soft_error"),
        ("brier", "segmentation", "brier"),
        ("dice", "segmentation", "dice"),
    ],
)
def test_each_is_the_function_of_its_name(name, task, kind):
    found = outputs(task)[1]
    function = translation_error if task == "translation" else segmentation_error
    assert torch.equal(registry.errors.get(name).measure(found), function(found.prediction, found.target, kind))
