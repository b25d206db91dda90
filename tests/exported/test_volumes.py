"""Exports of networks for volumes, and their stored predictions, give the audit of the network itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mia_lightning import Auditor, PredictabilityScorer, audit_outputs, weigh_evidence
from mia_lightning.exported import load_exported
from mia_lightning.exported.writing import SUFFIXES, write_export
from mia_lightning.posthoc.stored_predictions import store_predictions

SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=4)
VOLUMES = torch.rand(8, 1, 6, 9, 8, generator=torch.Generator().manual_seed(0))
SAMPLES = [(volume, (volume[0] * 2.999).long()) for volume in VOLUMES]


def network(*last: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv3d(1, 4, 3, stride=(1, 3, 2), padding=1),
            nn.ReLU(),
            nn.ConvTranspose3d(4, 3, (1, 3, 2), (1, 3, 2)),
            *last,
        )


@pytest.mark.parametrize("format", ["torchscript", "export", "onnx"])
@pytest.mark.parametrize(
    ("last", "kind"), [((), "logits: the model ends in conv"), ((nn.Softmax(1),), "probabilities")]
)
def test_exports(tmp_path, format, last, kind):
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="the extra export is not installed")
    model = network(*last)
    export = write_export(
        model,
        tmp_path / f"model{SUFFIXES[format]}",
        format,
        (1, 6, 9, 8),
        predict=lambda module, volume: module(volume),
    )
    found, expected = (
        Auditor(scorer=SCORER).run(one, SAMPLES[:4], SAMPLES[4:]) for one in (load_exported(export.path), model)
    )
    for result in (found, expected):
        assert result.meta["interpretation"]["output"].startswith(kind)
    np.testing.assert_allclose(found.errors["membership"], expected.errors["membership"], atol=1e-4)


def test_stored_predictions(tmp_path):
    auditor = Auditor(scorer=SCORER)
    folder = store_predictions(auditor, network(), SAMPLES[:4], SAMPLES[4:], tmp_path / "out")
    stored, live = audit_outputs(folder, scorer=SCORER), auditor.run(network(), SAMPLES[:4], SAMPLES[4:])
    np.testing.assert_array_equal(stored.errors["membership"], live.errors["membership"])
    assert stored.meta["interpretation"]["volumes"] == live.meta["interpretation"]["volumes"]


def test_evidence_from_the_model():
    evidence = weigh_evidence(network(), SAMPLES[:4], SAMPLES[4:], scorer=SCORER, slices=2)
    assert "slices=2 of them" in evidence.meta["interpretation"]["volumes"]
