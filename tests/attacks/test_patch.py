import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mia_lightning.attacks.patch import LARGEST_SEEN, PatchAttack, PatchView, grid, loss_map, turned
from mia_lightning.functional.roc import roc_auc


def states():
    return torch.get_rng_state(), np.random.get_state()[1].copy()


def test_a_local_pattern_is_caught_that_the_mean_hides(pitted_maps):
    reference, was_member = pitted_maps(0)
    audited, member = pitted_maps(1)
    mean = roc_auc(-audited.mean((1, 2, 3)).numpy(), member)
    score = PatchAttack().fit(reference, was_member).score(audited)
    assert mean < 0.65
    assert roc_auc(score, member) > 0.85
    assert score.shape == (120,)
    assert score.dtype == np.float64


@pytest.fixture
def aligned_maps():
    """Maps of pairs and two neighbours, which share how hard pixels are; a member is a little below its neighbours."""

    def build(seed, images=60, side=16):
        rng = np.random.default_rng(seed)
        hard = rng.lognormal(0.0, 1.0, (images, 1, 1, 1)) * rng.lognormal(0.0, 1.0, (images, 1, side, side))
        maps = hard * rng.lognormal(0.0, 0.2, (images, 3, side, side))
        member = rng.permutation(images) < images // 2
        maps[member, 0] *= 0.8
        return torch.from_numpy(maps).float(), member

    return build


def test_neighbours_show_how_low_a_loss_should_be(aligned_maps):
    reference, was_member = aligned_maps(0)
    audited, member = aligned_maps(1)
    own = PatchAttack(steps=60).fit(reference[:, :1], was_member).score(audited[:, :1])
    beside = PatchAttack(steps=60, neighbours=True).fit(reference, was_member).score(audited)
    assert roc_auc(own, member) < 0.7
    assert roc_auc(beside, member) > 0.9


def test_the_network_sees_log_ratios_to_the_neighbours():
    maps = torch.tensor([[1.0, 3.0], [3.0, 0.0]]).view(2, 2, 1, 1)  # pair and one neighbour, of two samples
    view = PatchView.fitted(maps, 1, neighbours=True)
    assert view.unit.flatten().tolist() == [2.0, 2.0]
    own = np.array([0.5, 1.5])
    expected = np.stack([own, np.log1p(own), np.log1p(own) - np.log1p([1.5, 0.0])])
    np.testing.assert_allclose(view.centre.flatten(), expected.mean(1), rtol=1e-6)
    zero = torch.zeros(2, dtype=torch.long)
    patches = view.cut(maps, torch.arange(2), zero, zero)
    standard = (expected - expected.mean(1, keepdims=True)) / expected.std(1, keepdims=True)
    np.testing.assert_allclose(patches.flatten(1).T, standard, rtol=1e-5)


def test_where_maps_say_nothing_the_interval_covers_chance(pitted_maps, covers_chance):
    covered = 0
    for fit in range(4):
        reference, was_member = pitted_maps(fit, images=60, height=16, width=16, pit=4)
        attack = PatchAttack(steps=20, seed=fit).fit(reference, was_member)
        for draw in range(50):
            audited, member = pitted_maps(100 + 50 * fit + draw, images=60, height=16, width=16, depth=1.0, pit=4)
            covered += covers_chance(attack.score(audited), member)
    assert 0.91 <= covered / 200 <= 0.985


def test_the_seed_decides_everything_and_global_generators_stand_still(pitted_maps):
    maps, member = pitted_maps(0, images=30, height=16, width=16, pit=4)
    before = states()
    first = PatchAttack(steps=10, seed=3).fit(maps, member).score(maps)
    torch.manual_seed(99)
    moved = states()
    second = PatchAttack(steps=10, seed=3).fit(maps, member).score(maps)
    other = PatchAttack(steps=10, seed=4).fit(maps, member).score(maps)
    assert (first == second).all()
    assert not np.allclose(first, other)
    assert all((a == b).all() for a, b in zip(moved, states(), strict=True))
    torch.set_rng_state(before[0])


