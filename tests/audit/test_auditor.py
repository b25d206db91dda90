from __future__ import annotations

import csv
import inspect
import json
import math
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from mia_lightning.audit.adapters import AutoAdapter
from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.forward import Runtime
from mia_lightning.features import PredictabilityScorer
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.context import AuditContext

SIDE = 16


class MeanColour:
    """A scorer by hand: the mean of the input. Counts its calls and the pairs it saw."""

    def __init__(self) -> None:
        self.pairs = 0
        self.seen: list[dict[str, Any]] = []

    def __call__(self, input: Tensor, target: Tensor, task: Any, **settings: Any) -> Tensor:
        self.pairs += len(input)
        self.seen.append({"input": input, "target": target, "task": task, **settings})
        return input.double().flatten(1).mean(1)

    def fingerprint(self) -> str:
        return "mean colour"


class Counting(nn.Module):
    """Applies a function and counts the samples it was given."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function, self.samples = function, 0
        self.drop = nn.Dropout(0.9)

    def forward(self, image: Tensor) -> Any:
        self.samples += len(image)
        return self.function(self.drop(image))


def flat(colours: list[float], offsets: list[float]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of one colour each, the target off the input by a known amount."""
    return [
        (torch.full((3, SIDE, SIDE), c), torch.full((3, SIDE, SIDE), c + d))
        for c, d in zip(colours, offsets, strict=True)
    ]


