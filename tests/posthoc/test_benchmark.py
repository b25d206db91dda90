"""The folder of a benchmark: whose coins are whose, what it refuses, and what it counts as done."""

import json

import pytest
from torch import nn

from mia_lightning import AuditConfig
from mia_lightning.attacks.reference_folder import Reference
from mia_lightning.posthoc.benchmark import Benchmark, with_every_attack


class Coins:
    def redrawn(self, seed, *, complement=False):
        return seed, complement


def test_no_two_trainings_share_coins_or_weights(tmp_path):
    benchmark = Benchmark(tmp_path, (0, 1, 2, 7), references=4)
    trainings = benchmark.trainings(Coins())
    assert [training.place.number for training in trainings] == list(range(20))
    assert len({training.place.folder for training in trainings}) == 20
    assert len({training.half() for training in trainings}) == 20
    assert len({training.seed for training in trainings}) == 20
    assert [t.half() for t in trainings[::5]] == [(seed, False) for seed in (0, 1, 2, 7)]
    mirrored = [training.half() for training in trainings[1:5]]
    assert [complement for _, complement in mirrored] == [False, True, False, True]
    assert mirrored[0][0] == mirrored[1][0] != mirrored[2][0] == mirrored[3][0]


def test_seeds_do_not_depend_on_each_other(tmp_path):
    alone, among = Benchmark(tmp_path, (2,), 2), Benchmark(tmp_path, (1, 2), 2)
    of_two = among.trainings(Coins())[3:]
    for one, other in zip(alone.trainings(Coins()), of_two, strict=True):
        assert (one.half(), one.seed, one.place.folder) == (other.half(), other.seed, other.place.folder)


