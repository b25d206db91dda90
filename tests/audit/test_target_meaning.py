from __future__ import annotations

import pytest
import torch

from mia_lightning.audit.config import AuditConfig
from mia_lightning.audit.target_meaning import read_task, to_channels, to_labels
from mia_lightning.functional.batches import Batch

TYPES = [
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
]
X = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(96).view(2, 8, 6) % 3
ONE_HOT = torch.nn.functional.one_hot(LABELS, 3).movedim(3, 1)
NESTED = torch.stack([LABELS > 0, LABELS > 1, LABELS > 1], 1).long()


def task_of(*targets: torch.Tensor, **options) -> tuple[str, str]:
    return read_task(AuditConfig(**options), [Batch(None, X, target) for target in targets])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("target", "first", "second"), [(ONE_HOT, "one-hot", "segmentation"), (NESTED, "not exclude", "multilabel")]
)
def test_channels_of_zeros_and_ones_are_asked_about(target, first, second, dtype):
    with pytest.raises(ValueError, match=f"{first}.*pictures.*task='{second}'.*task='translation'"):
        task_of(target.to(dtype))
    for task in ("segmentation", "multilabel", "translation"):
        assert task_of(target.to(dtype), task=task) == (task, f"{task} (the setting)")


@pytest.mark.parametrize("task", ["auto", "segmentation", "multilabel", "translation"])
def test_channels_that_come_last_are_refused(task):
    for target in (ONE_HOT.movedim(1, -1), ONE_HOT.movedim(1, -1).bool(), LABELS.unsqueeze(-1)):
        with pytest.raises(ValueError, match=r"The targets are .*seem to be last.*tensor.movedim\(-1, 1\)"):
            task_of(target, task=task)
    for target in (ONE_HOT, LABELS):
        with pytest.raises(ValueError, match=r"The inputs are .*last.*module\(input.movedim\(1, -1\)\)"):
            read_task(AuditConfig(task=task), [Batch(None, X.movedim(1, -1), target)])
    with pytest.raises(ValueError, match=r"The inputs are complex64 .*expected real numbers.*tensor.abs"):
        read_task(AuditConfig(task=task), [Batch(None, torch.complex(X, X), LABELS)])


@pytest.mark.parametrize(("input", "target"), [(3, 3), (1, 3), (4, 1)])
def test_pictures_whose_channels_both_come_last_are_refused(input, target):
    x, y = torch.rand(2, 24, 16, input), torch.rand(2, 24, 16, target)
    for task in ("auto", "translation"):
        with pytest.raises(ValueError, match=r"The inputs are .*last.*movedim\(-1, 1\)"):
            read_task(AuditConfig(task=task), [Batch(None, x, y)])


@pytest.mark.parametrize("size", [(3, 4, 4), (8, 8, 3), (64, 500, 1), (16, 16, 16, 4)])
def test_narrow_pictures_have_their_channels_first(size):
    x = torch.rand(2, *size)
    assert read_task(AuditConfig(task="translation"), [Batch(None, x, x)])[0] == "translation"


def test_masks_with_soft_edges_are_asked_about():
    soft = NESTED.float()
    soft[:, :, 3] = 0.5
    with pytest.raises(
        ValueError, match=r"88 % of its values are exactly 0 or 1.*'multilabel'.*'translation'.*nearest"
    ):
        task_of(soft)
    with pytest.raises(ValueError, match=r"fractions and sum to one.*'multilabel'.*'translation'.*nearest"):
        task_of(0.9 * ONE_HOT + 0.1 / 3)


def test_whole_numbers_in_floats_are_asked_about():
    with pytest.raises(
        ValueError, match=r"whole numbers from 0 to 2 .*'segmentation'.*'translation' with target_range="
    ):
        task_of(LABELS.unsqueeze(1).float())


def test_the_first_sample_alone_does_not_decide():
    black = torch.zeros(1, 1, 8, 6)
    assert task_of(black, X[:1, :1])[0] == "translation"
    with pytest.raises(ValueError, match="zeros and ones"):
        task_of(black, black)


