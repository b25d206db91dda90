"""Lower bounds for mechanisms that are Gaussian-private. The analysis computes them."""

from mia_lightning.registry import MetricSpec, metrics

EPSILON_LOW_FDP = metrics.register(
    MetricSpec(
        name="epsilon_low_fdp",
        label="Gaussian epsilon",
        sentence="no Gaussian-private training (DP-SGD is one, approximately) with a smaller epsilon, or mu, gives so "
        "much away (f-DP in one run; Mahloujifar, Melis and Chaudhuri, arXiv 2410.22235). Where the mechanism of a "
        "training is not known, only the other bound is one.",
        of="audit",
        keys=("epsilon_low_fdp", "mu_low_fdp"),
        promised=("epsilon_low_fdp", "mu_low_fdp"),
        order=111,
        built_in=True,
    )
)
