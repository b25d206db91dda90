"""What MLflow gets of an audited training, in its store of local files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning_package import CSVLogger, MLFlowLogger
from PIL import Image

from mia_lightning import AuditConfig, AuditResult, registry
from mia_lightning.result.verdict import headline
from mia_lightning.scores.summary import worth_logging
from mia_lightning.sinks.mlflow import keys_for_files
from mia_lightning.sinks.scalars import ScalarLog

pytest.importorskip("mlflow", reason="needs the extra mlflow")


@pytest.fixture
def logger(tmp_path: Path, monkeypatch) -> MLFlowLogger:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # maintained no longer, but what there is without a server
    return MLFlowLogger("tiny", save_dir=str(tmp_path / "mlruns"), tracking_uri=f"file:{tmp_path / 'mlruns'}")


def artefacts_of(logger: MLFlowLogger, folder: Path) -> dict[str, Path]:
    """Files by their path in the run."""
    copied = Path(logger.experiment.download_artifacts(logger.run_id, "", str(folder)))
    return {p.relative_to(copied).as_posix(): p for p in copied.rglob("*") if p.is_file()}


def test_a_training_in_mlflow(kit, audit, trainer, loaders, logger, tmp_path: Path) -> None:
    callback = audit()
    run = trainer(callback, logger=logger)
    run.fit(kit.Translator(), *loaders)
    assert run.current_epoch == 2
    (tmp_path / "report.html").write_text("<p>a report</p>")
    callback.attach(run, [tmp_path / "report.html"])

    client = logger.experiment
    for result, step in zip(callback.history, (2, 5), strict=True):  # the last has numbers of the verdict's score, too
        logged = worth_logging(result.metrics, "audit")
        renamed = keys_for_files(logged, AuditConfig())
        assert len(renamed) == len(logged) > 30
        for key in renamed:
            assert step in [m.step for m in client.get_metric_history(logger.run_id, key)], key
    for key in (
        "audit/auc/headline",
        "audit/auc/membership",
        "audit/error/membership/members",
        "audit/blind_auc/headline",
    ):
        logged = client.get_metric_history(logger.run_id, key)
        name = key.removesuffix("/headline")
        assert [m.value for m in logged] == pytest.approx([r.metrics[name] for r in callback.history])
        assert [m.step for m in logged] == [2, 5]
    assert client.get_run(logger.run_id).data.tags["audit.headline"] == headline(callback.result)
    assert client.get_run(logger.run_id).info.status == "FINISHED"

    (tmp_path / "copy").mkdir()
    files = artefacts_of(logger, tmp_path / "copy")
    figures = [f"audit/figures/{n}-step=0000000{s}" for n in ("distribution", "roc") for s in (2, 5)]
    assert {f"{f}.png" for f in figures} <= set(files)
    galleries = [p for n, p in files.items() if n.startswith(("audit/figures/most_", "audit/figures/member_"))]
    assert len(galleries) == 4
    for path in [*galleries, files["audit/memorization_curve.png"]]:
        with Image.open(path) as image:
            assert min(image.size) > 100
    assert {"audit/verdict/step=00000002.md", "report/report.html"} <= set(files)
    kit.same(AuditResult.from_json(files["audit/audit-epoch=0001-step=00000006.json"]), callback.result)


def test_every_key_is_kept(kit, audit, trainer, loaders, logger) -> None:
    """The file store takes no metric whose name is the folder of another, and ends the training over it."""
    callback = audit()
    trainer(callback, logger=logger, max_epochs=1).fit(kit.Translator(), *loaders)
    kept = logger.experiment.get_run(logger.run_id).data.metrics
    logged = set(worth_logging(callback.result.metrics, "audit"))
    assert {k.removesuffix("/headline") for k in kept if k.startswith("audit/")} == logged
    renamed = {k.removesuffix("/headline") for k in kept if k.endswith("/headline")}
    assert {"audit/auc", "audit/tpr_at_fpr_0.01", "audit/blind_auc"} <= renamed
    declared = {f"audit/{key}" for spec in registry.metrics for key in (spec.name, *spec.keys)}
    assert all(any(k.startswith(f"{key}/") for k in logged | declared) for key in renamed)


def test_a_key_has_one_name_in_all_epochs(logger) -> None:
    """Also where another of its numbers, as the p-value of one more score, is missing in an epoch."""
    trainer = SimpleNamespace(loggers=[logger], current_epoch=0)
    log = ScalarLog(AuditConfig(scores=("membership", "trained")))
    beside = ScalarLog(AuditConfig(prefix="other"))
    log.write(trainer, {"audit/p_value": 0.5, "audit/p_value/trained": 0.25}, step=1)
    log.write(trainer, {"audit/p_value": 0.75}, step=2)
    for step in (1, 2):
        beside.write(trainer, {"other/auc": 0.5}, step)
    logger.log_metrics({"val/auc": 1.0}, step=2)
    history = logger.experiment.get_metric_history(logger.run_id, "audit/p_value/headline")
    assert [m.value for m in history] == [0.5, 0.75]
    assert len(logger.experiment.get_metric_history(logger.run_id, "other/auc/headline")) == 2
    assert "val/auc" in logger.experiment.get_run(logger.run_id).data.metrics


def test_the_loggers_of_own_sinks_are_mapped_too(kit, audit, trainer, loaders, logger) -> None:
    callback = audit(sinks=[])
    run = trainer(callback, logger=logger)
    run.fit(kit.Translator(), *loaders)
    assert run.current_epoch == 2
    assert len(logger.experiment.get_metric_history(logger.run_id, "audit/auc/headline")) == 2


def test_a_validation_by_itself(kit, audit, trainer, loaders, logger, tmp_path: Path) -> None:
    callback = audit()
    trainer(callback, logger=logger).validate(kit.Translator(), loaders[1], verbose=False)
    assert logger.experiment.get_run(logger.run_id).data.metrics["audit/auc/headline"] == pytest.approx(
        callback.result.auc
    )
    (tmp_path / "copy").mkdir()
    assert "audit/memorization_curve.png" in (artefacts_of(logger, tmp_path / "copy"))
    assert logger.log_metrics == MLFlowLogger.log_metrics.__get__(logger), "the logger is the user's"


def test_stores_that_take_every_key_get_it_as_it_is() -> None:
    logged: list[dict[str, float]] = []

    class Server(MLFlowLogger):
        def __init__(self) -> None:
            self._tracking_uri = "https://mlflow.example"

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            logged.append(metrics)

    trainer = SimpleNamespace(loggers=[Server()], current_epoch=3)
    ScalarLog(AuditConfig()).write(trainer, {"audit/auc": 0.5, "audit/auc/membership": 0.5}, step=1)
    assert logged == [{"audit/auc": 0.5, "audit/auc/membership": 0.5, "epoch": 3}]


def test_other_loggers_are_left_alone(kit, audit, trainer, loaders, logger, tmp_path: Path) -> None:
    table = CSVLogger(tmp_path, "", "")
    trainer(audit(), logger=[table, logger], max_epochs=1).fit(kit.Translator(), *loaders)
    assert "audit/auc," in (tmp_path / "metrics.csv").read_text().splitlines()[0]