def test_sides_with_different_channels_are_looked_at_each():
    with pytest.raises(ValueError, match="zeros and ones"):
        task_of(X, (X[:, :1] > 0.5).float())


def test_integers_that_look_like_pictures_are_asked_about():
    depth = (X[:, :1] * 65535).to(torch.uint16)
    with pytest.raises(ValueError, match=r"more like a picture.*task='translation' with target_range.*'segmentation'"):
        task_of(depth)
    assert task_of(LABELS.to(torch.uint16)) == ("segmentation", "segmentation (uint16 label maps)")


def test_a_range_of_targets_is_that_of_pictures():
    assert task_of(2.0 * NESTED - 1, target_range=(-1, 1))[0] == "translation"


@pytest.mark.parametrize("dtype", TYPES)
def test_one_hot_targets_become_labels_exactly(dtype):
    assert torch.equal(to_labels(ONE_HOT.to(dtype)), LABELS)
    assert to_labels(ONE_HOT.to(dtype)).dtype == torch.int64


@pytest.mark.parametrize("dtype", TYPES)
def test_label_maps_of_all_types(dtype):
    labels = LABELS if dtype != torch.bool else LABELS.clamp_max(1)
    assert torch.equal(to_labels(labels.to(dtype)), labels)
    assert torch.equal(to_labels(labels.to(dtype).unsqueeze(1)), labels)


def test_ignored_pixels_of_one_hot_targets():
    for value in (255.0, torch.nan):
        target = ONE_HOT.float()
        target[0, :, 0] = value
        labels = to_labels(target)
        assert (labels[0, 0] == 255).all()
        assert torch.equal(labels[0, 1:], LABELS[0, 1:])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (NESTED, "not one-hot, either: .* set in several channels.*task='multilabel'"),
        (ONE_HOT * (LABELS > 0).unsqueeze(1), "set in no channel. Add .*background.*ignore_index.*task='multilabel'"),
        (0.5 * ONE_HOT, r"span \[0, 0.5\].*nearest pixel.*task='multilabel'.*task='translation'"),
        (255 * ONE_HOT, r"not one-hot, either: its values span \[0, 255\].*bring 255 to 1"),
        (torch.where(X[:, 0] > 0.5, torch.inf, 1.0), "too large for that. Resize.*task='translation'"),
        (torch.where(X[:, 0] > 0.5, -1e30, 1.0), "too large for that. Resize.*task='translation'"),
        (X[:, :1], "fractions or NaN. Resize label maps to the nearest pixel.*task='multilabel'.*task='translation'"),
    ],
)
def test_what_is_no_label_map_is_told_where_it_belongs(target, message):
    with pytest.raises(ValueError, match=message):
        to_labels(target)


@pytest.mark.parametrize("dtype", TYPES)
def test_masks_of_all_types(dtype):
    assert torch.equal(to_channels(NESTED.to(dtype)), NESTED.float())
    assert torch.equal(to_channels(NESTED[:, 0].to(dtype)), NESTED[:, :1].float())


def test_soft_edges_and_ignored_values_of_masks():
    target = X.clone()
    target[0, 1, 0], target[0, 2, 0] = 255.0, torch.nan
    masks = to_channels(target)
    assert masks[0, 1:, 0].isnan().all()
    assert torch.equal(masks.isnan(), (target == 255) | target.isnan())
    assert torch.equal(masks[1], X[1])
    minus = NESTED.to(torch.int16)
    minus[0, 1, 0] = -100
    assert to_channels(minus, ignore_index=-100)[0, 1, 0].isnan().all()


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (LABELS.unsqueeze(1), {}, r"span \[0, 2\].*task='segmentation'.*task='translation'"),
        (2 * X - 1, {}, r"span \[-0.*"),
        (255 * NESTED, {"ignore_index": 254}, "Bring 255 to 1; set ignored pixels to 254"),
        (torch.zeros(1, 2, 3, 4, 5), {}, "do not have five dimensions, those of volumes"),
        (NESTED, {"ignore_index": 0}, "ignore_index=0 leaves these out: set ignore_index"),
    ],
)
def test_what_is_no_mask_is_refused(target, options, message):
    with pytest.raises(ValueError, match=message):
        to_channels(target, **options)
