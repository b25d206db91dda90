"""Profiles of Hypothesis, and audits that end in a number or in an error that names a setting.

Some 400 examples are the same at every run, and 4,500 with ``HYPOTHESIS_PROFILE=thorough pytest tests/property``, as
``.ci/run`` has it. The profile ``sweep`` draws others, twenty times as many; ``--hypothesis-seed`` chooses which.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from torch import Tensor

from mia_lightning import AuditConfig, Auditor, AuditResult

_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_PHASES = (Phase.explicit, Phase.generate, Phase.shrink)
_COMMON = {"deadline": None, "database": None, "suppress_health_check": _CHECKS, "phases": _PHASES}
settings.register_profile("usual", derandomize=True, max_examples=100, **_COMMON)
settings.register_profile("thorough", derandomize=True, max_examples=1000, **_COMMON)
settings.register_profile("sweep", max_examples=20_000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))

_PLAIN_WORDS = ("num_classes", "ignore_index", "target_range", "input_kind", "output_key", "input_key", "target_key")
_SETTING = re.compile(rf"\b({'|'.join(f.name for f in fields(AuditConfig))})=|\b({'|'.join(_PLAIN_WORDS)})\b")


class Recorder:
    """A scorer that costs nothing, and keeps the inputs that it is shown."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []

    def __call__(self, input: Tensor, target: Tensor, task: object, **settings: object) -> Tensor:
        self.inputs += list(input)
        return torch.linspace(0.1, 0.2, len(input), dtype=torch.float64)

    def fingerprint(self) -> str:
        return "recorder"


class Lookup:
    """A model that returns what was drawn for each input; `end` is its last layer, whose operations are seen."""

    def __init__(self, inputs: Tensor, outputs: Tensor, end: Callable[[Tensor], Tensor]) -> None:
        self.outputs, self.end = {_bytes(x): y for x, y in zip(inputs, outputs, strict=True)}, end
        assert len(self.outputs) == len(inputs), "inputs have to differ from each other"

    def __call__(self, batch: Tensor) -> Tensor:
        return self.end(torch.stack([self.outputs[_bytes(x)] for x in batch]))


def _bytes(x: Tensor) -> bytes:
    return x.contiguous().flatten().view(torch.uint8).numpy().tobytes()


@pytest.fixture(scope="session")
def audited() -> Callable[..., AuditResult | str]:
    """Audit what was drawn, (N, ...): the first `members` are members. Another error than one of settings fails."""

    def audit(
        inputs: Tensor,
        targets: Tensor,
        outputs: Tensor,
        members: int,
        end: Callable[[Tensor], Tensor] = torch.clone,
        scorer: Recorder | None = None,
        **options: object,
    ) -> AuditResult | str:
        pairs = list(zip(inputs, targets, strict=True))
        options = {"scores": ("reconstruction",), "primary": "reconstruction", "batch_size": 2, **options}
        auditor = Auditor(scorer=scorer or Recorder(), **options)
        return number_or_setting(lambda: auditor.run(Lookup(inputs, outputs, end), pairs[:members], pairs[members:]))

    return audit


@pytest.fixture(scope="session")
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture(scope="session", name="number_or_setting")
def _number_or_setting() -> Callable[[Callable[[], AuditResult]], AuditResult | str]:
    return number_or_setting


def number_or_setting(run: Callable[[], AuditResult]) -> AuditResult | str:
    """The result, or the message of a ValueError or TypeError, which has to name a setting."""
    try:
        return run()
    except (ValueError, TypeError) as error:
        message = str(error)
    assert _SETTING.search(message), f"names no setting: {message}"
    return message


@pytest.fixture(scope="session")
def agrees() -> Callable[..., None]:
    """Compare a result's reconstruction errors with those of a reference, (N,); what is not finite is left out."""

    def compare(result: AuditResult, expected: np.ndarray, members: int, tolerance: float = 1e-4) -> None:
        count = [members, len(expected) - members]
        names = [f"{side}-{i:06d}" for side, n in zip(("member", "nonmember"), count, strict=True) for i in range(n)]
        finite = np.isfinite(expected)
        assert result.ids == [name for name, there in zip(names, finite, strict=True) if there]
        assert {e["id"] for e in result.excluded} == {n for n, there in zip(names, finite, strict=True) if not there}
        found = result.errors["reconstruction"]
        np.testing.assert_allclose(found, expected[finite], rtol=tolerance, atol=tolerance)

    return compare
