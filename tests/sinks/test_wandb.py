"""What Weights & Biases gets of an audited training, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning_package import WandbLogger
from PIL import Image

from mia_lightning import AuditResult
from mia_lightning.result.verdict import headline
from mia_lightning.sinks.wandb import WandbSink

wandb = pytest.importorskip("wandb", reason="needs the extra wandb")


@pytest.fixture
def logger(tmp_path: Path, monkeypatch):
    for variable, value in {"MODE": "offline", "SILENT": "true", "DISABLE_GIT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{variable}", value)
    for folder in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{folder}", str(tmp_path / folder.lower()))
    yield WandbLogger(name="tiny", save_dir=tmp_path, project="tiny")
    wandb.finish()


@pytest.fixture
def sent(logger, monkeypatch) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """What the run is asked to keep, beside what it writes: rows of its history, and files by artefact."""
    rows: list[dict[str, Any]] = []
    artefacts: dict[str, list[str]] = {}
    run = logger.experiment
    log, log_artifact = run.log, run.log_artifact

    def note(row: dict[str, Any], *args: Any, **options: Any) -> None:
        rows.append(dict(row))
        log(row, *args, **options)

    def note_artefact(artefact: Any, *args: Any, **options: Any) -> Any:
        artefacts[artefact.name.removesuffix(f"-{run.id}")] = sorted(artefact.manifest.entries)
        return log_artifact(artefact, *args, **options)

    monkeypatch.setattr(run, "log", note)
    monkeypatch.setattr(run, "log_artifact", note_artefact)
    return rows, artefacts


def test_a_training_on_weights_and_biases(kit, audit, trainer, loaders, logger, sent, tmp_path: Path) -> None:
    rows, artefacts = sent
    callback = audit()
    run = trainer(callback, logger=logger)
    run.fit(kit.Translator(), *loaders)
    (tmp_path / "report.html").write_text("<p>a report</p>")
    callback.attach(run, [tmp_path / "report.html"])
    files = Path(logger.experiment.dir)
    summary = logger.experiment.summary
    assert summary["audit/headline"] == headline(callback.result)
    wandb.finish()

    assert [row["audit/auc"] for row in rows if "audit/auc" in row] == pytest.approx([r.auc for r in callback.history])
    for key in ("audit/roc", "audit/distribution", "audit/most_exposed", "audit/member_like", "audit/verdict"):
        assert [row["trainer/global_step"] for row in rows if key in row] == [2, 5], key
    images = [p for p in files.rglob("media/images/audit/*") if p.is_file()]
    assert len(images) == 2 * 4 + 1  # and the curve
    for path in images:
        with Image.open(path) as image:
            assert min(image.size) > 100
    texts = [row["audit/verdict"] for row in rows if "audit/verdict" in row]
    assert all(result.verdict.found in text for text, result in zip(texts, callback.history, strict=True))

    assert artefacts["membership-report"] == ["report.html"]
    names = ["audit-epoch=0001-step=00000006.csv", "audit-epoch=0001-step=00000006.json", "memorization_curve.png"]
    assert artefacts["membership-audit"][:3] == names
    assert artefacts["membership-audit"][3].startswith("samples.")


def test_audits_side_by_side_have_an_artefact_each(kit, audit, trainer, loaders, logger, sent) -> None:
    rows, artefacts = sent
    run = trainer(audit(sinks=[WandbSink()]), audit(prefix="a/b"), logger=logger, max_epochs=1)
    run.fit(kit.Translator(), *loaders)
    assert set(artefacts) == {"membership-audit", "membership-a_b"}
    assert {"audit/roc", "a/b/roc"} <= {key for row in rows for key in row}


def test_nothing_is_sent_without_an_audit(kit, audit, trainer, loaders, logger, sent) -> None:
    with pytest.warns(UserWarning, match="ended without an audit"):
        trainer(audit(), logger=logger, limit_val_batches=0).fit(kit.Translator(), *loaders)
    assert sent[1] == {}
    assert not any(key.startswith("audit/") for row in sent[0] for key in row)


def test_the_artefact_holds_the_last_result(kit, audit, trainer, loaders, logger, monkeypatch) -> None:
    kept = []

    def keep(self: Any, path: str, **options: Any) -> None:
        if path.endswith(".json"):
            kept.append(AuditResult.from_json(path))

    monkeypatch.setattr(wandb.Artifact, "add_file", keep)
    callback = audit()
    trainer(callback, logger=logger).fit(kit.Translator(), *loaders)
    assert [r.epoch for r in kept][:1] == [1]
    kit.same(kept[0], callback.result)
