"""Paired image translation with a conditional GAN (Isola, Zhu, Zhou, Efros, 2017, arXiv 1611.07004)."""

from typing import Literal, get_args

from torch import Tensor

from mia_lightning.functional.entries import Key
from mia_lightning.models.audited_module import check_choice
from mia_lightning.models.gan_translator import GanTranslator, check_weights
from mia_lightning.models.losses import GanLoss, gan_loss
from mia_lightning.networks.pix2pix import PatchDiscriminator, UNetGenerator, patch_layers


class Pix2Pix(GanTranslator):
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
        ValueError: If ``image_size`` is below 16 pixels, ``lambda_l1`` is negative, or a name is unknown.

    Example:
        >>> import torch
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
        super().__init__(in_channels, out_channels, input_key, target_key)
        self.save_hyperparameters()
        check_choice("gan_loss", gan_loss, get_args(GanLoss))
        self.gan_loss: GanLoss = gan_loss
        check_weights(lambda_l1=lambda_l1)
        self.lambda_l1 = lambda_l1
        self.generator = UNetGenerator(in_channels, out_channels, image_size, ngf, norm, dropout)
        self.discriminator = PatchDiscriminator(in_channels + out_channels, ndf, patch_layers(image_size), norm)

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

    def names_of_terms(self, *terms: Tensor) -> dict[str, Tensor]:
        """Log the L1 part of images in [0, 1]."""
        (l1,) = terms
        return {"l1": l1 / 2}  # [-1, 1] is twice [0, 1]