def photos(count: int, seed: int, shift: float = 0.0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return [(image, (0.8 * image + shift * torch.rand(1, generator=generator)).clamp(0, 1)) for image in images]


def label_maps(count: int, seed: int, classes: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return [(x, (x.mean(0) * classes * 0.999).long()) for x in images]


def classes_of(image: Tensor) -> Tensor:
    return torch.stack([image[:, 0], image[:, 1], image[:, 2]], 1)


def tiny() -> PredictabilityScorer:
    return PredictabilityScorer(nn.AvgPool2d(4), grid=4)


def quick(**settings: Any) -> Auditor:
    return Auditor(**{"scorer": MeanColour(), "batch_size": 2, **settings})


def assert_same(a: AuditResult, b: AuditResult, tolerance: float = 0.0) -> None:
    assert (a.ids, a.excluded, a.member.tolist()) == (b.ids, b.excluded, b.member.tolist())
    for ours, theirs in ((a.errors, b.errors), (a.scores, b.scores)):
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=tolerance)
    assert a.metrics == pytest.approx(b.metrics, abs=tolerance, nan_ok=True)


MEMBERS, NONMEMBERS = flat([0.5, 0.25, 0.75], [0.125, 0.0, 0.25]), flat([0.25, 0.5], [0.5, 0.25])


def test_errors_scores_and_names_by_hand():
    result = quick(verdict="primary").run(Counting(lambda x: x), MEMBERS, NONMEMBERS)
    assert result.ids == [f"member-{i:06d}" for i in range(3)] + [f"nonmember-{i:06d}" for i in range(2)]
    assert result.member.tolist() == [True] * 3 + [False] * 2
    assert result.errors["reconstruction"].tolist() == [0.125, 0.0, 0.25, 0.5, 0.25]
    assert result.errors["predictability"].tolist() == [0.5, 0.25, 0.75, 0.25, 0.5]
    assert result.errors["membership"].tolist() == [-0.375, -0.25, -0.5, 0.25, -0.25]
    assert list(result.errors) == ["reconstruction", "predictability", "membership"]
    for name, score in result.scores.items():
        assert score.tolist() == (-result.errors[name]).tolist()
    # Of the six pairs members win five and tie one.
    assert result.metrics["audit/auc"] == result.metrics["audit/auc/membership"] == pytest.approx(5.5 / 6)
    assert result.metrics["audit/blind_auc"] == pytest.approx(2.0 / 6)
    assert result.excluded == []
    assert result.positions.tolist() == [0, 1, 2, 0, 1]


def test_settings_and_versions_are_recorded():
    auditor = quick(alpha=0.5, mean=[0.0], std=[1.0])
    meta = auditor.run(Counting(lambda x: x), MEMBERS, NONMEMBERS, context=AuditContext(epoch=2)).meta
    assert (meta["task"], meta["epoch"], meta["settings"]["alpha"], meta["settings"]["mean"]) == (
        "translation",
        2,
        0.5,
        [0],
    )
    assert meta["versions"]["torch"] == torch.__version__
    assert json.loads(json.dumps(meta)) == meta
    scorer = Auditor(scorer=tiny()).run(nn.Identity(), photos(2, 0), photos(2, 1)).meta["settings"]["scorer"]
    assert (scorer["grid"], scorer["extractor"]) == (4, "AvgPool2d")


def test_alpha_scores_and_primary_are_followed():
    result = quick(alpha=0.0).run(Counting(lambda x: x), MEMBERS, NONMEMBERS)
    assert result.errors["membership"].tolist() == result.errors["reconstruction"].tolist()
    one = quick(scores=["reconstruction"], primary="reconstruction", prefix="mine")
    result = one.run(Counting(lambda x: x), MEMBERS, NONMEMBERS)
    assert list(result.scores) == ["reconstruction"]
    assert len(result.errors) == 3
    assert result.metrics["mine/auc"] == result.metrics["mine/auc/reconstruction"]


def test_each_sample_costs_one_forward_pass_and_one_score_ever():
    auditor, module = quick(verdict="primary"), Counting(lambda x: x)
    first = auditor.run(module, MEMBERS, NONMEMBERS)
    assert (module.samples, auditor.scorer.pairs) == (5, 5)
    second = auditor.run(module, MEMBERS, NONMEMBERS)
    assert (module.samples, auditor.scorer.pairs) == (10, 5)
    assert_same(first, second)
    auditor.run(module, [*MEMBERS, *flat([0.1], [0.1])], NONMEMBERS)
    assert auditor.scorer.pairs == 6


def test_a_cache_folder_serves_the_next_auditor(tmp_path):
    first, second = quick(cache_dir=tmp_path), quick(cache_dir=tmp_path)
    expected = first.run(nn.Identity(), MEMBERS, NONMEMBERS)
    assert_same(second.run(nn.Identity(), MEMBERS, NONMEMBERS), expected)
    assert second.scorer.pairs == 0
    others = ({"mean": [0.5], "std": [1.0]}, {"mean": [0.5], "std": [2.0]}, {"target_range": (-1, 2)})
    for settings in others:
        other = quick(cache_dir=tmp_path, **settings)
        other.run(nn.Identity(), MEMBERS, NONMEMBERS)
        assert other.scorer.pairs == 5


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_numbers_and_names_do_not_depend_on_the_batch_size(batch_size):
    members, nonmembers = photos(7, 0), photos(5, 1, shift=0.2)
    expected = Auditor(scorer=tiny(), batch_size=4).run(nn.Identity(), members, nonmembers)
    found = Auditor(scorer=tiny(), batch_size=batch_size).run(nn.Identity(), members, nonmembers)
    assert_same(found, expected, 1e-6)


def test_two_runs_are_equal_to_the_bit():
    module = nn.Conv2d(3, 3, 1)
    runs = [Auditor(scorer=tiny()).run(module, photos(4, 0), photos(4, 1, 0.2)) for _ in range(2)]
    assert_same(*runs)


def test_a_seeded_subset_keeps_the_indices_of_the_data_set():
    auditor = quick(max_samples=4, seed=5)
    result = auditor.run(nn.Identity(), photos(30, 0), photos(3, 1))
    assert result.metrics["audit/samples/members"] == 4.0
    assert result.ids[:4] == [f"member-{i:06d}" for i in result.positions[:4]]
    assert result.ids == auditor.run(nn.Identity(), photos(30, 0), photos(3, 1)).ids
    assert result.ids != quick(max_samples=4, seed=6).run(nn.Identity(), photos(30, 0), photos(3, 1)).ids


def test_ids_of_the_data_are_kept():
    named = [{"input": x, "target": y, "id": f"häuser/{i}"} for i, (x, y) in enumerate(MEMBERS)]
    result = quick().run(nn.Identity(), DataLoader(named, batch_size=2, shuffle=True), NONMEMBERS)
    assert result.ids[:3] == ["häuser/0", "häuser/1", "häuser/2"]


def test_dropout_sleeps_and_the_module_is_left_as_it_was():
    module = Counting(lambda x: x).train()
    states = torch.get_rng_state(), random.getstate()
    quick().run(module, MEMBERS, NONMEMBERS)
    assert module.training
    assert module.drop.training
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()


def test_segmentation_by_hand():
    labels = torch.zeros(SIDE, SIDE, dtype=torch.long)
    labels[:4], labels[4:8], labels[8:12] = 1, 255, -1
    logits = torch.tensor([0.0, math.log(3.0)]).view(1, 2, 1, 1)
    result = quick().run(
        lambda x: logits.expand(len(x), 2, SIDE, SIDE), [(torch.zeros(3, SIDE, SIDE), labels)], label_maps(2, 0, 2)
    )
    assert result.meta["task"] == "segmentation"
    assert result.errors["reconstruction"][0] == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2, abs=1e-6)


