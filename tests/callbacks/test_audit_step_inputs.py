"""What a validation step does before forward is pointed out, with the adapter to write; and nothing else is."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_package import Callback

from mia_lightning import AutoAdapter


def module_of(kit: Any, how: str) -> Any:
    """A module whose step does something to the input, or nothing that an audit does not do."""

    def prepared(x: torch.Tensor) -> torch.Tensor:
        if how == "normalises":
            return (x - 0.5) / 0.25
        if how == "normalises in place":
            return x.sub_(0.5).div_(0.25)
        if how == "resizes":
            return F.interpolate(x, scale_factor=2)
        if how == "reverses channels":
            return x.flip(1)
        return x.clone()

    class Module(kit.Translator):
        def loss(self, batch: Any) -> torch.Tensor:
            x = prepared(batch[0])
            y = self.network(x).sigmoid() if how == "calls a part" or how.startswith("norm") else self(x)
            if how == "also flips":
                y = (y + self(x.flip(-1)).flip(-1)) / 2
            return F.l1_loss(F.interpolate(y, size=batch[1].shape[-2:]), batch[1])

    return Module()


def notes_of(kit: Any, audit: Any, trainer: Any, loaders: Any, how: str, *others: Callback, **settings: Any) -> Any:
    torch.manual_seed(0)
    callback, module = audit(**settings), module_of(kit, how)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(callback, *others, num_sanity_val_steps=2).fit(module, *loaders)
    told = [str(w.message) for w in caught if "validation step calls" in str(w.message)]
    notes = [[n for n in result.meta["notes"] if "validation step calls" in n] for result in callback.history]
    assert not any(part._forward_pre_hooks for part in module.modules())
    return module, told, notes


@pytest.mark.parametrize("how", ["normalises", "normalises in place", "resizes", "reverses channels"])
def test_what_a_step_does_before_forward_is_pointed_out_once_and_in_each_result(
    kit, audit, trainer, loaders, how: str
) -> None:
    _, told, notes = notes_of(kit, audit, trainer, loaders, how)
    assert len(told) == 1
    assert notes == [told, told]
    assert "class Mine(AutoAdapter)" in told[0]
    expected = {"resizes": "3 x 32 x 32 values", "normalises": "the network 'network'"}.get(
        how, "3 x 16 x 16 values in ["
    )
    assert expected in told[0]


@pytest.mark.parametrize("how", ["nothing", "calls a part", "also flips"])
def test_steps_that_do_as_an_audit_does(kit, audit, trainer, loaders, how: str) -> None:
    _, told, notes = notes_of(kit, audit, trainer, loaders, how)
    assert told == []
    assert notes == [[], []]


def test_an_adapter_of_the_project_is_trusted(kit, audit, trainer, loaders) -> None:
    class Mine(AutoAdapter):
        def predict(self, module: Any, input: torch.Tensor) -> torch.Tensor:
            return module((input - 0.5) / 0.25)

    _, told, _ = notes_of(kit, audit, trainer, loaders, "normalises", adapter=Mine())
    assert told == []


def test_the_comparison_leaves_no_trace(kit, audit, trainer, loaders) -> None:
    module, *_ = notes_of(kit, audit, trainer, loaders, "normalises")
    draws = torch.rand(2)
    torch.manual_seed(0)
    plain = module_of(kit, "normalises")
    trainer(num_sanity_val_steps=2).fit(plain, *loaders)
    assert torch.equal(torch.rand(2), draws)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in plain.state_dict().items())
