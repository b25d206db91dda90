"""Benchmarks through the real command line, on a few small pictures."""

import csv
import json
import signal
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from scipy import stats
from torch import nn

from mia_lightning import AuditResult, DemoDataModule, Pix2Pix
from mia_lightning.cli.main import main
from mia_lightning.features import PredictabilityScorer
from mia_lightning.functional.roc import roc_auc

DATA = {"num_pairs": 24, "image_size": 32, "seed": 1}
SMALL = [
    *("--model=Pix2Pix", "--model.image_size=32", "--model.ngf=8", "--model.ndf=8"),
    *("--data=DemoDataModule", "--data.batch_size=6", *(f"--data.{k}={v}" for k, v in DATA.items())),
    *("--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--trainer.limit_train_batches=1"),
    *("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/l1"),
]
TWO = ["benchmark", *SMALL, "--output=bench", "--references=1", "--seeds", "1", "2"]


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        scorer = "mia_lightning.audit.auditor.PredictabilityScorer"
        patch.setattr(scorer, lambda: PredictabilityScorer(nn.AvgPool2d(4), grid=4))
        yield


@pytest.fixture(scope="module")
def twice(quick):
    """A benchmark of two seeds with a reference model each, interrupted once: what both calls printed, and epochs."""
    save, epochs, texts, hear = ModelCheckpoint.on_train_epoch_end, [], [StringIO(), StringIO()], signal.SIGINT

    def stumble(self, trainer, module):
        save(self, trainer, module)
        epochs.append((str(self.dirpath).partition("bench/")[2], trainer.current_epoch))
        if len(epochs) == 1:
            raise KeyboardInterrupt

    before = signal.getsignal(hear)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelCheckpoint, "on_train_epoch_end", stumble)
        with redirect_stdout(texts[0]), pytest.raises(SystemExit) as stopped:
            main(TWO)
        signal.signal(hear, before)  # a trainer that is interrupted switches it off
        assert stopped.value.code == 130
        with redirect_stdout(texts[1]):
            main(TWO)
    return *(text.getvalue() for text in texts), epochs


@pytest.fixture
def printed(twice):
    """What the second call printed."""
    return twice[1]


def failure(capsys, args, status=1):
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == status
    return capsys.readouterr().err


def result_of(seed):
    return AuditResult.from_json(f"bench/seed-{seed}/audit/result.json")


def changed():
    return {path: path.stat().st_mtime_ns for path in Path("bench").rglob("*") if path.suffix in (".ckpt", ".json")}


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_one_that_was_interrupted_goes_on_from_its_last_epoch(twice):
    first, second, epochs = twice
    assert "Interrupted. What is finished is kept, and the same command goes on from here." in first
    assert "It goes on from bench/seed-1/target/last.ckpt." in second
    places = ["seed-1/target", "seed-1/references/000", "seed-2/target", "seed-2/references/000"]
    assert epochs == [(place, epoch) for place in places for epoch in (0, 1)]


@pytest.mark.usefixtures("printed")
def test_the_table_holds_the_means_of_the_audits_with_students_intervals():
    rows = {row["score"]: row for row in csv.DictReader(Path("bench/table.csv").read_text().splitlines())}
    assert {"membership", "combined", "difficulty", "rmia_offline", "combined_references"} <= set(rows)
    areas = {n: [roc_auc((r := result_of(seed)).scores[n], r.member) for seed in (1, 2)] for n in rows}
    for name, row in rows.items():
        mean = sum(areas[name]) / 2
        low, high = stats.t.interval(0.95, 1, loc=mean, scale=stats.sem(areas[name]))
        assert [float(row[f"auc{end}"]) for end in ("", "_low", "_high")] == pytest.approx([mean, low, high])
    gaps = [a - b for a, b in zip(areas["difficulty"], areas["combined"], strict=True)]
    low, high = stats.t.interval(0.95, 1, loc=sum(gaps) / 2, scale=stats.sem(gaps))
    found = [float(rows["difficulty"][f"auc_minus_combined{end}"]) for end in ("", "_low", "_high")]
    assert found == pytest.approx([sum(gaps) / 2, low, high])
    each = list(csv.DictReader(Path("bench/trainings.csv").read_text().splitlines()))
    assert [float(row["auc"]) for row in each if row["score"] == "combined"] == pytest.approx(areas["combined"])


