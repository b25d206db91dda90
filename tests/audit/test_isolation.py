from __future__ import annotations

import random
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from mia_lightning.audit.isolation import isolated


def draw_everywhere() -> None:
    torch.rand(3)
    random.random()
    np.random.rand(3)


def global_states() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back_also_after_an_error(fails):
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(3), nn.Dropout()), nn.BatchNorm2d(3)).train()
    module[1][0].eval()  # a frozen batch norm inside a network in training
    module[2].eval()
    flags = [m.training for m in module.modules()]
    states = global_states()

    def audit() -> None:
        with isolated(module):
            assert not any(m.training for m in module.modules())
            assert not torch.is_grad_enabled()
            draw_everywhere()
            module.train()
            if fails:
                raise KeyError("broken sample")

    if fails:
        with pytest.raises(KeyError, match="broken sample"):
            audit()
    else:
        audit()
    assert [m.training for m in module.modules()] == flags
    assert torch.is_grad_enabled()
    assert global_states() == states


@pytest.mark.parametrize("enabled", [True, False])
def test_the_gradient_mode_of_the_caller_comes_back(enabled):
    with torch.set_grad_enabled(enabled):
        with isolated(nn.Identity()):
            assert not torch.is_grad_enabled()
        assert torch.is_grad_enabled() is enabled


class Accumulating(nn.Module):
    """Keeps its batch norm in training mode, counts its calls, and makes a table for the size of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("table", torch.zeros(4), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.norm.train()
        self.calls += 1
        self.replaced = self.replaced + 1.0
        self.table = torch.arange(x.shape[-1], dtype=torch.float32)
        return self.norm(x)


def test_what_forward_passes_leave_in_buffers_is_put_back():
    module = Accumulating().eval()
    before = {name: (buffer, buffer.clone()) for name, buffer in module.named_buffers() if name != "table"}
    with isolated(module):
        module(torch.rand(2, 1, 8, 8))
        assert module.calls == 1
        assert module.norm.num_batches_tracked == 1
    after = dict(module.named_buffers())
    assert all(after[name] is buffer and torch.equal(buffer, content) for name, (buffer, content) in before.items())
    assert len(module.table) == 8, "a table of another size belongs to the size of the inputs, and stays"


def test_sparse_buffers_are_left_alone():
    module = nn.Module()
    module.register_buffer("coordinates", torch.eye(3).to_sparse())
    module.register_buffer("rows", torch.eye(3).to_sparse_csr())
    module.register_buffer("dense", torch.zeros(2))
    before = module.coordinates
    with isolated(module):
        module.dense += 1
    assert module.coordinates is before
    assert not module.dense.any()


def test_a_callable_that_is_no_module_will_do():
    with isolated(lambda x: x):
        draw_everywhere()


class Noisy(torch.utils.data.Dataset):
    """A data set whose transforms hold generators of every kind, at several depths."""

    def __init__(self) -> None:
        self.augment = A.Compose([A.HorizontalFlip(p=0.5), A.RandomBrightnessContrast(p=1.0)], seed=3)
        self.transforms = [{"noise": np.random.default_rng(0)}, (random.Random(1), torch.Generator().manual_seed(2))]
        self.old = np.random.RandomState(4)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[float]:
        python, torch_generator = self.transforms[1]
        image = self.augment(image=np.full((4, 4, 3), 100 + index, dtype=np.uint8))["image"]
        numbers = [self.transforms[0]["noise"].random(), python.random(), self.old.rand(), float(image.mean())]
        return [*numbers, float(torch.rand(1, generator=torch_generator))]


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Subset(d, [0, 1, 2, 3]), DataLoader])
def test_generators_of_the_data_do_not_advance(wrap):
    undisturbed, disturbed = Noisy(), Noisy()
    with isolated(nn.Identity(), wrap(disturbed)):
        inside = [disturbed[i] for i in range(4)]
    assert [disturbed[i] for i in range(4)] == [undisturbed[i] for i in range(4)] == inside


class Deep(nn.Module):
    """A generator below as many submodules as asked for, the innermost in a list that outgrows what is walked."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        if depth:
            self.inner: nn.Module = Deep(depth - 1)
            return
        self.inner = nn.ModuleList([nn.Identity() for _ in range(300)])
        self.inner[299].noise = [torch.Generator().manual_seed(1)]

    def forward(self, x: Any) -> Any:
        return self.inner(x) if isinstance(self.inner, Deep) else torch.rand(1, generator=self.inner[299].noise[0])


def test_generators_of_a_deep_network_do_not_advance():
    module = Deep(30)
    module.again = module.inner.inner  # known twice, on paths of different length
    with isolated(module):
        inside = module(0)
    assert module(0) == inside


class Holder:
    def __init__(self, *values: Any) -> None:
        for place, value in enumerate(values):
            setattr(self, f"value_{place}", value)


def test_a_generator_met_too_deep_first_is_found_on_the_shorter_path():
    generator = random.Random(0)
    knows = Holder(generator)
    deep: Any = knows
    for _ in range(7):
        deep = Holder(deep)
    for source in (Holder(knows, deep), Holder(deep, knows)):
        with isolated(None, source):
            inside = generator.random()
        assert generator.random() == inside


@pytest.mark.parametrize("long", [dict.fromkeys(range(256)), [None] * 256])
def test_long_containers_are_data_and_not_walked(long):
    generator = random.Random(0)
    data = long | {"last": generator} if isinstance(long, dict) else [*long, generator]
    with isolated(None, Holder(data)):
        inside = generator.random()
    assert generator.random() != inside


def test_a_loaders_own_generator_does_not_advance():
    loader = DataLoader(list(range(50)), shuffle=True, generator=torch.Generator().manual_seed(0))
    with isolated(nn.Identity(), loader):
        inside = torch.cat(list(loader)).tolist()
    assert torch.cat(list(loader)).tolist() == inside
