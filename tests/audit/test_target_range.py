"""What ``target_range="auto"`` becomes, and audits of targets in other units than [0, 1], with and without holes."""

from __future__ import annotations

import importlib
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.multiprocessing import start_processes
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mia_lightning import AuditConfig, Auditor, AuditResult, PredictabilityScorer, audit_outputs, weigh_evidence
from mia_lightning.audit.target_range import UNIT, TargetSpans, settle
from mia_lightning.figures.sample_images import SampleImages, encoded_parts
from mia_lightning.functional.predictability import predictability_error
from mia_lightning.posthoc.stored_predictions import store_predictions

SIDE = 16
ERRORS = ("l2", "ssim")

UNITS = {  # of which no target may be taken for something else
    "metres": (0.4, 79.5),
    "hounsfield": (-1000.0, 3000.0),
    "kelvin": (251.2, 318.7),
    "counts": (0.0, 6.5),
    "standardised": (-2.3, 2.9),
    "vegetation index": (-0.31, 0.92),
    "tiny": (0.0, 3e4),
}


def pictures(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def unit_targets(count: int, seed: int) -> Tensor:
    return 0.02 + 0.96 * pictures(count, seed + 50)[:, :1]


def side_of(count: int, seed: int, low: float = 0.0, high: float = 1.0) -> list[tuple[Tensor, Tensor]]:
    return list(zip(pictures(count, seed), low + (high - low) * unit_targets(count, seed), strict=True))


def with_extremes(members: list, nonmembers: list, low: float, high: float) -> None:
    """The smallest and the largest value are in samples that nothing looks at before all are."""
    members[13][1][0, 3, 4], nonmembers[17][1][0, 5, 6] = low, high


class Model(nn.Module):
    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.span = low, high - low

    def forward(self, x: Tensor) -> Tensor:
        return self.low + self.span * (1.3 * x.mean(1, keepdim=True) - 0.1)


def auditor(**settings) -> Auditor:
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
    return Auditor(**{"scorer": scorer, "errors": ERRORS, "batch_size": 8, **settings})


def audit(low: float, high: float, members: list, nonmembers: list, **settings) -> AuditResult:
    return auditor(**settings).run(Model(low, high), members, nonmembers)


# ---- what is settled


def spans(*values: tuple[float, float]) -> TargetSpans:
    return TargetSpans.of([torch.tensor([[[list(v)]]]) for v in values])


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(0.0, 1.0), (0.1, 0.7)], UNIT),
        ([(0.0, 0.1), (0.0, 0.2)], UNIT),
        ([(-5e-4, 1.0005)], UNIT),
        ([(0.0, 1.0)] * 3 + [(5.0, 6.0)], UNIT),  # one is broken, and refused when it comes
        ([(0.0, 0.3)] * 30 + [(0.0, 31.0)], (0.0, 31.0)),  # bare ground beside a wood
        ([(0.0, 1.0)] * 2 + [(5.0, 6.0)], (0.0, 6.0)),
        ([(-0.2, 0.9)], (-0.2, 0.9)),
        ([(-3.0, 3.0)], (-3.0, 3.0)),
        ([(-1.0, 0.2)], (-1.0, 0.2)),
        ([(torch.nan, torch.nan), (torch.nan, 4.0), (2.0, torch.inf)], (2.0, 4.0)),
        ([(torch.nan, torch.nan)], UNIT),
    ],
)
def test_the_range_by_the_values(samples, expected):
    assert settle(spans(*samples)) == pytest.approx(expected)
    halves = [spans(*samples[: len(samples) // 2]), spans(*samples[len(samples) // 2 :])]
    assert settle(TargetSpans.joined(halves)) == pytest.approx(expected)


@pytest.mark.parametrize("samples", [[(-1.0, 1.0)], [(-0.6, 0.2), (0.1, 0.8)], [(-1.06, 1.04), (0.0, 1.0)]])
def test_what_may_be_kept_between_minus_one_and_one_is_asked_about(samples):
    with pytest.raises(ValueError, match=r"The targets span \[.*outside target_range=\(0, 1\).*target_range=\("):
        settle(spans(*samples))


def test_one_value_is_no_range():
    with pytest.raises(ValueError, match=r"one value 7, which tells no range: pass target_range=\(low, high\)"):
        settle(spans((7.0, 7.0)))


def test_the_default_is_auto_and_others_are_checked():
    assert AuditConfig().target_range == "auto"
    assert AuditConfig(target_range=[0, 5]).target_range == (0.0, 5.0)
    with pytest.raises(ValueError, match="target_range='auto' or"):
        AuditConfig(target_range=(3, 1))


# ---- audits


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("tiny", "metres", "hounsfield") else pytest.mark.slow) for n in UNITS],
)
def test_errors_are_shares_of_the_range_of_both_sides(name):
    """As those of the same targets and predictions brought to [0, 1] by hand."""
    low, high = UNITS[name]
    members, nonmembers = side_of(20, 0, low, high), side_of(20, 1, low, high)
    with_extremes(members, nonmembers, low, high)
    found = audit(low, high, members, nonmembers)
    assert found.meta["settings"]["target_range"] == pytest.approx([low, high])
    assert "values from" in found.meta["interpretation"]["target"]
    assert f"{high:.6g}" in found.meta["interpretation"]["target"]
    scaled = [[(x, (y - low) / (high - low)) for x, y in side] for side in (members, nonmembers)]
    expected = audit(0.0, 1.0, *scaled)
    assert "target" not in expected.meta["interpretation"]
    x, y = (torch.stack(part) for part in zip(*members, *nonmembers, strict=True))
    difference = (Model(low, high)(x) - y).abs().flatten(1).mean(1) / (high - low)
    np.testing.assert_allclose(found.errors["reconstruction"], difference, rtol=1e-4)
    for error in ("reconstruction", "predictability", "membership", *ERRORS):
        np.testing.assert_allclose(found.errors[error], expected.errors[error], rtol=2e-3, atol=2e-5)
    explicit = audit(low, high, members, nonmembers, target_range=tuple(found.meta["settings"]["target_range"]))
    if name != "vegetation index":  # inputs share an explicit range within [-1, 1]
        for error in ("reconstruction", "predictability"):
            np.testing.assert_array_equal(found.errors[error], explicit.errors[error])
    assert found.meta["plausibility"] == pytest.approx(expected.meta["plausibility"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int16])
