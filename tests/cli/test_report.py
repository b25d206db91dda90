"""``mia-lightning report``: what it writes, what it prints, and what it says to people who mistype."""

import json

import numpy as np
import pytest

from mia_lightning.cli.main import main
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import write_audit
from mia_lightning.scores.analysis import Plan, analyse


def audited(epoch=0, seed=0):
    rng, member = np.random.default_rng(seed), np.arange(60) < 30
    raw = {"reconstruction": rng.uniform(0.1, 0.3, 60) - 0.05 * member, "predictability": rng.uniform(0.1, 0.2, 60)}
    found = analyse(raw, {}, member, Plan())
    meta = {"epoch": epoch, "step": epoch + 1, "settings": {"prefix": "audit", "primary": "membership"}}
    return AuditResult(found.metrics, [f"s{n}" for n in range(60)], member, found.errors, found.scores, meta)


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a", 0), ("b", 1)):
        for epoch in range(2):
            write_audit(audited(epoch, seed), tmp_path / "runs" / name / "version_0" / "audit")
    return tmp_path / "runs"


def failure(capsys, *args, status=1):
    with pytest.raises(SystemExit) as stopped:
        main(["report", *args])
    assert stopped.value.code == status
    return capsys.readouterr().err


def test_a_report_is_written_beside_the_audits(runs, capsys):
    main(["report", "runs/a/version_0"])
    folder = runs / "a" / "version_0" / "audit"
    assert capsys.readouterr().out == (
        f"a/version_0: {audited(1).verdict.grade}\n"
        "Written: runs/a/version_0/audit/report.html, runs/a/version_0/audit/report.md\n"
    )
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (folder / "report.md").read_text(encoding="utf-8").startswith("## Membership audit of a/version\\_0")


def test_formats_and_folder_can_be_chosen(runs, capsys):
    main(["report", "runs/a/version_0/audit", "--format", "model-card", "html", "--output_dir", "out"])
    assert capsys.readouterr().out.endswith("Written: out/model-card.md, out/report.html\n")
    assert sorted(p.name for p in (runs.parent / "out").iterdir()) == ["model-card.md", "report.html"]
    assert not list(runs.rglob("report.html"))


def test_runs_are_compared(runs, capsys):
    main(["report", "--compare", "runs/a/version_0", "runs/b/version_0", "--output_dir", "out"])
    first = capsys.readouterr().out
    assert first.endswith("Written: out/comparison.html, out/comparison.md\n")
    text = (runs.parent / "out" / "comparison.md").read_text(encoding="utf-8")
    main(["report", "runs/a/version_0", "--compare", "runs/b/version_0", "--output_dir", "out"])
    assert (runs.parent / "out" / "comparison.md").read_text(encoding="utf-8") == text


def test_other_programs_get_json(capsys):
    main(["report", "runs/a/version_0", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [point["epoch"] for point in found["audits"][0]["curve"]] == [0, 1]
    assert found["files"] == ["runs/a/version_0/audit/report.html", "runs/a/version_0/audit/report.md"]
    main(["report", "--compare", "runs/a/version_0", "runs/b/version_0", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == ["a/version_0", "b/version_0"]
    assert set(found["differences"][0]["difference"]) == {"difference", "low", "high", "p_value"}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["nowhere"], "There is no nowhere. Expected a run's folder as runs/NAME/version_0"),
        (["runs"], "runs holds no audit. Expected a run's folder"),
        ([], "Name the run to report on: mia-lightning report runs/NAME/version_0."),
        (
            ["--compare", "runs/a/version_0"],
            "Name at least two runs to compare: --compare runs/a/version_0 ANOTHER_RUN.",
        ),
        (["runs/a/version_0", "--prefix", "x"], "holds no audits of the prefix 'x'; those there are of audit."),
        (
            ["--compare", "runs/a/version_0", "runs/b/version_0", "--format", "html"],
            "A comparison is written as HTML and Markdown: leave out --format.",
        ),
        (
            ["runs/a/version_0", "--output_dir", "file"],
            "--output_dir names a folder to write into, but file is a file.",
        ),
    ],
)
def test_what_is_wrong_is_said(runs, capsys, args, text):
    (runs.parent / "file").write_text("x")
    assert text in failure(capsys, *args)


def test_a_wrong_option_or_format_is_named(capsys):
    assert "did you mean '--format'?" in failure(capsys, "--frmat", "html", status=2)
    message = failure(capsys, "runs/a/version_0", "--format", "pdf", status=2)
    assert "'pdf' (choose from 'html', 'markdown', 'model-card', 'csv', 'dpia')" in message
