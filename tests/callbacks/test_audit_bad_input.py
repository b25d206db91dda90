"""What cannot work says so before the first training step; what breaks later is left out by name."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_package import LightningDataModule
from torch.utils.data import DataLoader, Subset, TensorDataset

from mia_lightning import AuditResult, MembershipAudit
from mia_lightning.callbacks.trainer_state import runtime_of
from mia_lightning.checkpoints.audited_samples import with_samples


@pytest.fixture
def refused(kit: Any, trainer: Any, loaders: Any):
    """Expect a training to be refused before its first step, and return the message."""

    def check(callback: MembershipAudit, error: type[Exception], *, module: Any = None, datamodule: Any = None) -> str:
        module = module or kit.Translator()
        steps = []
        step = module.training_step
        module.training_step = lambda *args: (steps.append(1), step(*args))[1]
        data = loaders if datamodule is None else ()
        with pytest.raises(error) as caught:
            trainer(callback).fit(module, *data, datamodule=datamodule)
        assert not steps
        assert callback.history == []
        return str(caught.value)

    return check


@pytest.mark.parametrize("side", ["member", "nonmember"])
@pytest.mark.parametrize("as_loader", [False, True])
def test_an_empty_side(kit, audit, refused, side: str, as_loader: bool) -> None:
    empty = Subset(kit.Pairs(3), [])
    given = DataLoader(empty, batch_size=2) if as_loader else empty
    sides = {"members": kit.Pairs(3), "nonmembers": kit.Pairs(3)} | {f"{side}s": given}
    message = refused(audit(**sides), ValueError)
    assert f"There are no {side}s" in message


def test_one_side_only(kit) -> None:
    with pytest.raises(ValueError, match="members and nonmembers together, or neither"):
        MembershipAudit(members=kit.Pairs(3))
    with pytest.raises(ValueError, match="members and nonmembers together, or neither"):
        MembershipAudit(nonmembers=kit.Pairs(3))


def test_no_data_anywhere(quick, refused, loaders) -> None:
    class Without(LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return loaders[0]

    for datamodule in (None, Without()):
        message = refused(MembershipAudit(scorer=quick), ValueError, datamodule=datamodule)
        assert "pass members= and nonmembers=" in message
        assert "audit_dataloaders()" in message


def test_no_data_for_a_validation(kit, quick, trainer, loaders) -> None:
    with pytest.raises(ValueError, match="MembershipAudit has no data"):
        trainer(MembershipAudit(scorer=quick)).validate(kit.Translator(), loaders[1], verbose=False)


def test_a_prediction_of_another_shape(kit, audit, refused) -> None:
    class Halved(kit.Translator):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)[..., ::2]

    message = refused(audit(), ValueError, module=Halved())
    assert "(1, 3, 16, 8)" in message
    assert "(1, 3, 16, 16)" in message


def test_label_maps_of_another_size_than_the_logits(kit, audit, refused) -> None:
    class Halved(kit.Segmenter):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)[..., ::2]

    message = refused(audit(kit.Masks(3), kit.Masks(3, 9)), ValueError, module=Halved())
    assert "(1, 3, 16, 8)" in message
    assert "label map" in message


def test_another_number_of_classes(kit, audit, refused) -> None:
    callback = audit(kit.Masks(3), kit.Masks(3, 9), num_classes=5)
    assert "returned 3 classes, but num_classes=5" in refused(callback, ValueError, module=kit.Segmenter())


def test_a_target_out_of_range(kit, audit, refused) -> None:
    data = kit.Pairs(3)
    data.targets = data.targets * 2 - 1
    message = refused(audit(data, kit.Pairs(3, 1)), ValueError)
    assert "outside target_range=(0, 1)" in message
    assert "target_range=(-1, 1)" in message
    assert f"{float(data.targets[0].min()):.4g}" in message


def test_the_range_of_pix2pix_users(kit, audit, trainer, loaders) -> None:
    """The same pairs kept in [-1, 1], by a model that returns such, have the same errors."""

    class Signed(kit.Translator):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward((x + 1) / 2) - 1

    def signed(data: Any) -> Any:
        data.inputs, data.targets = data.inputs * 2 - 1, data.targets * 2 - 1
        return data

    plain = audit()
    kept = audit(signed(kit.Pairs(6, 0)), signed(kit.Pairs(5, 1)), target_range=(-1, 1))
    for callback, model in ((plain, kit.Translator), (kept, Signed)):
        torch.manual_seed(0)
        trainer(callback).validate(model(), loaders[1], verbose=False)
    for name, values in plain.result.errors.items():
        assert kept.result.errors[name] == pytest.approx(values, abs=1e-5)


def test_an_ambiguous_mask(kit, audit, refused) -> None:
    data = kit.Pairs(4)
    data.targets = (data.targets[:, :1] > 0.5).float()
    message = refused(audit(data, kit.Pairs(4, 1)), ValueError, module=kit.Translator(channels=1))
    assert "zeros and ones" in message
    assert "task='segmentation'" in message


def test_a_batch_that_nobody_understands(audit, refused) -> None:
    data = TensorDataset(torch.rand(4, 3, 16, 16))
    message = refused(audit(data, TensorDataset(torch.rand(4, 3, 16, 16))), TypeError)
    assert "(input, target)" in message
    assert "adapter=" in message


def test_grey_pictures_for_a_model_of_colours(kit, audit, refused) -> None:
    grey = kit.Pairs(4)
    grey.inputs = grey.inputs[:, :1]
    message = refused(audit(grey), ValueError)
    assert message.startswith("The model failed on a batch of the audit, float32 tensor (1, 1, 16, 16) (RuntimeError: ")
    assert "expected input[1, 1, 16, 16] to have 3 channels" in message
    assert "check their number of channels and their size" in message
    assert "pass adapter=Mine()" in message


@pytest.mark.parametrize("as_loader", [False, True])
def test_the_same_data_on_both_sides(kit, audit, trainer, loaders, as_loader: bool) -> None:
    data = kit.Pairs(4)
    callback = audit(*(DataLoader(data, batch_size=2, shuffle=True) if as_loader else data for _ in range(2)))
    with pytest.warns(UserWarning, match="4 of 4 members are also among the nonmembers"):
        trainer(callback).validate(kit.Translator(), loaders[1])
    assert callback.result.verdict.grade == "unfair"


def test_a_key_for_a_model_that_returns_a_tensor(audit, refused) -> None:
    message = refused(audit(output_key="logits"), TypeError)
    assert "in which there is nothing to look up, but output_key='logits' was given; leave it out" in message


@pytest.mark.parametrize("prefixes", [("a/b", "a_b"), ("a_b", "a/b")])
def test_audits_that_would_write_over_each_other(audit, trainer, kit, loaders, prefixes) -> None:
    audits = [audit(prefix=p) for p in prefixes]
    with pytest.raises(ValueError, match=rf"prefixes '{prefixes[0]}' and '{prefixes[1]}' name their files alike, a_b-"):
        trainer(*audits).fit(kit.Translator(), *loaders)


@pytest.mark.parametrize("every", [0, -1])
def test_cadence_out_of_range(every: int) -> None:
    with pytest.raises(ValueError, match=f"every_n_epochs >= 1, but got {every}"):
        MembershipAudit(every_n_epochs=every)


def test_a_nan_prediction_is_named_and_left_out(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    members, nonmembers = kit.Pairs(6, 0, "triple", "in"), kit.Pairs(5, 1, "triple", "out")
    broken = members.inputs[3]

    def breaks(module: Any, x: torch.Tensor) -> torch.Tensor:
        hit = (x == broken).flatten(1).all(1)
        return hit if module.current_epoch == 1 else torch.zeros_like(hit)

    callback = audit(members, nonmembers, output_dir=tmp_path)
    run = trainer(callback, max_epochs=3)
    with pytest.warns(UserWarning, match=r"left out 1 samples: in3 \(member\): the prediction holds NaN"):
        run.fit(kit.BrokenPredictions(breaks), *loaders)
    assert run.current_epoch == 3
    before, at, after = callback.history
    assert before.excluded == after.excluded == []
    reason = "the prediction holds NaN or infinite values"
    assert at.excluded == [{"id": "in3", "side": "member", "reason": reason}]
    assert "in3" not in at.ids
    assert len(at.ids) == len(before.ids) - 1 == len(at.member) == len(at.errors["membership"])
    assert at.metrics["audit/samples/members"] == 5
    few = re.compile("matched|control")  # which five a side are too few for
    assert not any(math.isnan(v) for k, v in at.metrics.items() if not few.search(k))
    saved = [AuditResult.from_json(p) for p in tmp_path.glob("audit-epoch*.json")]
    assert [r.excluded for r in saved if r.epoch == 1] == [at.excluded]


def test_many_left_out_are_counted(kit, audit, trainer, loaders) -> None:
    members = kit.Pairs(6)
    callback = audit(members)
    model = kit.BrokenPredictions(lambda _, x: (x[:, None] == members.inputs[None]).flatten(2).all(2).any(1))
    with pytest.warns(UserWarning, match=r"left out 6 samples: member-000000 .* and 3 more"):
        trainer(callback, max_epochs=1).fit(model, *loaders)
    assert [e["id"] for e in callback.result.excluded] == [f"member-{i:06d}" for i in range(6)]
    assert math.isnan(callback.result.metrics["audit/auc"])
    assert math.isnan(callback.result.metrics["audit/error/membership/members"])
    assert not math.isnan(callback.result.metrics["audit/error/membership/nonmembers"])


def test_nothing_but_nan(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    from lightning_package import TensorBoardLogger

    callback = audit(output_dir=tmp_path / "audits")
    model = kit.BrokenPredictions(lambda module, x: torch.full((len(x),), module.current_epoch == 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = trainer(callback, max_epochs=3, logger=TensorBoardLogger(tmp_path))
        run.fit(model, *loaders)
        checkpoint = Path(run.log_dir) / "end.ckpt"
        run.save_checkpoint(checkpoint)
    assert run.current_epoch == 3
    metrics = callback.history[1].metrics
    assert metrics.keys() == callback.history[0].metrics.keys()
    numbers = {k for k, v in metrics.items() if not math.isnan(v)}
    assert numbers == {"audit/samples/members", "audit/samples/nonmembers"}
    assert metrics["audit/samples/members"] == 0
    assert len(callback.history[1].excluded) == 11
    assert not math.isnan(callback.history[2].metrics["audit/auc"])
    fresh = audit()
    state = torch.load(checkpoint, weights_only=True)["callbacks"][callback.state_key]
    fresh.load_state_dict({**state, "history": with_samples(state["history"], checkpoint)})
    assert len(fresh.history[1].excluded) == 11
    written = {r.epoch: r for r in map(AuditResult.from_json, (tmp_path / "audits").glob("audit-epoch*.json"))}
    assert math.isnan(written[1].metrics["audit/auc"])
    assert written[1].ids == []


def test_a_nan_first_prediction_does_not_stop_the_training(kit, audit, trainer, loaders) -> None:
    """The check before training looks at shapes, not at numbers of an untrained model."""
    callback = audit()
    with pytest.warns(UserWarning, match="left out 11 samples"):
        trainer(callback, max_epochs=1).fit(kit.BrokenPredictions(lambda _, x: torch.ones(len(x)).bool()), *loaders)
    assert callback.result.ids == []


def test_nan_in_the_data_is_named(kit, audit, trainer, loaders) -> None:
    members = kit.Pairs(6, 0, "triple", "in")
    members.inputs[0, 0, 0, 0] = torch.nan  # the very first: the check before training meets it
    members.targets[4, 1, 2, 3] = torch.inf
    callback = audit(members)
    with pytest.warns(UserWarning, match="left out 2 samples"):
        trainer(callback, max_epochs=1).fit(kit.Translator(), *loaders)
    reason = "the target or the input holds NaN or infinite values"
    assert [(e["id"], e["reason"]) for e in callback.result.excluded] == [("in0", reason), ("in4", reason)]


def test_data_that_one_process_cannot_read_end_the_audit_on_all(kit, quick, trainer, loaders, monkeypatch) -> None:
    """In a validation, too, which has no check before: the data module is asked where failures are shared."""
    shared: list[str] = []

    @contextmanager
    def failing_together(device: torch.device) -> Iterator[None]:
        assert device == torch.device("cpu")
        try:
            yield
        except OSError as error:
            shared.append(str(error))
            raise

    class Unreadable(LightningDataModule):
        def val_dataloader(self) -> DataLoader:
            return loaders[1]

        def audit_dataloaders(self) -> Any:
            raise OSError("no such folder here")

    monkeypatch.setattr("mia_lightning.callbacks.membership_audit.failing_together", failing_together)
    with pytest.raises(OSError, match="no such folder here"):
        trainer(MembershipAudit(scorer=quick)).validate(kit.Translator(), datamodule=Unreadable())
    assert shared == ["no such folder here"]


def test_the_strategy_says_where_to_compute(kit) -> None:
    """Weights that are offloaded between forward passes lie on the CPU, and do not tell."""
    strategy = SimpleNamespace(root_device=torch.device("cuda", 3))
    runtime = runtime_of(SimpleNamespace(strategy=strategy, datamodule=None), kit.Translator())
    assert runtime.device == torch.device("cuda", 3)


def test_layers_split_over_processes_are_refused_before_training(kit, audit):
    class Mesh(dict):
        mesh_dim_names = ("data_parallel", "tensor_parallel")

    def trainer(size):
        strategy = SimpleNamespace(_device_mesh=Mesh(tensor_parallel=SimpleNamespace(size=lambda: size)))
        return SimpleNamespace(strategy=strategy, datamodule=None, callbacks=[])

    message = r"splits each layer over 2 processes \(tensor_parallel_size\).*Use tensor_parallel_size=1"
    with pytest.raises(ValueError, match=message):
        audit().setup(trainer(2), kit.Translator(), "fit")
    audit().setup(trainer(1), kit.Translator(), "fit")
