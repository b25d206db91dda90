"""Checkpoints of before the training as offline reference models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_checkpoints import MEMBERS, NONMEMBERS, SCORER, Net, model, pairs
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from mia_lightning import Auditor, AuditResult, audit_checkpoint
from mia_lightning.attacks.reference_folder import Reference, ReferenceFolder
from mia_lightning.attacks.reference_scores import with_reference_scores
from mia_lightning.cli.main import main
from mia_lightning.membership.record import record_sides


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("target", 0), ("base", 1), ("other", 2)):
        torch.save({"state_dict": model(seed).state_dict()}, f"{name}.ckpt")


def audit(reference_ckpt, **options):
    return audit_checkpoint(
        Net(), None, "target.ckpt", members=MEMBERS, nonmembers=NONMEMBERS, accelerator="cpu", scorer=SCORER,
        reference_ckpt=reference_ckpt, **options,
    )  # fmt: skip


def trained(name, members, nonmembers, *, record):
    """Write a checkpoint as a training on these members leaves it; its record lies beside it, or was left behind."""
    summary, keys = record_sides(members, nonmembers, {}, None)
    state = {"callbacks": {"MembershipAudit": {"membership": summary.to_plain()}}}
    torch.save({"state_dict": model(3).state_dict(), **state}, name)
    if record:
        keys.write(Path(name).parent)


def as_named(dataset):
    return [(x, y, str(int(name))) for x, y, name in dataset]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_they_are_reference_models_that_saw_none_of_the_samples(seeds):
    names = [{1: "base.ckpt", 2: "other.ckpt"}[seed] for seed in seeds]
    result = audit(names[0] if len(names) == 1 else names)
    plain = Auditor(scorer=SCORER).run(model(0), MEMBERS, NONMEMBERS)
    models = [(model(seed), []) for seed in seeds]
    expected = with_reference_scores(plain, models, MEMBERS, NONMEMBERS, Auditor(scorer=SCORER))
    offline = {"difficulty", "lira_offline", "rmia_offline", "combined_references"}
    assert offline <= set(result.scores)
    for name in (*offline & set(expected.scores), "difficulty"):
        np.testing.assert_allclose(result.scores[name], expected.scores[name], rtol=1e-4, atol=1e-5)
    # By hand: how much lower the logarithm of the target's mean absolute error is than theirs, on average.
    pictures = [torch.cat(both) for both in zip(MEMBERS.tensors, NONMEMBERS.tensors, strict=True)]
    logs = [(net(pictures[0]) - pictures[1]).abs().mean((1, 2, 3)).log() for net in map(model, (0, *seeds))]
    gap = (torch.stack(logs[1:]).mean(0) - logs[0]).detach().numpy()
    np.testing.assert_allclose(result.scores["difficulty"], gap, rtol=1e-3, atol=1e-5)
    assert not {"lira_online", "rmia_online"} & set(result.scores)
    assert any(note.startswith("No score rmia_online: no audited sample has both") for note in result.meta["notes"])
    record = result.meta["references"]
    assert (record["count"], record["folder"], record["checkpoints"]) == (len(seeds), None, names)
    stated = result.meta["interpretation"]["reference checkpoints"]
    assert stated == f"models that were trained on none of the audited samples, by assumption ({', '.join(names)})"


@pytest.mark.usefixtures("files")
def test_an_audit_without_them_is_what_it_was():
    result = audit(())
    assert "references" not in result.meta
    assert "reference checkpoints" not in result.meta["interpretation"]
    assert "difficulty" not in result.scores


@pytest.mark.usefixtures("files")
def test_what_is_no_reference_is_refused_before_the_audit(tmp_path, monkeypatch):
    torch.save({"state_dict": Net(width=5).state_dict()}, "wider.ckpt")
    torch.save({"state_dict": model(0).state_dict()}, "copy.ckpt")
    (tmp_path / "broken.ckpt").write_bytes(b"nothing")
    monkeypatch.setattr("mia_lightning.audit.auditor.Auditor.run", None)
    for names, error, message in (
        ("nowhere.ckpt", FileNotFoundError, r"\(--reference_ckpt\): The checkpoint nowhere.ckpt does not exist. Check"),
        (
            "broken.ckpt",
            ValueError,
            r"broken.ckpt cannot be read as a checkpoint: .*Name another with --reference_ckpt",
        ),
        ("wider.ckpt", ValueError, r"checkpoint of another model than Net: tensors .* of another shape"),
        ("copy.ckpt", ValueError, "copy.ckpt has the very weights of the audited checkpoint"),
        (["base.ckpt", "base.ckpt"], ValueError, "base.ckpt has the very weights of base.ckpt"),
    ):
        with pytest.raises(error, match=message):
            audit(names)
    with pytest.raises(ValueError, match=r"that was trained on half of the samples: name the folder .*--references"):
        audit("base.ckpt", patch=True)


@pytest.mark.usefixtures("files")
def test_one_that_was_trained_on_the_audited_members_is_refused():
    trained("earlier.ckpt", MEMBERS, NONMEMBERS, record=False)
    message = r"earlier\.ckpt was itself trained on audited samples, 24 members \(.*\) by the record of its training"
    with pytest.raises(ValueError, match=message):
        audit(["base.ckpt", "earlier.ckpt"])


HALVES = [ConcatDataset([Subset(MEMBERS, half), Subset(NONMEMBERS, half)]) for half in (range(12), range(12, 24))]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("sides", "record", "found"),
    [
        ((NONMEMBERS, MEMBERS), True, r"24 nonmembers"),
        ((NONMEMBERS, MEMBERS), False, r"24 nonmembers"),
        ((NONMEMBERS, pairs(24, 2)), False, r"24 nonmembers"),
        (HALVES, True, r"12 members \(.*\) and 12 nonmembers"),
        ((ConcatDataset([pairs(500, 2), Subset(NONMEMBERS, [5])]), MEMBERS), True, r"1 nonmembers \('position 5'\)"),
    ],
)
def test_one_that_was_trained_on_other_audited_samples_is_refused(sides, record, found, monkeypatch):
    monkeypatch.setattr("mia_lightning.audit.auditor.Auditor.run", None)
    trained("earlier.ckpt", *sides, record=record)
    with pytest.raises(ValueError, match=rf"trained on audited samples, {found}.* by .*for --references FOLDER"):
        audit("earlier.ckpt")


@pytest.mark.usefixtures("files")
def test_one_that_was_trained_on_other_samples_counts():
    Path("earlier").mkdir()
    trained("earlier/last.ckpt", pairs(24, 2), NONMEMBERS, record=True)
    result = audit("earlier/last.ckpt")
    assert "by assumption (earlier/last.ckpt)" in result.meta["interpretation"]["reference checkpoints"]


@pytest.mark.usefixtures("files")
def test_the_record_of_a_folder_of_reference_models_is_read(tmp_path):
    named = [TensorDataset(*side.tensors, torch.arange(24) + start) for start, side in ((0, MEMBERS), (24, NONMEMBERS))]
    options = {"members": as_named(named[0]), "nonmembers": as_named(named[1])}
    reference = Reference(0, tmp_path / "references" / "000")
    reference.assign(["3", "30", "31"], ["4"])
    torch.save({"state_dict": model(3).state_dict()}, reference.checkpoint)

    def run():
        return audit_checkpoint(
            Net(), None, "target.ckpt", **options, accelerator="cpu", scorer=SCORER,
            reference_ckpt=str(reference.checkpoint),
        )  # fmt: skip

    with pytest.raises(ValueError, match=r"1 members \('3'\) and 2 nonmembers \('30', '31'\) by .*members\.json"):
        run()
    (reference.folder.parent / "references.json").write_text("{}")
    with pytest.raises(ValueError, match=rf"whose samples are known: --references {tmp_path / 'references'}"):
        run()
    (reference.folder / "members.json").write_text("[]")
    with pytest.raises(ValueError, match=r"members\.json beside .* does not tell what .* copy of the checkpoint"):
        run()
    (reference.folder / "members.json").unlink()
    reference.assign(["60", "61"], ["62"])
    assert run().meta["references"]["count"] == 1


@pytest.mark.usefixtures("files")
def test_the_command_line_takes_several_and_names_what_is_missing(capsys):
    words = ["audit", "--ckpt_path=target.ckpt", "--model=Pix2Pix", "--data=DemoDataModule"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--reference_ckpt", "base.ckpt", "nowhere.ckpt"])
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert "The checkpoint nowhere.ckpt does not exist. Checkpoints there: base.ckpt, other.ckpt" in message
    assert "Name another with --reference_ckpt." in message
    with pytest.raises(SystemExit):
        main([*words, "--references", "base.ckpt"])
    assert "base.ckpt is a file; a checkpoint that is to count as one is named with --reference_ckpt" in (
        capsys.readouterr().err
    )


def folder_of(*states, ids=("member-000000", "member-000001")):
    """A folder of reference models with these weights, each trained on the first of two samples."""
    folder = ReferenceFolder(Path("refs"), len(states), 0).opened()
    for number, state in enumerate(states):
        reference = folder.reference(number)
        reference.assign(ids[:1], ids[1:])
        reference.finish(1.0, 1)
        torch.save({"state_dict": state}, reference.checkpoint)
    return folder


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: torch.save({"state_dict": Net(width=5).state_dict()}, path),
            r"references \(--references\): refs/001/last\.ckpt is a checkpoint of another model than Net: tensors 3 of "
            r"another shape .* Expected reference models of the audited architecture: train them with",
        ),
        (lambda path: torch.save({"state_dict": {"net.0.bias": torch.zeros(3)}}, path), "tensors 3 missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "cannot be read as a checkpoint"),
        (lambda path: path.unlink(), r"refs/001/last\.ckpt"),
        (lambda path: (path.parent / "members.json").write_text("{"), "does not tell what reference model 2 was"),
    ],
)
def test_a_folder_with_a_model_that_does_not_fit_is_refused_before_the_audit(spoil, message, monkeypatch):
    spoil(folder_of(model(1).state_dict(), model(2).state_dict()).reference(1).checkpoint)
    monkeypatch.setattr(Auditor, "run", None)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        audit((), references="refs")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("checkpoints", [False, True])
def test_models_without_numbers_are_left_out_and_the_audit_is_written(checkpoints):
    diverged = {name: torch.full_like(value, torch.nan) for name, value in model(2).state_dict().items()}
    folder = folder_of(model(1).state_dict(), diverged)
    torch.save({"state_dict": diverged}, "other.ckpt")
    names = {"reference_ckpt": ["base.ckpt", "other.ckpt"]} if checkpoints else {"references": "refs"}
    path = "other.ckpt" if checkpoints else folder.reference(1).checkpoint
    with pytest.warns(UserWarning, match="Reference model 2 of those given has no number for 48 of the 48"):
        audit_of_both = audit(names.pop("reference_ckpt", ()), **names, output_dir="out", verdict="primary")
    result = AuditResult.from_json("out/result.json")
    assert result.scores.keys() == audit_of_both.scores.keys() >= {"difficulty"}
    assert result.meta["references"]["count"] == 1
    assert any(note.endswith(f"It is left out: {path}.") for note in result.meta["notes"])
    assert result.meta["interpretation"]["reference models"].startswith("without number 2 of those given")


@pytest.mark.usefixtures("files")
def test_models_of_other_data_leave_their_scores_out_and_the_audit_is_written():
    folder_of(model(1).state_dict(), ids=("elsewhere", "nowhere"))
    with pytest.warns(UserWarning, match="No scores of reference models: None of the 48 audited samples"):
        audit((), references="refs", output_dir="out", verdict="primary")
    result = AuditResult.from_json("out/result.json")
    assert "references" not in result.meta
    assert any(note.startswith("No scores of reference models: None of") for note in result.meta["notes"])
