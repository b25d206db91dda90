"""A training that exceeds a limit stops, and leaves what it has found; others go on."""

from __future__ import annotations

import pytest
from lightning_package import Callback, CSVLogger
from torch.utils.data import DataLoader, Subset

from mia_lightning.result.history import read_audits
from mia_lightning.result.limits import LimitExceededError, check_limits


def sides(kit):
    """Halves of one set, which the blind attack does not tell apart."""
    pairs = kit.Pairs(60, seed=3)
    return Subset(pairs, range(30)), Subset(pairs, range(30, 60))


def memorising(kit):
    members, nonmembers = sides(kit)
    return kit.Memorizer(), DataLoader(members, 10), DataLoader(nonmembers, 10)


def audited(audit, kit, **settings):
    return audit(*sides(kit), **settings)


def test_a_training_above_a_limit_stops_and_leaves_its_results(kit, audit, trainer, tmp_path):
    callback = audited(audit, kit, fail_above={"auc": 0.6}, output_dir=tmp_path / "audit")
    run = trainer(callback, max_epochs=40)
    with (
        pytest.warns(UserWarning, match="The training stops after this epoch. Limits exceeded: auc <= 0.6"),
        pytest.raises(LimitExceededError, match="at all looks together") as stopped,
    ):
        run.fit(*memorising(kit))
    assert stopped.value.code == 3
    assert 1 <= run.current_epoch < 40
    assert callback.exceeded is stopped.value.outcome
    assert callback.result.band()[0] > 0.6
    for earlier in callback.history[:-1]:
        assert check_limits(callback.fail_above, earlier).finding != "above"
    kept = read_audits(tmp_path / "audit")
    assert [r.epoch for r in kept] == [r.epoch for r in callback.history]
    assert (tmp_path / "audit" / "memorization_curve.png").is_file()


class Ends(Callback):
    """Notes which ends of a training it is told."""

    def __init__(self):
        self.told = []

    def on_fit_end(self, trainer, pl_module):
        self.told.append("fit")

    def teardown(self, trainer, pl_module, stage):
        self.told.append("teardown")


def test_everybody_is_told_the_end_first(kit, audit, trainer, tmp_path):
    ends, loggers = Ends(), CSVLogger(tmp_path / "logs")
    statuses = []
    loggers.finalize = statuses.append
    first = audited(audit, kit, fail_above={"auc": 0.6}, output_dir=tmp_path / "first")
    second = audited(audit, kit, fail_above={"auc": 0.6}, output_dir=tmp_path / "second", prefix="other")
    run = trainer(first, second, ends, max_epochs=40, logger=loggers)
    model, *data = memorising(kit)
    model.teardown = lambda stage: ends.told.append("module")
    with pytest.warns(UserWarning, match="stops after"), pytest.raises(LimitExceededError):
        run.fit(model, *data)
    assert ends.told == ["fit", "teardown", "module"]
    assert statuses[0] == "success"
    for folder, name in (("first", "samples"), ("second", "other-samples")):
        assert [p for p in (tmp_path / folder).iterdir() if p.stem == name]
    assert not [c for c in run.callbacks if type(c).__name__ == "AfterTeardown"]


def test_other_processes_than_the_first_end_with_0(kit, audit, trainer, monkeypatch):
    callback = audited(audit, kit, fail_above={"auc": 0.6})
    run = trainer(callback, max_epochs=40)
    monkeypatch.setattr(type(run), "is_global_zero", property(lambda self: False))
    with pytest.warns(UserWarning, match="stops after"), pytest.raises(LimitExceededError) as stopped:
        run.fit(*memorising(kit))
    assert stopped.value.code == 0


def test_a_training_below_its_limits_goes_on(kit, audit, trainer):
    callback = audited(audit, kit, fail_above={"auc": 0.99})
    run = trainer(callback, max_epochs=3)
    run.fit(*memorising(kit))
    assert run.current_epoch == 3
    assert callback.exceeded is None


def test_limits_do_not_disturb_the_training(kit, audit, trainer):
    weights = []
    for limits in ({}, {"auc": 0.99}):
        import lightning.pytorch as pl

        pl.seed_everything(0)
        model, *data = memorising(kit)
        trainer(audited(audit, kit, fail_above=limits), max_epochs=2).fit(model, *data)
        weights.append(model.state_dict())
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_the_least_number_of_epochs_is_kept(kit, audit, trainer):
    callback = audited(audit, kit, fail_above={"auc": 0.6})
    run = trainer(callback, max_epochs=40, min_epochs=6)
    with pytest.warns(UserWarning, match="stops after"), pytest.raises(LimitExceededError):
        run.fit(*memorising(kit))
    assert 6 <= run.current_epoch < 40


@pytest.mark.parametrize(
    ("limits", "message"), [({"auk": 0.6}, "did you mean 'auc'"), ({"epsilon_low": 1.0}, "no metric with an interval")]
)
def test_a_limit_that_cannot_be_checked_is_refused_before_training(kit, audit, trainer, limits, message):
    with pytest.raises(ValueError, match=message):
        trainer(audited(audit, kit, fail_above=limits)).fit(*memorising(kit))