@pytest.mark.parametrize(
    "form", [lambda y: y, lambda y: y.unsqueeze(0), lambda y: y.bool(), lambda y: y.unsqueeze(0).float()]
)
def test_one_logit_and_any_form_of_mask(form):
    members, nonmembers = ([(x, form(y)) for x, y in label_maps(3, seed, 2)] for seed in (0, 1))
    auditor = Auditor(task="segmentation", scorer=tiny())
    one = auditor.run(lambda x: x[:, :1] - 0.5, members, nonmembers)
    two = auditor.run(lambda x: torch.cat([torch.zeros_like(x[:, :1]), x[:, :1] - 0.5], 1), members, nonmembers)
    assert_same(one, two, 1e-6)


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 2), (7, 7)])
def test_number_of_classes_is_that_of_the_prediction_not_of_the_labels(channels, classes):
    auditor = quick(output="logits")
    auditor.run(lambda x: torch.zeros(len(x), channels, SIDE, SIDE), label_maps(2, 0, 2), label_maps(2, 1, 2))
    assert {call["num_classes"] for call in auditor.scorer.seen} == {classes}
    assert {call["ignore_index"] for call in auditor.scorer.seen} == {255}


def test_a_class_beyond_the_prediction_is_named():
    with pytest.raises(ValueError, match=r"class ids \[2\], but num_classes=2"):
        quick(output="logits").run(lambda x: x[:, :2], label_maps(2, 0, 3), label_maps(2, 1, 3))


def break_first(image: Tensor, value: float = math.nan) -> Tensor:
    return torch.where(image.flatten(1)[:, 0].view(-1, 1, 1, 1) == 0.25, value, image)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_prediction_is_left_out_with_its_name_and_reason(value):
    result = quick().run(lambda x: break_first(x, value), MEMBERS, NONMEMBERS)
    reason = "the prediction holds NaN or infinite values"
    assert result.excluded == [
        {"id": "member-000001", "side": "member", "reason": reason},
        {"id": "nonmember-000000", "side": "nonmember", "reason": reason},
    ]
    assert result.ids == ["member-000000", "member-000002", "nonmember-000001"]
    assert result.errors["reconstruction"].tolist() == [0.125, 0.25, 0.25]
    assert result.metrics["audit/samples/members"] == 2.0


def test_only_broken_predictions_leave_no_numbers_but_a_result():
    result = quick().run(lambda x: x * math.nan, MEMBERS, NONMEMBERS)
    assert len(result.excluded) == 5
    assert math.isnan(result.auc)
    assert result.ids == []


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("where", ["input", "target"])
def test_broken_data_are_left_out_with_their_name_and_reason(where, ridge):
    members = photos(3, 0)
    x, y = members[1]
    members[1] = (x * math.nan, y) if where == "input" else (x, y * math.nan)
    auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=4, ridge=ridge))
    result = auditor.run(nn.Identity(), members, photos(3, 1))
    assert [(e["id"], e["reason"]) for e in result.excluded] == [
        ("member-000001", "the target or the input holds NaN or infinite values")
    ]


def test_a_mask_without_a_class_is_left_out_with_its_name_and_reason():
    members = label_maps(3, 0)
    members[2] = (members[2][0], torch.full((SIDE, SIDE), 255))
    result = Auditor(scorer=tiny(), output="logits").run(classes_of, members, label_maps(3, 1))
    assert [(e["id"], e["reason"]) for e in result.excluded] == [
        ("member-000002", "no pixel of the target carries a class")
    ]


def test_a_prediction_of_another_shape_is_described():
    with pytest.raises(ValueError, match=r"shape \(2, 3, 8, 8\); expected the target's shape \(2, 3, 16, 16\)"):
        quick().run(nn.AvgPool2d(2), MEMBERS, NONMEMBERS)


