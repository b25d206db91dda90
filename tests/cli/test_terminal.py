"""--quiet says nothing, --json says one document; warnings and errors go to stderr all the same."""

import json
import logging
import sys

import numpy as np
import pytest

from mia_lightning.cli.main import main
from mia_lightning.cli.terminal import add_to_json, screen, split_flags
from mia_lightning.report.json_summary import json_summary
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.scores.summary import summarise


def made(epoch: int) -> AuditResult:
    member = np.arange(60) < 30
    error = np.random.default_rng(epoch).normal(1, 0.1, 60) - 0.1 * epoch * member
    errors = {"reconstruction": error, "predictability": np.ones(60)}
    scores = {"membership": -error}
    meta = {"epoch": epoch, "step": 10 * epoch, "settings": {"prefix": "audit", "primary": "membership"}}
    metrics = summarise(errors, scores, member, primary="membership") | {"audit/matched_auc": float("nan")}
    return AuditResult(metrics, [str(i) for i in range(60)], member, errors, scores, meta)


def test_flags_are_taken_from_anywhere() -> None:
    assert split_flags(["audit", "--json", "-c", "x"]) == (["audit", "-c", "x"], {"--json"})
    assert split_flags(["--quiet", "fit", "--json"]) == (["fit"], {"--quiet", "--json"})
    assert split_flags(["fit"]) == (["fit"], set())


def test_without_flags_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    with screen("fit", set()):
        print("hello")
        add_to_json(files=["a"])
    assert capsys.readouterr().out == "hello\n"


def test_quiet_leaves_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    with screen("fit", {"--quiet"}):
        print("hello")
        print("careful", file=sys.stderr)
        assert not logging.getLogger("lightning.pytorch.utilities.rank_zero").isEnabledFor(logging.INFO)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "careful\n")
    assert logging.root.manager.disable == logging.NOTSET


def test_json_is_all_there_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    history = [made(0), made(1), made(2)]
    with screen("fit", {"--json"}):
        print("hello")
        add_to_json(audits=[json_summary(history)], files=["runs/a.json"])
        add_to_json(files=["runs/report.html"])
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "fit"
    assert document["files"] == ["runs/a.json", "runs/report.html"]
    (audit,) = document["audits"]
    assert audit["metrics"]["audit/auc"] == history[-1].auc
    assert audit["metrics"]["audit/matched_auc"] is None
    assert [point["epoch"] for point in audit["curve"]] == [0, 1, 2]
    assert audit["curve"][2]["auc_low"] == history[2].interval()[0]
    assert audit["verdict"]["grade"] in ("weak", "strong")
    assert len(audit["verdict"]["sentences"]) == 3


def test_a_failed_command_prints_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        with screen("audit", {"--json"}):
            add_to_json(files=["a"])
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        broken()
    assert capsys.readouterr().out == ""


def test_help_is_printed_though_quiet_is_asked_for() -> None:
    assert split_flags(["fit", "--help", "--quiet"]) == (["fit", "--help"], set())
    assert split_flags(["fit", "--json", "--print_config=skip_null"]) == (["fit", "--print_config=skip_null"], set())


def test_processes_that_are_started_are_quiet_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIA_LIGHTNING_QUIET", raising=False)
    with screen("fit", {"--json"}):
        assert split_flags(["fit"]) == (["fit"], {"--quiet"})
    assert split_flags(["fit"]) == (["fit"], set())


@pytest.mark.parametrize("command", ["demo", "fit", "audit", "evidence", "report", "references"])
def test_the_help_of_each_command_names_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "Every command takes --quiet" in " ".join(capsys.readouterr().out.split())
