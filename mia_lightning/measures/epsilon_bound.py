"""Lower bounds on epsilon: no training with a smaller one gives so much away. The analysis computes them."""

from mia_lightning.registry import MetricSpec, metrics

EPSILON_LOW = metrics.register(
    MetricSpec(
        name="epsilon_low",
        label="epsilon at least",
        sentence="no training with a smaller epsilon gives so much away (Steinke, Nasr and Jagielski, NeurIPS 2023).",
        of="audit",
        keys=("epsilon_low", "epsilon_low/one_run", "epsilon_low/threshold"),
        promised=("epsilon_low",),
        order=110,
        built_in=True,
    )
)
