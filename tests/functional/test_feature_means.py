"""Frozen features in a few numbers."""

import torch

from mia_lightning.functional.feature_means import FEATURES, SIZE, feature_means, is_feature


def test_they_do_not_depend_on_the_batch_and_the_maps_share_them():
    maps = [torch.rand(4, channels, side, side) for channels, side in ((24, 8), (40, 4), (112, 2), (320, 1))]
    found = feature_means(maps)
    assert found.shape == (4, SIZE) == (4, len(FEATURES))
    torch.testing.assert_close(found[1:2], feature_means([m[1:2] for m in maps]))
    changed = feature_means([maps[0] * torch.rand(24)[:, None, None], *maps[1:]])
    assert not torch.allclose(changed[:, :4], found[:, :4])
    torch.testing.assert_close(changed[:, 4:], found[:, 4:])


def test_brightness_of_a_map_as_a_whole_does_not_matter_and_constant_maps_have_numbers():
    map = torch.rand(2, 24, 4, 4)
    torch.testing.assert_close(feature_means([map]), feature_means([3.0 * map]))
    assert feature_means([torch.zeros(2, 24, 4, 4)]).abs().max() == 0.0


def test_far_pictures_stay_far():
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(3, 40, generator=generator)
    maps = (centre.repeat_interleave(10, 0) + 0.05 * torch.rand(30, 40, generator=generator))[:, :, None, None]
    distances = torch.cdist(feature_means([maps]), feature_means([maps]))
    same = torch.arange(30)[:, None] // 10 == torch.arange(30) // 10
    assert distances[same].max() < distances[~same].min()


def test_many_maps_and_none_too_few():
    assert feature_means([torch.rand(2, 3, 2, 2)] * 20).shape == (2, SIZE)
    assert [is_feature(name) for name in ("feature_00", "feature_16", "input_mean")] == [True, False, False]
