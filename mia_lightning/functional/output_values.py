"""What a segmenter's outputs are, by their values, and how probabilities and class numbers become logits.

The rule (:func:`kind_by_values`), over a few samples of both sides:

==============================================================  =====================================
values                                                          taken for
==============================================================  =====================================
whole numbers by type (integers, booleans)                      labels
outside of [0, 1] anywhere                                      logits
one channel, or several of their own, all above 0 or all below  undecided: logits or logarithms
several channels whose powers of 2, 10 or 1/e sum to one        undecided: logarithms of another base or sign
in [0, 1], several channels that sum to one at every pixel      probabilities, unless all are 0 or 1
all else: one channel in [0, 1], sums other than one, 0 and 1   undecided: the setting ``output`` says
==============================================================  =====================================

How often it errs, measured by ``benchmarks/readings.py`` on logits drawn from normal distributions with means from -2
to 2 and deviations from 0.01 to 10, with 2, 3, 7 and 21 channels, 16 samples of 16 x 16 pixels, in four floating-point
formats: of 20,000 draws none was taken for probabilities, and 6.1 % were asked about, all with a deviation below 0.14,
as networks have it that were not trained yet. Of the softmax of as many draws all were taken for probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Kind = Literal["logits", "probabilities", "log-probabilities", "labels"]

SUM_TOLERANCE = {torch.bfloat16: 0.03}
"""How far from one the probabilities of a pixel may sum up, by format; 0.01 where none is given.

Formats of 16 bits round each probability, and models may round to them inside."""

_SUM_TOLERANCE = 0.01
RANGE_TOLERANCE = 0.01
"""How far outside of [0, 1] values may lie that count as probabilities by themselves."""

OVERSHOOT = 0.45
"""How far outside of [0, 1] bicubic resizing may take probabilities: its weights' absolute values sum to 1.375²."""

LOG_FLOOR = -100.0
"""Logarithms of probabilities below this count as this, as in torch's ``binary_cross_entropy``."""

HALF_FLOOR = 1e-6
"""Probabilities of 16-bit formats below this count as this: what rounds to zero there need not be impossible."""

OTHER_BASES = {"2": math.log(2.0), "10": math.log(10.0), "1/e": -1.0}
"""Bases of logarithms of probabilities that are no logits, and their own natural logarithms."""

CERTAIN = 200.0
"""Logit of a class that is the only one possible: the softmax of the others is exactly zero."""


class Values(NamedTuple):
    """What was seen of predictions (B, K, H, W), pixels that are not finite left out.

    Attributes:
        channels: K.
        dtype: Their format.
        pixels: How many pixels were looked at.
        lowest: Smallest value.
        highest: Largest value.
        sum_gap: How far the sum over channels lies from one at the most.
        log_sum_gap: How far the logarithm of the summed exponentials lies from zero at the most.
        whole: Whether all are whole numbers.
        base: Of which number the powers sum to one at every pixel, as a key of :data:`OTHER_BASES`; empty where of
            none but e.
    """

    channels: int
    dtype: torch.dtype
    pixels: int
    lowest: float
    highest: float
    sum_gap: float
    log_sum_gap: float
    whole: bool
    base: str = ""

    @property
    def inside(self) -> bool:
        """Whether all lie in [0, 1], but for rounding."""
        return self.within(RANGE_TOLERANCE)

    def within(self, tolerance: float) -> bool:
        """Whether all lie in [0, 1], but for a tolerance."""
        return self.lowest >= -tolerance and self.highest <= 1.0 + tolerance

    @property
    def tolerance(self) -> float:
        """How far from one sums may lie."""
        return SUM_TOLERANCE.get(self.dtype, _SUM_TOLERANCE)

    @property
    def sum_to_one(self) -> bool:
        """Whether several channels sum to one at every pixel."""
        return self.channels > 1 and self.sum_gap <= self.tolerance

    @property
    def exponentials_sum_to_one(self) -> bool:
        """Whether the exponentials of several channels do."""
        return self.channels > 1 and self.log_sum_gap <= self.tolerance

    def __str__(self) -> str:
        """Say what was found, for messages."""
        if not self.pixels:
            return "no finite value"
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        sums = f", of which the powers of {self.base} sum to one" if self.base else ""
        if self.channels > 1 and not self.base:
            sums = ", which sum to one" if self.sum_to_one else ", which do not sum to one at every pixel"
        return f"{channels} of values from {self.lowest:.4g} to {self.highest:.4g}{sums}"