def test_images_in_another_range_give_the_same_result():
    members, nonmembers = photos(4, 0), photos(4, 1, 0.2)
    expected = Auditor(scorer=tiny(), verdict="primary").run(lambda x: 0.9 * x, members, nonmembers)
    wide = [[(2 * x - 1, 2 * y - 1) for x, y in side] for side in (members, nonmembers)]
    found = Auditor(scorer=tiny(), target_range=(-1, 1), verdict="primary").run(lambda x: 0.9 * (x + 1) - 1, *wide)
    assert_same(found, expected, 1e-6)


def test_a_range_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"span \[-0\.\d+, .*outside target_range=\(0, 1\)"):
        quick().run(nn.Identity(), [(2 * x - 1, 2 * y - 1) for x, y in photos(2, 0)], NONMEMBERS)


def test_the_scorer_sees_images_without_the_projects_normalisation():
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    columns = [torch.tensor(v).view(3, 1, 1) for v in (mean, std)]
    plain, normalised = label_maps(2, 0), [((x - columns[0]) / columns[1], y) for x, y in label_maps(2, 0)]
    auditor = quick(mean=mean, std=std)
    auditor.run(classes_of, normalised, label_maps(1, 1))
    torch.testing.assert_close(auditor.scorer.seen[0]["input"], torch.stack([x for x, _ in plain]))


@pytest.mark.parametrize(
    ("wrap", "key"),
    [(lambda y: {"out": y, "aux": y * 0}, None), (lambda y: (y * 0, y), 1), (lambda y: {"a": y * 0, "b": y}, "b")],
)
def test_models_may_return_dicts_and_tuples(wrap, key):
    found = quick(output_key=key).run(lambda x: wrap(x), MEMBERS, NONMEMBERS)
    assert_same(found, quick().run(nn.Identity(), MEMBERS, NONMEMBERS))


