"""Trainings killed at random moments: what they leave behind can be read, and they go on as if never interrupted."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mia_lightning import AuditResult
from mia_lightning.audit.cache import PredictabilityCache
from mia_lightning.result.history import read_audits

SEED = 1
SPREAD = pytest.param(20, marks=pytest.mark.slow)  # so many runs die in all places


@pytest.fixture(scope="module", params=[6, SPREAD])
def killed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of all runs, and for each where it died."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    folder = tmp_path_factory.mktemp("killed")
    worker = Path(__file__).with_name("kill_worker.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(worker), str(folder), str(request.param), str(SEED)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, json.loads((folder / "report.json").read_text(encoding="utf-8"))


def whole_of(folder: Path, number: int) -> Path:
    """The uninterrupted training to compare a run with; each second run has no pyarrow and writes its table as CSV."""
    return folder / ("whole-parquet" if number % 2 else "whole-csv")


def visible(folder: Path) -> list[Path]:
    """The files of a folder. Hidden ones are what a process died over before it gave them their name."""
    return sorted(p for p in folder.glob("*") if not p.name.startswith("."))


def read(path: Path) -> int:
    """Read a file of any kind as its users do; return its rows."""
    if path.name.endswith("-pictures.json"):
        return len(json.loads(path.read_text(encoding="utf-8"))["pictures"])
    if path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
            return picture.height
    if path.suffix == ".json":
        return len(AuditResult.from_json(path).ids)
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet").read_table(path).num_rows
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert {len(row) for row in rows} == {len(header)}, path
    assert all(float(v) <= 1 for row in rows for k, v in zip(header, row, strict=True) if k == "p_value"), path
    return len(rows)


def newest(files: list[Path]) -> str:
    """Epoch and step of the last validation that left an audit."""
    return max((p.stem.partition("-")[2] for p in files if "step=" in p.name), default="")


def same_audit(path: Path, whole: Path, *, died_over: bool) -> None:
    """Compare files to the bit; an audit whose validation had not ended has no utility yet."""
    if path.suffix == ".json" and died_over and "utility" not in json.loads(path.read_text())["meta"]:
        found, expected = (json.loads(p.read_text()) for p in (path, whole))
        del expected["meta"]["utility"]
        assert found == expected, path
    else:
        assert path.read_bytes() == whole.read_bytes(), path


def cached(folder: Path) -> dict[bytes, float]:
    """Check a database and return what it holds; a journal beside it is played back by SQLite."""
    connection = sqlite3.connect(folder / "predictability.sqlite")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        return dict(connection.execute("SELECT key, value FROM predictability")) if tables else {}
    finally:
        connection.close()


def weights(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_what_a_killed_run_leaves_can_be_read(killed, tmp_path: Path) -> None:
    folder, report = killed
    for number in range(len(report)):
        whole, done = whole_of(folder, number), report[number]["done"]
        for left in sorted(folder.glob(f"run-{number:02d}-*")):
            first = left.name.endswith("-killed")
            files = visible(left / "audits")
            last = {p.name for p in files if "step=" in p.name and p.stem.partition("-")[2] == newest(files)}
            for path in files:
                assert read(path) > 0, path
                if "step=" in path.name:  # the others change as the training goes on
                    same_audit(path, whole / "audits" / path.name, died_over=path.name in last)
            written = [p for p in files if "step=" in p.name and p.suffix == ".json"]
            if first:
                assert len(written) >= (done.get("-json", 0) + 1) // 2, (
                    "written once, and again when the validation ends"
                )
                assert done.get("-audit", 0) - len(written) in (0, 1), "at most the audit that it died over is missing"
            if files:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    audits = [read_audits(left / "audits", prefix) for prefix in ("audit", "far")]
                assert sum(map(len, audits)) == len(written)

            checkpoints = {p.name: weights(p) for p in (left / "checkpoints").glob("*")}
            assert all(c["state_dict"].keys() == {*weights_of(whole)} for c in checkpoints.values())
            if first:
                assert ("last.ckpt" in checkpoints) >= (done.get("-checkpoint", 0) >= 2)

            shutil.copytree(left / "cache", tmp_path / left.name)  # as SQLite mends it, for reading, when it is opened
            known, all_values = cached(left / "cache"), cached(whole / "cache")
            assert known.items() <= all_values.items()
            if first:
                assert len(known) >= done.get("-cache", 0)
            keys = list(all_values)
            again = PredictabilityCache(tmp_path / left.name).get(keys)
            assert again == [known.get(k) for k in keys]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return weights(run / "checkpoints" / "last.ckpt")["state_dict"]


def test_a_resumed_run_ends_as_an_uninterrupted_one(killed) -> None:
    """The curve, the files, the cache and the weights: equal to the bit."""
    folder, report = killed
    for number in range(len(report)):
        run, whole = folder / f"run-{number:02d}", whole_of(folder, number)
        for part in ("history", "audits"):
            names = [p.name for p in visible(whole / part)]
            assert len(names) >= 10
            assert [p.name for p in visible(run / part)] == names
            for name in names:
                assert (run / part / name).read_bytes() == (whole / part / name).read_bytes(), name
        assert cached(run / "cache") == cached(whole / "cache")
        ours, theirs = weights_of(run), weights_of(whole)
        assert all(torch.equal(ours[k], v) for k, v in theirs.items())


def test_the_curve_is_one_to_compare_with(killed) -> None:
    """Every audit of the uninterrupted training differs from the one before, and both audits are there."""
    folder, _ = killed
    for prefix, points in (("audit", [(0, 2), (0, 4), (1, 6), (1, 8), (2, 10), (2, 12)]), ("far", None)):
        files = visible(folder / "whole-csv" / "history")
        history = [AuditResult.from_json(p) for p in files if p.name.startswith(prefix)]
        assert [(r.epoch, r.meta["step"]) for r in history] == (points or [(1, 6), (1, 8), (2, 10), (2, 12)])
        assert len({r.errors["reconstruction"].tobytes() for r in history}) == len(history)
        rows = read(folder / "whole-csv" / "audits" / ("samples.csv" if prefix == "audit" else "far-samples.csv"))
        assert rows == sum(len(r.ids) for r in history)


@pytest.mark.parametrize("killed", [SPREAD], indirect=True)
def test_they_died_in_all_places(killed) -> None:
    _, report = killed
    places = [entry["place"] for entry in report]
    assert sum("audit" in place for place in places) >= 4
    assert sum("cache" in place for place in places) >= 2, "within a transaction"
    assert sum("half" in place for place in places) >= 2, "within a file"
    assert sum("json" in place or "csv" in place for place in places) >= 4
    audits = [entry["done"].get("-audit", 0) for entry in report]
    checkpoints = [entry["done"].get("-checkpoint", 0) for entry in report]
    assert checkpoints.count(0) >= 2, "there was nothing to go on from"
    assert len(set(audits[10:])) >= 5, "spread over the training"
    assert any(entry.get("again") for entry in report), "and once more"
