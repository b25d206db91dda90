from __future__ import annotations

import numpy as np
import pytest
import torch

from mia_lightning.functional.blind import (
    IMAGE_STATISTICS,
    LABEL_STATISTICS,
    blind_test,
    explained_share,
    image_statistics,
    label_statistics,
    matched_subsample,
    pair_statistics,
)
from mia_lightning.functional.classifier import cross_fitted_logits, permutation_test
from mia_lightning.functional.feature_means import FEATURES
from mia_lightning.functional.picture_technique import TECHNIQUE


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def image_by_hand(image: np.ndarray) -> list[float]:
    contrast = np.sqrt(np.mean([plane.var() for plane in image]))
    differences = [abs(plane[i, j + 1] - plane[i, j]) for plane in image for i, j in np.ndindex(*plane[:, 1:].shape)]
    differences += [abs(plane[i + 1, j] - plane[i, j]) for plane in image for i, j in np.ndindex(*plane[1:].shape)]
    return [image.mean(), contrast, np.mean(differences) if differences else 0.0]


@pytest.mark.parametrize("shape", [(1, 6, 5), (3, 4, 7), (5, 3, 3), (2, 1, 8), (1, 8, 1), (3, 1, 1)])
def test_image_statistics_are_those_of_plain_loops(shape):
    images = noise(4, *shape)
    found = image_statistics(images)
    assert found.dtype == torch.float64
    expected = [image_by_hand(image) for image in images.double().numpy()]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_image_statistics_mean_what_they_say():
    images = torch.stack([torch.full((3, 8, 8), 0.25), (torch.arange(8) % 2).float().expand(3, 8, 8), noise(3, 8, 8)])
    found = image_statistics(images)
    assert found[0].tolist() == [0.25, 0.0, 0.0]
    assert found[1].tolist() == [0.5, 0.5, 0.5]  # stripes: every second pair of neighbours is a step of one
    brighter = image_statistics(0.5 * images + 0.5)
    torch.testing.assert_close(brighter, found * 0.5 + torch.tensor([0.5, 0.0, 0.0]).double())


def test_planes_of_one_hot_labels_leave_something_to_see():
    labels = torch.randint(0, 5, (1, 16, 16), generator=torch.Generator().manual_seed(0))
    mixed = torch.nn.functional.one_hot(labels, 5).movedim(3, 1).float()
    plain = torch.nn.functional.one_hot(torch.zeros_like(labels), 5).movedim(3, 1).float()
    found = image_statistics(torch.cat([mixed, plain]))
    share = torch.bincount(labels.flatten(), minlength=5) / 256
    assert found[:, 0].tolist() == pytest.approx([0.2, 0.2])
    assert found[0, 1].item() == pytest.approx(((share * (1 - share)).mean() ** 0.5).item())
    assert found[1, 1:].tolist() == [0.0, 0.0]
    assert found[0, 2] > 0.2