def test_files_are_written_where_asked(tmp_path):
    result = quick(output_dir=tmp_path / "out").run(nn.Identity(), MEMBERS, NONMEMBERS)
    assert_same(AuditResult.from_json(tmp_path / "out" / "result.json"), result)
    with (tmp_path / "out" / "samples.csv").open(encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == result.ids
    assert len(list((tmp_path / "out").iterdir())) == 2


class Stream(IterableDataset):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Any:
        return iter(self.items)


def test_streams_are_audited_like_data_sets():
    found = quick().run(nn.Identity(), Stream(MEMBERS), Stream(NONMEMBERS))
    assert_same(found, quick().run(nn.Identity(), MEMBERS, NONMEMBERS))


@pytest.mark.parametrize("empty", [[], Stream([])])
def test_an_empty_side_is_refused_whichever_it_is(empty):
    with pytest.raises(ValueError, match="There are no nonmembers"):
        quick().run(nn.Identity(), MEMBERS, empty)
    with pytest.raises(ValueError, match="There are no members"):
        quick().run(nn.Identity(), empty, NONMEMBERS)


def test_progress_counts_every_sample():
    from contextlib import contextmanager

    calls: list[Any] = []

    @contextmanager
    def progress(description: str, total: int) -> Any:
        calls.append(total)
        yield calls.append

    quick().run(nn.Identity(), MEMBERS, NONMEMBERS, progress=progress)
    assert calls == [5, 2, 1, 2]
    calls.clear()
    crops = [[{"image": x, "target": y}] * 3 for x, y in MEMBERS]  # each entry several samples
    quick().run(nn.Identity(), crops, NONMEMBERS, progress=progress)
    assert calls == [11, 6, 3, 2]


def test_a_call_is_decided_and_a_batch_is_read_once(monkeypatch):
    """Of a stream without ids, too, whose samples may be named by what is in them."""
    adapter, signature, asked = AutoAdapter(), inspect.signature, []
    auditor, model, unpacked = quick(adapter=adapter), nn.Identity(), []
    unpack = adapter.unpack
    monkeypatch.setattr(adapter, "unpack", lambda batch: unpacked.append(batch) or unpack(batch))
    monkeypatch.setattr(inspect, "signature", lambda of: asked.append(of) or signature(of))
    pairs = flat([0.5, 0.25, 0.75], [0.25, 0.5, 0.0])
    result = auditor.run(model, Stream(pairs), flat([0.5, 0.25, 0.75], [0.0, 0.25, 0.125]))
    in_beginnings, heads, first_batch = 6, 1, 1
    assert len(unpacked) == in_beginnings + heads + first_batch + 4
    assert asked.count(model.forward) == 1
    assert result.ids[0] == "member-000000"


def test_check_finds_what_cannot_work_before_training():
    auditor, module = quick(), Counting(lambda x: x)
    auditor.check(module, MEMBERS, NONMEMBERS)
    assert module.samples == 2 + 3 + 2  # the first of each side, then the first batches
    with pytest.raises(TypeError, match="The batch is"):
        auditor.check(module, MEMBERS, [1, 2])
    with pytest.raises(ValueError, match="There are no nonmembers"):
        auditor.check(module, MEMBERS, [])
    with pytest.raises(ValueError, match="expected the target's shape"):
        auditor.check(nn.AvgPool2d(2), MEMBERS, NONMEMBERS)


class Gaps(torch.utils.data.Dataset):
    """Pairs of which the file of one cannot be read."""

    def __init__(self, pairs: Any, gap: int | None) -> None:
        self.pairs, self.gap = pairs, gap

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        return None if index == self.gap else self.pairs[index]


def some(items: list[Any]) -> Any:
    return torch.utils.data.default_collate([item for item in items if item is not None])


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("gap", [0, 1, 4])
def test_a_sample_that_is_none_is_left_out_by_name_and_the_others_keep_their_numbers(named, gap):
    pairs = [(*p, f"in{i}") if named else p for i, p in enumerate(photos(5, 0))]
    nonmembers = [(*p, f"out{i}") if named else p for i, p in enumerate(photos(4, 1))]
    loader = torch.utils.data.DataLoader(Gaps(pairs, gap), 2, collate_fn=some)
    auditor = quick()
    with pytest.warns(UserWarning, match=f"The data set of the members returns None for member-00000{gap}"):
        auditor.check(nn.Identity(), loader, nonmembers)
    result = auditor.run(nn.Identity(), loader, nonmembers)
    reason = "the data set returned None for it, or its collation left it out"
    assert result.excluded == [{"id": f"member-00000{gap}", "side": "member", "reason": reason}]
    whole = quick(batch_size=2).run(nn.Identity(), pairs, nonmembers)
    kept = [i for i in range(9) if i != gap]
    assert result.ids == [whole.ids[i] for i in kept]
    for name in ("reconstruction", "predictability"):
        np.testing.assert_array_equal(result.errors[name], whole.errors[name][kept])


def test_a_collation_that_multiplies_samples_is_refused_before_the_training():
    def crops(items: list[Any]) -> Any:
        return torch.utils.data.default_collate([item for item in items for _ in range(2)])

    loader = torch.utils.data.DataLoader(photos(5, 0), 4, collate_fn=crops)
    for audit in (quick().check, quick().run):
        with pytest.raises(ValueError, match=r"4 members at positions 0 to 3 came as 8 rows .* neither drops nor"):
            audit(nn.Identity(), loader, photos(4, 1))


def test_the_first_batches_are_checked_not_the_first_sample_alone():
    members, nonmembers = label_maps(12, 0), label_maps(12, 1)
    members[9][1][3, 3] = 7  # no class of the model

    class Classes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x[:, :0]], 1) * 9 - 3

    with pytest.raises(ValueError, match=r"class ids \[7\]"):
        quick(task="segmentation").check(Classes(), members, nonmembers)


def greys() -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    """Grey translation pairs; the second of each side is black, and by itself could be a mask."""
    members, nonmembers = ([(x[:1], y[:1]) for x, y in side] for side in (MEMBERS, NONMEMBERS))
    members[1] = nonmembers[0] = (torch.zeros(1, SIDE, SIDE), torch.zeros(1, SIDE, SIDE))
    return members, nonmembers


def test_the_task_is_decided_once_by_the_first_member():
    members, nonmembers = greys()
    auditor = quick()
    auditor.check(nn.Identity(), members, nonmembers)
    assert auditor.run(nn.Identity(), members, nonmembers).meta["task"] == "translation"
    assert [e.task for e in auditor.exhibit(nn.Identity(), members, "member", [1, 2])] == ["translation"] * 2


def test_exhibits_show_samples_by_position():
    module = Counting(lambda x: x).train()
    (shown,) = quick().exhibit(module, DataLoader(MEMBERS, shuffle=True), "member", [2])
    assert (shown.input.unique().item(), shown.target.unique().item(), shown.prediction.unique().item()) == (
        0.75,
        1.0,
        0.75,
    )
    assert module.training
    assert quick().exhibit(module, Stream(MEMBERS), "member", [2]) == []