def test_types_of_targets(dtype):
    members, nonmembers = side_of(10, 0, 0, 250), side_of(10, 1, 0, 250)
    members, nonmembers = ([(x, y.round().to(dtype)) for x, y in side] for side in (members, nonmembers))
    found = audit(0, 250, members, nonmembers, task="translation")
    values = np.stack([y.double().numpy() for _, y in members + nonmembers])
    assert found.meta["settings"]["target_range"] == [values.min(), values.max()]
    outputs = Model(0, 250)(torch.stack([x for x, _ in members + nonmembers])).detach().numpy()
    expected = np.abs(outputs - values).mean((1, 2, 3)) / np.ptp(values)
    np.testing.assert_allclose(found.errors["reconstruction"], expected, rtol=1e-5)


def test_a_subset_tells_its_own_range_whatever_the_batches():
    members, nonmembers = side_of(20, 0, 0, 40), side_of(20, 1, 0, 40)
    with_extremes(members, nonmembers, 0.0, 40.0)
    ranges = {
        tuple(audit(0, 40, *sides, max_samples=12, batch_size=size).meta["settings"]["target_range"])
        for size in (3, 8)
        for sides in ((members, nonmembers), (DataLoader(members, 5), DataLoader(nonmembers, 7, shuffle=True)))
    }
    assert len(ranges) == 1


