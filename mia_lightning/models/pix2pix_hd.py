"""Image translation at high resolution with a conditional GAN (Wang et al., 2018, arXiv 1711.11585)."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mia_lightning.features.weights import load_state, state_from_file
from mia_lightning.functional.entries import Key
from mia_lightning.models.feature_matching import FeatureMatchingTranslator
from mia_lightning.models.instance_edges import EdgesAdapter
from mia_lightning.models.losses import gan_loss
from mia_lightning.networks.multiscale import MultiscaleDiscriminator
from mia_lightning.networks.pix2pix_hd import CoarseToFineGenerator


class Pix2PixHD(FeatureMatchingTranslator):
    """pix2pixHD: a coarse-to-fine generator against PatchGANs at three scales, held to the target by their features.

    Images are in **[0, 1]** everywhere outside: in batches, and in and out of :meth:`forward`. The networks work in
    [-1, 1] inside. Batches are dictionaries with ``input`` and ``target``, or tuples ``(input, target)`` or
    ``(input, target, id)``; all images (B, C, H, W) of any size from 16 pixels. Label maps come one-hot, as the data
    modules make them.

    The paper's objective: the least-squares GAN of each discriminator, and lambda times the L1 distance of their
    features of real and fake pairs, summed over layers and discriminators; optionally as much of the distance in the
    features of VGG-19. Two numbers are not in the paper's formula: the discriminators' loss is halved, as in pix2pix,
    and the five stages of VGG-19 weigh 1/32, 1/16, 1/8, 1/4 and 1, from shallow to deep.

    The paper's training from coarse to fine: train a model with ``enhancers=0`` at half the resolution, then one with
    ``enhancers=1`` that starts from it (``global_weights``) and keeps it fixed for ``fixed_global_epochs``. Without
    them, both parts are trained jointly from the start.

    The feature encoder (several outputs for one input, by a style for each object) is left out on purpose: an audit
    asks for the one output that belongs to an input.

    Logged: ``train/loss_g``, ``train/loss_d``, ``train/feature_matching``, ``train/perceptual``, and ``val/`` or
    ``test/`` with ``l1`` (mean absolute error), ``psnr`` (of the mean squared error over the split) and ``ssim``; all
    of images in [0, 1].

    Training uses two optimizers, so ``trainer.global_step`` advances by two a batch: double ``max_steps``. Several
    processes need ``strategy="ddp_find_unused_parameters_true"``, for each backward pass sees one of the networks.

    Args:
        in_channels: Channels of the input; label maps come one-hot, one channel a class. The edge map is one more.
        out_channels: Channels of the target.
        image_size: Side, or (height, width), of the training images. On small ones the global generator halves less
            often, and there are fewer discriminators with fewer layers.
        ngf: Channels of the global generator's outermost stage; a multiple of ``2**enhancers``.
        enhancers: How many local enhancers: 0 is the global generator alone, 1 the paper's at 1024 x 512.
        global_blocks: Residual blocks of the global generator.
        local_blocks: Residual blocks of each enhancer.
        ndf: Channels of the discriminators' first layer.
        num_discriminators: How many scales are judged, at most.
        norm: ``"instance"`` (the paper's) or ``"batch"``.
        lambda_features: Weight of the feature matching.
        perceptual_weights: What the perceptual loss is computed with: a local file of torchvision's VGG-19 (``.pth`` or
            ``.safetensors``), or ``"hub"`` to download it. None leaves this loss out.
        lambda_perceptual: Its weight.
        instance_key: Where a batch keeps the number of each pixel's object, integers (B, H, W), such as ``"instance"``:
            the borders between objects are then a further channel of the input, the last that :meth:`forward` takes.
            None goes without; the data modules bring no such map.
        global_weights: Checkpoint of a ``Pix2PixHD`` with ``enhancers=0`` whose generator a training starts from.
            One that goes on from a checkpoint of its own does not need it again.
        fixed_global_epochs: For how many epochs the global generator is then kept as it is; needs ``global_weights``
            and an enhancer, which is what these epochs train.
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
        ValueError: If ``image_size`` is below 16 pixels, ``ngf`` cannot be halved for each enhancer, a perceptual loss
            is asked for of targets that are no pictures, a lambda or ``fixed_global_epochs`` is negative, or the global
            generator is to be kept fixed though it starts from random weights or is all there is.

    Example:
        >>> model = Pix2PixHD(image_size=32, ngf=4, ndf=4, global_blocks=1, local_blocks=1).eval()
        >>> model(torch.rand(1, 3, 33, 47)).shape
        torch.Size([1, 3, 33, 47])
    """

    def __init__(  # noqa: PLR0913 - each argument is an option of the command line
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        image_size: int | tuple[int, int] = 512,
        ngf: int = 64,
        enhancers: int = 1,
        global_blocks: int = 9,
        local_blocks: int = 3,
        ndf: int = 64,
        num_discriminators: int = 3,
        norm: Literal["batch", "instance"] = "instance",
        lambda_features: float = 10.0,
        perceptual_weights: str | None = None,
        lambda_perceptual: float = 10.0,
        instance_key: Key | None = None,
        global_weights: str | None = None,
        fixed_global_epochs: int = 0,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        constant_epochs: int = 100,
        decay_epochs: int = 100,
        audit: bool = True,
        log_images_every_n_epochs: int = 5,
        input_key: Key | None = None,
        target_key: Key | None = None,
    ) -> None:
        _check_fixing(fixed_global_epochs, global_weights, enhancers)
        channels = in_channels + (instance_key is not None)
        keys = input_key, target_key
        super().__init__(channels, out_channels, *keys, lambda_features, perceptual_weights, lambda_perceptual)
        self.save_hyperparameters()
        self._fixed: list[nn.Parameter] = []
        self.edges = None if instance_key is None else EdgesAdapter(instance_key, input_key=keys[0], target_key=keys[1])
        self.generator = CoarseToFineGenerator(
            channels, out_channels, image_size, ngf, enhancers, global_blocks, local_blocks, norm
        )
        self.discriminator = MultiscaleDiscriminator(channels + out_channels, image_size, ndf, num_discriminators, norm)

    def loss_d(self, real: list[Tensor], fake: list[Tensor]) -> Tensor:
        """Half the least-squares GAN of all scales, which slows the discriminators down, as in pix2pix."""
        pairs = zip(real, fake, strict=True)
        return 0.5 * torch.stack([gan_loss(r, True, "lsgan") + gan_loss(f, False, "lsgan") for r, f in pairs]).sum()

    def loss_g(self, fake: list[Tensor]) -> Tensor:
        """The least-squares GAN of all scales."""
        return torch.stack([gan_loss(f, True, "lsgan") for f in fake]).sum()

    def on_fit_start(self) -> None:
        """Compare the sizes of the images, and load what a training starts from, unless it goes on from a checkpoint.

        Raises:
            FileNotFoundError: If ``global_weights`` names no file.
            RuntimeError: If these weights cannot be read, or do not fit.
            ValueError: If the discriminators were built for larger images.
        """
        super().on_fit_start()
        path = self.hparams["global_weights"]
        if path is not None and self.trainer.ckpt_path is None:
            prefix = "generator.global_generator."
            trained = state_from_file(Path(path), "global_weights")
            state = {k.removeprefix(prefix): v for k, v in trained.items() if k.startswith(prefix)}
            load_state(self._global_generator(), state, "the global generator", path)

    def on_train_epoch_start(self) -> None:
        """Keep the global generator fixed while it is to be; what else is frozen in it stays so afterwards."""
        if self.current_epoch < self.hparams["fixed_global_epochs"]:
            self._fixed += [weight for weight in self._global_generator().parameters() if weight.requires_grad]
            trained = False
        else:
            trained = True
        for weight in self._fixed:
            weight.requires_grad_(trained)
        if trained:
            self._fixed = []

    def _global_generator(self) -> nn.Module:
        assert isinstance(self.generator, CoarseToFineGenerator)
        return self.generator.global_generator

    def complete(self, batch: Any, x: Tensor) -> Tensor:
        """Append the borders between the objects to inputs, where the batch is to have them."""
        return x if self.edges is None else self.edges.with_edges(batch, x)

    def audit_settings(self) -> dict[str, Any]:
        """Say that targets are images, and how an audit gets the edge map."""
        settings = super().audit_settings()
        if self.edges is None:
            return settings
        return {"task": settings["task"], "adapter": self.edges}


def _check_fixing(epochs: int, weights: str | None, enhancers: int) -> None:
    if epochs < 0:
        raise ValueError(f"Expected fixed_global_epochs to be 0 (never) or more but got {epochs}.")
    if epochs and weights is None:
        raise ValueError(
            f"fixed_global_epochs={epochs} would train the enhancers on top of a random generator that never learns: "
            "name the checkpoint that it starts from with global_weights, or set fixed_global_epochs=0."
        )
    if epochs and enhancers == 0:
        raise ValueError(
            f"fixed_global_epochs={epochs} would train the last convolution alone, for with enhancers=0 there is "
            "nothing but the global generator: set enhancers=1, or fixed_global_epochs=0."
        )
