"""What all tests share: few threads, and no look-ups on the network."""

import os

import pytest

# Before torch is imported: test processes share the cores already.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def covers_chance():
    """Whether the interval of the area under the ROC holds one half."""

    from mia_lightning.functional.intervals import delong_interval  # imports torch: after the line above

    def check(scores, member):
        _, low, high = delong_interval(scores, member)
        return low <= 0.5 <= high

    return check
