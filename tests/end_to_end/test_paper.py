"""The command that runs the paper's experiments keeps count of its attempts, and reads no run of other settings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from benchmark_scripts import benchmark_script


@pytest.fixture
def paper(tmp_path: Path):
    (tmp_path / "wbc").mkdir()
    (tmp_path / "net.yaml").write_text("data: {init_args: {root: wbc}}")
    with benchmark_script("paper") as script:
        yield script


def trainings(monkeypatch: pytest.MonkeyPatch, *events: int | type[BaseException]) -> list[list[str]]:
    """Stand in for processes: an attempt takes 100 seconds between two events, and ends with a code or an error."""
    clock, left, commands = [0.0], list(events), []

    class Process:
        def __init__(self, command: list[str]) -> None:
            commands.append(command)

        def wait(self, seconds: float) -> int:
            clock[0] += 100.0
            event = left.pop(0)
            if event is subprocess.TimeoutExpired:
                raise subprocess.TimeoutExpired("train", seconds)
            if isinstance(event, int):
                return event
            raise event

        def kill(self) -> None:
            pass

    monkeypatch.setattr("subprocess.Popen", Process)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    return commands


def test_attempts_that_were_killed_count(paper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = trainings(monkeypatch, subprocess.TimeoutExpired, KeyboardInterrupt, subprocess.TimeoutExpired, 0)
    config, output = tmp_path / "net.yaml", tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        paper.run(config, tmp_path, output)
    notes = output / "net" / "finished.json"
    record = json.loads(notes.read_text())
    assert (record["finished"], record["seconds"]) == (False, 200.0)
    for _ in range(2):  # once finished, it is read
        paper.run(config, tmp_path, output)
        record = json.loads(notes.read_text())
        assert (record["finished"], record["seconds"], len(commands)) == (True, 400.0, 2)


def test_a_run_of_other_settings_is_not_read(paper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trainings(monkeypatch, 0)
    config, output = tmp_path / "net.yaml", tmp_path / "out"
    paper.run(config, tmp_path, output, ["--seed=1"])
    with pytest.raises(SystemExit, match="a run with other options: delete it, or name another folder with --output"):
        paper.run(config, tmp_path, output, ["--seed=2"])
    config.write_text("# another comment\n" + config.read_text())
    assert paper.run(config, tmp_path, output, ["--seed=1"]) == output / "net"
    config.write_text("data: {init_args: {root: wbc, batch_size: 2}}")
    with pytest.raises(SystemExit, match="a run with other configuration"):
        paper.run(config, tmp_path, output, ["--seed=1"])


def test_the_table_ends_with_means_over_the_runs_that_have_a_score(paper, tmp_path: Path) -> None:
    one, other = (dict.fromkeys(paper.SCORES[:2], (auc, auc - 0.1, auc + 0.1)) for auc in (0.6, 0.8))
    rows = [
        paper.Row("one", 120, 100, one, {"reconstruction": 0.1}, ("val/ssim", 0.5), 60.0),
        paper.Row("other", 120, 90, other | {"combined": (0.9, 0.8, 0.95)}, {}, None, 90.0),
    ]
    paper.write_table(rows[:1], tmp_path)
    assert "mean" not in (tmp_path / "table.md").read_text()
    paper.write_table(rows, tmp_path)
    *_, first, second, mean, _, _ = (tmp_path / "table.md").read_text().splitlines()
    assert first == "| one | 120 + 100 | 0.600 (0.50 to 0.70) | 0.600 (0.50 to 0.70) |  | 0.10 | ssim 0.500 | 1.0 |"
    assert second.endswith("| 0.900 (0.80 to 0.95) | - |  | 1.5 |")
    assert mean == "| **mean** |  | **0.700** of 2 | **0.700** of 2 | **0.900** of 1 |  |  | 2.5 in all |"