def test_exhibits_of_copies_are_what_the_model_says_of_them():
    ramp = torch.arange(float(SIDE)).div(SIDE).expand(3, SIDE, SIDE)
    pairs = [(ramp, ramp.flip(-1))]
    left = nn.Module()
    left.forward = lambda x: torch.where(torch.arange(SIDE) < SIDE // 2, x, 0.0)
    own, shown = quick().exhibit(left, pairs, "member", [0], copies=["hflip"])
    assert torch.equal(own.input[0], ramp)
    assert torch.equal(shown.input[0], ramp.flip(-1))
    assert torch.equal(shown.target[0], ramp)
    assert torch.equal(shown.prediction, left(shown.input))
    with pytest.raises(ValueError, match="no copies of stored outputs"):
        quick().exhibit(None, pairs, "member", [0], copies=["hflip"])


def test_exhibits_of_another_range_are_images_in_zero_to_one():
    wide = [(2 * x - 1, 2 * y - 1) for x, y in MEMBERS]
    (shown,) = quick(target_range=(-1, 1)).exhibit(nn.Identity(), wide, "member", [0])
    assert (shown.input.mean().item(), shown.target.mean().item(), shown.prediction.mean().item()) == (0.5, 0.625, 0.5)


def test_memorised_pairs_are_told_from_others():
    """A model that returns the members' targets and otherwise a copy of the input."""
    members, nonmembers = photos(12, 0, 0.3), photos(12, 2, 0.3)
    known = {x.numpy().tobytes(): y for x, y in members}
    result = Auditor(scorer=tiny()).run(
        lambda batch: torch.stack([known.get(x.numpy().tobytes(), x) for x in batch]), members, nonmembers
    )
    assert result.auc > 0.9
    assert result.interval()[0] > 0.7
    assert 0.2 < result.metrics["audit/blind_auc"] < 0.8


def masks_of(values: tuple[int, int], number: int = 4, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    choice = torch.tensor(values)
    return [
        (torch.rand(3, 32, 32, generator=generator), choice[torch.randint(0, 2, (32, 32), generator=generator)])
        for _ in range(number)
    ]


def test_a_foreground_of_255_is_not_taken_for_void():
    auditor = Auditor(scorer=PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8))
    for channels in (1, 2, 3):
        model = torch.nn.Conv2d(3, channels, 1)
        with pytest.raises(ValueError, match=r"other than 0, and pixels of 255 \(ignore_index\) are ignored: the b"):
            auditor.run(model, masks_of((0, 255)), masks_of((0, 255)))
        assert Auditor(scorer=auditor.scorer).run(model, masks_of((0, 1)), masks_of((0, 255))).auc >= 0


def test_too_few_valid_pixels_for_the_grid_has_a_reason_of_its_own():
    broken = masks_of((0, 1))
    broken[0][1].fill_(255)
    broken[0][1][1, 1] = 1  # between the pixels of a grid of 8
    broken[1][1].fill_(255)
    auditor = Auditor(scorer=PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8))
    result = auditor.run(torch.nn.Conv2d(3, 2, 1), broken, masks_of((0, 1), seed=1))
    reasons = {e["id"]: e["reason"] for e in result.excluded}
    assert reasons["member-000000"].startswith("too few pixels carry a class to be seen on the predictability grid")
    assert reasons["member-000001"] == "no pixel of the target carries a class"


def test_inputs_that_are_no_images_are_remarked_on():
    auditor = Auditor(scorer=PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8))
    normalised, others = ([(4 * x - 2, y) for x, y in masks_of((0, 1), seed=seed)] for seed in (0, 1))
    with pytest.warns(UserWarning, match=r"expects images in \[0, 1\], but the inputs span .* pass mean and std"):
        auditor.run(torch.nn.Conv2d(3, 2, 1), normalised, others)


def test_a_scorer_must_have_a_fingerprint():
    with pytest.raises(TypeError, match=r"fingerprint\(\) -> str, but got function"):
        Auditor(scorer=lambda *args, **kwargs: torch.zeros(1))


def test_one_score_may_be_given_by_name():
    assert Auditor(scores="membership").config.scores == ("membership",)


def test_ids_must_be_as_many_as_samples():
    auditor = Auditor(scorer=PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8))
    loader = torch.utils.data.DataLoader(
        masks_of((0, 1)),
        batch_size=2,
        collate_fn=lambda b: (torch.stack([x for x, _ in b]), torch.stack([y for _, y in b]), "same"),
    )
    with pytest.raises(ValueError, match="The batch holds 2 samples but 1 ids"):
        auditor.run(torch.nn.Conv2d(3, 2, 1), loader, masks_of((0, 1), seed=1))


