"""Stored outputs of segmenters whose channels do not exclude each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mia_lightning import PredictabilityScorer
from mia_lightning.stored.outputs_audit import audit_outputs

SIDE, CHANNELS, COUNT = 16, 3, 6
SETTINGS = {"task": "multilabel", "scorer": PredictabilityScorer(nn.AvgPool2d(4), grid=6)}


def logits_and_masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (CHANNELS, SIDE, SIDE)).astype(np.float32)
    return logits, rng.random((CHANNELS, SIDE, SIDE)) < 0.4


def folder(root: Path, output, target: str = "npy", scale: int = 1) -> Path:
    """Both sides on disk: outputs are what the function makes of logits, targets arrays or TIFF files of pages."""
    for number, side in enumerate(("members", "nonmembers")):
        for kind in ("inputs", "targets", "outputs"):
            (root / side / kind).mkdir(parents=True)
        for i in range(COUNT):
            logits, masks = logits_and_masks(COUNT * number + i)
            pixels = np.random.default_rng(i + 50 * number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / side / "inputs" / f"{i}.png")
            np.save(root / side / "outputs" / f"{i}.npy", output(logits))
            if target == "npy":
                np.save(root / side / "targets" / f"{i}.npy", scale * masks.astype(np.uint8))
            else:
                first, *rest = [Image.fromarray(scale * m.astype(np.uint8)) for m in masks]
                first.save(root / side / "targets" / f"{i}.tiff", save_all=True, append_images=rest)
    return root


def by_hand() -> list[float]:
    both = [logits_and_masks(seed) for seed in range(2 * COUNT)]
    pairs = [(torch.from_numpy(x), torch.from_numpy(y).float()) for x, y in both]
    return [float(F.binary_cross_entropy_with_logits(x, y)) for x, y in pairs]


@pytest.mark.parametrize(
    ("target", "scale", "options"), [("npy", 1, {}), ("tiff", 1, {}), ("tiff", 255, {"foreground": 255})]
)
def test_logits_beside_arrays_and_pages(tmp_path, target, scale, options):
    result = audit_outputs(folder(tmp_path, lambda x: x, target, scale), **SETTINGS, **options)
    assert result.errors["reconstruction"] == pytest.approx(by_hand(), rel=1e-5)
    assert result.meta["task"] == "multilabel"
    assert result.meta["kind"] == "logits"
    assert result.meta["interpretation"]["output"].startswith("logits")


def test_probabilities_are_asked_about_and_measured_alike(tmp_path):
    root = folder(tmp_path, lambda x: 1 / (1 + np.exp(-x)))
    with pytest.raises(ValueError, match="output='logits' or output='probabilities'"):
        audit_outputs(root, **SETTINGS)
    result = audit_outputs(root, **SETTINGS, output="probabilities")
    assert result.errors["reconstruction"] == pytest.approx(by_hand(), rel=1e-4)


def test_masks_as_outputs_have_a_0_1_error(tmp_path):
    result = audit_outputs(folder(tmp_path, lambda x: (x > 0).astype(np.uint8)), **SETTINGS)
    both = [logits_and_masks(seed) for seed in range(2 * COUNT)]
    assert result.errors["reconstruction"] == pytest.approx([float(((x > 0) != y).mean()) for x, y in both])


def test_masks_of_0_and_255_and_other_shapes_are_told(tmp_path):
    with pytest.raises(ValueError, match="255 marks the foreground"):
        audit_outputs(folder(tmp_path / "a", lambda x: x, scale=255), **SETTINGS)
    with pytest.raises(ValueError, match=r"shape \(2, 16, 16\) and its target .* \(3, 16, 16\): expected one shape"):
        audit_outputs(folder(tmp_path / "b", lambda x: x[:2]), **SETTINGS)
    with pytest.raises(ValueError, match="channels first"):
        audit_outputs(folder(tmp_path / "c", lambda x: np.moveaxis(x, 0, 2)), **SETTINGS)
