"""Photographs from label maps by spatially-adaptive normalisation (Park et al., 2019, arXiv 1903.07291)."""

import torch
from torch import Tensor

from mia_lightning.functional.entries import Key
from mia_lightning.models.feature_matching import FeatureMatchingTranslator
from mia_lightning.models.losses import hinge_loss
from mia_lightning.networks.multiscale import MultiscaleDiscriminator
from mia_lightning.networks.spade import SpadeGenerator


class SPADE(FeatureMatchingTranslator):
    """SPADE (GauGAN): a generator whose normalisation is told at each pixel what the label map says.

    Inputs are **one-hot label maps**, one channel a class, as the data modules make them of label files; ignored pixels
    are zeros in all channels. Other images in [0, 1] condition the normalisation likewise. Targets are images in
    **[0, 1]**, as are those that :meth:`forward` returns; the networks make them in [-1, 1] inside. Batches are
    dictionaries with ``input`` and ``target``, or tuples ``(input, target)`` or ``(input, target, id)``; all
    (B, C, H, W) of any size from 16 pixels.

    The paper's objective is that of pix2pixHD with a hinge loss in place of least squares: discriminators at several
    scales, with spectral and instance norm, whose features of real and fake pairs are matched; optionally the distance
    in the features of VGG-19. The discriminators learn four times as fast as the generator (Heusel et al., 2017).

    The style encoder (outputs in the style of an image, and the noise in its place) is left out on purpose: an audit
    asks for the one output that belongs to an input. The generator begins with the label map at the lowest resolution.
    It departs from the paper in its spectral norm, too, which is on the residual blocks alone and not on all layers.
    The paper gives no weights for the stages of VGG-19: they are 1/32, 1/16, 1/8, 1/4 and 1, from shallow to deep.

    Batch norm inside SPADE uses the statistics of the batch in training and its running ones in evaluation. Small
    batches make the two differ; on several devices, set the trainer's ``sync_batchnorm``, as the authors do.

    Logged: ``train/loss_g``, ``train/loss_d``, ``train/feature_matching``, ``train/perceptual``, and ``val/`` or
    ``test/`` with ``l1`` (mean absolute error), ``psnr`` (of the mean squared error over the split) and ``ssim``; all
    of images in [0, 1].

    Training uses two optimizers, so ``trainer.global_step`` advances by two a batch: double ``max_steps``. Several
    processes need ``strategy="ddp_find_unused_parameters_true"``, for each backward pass sees one of the networks.

    Args:
        in_channels: Channels of the input: the number of classes.
        out_channels: Channels of the target.
        image_size: Side, or (height, width), of the training images. On small ones the generator has fewer blocks, and
            there are fewer discriminators with fewer layers.
        ngf: Channels of the generator's last block.
        hidden: Channels between the label map and the modulation, in each block.
        ndf: Channels of the discriminators' first layer.
        num_discriminators: How many scales are judged, at most.
        lambda_features: Weight of the feature matching.
        perceptual_weights: What the perceptual loss is computed with: a local file of torchvision's VGG-19 (``.pth`` or
            ``.safetensors``), or ``"hub"`` to download it. None leaves this loss out.
        lambda_perceptual: Its weight.
        lr_g: Learning rate of the generator (Adam).
        lr_d: That of the discriminators.
        betas: Adam's two decay rates.
        constant_epochs: Epochs at the full learning rate.
        decay_epochs: Epochs over which it then falls linearly to zero; 0 means that it never falls.
        audit: Whether to bring a default ``MembershipAudit``.
        log_images_every_n_epochs: How often to show examples in TensorBoard; 0 means never.
        input_key: Where a batch keeps the inputs, a key or a place in a tuple, for training and for the audit that the
            model brings; None reads the forms above.
        target_key: Likewise for the targets.

    Raises:
        ValueError: If ``image_size`` is below 16 pixels, a lambda is negative, or a perceptual loss is asked for of
            targets that are no pictures.

    Example:
        >>> model = SPADE(in_channels=5, image_size=32, ngf=2, hidden=8, ndf=4).eval()
        >>> model(torch.rand(1, 5, 33, 47)).shape
        torch.Size([1, 3, 33, 47])
    """

    def __init__(  # noqa: PLR0913 - each argument is an option of the command line
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        image_size: int | tuple[int, int] = 256,
        ngf: int = 64,
        hidden: int = 128,
        ndf: int = 64,
        num_discriminators: int = 2,
        lambda_features: float = 10.0,
        perceptual_weights: str | None = None,
        lambda_perceptual: float = 10.0,
        lr_g: float = 1e-4,
        lr_d: float = 4e-4,
        betas: tuple[float, float] = (0.0, 0.999),
        constant_epochs: int = 100,
        decay_epochs: int = 100,
        audit: bool = True,
        log_images_every_n_epochs: int = 5,
        input_key: Key | None = None,
        target_key: Key | None = None,
    ) -> None:
        keys = input_key, target_key
        super().__init__(in_channels, out_channels, *keys, lambda_features, perceptual_weights, lambda_perceptual)
        self.save_hyperparameters()
        self.generator = SpadeGenerator(in_channels, out_channels, image_size, ngf, hidden)
        self.discriminator = MultiscaleDiscriminator(
            in_channels + out_channels, image_size, ndf, num_discriminators, "instance", spectral=True
        )

    def prepare(self, x: Tensor) -> Tensor:
        """Take label maps as they are: a pixel without a class says nothing."""
        return x

    def loss_d(self, real: list[Tensor], fake: list[Tensor]) -> Tensor:
        """The hinge loss of all scales."""
        pairs = zip(real, fake, strict=True)
        return torch.stack([hinge_loss(r, is_real=True) + hinge_loss(f, is_real=False) for r, f in pairs]).sum()

    def loss_g(self, fake: list[Tensor]) -> Tensor:
        """Minus the mean verdict, summed over scales."""
        return -torch.stack([f.float().mean() for f in fake]).sum()

    def learning_rates(self) -> tuple[float, float]:
        """Two time scales."""
        return self.hparams["lr_g"], self.hparams["lr_d"]