def test_binary_masks_are_judged_by_all_processes_rows(monkeypatch):
    """One process's share may hold no foreground: that alone is no reason to refuse."""
    void_strip = torch.zeros(SIDE, SIDE, dtype=torch.long)
    void_strip[0] = 255
    foreground = void_strip.clone()
    foreground[1] = 1
    pairs, others = ([(torch.rand(3, SIDE, SIDE), mask) for mask in (foreground, void_strip) * 3] for _ in range(2))

    def one_logit(x: Tensor) -> Tensor:
        return x[:, :1]

    assert len(quick(output="logits").run(one_logit, pairs, others).ids) == 12
    with pytest.raises(
        ValueError, match=r"No target holds a class other than 0, and pixels of 255 \(ignore_index\) are"
    ):
        quick(output="logits").run(one_logit, pairs[1::2], others[1::2])


def test_samples_on_both_sides_are_counted_and_named_once():
    shared = photos(4, 0)
    members, nonmembers = [*photos(3, 1), *shared], [*shared[::-1], *photos(2, 2)]
    auditor = quick()
    told = r"^4 of 6 nonmembers are also among the members \(same input and target\): 'nonmember-000000', "
    with pytest.warns(UserWarning, match=told) as caught:
        result = auditor.run(nn.Identity(), members, nonmembers)
    assert len(caught) == 1
    assert result.meta["on_both_sides"] == pytest.approx(4 / 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert auditor.run(nn.Identity(), members, nonmembers).meta["on_both_sides"] == pytest.approx(4 / 6)
        apart = [*members[:3], (shared[0][0], shared[0][1] + 1e-3)], nonmembers  # the target is another
        assert quick().run(nn.Identity(), *apart).meta["on_both_sides"] == 0
    with pytest.warns(UserWarning, match="1 of 4 members is also among the nonmembers"):
        quick().run(nn.Identity(), members[:4], nonmembers)


@pytest.mark.parametrize("task", ["translation", "segmentation"])
@pytest.mark.parametrize(("members", "nonmembers"), [([0, 1, 2], [4, 2, 1, 0]), ([0, 1, 2], [2, 0])])
def test_a_side_that_lies_within_the_other_says_nothing(task, members, nonmembers):
    def side(order: list[int]) -> list[tuple[Tensor, Tensor]]:
        data = photos(5, 0) if task == "translation" else label_maps(5, 0)
        return [data[i] for i in order]

    model = nn.Identity() if task == "translation" else classes_of
    with pytest.warns(UserWarning, match="also among the"):
        result = quick(output="logits").run(model, side(members), side(nonmembers))
    assert result.meta["on_both_sides"] == 1
    told = result.verdict
    assert told.grade == "unfair"
    assert told.found == "100 % of the smaller side is on the other side, too (same input and target)."


def test_only_what_the_model_cannot_take_is_put_in_other_words():
    def fails(error: Exception) -> Callable[[Tensor], Tensor]:
        def model(image: Tensor) -> Tensor:
            raise error

        return model

    with pytest.raises(ValueError, match=r"failed on a batch of the audit, float32 tensor \(2, 3, 16, 16\)") as caught:
        quick().run(fails(RuntimeError("sizes")), MEMBERS, NONMEMBERS)
    assert str(caught.value.__cause__) == "sizes"
    for error in (torch.OutOfMemoryError("full"), OSError("mine")):
        with pytest.raises(type(error), match=error.args[0]):
            quick().run(fails(error), MEMBERS, NONMEMBERS)


@pytest.mark.parametrize(
    ("forward", "kind"),
    [
        (lambda batch: batch["image"], IndexError),
        (lambda batch: {"a": 1}[tuple(batch.shape)], KeyError),
        (lambda batch: batch.image, AttributeError),
        (lambda image, mask, weight: image, TypeError),
        (lambda image, steps: image, TypeError),
        (lambda batch: len(batch) + None, TypeError),
        (lambda image: nn.functional.conv2d(image, torch.zeros(1, 4, 1, 1)), RuntimeError),
    ],
)
def test_a_model_that_is_called_otherwise_is_told_how_before_the_training(forward, kind):
    with pytest.raises(ValueError, match=r"failed on a batch of the audit, float32 tensor \(\d, 3, 16, 16\)") as caught:
        quick().check(forward, MEMBERS, NONMEMBERS)
    assert isinstance(caught.value, kind) or kind is RuntimeError
    assert isinstance(caught.value.__cause__, kind)
    assert "called with this tensor alone" in str(caught.value)
    assert "pass adapter=Mine()" in str(caught.value)
    assert "def predict(self, module, input):" in str(caught.value)


class Offloaded(nn.Module):
    """Weights on one device, arithmetic on another, as with weights that are offloaded between forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, device="meta"))

    def forward(self, image: Tensor) -> Tensor:
        assert image.device.type == "cpu"
        return image


def test_a_device_may_be_named_everywhere():
    auditor = quick()
    auditor.check(Offloaded(), MEMBERS, NONMEMBERS, runtime=Runtime("cpu"))
    assert len(auditor.run(Offloaded(), MEMBERS, NONMEMBERS, runtime=Runtime("cpu")).ids) == 5
    (shown,) = auditor.exhibit(Offloaded(), MEMBERS, "member", [1], runtime=Runtime("cpu"))
    assert torch.equal(shown.prediction, shown.input)


def test_settings_name_the_keys_of_the_batches():
    """The tensors that train a project's model are those that are audited, whatever else a batch holds."""

    def pairs(first: int, count: int) -> list[dict[str, Any]]:
        made = []
        for i in range(first, first + count):
            generator = torch.Generator().manual_seed(i)
            t1, t2, mask = (torch.rand(3, 8, 8, generator=generator) for _ in range(3))
            made.append({"t1": t1, "t2": t2, "image": mask, "mask": mask, "case": f"case-{i}", "patient": f"p{i // 2}"})
        return made

    auditor = quick(task="translation", input_key="t1", target_key="t2", id_key="case", group_key="patient")
    members, nonmembers = pairs(0, 3), pairs(3, 2)
    result = auditor.run(Counting(lambda x: x), members, nonmembers)
    assert result.ids == [f"case-{i}" for i in range(5)]
    expected = [float((pair["t1"] - pair["t2"]).abs().mean()) for pair in members + nonmembers]
    np.testing.assert_allclose(result.errors["reconstruction"], expected, rtol=1e-6)
    assert auditor.adapter.unpack(next(iter(DataLoader(members)))).group == ["p0"]
    with pytest.raises(TypeError, match="target_key='t3' finds no tensor in the batch, a dict with 't1'"):
        quick(task="translation", input_key="t1", target_key="t3").run(Counting(lambda x: x), members, nonmembers)


def test_files_that_batches_name_are_the_ids_short_and_each_once_a_side():
    def side(folder, names):
        return [
            {"image": torch.rand(3, 32, 32), "target": torch.rand(3, 32, 32), "path": f"/d/{folder}/{n}"} for n in names
        ]

    members, nonmembers = side("train", ["1.png", "1.png", "2.png"]), side("val", ["1.png", "2.png", "3.png"])
    members[0]["image"][0, 0, 0] = float("nan")
    result = Auditor(task="translation").run(torch.nn.Identity(), members, nonmembers)
    assert result.ids == ["train/1.png#1", "train/2.png", "val/1.png", "val/2.png", "val/3.png"]
    assert [row["id"] for row in result.excluded] == ["train/1.png#0"]
    assert result.meta["folder_of_ids"] == "/d"


@pytest.mark.parametrize("task", ["segmentation", "multilabel"])
@pytest.mark.parametrize("classes", [1, 2])
def test_masks_of_0_and_255_are_refused_before_training_and_others_are_not(task, classes):
    def samples(count, foreground):
        masks = torch.zeros(count, classes if task == "multilabel" else 1, 8, 8)
        masks[:, :, :4] = 255
        masks[foreground, :, 6:] = 1
        return [(torch.rand(3, 8, 8), mask if task == "multilabel" else mask[0].long()) for mask in masks]

    def model(x):
        return torch.conv2d(x, torch.ones(classes, 3, 1, 1))

    auditor = Auditor(task=task, scorer=PredictabilityScorer(torch.nn.AvgPool2d(2), grid=4))
    with pytest.raises(ValueError, match="No target holds a class other than 0"):
        auditor.check(model, samples(70, []), samples(4, []))
    auditor.check(model, samples(70, [66]), samples(4, []))  # beyond the samples that are looked at first