def values_of(prediction: Tensor) -> Values:
    """Look at predictions (B, K, ...) in floating point; no sample or pixel is passed over but those not finite.

    Example:
        >>> str(values_of(torch.full((1, 2, 4, 4), 0.5)))
        '2 channels of values from 0.5 to 0.5, which sum to one'
    """
    x = prediction.detach()
    x = x if x.dtype == torch.float64 else x.float()
    finite = torch.isfinite(x).all(1)
    pixels = x.movedim(1, -1)[finite]  # (pixels, K)
    count = len(pixels)
    if not count:
        return Values(x.shape[1], prediction.dtype, 0, math.inf, -math.inf, 0.0, 0.0, True)
    seen = torch.stack(
        [
            pixels.min(),
            pixels.max(),
            (pixels.sum(1) - 1.0).abs().max(),
            pixels.logsumexp(1).abs().max(),
            (pixels == pixels.round()).all().to(pixels.dtype),
        ]
    )
    lowest, highest, sum_gap, log_sum_gap, whole = seen.tolist()
    values = Values(x.shape[1], prediction.dtype, count, lowest, highest, sum_gap, log_sum_gap, bool(whole))
    return values._replace(base=_other_base(values, pixels))


def _other_base(values: Values, pixels: Tensor) -> str:
    """Of which base values are the logarithms of probabilities, where all have one sign and that is not e."""
    one_sign = values.lowest >= 0.0 or values.highest <= 0.0
    if values.channels == 1 or not one_sign or values.sum_to_one or values.exponentials_sum_to_one:
        return ""
    sums = {base: (pixels * factor).logsumexp(1).abs().max() for base, factor in OTHER_BASES.items()}
    return next((base for base, gap in sums.items() if float(gap) <= values.tolerance), "")


def joined(samples: Sequence[Values]) -> Values:
    """What was seen of several batches of one model."""
    bases = {v.base for v in samples if v.pixels}
    return samples[0]._replace(
        pixels=sum(v.pixels for v in samples),
        lowest=min(v.lowest for v in samples),
        highest=max(v.highest for v in samples),
        sum_gap=max(v.sum_gap for v in samples),
        log_sum_gap=max(v.log_sum_gap for v in samples),
        whole=all(v.whole for v in samples),
        base=bases.pop() if len(bases) == 1 else "",
    )


def kind_by_values(samples: Sequence[Values], *, independent: bool = False) -> Kind | None:
    """Tell logits from probabilities by the rule above, where it can tell.

    Args:
        samples: What was seen of each of a few samples of both sides.
        independent: Whether each channel is a yes or no of its own, so that sums say nothing.

    Returns:
        ``"logits"``, ``"probabilities"``, or None: then it has to be said.

    Example:
        >>> kind_by_values([values_of(torch.randn(2, 3, 8, 8).softmax(1))])
        'probabilities'
        >>> kind_by_values([values_of(torch.rand(2, 1, 8, 8))]) is None
        True
    """

    def certain(values: Values) -> bool:
        # All 0 and 1: certain probabilities, or planes of class numbers.
        inside = values.pixels > 0 and values.inside
        return inside and values.sum_to_one and not values.whole and not independent

    whole = joined(samples)
    if certain(whole):
        return "probabilities"
    if any(map(certain, samples)):
        return None  # probabilities beside something else
    one_sign = whole.highest <= 0.0 or (whole.lowest >= 0.0 and not whole.inside)
    if whole.pixels and one_sign and (independent or whole.channels == 1):
        return None  # logits of what is nowhere or everywhere, or logarithms of probabilities
    if whole.base and not independent:
        return None
    return "logits" if not whole.pixels or not whole.inside else None


def undecided(values: Values, found: str = "", answers: str = "output='logits' or output='probabilities'") -> str:
    """Message that asks what outputs are, where they and what ``found`` says of the model leave it open."""
    seen = f"{found}; " if found else ""
    base = (
        f" Logarithms of probabilities to the base {values.base} are neither: take natural ones (multiply by "
        f"{OTHER_BASES[values.base]:.6g}), or the probabilities themselves."
        if values.base
        else ""
    )
    return (
        f"Cannot tell whether the model's outputs are logits, probabilities or labels: {seen}they hold {values}. "
        f"Pass {answers}, or output='labels' for class numbers.{base}"
    )


# ---- what outputs become


