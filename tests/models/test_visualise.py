from __future__ import annotations

import torch

from mia_lightning.models.visualise import VOID_COLOUR, example_grid, to_rgb, visualise


def test_palette_is_pascal_vocs_and_its_colours_differ() -> None:
    colours = (visualise(torch.arange(256).view(1, 1, 256), 256, ignore_index=-1)[0, :, 0] * 255).round().long().T
    assert colours[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colours[255].tolist() == [224, 224, 192]
    assert len(colours.unique(dim=0)) == 256


def test_whatever_is_no_class_is_void() -> None:
    picture = visualise(torch.tensor([[[-1, 255, 3, 2]]]), num_classes=3)[0, :, 0] * 255
    void = torch.tensor(VOID_COLOUR).float()
    torch.testing.assert_close(picture[:, :3], void[:, None].expand(3, 3))
    assert not torch.equal(picture[:, 3], void)


def test_grey_becomes_rgb_and_rgb_stays() -> None:
    grey, rgb = torch.rand(1, 1, 2, 2), torch.rand(1, 3, 2, 2)
    assert torch.equal(to_rgb(grey), grey.expand(1, 3, 2, 2))
    assert torch.equal(to_rgb(rgb), rgb)


def test_one_hot_planes_are_coloured() -> None:
    labels = torch.tensor([[[0, 4], [2, 3]]])
    planes = torch.nn.functional.one_hot(labels, 5).permute(0, 3, 1, 2).float()
    assert torch.equal(to_rgb(planes), visualise(labels, 5))
    planes[:, :, 0, 1] = 0
    labels[:, 0, 1] = 255
    assert torch.equal(to_rgb(planes), visualise(labels, 5))
    planes[:, :2] = 1  # two classes at once are none
    assert torch.equal(to_rgb(planes), planes[:, :3])


def test_other_stacks_show_their_first_channels() -> None:
    stack = torch.rand(1, 5, 2, 2)
    assert torch.equal(to_rgb(stack), stack[:, :3])
    assert torch.equal(to_rgb(stack[:, :2]), stack[:, :1].expand(1, 3, 2, 2))


def test_values_are_clamped_and_lifted() -> None:
    assert to_rgb(torch.tensor([-1.0, 2.0], dtype=torch.bfloat16).view(1, 1, 1, 2))[0, 0, 0].tolist() == [0, 1]


def test_grid_has_a_row_a_sample_and_a_column_an_image() -> None:
    red, blue = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    red[:, 0], blue[:, 2] = 1, 1
    grid = example_grid(red, blue)
    assert grid.shape == (3, 2 * 6 + 2, 2 * 6 + 2)
    assert grid[:, 4, 4].tolist() == [1, 0, 0]
    assert grid[:, 10, 10].tolist() == [0, 0, 1]
