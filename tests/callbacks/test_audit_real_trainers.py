"""The audit in trainings of real projects: settings of the trainer, and loggers, monitors and audits around it.

With each setting the audit runs when it should, sees what validation sees, and leaves no trace. The oracle is
validation itself: a module that validates members and nonmembers keeps its own error of each sample.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_package import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LightningDataModule,
    LightningModule,
    Logger,
    ModelCheckpoint,
    StochasticWeightAveraging,
    TensorBoardLogger,
    Timer,
    Trainer,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor
from mia_lightning.scores.summary import worth_logging

SIZES = (6, 5)


@dataclass
class Outcome:
    """A training: the audits, the errors that each validation saw, and all that training consists of."""

    trainer: Trainer
    module: Any
    history: list[Any]
    validated: list[np.ndarray] = field(default_factory=list)

    @property
    def times(self) -> list[tuple[int | None, int]]:
        return [(r.epoch, r.meta["step"]) for r in self.history]


class Witness(Callback):
    """Collects the module's validation errors, run by run."""

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.seen = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.runs.append(torch.cat(pl_module.seen).numpy())


@pytest.fixture
def fit(kit: Any, audit: Any, trainer: Any) -> Callable[..., Outcome]:
    """Train a module that validates both sides, in batches as large as the audit's."""

    class Validates(kit.Translator):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            prediction = self(batch[0])
            self.seen.append((prediction.double() - batch[1].double()).abs().flatten(1).mean(1).cpu())
            if not self.trainer.barebones:
                self.log("val/loss", prediction.mean())

    def run(
        *callbacks: Callback,
        audited: bool = True,
        prepare: Callable[[Any], Any] = lambda module: module,
        validate: bool = False,
        **settings: Any,
    ) -> Outcome:
        torch._dynamo.reset()
        torch.manual_seed(0)
        module = Validates()
        callback, witness = audit(), Witness()
        run = trainer(*([callback] if audited else []), witness, *callbacks, **settings)
        sides = [kit.Pairs(SIZES[0], 0), kit.Pairs(SIZES[1], 1)]
        validation = [DataLoader(side, 4) for side in sides]
        if validate:
            run.validate(prepare(module), validation, verbose=False)
        else:
            run.fit(prepare(module), DataLoader(sides[0], 2, shuffle=True), validation)
        return Outcome(run, module, callback.history, witness.runs)

    return run


def sees_what_validation_sees(outcome: Outcome) -> None:
    assert len(outcome.history) == len(outcome.validated)
    for result, seen in zip(outcome.history, outcome.validated, strict=True):
        assert result.member.tolist() == [True] * SIZES[0] + [False] * SIZES[1]
        # float32 rounds the mean of a sample; another precision or other weights differ by a thousand times more.
        np.testing.assert_allclose(result.errors["reconstruction"], seen, rtol=2e-6)
        assert result.auc == pytest.approx(float(outcome_auc(result)))


def outcome_auc(result: Any) -> float:
    """Share of the pairs of a member and a nonmember in which the member scores higher, counted out."""
    score = result.scores["membership"]
    wins = [(m > n) + 0.5 * (m == n) for m in score[result.member] for n in score[~result.member]]
    return sum(wins) / len(wins)


def leaves_no_trace(fit: Callable[..., Outcome], audited: Outcome, *callbacks: Callback, **settings: Any) -> None:
    draws = torch.get_rng_state()
    plain = fit(*callbacks, audited=False, **settings)
    assert torch.equal(torch.get_rng_state(), draws)
    for name, value in plain.module.state_dict().items():
        assert torch.equal(audited.module.state_dict()[name], value), name
    ours, theirs = (
        [t for s in o.trainer.optimizers[0].state.values() for t in s.values() if isinstance(t, Tensor)]
        for o in (audited, plain)
    )
    assert len(ours) > 0
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    for one, other in zip(audited.validated, plain.validated, strict=True):
        np.testing.assert_array_equal(one, other)


