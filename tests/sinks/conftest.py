"""Sinks are tested in the tiny trainings that the callback is tested in."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location("tiny_trainings", Path(__file__).parents[1] / "callbacks" / "conftest.py")
_trainings = module_from_spec(_spec)
_spec.loader.exec_module(_trainings)

kit, quick, audit = _trainings.kit, _trainings.quick, _trainings.audit
trainer, loaders, _same_start = _trainings.trainer, _trainings.loaders, _trainings._same_start
