from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from torch.multiprocessing import start_processes
from torch.utils.data import ConcatDataset, Dataset, Subset

from mia_lightning import (
    AuditConfig,
    AuditContext,
    Auditor,
    AuditResult,
    MembershipAudit,
    PairedImageDataModule,
    PredictabilityScorer,
    audit_outputs,
)
from mia_lightning.audit.grouping import Grouping
from mia_lightning.audit.loading import known_groups
from mia_lightning.cli.audit_settings import add_settings
from mia_lightning.data.stored_arrays import StoredArrays
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.posthoc.stored_predictions import store_predictions
from mia_lightning.result.history import to_plain, write_audit, write_history

# A fork is spared the imports, as in torch's own loaders; elsewhere it is not safe.
START = "fork" if sys.platform == "linux" else "spawn"
MODEL = torch.nn.Conv2d(3, 3, 3, padding=1)


def patient_of(id: str) -> str:
    return id[:2]


def side(letter: str, groups: int = 8, size: int = 3, key: str | None = None) -> list[dict[str, object]]:
    """Samples m0-0, m0-1, ... whose group is their beginning, which the batches hold under a key."""
    generator = torch.Generator().manual_seed(ord(letter))
    samples = []
    for g in range(groups):
        base = torch.rand(3, 16, 16, generator=generator)
        for i in range(size):
            image = (base + 0.1 * torch.rand(3, 16, 16, generator=generator)) / 1.1
            sample = {"input": image, "target": image.flip(0), "id": f"{letter}{g}-{i}"}
            samples.append(sample | ({} if key is None else {key: f"{letter}{g}"}))
    return samples


@pytest.fixture(scope="module")
def scorer() -> PredictabilityScorer:
    return PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8)


@pytest.fixture(scope="module")
def audited(scorer) -> AuditResult:
    return Auditor(scorer=scorer).run(MODEL, side("m", key="group"), side("n", key="group"))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "patients.csv"
    ids = [sample["id"] for letter in "mn" for sample in side(letter)]
    path.write_text("\ufeffid, group\n" + "".join(f"{id},{patient_of(id)}\n" for id in ids), encoding="utf-8")
    return path


def test_groups_of_batches_reach_the_result_and_its_statistics(audited):
    assert audited.groups == [patient_of(id) for id in audited.ids]
    assert audited.meta["groups"] == {"members": 8, "nonmembers": 8, "on_both_sides": 0}
    assert audited.meta["interpretation"]["groups"] == "the batches' entry 'group' (as batches have it)"
    score = audited.scores["membership"]
    assert audited.interval() == delong_interval(score, audited.member, group=audited.groups)[1:]
    assert audited.interval() != delong_interval(score, audited.member)[1:]
    assert (audited.metric("groups/members"), audited.metric("samples/members")) == (8.0, 24.0)
    assert "in 8 and 8 groups, which count in place of samples" in audited.verdict.certainty
    assert audited.p_values().min() >= 1 / 9


COINS = {"assignment": "coin", "unit": "group", "independent": False, "independent_units": True}


@pytest.mark.parametrize(
    ("settings", "membership", "standing"),
    [
        ({}, COINS, "valid: every group of samples was made a member or not by an independent fair coin"),
        ({"groups": "none"}, COINS, "coins were flipped for each group of samples, but the guesses are about samples"),
        ({"groups": lambda id: id}, COINS, "for each group of samples, but the guesses are about samples"),
        ({"groups": patient_of}, COINS, "for each group of samples, but the guesses are about groups of a setting"),
        ({}, COINS | {"independent": True}, "for each sample, but the guesses are about groups"),
        ({"groups": "none"}, COINS | {"independent": True}, "valid: every sample was made a member or not"),
        ({}, COINS | {"independent_units": False}, "indicative: not every sample was made"),
    ],
)
def test_epsilon_is_valid_where_its_guesses_are_about_what_had_a_coin(scorer, settings, membership, standing):
    sides = side("m", key="group"), side("n", key="group")
    result = Auditor(scorer=scorer, **settings).run(MODEL, *sides, context=AuditContext(membership=membership))
    assert standing in result.meta["epsilon"]["standing"]
    assert result.meta["epsilon"]["valid"] is standing.startswith("valid")