EPOCH_ENDS = [(0, 3), (1, 6)]
SETTINGS: dict[str, tuple[dict[str, Any], list[tuple[int, int]]]] = {
    "bf16": ({"precision": "bf16-mixed"}, EPOCH_ENDS),
    "double": ({"precision": "64-true"}, EPOCH_ENDS),
    "accumulate": ({"accumulate_grad_batches": 2}, [(0, 2), (1, 4)]),
    "accumulate, validated in between": ({"accumulate_grad_batches": 3, "val_check_interval": 2}, [(0, 0), (1, 1)]),
    "clip by norm": ({"gradient_clip_val": 0.01}, EPOCH_ENDS),
    "clip by value": ({"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}, EPOCH_ENDS),
    "no inference mode": ({"inference_mode": False}, EPOCH_ENDS),
    "across epochs": (
        {"max_epochs": 4, "val_check_interval": 4, "check_val_every_n_epoch": None},
        [(1, 4), (2, 8), (3, 12)],
    ),
    "within epochs": ({"val_check_interval": 2, "check_val_every_n_epoch": None}, [(0, 2), (1, 4), (1, 6)]),
    "by steps": ({"max_epochs": -1, "max_steps": 6}, EPOCH_ENDS),
    "reloaded": ({"reload_dataloaders_every_n_epochs": 1}, EPOCH_ENDS),
    "anomalies": ({"detect_anomaly": True}, EPOCH_ENDS),
    "profiled": ({"profiler": "simple"}, EPOCH_ENDS),
    "barebones": (
        {
            **{"barebones": True, "enable_progress_bar": None, "enable_model_summary": None, "logger": None},
            **{"enable_checkpointing": None, "num_sanity_val_steps": None},
        },
        EPOCH_ENDS,
    ),
}
ALIKE = ("double", "clip by value")  # another of the kind runs with the usual tests


@pytest.mark.filterwarnings("ignore:.*barebones.*")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ()) for name in SETTINGS]
)
def test_settings_of_the_trainer(fit, name: str) -> None:
    settings, times = SETTINGS[name]
    audited = fit(**settings)
    assert audited.times == times
    sees_what_validation_sees(audited)
    leaves_no_trace(fit, audited, **settings)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_validation_alone_in_its_precision(fit, precision: str) -> None:
    outcome = fit(validate=True, precision=precision)
    sees_what_validation_sees(outcome)
    full = fit(validate=True).history[0].errors["reconstruction"]
    away = np.abs(outcome.history[0].errors["reconstruction"] / full - 1).max()
    assert 1e-5 < away < 1e-2 if precision == "bf16-mixed" else 0 < away < 1e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="16-mixed runs on a GPU; on CPU Lightning makes it bf16")
def test_half_precision_on_a_gpu(fit) -> None:
    settings = {"precision": "16-mixed", "accelerator": "gpu"}
    audited = fit(**settings)
    assert audited.times == EPOCH_ENDS
    sees_what_validation_sees(audited)


def whole(backend: str) -> Callable[[Any], Any]:
    return lambda module: torch.compile(module, backend=backend)


def inside(backend: str) -> Callable[[Any], Any]:
    def prepare(module: Any) -> Any:
        module.network = torch.compile(module.network, backend=backend)
        return module

    return prepare


def in_place(backend: str) -> Callable[[Any], Any]:
    def prepare(module: Any) -> Any:
        module.network.compile(backend=backend)
        return module

    return prepare


@pytest.mark.parametrize("how", [whole, *(pytest.param(how, marks=pytest.mark.slow) for how in (inside, in_place))])
def test_compiled_modules(fit, how: Callable[[str], Callable[[Any], Any]]) -> None:
    audited = fit(prepare=how("eager"))
    assert audited.times == EPOCH_ENDS
    sees_what_validation_sees(audited)
    leaves_no_trace(fit, audited, prepare=how("eager"))


def test_the_audit_has_nothing_compiled_of_its_own(fit) -> None:
    """Batches of other sizes would have the training compiled with sizes left open: such kernels round otherwise.

    Compiling real kernels takes a minute; here the graphs are noted that they would be made of.
    """

    def graphs_of(audited: bool) -> list[list[str]]:
        graphs = []

        def note(graph: Any, inputs: list[Any]) -> Any:
            graphs.append([str(getattr(i, "shape", i)) for i in inputs if not isinstance(i, nn.Parameter)])
            return graph

        def prepare(module: Any) -> Any:
            module.network.compile(backend=note)
            return module

        fit(prepare=prepare, audited=audited)
        return graphs

    plain = graphs_of(audited=False)
    if torch.__version__.startswith("2.6.") and not plain:
        pytest.skip("torch 2.6 compiles nothing here")
    assert len(plain) >= 2
    assert graphs_of(audited=True) == plain


def test_channels_last(fit) -> None:
    settings = {"prepare": lambda module: module.to(memory_format=torch.channels_last)}
    audited = fit(**settings)
    sees_what_validation_sees(audited)
    assert audited.module.network[0].weight.is_contiguous(memory_format=torch.channels_last)
    leaves_no_trace(fit, audited, **settings)


