"""A logger that a configuration names gets the audit of a training, and its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mia_lightning.cli.main import main

CONFIG = Path(__file__).parents[2] / "configs" / "segmentation" / "wbc.yaml"


@pytest.mark.usefixtures("quick_features")
def test_mlflow_keeps_the_report_of_a_training(tmp_path: Path, monkeypatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder, shape, high in (("images", (40, 40, 3), 255), ("masks", (40, 40), 3)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, high, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"c{i:02d}.png")
    store = f"file:{tmp_path / 'mlruns'}"
    trainer = {
        "accelerator": "cpu",
        "max_epochs": "1",
        "limit_train_batches": "1",
        "enable_progress_bar": "false",
        "default_root_dir": "run",
        "logger": "MLFlowLogger",
        "logger.experiment_name": "tiny",
        "logger.tracking_uri": store,
    }
    options = [f"--trainer.{name}={value}" for name, value in trainer.items()]
    main(["fit", "-c", str(CONFIG), "--data.root=data", "--model.base_channels=4", *options])
    client = mlflow.MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    kept = {file.path for folder in ("audit", "report") for file in client.list_artifacts(run.info.run_id, folder)}
    assert {"audit/figures", "audit/memorization_curve.png", "report/report.html", "report/report.md"} <= kept
    assert run.data.metrics["audit/auc/headline"] == run.data.metrics["audit/auc/membership"]
