"""Auditing trained weights from Python."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mia_lightning import AuditConfig, Auditor, PredictabilityScorer, audit_checkpoint, registry, weigh_evidence
from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.models.unet_segmenter import UNetSegmenter
from mia_lightning.posthoc.audit_trainer import AuditTrainer
from mia_lightning.registry import register_score
from mia_lightning.result.history import to_plain

SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=4)


def pairs(n: int, seed: int) -> TensorDataset:
    return TensorDataset(*torch.rand(2, n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)))


class Net(LightningModule):
    """Its hooks must not run."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.net(x)

    def on_predict_start(self):
        raise RuntimeError("not a prediction")


class Data(LightningDataModule):
    def setup(self, stage):
        self.seen = [*getattr(self, "seen", []), stage]

    def train_dataloader(self):
        return DataLoader(pairs(6, 0), batch_size=4, shuffle=True, drop_last=True)

    def test_dataloader(self):
        return DataLoader(pairs(5, 1))


class Sided(Data):
    def audit_dataloaders(self):
        return DataLoader(pairs(6, 0)), DataLoader(pairs(5, 1))

    def audit_info(self):
        return {"assignment": "coin", "independent": True, "nonmembers_validate": True}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    torch.save({"state_dict": Net().state_dict(), "epoch": 4, "global_step": 40}, tmp_path / "net.ckpt")
    return tmp_path / "net.ckpt"


def expected(path) -> np.ndarray:
    model = Net()
    model.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    return Auditor(scorer=SCORER).run(model, pairs(6, 0), pairs(5, 1)).errors["membership"]


def test_loaders_by_name(weights, capfd):
    data = Data()
    result = audit_checkpoint(
        Net(), data, weights, members="train", nonmembers="test", accelerator="cpu", scorer=SCORER
    )
    np.testing.assert_allclose(result.errors["membership"], expected(weights), rtol=1e-5)
    assert data.seen == ["fit", "test"]
    sides = {"members": "train_dataloader", "nonmembers": "test_dataloader"}
    assert result.meta["membership"] == {"assignment": "given"} | sides
    assert (result.meta["checkpoint"], result.epoch, result.meta["step"]) == (str(weights), 4, 40)
    assert sum("under its transforms" in note for note in result.meta["notes"]) == 1
    assert "".join(capfd.readouterr()) == "", "nothing is printed"


def test_data_sets_need_no_data_module(weights, tmp_path):
    torch.save(torch.load(weights, weights_only=True)["state_dict"], tmp_path / "alone.pt")
    result = audit_checkpoint(
        Net(),
        None,
        tmp_path / "alone.pt",
        members=pairs(6, 0),
        nonmembers=pairs(5, 1),
        accelerator="cpu",
        scorer=SCORER,
    )
    np.testing.assert_allclose(result.errors["membership"], expected(weights), rtol=1e-5)
    assert (result.epoch, result.meta["step"]) == (None, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.pt", "net.ckpt"], "nothing is written"


def test_sides_of_the_data_module_and_files(weights, tmp_path):
    config = AuditConfig(scorer=SCORER, output_dir=tmp_path / "out", alpha=0.5)
    result = audit_checkpoint(Net(), Sided(), weights, accelerator="cpu", config=config)
    assert result.meta["settings"]["alpha"] == 0.5
    assert result.meta["membership"]["assignment"] == "coin"
    assert json.loads((tmp_path / "out" / "result.json").read_text())["meta"]["step"] == 40
    assert (tmp_path / "out" / "samples.csv").is_file()


@pytest.mark.parametrize("monitor", ["val/l1", "train/l1"])
def test_epsilon_stands_as_the_weights_were_selected(weights, monitor):
    """What is known of the weights goes in before the result is made."""
    content = torch.load(weights, weights_only=True)
    torch.save(content | {"callbacks": {f"ModelCheckpoint{{'monitor': '{monitor}'}}": {}}}, weights)
    result = audit_checkpoint(Net(), Sided(), weights, accelerator="cpu", scorer=SCORER)
    selected = monitor.startswith("val")
    assert result.meta["nonmembers_select_checkpoints"] is selected
    assert result.meta["epsilon"]["valid"] is not selected


def test_what_the_model_knows_counts_where_nothing_else_is_passed(tmp_path):
    model = UNetSegmenter(num_classes=2, base_channels=2, depth=1, ignore_index=7)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    samples = [TensorDataset(torch.rand(4, 3, 16, 16), torch.randint(0, 2, (4, 16, 16))) for _ in range(2)]
    sides = {"members": samples[0], "nonmembers": samples[1]}
    options = {"accelerator": "cpu", "scorer": SCORER}
    result = audit_checkpoint(model, None, tmp_path / "w.pt", **sides, **options)
    assert result.meta["settings"]["ignore_index"] == 7
    result = audit_checkpoint(model, None, tmp_path / "w.pt", **sides, **options, ignore_index=255)
    assert result.meta["settings"]["ignore_index"] == 255


def test_audits_side_by_side_with_a_trainer_of_ones_own(weights, tmp_path):
    audits = [MembershipAudit(scorer=SCORER, prefix=prefix, verbose=False) for prefix in ("audit", "two/b")]
    trainer = AuditTrainer(accelerator="cpu", callbacks=audits, logger=False, enable_progress_bar=False)
    first = trainer.audit(Net(), Sided(), str(weights), output_dir=str(tmp_path / "out"))
    assert [audit.result.prefix for audit in trainer.audited] == ["audit", "two/b"]
    assert trainer.audited[0].result is first
    assert [audit.folder for audit in trainer.audited] == [tmp_path / "out", tmp_path / "out" / "two_b"]
    assert all((audit.folder / "result.json").is_file() for audit in trainer.audited)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Data does not say which samples the model was trained on. Name two of its own loaders"),
        ({"members": "train"}, "Expected two loaders"),
        (
            {"members": "train", "nonmembers": "val"},
            r"Data has no val_dataloader\(\); those that it has are train, test",
        ),
        ({"patch": True}, "The patch attack learns from a reference model"),
        ({"members": pairs(2, 0)}, "Expected members and nonmembers together"),
    ],
)
def test_what_does_not_fit_is_refused(weights, options, message):
    with pytest.raises(ValueError, match=message):
        audit_checkpoint(Net(), Data(), weights, accelerator="cpu", **options)