def test_every_way_to_say_groups_gives_the_same_numbers(scorer, audited, table, monkeypatch):
    monkeypatch.syspath_prepend(str(table.parent))
    (table.parent / "hospital_patients.py").write_text("def of(id):\n    return id[:2]\n")
    mapping = {sample["id"]: patient_of(sample["id"]) for letter in "mn" for sample in side(letter)}
    ways = [table, str(table), patient_of, mapping, "hospital_patients.of", "hospital_patients:of"]
    for setting in ways:
        result = Auditor(scorer=scorer, groups=setting).run(MODEL, side("m"), side("n"))
        assert result.groups == audited.groups
        assert result.metrics == audited.metrics
        assert "(groups)" in result.meta["interpretation"]["groups"]
        assert isinstance(result.meta["settings"]["groups"], str)
    keyed = Auditor(scorer=scorer, group_key="film").run(MODEL, side("m", key="film"), side("n", key="film"))
    assert (keyed.groups, keyed.metrics) == (audited.groups, audited.metrics)
    assert keyed.meta["interpretation"]["groups"] == "the batches' entry 'film' (group_key)"


def test_the_setting_comes_before_the_batches_and_may_say_that_samples_are_independent(scorer, audited):
    sides = side("m", key="group"), side("n", key="group")
    alone = Auditor(scorer=scorer, groups="none").run(MODEL, *sides)
    assert alone.groups is None
    assert alone.interval() == delong_interval(alone.scores["membership"], alone.member)[1:]
    of_groups = {key for key in audited.metrics if key.startswith(("audit/group/", "audit/groups/"))}
    matched = {key for key in alone.metrics if "/matched_auc" in key}  # of the verdict's score: where sides differ
    assert alone.metrics.keys() - matched == audited.metrics.keys() - of_groups - matched
    assert "independent" in alone.meta["interpretation"]["groups"]
    pairs = Auditor(scorer=scorer, groups=lambda id: id[0] + str(int(id[1]) // 2)).run(MODEL, *sides)
    assert pairs.metric("groups/members") == 4


def test_too_few_groups_are_refused_in_words_and_end_nothing(scorer, tmp_path):
    result = Auditor(scorer=scorer, output_dir=tmp_path).run(
        MODEL, side("m", 3, 10, key="group"), side("n", 3, 10, key="group")
    )
    assert np.isfinite(result.auc)
    bounds = ("auc_low/membership", "auc_high/membership", "tpr_low_at_fpr_0.01/membership", "auc_gain_low")
    assert np.isnan([result.metric(key) for key in bounds]).all()
    assert result.verdict.summary == "inconclusive (too few samples)"
    assert "3 groups on a side are too few" in result.verdict.limitation
    assert "at least 6 groups" in result.verdict.limitation
    assert AuditResult.from_json(tmp_path / "result.json").groups == result.groups


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"m0-0": "a"}, r"47 of 48 samples have no group by a mapping.*'m0-1', 'm0-2'.*look like 'm0-0'"),
        (lambda id: None if id == "n3-1" else id, r"1 of 48 samples have no group by a function.*'n3-1'"),
        (lambda id: {"m0-0": 1}[id], r"failed for the id 'm0-1' \(KeyError"),
    ],
)
def test_ids_without_a_group_are_named(scorer, setting, message):
    with pytest.raises(ValueError, match=message):
        Auditor(scorer=scorer, groups=setting).run(MODEL, side("m"), side("n"))
    with pytest.raises(ValueError, match=r"no group|failed for the id"):
        Auditor(scorer=scorer, groups=setting).check(MODEL, side("m"), side("n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,patient\na,1\n", "lacks the column.* group: .*found \\['id', 'patient'\\]"),
        ("id,group\na,\n", "line 2: no group"),
        ("id,group\na,1\na,2\n", "line 3: 'a' is in the groups '1' and '2'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_any_audit(tmp_path, text, message):
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        Auditor(groups=tmp_path / "groups.csv")


def test_what_is_neither_file_nor_function_is_refused():
    with pytest.raises(ValueError, match=r"CSV file with the columns id and group.*'nowhere.csv'.*no such file"):
        Auditor(groups="nowhere.csv")
    with pytest.raises(ValueError, match=r"there is no such file, and it cannot be imported \(No module"):
        Auditor(groups="no_such_package.of")
    with pytest.raises(ValueError, match=r"'os\.sep' is a str"):
        Auditor(groups="os.sep")
    with pytest.raises(TypeError, match="but got int"):
        Auditor(groups=3)
    assert AuditConfig(groups="patients.csv").to_meta()["groups"] == "patients.csv"


def test_samples_without_a_group_beside_others_count_by_themselves(scorer):
    members = side("m", key="group")
    nonmembers = side("n")
    result = Auditor(scorer=scorer).run(MODEL, members, nonmembers)
    assert result.groups[-24:] == [""] * 24
    assert (result.metric("groups/members"), result.metric("groups/nonmembers")) == (8, 24)
    assert "24 samples without one are taken to be independent" in result.meta["interpretation"]["groups"]


def test_groups_are_kept_in_files_and_in_checkpoints(audited, tmp_path):
    path = write_audit(audited, tmp_path)
    assert AuditResult.from_json(path).groups == audited.groups
    header, first, *_ = path.with_suffix(".csv").read_text().splitlines()
    assert header.startswith("id,side,group,error_")
    assert first.startswith("m0-0,member,m0,")
    entries = to_plain([audited, audited])
    assert entries[1]["groups"] is entries[0]["groups"]
    assert AuditResult.from_plain(entries[1]).groups == audited.groups
    written = write_history([audited], tmp_path)
    if written.suffix == ".csv":
        assert written.read_text().startswith("epoch,step,id,side,group,")
        assert ",m0-0,member,m0," in written.read_text()
    old = audited.to_plain()
    del old["groups"]
    assert AuditResult.from_plain(old).groups is None


def test_results_without_groups_have_no_column_and_no_entry(scorer, tmp_path):
    result = Auditor(scorer=scorer).run(MODEL, side("m"), side("n"))
    assert result.groups is None
    assert "groups" not in result.to_plain()
    assert "groups" not in result.meta
    assert not any(key.startswith("audit/groups") for key in result.metrics)
    assert result.to_csv(tmp_path / "a.csv").read_text().startswith("id,side,error_")


def test_stored_outputs_keep_groups(scorer, audited, tmp_path):
    auditor = Auditor(scorer=scorer, task="translation")
    folder = store_predictions(auditor, MODEL, side("m", key="group"), side("n", key="group"), tmp_path / "outputs")
    stored = audit_outputs(folder, scorer=scorer)
    assert stored.groups == audited.groups
    members = StoredArrays(folder / "members")
    assert members.groups is members.groups, "made once, and not for each item"
    assert [item["group"] for item in members] == members.groups
    last = members.only(members.ids[-1:])
    assert (last.groups, last[0]["group"]) == (members.groups[-1:], members.groups[-1])
    assert stored.interval() == audited.interval()


class Patients(Dataset[dict[str, object]]):
    """Samples whose groups are known before they are read."""

    def __init__(self, samples: list[dict[str, object]]) -> None:
        self.samples = samples
        self.groups = [patient_of(str(sample["id"])) for sample in samples]
        self.ids = [str(sample["id"]) for sample in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, object]:
        return self.samples[index]


def test_max_samples_draws_whole_groups_where_they_are_known(scorer):
    sides = [Patients(side(letter, key="group")) for letter in "mn"]
    result = Auditor(scorer=scorer, max_samples=15).run(MODEL, *sides)
    assert len(result.ids) == 30  # groups of 3: so few of them that all are drawn from
    assert result.metric("groups/members") == 8
    many = [Patients(side(letter, 9, 3) * 4) for letter in "mn"]
    for number, sample in enumerate(many):
        sample.groups = [f"{number}-{i // 3}" for i in range(len(sample))]
    parts = [Subset(one, range(3, len(one))) for one in many]
    drawn = Auditor(scorer=scorer, max_samples=62).side("member", parts[0], _model(scorer)).indices
    groups = [many[0].groups[i + 3] for i in drawn]
    assert len(drawn) == 60
    assert {groups.count(g) for g in groups} == {3}
    again = Auditor(scorer=scorer, max_samples=62).side("member", parts[0], _model(scorer)).indices
    assert again == drawn


def _model(scorer):
    from mia_lightning.audit.forward import AuditedModel, Runtime

    return AuditedModel(MODEL, Auditor(scorer=scorer).adapter, Runtime())


def test_groups_of_parts_of_data_sets_are_known():
    first, second = Patients(side("m")), Patients(side("n"))
    joined = ConcatDataset([Subset(first, [0, 5]), second])
    assert known_groups(joined)[:3] == ["m0", "m1", "n0"]
    assert known_groups(joined, Grouping(lambda id: id[0]))[:3] == ["m", "m", "n"]
    assert known_groups(joined, Grouping("none")) is None
    assert known_groups(ConcatDataset([first, side("n")])) is None
    assert known_groups(side("m", key="group")) is None  # would have to be read


def test_names_match_in_either_form():
    grouping = Grouping({"/data/a.png": "x", "b.png": "y", "ü": "z"})
    assert grouping.of(["a.png", "b.png", "u\u0308"], ["/data/a.png", "/data/b.png", "u\u0308"]) == ["x", "y", "z"]


def test_near_copies_without_groups_are_said(scorer):
    result = Auditor(scorer=scorer).run(MODEL, side("m", 8, 1) * 2 + side("o", 8, 1), side("n", 12, 1))
    assert result.meta["near_copies"] == {"samples": 16, "across": 0, "compared": 36}
    remark = next(remark for remark in result.verdict.remarks if "16 of 36 samples look nearly like" in remark)
    assert "intervals are too narrow" in remark
    assert "groups='none'" in remark
    again = AuditResult.from_plain(result.to_plain())
    assert again.verdict.remarks == result.verdict.remarks
    for setting in ("none", lambda id: id):
        other = Auditor(scorer=scorer, groups=setting).run(MODEL, side("m", 8, 1) * 2, side("n", 12, 1))
        assert "near_copies" not in other.meta


def test_pictures_that_differ_are_no_near_copies(scorer):
    result = Auditor(scorer=scorer).run(MODEL, side("m", 24, 1), side("n", 24, 1))
    assert "near_copies" not in result.meta


def test_processes_agree_on_groups(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    workers = importlib.import_module("gloo_workers_audit")
    start_processes(workers.audit_groups, args=(2, str(tmp_path)), nprocs=2, start_method=START)
    reports = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    alone = [workers.auditor(**s).run(workers.model, *workers.in_groups()) for s in ({}, {"groups": patient_of})]
    assert alone[0].groups[-1] == ""
    for report in reports:
        for plain, expected in zip(report["results"], alone, strict=True):
            result = AuditResult.from_plain(plain)
            assert (result.ids, result.groups) == (expected.ids, expected.groups)
            assert result.metrics == pytest.approx(expected.metrics, abs=1e-6, nan_ok=True)
            assert result.meta["groups"] == expected.meta["groups"]
        assert "have no group by a mapping of the ids" in report["message"]


def test_the_group_column_of_a_data_module_reaches_the_result(scorer, tmp_path):
    rng = np.random.default_rng(0)
    rows = ["id,split,building"]
    for split in ("train", "val"):
        for i in range(14):
            for folder in ("A", "B"):
                (tmp_path / folder).mkdir(exist_ok=True)
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / f"{split}{i:02d}.png")
            rows.append(f"{split}{i:02d},{split},{split} house {i // 2}")
    (tmp_path / "splits.csv").write_text("\n".join(rows))
    data = PairedImageDataModule(tmp_path, group_column="building", image_size=16)
    data.setup()
    members, nonmembers = data.audit_dataloaders()
    assert members.dataset[3]["group"] == "train house 1"
    assert next(iter(data.train_dataloader()))["group"][0].startswith("train house")
    result = Auditor(scorer=scorer).run(MODEL, members, nonmembers)
    assert result.groups[0] == "train house 0"
    assert result.meta["groups"] == {"members": 7, "nonmembers": 7, "on_both_sides": 0}
    drawn = Auditor(scorer=scorer, max_samples=5).run(MODEL, members, nonmembers)
    assert len(set(drawn.groups)) == 10  # some of as many groups as there may be
    plain = PairedImageDataModule(tmp_path, image_size=16)
    plain.setup()
    assert "group" not in plain.audit_dataloaders()[0].dataset[0]


def test_training_audits_go_on_with_groups_after_a_resume(scorer, tmp_path):
    class Translator(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return (self(batch["input"]) - batch["target"]).abs().mean()

        def validation_step(self, batch: Any, _: int) -> None:
            return None

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    sides = side("m", key="group"), side("n", key="group")
    loaders = [torch.utils.data.DataLoader(one, 8) for one in sides]
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    checkpoint = None
    for epochs in (1, 2):
        audit = MembershipAudit(*sides, scorer=scorer)
        trainer = lightning.Trainer(
            max_epochs=epochs, callbacks=[audit], default_root_dir=tmp_path, enable_checkpointing=False, **settings
        )
        trainer.fit(Translator(), *loaders, ckpt_path=checkpoint)
        checkpoint = str(tmp_path / "last.ckpt")
        trainer.save_checkpoint(checkpoint)
    assert [result.groups for result in audit.history] == [audit.result.groups] * 2
    assert audit.result.groups[:4] == ["m0", "m0", "m0", "m1"]
    assert '"m0"' not in Path(checkpoint).read_bytes().decode("latin1")


def test_the_command_line_takes_a_file_or_a_function(table, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(table.parent))
    (table.parent / "clinic_patients.py").write_text("def of(id):\n    return id[:2]\n")
    parser = ArgumentParser()
    add_settings(parser, ["groups"])
    for text in (str(table), "clinic_patients.of", "none"):
        groups = parser.parse_args(["--groups", text]).groups
        assert groups == text
        Auditor(groups=groups)
    parser = ArgumentParser()
    parser.add_class_arguments(AuditConfig, "audit")
    assert parser.parse_args(["--audit.groups", str(table)]).audit.groups == str(table)
    assert parser.parse_args([]).audit.groups is None