class Stream(IterableDataset):
    def __init__(self, items: list) -> None:
        self.items = items

    def __iter__(self):
        return iter(self.items)


def test_streams_are_read_before_and_generators_are_asked_about():
    members, nonmembers = side_of(20, 0, 0, 40), side_of(20, 1, 0, 40)
    with_extremes(members, nonmembers, 0.0, 40.0)
    plain = audit(0, 40, members, nonmembers)
    streamed = audit(0, 40, Stream(members), Stream(nonmembers))
    np.testing.assert_array_equal(streamed.errors["membership"], plain.errors["membership"])
    with pytest.raises(ValueError, match=r"generator that is read once: pass target_range=\(low, high\)"):
        audit(0, 40, iter(members), nonmembers)
    once = audit(0, 40, iter(members), iter(nonmembers), target_range=(0, 40))
    np.testing.assert_array_equal(once.errors["membership"], plain.errors["membership"])
    assert audit(0, 1, iter(side_of(4, 0)), iter(side_of(4, 1))).meta["settings"]["target_range"] == [0.0, 1.0]


class Counting(Dataset):
    def __init__(self, items: list) -> None:
        self.items, self.reads = items, 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        self.reads += 1
        return self.items[index]


def test_pictures_in_the_unit_range_are_not_read_once_more():
    members = Counting(side_of(20, 0))
    audit(0, 1, members, side_of(20, 1))
    usual = members.reads
    metres = Counting(side_of(20, 0, 0, 9))
    audit(0, 9, metres, side_of(20, 1, 0, 9), target_range=(0, 9))
    assert metres.reads == usual
    metres.reads = 0
    audit(0, 9, metres, side_of(20, 1, 0, 9))
    assert metres.reads == usual + 20


def test_a_range_that_was_passed_is_checked_before_the_training():
    members, nonmembers = side_of(4, 0, 0, 40), side_of(4, 1, 0, 40)
    with pytest.raises(ValueError, match=r"The targets span \[.*outside target_range=\(0, 10\).*for example"):
        auditor(target_range=(0, 10)).check(Model(0, 40), members, nonmembers)


def test_a_settled_range_stays_and_what_goes_beyond_is_left_out():
    members, nonmembers = side_of(20, 0, 0, 40), side_of(20, 1, 0, 40)
    one = auditor()
    one.check(Model(0, 40), members, nonmembers)
    before = one.run(Model(0, 40), members, nonmembers)
    assert before.meta["settings"]["target_range"] == pytest.approx(one.target_range)
    members[13][1][0, 0, 0] = 1000.0  # a sample that a data set draws anew
    after = one.run(Model(0, 40), members, nonmembers)
    assert after.meta["settings"]["target_range"] == before.meta["settings"]["target_range"]
    assert [e["id"] for e in after.excluded] == ["member-000013"]
    assert "target_range" in after.excluded[0]["reason"]
    kept = [id != "member-000013" for id in before.ids]
    np.testing.assert_array_equal(after.errors["membership"], before.errors["membership"][kept])


def test_colours_beside_metres_stay_what_they_are():
    """Inputs in [0, 1] have no part in the range of other targets; pictures of the same kind do."""
    members, nonmembers = side_of(8, 0, 0, 40), side_of(8, 1, 0, 40)
    found = audit(0, 40, members, nonmembers)
    assert found.meta["interpretation"]["input"] == "pictures in floating point, in [0, 1]"
    low, high = -1000.0, 3000.0
    same = [[(low + (high - low) * x, low + (high - low) * y) for x, y in s] for s in (side_of(8, 0), side_of(8, 1))]
    with_same = [(x, y) for side in same for x, y in side]
    with_same[0][1][0, 0, 0], with_same[1][1][0, 0, 0] = low, high
    scans = auditor().run(lambda x: x[:, :1], *same)
    unit = [[((x - low) / (high - low), (y - low) / (high - low)) for x, y in side] for side in same]
    plain = auditor().run(lambda x: x[:, :1], *unit)
    np.testing.assert_allclose(scans.errors["predictability"], plain.errors["predictability"], rtol=1e-3)
    np.testing.assert_allclose(scans.errors["reconstruction"], plain.errors["reconstruction"], rtol=1e-4)


