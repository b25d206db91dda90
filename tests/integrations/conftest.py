"""What the integration tests share: pictures, a quick scorer, a silent trainer, all that training consists of."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_package import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn

from mia_lightning import MembershipAudit, PredictabilityScorer


@pytest.fixture
def quick() -> PredictabilityScorer:
    """A scorer whose features are block means."""
    return PredictabilityScorer(nn.AvgPool2d(4), grid=8)


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor]:
    """Eleven random images (11, 3, 32, 32) in [0, 1] with label maps (11, 32, 32) of the classes 0 to 2."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (11, 32, 32), generator=generator)
    return torch.rand(11, 3, 32, 32, generator=generator), labels


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A silent trainer, two epochs on the CPU unless told otherwise."""

    def make(*callbacks: Callback, **settings: Any) -> Trainer:
        silent = {f"enable_{what}": False for what in ("checkpointing", "progress_bar", "model_summary")}
        options = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "logger": False, "num_sanity_val_steps": 1}
        return Trainer(callbacks=list(callbacks), default_root_dir=tmp_path, **{**silent, **options, **settings})

    return make


@pytest.fixture
def same_with_and_without(trainer: Any) -> Callable[..., LightningModule]:
    """Train twice from one seed, with and without an audit; compare all that training consists of, to the bit."""

    def states(module: LightningModule, fitted: Trainer) -> dict[str, Any]:
        return {
            "weights": module.state_dict(),
            "optimizers": [o.state_dict() for o in fitted.optimizers],
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(),
            "python": random.getstate(),
            "flags": [m.training for m in module.modules()],
            "metrics": {k: v for k, v in fitted.callback_metrics.items() if not k.startswith("audit/")},
        }

    def run(build: Callable[[], tuple[LightningModule, dict[str, Any]]], audit: MembershipAudit) -> LightningModule:
        found = []
        for callbacks in ([], [audit]):
            seed_everything(3, verbose=False)
            module, data = build()
            fitted = trainer(*callbacks)
            before = {k: v.clone() for k, v in module.state_dict().items()}
            fitted.fit(module, **data)
            assert any(not torch.equal(v, before[k]) for k, v in module.state_dict().items())
            found.append(states(module, fitted))
        assert [r.epoch for r in audit.history] == [0, 1]
        torch.testing.assert_close(*(flat(f) for f in found), rtol=0, atol=0)
        return module

    return run


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested states as one dict of tensors and of texts."""
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, (list, tuple)) and len(value) < 64:
        children = enumerate(value)
    else:
        leaf = value.detach().clone() if isinstance(value, Tensor) else torch.tensor(bytearray(repr(value), "utf8"))
        return {path: leaf}
    return {k: v for key, child in children for k, v in flat(child, f"{path}/{key}").items()}
