"""The audits that a checkpoint or its run's folder keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mia_lightning.checkpoints.earlier_audits import earlier_audits
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import write_audit

KEY = "MembershipAudit{'prefix': 'audit'}"


def audit(epoch: int | None) -> AuditResult:
    meta = {"epoch": epoch, "step": 10 * (epoch or 0), "settings": {"primary": "membership"}}
    return AuditResult(
        {"audit/auc": 0.5}, ["a", "b"], np.array([True, False]), {}, {"membership": np.array([1.0, 0.0])}, meta
    )


def plain(*results: AuditResult) -> dict[str, Any]:
    return {"callbacks": {KEY: {"history": [r.to_plain() for r in results]}}, "global_step": 20}


def test_earlier_audits_are_those_that_the_checkpoint_keeps(tmp_path):
    write_audit(audit(1), tmp_path)
    found = earlier_audits(plain(audit(0), audit(2), audit(None)), KEY, tmp_path)
    assert [r.epoch for r in found] == [0, 2]


def test_earlier_audits_come_from_the_folder_of_a_run_up_to_the_checkpoint(tmp_path):
    for epoch in (0, 2, 3):
        write_audit(audit(epoch), tmp_path)
    assert [r.epoch for r in earlier_audits({"global_step": 20}, KEY, tmp_path)] == [0, 2]
    assert [r.epoch for r in earlier_audits(plain() | {"global_step": 30}, KEY, tmp_path)] == [0, 2, 3]
    assert earlier_audits({"global_step": 20}, KEY, tmp_path / "gone") == []
    assert earlier_audits({"global_step": 20}, KEY, tmp_path, "other") == []


@pytest.mark.parametrize("entry", [{"history": [{"format": 2}]}, {"history": [3]}, [1, 2]])
def test_a_broken_entry_of_a_checkpoint_is_said_and_passed_over(tmp_path, entry):
    write_audit(audit(1), tmp_path)
    with pytest.warns(UserWarning, match="The audits that the checkpoint keeps cannot be read"):
        found = earlier_audits({"callbacks": {KEY: entry}, "global_step": 20}, KEY, tmp_path)
    assert [r.epoch for r in found] == [1]