def test_a_model_without_weights_and_an_unknown_setting(weights):
    with pytest.raises(ValueError, match="Nothing to audit: name the trained weights"):
        audit_checkpoint(Net(), Sided(), accelerator="cpu")
    with pytest.raises(TypeError, match="alpa"):
        audit_checkpoint(Net(), Sided(), weights, alpa=1.0)


def test_a_score_of_several_epochs_gets_the_audits_that_the_checkpoint_keeps(weights):
    calls = []

    @register_score("risen", label="risen", sentence="A test.", needs=frozenset({"history"}))
    def risen(inputs):
        calls.append([errors["reconstruction"] for errors in inputs.history])
        return -inputs.errors["reconstruction"]

    try:
        audit = MembershipAudit(scorer=SCORER, scores=("membership", "risen"), verbose=False)
        earlier = Auditor(audit.auditor.config).run(nn.Identity(), pairs(6, 0), pairs(5, 1))
        kept = [replace(earlier, meta=earlier.meta | {"epoch": e, "step": s}) for e, s in ((0, 8), (4, 40), (5, 48))]
        calls.clear()
        content = torch.load(weights, weights_only=True)
        torch.save(content | {"callbacks": {audit.state_key: {"history": to_plain(kept)}}}, weights)
        result = audit_checkpoint(Net(), Sided(), weights, accelerator="cpu", config=audit.auditor.config)
    finally:
        registry.scores.remove("risen")
    assert "risen" in result.scores
    # Not the audit of these very weights, nor one that came after them.
    assert all(len(history) == 1 for history in calls)
    np.testing.assert_array_equal(calls[0][0], earlier.errors["reconstruction"])


@pytest.mark.parametrize(
    ("counters", "when"), [({}, "step 8"), ({"global_step": 16}, "batch 8 (optimizer step 16)")], ids=["one", "gan"]
)
def test_the_score_over_two_audits_takes_the_one_before_from_the_run(weights, counters, when):
    audit = MembershipAudit(scorer=SCORER, scores=("membership", "combined", "combined_history"), verbose=False)
    earlier = Auditor(audit.auditor.config).run(nn.Identity(), pairs(6, 0), pairs(5, 1))
    counted = earlier.meta | counters
    kept = [replace(earlier, meta=counted | {"epoch": e, "step": s}) for e, s in ((0, 8), (4, 40))]
    content = torch.load(weights, weights_only=True)
    torch.save(content | {"callbacks": {audit.state_key: {"history": to_plain(kept)}}}, weights)
    result = audit_checkpoint(Net(), Sided(), weights, accelerator="cpu", config=audit.auditor.config)
    mean = (earlier.scores["combined"] + result.scores["combined"]) / 2
    np.testing.assert_allclose(result.scores["combined_history"], mean, atol=1e-9)
    stated = result.meta["interpretation"]["combined_history"]
    assert stated.startswith(f"mean of combined at this audit and at the one before, after {when}: how exposed")


def test_a_mixture_of_a_name_and_a_data_set_is_refused(weights):
    message = "both as data sets or loaders, but got members='train', nonmembers: TensorDataset"
    with pytest.raises(ValueError, match=message):
        audit_checkpoint(Net(), Data(), weights, members="train", nonmembers=pairs(5, 1), accelerator="cpu")


def test_what_a_model_says_of_itself_are_settings_of_an_audit(weights):
    class Wordy(Net):
        def audit_settings(self):
            return {"every_n_epochs": 2}

    message = r"Wordy\.audit_settings\(\) may name fields of AuditConfig only\. Unknown setting 'every_n_epochs'"
    with pytest.raises(TypeError, match=message):
        audit_checkpoint(Wordy(), Sided(), weights, accelerator="cpu")
    with pytest.raises(TypeError, match=message):
        weigh_evidence(Wordy(), pairs(6, 0), pairs(5, 1))
