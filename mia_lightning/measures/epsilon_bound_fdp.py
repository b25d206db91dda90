"""Lower bounds for mechanisms that are Gaussian-private. The analysis computes them."""

from mia_lightning.registry import MetricSpec, metrics

EPSILON_LOW_FDP = metrics.register(
    MetricSpec(
        name="epsilon_low_fdp",
        label="epsilon at least, if Gaussian-private",
        sentence="as the bound of epsilon, for trainings that are mu-Gaussian-private, as DP-SGD is approximately: no mu "
        "below mu_low_fdp gives so much away (f-DP in one run; Mahloujifar, Melis and Chaudhuri, arXiv 2410.22235). "
        "Of a training without a known mechanism only the other bound is one.",
        of="audit",
        keys=("epsilon_low_fdp", "mu_low_fdp"),
        promised=("epsilon_low_fdp", "mu_low_fdp"),
        order=111,
        built_in=True,
    )
)
