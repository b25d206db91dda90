"""Metrics of users: infinite ones are stored as null, and several keys have to be declared."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from mia_lightning import Auditor, AuditResult, PredictabilityScorer, register_metric, registry


def audit(**options) -> AuditResult:
    generator = torch.Generator().manual_seed(0)
    pairs = [tuple(torch.rand(2, 3, 32, 32, generator=generator)) for _ in range(8)]
    return Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8), **options).run(
        nn.Identity(), pairs[:4], pairs[4:]
    )


def test_an_infinite_metric_is_null_in_the_file(tmp_path):
    register_metric("endless", label="endless", sentence="Infinite.", of="audit")(lambda inputs: math.inf)
    try:
        result = audit(output_dir=tmp_path)
        assert result.metric("endless") == math.inf
        assert json.loads((tmp_path / "result.json").read_text())["metrics"]["audit/endless"] is None
        assert math.isnan(AuditResult.from_json(tmp_path / "result.json").metric("endless"))
        assert (tmp_path / "samples.csv").is_file()
    finally:
        registry.metrics.remove("endless")


def test_several_keys_are_declared():
    register_metric("pair", label="pair", sentence="Two numbers.", of="audit")(lambda i: {"pair/a": 1.0, "pair/b": 2.0})
    try:
        with pytest.raises(ValueError, match=r"Expected the metric 'pair' to return the keys that it declares, \[\]"):
            audit()
    finally:
        registry.metrics.remove("pair")
    declared = register_metric("pair", label="pair", sentence="Two.", of="audit", keys=("pair/a", "pair/b"))
    declared(lambda inputs: {"pair/a": 1.0, "pair/b": 2.0})
    try:
        assert audit().metric("pair/b") == 2.0
    finally:
        registry.metrics.remove("pair")