def test_stochastic_weight_averaging(fit) -> None:
    """The epoch that Lightning adds, to set batch norms to the averaged weights, is validated and audited, too."""

    def averaging() -> Callback:
        return StochasticWeightAveraging(0.05, swa_epoch_start=1, annealing_epochs=1)

    audited = fit(averaging(), max_epochs=3)
    assert [epoch for epoch, _ in audited.times] == [0, 1, 2, 3]
    sees_what_validation_sees(audited)
    leaves_no_trace(fit, audited, averaging(), max_epochs=3)
    alone = fit(max_epochs=3)
    assert not np.allclose(alone.validated[-1], audited.validated[-1], rtol=1e-5)


def test_time_is_up(fit) -> None:
    """Lightning validates where it stops, and that is the last audit."""

    class Expired(Timer):
        def on_train_batch_end(self, trainer: Trainer, *args: Any, **options: Any) -> None:
            self._duration = 0 if trainer.global_step == 4 else None
            super().on_train_batch_end(trainer, *args, **options)

    audited = fit(Expired("00:00:10:00"), max_epochs=-1)
    assert audited.times == [(0, 3), (1, 4)]
    sees_what_validation_sees(audited)


@pytest.mark.parametrize("limit", [1, 0.5])
def test_limited_validation_does_not_limit_the_audit(fit, limit: float) -> None:
    audited = fit(limit_val_batches=limit)
    assert audited.times == EPOCH_ENDS
    assert [len(seen) for seen in audited.validated] == [4 + 4] * 2
    for result, seen in zip(audited.history, audited.validated, strict=True):
        assert len(result.ids) == sum(SIZES)
        np.testing.assert_allclose(result.errors["reconstruction"][[0, 1, 2, 3, 6, 7, 8, 9]], seen, rtol=2e-6)
    leaves_no_trace(fit, audited, limit_val_batches=limit)


def test_no_validation_at_all_is_told(fit) -> None:
    with pytest.warns(UserWarning, match="MembershipAudit runs in validation, and this training has none"):
        outcome = fit(limit_val_batches=0)
    assert outcome.history == []


def test_sanity_checking_leaves_no_trace(fit) -> None:
    audited = fit(num_sanity_val_steps=2)
    assert audited.times == EPOCH_ENDS
    sees_what_validation_sees(audited)
    leaves_no_trace(fit, audited, num_sanity_val_steps=2)


def test_a_clean_training_has_nothing_to_warn_of(fit) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    assert [str(w.message) for w in caught if "mia_lightning" in w.filename or "udit" in str(w.message)] == []


def test_the_network_of_these_tests_tells_modes_apart(kit, fit) -> None:
    """Or the tests above would show nothing."""
    outcome = fit(validate=True)
    outcome.module.train()
    members = kit.Pairs(SIZES[0], 0)
    with torch.no_grad():
        errors = (outcome.module(members.inputs) - members.targets).abs().flatten(1).mean(1).numpy()
    assert np.abs(errors / outcome.validated[0][: SIZES[0]] - 1).max() > 1e-3


class Foreign(Logger):
    """The least that Lightning asks of a logger; it has no experiment, and whoever asks it for one fails."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[dict[str, float], int | None]] = []

    @property
    def name(self) -> str:
        return "foreign"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.logged.append((dict(metrics), step))

    def log_hyperparams(self, *args: Any, **options: Any) -> None: ...

    @property
    def audited(self) -> list[tuple[dict[str, float], int | None]]:
        """What was logged of the audit, with its step."""
        found = [({k: v for k, v in m.items() if k.startswith("audit/")}, step) for m, step in self.logged]
        return [(metrics, step) for metrics, step in found if metrics]


def expect(logged: list[tuple[dict[str, float], int | None]], history: list[Any], steps: list[int]) -> None:
    assert [step for _, step in logged] == steps
    for (metrics, _), result in zip(logged, history, strict=True):
        assert metrics == pytest.approx(worth_logging(result.metrics, "audit"), nan_ok=True)


def test_a_foreign_logger_gets_every_key_through_log(kit, audit, trainer, loaders) -> None:
    callback, logger = audit(), Foreign()
    trainer(callback, logger=logger).fit(kit.Translator(), *loaders)
    expect(logger.audited, callback.history, [2, 5])


def test_a_late_last_audit_reaches_a_foreign_logger(kit, audit, trainer, loaders) -> None:
    """Where EarlyStopping ends the training in an epoch that was passed over, the module's log is closed already."""
    callback, logger = audit(every_n_epochs=3), Foreign()
    stop = EarlyStopping("val/loss", patience=0, min_delta=1e9)
    trainer(callback, stop, logger=logger, max_epochs=9).fit(kit.Translator(), *loaders)
    assert [r.epoch for r in callback.history] == [1]
    assert len(logger.audited) == 1
    assert logger.audited[0][0] == pytest.approx(worth_logging(callback.result.metrics, "audit"), nan_ok=True)


