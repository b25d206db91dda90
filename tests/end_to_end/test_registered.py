"""An error, a score and a metric declared in this file alone are found wherever the package shows or stores numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_package import TensorBoardLogger, Trainer
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from mia_lightning import (
    AuditResult,
    DemoDataModule,
    MembershipAudit,
    Pix2Pix,
    PredictabilityScorer,
    register_error,
    register_metric,
    register_score,
    registry,
)
from mia_lightning.report.run import read_run
from mia_lightning.report.terminal_tables import further_metrics_table, scores_table
from mia_lightning.report.write import write_report
from mia_lightning.scores.trained_score import log_errors

ERROR, SCORE, METRIC = "worst_pixel", "gap_to_worst", "half_auc"


@pytest.fixture(scope="module")
def registered() -> Iterator[None]:
    @register_error(ERROR, label="worst pixel", sentence="Largest difference of a pixel.", tasks=("translation",))
    def worst_pixel(outputs: registry.Outputs) -> torch.Tensor:
        return (outputs.prediction - outputs.target).abs().flatten(1).amax(1)

    @register_score(
        SCORE,
        label="gap to worst",
        sentence="How far the mean difference lies below the largest one.",
        errors=("reconstruction", ERROR),
        colour=registry.Colour("#123456", "#abcdef"),
    )
    def gap_to_worst(inputs: registry.ScoreInputs) -> np.ndarray:
        return inputs.errors[ERROR] - inputs.errors["reconstruction"]

    @register_metric(METRIC, label="half AUC", sentence="AUC of every second sample.", bounds=("half_low", "half_high"))
    def half_auc(score: np.ndarray, member: np.ndarray, level: float) -> registry.Estimate:
        auc = registry.metrics.get("auc").function
        assert auc is not None
        return auc(score[::2], member[::2], level)

    yield
    registry.errors.remove(ERROR)
    registry.scores.remove(SCORE)
    registry.metrics.remove(METRIC)


@pytest.fixture(scope="module")
def training(registered: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[MembershipAudit, Path]:
    folder = tmp_path_factory.mktemp("run")
    audit = MembershipAudit(
        scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=8),
        scores=("reconstruction", "membership", SCORE),
        max_samples=12,
        output_dir=folder / "audit",
    )
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[audit],
        logger=TensorBoardLogger(folder, name="board", version=""),
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_train_batches=1,
        num_sanity_val_steps=0,
    )
    data = DemoDataModule("translation", image_size=32, num_pairs=48)
    trainer.fit(Pix2Pix(image_size=32, ngf=4, ndf=4, audit=False), datamodule=data)
    return audit, folder


def keys() -> set[str]:
    return {
        f"audit/error/{ERROR}/members",
        f"audit/error/{ERROR}/nonmembers",
        *(f"audit/{part}/{SCORE}" for part in ("auc", "auc_low", "auc_high", "tpr_at_fpr_0.01")),
        *(f"audit/{part}/{score}" for part in (METRIC, "half_low", "half_high") for score in ("membership", SCORE)),
    }


def test_result_and_json(training):
    audit, folder = training
    result = audit.result
    assert {"reconstruction", "predictability", "membership", ERROR} <= set(result.errors)
    assert np.array_equal(result.scores[SCORE], result.errors[ERROR] - result.errors["reconstruction"])
    assert keys() <= set(result.metrics)
    files = sorted((folder / "audit").glob("audit-epoch=*.json"))
    stored = json.loads(files[-1].read_text())
    assert keys() <= set(stored["metrics"])
    assert stored["errors"][ERROR] == result.errors[ERROR].tolist()
    assert AuditResult.from_json(files[-1]).metrics == result.metrics


def test_csv(training):
    _, folder = training
    with sorted((folder / "audit").glob("audit-epoch=*.csv"))[-1].open() as file:
        assert {f"error_{ERROR}", f"score_{SCORE}"} <= set(next(csv.reader(file)))
    (table,) = write_report(read_run(folder / "audit"), folder / "tables", formats=["csv"])
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert keys() <= set(rows[0])


def test_tensorboard(training):
    audit, folder = training
    board = EventAccumulator(str(folder / "board"))
    board.Reload()
    assert keys() <= set(board.Tags()["scalars"])
    assert board.Scalars(f"audit/{METRIC}/{SCORE}")[-1].value == pytest.approx(audit.result.metric(f"{METRIC}/{SCORE}"))
    assert {f"audit/{ERROR}/members", f"audit/{ERROR}/nonmembers"} <= set(board.Tags()["tensors"])


def test_report(training):
    audit, folder = training
    pages = write_report(read_run(folder / "audit"), formats=("html", "markdown"))
    for page in pages:
        text = page.read_text().replace("\\_", "_")
        assert "gap to worst" in text
        assert "half AUC" in text
        assert f"{audit.result.metric(f'{METRIC}/membership'):.3f}" in text
    html = pages[0].read_text()
    assert "How far the mean difference lies below the largest one." in html
    assert "#123456" in html
    assert "#abcdef" in html
    assert "worst" in html


def test_terminal(training):
    audit, _ = training
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(scores_table(audit.result))
    console.print(further_metrics_table(audit.result))
    printed = console.export_text()
    assert "gap to worst" in printed
    assert "half AUC" in printed


def test_the_trained_score_does_not_change_with_what_is_recorded(training):
    audit, _ = training
    assert log_errors(audit.result.errors).shape == (24, 2)
