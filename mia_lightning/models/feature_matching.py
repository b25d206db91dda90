"""The objective of pix2pixHD, which SPADE took over: several discriminators, matched features, perceptual loss."""

from abc import abstractmethod

import torch
from torch import Tensor

from mia_lightning.functional.entries import Key
from mia_lightning.models.gan_translator import GanTranslator, check_weights, to_unit
from mia_lightning.models.losses import feature_matching_loss
from mia_lightning.models.perceptual_loss import PerceptualLoss


class FeatureMatchingTranslator(GanTranslator):
    """A translator whose generator is taught by the verdicts of several discriminators and by what leads to them.

    Its ``discriminator`` returns, for each scale, its maps and last its verdicts. Subclasses say what the verdicts
    teach. The network of the perceptual loss is loaded when a training begins; it is no part of the model, so that
    checkpoints do not hold it and load without its weights.

    Args:
        in_channels: As for :class:`GanTranslator`.
        out_channels: Likewise.
        input_key: Likewise.
        target_key: Likewise.
        lambda_features: Weight of the feature matching.
        perceptual_weights: As for :class:`~mia_lightning.models.perceptual_loss.PerceptualLoss`; None leaves it out.
        lambda_perceptual: Its weight.

    Raises:
        ValueError: If a weight is negative, or there is a perceptual loss and the targets have other than 1 or 3
            channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_key: Key | None,
        target_key: Key | None,
        lambda_features: float,
        perceptual_weights: str | None,
        lambda_perceptual: float,
    ) -> None:
        super().__init__(in_channels, out_channels, input_key, target_key)
        if perceptual_weights is not None and out_channels not in (1, 3):
            raise ValueError(
                f"The perceptual loss compares pictures of 1 or 3 channels, but out_channels is {out_channels}: leave "
                "it out (perceptual_weights=None)."
            )
        check_weights(lambda_features=lambda_features, lambda_perceptual=lambda_perceptual)
        self.lambda_features = lambda_features
        self.perceptual_weights = perceptual_weights
        self.lambda_perceptual = lambda_perceptual
        self._perceptual: tuple[PerceptualLoss, ...] = ()  # in a tuple, a module is none of this one's

    @abstractmethod
    def loss_d(self, real: list[Tensor], fake: list[Tensor]) -> Tensor:
        """What verdicts on real and on fake pairs, (B, 1, h, w) for each scale, teach the discriminators."""

    @abstractmethod
    def loss_g(self, fake: list[Tensor]) -> Tensor:
        """What the verdicts on its fakes teach the generator."""

    def setup(self, stage: str) -> None:
        """Load what the perceptual loss needs, before a training.

        Raises:
            FileNotFoundError: If ``perceptual_weights`` names no file.
            RuntimeError: If these weights cannot be downloaded or read, or do not fit.
        """
        if stage == "fit" and self.perceptual_weights is not None:
            try:
                self._perceptual = (PerceptualLoss(self.perceptual_weights),)
            except (FileNotFoundError, RuntimeError) as error:
                raise type(error)(
                    f"{error} A training with a perceptual loss needs these weights, one that is resumed too; audits "
                    "and predictions do not. Set perceptual_weights to a file of torchvision's VGG-19, to 'hub' "
                    "(a download), or to None, which goes on without this loss."
                ) from error

    def on_fit_start(self) -> None:
        """Compare the sizes of the images, and bring the perceptual loss to the model's device."""
        super().on_fit_start()
        for perceptual in self._perceptual:
            perceptual.to(self.device)

    def backward_d(self, real_x: Tensor, real_y: Tensor, fake_y: Tensor) -> Tensor:
        """Teach all discriminators to tell real pairs from fake ones; the loss, detached."""
        fake = [stages[-1] for stages in self.discriminator(real_x, fake_y.detach())]
        real = [stages[-1] for stages in self.discriminator(real_x, real_y)]
        loss = self.loss_d(real, fake)
        self.manual_backward(loss)
        return loss.detach()

    def backward_g(self, real_x: Tensor, real_y: Tensor, fake_y: Tensor) -> tuple[Tensor, ...]:
        """Teach the generator to fool all discriminators and to look to them, and to VGG-19, as the targets do.

        Returns:
            The loss, the feature matching and, where there is one, the perceptual loss before weighting, all detached.
        """
        fake = self.discriminator(real_x, fake_y)
        with torch.no_grad():
            real = self.discriminator(real_x, real_y)
        matching = feature_matching_loss(fake, real)
        loss = self.loss_g([stages[-1] for stages in fake]) + self.lambda_features * matching
        terms = [matching.detach()]
        for perceptual in self._perceptual:
            distance = perceptual(to_unit(fake_y), to_unit(real_y))
            loss = loss + self.lambda_perceptual * distance
            terms.append(distance.detach())
        self.manual_backward(loss)
        return loss.detach(), *terms

    def names_of_terms(self, *terms: Tensor) -> dict[str, Tensor]:
        """Log the feature matching and, where there is one, the perceptual loss."""
        return dict(zip(("feature_matching", "perceptual"), terms, strict=False))