def test_whole_numbers_that_cannot_be_classes_need_no_setting():
    members, nonmembers = ([(x, y.round()) for x, y in side_of(8, s, -1000, 3000)] for s in (0, 1))
    assert audit(-1000, 3000, members, nonmembers).meta["task"] == "translation"
    counts = [[(x, y.round()) for x, y in side_of(8, s, 0, 9)] for s in (0, 1)]
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 9 .*task='translation'"):
        audit(0, 9, *counts)
    assert audit(0, 9, *counts, task="translation").meta["settings"]["target_range"] == [0.0, 9.0]


def test_targets_and_predictions_without_a_dimension_of_channels():
    members, nonmembers = side_of(8, 0, 0, 40), side_of(8, 1, 0, 40)
    expected = audit(0, 40, members, nonmembers, scores=("membership", "neighbour"))
    flat = [[(x, y[0]) for x, y in side] for side in (members, nonmembers)]
    for model in (Model(0, 40), lambda x: Model(0, 40)(x)[:, 0]):
        for sides in (flat, (members, nonmembers)):
            found = auditor(scores=("membership", "neighbour")).run(model, *sides)
            for name, values in expected.errors.items():
                np.testing.assert_array_equal(found.errors[name], values)


# ---- holes


def broken(side: list, share: float, seed: int) -> list[tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(seed)
    return [(x, y.masked_fill(torch.rand(y.shape, generator=rng) < share, torch.nan)) for x, y in side]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.4, 79.5), (-1000.0, 3000.0)])
