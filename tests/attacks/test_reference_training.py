"""Reference models trained from Python."""

from __future__ import annotations

import json
import os

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, Timer
from torch import nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor, MembershipAudit, PredictabilityScorer
from mia_lightning.attacks.reference_audit import reference_models
from mia_lightning.attacks.reference_scores import with_reference_scores
from mia_lightning.attacks.reference_training import sample_ids, train_references
from mia_lightning.audit.adapters import AutoAdapter
from mia_lightning.checkpoints.trained_weights import load_weights


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, i):
        return (self(batch[0]) - batch[1]).abs().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Data(LightningDataModule):
    """Twelve pairs, half of them members."""

    def __init__(self, members: tuple[int, ...] = tuple(range(6))) -> None:
        super().__init__()
        images = torch.rand(2, 12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        self.pairs = [(x, y, f"p{i:02d}") for i, (x, y) in enumerate(zip(*images, strict=True))]
        self.members = members

    def redrawn(self, seed, complement=False):
        half = torch.randperm(12, generator=torch.Generator().manual_seed(seed))[:6].tolist()
        return Data(tuple(sorted(set(range(12)) - set(half) if complement else half)))

    def train_dataloader(self):
        return DataLoader([self.pairs[i] for i in self.members], batch_size=3, shuffle=True)

    def audit_dataloaders(self):
        sides = self.members, [i for i in range(12) if i not in self.members]
        return tuple(DataLoader([self.pairs[i] for i in side], batch_size=4) for side in sides)


def build(settings, **more):
    trainer = Trainer(**({"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False} | more | settings))
    return Net(), trainer


def states(folder):
    return [torch.load(r.checkpoint, weights_only=True)["state_dict"]["net.weight"] for r in folder.finished()]


def test_each_half_and_its_mirror_image(tmp_path):
    said = []
    folder = train_references(build, Data(), tmp_path / "refs", num=2, seed=5, config={"lr": 0.1}, say=said.append)
    first, second = (reference.sides() for reference in folder.finished())
    assert first == second[::-1]
    assert len(first[0]) == len(first[1]) == 6
    one, two = states(folder)
    assert not torch.equal(one, two)
    assert sorted(p.name for p in (tmp_path / "refs" / "000").iterdir()) == ["done.json", "last.ckpt", "members.json"]
    done = json.loads((tmp_path / "refs" / "001" / "done.json").read_text())
    assert done["epochs"] == 2
    assert done["seconds"] > 0
    assert said == [f"Reference model {i + 1} of 2 ({tmp_path}/refs/00{i}): 6 of 12 samples." for i in range(2)]
    train_references(build, Data(), tmp_path / "refs", num=2, seed=5, config={"lr": 0.1}, say=said.append)
    assert said[-1] == f"Reference model 2 of 2 ({tmp_path}/refs/001) is trained already."
    with pytest.raises(ValueError, match=r"another configuration: lr was 0\.1 and is 0\.2 now"):
        train_references(build, Data(), tmp_path / "refs", num=2, seed=5, config={"lr": 0.2})


def test_shares_train_what_one_process_would(tmp_path):
    whole = train_references(build, Data(), tmp_path / "one", num=3)
    for i in (2, 1):
        train_references(build, Data(), tmp_path / "two", num=3, share=(i, 2))
    parts = train_references(build, Data(), tmp_path / "two", num=3, share=(4, 4))  # nothing to do
    assert len(parts.finished()) == 3
    for one, two in zip(states(whole), states(parts), strict=True):
        torch.testing.assert_close(one, two)


def test_watchers_are_taken_off_and_time_goes_on_counting(tmp_path):
    trainers = []

    def watched(settings):
        callbacks = [ModelCheckpoint(monitor="val"), EarlyStopping("val"), LearningRateMonitor(), MembershipAudit()]
        model, trainer = build(settings, callbacks=callbacks, max_time="00:01:00:00")
        trainers.append(trainer)
        return model, trainer

    train_references(watched, Data(), tmp_path / "refs", num=2)
    kinds = [type(callback) for callback in trainers[0].callbacks]
    assert not {EarlyStopping, LearningRateMonitor, MembershipAudit} & set(kinds)
    assert (kinds.count(ModelCheckpoint), kinds.count(Timer)) == (1, 1)
    (tmp_path / "refs" / "000" / "done.json").unlink()
    longer = lambda settings: build(settings, max_epochs=3)  # noqa: E731 - a factory with one setting changed
    train_references(longer, Data(), tmp_path / "refs", num=2)
    kept = torch.load(tmp_path / "refs" / "000" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 2
    done = json.loads((tmp_path / "refs" / "000" / "done.json").read_text())
    assert done["seconds"] > kept["callbacks"]["Timer"]["time_elapsed"]["train"] > 0


def test_they_serve_an_audit(tmp_path):
    references = train_references(build, Data(), tmp_path / "refs", num=2)
    auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(2), grid=4))
    target, sides = Net(), Data().audit_dataloaders()
    models = reference_models(references, target, load_weights)
    result = with_reference_scores(
        auditor.run(target, *sides), models, *sides, auditor, folder=references, notes=["of another age"]
    )
    assert result.meta["references"]["count"] == 2
    assert result.meta["notes"][-1] == "of another age"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 1}, "Expected num of at least 2 reference models, but got 1"),
        ({"share": (3, 2)}, r"Expected share=\(i, n\) with 1 <= i <= n, but got \(3, 2\)"),
    ],
)
def test_what_is_out_of_range_is_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train_references(build, Data(), tmp_path / "refs", **options)
    with pytest.raises(TypeError, match=r"LightningDataModule has no redrawn\(seed, complement=False\)"):
        train_references(build, LightningDataModule(), tmp_path / "refs")
    assert not list(tmp_path.iterdir())


def test_a_trainer_of_several_devices_or_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"trainer\.devices=2 and trainer\.num_nodes=1 ask for 2"):
        train_references(lambda settings: build(settings, devices=2), Data(), tmp_path / "refs")
    with pytest.raises(ValueError, match=r"fast_dev_run=True\) writes no checkpoint"):
        train_references(lambda settings: build(settings, fast_dev_run=True), Data(), tmp_path / "refs")


# ---- data of one's own


def test_ids_are_read_from_batches_where_data_sets_are_foreign():
    x = torch.zeros(3, 4, 4)
    named = [(x, x, f"pair-{i}") for i in range(20)]
    assert sample_ids(named, "MyData") == [f"pair-{i}" for i in range(20)]
    loader = torch.utils.data.DataLoader(named, batch_size=3, shuffle=True, drop_last=True)
    assert sorted(sample_ids(loader, "MyData")) == sorted(f"pair-{i}" for i in range(20))
    with pytest.raises(ValueError, match="The batches of MyData carry no ids, so the samples of a reference model"):
        sample_ids([(x, x)] * 4, "MyData")


def test_the_callers_generators_are_left_as_they_were(tmp_path, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    train_references(build, Data(), tmp_path, num=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert "PL_GLOBAL_SEED" not in os.environ


def test_an_adapter_finds_ids_where_no_key_of_ours_does():
    loader = DataLoader([{"image": torch.zeros(3, 4, 4), "target": torch.zeros(3, 4, 4), "case": "a"}])
    with pytest.raises(ValueError, match="or pass an adapter that finds them"):
        sample_ids(loader, "MyData")
    assert sample_ids(loader, "MyData", AutoAdapter(id_key="case")) == ["a"]