def test_a_validation_alone_reaches_a_foreign_logger(kit, audit, trainer, loaders) -> None:
    callback, logger = audit(), Foreign()
    trainer(callback, logger=logger).validate(kit.Translator(), loaders[1], verbose=False)
    expect(logger.audited, callback.history, [0])


def test_three_loggers_at_once(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    foreign = Foreign()
    loggers = [TensorBoardLogger(tmp_path / "board", "", ""), CSVLogger(tmp_path / "csv", "", ""), foreign]
    callback = audit(verdict="primary")  # the same keys at each audit
    trainer(callback, logger=loggers).fit(kit.Translator(), *loaders)
    expect(foreign.audited, callback.history, [2, 5])

    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["audit/auc"]]
    in_csv = [({k: float(v) for k, v in r.items() if k.startswith("audit/")}, int(r["step"])) for r in rows]
    expect(in_csv, callback.history, [2, 5])

    board = EventAccumulator(str(tmp_path / "board"), size_guidance={"tensors": 0}).Reload()
    keys = [k for k in board.Tags()["scalars"] if k.startswith("audit/")]
    events = {k: board.Scalars(k) for k in keys}
    in_board = [({k: events[k][i].value for k in keys}, events[keys[0]][i].step) for i in range(2)]
    expect(in_board, callback.history, [2, 5])
    pictures = {"audit/roc", "audit/distribution", "audit/most_exposed", "audit/member_like"}
    assert set(board.Tags()["images"]) == pictures


def test_the_checkpoint_of_the_least_memorization_is_the_one_kept(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    """EarlyStopping and ModelCheckpoint by the same key: training stops, and the file kept has the audit it names."""
    callback = audit(kit.Pairs(30, 0), kit.Pairs(30, 1))
    stopping = EarlyStopping("audit/auc", mode="min", patience=2)
    saving = ModelCheckpoint(tmp_path, monitor="audit/auc", mode="min", save_top_k=1, filename="{epoch}")
    run = trainer(callback, stopping, saving, max_epochs=40, enable_checkpointing=True)
    run.fit(kit.Memorizer(), DataLoader(kit.Pairs(30, 0), 8), loaders[1])
    values = [r.metrics["audit/auc"] for r in callback.history]
    best = int(np.argmin(values))
    assert len(values) == best + 3 < 40
    assert Path(saving.best_model_path).name == f"epoch={best}.ckpt"
    assert float(saving.best_model_score) == pytest.approx(values[best])

    model = kit.Memorizer()
    model.load_state_dict(torch.load(saving.best_model_path, weights_only=True)["state_dict"])
    again = Auditor(scorer=callback.auditor.scorer, batch_size=4).run(model, callback.members, callback.nonmembers)
    np.testing.assert_array_equal(again.errors["reconstruction"], callback.history[best].errors["reconstruction"])
    assert again.metrics["audit/auc"] == values[best]


def test_two_tasks_and_two_member_sets_side_by_side(kit, audit, trainer) -> None:
    """One model that draws and labels: an audit of each, and one of other members, at cadences of their own."""

    class Both(kit.Translator):
        def __init__(self) -> None:
            super().__init__()
            self.labels = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"picture": super().forward(x), "classes": self.labels(x)}

        def loss(self, batch: Any) -> Tensor:
            x, y = batch
            returned = self(x)
            drawn = F.l1_loss(returned["picture"], y)
            return drawn + F.cross_entropy(returned["classes"], (y.mean(1) * 2.99).long())

    pictures, labels = (kit.Pairs(6, 0), kit.Pairs(5, 1)), (kit.Masks(4, 0), kit.Masks(7, 1))
    others = (kit.Pairs(3, 8), kit.Pairs(9, 9))
    audits = {
        "draw": (audit(*pictures, prefix="draw", output_key="picture"), pictures),
        "label": (audit(*labels, prefix="label", output_key="classes"), labels),
        "others": (audit(*others, prefix="others", output_key="picture", every_n_epochs=2), others),
    }
    module, spy = Both(), kit.Spy()
    loaders = DataLoader(pictures[0], 2), DataLoader(pictures[1], 2)
    trainer(*(callback for callback, _ in audits.values()), spy).fit(module, *loaders)
    assert [[r.epoch for r in c.history] for c, _ in audits.values()] == [[0, 1], [0, 1], [1]]
    assert [c.result.meta["task"] for c, _ in audits.values()] == ["translation", "segmentation", "translation"]
    for prefix, (callback, sides) in audits.items():
        own = {k: v for k, v in spy.seen[-1].items() if k.startswith(f"{prefix}/")}
        assert own == pytest.approx(worth_logging(callback.result.metrics, prefix), nan_ok=True)
        key = "classes" if prefix == "label" else "picture"
        alone = Auditor(scorer=callback.auditor.scorer, batch_size=4, output_key=key).run(module, *sides)
        for name, values in alone.errors.items():
            np.testing.assert_array_equal(callback.result.errors[name], values)

    torch.manual_seed(0)
    plain = Both()
    trainer().fit(plain, *loaders)
    torch.manual_seed(0)
    audited = Both()
    fresh = [audit(*s, prefix=p, output_key="classes" if p == "label" else "picture") for p, (_, s) in audits.items()]
    trainer(*fresh).fit(audited, *loaders)
    for name, value in plain.state_dict().items():
        assert torch.equal(audited.state_dict()[name], value), name


