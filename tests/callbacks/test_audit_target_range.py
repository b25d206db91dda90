"""Trainings on depths in metres, with void pixels: the range is settled before, kept, and said once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mia_lightning import MembershipAudit


@pytest.fixture
def depths(kit: Any) -> Any:
    class Depths(kit.Pairs):
        """One channel without its dimension, in metres up to 30, void here and there."""

        def __init__(self, count: int, seed: int = 0, **options: Any) -> None:
            super().__init__(count, seed, **options)
            holes = self.targets[:, 1] < 0.2
            self.targets = (30 * self.targets[:, 0]).masked_fill(holes, torch.nan)

    return Depths


@pytest.fixture
def network(kit: Any) -> Any:
    class Depth(kit.Translator):
        def __init__(self) -> None:
            super().__init__(channels=1, lr=1e-4)

        def loss(self, batch: Any) -> Tensor:
            found, truth = self(batch[0])[:, 0], batch[1]
            valid = ~truth.isnan()
            return F.l1_loss(found[valid], truth[valid])

    return Depth


def test_a_training_on_depths_needs_no_setting(kit, depths, network, trainer, quick, caplog) -> None:
    members, nonmembers = depths(12), depths(12, 7)
    callback = MembershipAudit(members, nonmembers, scorer=quick)
    module = network()
    caplog.set_level("INFO")
    trainer(callback, max_epochs=2).fit(
        module, torch.utils.data.DataLoader(members, 4), torch.utils.data.DataLoader(nonmembers, 4)
    )
    values = torch.cat([members.targets, nonmembers.targets])
    low, high = (float(v) for v in torch.aminmax(values[~values.isnan()]))
    for result in callback.history:
        assert result.meta["settings"]["target_range"] == [low, high]
        assert not result.excluded
    output = module.eval()(torch.cat([members.inputs, nonmembers.inputs])).detach()[:, 0]
    expected = (output - values).abs().flatten(1).nanmean(1) / (high - low)
    np.testing.assert_allclose(callback.result.errors["reconstruction"], expected, rtol=1e-4)
    assert caplog.text.count("which the targets of both sides span") == 1


def test_resuming_keeps_the_range(depths, network, trainer, quick, tmp_path) -> None:
    """Whatever the data hold by then; what goes beyond is left out and named."""
    members, nonmembers = depths(6), depths(5, 7)
    loaders = torch.utils.data.DataLoader(members, 3), torch.utils.data.DataLoader(nonmembers, 3)
    first = MembershipAudit(members, nonmembers, scorer=quick)
    begun = trainer(first, max_epochs=1)
    begun.fit(network(), *loaders)
    begun.save_checkpoint(tmp_path / "last.ckpt")
    settled = first.result.meta["settings"]["target_range"]
    nonmembers.targets[2, 5, 5] = 500.0
    again = MembershipAudit(members, nonmembers, scorer=quick)
    with pytest.warns(UserWarning, match="left out 1 samples"):
        trainer(again, max_epochs=2).fit(network(), *loaders, ckpt_path=tmp_path / "last.ckpt")
    assert [result.meta["settings"]["target_range"] for result in again.history] == [settled, settled]
    assert [row["id"] for row in again.result.excluded] == ["nonmember-000002"]
    assert "target_range" in again.result.excluded[0]["reason"]


def test_a_range_that_was_passed_is_checked_before_the_training(depths, network, trainer, quick) -> None:
    members, nonmembers = depths(6), depths(5, 7)
    callback = MembershipAudit(members, nonmembers, scorer=quick, target_range=(0, 10))
    module = network()
    before = [p.clone() for p in module.parameters()]
    with pytest.raises(ValueError, match=r"The targets span \[.*outside target_range=\(0, 10\)"):
        trainer(callback).fit(
            module, torch.utils.data.DataLoader(members, 3), torch.utils.data.DataLoader(nonmembers, 3)
        )
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
