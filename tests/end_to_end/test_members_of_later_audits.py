"""A later audit is one of the training's members, or it is refused: by checkpoint, exports, Python and evidence."""

from __future__ import annotations

import json
import shutil
import stat
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lightning_package import LightningDataModule, LightningModule, ModelCheckpoint, Trainer
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mia_lightning import (
    AuditResult,
    DemoDataModule,
    ExportedModel,
    MembershipAudit,
    PairedImageDataModule,
    Pix2Pix,
    PredictabilityScorer,
    audit_checkpoint,
    weigh_checkpoint,
)
from mia_lightning.cli.main import main
from mia_lightning.membership.export_entry import add_entry, read_entry
from mia_lightning.membership.record import MembershipSummary
from mia_lightning.report.markdown_page import markdown, model_card
from mia_lightning.report.run import run_of
from mia_lightning.result.verdict import headline

SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=4)
QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
WRONG = {
    "data.seed 0 in the run, 1 now": {"seed": 1},
    "data.membership 'coin' in the run, 'split' now": {"membership": "split"},
}


class Run(NamedTuple):
    """A finished training."""

    data: Path
    checkpoint: Path
    record: Path
    result: AuditResult


def draw_pairs(root: Path, count: int = 40, seed: int = 0) -> Path:
    """Pairs of pictures, half of them in a folder ``train``."""
    rng = np.random.default_rng(seed)
    for side in "AB":
        for i in range(count):
            path = root / side / ("train" if i % 2 else "val") / f"p{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return root


def data_of(root: Path, **settings: Any) -> PairedImageDataModule:
    return PairedImageDataModule(root, **{"membership": "coin", "image_size": 16, "batch_size": 40} | settings)


def network() -> Pix2Pix:
    return Pix2Pix(image_size=16, ngf=2, ndf=2)


