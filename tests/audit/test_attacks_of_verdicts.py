"""Which attacks an audit of a trained model has, and what its verdict rests on where model or data allow fewer."""

import numpy as np
import pytest
import torch
from torch import nn

from mia_lightning import AuditConfig, Auditor, AuditResult, PredictabilityScorer, register_score
from mia_lightning.audit.machine_failures import MACHINE_FAILURES, OUT_OF_MEMORY
from mia_lightning.registry import scores
from mia_lightning.scores.look_sequence import LookSequence

SIDE = 16
CHEAP = ["reconstruction", "membership"]
WITHOUT_COPIES = [*CHEAP, "calibrated"]
ALL = [*WITHOUT_COPIES, "neighbour", "combined"]


def pairs(count: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, count, 3, SIDE, SIDE, generator=generator)
    return list(zip(*images, strict=True))


MEMBERS, NONMEMBERS = pairs(24, 0), pairs(22, 1)


class Memory(nn.Module):
    """Knows the targets of members by heart, a little; answers copies as ``of_copies`` says."""

    def __init__(self, of_copies=lambda answer: answer) -> None:
        super().__init__()
        self.known = {float(x.sum()): y for x, y in MEMBERS}
        self.inputs = {float(x.sum()) for x, _ in [*MEMBERS, *NONMEMBERS]}
        self.of_copies, self.samples = of_copies, 0
        self.originals = {x.numpy().tobytes() for x, _ in [*MEMBERS, *NONMEMBERS]}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.samples += len(x)
        answer = torch.stack([0.95 * one + 0.05 * self.known.get(float(one.sum()), one) for one in x])
        copies = any(one.numpy().tobytes() not in self.originals for one in x)
        return self.of_copies(answer) if copies else answer


def auditor(**settings) -> Auditor:
    return Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=4), batch_size=4, **settings)


def same_where_both_have_numbers(first: AuditResult, second: AuditResult) -> None:
    assert (first.ids, first.excluded) == (second.ids, second.excluded)
    for key, value in second.metrics.items():
        assert first.metrics[key] == pytest.approx(value, rel=0, abs=0, nan_ok=True), key


def test_all_attacks_and_the_numbers_of_the_others_unmoved():
    found = auditor().run(Memory(), MEMBERS, NONMEMBERS)
    assert list(found.scores) == ALL
    assert found.meta["verdict_score"] == found.verdict.score == "combined"
    assert found.auc == found.metric("auc/membership") != found.metric("auc/combined")
    assert found.primary == "membership"
    same_where_both_have_numbers(found, auditor(verdict="primary").run(Memory(), MEMBERS, NONMEMBERS))
    asked = auditor(primary="combined").run(Memory(), MEMBERS, NONMEMBERS)
    pairs_of_keys = [("auc", "auc/combined"), ("tpr_at_fpr_0.01", "tpr_at_fpr_0.01/combined")]
    keys = ("p_value", "p_value_corrected", "p_value/most_exposed", "adjusted_auc", "adjusted_p_value")
    for plain, own in [*pairs_of_keys, *((key, f"{key}/combined") for key in keys)]:
        assert found.metric(own) == asked.metric(plain), own
    assert (found.grade, found.verdict.found) == (asked.grade, asked.verdict.found)


@pytest.mark.parametrize(
    ("settings", "names", "score"),
    [
        ({"scores": CHEAP}, CHEAP, "membership"),
        ({"scores": "membership"}, ["membership"], "membership"),
        ({"primary": "membership"}, CHEAP, "membership"),
        ({"verdict": "primary"}, CHEAP, "membership"),
        ({"primary": "calibrated"}, [*CHEAP, "calibrated"], "calibrated"),
        ({"primary": "combined"}, [*CHEAP, "combined"], "combined"),
        ({"scores": ALL}, ALL, "membership"),
        ({"config": AuditConfig()}, ALL, "combined"),
        ({"config": AuditConfig.of(scores=CHEAP)}, CHEAP, "membership"),
    ],
)
def test_what_was_passed_is_what_there_is(settings, names, score):
    result = auditor(**settings).run(Memory(), MEMBERS, NONMEMBERS)
    assert (list(result.scores), result.meta["verdict_score"]) == (names, score)