@pytest.mark.parametrize(
    ("seeds", "references", "message"),
    [
        ((1, 2, 1), 0, r"seeds that differ \(--seeds\), but 1 is there more than once"),
        ((-1,), 0, r"Expected seeds from 0 to 4294967295 \(--seeds\), but got -1"),
        ((), 0, "at least one seed, such as --seeds 1 2 3, but got none"),
        ((1,), -1, r"a number of reference models \(--references\), 0 or more, not -1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, seeds, references, message):
    with pytest.raises(ValueError, match=message):
        Benchmark(tmp_path, seeds, references)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("chapter 1")
    Reference(0, tmp_path / "seed-1").assign(["a"], ["b"])
    with pytest.raises(ValueError, match="holds other files and no benchmark: name a new folder with --output"):
        Benchmark(tmp_path, (1,)).opened(print)
    with pytest.raises(ValueError, match=r"thesis\.txt is a file: name a new folder"):
        Benchmark(tmp_path / "thesis.txt", (1,)).opened()
    assert {path.name for path in tmp_path.rglob("*")} == {"thesis.txt", "seed-1", "members.json"}


def test_another_configuration_is_named_and_more_models_are_not_another(tmp_path):
    place = tmp_path / "bench"
    Benchmark(place, (1, 2), 1, {"model": {"width": 8}}).opened()
    assert Benchmark(place, (3,), 4, {"model": {"width": 8}}).opened().references == 4
    assert Benchmark(place, (3,), 1, {"model": {"width": 8}}).opened().references == 4  # those there are used
    with pytest.raises(ValueError, match=r"of another configuration: model\.width was 8 and is 4 now\. Give the"):
        Benchmark(place, (1, 2), 1, {"model": {"width": 4}}).opened()  # as its processes do
    (place / "benchmark.json").write_text('{"format": 1')
    with pytest.raises(ValueError, match=r"benchmark\.json does not describe a benchmark"):
        Benchmark(place, (1, 2)).opened()


def test_where_nothing_is_trained_another_configuration_may_take_its_place(tmp_path):
    first = Benchmark(tmp_path, (1,), 3, {"model": {"width": 8}}).opened()
    training, others, told = first.trainings()[0], Benchmark(tmp_path, (1,), 1, {"model": {"width": 4}}), []
    training.place.assign(["a"], ["b"])
    first.references_of(1).opened()
    assert others.opened(told.append).references == 1  # those there were of the configuration that failed
    assert told == [
        f"Nothing in {tmp_path} is trained yet, so that other settings count now: model.width was 8 and is 4 now."
    ]
    assert not training.place.assigned
    others.references_of(1).opened()
    training.place.assign(["a", "c"], ["b"])  # the pairs may be others
    assert Benchmark(tmp_path, (2,), 1, others.config).opened(told.append).references == 1
    assert training.place.assigned, "it may be another run's, which is in its first epoch"
    assert others.opened(told.append).references == 1
    assert not training.place.assigned
    training.place.checkpoint.write_bytes(b"of one epoch")
    for finished, advice in ((False, ", or delete that folder: no model in it is finished."), (True, "--output.")):
        if finished:
            training.place.finish(1.0, 1)
        with pytest.raises(ValueError, match=r"model\.width was 4 and is 8 now") as refused:
            first.opened(told.append)
        assert str(refused.value).endswith(advice)
    assert len(told) == 1


def test_seeds_of_the_folder_that_are_audited_alike_stay_in_the_table(tmp_path):
    several, one = Benchmark(tmp_path, (3, 1, 2)), Benchmark(tmp_path, (2,))
    for audited in several.audits():
        audited.keep(1.0)
        (audited.folder / "result.json").write_text("{}")
    assert (one.with_others_there()[0].seeds, one.with_others_there()[1]) == ((2, 1, 3), [])
    several.audits()[0].begin()
    assert (one.with_others_there()[0].seeds, one.with_others_there()[1]) == ((2, 1), [3])


def test_an_audit_counts_only_under_the_settings_that_made_it(tmp_path):
    benchmark = Benchmark(tmp_path, (1, 2), 1, audit={"alpha": 1.0})
    benchmark.audits()[0].keep(2.0)
    assert benchmark.auditing().missing() == [1]
    assert Benchmark(tmp_path, (1, 2), 2, audit={"alpha": 1.0}).auditing().missing() == [0, 1]
    assert Benchmark(tmp_path, (1, 2), 1, audit={"alpha": 0.5}).auditing().missing() == [0, 1]
    kept = tmp_path / "seed-1" / "audit" / "audited.json"
    record = json.loads(kept.read_text())
    record["record"]["mia_lightning"] = "0.0.1"  # whose numbers may have been others
    kept.write_text(json.dumps(record))
    assert benchmark.auditing().missing() == [0, 1]


def test_an_audit_counts_only_for_the_weights_that_it_was_made_of(tmp_path):
    benchmark = Benchmark(tmp_path, (1, 2), 1)
    files = [training.place.checkpoint for training in benchmark.trainings()]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_bytes(b"weights")
    for audited in benchmark.audits():
        audited.keep(1.0)
    assert benchmark.auditing().missing() == []
    for number, file in enumerate(files):  # target and reference model of either seed
        file.unlink()
        file.write_bytes(b"others of another training")
        assert benchmark.auditing().missing() == [number // 2]
        benchmark.audits()[number // 2].keep(1.0)
    assert benchmark.auditing().missing() == []


def test_an_audit_that_was_interrupted_is_not_finished_under_any_settings(tmp_path, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mia_lightning.posthoc.benchmark.AuditTrainer.audit", interrupted)
    before, now = (Benchmark(tmp_path, (1,), audit={"alpha": alpha}) for alpha in (1.0, 0.5))
    before.audits()[0].keep(1.0)
    with pytest.raises(KeyboardInterrupt):
        now.run_audit(0, Coins(), nn.Identity(), AuditConfig(), accelerator="cpu")
    assert before.auditing().missing() == now.auditing().missing() == [0]


def test_all_attacks_are_audited_whatever_a_configuration_asks_for():
    assert with_every_attack(AuditConfig.of(None, scores=["reconstruction", "membership"])).verdict == "auto"
    named = with_every_attack(AuditConfig(scores=["reconstruction", "membership", "calibrated", "trained"]))
    assert {"combined", "neighbour", "trained"} <= set(named.scores)