def logits_of(prediction: Tensor, kind: Kind, *, independent: bool = False) -> Tensor:
    """Turn probabilities into logits, (B, K, H, W), whose cross-entropy is that of the probabilities.

    Args:
        prediction: (B, K, H, W), floating point.
        kind: What they are: ``"logits"`` stay as they are.
        independent: Whether each channel is a yes or no of its own. One channel always is.

    Returns:
        Logits, in float32 or wider: log p, or log p - log (1 - p) where channels are independent. NaN stays NaN.

    Example:
        >>> logits_of(torch.tensor([[[[0.75]], [[0.25]]]]), "probabilities").softmax(1).flatten()
        tensor([0.7500, 0.2500])
    """
    if kind == "logits":
        return prediction
    x = prediction if prediction.dtype == torch.float64 else prediction.float()
    alone = independent or prediction.shape[1] == 1
    if kind == "log-probabilities":
        x = x.clamp_max(0.0)
        return x - _log1mexp(x) if alone else x
    floor = math.log(HALF_FLOOR) if prediction.dtype in (torch.float16, torch.bfloat16) else LOG_FLOOR
    p = torch.where(torch.isfinite(x), x.clamp(0.0, 1.0), torch.nan)
    yes = p.log().clamp_min(floor)
    return yes - (-p).log1p().clamp_min(floor) if alone else yes


def _log1mexp(x: Tensor) -> Tensor:
    """Logarithm of 1 - exp(x), for x up to 0."""
    # The one that keeps its digits (Maechler, 2012).
    small = torch.where(x > -math.log(2), (-torch.expm1(x)).log(), (-x.exp()).log1p())
    return small.clamp_min(LOG_FLOOR)


def labels_of(prediction: Tensor, axes: int = 2) -> Tensor:
    """Bring class numbers, or planes of which one a pixel is 1, to (B, H, W) int64; of volumes to (B, D, H, W).

    Args:
        prediction: (B, H, W), (B, 1, H, W) or planes (B, K, H, W) of whole numbers, in any format.
        axes: 3 for volumes, which have D before H.

    Raises:
        ValueError: If they are neither.

    Example:
        >>> labels_of(torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])).tolist()
        [[[0, 1]]]
    """
    if prediction.ndim == axes + 1 or prediction.shape[1] == 1:
        labels = prediction if prediction.ndim == axes + 1 else prediction[:, 0]
        if labels.is_floating_point() and not bool((labels == labels.round()).all()):
            raise ValueError(
                "The model's outputs were taken for labels, but hold fractions; expected whole class numbers. Pass "
                "output='logits' or output='probabilities' if they are that."
            )
        return labels.long()
    whole = prediction.long()
    if not bool(((prediction == 0) | (prediction == 1)).all()) or not bool((whole.sum(1) == 1).all()):
        raise ValueError(
            f"The model's outputs were taken for labels, but their {prediction.shape[1]} channels are no planes of "
            "classes of which one a pixel is 1. Pass output='logits' or output='probabilities' if they are that."
        )
    return whole.argmax(1)


def certain_logits(labels: Tensor, classes: int, ignore_index: int = 255) -> Tensor:
    """Logits (B, classes, ...) under which the class of a label map (B, ...) is the only one possible.

    Pixels with a negative label or ``ignore_index`` have equal logits, which is no class.

    Raises:
        ValueError: If a label is no class.

    Example:
        >>> certain_logits(torch.tensor([[[1]]]), 2).softmax(1).flatten().tolist()
        [0.0, 1.0]
    """
    ignored = (labels < 0) | (labels == ignore_index)
    stray = labels[~ignored & (labels >= classes)]
    if len(stray):
        raise ValueError(
            f"The model returned class numbers up to {int(stray.max())}, but num_classes={classes} allows 0 to "
            f"{classes - 1}. Raise num_classes; if these are no class numbers, say with output= what they are."
        )
    safe = torch.where(ignored, torch.zeros_like(labels), labels)
    planes = torch.zeros((len(labels), classes, *labels.shape[1:]), device=labels.device)
    planes.scatter_(1, safe.unsqueeze(1), CERTAIN)
    return planes.masked_fill(ignored.unsqueeze(1), 0.0)


def certain_masks(prediction: Tensor) -> Tensor:
    """Turn masks of independent channels, zeros and ones, into logits of certainty, (B, K, H, W).

    Raises:
        ValueError: If there are other values; names the setting that says what they are.

    Example:
        >>> certain_masks(torch.tensor([[[[True, False]]]])).sigmoid()
        tensor([[[[1., 0.]]]])
    """
    x = prediction.double() if prediction.dtype == torch.float64 else prediction.float()
    if bool(((x != 0) & (x != 1) & torch.isfinite(x)).any()):
        raise ValueError(
            "Expected masks of zeros and ones, one a channel, but the model's outputs hold other values. Pass "
            "output='probabilities' or output='logits' if they are these."
        )
    return torch.where(torch.isfinite(x), (2.0 * x - 1.0) * CERTAIN, torch.nan)
