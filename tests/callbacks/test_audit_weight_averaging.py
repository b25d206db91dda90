"""With averaged weights in validation, the audit must see those, and training must keep its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning_package import Callback, EarlyStopping, ModelCheckpoint, StochasticWeightAveraging, pl
from sweeps import latin

from mia_lightning import Auditor
from mia_lightning.report.run import read_run
from mia_lightning.result.history import positions, read_audits

if not hasattr(pl.callbacks, "EMAWeightAveraging"):
    pytest.skip("weight averaging came with Lightning 2.6", allow_module_level=True)
from lightning_package import EMAWeightAveraging, WeightAveraging


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


@pytest.mark.parametrize(("kind", "audit_first"), latin(2, [WeightAveraging, EMAWeightAveraging], [False, True]))
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


class PerEpoch(WeightAveraging):
    """Averages when an epoch has ended, and its validation is over."""

    def should_update(self, step_idx: Any = None, epoch_idx: Any = None) -> bool:
        return epoch_idx is not None


class Restores(Callback):
    """Keeps an average by itself and puts it in place in the end, as projects' own callbacks do."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.average = [p.detach().clone() for p in pl_module.parameters()]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        for mean, weight in zip(self.average, pl_module.parameters(), strict=True):
            mean.lerp_(weight.detach(), 0.3)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        with torch.no_grad():
            for mean, weight in zip(self.average, pl_module.parameters(), strict=True):
                weight.copy_(mean)


class EMACallback(Restores):
    pass


def swa() -> Callback:
    return StochasticWeightAveraging(0.05, swa_epoch_start=1, annealing_epochs=1)


class Plain:
    """A module without batch norm: Lightning adds no epoch for the averages."""

    @staticmethod
    def of(kit: Any) -> Any:
        module = kit.Translator(lr=0.5)
        module.network[1] = torch.nn.Identity()
        return module


@pytest.mark.parametrize(("averaging", "audit_first"), latin(2, [swa, PerEpoch, EMACallback], [False, True]))
def test_the_weights_that_are_left_behind_are_audited(
    kit, quick, audit, trainer, loaders, tmp_path, averaging, audit_first: bool
) -> None:
    callback = audit(output_dir=tmp_path)
    callbacks = [callback, averaging()] if audit_first else [averaging(), callback]
    torch.manual_seed(0)
    module = Plain.of(kit)
    run = trainer(*callbacks, max_epochs=3)
    run.fit(module, *loaders)
    assert [r.epoch for r in callback.history] == [0, 1, 2, None]
    again = Auditor(scorer=quick, batch_size=4).run(module, callback.members, callback.nonmembers)
    np.testing.assert_array_equal(callback.result.errors["reconstruction"], again.errors["reconstruction"])
    before = callback.history[-2].errors["reconstruction"]
    assert not np.array_equal(before, again.errors["reconstruction"])
    assert any("averaged weights behind" in note for note in callback.result.meta["notes"])

    torch.manual_seed(0)
    plain = Plain.of(kit)
    trainer(averaging(), max_epochs=3).fit(plain, *loaders)
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), plain.state_dict().values(), strict=True)
    )
    assert not any(type(c).__name__ == "AfterTraining" for c in run.callbacks)
    stored = read_audits(tmp_path)
    assert [r.epoch for r in stored] == [0, 1, 2, None]
    assert positions(stored) == ([1.0, 2.0, 3.0, 3.5], "epoch")
    assert read_run(tmp_path).result.epoch is None, "what the report is about"


def test_weights_that_were_validated_last_are_not_audited_again(kit, audit, trainer, loaders) -> None:
    callback = audit()
    trainer(callback, WeightAveraging(), max_epochs=2).fit(Plain.of(kit), *loaders)
    assert [r.epoch for r in callback.history] == [0, 1]


@pytest.mark.parametrize("averaging", [WeightAveraging, EMAWeightAveraging])
def test_a_late_last_audit_is_of_the_averages(kit, quick, audit, trainer, loaders, averaging) -> None:
    """Where EarlyStopping ends the training in an epoch that was passed over."""
    callback, stop = audit(every_n_epochs=4), EarlyStopping("val/loss", patience=0, min_delta=1e9)
    module = Plain.of(kit)
    trainer(callback, averaging(), stop, max_epochs=9).fit(module, *loaders)
    assert [r.epoch for r in callback.history] == [1]
    again = Auditor(scorer=quick, batch_size=4).run(module, callback.members, callback.nonmembers)
    np.testing.assert_array_equal(callback.result.errors["reconstruction"], again.errors["reconstruction"])


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