def test_holes_are_left_out_of_every_number(low, high):
    members, nonmembers = broken(side_of(10, 0, low, high), 0.3, 5), broken(side_of(10, 1, low, high), 0.3, 6)
    members[2] = (members[2][0], side_of(10, 0, low, high)[2][1])  # one without a hole
    members[4] = (members[4][0], torch.full_like(members[4][1], torch.nan))
    nonmembers[3][1][0, 0, 0] = torch.inf
    found = auditor(errors=("l2",)).run(Model(low, high), members, nonmembers)
    reason = "the target or the input holds NaN or infinite values"
    assert [(e["id"], e["reason"]) for e in found.excluded] == [("member-000004", reason), ("nonmember-000003", reason)]
    x, y = (torch.stack(p) for p in zip(*members[:4], *members[5:], *nonmembers[:3], *nonmembers[4:], strict=True))
    bottom, top = found.meta["settings"]["target_range"]
    outputs, targets = ((t.double().numpy() - bottom) / (top - bottom) for t in (Model(low, high)(x).detach(), y))
    np.testing.assert_allclose(found.errors["reconstruction"], np.nanmean(abs(outputs - targets), (1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(found.errors["l2"], np.nanmean((outputs - targets) ** 2, (1, 2, 3)), rtol=1e-3)
    maps = [auditor().scorer.network(nn.functional.interpolate(x, size=(32, 32), mode="bilinear", antialias=True))[0]]
    expected = predictability_error(maps, torch.from_numpy(targets), grid=8)
    np.testing.assert_allclose(found.errors["predictability"], expected, rtol=1e-4)
    np.testing.assert_allclose(found.blind["target_mean"], np.nanmean(targets, (1, 2, 3)), rtol=1e-4)


def test_holes_move_with_their_target():
    """A model that knows the target where it is not void has the same error on every flipped copy."""
    members, nonmembers = broken(side_of(6, 0, 0, 40), 0.3, 5), broken(side_of(6, 1, 0, 40), 0.3, 6)
    truth = {float(x.sum()): torch.nan_to_num(y) for x, y in members + nonmembers}

    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            made = []
            for one in x:
                key = min(truth, key=lambda total: abs(total - float(one.sum())))
                plain = next(p for p, _ in members + nonmembers if float(p.sum()) == key)
                turned = torch.equal(one, plain)
                made.append(truth[key] + 2.0 if turned else truth[key].flip(2) + 2.0)
            return torch.stack(made)

    result = auditor(errors=(), scores=("membership", "neighbour"), neighbours=["hflip"]).run(
        Same(), members, nonmembers
    )
    np.testing.assert_allclose(result.errors["neighbour"], 0.0, atol=1e-5)


def test_more_than_a_few_holes_are_named():
    members, nonmembers = side_of(5, 0, 0, 40), side_of(5, 1, 0, 40)
    sparse = torch.full_like(members[1][1], torch.nan)
    sparse[0, 3, 3] = 7.0
    members[1] = (members[1][0], sparse)
    (left_out,) = audit(0, 40, members, nonmembers, errors=()).excluded
    assert left_out["id"] == "member-000001"
    assert "too few pixels of the target have a value" in left_out["reason"]


# ---- all ways


def test_processes_settle_the_range_of_all(monkeypatch, tmp_path):
    """Each reads its share; the farthest pixels are with one of them."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    workers = importlib.import_module("gloo_workers_ranges")
    start = "fork" if sys.platform == "linux" else "spawn"
    start_processes(workers.audit, args=(2, str(tmp_path)), nprocs=2, start_method=start)
    alone = workers.auditor().run(workers.model, *workers.sides())
    assert alone.meta["settings"]["target_range"] == [-2.0, 40.0]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["range"] == (-2.0, 40.0)
        assert found["cut"] == [-2.0, 40.0], "where the first samples of one process look like pictures in [0, 1]"
        result = AuditResult.from_plain(found["result"])
        assert result.meta["settings"]["target_range"] == [-2.0, 40.0]
        assert (result.ids, result.excluded) == (alone.ids, alone.excluded)
        for name, values in alone.errors.items():
            np.testing.assert_allclose(result.errors[name], values, rtol=1e-6)


def test_stored_outputs_give_the_numbers_of_the_model(tmp_path):
    members, nonmembers = broken(side_of(10, 0, 0, 40), 0.3, 5), broken(side_of(10, 1, 0, 40), 0.3, 6)
    with_extremes(members * 2, nonmembers * 2, 0.0, 41.5)
    live = audit(0, 40, members, nonmembers, errors=("l2",), verdict="primary")
    folder = store_predictions(auditor(), Model(0, 40), members, nonmembers, tmp_path / "outputs")
    stored = audit_outputs(folder, scorer=auditor().scorer, errors=("l2",))
    assert stored.meta["settings"]["target_range"] == live.meta["settings"]["target_range"]
    for name, values in live.errors.items():
        np.testing.assert_array_equal(stored.errors[name], values)
    evidence = weigh_evidence(Model(0, 40), members, nonmembers, scorer=auditor().scorer, primary="membership")
    assert evidence.meta["settings"]["target_range"] == live.meta["settings"]["target_range"]


def test_void_pixels_are_grey_in_pictures():
    members = broken(side_of(4, 0, 0, 40), 0.3, 5)
    one = auditor()
    one.run(Model(0, 40), members, side_of(4, 1, 0, 40))
    (shown,) = one.exhibit(Model(0, 40), members, "member", [1])
    void = torch.isnan(members[1][1][0])
    assert torch.equal(torch.isnan(shown.target[0, 0]), void)
    (parts,) = encoded_parts([SampleImages(shown.input[0], shown.target[0], shown.prediction[0])])
    drawn = np.asarray(Image.open(io.BytesIO(parts["target"])).convert("RGB"))
    if parts["target"].startswith(b"\x89PNG"):
        assert (drawn[void.numpy()] == 217).all()
    error = np.asarray(Image.open(io.BytesIO(parts["error"])).convert("RGB")).astype(int).sum(2)
    assert error[void.numpy()].mean() < 0.5 * error[~void.numpy()].mean()


# ---- values that mark missing pixels


@pytest.mark.parametrize("mark", [-9999.0, -32768.0, 65535.0, 1e20, -3.4028234663852886e38])
def test_a_mark_far_from_all_other_values_is_asked_about(mark):
    with pytest.raises(ValueError, match=r"and else span \[2, 9\].*target_range=\(") as refused:
        settle(spans((2.0, 5.0), (mark, 9.0)))
    void = float(re.findall(r"Pass void=(\S+),", str(refused.value))[0])  # as it is proposed
    assert settle(TargetSpans.of([torch.tensor([[2.0, 5.0, mark, 9.0]])], void)) == (2.0, 9.0)


@pytest.mark.parametrize("samples", [(-1024.0, 80.0), (-9999.0, 30000.0), (0.0, 65535.0), (-1.0, 40.0), (0, 999.0)])
def test_values_that_mark_nothing_are_part_of_the_range(samples):
    between = torch.linspace(*samples, 50)[None, None, None]
    assert settle(TargetSpans.of([between])) == samples


@pytest.mark.parametrize("mark", [-9999, 0])
def test_pixels_of_a_mark_are_left_out_as_nan_is(mark):
    members, nonmembers = broken(side_of(10, 0, 1, 40), 0.2, 5), broken(side_of(10, 1, 1, 40), 0.2, 6)
    marked = [[(x, torch.nan_to_num(y, nan=mark)) for x, y in side] for side in (members, nonmembers)]
    expected = audit(1, 40, members, nonmembers)
    found = audit(1, 40, *marked, void=mark)
    for name, values in expected.errors.items():
        np.testing.assert_array_equal(found.errors[name], values)
    assert found.meta["settings"]["target_range"] == expected.meta["settings"]["target_range"]
    assert f"pixels of {mark} in targets are left out" in found.meta["interpretation"]["void"]
    explicit = audit(1, 40, *marked, void=mark, target_range=(0.5, 41.0))
    expected = audit(1, 40, members, nonmembers, target_range=(0.5, 41.0))
    np.testing.assert_array_equal(explicit.errors["membership"], expected.errors["membership"])
    whole = [[(x, y.round().to(torch.int16)) for x, y in side] for side in marked]
    assert audit(1, 40, *whole, void=mark, task="translation").meta["settings"]["target_range"][0] >= 1.0


def test_a_mark_outside_a_range_that_was_passed_is_named():
    members, nonmembers = side_of(4, 0, 0, 40), side_of(4, 1, 0, 40)
    members[0][1][0, 0, 0] = -9999.0
    with pytest.raises(ValueError, match=r"outside target_range=\(0, 40\)\. If -9999 marks missing pixels, pass void="):
        auditor(target_range=(0, 40)).check(Model(0, 40), members, nonmembers)


def test_marks_of_label_maps_are_another_setting():
    with pytest.raises(ValueError, match="left out by ignore_index"):
        AuditConfig(task="segmentation", void=-1)
    masks = [(x, (y[0] > 0.5).long()) for x, y in side_of(4, 0)]
    with pytest.raises(ValueError, match=r"void=-1 is for target images.*ignore_index"):
        auditor(errors=(), void=-1).run(Model(0, 1), masks, masks)


def test_the_range_that_is_proposed_is_not_much_wider():
    for low, high, proposed in ((1.2, 8.7, "(1, 9)"), (30, 221, "(0, 255)"), (-0.8, 0.9, "(-1, 1)")):
        with pytest.raises(ValueError, match=rf"for example target_range={re.escape(proposed)};"):
            auditor(target_range=(0, 0.5)).run(Model(0, 1), side_of(4, 0, low, high), side_of(4, 1, low, high))