def test_fitting_draws_nothing_from_the_global_generator(pitted_maps):
    maps, member = pitted_maps(0, images=12, height=8, width=8, pit=4)
    before = states()
    PatchAttack(steps=2).fit(maps, member).score(maps)
    assert all((a == b).all() for a, b in zip(before, states(), strict=True))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_learns_in_the_midst_of_an_audit(pitted_maps, context):
    maps, member = pitted_maps(0, images=12, height=16, width=16, pit=4)
    expected = PatchAttack(steps=5).fit(maps, member).score(maps)
    with context():
        inside = maps * 1.0
        found = PatchAttack(steps=5).fit(inside, member).score(inside)
    assert (found == expected).all()


def test_it_leaves_the_maps_and_their_gradients_alone(pitted_maps):
    maps, member = pitted_maps(0, images=12, height=16, width=16, pit=4)
    leaf = maps.clone().requires_grad_()
    PatchAttack(steps=2).fit(leaf, member).score(leaf)
    assert leaf.grad is None
    assert torch.equal(leaf.detach(), maps)


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        ((1, 37, 53), None),
        ((3, 20, 9), None),
        ((1, 5, 6), None),
        ((1, 5, 6), 11),
        ((1, 1, 1), None),
        ((1, 200, 150), 70),
    ],
)
def test_any_size_can_be_fitted_and_scored(shape, patch):
    maps = torch.rand(10, *shape, generator=torch.Generator().manual_seed(0))
    maps[:5] *= 0.3
    score = PatchAttack(patch=patch, steps=8, batch_size=8).fit(maps, np.arange(10) < 5).score(maps)
    assert np.isfinite(score).all()
    assert score[:5].mean() > score[5:].mean()


def test_maps_of_another_size_can_be_scored(pitted_maps):
    maps, member = pitted_maps(0, images=12, height=48, width=48)
    attack = PatchAttack(steps=3).fit(maps, member)
    assert np.isfinite(attack.score(maps[:, :, :5, :30])).all()


def test_a_score_does_not_depend_on_company(pitted_maps):
    maps, member = pitted_maps(0, images=40, height=48, width=48)
    attack = PatchAttack(steps=5, patches=400).fit(maps, member)  # more patches than one batch takes of all maps
    alone = np.concatenate([attack.score(one) for one in maps.split(1)])
    assert attack.score(maps) == pytest.approx(alone, abs=1e-6)


def test_few_members_weigh_as_much_as_many_nonmembers(pitted_maps):
    maps, _ = pitted_maps(0, images=60, height=16, width=16, pit=4, depth=1.0)
    few = np.arange(60) < 4
    score = PatchAttack(steps=30).fit(maps, few).score(maps)
    # Unbalanced, the mean logit would lie near log(4 / 56) = -2.6.
    assert abs(score.mean()) < 0.7


