"""Membership error (Shafran, Peleg and Hoshen, ICCV 2021)."""

from typing import TypeVar

import numpy as np
import torch

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, torch.Tensor)


def membership_error(reconstruction: ArrayOrTensor, predictability: ArrayOrTensor, alpha: float = 1.0) -> ArrayOrTensor:
    """Correct the reconstruction error for how hard the sample is by itself; **low means member**.

    Args:
        reconstruction: Reconstruction errors ``r``, any shape.
        predictability: Predictability errors ``p`` of the same samples, same shape and units.
        alpha: Weight of the correction, ``r - alpha * p``; 1 in the paper.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> membership_error(np.array([0.30, 0.10]), np.array([0.25, 0.02])).round(2).tolist()
        [0.05, 0.08]
    """
    if reconstruction.shape != predictability.shape:
        raise ValueError(
            f"Expected one predictability error a reconstruction error, but got shapes "
            f"{tuple(predictability.shape)} and {tuple(reconstruction.shape)}."
        )
    return reconstruction - alpha * predictability
