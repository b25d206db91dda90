"""Reference models through the real command line, on a few small pictures."""

import json
import re
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mia_lightning import Auditor, AuditResult, DemoDataModule, Pix2Pix, registry
from mia_lightning.attacks.reference_audit import reference_models
from mia_lightning.attacks.reference_folder import ReferenceFolder, load_references
from mia_lightning.attacks.reference_scores import with_reference_scores
from mia_lightning.checkpoints.trained_weights import load_weights
from mia_lightning.cli.main import main
from mia_lightning.cli.references_command import ReferencesCLI, _share

PAIRS = 24
MODEL = {"image_size": 32, "ngf": 8, "ndf": 8}
DATA = {"num_pairs": PAIRS, "image_size": 32, "seed": 1}
SMALL = [
    *("--model=Pix2Pix", "--model.lr=0.002", *(f"--model.{k}={v}" for k, v in MODEL.items())),
    *("--data=DemoDataModule", "--data.batch_size=6", *(f"--data.{k}={v}" for k, v in DATA.items())),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--seed_everything=1"),
]
OVERFIT = [*SMALL, "--trainer.max_epochs=25"]
# What a configuration may hold beside: callbacks that need a logger or a validation that reference models do not have.
QUICK = [
    *(*SMALL, "--trainer.max_epochs=2", "--trainer.limit_train_batches=1", "--num=2"),
    *("--trainer.callbacks+=LearningRateMonitor", "--trainer.callbacks+=EarlyStopping"),
    "--trainer.callbacks.monitor=val/l1",
]


class Zeros:
    def __call__(self, input, target, task, *, num_classes, ignore_index):
        return torch.zeros(len(input))

    def fingerprint(self):
        return "zeros"


@pytest.fixture(autouse=True)
def inside_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory):
    """Four reference models and their target, which know their pairs by heart."""
    root = tmp_path_factory.mktemp("overfitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        main(["references", *OVERFIT])
        there = {p.relative_to(root).parts[0] for p in root.rglob("*")}
        options = ["--model.audit=false", "--trainer.logger=false", "--trainer.limit_val_batches=0"]
        main(["fit", *OVERFIT, *options])
    (checkpoint,) = root.glob("checkpoints/*.ckpt")
    return root / "references", checkpoint, there


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """A folder of two reference models of two steps each, and what their training printed."""
    root = tmp_path_factory.mktemp("quick")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.chdir(root)
        main(["references", *QUICK])
    return root / "references", printed.getvalue()


@pytest.fixture
def quick(two_models, tmp_path):
    """A copy of them, with their times, where the test runs."""
    folder, printed = two_models
    return Path(shutil.copytree(folder, tmp_path / "references")), printed


def failure(capsys, args, status=1):
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == status
    return capsys.readouterr().err


def weights(folder, number):
    return torch.load(folder / f"{number:03d}" / "last.ckpt", weights_only=True)["state_dict"]


def changed_at(folder):
    return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob("*/last.ckpt")}


# ---- what is trained


@pytest.mark.slow
def test_reference_models_find_the_members_of_an_overfitted_target(overfitted):
    folder, checkpoint, _ = overfitted
    target = Pix2Pix(**MODEL)
    load_weights(target, checkpoint)
    sides = DemoDataModule(**DATA).audit_dataloaders()
    auditor = Auditor(scorer=Zeros())
    result = auditor.run(target, *sides)
    references = load_references(folder)
    models = reference_models(references, target, load_weights)
    found = with_reference_scores(result, models, *sides, auditor, folder=references)
    for name in ("lira_online", "lira_offline", "rmia_online", "rmia_offline", "difficulty"):
        assert found.metric(f"auc/{name}") > 0.65, name
    assert found.meta["references"]["count"] == 4
    assert found.meta["references"]["folder"] == str(folder)
    assert found.meta["notes"] == result.meta["notes"]


@pytest.mark.usefixtures("quick_features")
def test_the_audit_command_uses_them(quick):
    folder, _ = quick
    options = [f"--ckpt_path={folder}/001/last.ckpt", f"--references={folder}", "--output_dir=out"]
    main(["audit", *SMALL, *options, "--unverified_members=true"])  # it has coins of its own
    result = AuditResult.from_json("out/result.json")
    named = {s.name for s in registry.scores if "references" in s.needs and s.name != "patch"}
    assert named <= set(result.scores)
    assert result.meta["references"]["count"] == 2


@pytest.mark.slow
@pytest.mark.usefixtures("quick_features")
def test_the_audit_command_finds_members_by_them(overfitted):
    folder, checkpoint, _ = overfitted
    options = [f"--ckpt_path={checkpoint}", f"--references={folder}", "--patch=true", "--output_dir=out"]
    main(["audit", *OVERFIT, *options])
    result = AuditResult.from_json("out/result.json")
    assert {s.name for s in registry.scores if "references" in s.needs} <= set(result.scores)
    assert result.metric("auc/lira_online") > 0.65
    assert result.meta["references"]["count"] == 4
    assert "score_rmia_offline" in Path("out/samples.csv").read_text().splitlines()[0]