def test_a_wrong_setting_is_told():
    with pytest.raises(ValueError, match=r"'auto' or 'primary', but got 'combined'.*pass that as primary"):
        AuditConfig(verdict="combined")


def raises(answer):
    raise RuntimeError("only pictures that it has seen")


@pytest.mark.parametrize(
    ("of_copies", "reason"),
    [
        (raises, "only pictures that it has seen"),
        (lambda answer: answer * torch.nan, "finite prediction"),
        (lambda answer: answer[:, :, ::2], "shape"),
    ],
    ids=["fails", "no numbers", "another shape"],
)
def test_a_model_without_answers_to_copies_keeps_its_numbers(of_copies, reason):
    found = auditor().run(Memory(of_copies), MEMBERS, NONMEMBERS)
    assert list(found.scores) == WITHOUT_COPIES
    assert found.meta["verdict_score"] == found.verdict.score == "membership"
    assert "neighbours" not in found.meta
    note = next(note for note in found.meta["notes"] if "rests on the membership score" in note)
    assert reason in note
    assert note in found.verdict.remarks
    same_where_both_have_numbers(found, auditor(verdict="primary").run(Memory(), MEMBERS, NONMEMBERS))


def test_who_asks_for_copies_is_told_of_the_failure():
    with pytest.raises(ValueError, match="only pictures that it has seen"):
        auditor(primary="combined").run(Memory(raises), MEMBERS, NONMEMBERS)


@pytest.mark.parametrize("kind", MACHINE_FAILURES)
def test_failures_of_the_machine_are_not_taken_for_the_models(kind):
    def failing(answer):
        raise kind("the machine gave up")

    with pytest.raises(kind, match="the machine gave up") as raised:
        auditor().run(Memory(failing), MEMBERS, NONMEMBERS)
    helps = any("smaller batch_size" in note for note in getattr(raised.value, "__notes__", ()))
    assert helps == issubclass(kind, OUT_OF_MEMORY)


def test_inputs_that_are_no_pictures():
    def side(seed):
        return [(x[0, 0], y) for x, y in pairs(6, seed)]

    class OfTargets:
        def __call__(self, input, target, task, **options):
            return target.flatten(1).std(1)

        def fingerprint(self) -> str:
            return "of targets"

    found = Auditor(task="translation", scorer=OfTargets())
    result = found.run(lambda x: torch.zeros(len(x), 3, SIDE, SIDE), side(0), side(1))
    assert list(result.scores) == WITHOUT_COPIES
    assert any("flips and shifts of images" in note for note in result.meta["notes"])


def test_streams_are_read_once():
    result = auditor().run(Memory(), iter(MEMBERS), iter(NONMEMBERS))
    assert (list(result.scores), result.meta["verdict_score"]) == (ALL, "combined")


def test_looks_of_a_training_are_cheap_until_the_last():
    looks, model = LookSequence(), Memory()
    looks.plan(2)
    result = auditor().run(model, MEMBERS, NONMEMBERS, looks=looks)
    assert (list(result.scores), model.samples) == (CHEAP, 46)
    looks.keep()
    looks.plan(1, last=True)
    assert list(auditor().run(Memory(), MEMBERS, NONMEMBERS, looks=looks).scores) == ALL


def test_scores_of_others_are_asked_for_by_name():
    @register_score("mine", label="mine", sentence="a constant.")
    def mine(inputs):
        return np.zeros(inputs.member.size)

    try:
        assert list(auditor().run(Memory(), MEMBERS, NONMEMBERS).scores) == ALL
    finally:
        scores.remove("mine")