def test_screen_and_markdown_say_what_the_numbers_are(printed):
    text = Path("bench/table.md").read_text()
    assert "Mean over 2 trainings" in printed
    assert "2 target(s) and 1 reference model(s) each in bench; who is a member is drawn anew for each" in printed
    assert "| `combined` |" in text
    assert "95 % interval of the mean over trainings (Student's t, 1 degrees of freedom" in text
    assert "TPR at 1 % FPR: not estimable with" in text
    assert "No score lira_online: no audited sample has both" in text


@pytest.mark.usefixtures("printed")
def test_each_training_has_coins_and_weights_of_its_own_on_the_same_pairs():
    places = [Path("bench") / f"seed-{seed}" / kind for seed in (1, 2) for kind in ("target", "references/000")]
    sides = [json.loads((place / "members.json").read_text()) for place in places]
    pools = {frozenset(side["trained_on"] + side["left_out"]) for side in sides}
    assert [len(pool) for pool in pools] == [24]
    assert len({frozenset(side["trained_on"]) for side in sides}) == 4
    half = DemoDataModule(**DATA).redrawn(2).audit_dataloaders()[0]
    assert sorted(record.id for record in half.dataset.records) == sides[2]["trained_on"]
    result = result_of(2)
    assert {n for n, m in zip(result.ids, result.member, strict=True) if m} == set(sides[2]["trained_on"])
    assert result.meta["references"]["count"] == 1
    assert result.meta["members"]["verified"]
    name = "generator"
    first = [next(v for k, v in weights(place / "last.ckpt").items() if k.startswith(name)) for place in places]
    assert all((a - b).abs().mean() > 0.005 for i, a in enumerate(first) for b in first[:i])


