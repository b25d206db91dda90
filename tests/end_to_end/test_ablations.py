"""Variants of the predictability error that share the extractor's maps have the numbers they have alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_scripts import benchmark_script
from torch import nn

from mia_lightning import PredictabilityScorer
from mia_lightning.functional.roc import roc_auc

PAIRS = 20  # more than a batch


@pytest.fixture
def ablations():
    with benchmark_script("ablations") as script:
        yield script


class TwoStages(nn.Module):
    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [nn.functional.avg_pool2d(image, 4), nn.functional.avg_pool2d(image, 8)]


@pytest.fixture
def pairs() -> dict[str, torch.Tensor]:
    x = torch.rand(PAIRS, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return {"x": x, "y": (x.roll(1, 2) + 0.3 * x.flip(1)).clamp(0, 1)}


def test_variants_that_share_maps_have_the_numbers_they_have_alone(ablations, pairs, monkeypatch) -> None:
    passes = []

    def counted(name: str, weights: Path | None):
        network = TwoStages()
        network.register_forward_hook(lambda *_: passes.append(name))
        return ablations.FeatureExtractor(network, name="two")

    monkeypatch.setattr(ablations, "extractor", counted)
    chosen = [{}, {"folds": 3}, {"method": "holdout", "ridge": 0.0}]
    variants = [ablations.Variant(str(s), "", "two", None, {"grid": 8, **s}) for s in chosen]
    variants.append(ablations.Variant("first", "", "two", (0,), {"grid": 8}))
    found = list(ablations.measure(variants, pairs, {"task": "translation"}))
    assert len(passes) == 2  # one a batch, for all variants
    alone = [PredictabilityScorer(TwoStages(), **v.settings) for v in variants[:3]]
    alone.append(PredictabilityScorer(nn.AvgPool2d(4), grid=8))
    for (variant, errors, milliseconds), scorer in zip(found, alone, strict=True):
        expected = torch.cat([scorer(pairs["x"][i], pairs["y"][i]) for i in (slice(0, 16), slice(16, None))])
        np.testing.assert_array_equal(errors, expected.numpy(), err_msg=variant.label)
        assert milliseconds > 0


def test_pixels_and_random_weights_are_what_they_say(ablations) -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert [m.shape for m in ablations.extractor("colour", None)(image)] == [(1, 3, 4, 4)]
    assert [m.shape for m in ablations.extractor("blocks", None)(image)] == [(1, 48, 4, 4)]
    state = torch.get_rng_state()
    first, again, other = (ablations.extractor(f"test_resnet at random {seed}", None) for seed in (0, 0, 1))
    weights = [torch.cat([p.flatten() for p in one.parameters()]) for one in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_without_features_the_error_is_the_distance_from_a_constant(ablations, pairs) -> None:
    (variant,) = (v for v in ablations.VARIANTS if v.file == "constant")
    ((_, errors, _),) = ablations.measure([variant], pairs, {"task": "translation"})
    y = nn.functional.interpolate(pairs["y"], size=(56, 56), mode="area")
    distance = (y - y.mean((2, 3), keepdim=True)).abs().mean((1, 2, 3))
    np.testing.assert_allclose(errors, distance.numpy(), rtol=1e-3)


def test_areas_and_the_table(ablations, capsys: pytest.CaptureFixture[str]) -> None:
    rng, member = np.random.default_rng(0), np.arange(80) < 40
    difficulty = rng.uniform(0.1, 1.0, 80)
    r = difficulty + 0.1 * rng.uniform(0.0, 1.0, 80) - 0.05 * member
    ratio = rng.normal(size=80) - member
    audits = [
        ablations.Measured(
            name, "plain", seed, 1, {"reconstruction": r, "predictability": 0.5 * r, "neighbour/hflip": ratio}, member
        )
        for name in ("facades", "wbc")
        for seed in (1, 2)
    ]
    reconstruction, known = (ablations.areas(audits[0], difficulty, alpha)[0] for alpha in (0.0, 1.0))
    assert reconstruction == roc_auc(-r, member)
    assert known == roc_auc(difficulty - r, member) > reconstruction + 0.1
    assert ablations.areas(audits[0], difficulty)[1] > ablations.areas(audits[0], rng.permutation(difficulty))[1]
    rows = {
        "one": [(a, (0.5, 0.6)) for a in audits],
        "other": [(a, (0.6, float("nan"))) for a in audits],
    }
    ablations.show(rows, "one", {"one": 3.0, "other": 4.0})
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| one | 0.500 | 0.500 | 0.500 |  | 0.600 |  | 3 |"
    assert lines[3] == "| other | 0.600 | 0.600 | 0.600 | +0.100 (+0.100 to +0.100) |  |  | 4 |"
