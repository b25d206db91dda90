"""What GAN translators share: pairs read, a step of each network a batch, decay, metrics of images in [0, 1]."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torchmetrics import MeanAbsoluteError, MetricCollection
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from mia_lightning.functional.batches import BatchReader
from mia_lightning.functional.entries import Key
from mia_lightning.models.audited_module import AuditedModule
from mia_lightning.models.image_checks import check_images, check_range

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler


class GanTranslator(AuditedModule):
    """A generator against a discriminator, trained on pairs by two optimizers in turn.

    Images are in [0, 1] everywhere outside: in batches, and in and out of :meth:`forward`. The networks work in
    [-1, 1] inside. Subclasses build ``generator`` and ``discriminator`` (with a method ``check_size(height, width)``),
    and write the two backward passes as their paper has them. Beside the hyperparameters of :class:`AuditedModule` they
    have ``in_channels`` (of the inputs in batches), ``betas``, ``constant_epochs`` and ``decay_epochs``, and ``lr``
    unless they say otherwise in :meth:`learning_rates`.

    Args:
        in_channels: Channels of what :meth:`forward` takes.
        out_channels: Channels of the target.
        input_key: Where a batch keeps the inputs; None reads the usual forms.
        target_key: Likewise for the targets.
    """

    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, in_channels: int, out_channels: int, input_key: Key | None, target_key: Key | None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.reader = BatchReader(input_key, target_key)
        self.in_channels = in_channels
        self.out_channels = out_channels
        psnr, ssim = PeakSignalNoiseRatio(data_range=1.0), StructuralSimilarityIndexMeasure(data_range=1.0)
        self.val_metrics = MetricCollection({"l1": MeanAbsoluteError(), "psnr": psnr, "ssim": ssim}, prefix="val/")
        self.test_metrics = self.val_metrics.clone(prefix="test/")

    @abstractmethod
    def backward_d(self, real_x: Tensor, real_y: Tensor, fake_y: Tensor) -> Tensor:
        """Teach the discriminator to tell real pairs from fake ones.

        Args:
            real_x: Inputs, (B, C, H, W), as :meth:`prepare` makes them.
            real_y: Targets, (B, C', H, W), in [-1, 1].
            fake_y: What the generator made of the inputs, with its graph, in [-1, 1].

        Returns:
            The loss, detached.
        """

    @abstractmethod
    def backward_g(self, real_x: Tensor, real_y: Tensor, fake_y: Tensor) -> tuple[Tensor, ...]:
        """Teach the generator, against the discriminator as it is now; arguments as of :meth:`backward_d`.

        Returns:
            The loss and its further terms before weighting, all detached.
        """

    @abstractmethod
    def names_of_terms(self, *terms: Tensor) -> dict[str, Tensor]:
        """Name the further terms of :meth:`backward_g` for the logs."""

    def complete(self, batch: Any, x: Tensor) -> Tensor:
        """Add to a batch's inputs, (B, C, H, W), what else it holds for the networks; here nothing."""
        del batch
        return x

    def prepare(self, x: Tensor) -> Tensor:
        """Make inputs, (B, in_channels, H, W), in [0, 1], what the networks take: of the same shape, in [-1, 1]."""
        return to_signed(x)

    def forward(self, x: Tensor) -> Tensor:
        """Translate inputs, (B, in_channels, H, W), to outputs, (B, out_channels, H, W), both in [0, 1]."""
        fake: Tensor = self.generator(self.prepare(x))
        return to_unit(fake)

    def on_fit_start(self) -> None:
        """Compare the size of the data module's images, where it names one, before anything is trained.

        Raises:
            ValueError: If the discriminator was built for larger images.
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        size = getattr(data, "image_size", None)
        if isinstance(size, tuple) and len(size) == 2 and all(isinstance(side, int) for side in size):
            self.discriminator.check_size(*size)  # type: ignore[operator]  # a method of both discriminators

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Update the discriminator on detached fakes, then the generator against the updated discriminator."""
        x, y = self._read_pair(batch)
        if batch_idx == 0:
            # Once an epoch: looking at values makes a GPU wait.
            check_range(x, "input")
            check_range(y, "target")
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        optimizer_g, optimizer_d = optimizers
        real_x, real_y = self.prepare(x), to_signed(y)
        fake_y = self.generator(real_x)

        with self.toggled_optimizer(optimizer_d):
            optimizer_d.zero_grad()
            loss_d = self.backward_d(real_x, real_y, fake_y)
            optimizer_d.step()

        with self.toggled_optimizer(optimizer_g):
            optimizer_g.zero_grad()
            loss_g, *terms = self.backward_g(real_x, real_y, fake_y)
            optimizer_g.step()

        losses = {"train/loss_g": loss_g, "train/loss_d": loss_d}
        losses |= {f"train/{name}": term for name, term in self.names_of_terms(*terms).items()}
        self.log_dict(losses, prog_bar=True, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(x))

    def on_train_epoch_end(self) -> None:
        """Move both learning rates on."""
        schedulers = self.lr_schedulers()
        assert isinstance(schedulers, list)
        for scheduler in schedulers:
            assert isinstance(scheduler, LRScheduler)
            scheduler.step()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Measure a batch, and show the first one."""
        x, y, output = self._evaluate(batch, self.val_metrics)
        self.log_examples(batch_idx, x[:, : self.hparams["in_channels"]], y, output)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure a batch."""
        self._evaluate(batch, self.test_metrics)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Translate a batch, with or without targets, to outputs, (B, out_channels, H, W), in [0, 1]."""
        x = self.reader.input(batch)
        check_images(x, self.hparams["in_channels"], "input", "in_channels")
        output: Tensor = self(self.complete(batch, x))
        return output

    def learning_rates(self) -> tuple[float, float]:
        """Learning rates of the generator and of the discriminator."""
        return self.hparams["lr"], self.hparams["lr"]

    def configure_optimizers(self) -> "OptimizerLRScheduler":
        """One Adam for each network, with the same decay."""
        betas = tuple(self.hparams["betas"])
        networks = zip((self.generator, self.discriminator), self.learning_rates(), strict=True)
        optimizers = [torch.optim.Adam(network.parameters(), lr, betas) for network, lr in networks]
        constant, decay = self.hparams["constant_epochs"], self.hparams["decay_epochs"]
        return optimizers, [LambdaLR(o, lambda epoch: lr_factor(epoch, constant, decay)) for o in optimizers]

    def audit_settings(self) -> dict[str, Any]:
        """Say that targets are images, even one-channel ones of zeros and ones."""
        return {"task": "translation", **super().audit_settings()}

    def _evaluate(self, batch: Any, metrics: MetricCollection) -> tuple[Tensor, Tensor, Tensor]:
        x, y = self._read_pair(batch)
        output: Tensor = self(x)
        metrics.update(output.float(), y.float())
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(x))
        return x, y, output

    def _read_pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        x, y = self.reader.pair(batch)
        check_images(x, self.hparams["in_channels"], "input", "in_channels")
        check_images(y, self.out_channels, "target", "out_channels")
        if x.shape[2:] != y.shape[2:]:
            raise ValueError(
                f"The input measures {x.shape[2]} x {x.shape[3]} pixels but the target {y.shape[2]} x {y.shape[3]}; "
                "translation needs pairs of one size: apply the same crops and resizes to both."
            )
        return self.complete(batch, x), y


def lr_factor(epoch: int, constant_epochs: int, decay_epochs: int) -> float:
    """Share of the learning rate, in [0, 1], that an epoch, counted from 0, trains with.

    It falls over ``decay_epochs`` epochs (0: never), and would be zero right after the last of them.

    Example:
        >>> [lr_factor(epoch, constant_epochs=2, decay_epochs=3) for epoch in range(7)]
        [1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    if decay_epochs == 0:
        return 1.0
    return 1.0 - min(1.0, max(0, epoch + 1 - constant_epochs) / (decay_epochs + 1))


def check_weights(**weights: float) -> None:
    """Refuse weights of losses that would reward what is to be avoided.

    Raises:
        ValueError: If one is negative or NaN.
    """
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"Expected {name} to be 0, which leaves this loss out, or more but got {weight}.")


def to_signed(x: Tensor) -> Tensor:
    """Map [0, 1] to [-1, 1]."""
    return 2.0 * x - 1.0


def to_unit(x: Tensor) -> Tensor:
    """Map [-1, 1] to [0, 1]."""
    return (x + 1.0) / 2.0
