"""``weigh_outputs``: what the command does, for two folders in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from mia_lightning import AuditConfig, PredictabilityScorer, weigh_outputs

SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=6)


def triples(root: Path, seed: int, noise: float, *, count: int = 24) -> Path:
    rng = np.random.default_rng(seed)
    for number in range(count):
        image = np.kron(rng.uniform(0.2, 0.7, (4, 4, 3)), np.ones((6, 6, 1))) + rng.normal(0, 0.03, (24, 24, 3))
        target = image + rng.uniform(0.02, 0.06) * rng.normal(size=image.shape)
        output = target + noise * rng.uniform(0.8, 1.2) * rng.normal(size=image.shape)
        for folder, array in (("A", image), ("targets", target), ("outputs", output)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rint(255 * np.clip(array, 0, 1)).astype(np.uint8)).save(
                root / folder / f"s{number:02d}.png"
            )
    return root


def test_two_folders(tmp_path):
    suspects, reference = triples(tmp_path / "suspects", 1, 0.08), triples(tmp_path / "reference", 2, 0.15)
    options = {"task": "translation", "inputs_dir": "A", "scorer": SCORER}
    found = weigh_outputs(suspects, reference, **options)
    assert (found.conclusion, found.primary) == ("supported", "membership")
    assert {k: found.meta[k] for k in ("source", "suspects", "reference", "kind")} == {
        "source": "outputs",
        "suspects": str(suspects),
        "reference": str(reference),
        "kind": "images",
    }
    config = AuditConfig(task="translation", scorer=SCORER, max_samples=20)
    fewer = weigh_outputs(str(suspects), str(reference), inputs_dir="A", config=config, primary="reconstruction")
    assert (fewer.whole.suspects, fewer.whole.references, fewer.primary) == (20, 20, "reconstruction")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "Say what the model does"),
        ({"task": "translation", "primary": "combined"}, "'combined' asks the model about flipped or shifted copies"),
        ({"task": "translation", "level": 1.0}, "Expected a level"),
        ({"task": "translation", "kind": "logits"}, "are for task='segmentation'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, options, text):
    folder = triples(tmp_path / "suspects", 1, 0.08, count=2)
    with pytest.raises(ValueError, match=text):
        weigh_outputs(folder, folder, inputs_dir="A", **options)
