"""Errors are selected by name; one of another task is refused before anything is computed of it."""

import pytest
import torch
from torch import nn

from mia_lightning import Auditor, PredictabilityScorer, register_error, registry

SELECTABLE = [s.name for s in registry.errors if s.measure is not None and not s.always]


def pairs(task: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 32, 32, generator=generator)
    if task == "translation":
        return list(zip(images, torch.rand(8, 3, 32, 32, generator=generator), strict=True))
    if task == "multilabel":
        return list(zip(images, torch.randint(0, 2, (8, 3, 32, 32), generator=generator).float(), strict=True))
    return list(zip(images, torch.randint(0, 3, (8, 32, 32), generator=generator), strict=True))


def auditor(**options) -> Auditor:
    return Auditor(
        scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8), **{"output": "logits", "verdict": "primary", **options}
    )


@pytest.mark.parametrize("name", SELECTABLE)
@pytest.mark.parametrize("task", registry.TASKS)
def test_each_is_recorded_for_its_task_and_refused_for_the_other(name, task):
    data = pairs(task)
    if task in registry.errors.get(name).tasks:
        result = auditor(errors=[name], task=task).run(nn.Identity(), data[:4], data[4:])
        assert list(result.scores) == ["reconstruction", "membership"]
        assert result.errors[name].shape == (8,)
        assert f"audit/error/{name}/members" in result.metrics
        return
    others = " and ".join(registry.errors.get(name).tasks)
    with pytest.raises(
        ValueError, match=rf"The error '{name}', asked for by errors, is defined for {others}, but this"
    ):
        auditor(errors=[name], task=task).check(nn.Identity(), data[:4], data[4:])
    with pytest.raises(ValueError, match=rf"The error '{name}', asked for by the score '{name}', is defined for"):
        auditor(scores=("membership", name), task=task).check(nn.Identity(), data[:4], data[4:])


def test_those_of_every_audit_may_be_named():
    data = pairs("translation")
    result = auditor(errors=["reconstruction", "l2", "membership"]).run(nn.Identity(), data[:4], data[4:])
    assert list(result.errors) == ["reconstruction", "predictability", "l2", "membership"]


def test_a_sample_without_a_finite_value_is_left_out_with_the_reason():
    @register_error("odd", label="odd", sentence="Not finite where the first pixel is dark.", tasks=("translation",))
    def odd(outputs: registry.Outputs) -> torch.Tensor:
        return torch.where(outputs.target[:, 0, 0, 0] < 0.5, torch.nan, 1.0)

    try:
        data = pairs("translation")
        dark = [bool(target[0, 0, 0] < 0.5) for _, target in data]
        assert 0 < sum(dark[:4]) < 4
        assert 0 < sum(dark[4:]) < 4
        result = auditor(errors=["odd"], scores=("membership", "trained")).run(nn.Identity(), data[:4], data[4:])
        assert len(result.excluded) == sum(dark)
        assert {e["reason"] for e in result.excluded} == {"an error that was asked for has no finite value"}
    finally:
        registry.errors.remove("odd")


def test_what_is_recorded_does_not_change_the_trained_score():
    data = pairs("translation")
    plain, more = (
        auditor(errors=errors, scores=("membership", "trained")).run(nn.Identity(), data[:4], data[4:])
        for errors in ((), ("l2", "ssim"))
    )
    assert plain.scores["trained"].tolist() == more.scores["trained"].tolist()
