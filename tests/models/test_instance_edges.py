from __future__ import annotations

import pytest
import torch

from mia_lightning.models.instance_edges import EdgesAdapter, instance_edges


def test_both_sides_of_a_border_are_marked() -> None:
    instance = torch.tensor([[5, 5, 9, 9], [5, 5, 9, 9], [5, 5, 5, 5]])
    expected = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]).float()
    assert torch.equal(instance_edges(instance[None])[0, 0], expected)
    assert torch.equal(instance_edges(instance[None, None])[0, 0], expected)


def test_borders_of_a_flipped_map_are_the_flipped_borders() -> None:
    instance = torch.randint(0, 3, (2, 9, 12), generator=torch.Generator().manual_seed(0))
    for dims in ((-1,), (-2,), (-1, -2)):
        assert torch.equal(instance_edges(instance.flip(dims)), instance_edges(instance).flip(dims))


def test_what_is_no_map() -> None:
    for wrong in (torch.zeros(2, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.long)):
        with pytest.raises(ValueError, match="Expected instance maps of integers"):
            instance_edges(wrong)


def test_batches_without_a_map_say_what_is_expected() -> None:
    x, y = torch.zeros(2, 5, 8, 8), torch.zeros(2, 3, 8, 8)
    with pytest.raises(TypeError, match=r"instance_key='instance' finds no tensor .* leave the edge map out"):
        EdgesAdapter("instance").unpack({"input": x, "target": y})
    with pytest.raises(ValueError, match="must be of one size"):
        EdgesAdapter(2).with_edges((x, y, torch.zeros(2, 4, 4, dtype=torch.long)), x)