def test_training_on_with_the_same_trainer(kit, audit, trainer, loaders) -> None:
    callback, module = audit(), kit.Translator()
    run = trainer(callback)
    run.fit(module, *loaders)
    run.fit_loop.max_epochs = 3
    run.fit(module, *loaders)
    assert [(r.epoch, r.meta["step"]) for r in callback.history] == [(0, 3), (1, 6), (2, 9)]
    assert len({r.errors["reconstruction"].tobytes() for r in callback.history}) == 3


def test_a_second_training_with_the_same_callback(kit, audit, trainer, loaders) -> None:
    """The curve goes on: both trainings are looked at, and the corrected p-values allow for both."""
    callback, module = audit(), kit.Translator()
    for _ in range(2):
        trainer(callback).fit(module, *loaders)
    assert [(r.epoch, r.meta["step"]) for r in callback.history] == [(0, 3), (1, 6), (0, 3), (1, 6)]
    assert [r.meta["looks"] for r in callback.history[:2]] == [2, 2]
    assert [r.meta["looks"] for r in callback.history[2:]] == [4, 4]
    spent = [r.meta["look"]["spent"] for r in callback.history]
    assert spent == sorted(spent)
    assert spent[-1] < 1.0
    again = Auditor(scorer=callback.auditor.scorer, batch_size=4).run(module, callback.members, callback.nonmembers)
    np.testing.assert_array_equal(callback.result.errors["membership"], again.errors["membership"])


def test_members_given_by_hand_come_before_the_datamodule(kit, audit, trainer, loaders) -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return loaders[0]

        def val_dataloader(self) -> DataLoader:
            return loaders[1]

        def audit_dataloaders(self) -> Any:
            raise AssertionError("the data were given by hand")

        def audit_info(self) -> dict[str, Any]:
            return {"assignment": "coin", "nonmembers_validate": True}

    members, nonmembers = kit.Pairs(3, 5, "triple", "mine"), kit.Pairs(4, 6, "triple", "theirs")
    callback, module = audit(members, nonmembers), kit.Translator()
    trainer(callback).fit(module, datamodule=Data())
    assert [r.epoch for r in callback.history] == [0, 1]
    assert callback.result.ids == [f"mine{i}" for i in range(3)] + [f"theirs{i}" for i in range(4)]
    assert callback.result.meta["membership"] == {"assignment": "given"}, "the datamodule knows nothing of these"
    assert callback.result.meta["nonmembers_select_checkpoints"] is None
    alone = Auditor(scorer=callback.auditor.scorer, batch_size=4).run(module, members, nonmembers)
    np.testing.assert_array_equal(callback.result.errors["membership"], alone.errors["membership"])


def test_a_datamodule_without_an_audit_of_its_own(kit, audit, trainer, loaders) -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return loaders[0]

        def val_dataloader(self) -> list[DataLoader]:
            return [loaders[1], loaders[0]]

    callback, spy = audit(), kit.Spy()
    trainer(callback, spy).fit(kit.Translator(), datamodule=Data())
    assert [r.epoch for r in callback.history] == [0, 1]
    assert [seen["audit/auc"] for seen in spy.seen] == pytest.approx([r.auc for r in callback.history])
