"""The package of Lightning that trainings in the tests use: ``lightning.pytorch``, or the one that is asked for.

``MIA_LIGHTNING_TEST_PACKAGE=pytorch_lightning pytest tests/callbacks`` runs them with the other one.
"""

import importlib
import os

pl = importlib.import_module(os.environ.get("MIA_LIGHTNING_TEST_PACKAGE", "lightning.pytorch"))
_PLACES = (pl, *(importlib.import_module(f"{pl.__name__}.{n}") for n in ("callbacks", "loggers", "strategies")))


def __getattr__(name):
    """Whatever the package has, wherever it has it."""
    for place in (*_PLACES, pl.trainer.states):
        if hasattr(place, name):
            return getattr(place, name)
    raise AttributeError(f"{pl.__name__} has no {name}")