def test_the_unit_of_the_losses_does_not_matter(pitted_maps):
    maps, member = pitted_maps(0, images=20, height=16, width=16, pit=4)
    scores = [PatchAttack(steps=10).fit(maps * unit, member).score(maps * unit) for unit in (1.0, 1024.0)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_maps_without_any_loss_are_scored_alike():
    maps = torch.zeros(6, 1, 8, 8)
    score = PatchAttack(steps=2).fit(maps, np.arange(6) < 3).score(maps)
    assert np.unique(score).size == 1
    assert np.isfinite(score).all()


MAPS = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
MEMBER = np.array([True, False, True, False])


@pytest.mark.parametrize(
    ("maps", "member", "words"),
    [
        (MAPS, [True] * 4, "members and nonmembers of the reference model, but got 4 members and 0 nonmembers. Fit on"),
        (MAPS, [False] * 4, "but got 0 members and 4 nonmembers."),
        (MAPS, [True], "Expected member of shape (4,), but got (1,)."),
        (MAPS[0], MEMBER, "Expected float loss maps of shape (N, C, H, W), but got torch.float32 (1, 8, 8)."),
        (MAPS.long(), MEMBER, "but got torch.int64 (4, 1, 8, 8)."),
        (MAPS[:, :0], MEMBER, "but got torch.float32 (4, 0, 8, 8)."),
        (MAPS - 2.0, MEMBER, "Expected finite losses of at least 0 in the maps, but they run from -1."),
        (MAPS / 0.0, MEMBER, "to inf. Give pixels without a target a loss of 0."),
        (torch.where(MAPS > 0.9, torch.nan, MAPS), MEMBER, "run from nan to nan."),
    ],
)
def test_what_cannot_be_learned_from_is_refused_in_words(maps, member, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        PatchAttack(steps=1).fit(maps, member)


def test_scores_need_a_fit_and_the_same_channels():
    with pytest.raises(RuntimeError, match=r"has not been fitted: call fit\(maps, member\)"):
        PatchAttack().score(MAPS)
    attack = PatchAttack(steps=1).fit(MAPS, MEMBER)
    with pytest.raises(ValueError, match="fitted to maps of 1 channels, but these have 2"):
        attack.score(MAPS.expand(-1, 2, -1, -1))
    with pytest.raises(ValueError, match="Expected finite losses of at least 0"):
        attack.score(-MAPS)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"patch": 0}, "Expected patch to be at least 1, but got 0."),
        ({"patches": 0}, "Expected patches to be at least 1, but got 0."),
        ({"steps": 0}, "Expected steps to be at least 1, but got 0."),
        ({"batch_size": 1}, "Expected batch_size to be at least 2, but got 1."),
        ({"lr": 0.0}, "Expected a learning rate above 0, but got 0.0."),
    ],
)
def test_settings_out_of_range_are_refused(wrong, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        PatchAttack(**wrong)


def test_translation_loss_map_is_the_mean_distance_over_channels():
    prediction, target = torch.rand(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = loss_map(prediction.clone().requires_grad_(), target, "translation")
    assert found.shape == (2, 1, 4, 5)
    assert not found.requires_grad
    for b, h, w in ((0, 0, 0), (1, 3, 4)):
        assert found[b, 0, h, w].item() == pytest.approx(
            sum(abs(float(prediction[b, c, h, w] - target[b, c, h, w])) for c in range(3)) / 3
        )


def test_segmentation_loss_map_is_the_cross_entropy_and_zero_where_void():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, generator=generator)
    labels = torch.randint(0, 4, (2, 3, 5), generator=generator)
    labels[0, 0, 0], labels[1, 2, 4] = 11, -1
    logits[1, :, 2, 4] = torch.inf  # what a model says of a void pixel must not matter
    found = loss_map(logits, labels, "segmentation", ignore_index=11)
    for b in range(2):
        for h in range(3):
            for w in range(5):
                k = int(labels[b, h, w])
                expected = -float(logits[b, :, h, w].log_softmax(0)[k]) if 0 <= k < 4 else 0.0
                assert found[b, 0, h, w].item() == pytest.approx(expected, rel=1e-5)


def test_one_logit_is_class_one_against_class_zero():
    logits, labels = torch.tensor([[[[2.0, -1.0]]]]), torch.tensor([[[1, 0]]])
    expected = F.binary_cross_entropy_with_logits(logits, labels.unsqueeze(1).float(), reduction="none")
    assert torch.allclose(loss_map(logits, labels, "segmentation"), expected)


@pytest.mark.parametrize(
    ("task", "prediction", "target", "words"),
    [
        (
            "translation",
            (1, 3, 4, 4),
            (1, 1, 4, 4),
            "of one shape (B, C, H, W), but got (1, 3, 4, 4) and (1, 1, 4, 4).",
        ),
        ("segmentation", (1, 3, 4, 4), (1, 4, 5), "Expected logits (B, K, H, W) and labels (B, H, W) of the same size"),
        ("segmentation", (1, 3, 4, 4, 4), (1, 4, 4, 4), "is for pictures, but the prediction is that of volumes"),
        ("detection", (1, 3, 4, 4), (1, 4, 4), 'Unknown task \'detection\'; choose "translation", "segmentation" or'),
    ],
)
def test_what_has_no_loss_map_is_refused(task, prediction, target, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        loss_map(torch.zeros(prediction), torch.zeros(target, dtype=torch.long), task)


def test_patches_are_cut_where_they_are_said_to_be():
    maps = torch.rand(3, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    plain = PatchView(4, torch.ones(1, 2, 1, 1), torch.zeros(1, 4, 1, 1), torch.ones(1, 4, 1, 1))
    found = plain.cut(maps, torch.tensor([2, 0]), torch.tensor([1, 2]), torch.tensor([3, 0]))
    assert torch.equal(found[0, :2], maps[2, :, 1:5, 3:7])
    assert torch.equal(found[1, 2:], maps[0, :, 2:6, 0:4].log1p())
    beyond = plain.cut(maps[:, :, :3, :3], torch.tensor([1]), torch.tensor([0]), torch.tensor([0]))
    padded = F.pad(maps[1:2, :, :3, :3], (0, 1, 0, 1), mode="replicate")
    assert torch.equal(beyond[:, :2], padded)


def test_training_maps_are_standardised():
    maps = torch.rand(5, 2, 6, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 50.0]).view(
        1, 2, 1, 1
    )
    view = PatchView.fitted(maps, 6)
    rows = torch.arange(5).repeat(2)
    seen = view.cut(maps, rows, torch.zeros(10).long(), torch.tensor([0, 2]).repeat_interleave(5))
    whole = PatchView.fitted(maps[..., :6], 6).cut(maps, rows[:5], torch.zeros(5).long(), torch.zeros(5).long())
    assert torch.allclose(whole.mean((0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(whole.std((0, 2, 3), unbiased=False), torch.ones(4), atol=1e-5)
    assert seen.shape == (10, 4, 6, 6)


def test_large_patches_are_averaged_in_blocks():
    maps = torch.rand(1, 1, 130, 130, generator=torch.Generator().manual_seed(0))
    view = PatchView(130, torch.ones(1, 1, 1, 1), torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1))
    seen = view.cut(maps, *torch.zeros(3, 1).long())
    assert seen.shape[-1] == 26 <= LARGEST_SEEN
    assert seen[0, 0, 5, 7].item() == pytest.approx(maps[0, 0, 25:30, 35:40].mean().item(), rel=1e-5)
    edge = view.cut(maps[..., :128, :128], *torch.zeros(3, 1).long())
    assert edge[0, 0, 25, 25].item() == pytest.approx(
        F.pad(maps[..., :128, :128], (0, 2, 0, 2), mode="replicate")[..., 125:, 125:].mean().item()
    )


@pytest.mark.parametrize(
    ("height", "width", "side", "patches", "count"),
    [
        (64, 64, 16, 16, 16),
        (64, 64, 8, 1, 1),
        (30, 90, 10, 12, 12),
        (5, 5, 8, 9, 1),
        (9, 40, 8, 100, 40),
        (3, 300, 3, 4, 4),
    ],
)
def test_the_grid_reaches_every_border(height, width, side, patches, count):
    top, left = grid(height, width, side, patches)
    assert top.numel() == left.numel() == count
    assert len(set(zip(top.tolist(), left.tolist(), strict=True))) == count
    if patches > 1:
        assert int(left.max()) == max(width - side, 0)
        assert int(left.min()) == 0
    else:
        assert (int(top), int(left)) == ((height - side) // 2, (width - side) // 2)


def test_turned_patches_are_in_one_of_eight_positions_and_all_occur():
    patch = torch.arange(9.0).view(1, 1, 3, 3)
    eight = {
        str(torch.rot90(side, turn, (-2, -1)).flatten().tolist())
        for side in (patch, patch.flip(-1))
        for turn in range(4)
    }
    found = turned(patch.expand(200, -1, -1, -1), torch.Generator().manual_seed(0))
    assert {str(one.flatten().tolist()) for one in found} == eight


def test_loss_maps_of_independent_channels():
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5, generator=generator), torch.rand(2, 3, 4, 5, generator=generator).round()
    expected = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1, keepdim=True)
    assert torch.allclose(loss_map(logits, target, "multilabel"), expected)
    with pytest.raises(ValueError, match="one logit for each channel and pixel"):
        loss_map(logits, target[:, :2], "multilabel")
