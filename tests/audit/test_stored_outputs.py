"""Stored outputs take the place of a model, for their own inputs and no others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.stored_outputs import StoredOutputs, no_model


class MeanColour:
    """A scorer by hand."""

    def __call__(self, input: Tensor, target: Tensor, task: object, **settings: object) -> Tensor:
        return input.double().flatten(1).mean(1)

    def fingerprint(self) -> str:
        return "mean colour"


def items(count: int, offset: float, seed: int = 0) -> list[dict[str, object]]:
    generator = torch.Generator().manual_seed(seed)
    made: list[dict[str, object]] = []
    for i in range(count):
        target = 0.5 * torch.rand(3, 8, 8, generator=generator)
        made.append({"input": target, "target": target, "output": target + offset * (i + 1), "id": f"{seed}-{i}"})
    return made


def auditor(**settings: object) -> Auditor:
    return Auditor(task="translation", adapter=StoredOutputs(), scorer=MeanColour(), batch_size=2, **settings)


def test_the_errors_are_those_of_the_stored_outputs():
    result = auditor().run(no_model, items(3, 0.125), items(2, 0.25, seed=1))
    assert result.ids == ["0-0", "0-1", "0-2", "1-0", "1-1"]
    np.testing.assert_allclose(result.errors["reconstruction"], [0.125, 0.25, 0.375, 0.25, 0.5], atol=1e-6)


def test_stored_logits_of_a_segmenter():
    def pairs(seed: int) -> list[dict[str, object]]:
        generator = torch.Generator().manual_seed(seed)
        image = torch.rand(3, 8, 8, generator=generator)
        return [{"input": image, "target": torch.ones(8, 8).long(), "output": torch.zeros(4, 8, 8), "id": str(seed)}]

    result = Auditor(task="segmentation", adapter=StoredOutputs(), scorer=MeanColour()).run(
        no_model, pairs(0), pairs(1)
    )
    np.testing.assert_allclose(result.errors["reconstruction"], np.log(4.0), rtol=1e-6)


@pytest.mark.parametrize("score", ["neighbour", "combined"])
def test_copies_of_the_inputs_have_no_stored_output(score):
    audit = auditor(scores=("membership", score), primary="membership")
    with pytest.raises(ValueError, match=r"answer for their own inputs only.*choose reconstruction, membership or"):
        audit.run(no_model, items(2, 0.1), items(2, 0.1, seed=1))


def test_a_prediction_before_any_batch_is_refused():
    with pytest.raises(ValueError, match="answer for their own inputs only"):
        StoredOutputs().predict(no_model, torch.zeros(1, 3, 8, 8))


def test_an_input_with_nan_still_finds_its_output():
    batch = {"input": torch.full((1, 3, 4, 4), torch.nan), "target": torch.zeros(1, 3, 4, 4)}
    adapter = StoredOutputs()
    sample = adapter.unpack(batch | {"output": torch.ones(1, 3, 4, 4)})
    assert adapter.predict(no_model, sample.input).mean() == 1.0


def test_the_outputs_may_lie_under_another_key():
    batch = {"image": torch.zeros(2, 3, 4, 4), "mask": torch.zeros(2, 4, 4).long(), "logits": torch.ones(2, 5, 4, 4)}
    adapter = StoredOutputs("logits")
    assert adapter.predict(no_model, adapter.unpack(batch).input).shape == (2, 5, 4, 4)


def test_a_batch_without_outputs_is_described():
    batch = {"input": torch.zeros(1, 3, 4, 4), "target": torch.zeros(1, 3, 4, 4)}
    with pytest.raises(TypeError, match=r"a dict with 'input': float32 tensor .*expected a dict with .*'output'"):
        StoredOutputs().unpack(batch)
    with pytest.raises(TypeError, match="expected a dict with the outputs under 'output'"):
        StoredOutputs().unpack((batch["input"], batch["target"]))


def test_there_is_no_model_to_call():
    with pytest.raises(ValueError, match=r"There is no model to call.*adapter=StoredOutputs\(\)"):
        no_model(torch.zeros(1))
