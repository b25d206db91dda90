"""``weigh_evidence``: what the command does, for a model and two data sets in Python."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from mia_lightning import AuditConfig, Evidence, PredictabilityScorer, weigh_evidence
from mia_lightning.result.context import AuditContext

SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=6)


def pairs(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    inputs = nn.functional.interpolate(coarse, 24) * 0.5 + 0.2
    strength = 0.02 + 0.04 * torch.rand(count, 1, 1, 1, generator=generator)
    return TensorDataset(inputs, (inputs + strength * torch.randn(inputs.shape, generator=generator)).clamp(0, 1))


class ByHeart(nn.Module):
    """Knows some pairs by heart, and otherwise returns its input."""

    def __init__(self, known: TensorDataset) -> None:
        super().__init__()
        self.inputs, self.targets = known.tensors

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        distance, which = (x[:, None] - self.inputs).abs().flatten(2).mean(2).min(1)
        return torch.where((distance < 1e-6).view(-1, 1, 1, 1), 0.5 * (self.targets[which] + x), x)


@pytest.fixture(scope="module")
def suspects() -> TensorDataset:
    return pairs(24, 1)


@pytest.fixture(scope="module")
def reference() -> TensorDataset:
    return pairs(24, 2)


def test_a_model_that_knows_the_suspects_and_one_that_does_not(suspects, reference, tmp_path):
    state = torch.get_rng_state()
    found = weigh_evidence(ByHeart(suspects), suspects, reference, scorer=SCORER)
    assert isinstance(found, Evidence)
    assert (found.conclusion, found.primary, found.meta["source"]) == ("supported", "combined", "model")
    assert found.meta["settings"]["max_samples"] is None
    assert torch.equal(torch.get_rng_state(), state)
    assert Evidence.from_json(found.to_json(tmp_path / "evidence.json")) == found
    assert "Error (tile_neighbour)" in found.to_text()
    older = replace(found, meta={key: value for key, value in found.meta.items() if key != "errors"})
    assert "Error (easiest_neighbour)" in older.to_text()
    assert "tile_neighbour" not in older.to_text()
    other = weigh_evidence(ByHeart(pairs(4, 3)), suspects, reference, scorer=SCORER, primary="membership")
    assert (other.conclusion, other.primary) == ("not supported", "membership")


def test_settings_of_a_config_count_and_keywords_override_them(suspects, reference):
    config = AuditConfig(scorer=SCORER, primary="reconstruction", max_samples=20, seed=3, output_dir="nowhere")
    found = weigh_evidence(ByHeart(suspects), suspects, reference, config=config, fdr=0.2, level=0.05)
    assert (found.primary, found.seed, found.fdr, found.level) == ("reconstruction", 3, 0.2, 0.05)
    assert (found.whole.suspects, found.whole.references) == (20, 20)


def test_context_and_copies_go_into_the_evidence(suspects, reference):
    context = AuditContext(checkpoint="model.ckpt", notes=("Trained elsewhere.",), extra={"source": "model"})
    items = [suspects[i] for i in (0, 1, 0, 2, 3)]
    found = weigh_evidence(ByHeart(suspects), items, DataLoader(reference, 5), scorer=SCORER, context=context)
    assert sorted(s.id for s in found.suspects) == [f"member-{i:06d}" for i in (0, 1, 3, 4)], "places in the data set"
    assert found.excluded == [
        {"id": "member-000002", "side": "suspect", "reason": "a copy of 'member-000000', which counts"}
    ]
    assert found.meta["checkpoint"] == "model.ckpt"
    assert "Trained elsewhere." in found.notes


def test_a_model_of_ours_says_what_its_labels_mean():
    from mia_lightning import UNetSegmenter

    model = UNetSegmenter(3, base_channels=4, depth=2, ignore_index=11)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (8, 24, 24), generator=generator)
    labels[:, :2] = 11
    images = torch.rand(8, 3, 24, 24, generator=generator)
    sides = TensorDataset(images[:4], labels[:4]), TensorDataset(images[4:], labels[4:])
    found = weigh_evidence(model, *sides, scorer=SCORER, augmentations=["hflip"])
    assert (found.meta["task"], found.meta["settings"]["ignore_index"]) == ("segmentation", 11)
    assert found.meta["neighbours"]["dropped"] == ["hflip"]
    with pytest.raises(ValueError, match="label"):
        weigh_evidence(model, *sides, scorer=SCORER, ignore_index=200)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(pairs(4, 1))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"level": 0.5}, r"Expected a level in \[0\.001, 0\.1\]"),
        ({"primary": "trained"}, "Unknown score primary='trained'; choose one of reconstruction"),
        ({"scores": ["membership"]}, "Evidence judges by one score and writes no files of an audit: leave out scores"),
        ({"output_dir": "a"}, "leave out output_dir, choose"),
    ],
)
def test_settings_that_do_not_fit_are_refused(suspects, reference, options, text):
    with pytest.raises(ValueError, match=text):
        weigh_evidence(ByHeart(suspects), suspects, reference, **options)


def test_sides_that_do_not_fit_are_refused(suspects, reference):
    with pytest.raises(ValueError, match="The reference holds 24 suspects as well, with the same content"):
        weigh_evidence(ByHeart(suspects), suspects, suspects, scorer=SCORER)
    with pytest.raises(TypeError, match=r"Expected data sets that can be read by position, .* but got Stream"):
        weigh_evidence(ByHeart(suspects), Stream(), reference, scorer=SCORER)
    with pytest.raises(TypeError, match=r"Unknown setting 'sed' \(did you mean 'seed'\?\)"):
        weigh_evidence(ByHeart(suspects), suspects, reference, sed=1)
