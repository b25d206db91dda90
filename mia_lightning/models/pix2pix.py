"""Paired image translation with a conditional GAN (Isola, Zhu, Zhou, Efros, 2017, arXiv 1611.07004)."""

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torchmetrics import MeanAbsoluteError, MetricCollection
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from mia_lightning.functional.batches import BatchReader
from mia_lightning.functional.entries import Key
from mia_lightning.models.audited_module import AuditedModule, check_choice
from mia_lightning.models.image_checks import check_images, check_range
from mia_lightning.models.losses import GanLoss, gan_loss
from mia_lightning.networks.pix2pix import PatchDiscriminator, UNetGenerator, patch_layers

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler


class Pix2Pix(AuditedModule):
    """pix2pix: a U-Net generator against a PatchGAN discriminator, held to the target by an L1 loss.

    Images are in **[0, 1]** everywhere outside: in batches, and in and out of :meth:`forward`. The networks work in
    [-1, 1] inside. Batches are dictionaries with ``input`` and ``target``, or tuples ``(input, target)`` or
    ``(input, target, id)``; all images (B, C, H, W) of any size from 16 pixels.

    Dropout and batch norm at test time, the most frequent confusion about pix2pix:
        The authors keep **dropout on at test time**, as the noise of their GAN, and let batch norm use the statistics
        of the test batch. Here evaluation mode means what it means in PyTorch: **dropout is off and batch norm uses its
        running statistics**. The audit needs this: otherwise an error would be one random draw and depend on who else
        is in the batch, whereas membership is a property of the sample alone. One consequence: with ``batch_size=1``
        batch norm acts as instance norm in training, but not in evaluation; choose ``norm="instance"`` if the two
        should agree.

    Logged: ``train/loss_g``, ``train/loss_d``, ``train/l1``, and ``val/`` or ``test/`` with ``l1`` (mean absolute
    error), ``psnr`` (of the mean squared error over the split) and ``ssim``; all of images in [0, 1].

    Training uses two optimizers, so ``trainer.global_step`` advances by two a batch: double ``max_steps``. Several
    processes need ``strategy="ddp_find_unused_parameters_true"``, for each backward pass sees one of the networks.

    Args:
        in_channels: Channels of the input; label maps come one-hot, one channel a class.
        out_channels: Channels of the target.
        image_size: Side, or (height, width), of the training images. Sets the generator's depth, and on images below 24
            pixels leaves out layers of the discriminator.
        ngf: Channels of the generator's outermost stage.
        ndf: Channels of the discriminator's first layer.
        norm: ``"batch"`` or ``"instance"``.
        dropout: Dropout of 0.5 in the three innermost decoder stages, while training.
        gan_loss: ``"vanilla"`` (binary cross-entropy) or ``"lsgan"`` (least squares).
        lambda_l1: Weight of the L1 loss, which is taken in [-1, 1] as the authors do.
        lr: Learning rate of both optimizers (Adam).
        betas: Adam's two decay rates.
        constant_epochs: Epochs at the full learning rate.
        decay_epochs: Epochs over which it then falls linearly to zero; 0 means that it never falls.
        audit: Whether to bring a default ``MembershipAudit``.
        log_images_every_n_epochs: How often to show examples in TensorBoard; 0 means never.
        input_key: Where a batch keeps the inputs, a key or a place in a tuple, for training and for the audit that the
            model brings; None reads the forms above.
        target_key: Likewise for the targets.

    Raises:
        ValueError: If ``image_size`` is below 16 pixels, or a name is unknown.

    Example:
        >>> model = Pix2Pix(image_size=32, ngf=4, ndf=4).eval()
        >>> model(torch.rand(1, 3, 33, 47)).shape
        torch.Size([1, 3, 33, 47])
    """

    def __init__(  # noqa: PLR0913 - each argument is an option of the command line
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        image_size: int | tuple[int, int] = 256,
        ngf: int = 64,
        ndf: int = 64,
        norm: Literal["batch", "instance"] = "batch",
        dropout: bool = True,
        gan_loss: GanLoss = "vanilla",
        lambda_l1: float = 100.0,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        constant_epochs: int = 100,
        decay_epochs: int = 100,
        audit: bool = True,
        log_images_every_n_epochs: int = 5,
        input_key: Key | None = None,
        target_key: Key | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.reader = BatchReader(input_key, target_key)
        check_choice("gan_loss", gan_loss, get_args(GanLoss))
        self.automatic_optimization = False
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.gan_loss: GanLoss = gan_loss
        self.lambda_l1 = lambda_l1
        self.generator = UNetGenerator(in_channels, out_channels, image_size, ngf, norm, dropout)
        self.discriminator = PatchDiscriminator(in_channels + out_channels, ndf, patch_layers(image_size), norm)
        psnr, ssim = PeakSignalNoiseRatio(data_range=1.0), StructuralSimilarityIndexMeasure(data_range=1.0)
        self.val_metrics = MetricCollection({"l1": MeanAbsoluteError(), "psnr": psnr, "ssim": ssim}, prefix="val/")
        self.test_metrics = self.val_metrics.clone(prefix="test/")

    def forward(self, x: Tensor) -> Tensor:
        """Translate inputs, (B, in_channels, H, W), to outputs, (B, out_channels, H, W), both in [0, 1]."""
        fake: Tensor = self.generator(to_signed(x))
        return to_unit(fake)

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
        real_x, real_y = to_signed(x), to_signed(y)
        fake_y = self.generator(real_x)

        with self.toggled_optimizer(optimizer_d):
            optimizer_d.zero_grad()
            loss_d = self.backward_d(real_x, real_y, fake_y)
            optimizer_d.step()

        with self.toggled_optimizer(optimizer_g):
            optimizer_g.zero_grad()
            loss_g, l1 = self.backward_g(real_x, real_y, fake_y)
            optimizer_g.step()

        losses = {"train/loss_g": loss_g, "train/loss_d": loss_d, "train/l1": l1 / 2}  # [-1, 1] is twice [0, 1]
        self.log_dict(losses, prog_bar=True, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(x))

    def backward_d(self, real_x: Tensor, real_y: Tensor, fake_y: Tensor) -> Tensor:
        """Teach the discriminator to tell real pairs from fake ones; all images are (B, C, H, W) in [-1, 1].

        Returns:
            The loss, detached: half the sum for real and fake, which slows the discriminator down.
        """
        fake = gan_loss(self.discriminator(real_x, fake_y.detach()), is_real=False, kind=self.gan_loss)
        real = gan_loss(self.discriminator(real_x, real_y), is_real=True, kind=self.gan_loss)
        loss = 0.5 * (fake + real)
        self.manual_backward(loss)
        return loss.detach()

    def backward_g(self, real_x: Tensor, real_y: Tensor, fake_y: Tensor) -> tuple[Tensor, Tensor]:
        """Teach the generator to fool the discriminator and to stay near the target.

        All images are (B, C, H, W) in [-1, 1]; ``fake_y`` has the generator's graph.

        Returns:
            The loss and its L1 part before weighting, both detached.
        """
        fool = gan_loss(self.discriminator(real_x, fake_y), is_real=True, kind=self.gan_loss)
        l1 = (fake_y.float() - real_y.float()).abs().mean()
        loss = fool + self.lambda_l1 * l1
        self.manual_backward(loss)
        return loss.detach(), l1.detach()

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
        self.log_examples(batch_idx, x, y, output)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure a batch."""
        self._evaluate(batch, self.test_metrics)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Translate a batch, with or without targets, to outputs, (B, out_channels, H, W), in [0, 1]."""
        x = self.reader.input(batch)
        check_images(x, self.in_channels, "input", "in_channels")
        output: Tensor = self(x)
        return output

    def configure_optimizers(self) -> "OptimizerLRScheduler":
        """One Adam for each network, with the same decay."""
        lr, betas = self.hparams["lr"], tuple(self.hparams["betas"])
        optimizers = [torch.optim.Adam(net.parameters(), lr, betas) for net in (self.generator, self.discriminator)]
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
        check_images(x, self.in_channels, "input", "in_channels")
        check_images(y, self.out_channels, "target", "out_channels")
        if x.shape[2:] != y.shape[2:]:
            raise ValueError(
                f"The input measures {x.shape[2]} x {x.shape[3]} pixels but the target {y.shape[2]} x {y.shape[3]}; "
                "translation needs pairs of one size: apply the same crops and resizes to both."
            )
        return x, y


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


def to_signed(x: Tensor) -> Tensor:
    """Map [0, 1] to [-1, 1]."""
    return 2.0 * x - 1.0


def to_unit(x: Tensor) -> Tensor:
    """Map [-1, 1] to [0, 1]."""
    return (x + 1.0) / 2.0
