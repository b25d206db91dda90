"""What all tests share: few threads, and no look-ups on the network."""

import gc
import os
import tempfile
from pathlib import Path

import pytest

# Before torch is imported: test processes share the cores already.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# Processes that tests start find what the tests share.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])


# Processes of pytest-xdist take whole files: those that run longest go first, or the last keeps the others waiting.
_LONGEST = (
    "integrations/test_examples.py",
    "cli/test_configs.py",
    "cli/test_demo.py",
    "notebooks/test_notebooks.py",
    "end_to_end/test_kill.py",
    "cli/test_references_command.py",
)


_LONGEST_FOLDER = 60  # characters: sockets of processes lie beneath it, and their paths end at about 100


def pytest_sessionstart(session):
    """Have what libraries and child processes write by ``tempfile`` lie where pytest removes it."""
    folder = str(session.config._tmp_path_factory.getbasetemp())
    if len(folder) <= _LONGEST_FOLDER:
        os.environ["TMPDIR"] = tempfile.tempdir = folder


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Leave the garbage of imports for the end of the collection, and look through what is left then no more.

    Those are over a million objects, which last as long as the tests do: to look for garbage among them takes a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    folder = Path(__file__).parent
    places = {folder / name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(_LONGEST)))


@pytest.fixture(scope="session")
def covers_chance():
    """Whether the interval of the area under the ROC holds one half."""

    from mia_lightning.functional.intervals import delong_interval  # imports torch: after the line above

    def check(scores, member):
        _, low, high = delong_interval(scores, member)
        return low <= 0.5 <= high

    return check


@pytest.fixture
def wbc(tmp_path):
    """A small folder laid out as the white blood cells are."""
    import numpy as np
    from PIL import Image

    root = tmp_path / "wbc"
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(12):
        Image.fromarray(rng.integers(0, 3, (40, 40), dtype=np.uint8)).save(root / "masks" / f"c{i:02d}.png")
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(root / "images" / f"c{i:02d}.png")
    return root
