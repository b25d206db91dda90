"""Thin torchmetrics metrics over the pure functions: membership AUC and true-positive rate at a false-positive rate."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mia_lightning.functional.roc import roc_auc, tpr_at_fpr


class _ScoreMetric(Metric):
    full_state_update = False
    is_differentiable = False
    higher_is_better = False  # a model that can be attacked is worse
    scores: list[Tensor]
    member: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("member", default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, member: Tensor) -> None:
        """Add scores (higher = more likely member) and membership flags, both (B,)."""
        self.scores.append(scores.detach().double().flatten())
        self.member.append(member.detach().bool().flatten())

    def _gathered(self) -> tuple[Any, Any]:
        return dim_zero_cat(self.scores).cpu().numpy(), dim_zero_cat(self.member).cpu().numpy()


class MembershipAUC(_ScoreMetric):
    """Area under the ROC with members as positives; scores may have any range.

    Example:
        >>> metric = MembershipAUC()
        >>> metric.update(torch.tensor([20.0, 50.0]), torch.tensor([False, True]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """Return the area, a scalar in [0, 1]."""
        return torch.tensor(roc_auc(*self._gathered()), dtype=torch.float64)


class TPRAtFPR(_ScoreMetric):
    """True-positive rate at a nominal false-positive rate; see :func:`mia_lightning.functional.roc.tpr_at_fpr`.

    Args:
        fpr: Nominal false-positive rate, in [0, 1).
        **kwargs: Passed on to :class:`torchmetrics.Metric`.

    Example:
        >>> metric = TPRAtFPR(fpr=0.01)
        >>> metric.update(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([False, False, True]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def __init__(self, fpr: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fpr = fpr

    def compute(self) -> Tensor:
        """Return the rate, a scalar in [0, 1]."""
        return torch.tensor(tpr_at_fpr(*self._gathered(), self.fpr)[0], dtype=torch.float64)
