"""Stored outputs take the place of a model, for their own inputs and no others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from mia_lightning.audit.adapters import AutoAdapter
from mia_lightning.audit.auditor import Auditor
from mia_lightning.functional.batches import Batch


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
        made.append(
            {"input": target, "target": target, "stored_output": target + offset * (i + 1), "id": f"{seed}-{i}"}
        )
    return made


def auditor(**settings: object) -> Auditor:
    return Auditor(task="translation", scorer=MeanColour(), batch_size=2, **settings)


def test_the_errors_are_those_of_the_stored_outputs():
    result = auditor().run(None, items(3, 0.125), items(2, 0.25, seed=1))
    assert result.ids == ["0-0", "0-1", "0-2", "1-0", "1-1"]
    np.testing.assert_allclose(result.errors["reconstruction"], [0.125, 0.25, 0.375, 0.25, 0.5], atol=1e-6)


def test_stored_logits_of_a_segmenter():
    def pairs(seed: int) -> list[dict[str, object]]:
        generator = torch.Generator().manual_seed(seed)
        image = torch.rand(3, 8, 8, generator=generator)
        return [
            {"input": image, "target": torch.ones(8, 8).long(), "stored_output": torch.zeros(4, 8, 8), "id": str(seed)}
        ]

    result = Auditor(task="segmentation", output="logits", scorer=MeanColour()).run(None, pairs(0), pairs(1))
    np.testing.assert_allclose(result.errors["reconstruction"], np.log(4.0), rtol=1e-6)


@pytest.mark.parametrize("score", ["neighbour", "combined"])
def test_copies_of_the_inputs_have_no_stored_output(score):
    audit = auditor(scores=("membership", score), primary="membership")
    with pytest.raises(ValueError, match=r"cover the original inputs only.*choose reconstruction, membership or"):
        audit.run(None, items(2, 0.1), items(2, 0.1, seed=1))


def test_an_input_with_nan_keeps_its_output():
    broken = items(1, 0.5, seed=2)
    broken[0]["input"] = torch.full((3, 8, 8), torch.nan)
    result = auditor().run(None, items(2, 0.125) + broken, items(2, 0.25, seed=1))
    assert [(e["id"], e["reason"]) for e in result.excluded] == [
        ("2-0", "the target or the input holds NaN or infinite values")
    ]


def test_a_batch_without_outputs_is_refused():
    pairs = [(torch.rand(3, 8, 8), torch.rand(3, 8, 8)) for _ in range(4)]
    message = "There is no model to call, and the batch brings no stored outputs.*under 'stored_output'"
    with pytest.raises(ValueError, match=message):
        auditor().run(None, pairs[:2], pairs[2:])
    with pytest.raises(ValueError, match=message):
        auditor().check(None, pairs[:2], pairs[2:])


def test_an_adapter_may_return_an_object_of_its_own():
    class Mine(AutoAdapter):
        def unpack(self, batch):
            return SimpleNamespace(id=batch["id"], input=batch["input"], target=batch["target"])

    pairs = items(3, 0.125), items(2, 0.25, seed=1)
    assert len(auditor(adapter=Mine()).run(torch.nn.Identity(), *pairs).ids) == 5
    with pytest.raises(ValueError, match="the batch brings no stored outputs"):
        auditor(adapter=Mine()).run(None, *pairs)


def test_an_adapter_may_find_the_outputs_elsewhere():
    class Mine(AutoAdapter):
        def unpack(self, batch):
            return Batch(batch["id"], batch["input"], batch["target"], stored_output=batch["logits"])

    def renamed(pairs):
        return [{"logits" if k == "stored_output" else k: v for k, v in pair.items()} for pair in pairs]

    result = auditor(adapter=Mine()).run(None, renamed(items(3, 0.125)), renamed(items(2, 0.25, seed=1)))
    np.testing.assert_allclose(result.errors["reconstruction"], [0.125, 0.25, 0.375, 0.25, 0.5], atol=1e-6)


def test_a_model_is_asked_though_its_outputs_are_stored():
    result = auditor().run(torch.nn.Identity(), items(3, 0.125), items(2, 0.25, seed=1))
    assert (result.errors["reconstruction"] == 0).all()  # the inputs are the targets


def test_stored_outputs_can_be_looked_at():
    (sample,) = auditor().exhibit(None, items(3, 0.125), "member", [1])
    torch.testing.assert_close(sample.prediction - sample.target, torch.full((1, 3, 8, 8), 0.25))
