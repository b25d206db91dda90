"""What variances of many samples say of the variance of one: an inverse-chi-squared prior, fitted by its moments."""

from typing import NamedTuple

import numpy as np
from scipy.special import digamma, polygamma

from mia_lightning.functional.roc import Floats

MOST_FREEDOM = 1e4
"""More degrees of freedom than this make no difference: all samples have the prior's variance."""

LEAST_FREEDOM = 1.0
"""A prior is worth one deviation at least: estimates from a few dozen variances are noise themselves."""


class VariancePrior(NamedTuple):
    """A scaled inverse-chi-squared distribution of variances: worth ``freedom`` squared deviations of that variance."""

    freedom: float
    variance: float

    def posterior(self, squares: Floats, freedom: Floats) -> tuple[Floats, Floats]:
        """Degrees of freedom and variance of each sample after its sum of squared deviations was seen, (N,) each.

        Example:
            >>> after = VariancePrior(4.0, 1.0).posterior(np.array([0.0, 6.0]), np.array([0.0, 2.0]))
            >>> [part.round(3).tolist() for part in after]
            [[4.0, 6.0], [1.0, 1.667]]
        """
        known = self.freedom + freedom
        return known, (self.freedom * self.variance + squares) / known


def fit_variance_prior(squares: Floats, freedom: Floats) -> VariancePrior:
    """Fit a prior to sums of squared deviations and their degrees of freedom, (N,) each, by moments of logarithms.

    Source: Smyth, "Linear models and empirical Bayes methods for assessing differential expression in microarray
    experiments", 2004, section 6.2: what the logarithms of the variances scatter beyond what their own degrees of
    freedom explain is the prior's. Where they scatter no more, the prior has :data:`MOST_FREEDOM`. Samples without
    degrees of freedom are left out; at least one must have some, and a sum above zero.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> variances = 2.0 * 8.0 / rng.chisquare(8.0, 50_000)
        >>> prior = fit_variance_prior(variances * rng.chisquare(3.0, 50_000), np.full(50_000, 3.0))
        >>> round(prior.freedom), round(prior.variance, 1)
        (8, 2.0)
    """
    usable = freedom > 0
    total, known = squares[usable], freedom[usable]
    variances = np.maximum(total / known, 1e-9 * total.sum() / known.sum())  # no logarithm of a tie
    logs = np.log(variances) - digamma(known / 2.0) + np.log(known / 2.0)
    excess = float(logs.var(ddof=1) - polygamma(1, known / 2.0).mean()) if logs.size > 1 else 0.0
    worth = 2.0 * _inverse_trigamma(excess) if excess > 0.0 else MOST_FREEDOM
    worth = float(np.clip(worth, LEAST_FREEDOM, MOST_FREEDOM))
    return VariancePrior(worth, float(np.exp(logs.mean() + digamma(worth / 2.0) - np.log(worth / 2.0))))


def _inverse_trigamma(value: float) -> float:
    """Where the trigamma function is a positive value: Newton's method on its reciprocal, which is nearly linear."""
    x = 0.5 + 1.0 / value
    for _ in range(50):
        here = float(polygamma(1, x))
        step = here * (1.0 - here / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x