@pytest.mark.slow
def test_each_model_is_trained_on_its_half_and_on_nothing_else(overfitted):
    folder, _, there = overfitted
    assert there == {"references"}
    data = DemoDataModule(**DATA)
    for number in range(4):
        half = data.redrawn(1 + number // 2, complement=number % 2 == 1)
        wanted = [sorted(r.id for r in loader.dataset.records) for loader in half.audit_dataloaders()]
        own = folder / f"{number:03d}"
        assert sorted(p.name for p in own.iterdir()) == ["done.json", "last.ckpt", "members.json"]
        assert list(json.loads((own / "members.json").read_text()).values()) == wanted
        done = json.loads((own / "done.json").read_text())
        assert done["epochs"] == 25
        assert done["seconds"] > 0
        model = Pix2Pix(**MODEL).eval()
        load_weights(model, own / "last.ckpt")
        result = Auditor(scorer=Zeros()).run(model, *half.audit_dataloaders())
        assert result.metric("auc/reconstruction") > 0.65, "it knows its own half"


def test_every_model_begins_with_weights_of_its_own(quick):
    folder, _ = quick
    pl.seed_everything(1, verbose=False)
    target = Pix2Pix(**MODEL).state_dict()
    name = next(k for k in target if k.endswith("weight"))
    # After two steps weights are near those they began with.
    several = [target[name], weights(folder, 0)[name], weights(folder, 1)[name]]
    for i in range(3):
        for j in range(i):
            assert (several[i] - several[j]).abs().mean() > 0.005


def test_the_training_says_where_it_is_and_what_to_do_next(quick):
    folder, printed = quick
    assert re.search(r"Reference model 1 of 2 \(references/000\): \d+ of 24 samples\.", printed)
    assert "Reference model 2 of 2 (references/001)" in printed
    assert "2 of 2 reference models in references are trained." in printed
    assert "--ckpt_path CHECKPOINT --references references" in printed
    manifest = json.loads((folder / "references.json").read_text())
    assert (manifest["num"], manifest["seed"]) == (2, 1)
    assert manifest["config"]["trainer"]["callbacks"] == []  # what watches does not decide


# ---- going on


def test_what_is_trained_is_left_alone_and_more_can_be_added(quick, capsys):
    folder, _ = quick
    before = changed_at(folder)
    main(["references", *QUICK, "--num=3", "--model.audit=false", "--data.num_workers=0", "--trainer.logger=false"])
    printed = capsys.readouterr().out
    assert "Reference model 1 of 3 (references/000) is trained already." in printed
    assert "An odd --num (3) leaves one half without its mirror image; 4 would be balanced." in printed
    assert changed_at(folder).items() > before.items()
    assert load_references(folder).num == 3
    main(["references", *QUICK])  # fewer again
    assert load_references(folder).num == 3
    assert "3 of 3 reference models" in capsys.readouterr().out


def test_an_interrupted_training_goes_on_from_its_last_epoch(tmp_path, monkeypatch, capsys):
    save, epochs = ModelCheckpoint.on_train_epoch_end, []

    def stumble(self, trainer, module):
        save(self, trainer, module)
        epochs.append((Path(self.dirpath).name, trainer.current_epoch))
        if epochs[-1] == ("001", 0):
            raise RuntimeError("the power went off")

    monkeypatch.setattr(ModelCheckpoint, "on_train_epoch_end", stumble)
    with pytest.raises(RuntimeError, match="the power went off"):
        main(["references", *QUICK, "--trainer.max_epochs=3"])
    folder = Path("references")
    assert [r.number for r in ReferenceFolder.read(folder).finished()] == [0]
    assert torch.load(folder / "001" / "last.ckpt", weights_only=True)["epoch"] == 0
    capsys.readouterr()
    before, epochs[:] = changed_at(folder), []
    main(["references", *QUICK, "--trainer.max_epochs=3"])
    printed = capsys.readouterr().out
    assert "Reference model 1 of 2 (references/000) is trained already." in printed
    assert "It goes on from references/001/last.ckpt." in printed
    assert epochs == [("001", 1), ("001", 2)]
    assert changed_at(folder)["000"] == before["000"]
    assert json.loads((folder / "001" / "done.json").read_text())["epochs"] == 3
    kept = torch.load(folder / "001" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 2
    assert kept["callbacks"]["Timer"]["time_elapsed"]["train"] > 0


def test_one_that_lost_its_last_word_is_finished_without_training_again(quick):
    folder, _ = quick
    before = weights(folder, 1)
    (folder / "001" / "done.json").unlink()
    main(["references", *QUICK])
    assert (folder / "001" / "done.json").is_file()
    assert all(torch.equal(value, before[name]) for name, value in weights(folder, 1).items())


def test_another_configuration_is_refused(quick, capsys):
    folder, _ = quick
    before = changed_at(folder)
    message = failure(capsys, ["references", *QUICK, "--model.ngf=4", "--trainer.max_epochs=5"])
    assert (
        "The reference models in references are of another configuration: model.init_args.ngf was 8 and is 4 now; "
        in message
    )
    assert "trainer.max_epochs was 2 and is 5 now. Give the settings that they were begun with, or another" in message
    assert changed_at(folder) == before


def test_other_pairs_under_the_same_settings_are_noticed(quick, capsys):
    folder, _ = quick
    (folder / "000" / "done.json").unlink()
    members = json.loads((folder / "000" / "members.json").read_text())
    members["trained_on"].append("one-more")
    (folder / "000" / "members.json").write_text(json.dumps(members))
    message = failure(capsys, ["references", *QUICK])
    assert "The data have changed since references/000/members.json was written: its 25 samples" in message


# ---- several at a time


def test_a_part_trains_its_share_only(tmp_path, capsys):
    main(["references", *QUICK, "--part=2/2"])
    assert [r.number for r in load_references("references").finished()] == [1]
    assert "1 of 2 reference models in references are trained." in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_train_what_one_would(quick, capsys):
    folder, _ = quick
    main(["references", *QUICK, "--output_dir=two", "--parallel=2"])
    printed = capsys.readouterr().out
    assert "Reference model 1 of 2 (two/000) is trained." in printed
    assert "Reference model 2 of 2 (two/001) is trained." in printed
    assert sorted(p.name for p in Path("two").iterdir()) == ["000", "001", "references.json"]
    for number in range(2):
        one, two = weights(folder, number), weights(Path("two"), number)
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, msg=name)


def test_ctrl_c_ends_the_command_without_a_traceback(monkeypatch, capsys):
    def interrupted(commands, folder, **settings):
        assert [command[3] for command in commands] == ["references"] * 2  # no more processes than models
        raise KeyboardInterrupt

    monkeypatch.setattr("mia_lightning.cli.references_command.train_in_parallel", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(["references", *QUICK, "--parallel=9"])
    assert stopped.value.code == 130
    assert "Interrupted. The same command goes on from here." in capsys.readouterr().out


def test_a_share_is_read_from_its_option():
    assert _share(5, None, 1) == (1, 1)
    assert [_share(5, part, 1) for part in ("1/2", "2/2", "3/3")] == [(1, 2), (2, 2), (3, 3)]


# ---- what cannot be


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num=1"], "Expected --num of at least 2 reference models, but got 1."),
        (["--parallel=0"], "Expected --parallel of at least 1 process, but got 0."),
        (["--part=3/2"], "Expected --part i/n with 1 <= i <= n, such as 1/2, but got '3/2'."),
        (["--part=half"], "Expected --part i/n with 1 <= i <= n, such as 1/2, but got 'half'."),
        (["--part=1/2", "--parallel=2"], "Expected --parallel or --part, but got both"),
        (["--ckpt_path=target.ckpt"], "Reference models start from scratch: one that started from --ckpt_path would"),
        (["--trainer.devices=2"], "Each reference model is trained on one device, but trainer.devices=2 and trainer.n"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(options, message, capsys, tmp_path):
    assert message in failure(capsys, ["references", *QUICK, *options])
    assert not list(tmp_path.iterdir())


def test_a_data_module_that_cannot_be_redrawn_is_refused(capsys, tmp_path):
    data = "lightning.pytorch.demos.boring_classes.BoringDataModule"
    args = [*(a for a in SMALL if not a.startswith("--data")), f"--data={data}"]
    message = failure(capsys, ["references", *args])
    assert "BoringDataModule has no redrawn(seed, complement=False): reference models are trained on new" in message
    assert not list(tmp_path.iterdir())


def test_a_mistyped_option_is_told_with_those_there_are(capsys):
    message = failure(capsys, ["references", *QUICK, "--nun=4"], 2)
    assert "unknown option '--nun' (did you mean '--num'?); options there are" in message


def test_a_strategy_for_all_devices_is_narrowed_to_one(monkeypatch):
    seen = {}
    monkeypatch.setattr(ReferencesCLI, "references", lambda self, **kwargs: seen.update(trainer=self.trainer))
    main(["references", *QUICK, "--trainer.devices=auto"])
    assert seen["trainer"].num_devices == 1
    assert not seen["trainer"].loggers
    kinds = {type(c).__name__ for c in seen["trainer"].callbacks}
    assert not kinds & {"MembershipAudit", "RunFolder"}
