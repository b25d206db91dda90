"""Settings in configurations that runs have saved: which of them somebody chose."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mia_lightning.audit.config import AuditConfig

# All settings of the first development version, whose runs saved each of them; no later setting belongs here.
_SAVED_ONCE = """task adapter scorer scores primary alpha neighbours num_classes ignore_index mean std target_range
output_key max_samples batch_size num_workers seed fdr prefix cache_dir output_dir"""


_DEFAULTS_ONCE = {"target_range": (0.0, 1.0)}  # those that have changed since


def settings_passed(passed: Mapping[str, Any], parsed: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that somebody passed, out of all that were parsed.

    Runs saved every setting before they saved only those passed: where a configuration holds all of them, one that is
    the default says nothing.

    Args:
        passed: Those of options and configurations.
        parsed: All of them, with their defaults.

    Example:
        >>> settings_passed({"alpha": 1.0}, {"alpha": 1.0, "seed": 0})
        {'alpha': 1.0}
    """
    defaults = {field.name: field.default for field in fields(AuditConfig)}
    if passed.keys() >= set(_SAVED_ONCE.split()):
        return {k: parsed[k] for k in passed if k not in defaults or not _is_default(k, parsed[k], defaults[k])}
    return dict(passed)


def _is_default(name: str, value: Any, default: Any) -> bool:
    earlier = _DEFAULTS_ONCE.get(name)
    return value == default or (earlier is not None and not isinstance(value, str) and tuple(value) == earlier)