@pytest.mark.usefixtures("printed")
def test_a_second_call_trains_nothing_and_prints_the_same(monkeypatch, capsys):
    monkeypatch.setattr("lightning.pytorch.Trainer.fit", None)
    before, table = changed(), Path("bench/table.csv").read_text()
    main([*TWO, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (document["seeds"], len(document["files"])) == ([1, 2], 3)
    assert {row["score"]: row["trainings"] for row in document["benchmark"]}["combined"] == 2
    assert {p: t for p, t in changed().items() if p.name != "benchmark.json"}.items() <= before.items()
    assert Path("bench/table.csv").read_text() == table


@pytest.mark.slow
@pytest.mark.usefixtures("printed")
def test_other_settings_of_the_audit_audit_anew(capsys):
    before = changed()
    main([*TWO, "--audit.alpha=0.5"])
    renewed = {p for p, t in changed().items() if before.get(p) != t}
    assert {p for p in renewed if p.suffix == ".ckpt"} == set()
    assert {Path(f"bench/seed-{seed}/audit/result.json") for seed in (1, 2)} <= renewed
    assert result_of(1).meta["settings"]["alpha"] == 0.5


@pytest.mark.usefixtures("printed")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.ngf=4"], "benchmark in bench is of another configuration: model.init_args.ngf was 8 and is 4 now."),
        (["--ckpt_path=target.ckpt"], "The models of a benchmark start from scratch: what those of --ckpt_path"),
        (["--data=lightning.pytorch.demos.boring_classes.BoringDataModule"], "BoringDataModule has no redrawn(seed"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(options, message, capsys):
    plain = [a for a in TWO if not (options[0].startswith("--data=") and a.startswith("--data"))]
    before = changed()
    assert message in failure(capsys, [*plain, *options])
    assert changed() == before


def test_a_wrong_path_and_a_wrong_number_are_named(capsys):
    assert "the configuration nowhere.yaml does not exist" in failure(capsys, ["benchmark", "-c", "nowhere.yaml"], 2)
    assert "--seeds: expected int, but got 'many'" in failure(capsys, ["benchmark", *SMALL, "--seeds", "many"], 2)


@pytest.mark.usefixtures("printed")
def test_other_pairs_under_the_same_settings_are_noticed(capsys):
    path = Path("bench/seed-1/target/members.json")
    kept = path.read_text()
    members = json.loads(kept)
    members["trained_on"].append("one-more")
    path.write_text(json.dumps(members))
    message = failure(capsys, ["benchmark", *SMALL, "--output=bench", "--references=1", "--seeds", "1", "9"])
    path.write_text(kept)
    assert "The data have changed since bench/seed-1/target/members.json was written: its 25 samples" in message
    assert not Path("bench/seed-9").exists()


@pytest.mark.usefixtures("printed")
def test_checkpoints_count_as_reference_models_of_an_audit(capsys):
    others = ["before.ckpt", "public.ckpt", "third.ckpt"]
    for name in others:  # weights of before any training
        torch.save({"state_dict": Pix2Pix(image_size=32, ngf=8, ndf=8).state_dict()}, name)
    words = ["audit", *SMALL, "--ckpt_path=bench/seed-1/target/last.ckpt", "--reference_ckpt", *others[:2]]
    assert "reference models, and the targets of a benchmark, are trained on coin-flip halves" in failure(capsys, words)
    words.append("--unverified_members=true")
    main([*words, f"--reference_ckpt={others[2]}", "--output_dir=out", "--audit.max_samples=8"])
    result = AuditResult.from_json("out/result.json")
    assert result.meta["references"]["checkpoints"] == others
    assert {"difficulty", "rmia_offline", "lira_offline", "combined_references"} <= set(result.scores)
    printed = " ".join(capsys.readouterr().out.split())
    assert "reference checkpoints read as models that were trained on none of the audited samples, by" in printed


@pytest.mark.usefixtures("printed")
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("seed-2/target", "are for --references FOLDER"),
        ("seed-1/references/000", "of a folder of reference models, whose samples are known: --references"),
    ],
)
def test_models_of_a_benchmark_are_none_that_saw_no_audited_sample(name, advice, capsys):
    words = ["audit", *SMALL, "--ckpt_path=bench/seed-1/target/last.ckpt", f"--reference_ckpt=bench/{name}/last.ckpt"]
    message = " ".join(failure(capsys, words).split())
    assert f"bench/{name}/last.ckpt was itself trained on audited samples, " in message
    assert f"by bench/{name}/members.json" in message
    assert advice in message


@pytest.mark.usefixtures("printed")
@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("foo:0", "Expected --part train:NUMBERS or audit:NUMBERS, such as train:0,2 or audit:1, but got 'foo:0'"),
        ("train:", "but got 'train:'"),
        ("audit:1,9", "Expected numbers from 0 to 1 in --part audit:NUMBERS, of 2 target(s) in bench, but got 9."),
        ("train:4", "Expected numbers from 0 to 3 in --part train:NUMBERS, of 4 model(s) in bench, but got 4."),
    ],
)
def test_a_part_that_is_none_is_named(part, message, capsys):
    before = changed()
    assert message in " ".join(failure(capsys, [*TWO, f"--part={part}"]).split())
    assert changed() == before


@pytest.mark.slow
@pytest.mark.usefixtures("printed")
def test_two_processes_do_what_one_does(capsys):
    main([a.replace("output=bench", "output=two") for a in TWO] + ["--jobs=2"])
    printed = capsys.readouterr().out
    assert "2 processes train 4 models; what they print is in two/part-*.log." in printed
    assert "2 processes audit 2 targets" in printed
    for own in ("target", "references/000"):
        one, two = (weights(Path(place) / "seed-2" / own / "last.ckpt") for place in ("bench", "two"))
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, msg=name)
    assert not list(Path("two").glob("*.log"))


@pytest.mark.usefixtures("printed")
def test_an_audit_among_the_trainers_callbacks_counts_as_in_a_training():
    own = ["--trainer.callbacks+=MembershipAudit", "--trainer.callbacks.alpha=0.25"]
    before = changed()
    main(["benchmark", *SMALL, *own, "--output=bench", "--references=1", "--seeds", "2"])
    text = Path("bench/table.md").read_text()
    assert "Settings of the audits that are not the default: alpha=0.25" in text
    assert "Not in this table: seed(s) 1 of the folder" in text
    assert result_of(2).meta["settings"]["alpha"] == 0.25
    record = json.loads(Path("bench/seed-2/audit/audited.json").read_text())["record"]
    assert record["settings"]["callbacks"][0]["alpha"] == 0.25  # so that others are audited anew
    assert {p for p, t in changed().items() if before.get(p) != t and p.suffix == ".ckpt"} == set()
