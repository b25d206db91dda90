"""segmentation-models-pytorch in a plain LightningModule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_package import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision.transforms.functional import normalize

from mia_lightning import Auditor, MembershipAudit
from mia_lightning.audit.adapters import AutoAdapter

smp = pytest.importorskip("segmentation_models_pytorch", reason="needs segmentation-models-pytorch")


class Segmenter(LightningModule):
    """What the tutorials write: raw logits, a loss of the package, Adam with a schedule."""

    def __init__(self, classes: int = 3, **options: Any) -> None:
        super().__init__()
        self.model = smp.Unet("resnet18", 2, encoder_weights=None, decoder_channels=(16, 8), classes=classes, **options)
        self.loss = smp.losses.DiceLoss("binary" if classes == 1 else "multiclass")

    def forward(self, image: Tensor) -> Any:
        return self.model(image)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        output = self(batch[0])
        return self.loss(output if isinstance(output, Tensor) else output[0], batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), 1e-3)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)]


def halves(*tensors: Tensor) -> tuple[Subset, Subset]:
    whole = TensorDataset(*tensors)
    return Subset(whole, range(6)), Subset(whole, range(6, 11))


def loaders(sides: tuple[Subset, Subset]) -> dict[str, DataLoader]:
    return {"train_dataloaders": DataLoader(sides[0], 3, shuffle=True), "val_dataloaders": DataLoader(sides[1], 2)}


def by_hand(trainer: Any, module: LightningModule, sides: tuple[Subset, Subset]) -> tuple[Tensor, Tensor]:
    """What Lightning's own prediction loop gives for the samples in the order of the audit, and their targets."""
    batches = trainer().predict(module, [DataLoader(side, 4) for side in sides])
    return torch.cat([p for side in batches for p in side]), torch.stack([y for side in sides for _, y in side])


def test_errors_are_those_of_lightning_predictions(pictures: Any, trainer: Any, quick: Any) -> None:
    sides, module = halves(*pictures), Segmenter()
    audit = MembershipAudit(*sides, scorer=quick, batch_size=4)
    trainer(audit).fit(module, **loaders(sides))
    logits, labels = by_hand(trainer, module, sides)
    expected = F.cross_entropy(logits, labels, reduction="none").mean((1, 2))
    found = torch.from_numpy(audit.result.errors["reconstruction"])
    torch.testing.assert_close(found.float(), expected, rtol=1e-6, atol=0)
    assert audit.result.ids == [f"member-{i:06d}" for i in range(6)] + [f"nonmember-{i:06d}" for i in range(5)]


def test_training_is_unchanged(pictures: Any, quick: Any, same_with_and_without: Any) -> None:
    sides = halves(*pictures)
    audit = MembershipAudit(*sides, scorer=quick, batch_size=4)
    same_with_and_without(lambda: (Segmenter(), loaders(sides)), audit)


@pytest.mark.parametrize("channel", [False, True])
def test_one_logit(channel: bool, pictures: Any, trainer: Any, quick: Any) -> None:
    images, labels = pictures
    masks = (labels == 1).float()
    sides, module = halves(images, masks[:, None] if channel else masks), Segmenter(1)
    audit = MembershipAudit(*sides, scorer=quick, task="segmentation", batch_size=4)
    trainer(audit).fit(module, **loaders(sides))
    logits, targets = by_hand(trainer, module, sides)
    expected = F.binary_cross_entropy_with_logits(logits.flatten(1), targets.flatten(1), reduction="none").mean(1)
    torch.testing.assert_close(torch.from_numpy(audit.result.errors["reconstruction"]).float(), expected)


def test_a_float_mask_asks_for_the_task(pictures: Any, trainer: Any, quick: Any) -> None:
    sides = halves(pictures[0], (pictures[1] == 1).float())
    audit = MembershipAudit(*sides, scorer=quick)
    with pytest.raises(ValueError, match="a float mask of zeros and ones could be a label map or a picture"):
        trainer(audit).fit(Segmenter(1), **loaders(sides))


def test_normalised_inputs(pictures: Any, quick: Any) -> None:
    """With mean and std the predictability is that of the images themselves; without, the audit says what it sees."""
    (images, labels), module = pictures, Segmenter().eval()
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    normalised = halves(normalize(images, mean, std), labels)
    told = Auditor(scorer=quick, mean=mean, std=std).run(module, *normalised)
    plain = Auditor(scorer=quick).run(lambda x: module(normalize(x, mean, std)), *halves(images, labels))
    for name in ("reconstruction", "predictability", "membership"):
        torch.testing.assert_close(*(torch.from_numpy(r.errors[name]) for r in (told, plain)), rtol=1e-4, atol=1e-5)
    with pytest.warns(UserWarning, match=r"expects images in \[0, 1\], but the inputs span .*pass mean and std"):
        Auditor(scorer=quick).run(module, *normalised)


def test_a_tuple_of_outputs(pictures: Any, trainer: Any, quick: Any) -> None:
    """With a classification head the package returns (mask, label): the audit asks which, and two ways of saying it
    agree."""
    sides, module = halves(*pictures), Segmenter(aux_params={"classes": 2})
    with pytest.raises(TypeError) as refused:
        trainer(MembershipAudit(*sides, scorer=quick)).fit(module, **loaders(sides))
    assert "into a tuple of (float32 tensor (1, 3, 32, 32), float32 tensor (1, 2)); expected one tensor" in str(
        refused.value
    )
    assert "output_key=0" in str(refused.value)
    lines = str(refused.value)[str(refused.value).index("class Mine") :]
    names: dict[str, Any] = {"AutoAdapter": AutoAdapter}
    exec(lines.replace("\n    ", "\n"), names)  # the lines of the message are the adapter that is missing

    keyed = MembershipAudit(*sides, scorer=quick, output_key=0)
    adapted = MembershipAudit(*sides, scorer=quick, adapter=names["Mine"](), prefix="adapted")
    trainer(keyed, adapted).fit(module, **loaders(sides))
    for name, error in keyed.result.errors.items():
        assert (error == adapted.result.errors[name]).all(), name
    assert len(keyed.history) == 2