def labels_by_hand(labels: np.ndarray, ignore_index: int) -> list[float]:
    void = (labels < 0) | (labels == ignore_index)
    counts, edges = np.zeros(16), 0
    for i, j in np.argwhere(~void):
        counts[labels[i, j] % 16] += 1
        around = [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
        around = [(a, b) for a, b in around if 0 <= a < len(labels) and 0 <= b < len(labels[0]) and not void[a, b]]
        edges += any(labels[a, b] != labels[i, j] for a, b in around)
    valid = max(1, (~void).sum())
    return [*(counts / valid), void.mean(), edges / valid]


@pytest.mark.parametrize("shape", [(6, 7), (1, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize("ignore_index", [255, 3, 40])
def test_label_statistics_are_those_of_plain_loops(shape, ignore_index):
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(-2, 42, (5, *shape), generator=generator)
    labels[:2] = torch.randint(0, 3, (2, *shape), generator=generator) * 16 + 2  # three classes of one bin
    labels[4] = ignore_index
    found = label_statistics(labels, ignore_index)
    assert found.shape == (5, len(LABEL_STATISTICS))
    assert found.dtype == torch.float64
    expected = [labels_by_hand(each, ignore_index) for each in labels.numpy()]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.bool])
def test_any_integers_are_labels(kind):
    labels = torch.tensor([[[0, 1, 1], [0, 0, 1]]])
    assert label_statistics(labels.to(kind)).equal(label_statistics(labels))


def test_void_pixels_neither_lie_on_boundaries_nor_make_them():
    labels = torch.tensor([[[1, 255, 2, 2, 2]], [[1, 2, 255, 255, 255]], [[255] * 5]])
    rows = label_statistics(labels).tolist()
    assert [row[LABEL_STATISTICS.index("boundary")] for row in rows] == [0.0, 1.0, 0.0]
    assert [row[LABEL_STATISTICS.index("void")] for row in rows] == [0.2, 0.6, 1.0]


def test_a_pair_is_described_alone_whatever_its_batch():
    images, labels = noise(6, 3, 9, 8), torch.randint(0, 30, (6, 9, 8), generator=torch.Generator().manual_seed(0))
    whole = pair_statistics(images, labels, "segmentation")
    alone = [pair_statistics(images[i : i + 1], labels[i : i + 1], "segmentation") for i in range(6)]
    for name, column in whole.items():
        torch.testing.assert_close(column, torch.cat([each[name] for each in alone]), rtol=0, atol=1e-12)
    assert {column.shape for column in pair_statistics(images[:0], labels[:0], "segmentation").values()} == {(0,)}


def test_names_follow_what_input_and_target_are():
    image, labels = noise(2, 3, 4, 4).requires_grad_(), torch.zeros(2, 4, 4, dtype=torch.long)
    of_images = [[f"{part}_{name}" for name in IMAGE_STATISTICS] for part in ("input", "target")]
    of_labels = [[f"{part}_{name}" for name in LABEL_STATISTICS] for part in ("input", "target")]
    assert list(pair_statistics(image, image, "translation")) == of_images[0] + of_images[1]
    assert list(pair_statistics(image, labels, "segmentation")) == of_images[0] + of_labels[1]
    assert list(pair_statistics(labels, image, "translation")) == of_labels[0] + of_images[1]
    assert "target_class_03" in of_labels[1]
    planes = pair_statistics(labels.unsqueeze(1), image, "translation", ignore_index=0)
    assert planes["input_void"].tolist() == [1.0, 1.0]
    assert not any(column.requires_grad for column in pair_statistics(image, image, "translation").values())


def test_pairs_that_fit_no_task_are_refused():
    image, labels = noise(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"float images \(B, C, H, W\), but got torch.int64 \(2, 4, 4\)"):
        pair_statistics(image, labels, "translation")
    with pytest.raises(ValueError, match=r"integer label maps \(B, H, W\), but got torch.float32 \(2, 3, 4, 4\)"):
        pair_statistics(image, image, "segmentation")
    with pytest.raises(ValueError, match=r"integer label maps \(B, H, W\), but got torch.uint8 \(2, 3, 4, 4\)"):
        pair_statistics(image.to(torch.uint8), image, "translation")
    with pytest.raises(ValueError, match="one target an input, but got 2 inputs and 1 targets"):
        pair_statistics(image, labels[:1], "segmentation")
    with pytest.raises(ValueError, match="Unknown task 'auto'; expected 'translation', 'segmentation' or 'multi"):
        pair_statistics(image, labels, "auto")


def columns_of(size: int, shift: float, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Three features, the first of which is higher for members by ``shift`` standard deviations."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(size) < size // 2)
    table = rng.normal(size=(3, size))
    table[0] += shift * member
    return dict(zip(("input_mean", "input_contrast", "target_mean"), table, strict=True)), member


def test_a_brightness_shift_between_the_sides_is_caught():
    member = np.arange(120) % 2 == 0
    target, labels = noise(120, 3, 8, 8), torch.zeros(120, 8, 8, dtype=torch.long)
    image = target + 0.05 * torch.from_numpy(member).view(-1, 1, 1, 1)
    for statistics in (pair_statistics(image, target, "translation"), pair_statistics(image, labels, "segmentation")):
        test = blind_test(statistics, member)
        assert test.auc > 0.8
        assert test.p_value < 0.05
    assert blind_test(pair_statistics(target, target, "translation"), member).p_value > 0.05


def test_predictability_counts_as_one_more_column_on_the_scale_of_logarithms():
    features, member = columns_of(100, 0.0, 0)
    p = np.exp(np.random.default_rng(1).normal(size=100) + 1.5 * member)
    found = blind_test(features, member, predictability=torch.from_numpy(p))
    table = np.column_stack([features["input_contrast"], features["input_mean"], np.log(p), features["target_mean"]])
    np.testing.assert_allclose(found.logits, cross_fitted_logits(table, member), atol=1e-8)
    assert (found.p_value, blind_test({}, member, predictability=p).p_value) == (0.005, 0.005)
    assert blind_test(features, member).p_value > 0.05
    assert np.isfinite(blind_test({}, member, predictability=np.where(member, 0.0, p)).auc)  # a perfect prediction


def test_the_test_is_that_of_the_classifier_in_any_order_of_names():
    features, member = columns_of(60, 0.5, 0)
    features["constant"] = np.full(60, 0.1)
    table = np.column_stack([features[name] for name in ("input_contrast", "input_mean", "target_mean")])
    auc, p_value, logits = permutation_test(table, member, permutations=49, seed=4)
    for order in (list(features), list(features)[::-1]):
        found = blind_test({name: features[name] for name in order}, member, permutations=49, seed=4)
        assert (found.auc, found.p_value) == (auc, p_value)
        assert (found.logits == logits).all()


def test_equal_sides_are_rejected_as_often_as_stated():
    p_values = [blind_test(*columns_of(40, 0.0, seed), permutations=19, seed=seed).p_value for seed in range(200)]
    # Binomial standard deviation of a rate of 5 % in 200 draws: 1.5 %.
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08


@pytest.mark.parametrize("features", [{}, {"a": np.full(30, 0.3), "b": np.zeros(30)}])
def test_nothing_that_varies_tells_nothing_apart(features):
    test = blind_test(features, np.arange(30) < 12)
    assert (test.auc, test.p_value) == (0.5, 1.0)
    assert test.logits.shape == (30,)


@pytest.mark.parametrize(("members", "nonmembers"), [(1, 1), (3, 40), (0, 10), (0, 0)])
def test_too_few_samples_give_nan_and_no_matches(members, nonmembers):
    member = np.arange(members + nonmembers) < members
    test = blind_test({"a": np.arange(member.size)}, member)
    assert np.isnan([test.auc, test.p_value]).all()
    assert np.isnan(test.logits).all()
    assert matched_subsample(test.logits, member).size == 0


def test_broken_columns_are_named():
    member = np.arange(10) < 5
    with pytest.raises(ValueError, match=r"feature 'b' of shape \(10,\), one value a sample, but got \(9,\)"):
        blind_test({"a": np.zeros(10), "b": np.zeros(9)}, member)
    broken = np.r_[np.nan, np.inf, np.zeros(8)]
    with pytest.raises(ValueError, match="but 'b' is NaN or infinite for 2 of 10 samples; leave those samples out"):
        blind_test({"b": broken}, member)
    with pytest.raises(ValueError, match="but 'predictability' is NaN or infinite for 2 of 10"):
        blind_test({}, member, predictability=broken)


@pytest.mark.parametrize(
    ("blind", "attack", "share"),
    [(0.6, 0.7, 0.5), (0.5, 0.7, 0.0), (0.4, 0.7, 0.0), (0.8, 0.7, 1.0), (0.7, 0.7, 1.0), (1.0, 1.0, 1.0)],
)
def test_share_explained_by_the_blind_attack(blind, attack, share):
    assert explained_share(blind, attack) == pytest.approx(share)


@pytest.mark.parametrize(("blind", "attack"), [(np.nan, 0.7), (0.6, np.nan), (0.6, 0.5), (0.6, 0.4)])
def test_share_of_nothing_is_not_a_number(blind, attack):
    assert np.isnan(explained_share(blind, attack))


def matched_by_hand(z: np.ndarray, member: np.ndarray, caliper: float) -> list[float]:
    """Log-odds of the samples matched when all pairs are tried, the closest first."""
    within = caliper * np.sqrt((z[member].var(ddof=1) + z[~member].var(ddof=1)) / 2)
    pairs = [(abs(z[i] - z[j]), min(z[i], z[j]), i, j) for i in np.flatnonzero(member) for j in np.flatnonzero(~member)]
    rows: set[int] = set()
    for distance, _, i, j in sorted(pairs):
        if distance <= within and not rows & {i, j}:
            rows |= {i, j}
    return sorted(z[list(rows)])


@pytest.mark.parametrize("caliper", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(12))
def test_matches_are_the_closest_pairs_of_all(caliper, seed):
    rng = np.random.default_rng(seed)
    member = rng.random(60) < rng.uniform(0.2, 0.8)
    z = rng.normal(size=60) + member
    rows = matched_subsample(z, member, caliper=caliper)
    assert rows.size > 0
    assert (np.diff(rows) > 0).all()
    assert member[rows].sum() == (~member[rows]).sum()
    assert sorted(z[rows]) == matched_by_hand(z, member, caliper)
    assert (rows == matched_subsample(100 * z - 7, member, caliper=caliper)).all()


def test_sides_that_do_not_overlap_have_no_matches():
    member = np.arange(20) < 10
    assert matched_subsample(np.where(member, 5.0, -5.0) + np.arange(20) * 0.01, member).size == 0
    assert matched_subsample(np.zeros(20), np.ones(20, dtype=bool)).size == 0
    assert matched_subsample([], []).size == 0


def test_ties_match_one_to_one_and_samples_without_log_odds_do_not():
    assert matched_subsample(np.zeros(7), np.arange(7) < 5, caliper=0.0).tolist() == [3, 4, 5, 6]
    assert matched_subsample([0.0, np.nan, 0.0, np.nan], [True, True, False, False]).tolist() == [0, 2]
    assert matched_subsample([1.0, 1.0], [True, False]).tolist() == [0, 1]


def test_many_samples_pair_without_leaning_to_either_side():
    rng = np.random.default_rng(0)
    member = np.arange(20000) < 8000
    z = rng.normal(size=20000) + 0.6 * member
    rows = matched_subsample(z, member)
    sides = z[rows[member[rows]]], z[rows[~member[rows]]]
    assert len(sides[0]) > 6000
    assert abs(sides[0].mean() - sides[1].mean()) < 0.02  # pairing from one end leaves about 0.15


@pytest.mark.parametrize(("size", "shift"), [(200, 0.7), (1000, 0.5)])
def test_matched_rows_are_alike_to_a_fresh_blind_test(size, shift):
    caught = []
    for seed in range(12):
        features, member = columns_of(size, shift, seed)
        before = blind_test(features, member, permutations=39, seed=seed)
        rows = matched_subsample(before.logits, member)
        matched = {name: column[rows] for name, column in features.items()}
        after = blind_test(matched, member[rows], permutations=39, seed=100 + seed)
        assert rows.size > 0.5 * size
        caught.append((before.p_value <= 0.05, after.p_value <= 0.05))
    assert np.sum(caught, 0)[0] >= 11
    assert np.sum(caught, 0)[1] <= 1


def test_impossible_matchings_are_refused():
    with pytest.raises(ValueError, match=r"log-odds and flags of one shape \(N,\), but got \(2,\) and \(3,\)"):
        matched_subsample([0.0, 1.0], [True, False, True])
    with pytest.raises(ValueError, match="caliper >= 0, but got -1"):
        matched_subsample([0.0, 1.0], [True, False], caliper=-1)


def test_statistics_of_images_with_void_pixels_are_those_of_the_others() -> None:
    x = torch.rand(3, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    holes = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    holes[0], holes[2] = False, True
    y = x.masked_fill(holes, torch.nan)
    found, values = image_statistics(y).numpy(), y.double().numpy()
    assert (found[0] == image_statistics(x)[0].numpy()).all()
    squares = np.square(values[1] - np.nanmean(values[1], axis=(1, 2), keepdims=True))
    steps = np.concatenate([np.abs(np.diff(values[1], axis=a)).ravel() for a in (1, 2)])
    expected = [np.nanmean(values[1]), np.sqrt(np.nanmean(squares)), np.nanmean(steps)]
    np.testing.assert_allclose(found[1], expected, rtol=1e-12)
    assert (found[2] == 0).all()


def wide(
    number: int, shift: float, seed: int, name: str = "input_tint_first"
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng, member = np.random.default_rng(seed), np.arange(2 * number) < number
    names = ["input_mean", "input_contrast", *(f"input_{n}" for n in TECHNIQUE), *FEATURES]
    columns = {n: rng.normal(size=2 * number) for n in names}
    columns[name] = columns[name] + shift * member
    return columns, member


def test_what_only_the_second_classifier_sees_is_found_and_few_statistics_are_not_drowned():
    for name in ("input_tint_first", "feature_03", "input_mean"):
        found = blind_test(*wide(60, 1.2, 0, name), permutations=99)
        assert found.p_value < 0.05, name
        assert found.auc > 0.6, name
    without = {n: c for n, c in wide(60, 1.2, 0)[0].items() if n in ("input_mean", "input_contrast")}
    assert blind_test(without, np.arange(120) < 60, permutations=99).p_value > 0.05


def test_two_classifiers_hold_the_level_of_one():
    found = [blind_test(*wide(24, 0.0, seed), permutations=19, seed=seed) for seed in range(60)]
    assert np.mean([test.p_value < 0.1 for test in found]) < 0.1 + 3 * 0.3 / np.sqrt(60)
    assert abs(np.mean([test.auc for test in found]) - 0.5) < 0.035


def test_groups_are_matched_as_wholes():
    rng, group = np.random.default_rng(0), np.arange(200) // 4
    member = group < 25
    logits = rng.normal(size=50)[group] + 0.1 * rng.normal(size=200) + 1.0 * member
    rows = matched_subsample(logits, member, group=group)
    counts = np.bincount(group[rows], minlength=50)
    assert set(counts.tolist()) == {0, 4}
    assert (counts[:25] > 0).sum() == (counts[25:] > 0).sum() > 5
    assert abs(logits[rows][member[rows]].mean() - logits[rows][~member[rows]].mean()) < 0.2
    alone = np.arange(200)
    assert matched_subsample(logits, member, group=alone).tolist() == matched_subsample(logits, member).tolist()