def train(folder: Path, data: LightningDataModule, root: Path, ckpt_path: Path | None = None, epochs: int = 1) -> Run:
    audit = MembershipAudit(scorer=SCORER, verbose=False)
    saving = ModelCheckpoint(folder / "checkpoints", save_last=True)
    trainer = Trainer(max_epochs=epochs, logger=False, default_root_dir=folder, callbacks=[audit, saving], **QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(network(), data, ckpt_path=ckpt_path)
    (record,) = folder.glob("membership-*.json")
    assert audit.result is not None
    return Run(root, folder / "checkpoints" / "last.ckpt", record, audit.result)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training with a fair coin and the seed 0."""
    folder = tmp_path_factory.mktemp("recorded")
    root = draw_pairs(folder / "data")
    return train(folder / "run", data_of(root), root)


@pytest.fixture(scope="module")
def exports(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The trained model in three formats, elsewhere."""
    folder = tmp_path_factory.mktemp("exports")
    paths = {kind: folder / f"model.{kind}" for kind in ("pt", "onnx", "pt2")}
    image = torch.rand(2, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Pix2Pix.load_from_checkpoint(run.checkpoint, map_location="cpu").eval()
        model.to_torchscript(paths["pt"], method="trace", example_inputs=image)
        names = {"input_names": ["image"], "dynamic_axes": {"image": {0: "batch"}}}
        model.to_onnx(paths["onnx"], image, dynamo=False, **names)
        torch.export.save(torch.export.export(nn.Sequential(model.generator), (image,)), paths["pt2"])
    content = torch.load(run.checkpoint, weights_only=True)["callbacks"]["MembershipAudit{'prefix': 'audit'}"]
    summary = MembershipSummary.from_plain(content["membership"])
    assert summary is not None
    add_entry(paths["pt2"], summary)
    return paths


def audit(run: Run, ckpt_path: Path | None = None, **settings: Any) -> AuditResult:
    options = {name: settings.pop(name) for name in ("unverified_members", "root") if name in settings}
    data = data_of(options.pop("root", run.data), **settings)
    return audit_checkpoint(network(), data, ckpt_path or run.checkpoint, accelerator="cpu", scorer=SCORER, **options)


@pytest.mark.parametrize("setting", WRONG)
def test_other_members_are_refused_by_python(run, setting):
    with pytest.raises(ValueError, match=f"not the members that the model was trained on: {setting}"):
        audit(run, **WRONG[setting])


@pytest.mark.parametrize("setting", WRONG)
def test_other_members_are_refused_far_from_the_run(run, setting, tmp_path):
    alone = shutil.copy(run.checkpoint, tmp_path / "published.ckpt")
    with pytest.raises(ValueError, match=f"{setting}; the members have another digest"):
        audit(run, alone, **WRONG[setting])
    assert audit(run, alone).meta["members"] == {
        "verified": True,
        "basis": "digests",
        "reason": "the members have the digest that the training's members had.",
    }


@pytest.mark.parametrize("kind", ["pt", "onnx", "pt2"])
def test_exports_are_audited_with_the_training_s_members(run, exports, kind):
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: ONNX files cannot be run")
    options = {"accelerator": "cpu", "scorer": SCORER, "target_range": (0, 1)}
    for setting, change in WRONG.items():
        with pytest.raises(ValueError, match=setting):
            audit_checkpoint(ExportedModel(str(exports[kind])), data_of(run.data, **change), **options)
    result = audit_checkpoint(ExportedModel(str(exports[kind])), data_of(run.data), **options)
    assert result.meta["members"]["verified"]
    if kind != "pt2":  # the generator alone, whose range is another
        np.testing.assert_allclose(
            result.errors["reconstruction"], audit(run).errors["reconstruction"], rtol=0, atol=1e-4
        )


def test_right_members_pass_with_the_numbers_of_the_training(run):
    result = audit(run)
    assert result.meta["members"]["verified"]
    assert result.meta["members"]["basis"] == "keys"
    assert result.ids == run.result.ids
    np.testing.assert_array_equal(result.errors["membership"], run.result.errors["membership"])
    assert not any("unverified" in line for line in result.verdict)


def test_the_command_refuses_and_names_the_setting(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = ["--model=Pix2Pix", "--model.image_size=16", "--model.ngf=2", "--model.ndf=2"]
    data = ["--data=PairedImageDataModule", f"--data.root={run.data}", "--data.image_size=16"]
    command = ["audit", *model, *data, f"--ckpt_path={run.checkpoint}", "--trainer.accelerator=cpu"]
    with pytest.raises(SystemExit):
        main([*command, "--data.membership=split"])
    assert "data.membership 'coin' in the run, 'split' now" in " ".join(capsys.readouterr().err.split())


def test_evidence_by_ids_needs_the_training_s_settings(run):
    options = {"suspect_ids": ["train/p01", "train/p03"], "scorer": SCORER}
    nonmembers = [name for name, member in zip(run.result.ids, run.result.member, strict=True) if not member]
    for setting, change in WRONG.items():
        with pytest.raises(ValueError, match=setting):
            weigh_checkpoint(
                network(), data_of(run.data, **change), run.checkpoint, reference_ids=nonmembers[:6], **options
            )
    options["suspect_ids"] = [n for n in run.result.ids if n not in nonmembers][:6]
    evidence = weigh_checkpoint(network(), data_of(run.data), run.checkpoint, reference_ids=nonmembers[:6], **options)
    assert evidence.meta["members"]["verified"]


def test_a_reference_folder_of_members_is_found_by_its_files(run, tmp_path):
    members = [name for name, member in zip(run.result.ids, run.result.member, strict=True) if member]
    for side in "AB":
        (tmp_path / "reference" / side).mkdir(parents=True)
        for number, name in enumerate(members[:6]):
            shutil.copy(run.data / side / f"{name}.png", tmp_path / "reference" / side / f"new{number}.png")
    folders = {"suspects": draw_pairs(tmp_path / "suspects", 6, seed=5), "reference": tmp_path / "reference"}
    with pytest.raises(ValueError, match="6 of 6 in the reference were trained on"):
        weigh_checkpoint(network(), data_of(run.data), run.checkpoint, **folders, scorer=SCORER)
    accepted = weigh_checkpoint(
        network(), data_of(run.data), run.checkpoint, **folders, scorer=SCORER, unverified_members=True
    )
    assert accepted.meta["members"]["accepted_by_user"]
    assert "Members unverified: audited at the user's word" in " ".join(accepted.to_text().split())


def test_moved_and_renamed_folders_pass(run, tmp_path):
    moved = shutil.copytree(run.data, tmp_path / "elsewhere" / "data")
    assert audit(run, root=moved).meta["members"]["verified"]
    (moved / "A").rename(moved / "edges")
    (moved / "B").rename(moved / "photos")
    assert audit(run, root=moved, input_dir="edges", target_dir="photos").meta["members"]["verified"]


def test_a_changed_file_is_found_and_many_are_refused(run, tmp_path):
    data = shutil.copytree(run.data, tmp_path / "data")
    names = [n for n, member in zip(run.result.ids, run.result.member, strict=True) if member]
    for count in (1, 4):
        for name in names[:count]:
            Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(data / "A" / f"{name}.png")
        if count == 1:
            result = audit(run, root=data)
            assert result.meta["members"]["verified"]
            assert any(f"1 of 40 samples are none of the training's ('{names[0]}')" in line for line in result.verdict)
    with pytest.raises(ValueError, match="4 of 40 samples are none of the training's"):
        audit(run, root=data)


def test_swapped_sides_are_found(run, tmp_path):
    data = data_of(run.data)
    members, nonmembers = data.audit_dataloaders()
    alone = shutil.copy(run.checkpoint, tmp_path / "alone.ckpt")
    options = {"members": nonmembers, "nonmembers": members, "accelerator": "cpu", "scorer": SCORER}
    with pytest.raises(ValueError, match="40 of 40 samples stand on the other side"):
        audit_checkpoint(network(), None, run.checkpoint, **options)
    with pytest.raises(ValueError, match="the sides are swapped"):
        audit_checkpoint(network(), None, alone, **options)


def test_other_nonmembers_that_were_not_trained_on_pass_with_a_note(run, tmp_path):
    held_out = data_of(draw_pairs(tmp_path / "new", 12, seed=9)).audit_dataloaders()[0]
    options = {"members": data_of(run.data).audit_dataloaders()[0], "nonmembers": held_out}
    result = audit_checkpoint(network(), None, run.checkpoint, **options, accelerator="cpu", scorer=SCORER)
    assert result.meta["members"]["verified"]
    assert any("none of them was trained on" in note for note in result.meta["notes"])


def test_the_user_may_vouch_and_the_result_says_so(run, tmp_path):
    result = audit(run, seed=1, unverified_members=True)
    assert result.meta["members"]["verified"] is False
    assert result.meta["members"]["accepted_by_user"] is True
    report = run_of([result], tmp_path)
    for text in ("\n".join(result.verdict), headline(result), markdown(report), model_card(report)):
        assert "members unverified" in text.lower()
    assert "data.seed 0 in the run, 1 now" in "\n".join(result.verdict)


def test_a_checkpoint_without_a_record_is_audited_as_unverified(run, tmp_path):
    content = torch.load(run.checkpoint, weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "weights.ckpt")
    result = audit(run, tmp_path / "weights.ckpt", seed=1)
    assert result.meta["members"]["verified"] is False
    assert "members unverified" in headline(result)
    # Lightning's own part serves where there was no audit, and in the run's folder its record does.
    kept = ("state_dict", "datamodule_hyper_parameters", "pytorch-lightning_version")
    torch.save({name: content[name] for name in kept}, tmp_path / "lightning.ckpt")
    with pytest.raises(ValueError, match=r"data\.seed 0 in the run, 1 now"):
        audit(run, tmp_path / "lightning.ckpt", seed=1)
    assert "the settings of the split agree" in audit(run, tmp_path / "lightning.ckpt").meta["members"]["reason"]
    torch.save({"state_dict": content["state_dict"]}, run.checkpoint.with_name("alone.ckpt"))
    with pytest.raises(ValueError, match="found by its place"):
        audit(run, run.checkpoint.with_name("alone.ckpt"), seed=1)


def test_the_record_is_its_owner_s_and_the_checkpoint_holds_no_key(run, exports):
    assert stat.S_IMODE(run.record.stat().st_mode) == 0o600
    record = json.loads(run.record.read_text())
    keys = [*record["keys"]["members"], *record["keys"]["nonmembers"]]
    assert len(keys) == len(set(keys)) == 40
    for path in (run.checkpoint, *exports.values()):
        content = path.read_bytes()  # archives of torch are stored, not packed
        for secret in (*keys, record["salt"]):
            assert secret.encode() not in content
            assert bytes.fromhex(secret) not in content
        assert record["summary"]["digests"]["members"].encode() in content
    summary = MembershipSummary.from_plain(record["summary"])
    assert summary is not None
    for path in exports.values():
        assert read_entry(path) == record["summary"]
        with pytest.raises(ValueError, match="names the training that its members are of already"):
            add_entry(path, summary)


def test_a_training_that_went_on_with_other_members_has_none_verified(run, tmp_path):
    resumed = train(tmp_path / "run", data_of(run.data, seed=1), run.data, ckpt_path=run.checkpoint, epochs=2)
    result = audit(resumed, seed=1)
    assert result.meta["members"]["verified"] is False
    assert "went on from a checkpoint of a training with other members" in result.meta["members"]["reason"]
    assert "data.seed 0 in the run, 1 now" in result.meta["members"]["reason"]
    unchanged = train(tmp_path / "same", data_of(run.data), run.data, ckpt_path=run.checkpoint, epochs=2)
    assert audit(unchanged).meta["members"]["verified"]


def test_a_validation_of_a_checkpoint_says_whether_members_are_the_training_s(run, tmp_path):
    for seed, verified in ((0, True), (1, False)):
        validated = MembershipAudit(scorer=SCORER, verbose=False)
        trainer = Trainer(logger=False, default_root_dir=tmp_path, callbacks=[validated], **QUIET)
        trainer.validate(network(), data_of(run.data, seed=seed), ckpt_path=run.checkpoint, verbose=False)
        assert validated.result is not None
        assert validated.result.meta["members"]["verified"] is verified


def test_pairs_made_in_memory_are_known_by_their_values(tmp_path):
    settings = {"num_pairs": 16, "image_size": 16}
    demo = train(tmp_path, DemoDataModule(**settings), tmp_path)
    options = {"accelerator": "cpu", "scorer": SCORER}
    result = audit_checkpoint(network(), DemoDataModule(**settings), demo.checkpoint, **options)
    assert result.meta["members"]["basis"] == "keys"
    with pytest.raises(ValueError, match=r"data\.seed 4 in the run, 5 now"):
        audit_checkpoint(network(), DemoDataModule(**settings, seed=5), demo.checkpoint, **options)
    with pytest.raises(ValueError, match="8 of 8 samples are none of the training's"):
        audit_checkpoint(network(), DemoDataModule(**settings | {"image_size": 32}), demo.checkpoint, **options)


class Foreign(LightningDataModule):
    """Somebody's own, which draws a split."""

    def __init__(self, fold: int = 0, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self._part(0), self.hparams["batch_size"], shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self._part(1), self.hparams["batch_size"])

    def _part(self, number: int) -> TensorDataset:
        pairs = torch.rand(2, 24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        order = torch.randperm(24, generator=torch.Generator().manual_seed(self.hparams["fold"]))
        return TensorDataset(*(side[order[12 * number : 12 * number + 12]] for side in pairs))


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layer(image)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return (self(batch[0]) - batch[1]).abs().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


@pytest.mark.parametrize("audited", [True, False])
def test_projects_of_others(audited, tmp_path):
    data = Foreign()
    sides = (data.train_dataloader().dataset, data.val_dataloader().dataset)
    callbacks = [ModelCheckpoint(tmp_path / "weights", save_last=True)]
    callbacks += [MembershipAudit(*sides, scorer=SCORER, verbose=False)] if audited else []
    trainer = Trainer(max_epochs=1, logger=False, default_root_dir=tmp_path, callbacks=callbacks, **QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Net(), data)
    path = tmp_path / "weights" / "last.ckpt"
    options = {"members": "train", "nonmembers": "val", "accelerator": "cpu", "scorer": SCORER}
    with pytest.raises(ValueError, match="none of|another side|other side" if audited else "data.fold 0 in the run"):
        audit_checkpoint(Net(), Foreign(fold=1), path, **options)
    result = audit_checkpoint(Net(), Foreign(batch_size=6), path, **options)
    assert result.meta["members"]["verified"] is audited
