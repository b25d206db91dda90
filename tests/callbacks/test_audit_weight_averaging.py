"""With averaged weights in validation, the audit must see those, and training must keep its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, WeightAveraging

from mia_lightning import Auditor


def train(kit: Any, trainer: Any, loaders: Any, *callbacks: Any) -> tuple[Any, list[dict[str, torch.Tensor]]]:
    """Return the trained module and the weights that each validation saw."""
    validated = []

    class Module(kit.Translator):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)
            if batch_idx == 0:
                validated.append({k: v.clone() for k, v in self.state_dict().items()})

    torch.manual_seed(0)
    module = Module(lr=0.5)
    trainer(*callbacks, max_epochs=3).fit(module, *loaders)
    return module, validated


@pytest.mark.parametrize("kind", [WeightAveraging, EMAWeightAveraging])
@pytest.mark.parametrize("audit_first", [False, True])
def test_the_validated_weights_are_audited(kit, quick, audit, trainer, loaders, kind, audit_first: bool) -> None:
    callback = audit()
    averaging = kind()
    callbacks = [callback, averaging] if audit_first else [averaging, callback]
    module, validated = train(kit, trainer, loaders, *callbacks)
    plain, _ = train(kit, trainer, loaders, kind())
    for name, value in plain.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name

    auditor = Auditor(scorer=quick, batch_size=4)
    for result, weights in zip(callback.history, validated, strict=True):
        other = kit.Translator()
        other.load_state_dict(weights)
        again = auditor.run(other, callback.members, callback.nonmembers)
        np.testing.assert_array_equal(result.errors["reconstruction"], again.errors["reconstruction"])


def test_averaged_weights_differ_from_the_trained_ones(kit, trainer, loaders) -> None:
    """Or the test above would show nothing."""
    _, validated = train(kit, trainer, loaders, WeightAveraging())
    _, trained = train(kit, trainer, loaders)
    assert not torch.equal(validated[-1]["network.0.weight"], trained[-1]["network.0.weight"])


def test_other_callbacks_keep_their_places(kit, audit, trainer, loaders, tmp_path) -> None:
    callback, averaging, spy = audit(), WeightAveraging(), kit.Spy()
    saving = ModelCheckpoint(tmp_path)
    run = trainer(spy, averaging, callback, saving, max_epochs=1, enable_checkpointing=True)
    run.fit(kit.Translator(), *loaders)
    kept = [c for c in run.callbacks if c in (spy, averaging, callback, saving)]
    assert kept == [spy, callback, averaging, saving]
    run.fit_loop.max_epochs = 2
    run.fit(kit.Translator(), *loaders)
    assert [c for c in run.callbacks if c in kept] == kept
