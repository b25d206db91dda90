"""Finding the audits of a run, and writing reports beside them."""

import json
from dataclasses import replace

import pytest

from mia_lightning.report.compare import compare
from mia_lightning.report.run import Run, read_run
from mia_lightning.report.write import write_comparison, write_report, write_report_or_warn
from mia_lightning.result.history import write_audit
from mia_lightning.result.picture_files import Picture, write_pictures


@pytest.fixture
def run_folder(tmp_path, made):
    folder = tmp_path / "runs" / "demo" / "version_0"
    for epoch in range(3):
        write_audit(made(0.01 * epoch, epoch=epoch), folder / "audit")
    (folder / "config.yaml").write_text("seed: 1\n")
    (folder / "hparams.yaml").write_text("{}\n")
    return folder


def test_a_run_is_found_by_each_of_its_folders(run_folder):
    for path in (run_folder, run_folder / "audit"):
        run = read_run(path)
        assert (run.name, run.folder) == ("demo/version_0", run_folder / "audit")
        assert [r.epoch for r in run.history] == [0, 1, 2]
        assert run.config == "seed: 1\n"


def test_an_audit_of_trained_weights_is_found_by_folder_and_file(tmp_path, made):
    made().to_json(tmp_path / "weights" / "audit" / "result.json")
    for path in (tmp_path / "weights" / "audit", tmp_path / "weights" / "audit" / "result.json", tmp_path / "weights"):
        run = read_run(path)
        assert (run.name, len(run.history)) == ("weights", 1)


def test_a_configuration_that_is_no_runs_is_left_alone(tmp_path, made):
    write_audit(made(epoch=0), tmp_path / "project" / "audit")
    (tmp_path / "project" / "config.yaml").write_text("password: secret\n")
    assert read_run(tmp_path / "project").config is None


def test_several_audits_side_by_side_are_told_apart(run_folder, made):
    other = made(epoch=0)
    other.meta["settings"]["prefix"] = "other/set"
    other = replace(other, metrics={k.replace("audit/", "other/set/"): v for k, v in other.metrics.items()})
    write_audit(other, run_folder / "audit")
    with pytest.raises(ValueError, match=r"audits of several prefixes, audit, other_set: choose one with --prefix\.$"):
        read_run(run_folder)
    with pytest.raises(ValueError, match=r"no audits of the prefix 'x'; those there are of audit, other_set\.$"):
        read_run(run_folder, "x")
    run = read_run(run_folder, "other/set")
    assert len(run.history) == 1
    assert [p.name for p in write_report(run)] == ["other_set-report.html", "other_set-report.md"]


def test_audits_of_trained_weights_below_the_first(tmp_path, made):
    second = made()
    second.meta["settings"]["prefix"] = "second"
    made().to_json(tmp_path / "result.json")
    second.to_json(tmp_path / "second" / "result.json")
    assert read_run(tmp_path, "second").result.prefix == "second"
    assert read_run(tmp_path, "audit").result.prefix == "audit"
    with pytest.raises(ValueError, match="holds an audit of the prefix 'audit', and none of 'third'"):
        read_run(tmp_path, "third")


def test_wrong_paths_say_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^There is no .*nowhere\. Expected a run's folder as runs/NAME"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no audit\. Expected a run's folder as runs/NAME/version_0"):
        read_run(tmp_path)
    (tmp_path / "page.json").write_text("[]")
    with pytest.raises(ValueError, match=r"page\.json is not an audit result"):
        read_run(tmp_path / "page.json")


def test_broken_files_are_passed_over_while_one_is_whole(run_folder):
    files = sorted((run_folder / "audit").glob("*.json"))
    files[1].write_text('{"format": 1')
    with pytest.warns(UserWarning, match="The history goes on without a broken file"):
        assert [r.epoch for r in read_run(run_folder).history] == [0, 2]
    for file in files:
        file.write_text("")
    with (
        pytest.warns(UserWarning, match="broken file"),
        pytest.raises(ValueError, match=r"None of the audits of the prefix 'audit' in .* can be read"),
    ):
        read_run(run_folder)


def test_broken_pictures_cost_the_pictures_alone(run_folder):
    (run_folder / "audit" / "audit-pictures.json").write_text("{")
    with pytest.warns(UserWarning, match="The report goes on without pictures"):
        assert read_run(run_folder).pictures == []


def test_a_picture_that_is_none_costs_the_pictures_alone(run_folder):
    result = read_run(run_folder).result
    write_pictures([Picture(0, "most exposed", {"input": b"<svg onload=x>"})], result, run_folder / "audit")
    with pytest.warns(UserWarning, match=r"without pictures: .* the input of row 0 is neither PNG nor JPEG: it begins"):
        run = read_run(run_folder)
    assert run.pictures == []
    assert len(write_report(run)) == 2


@pytest.mark.parametrize("content", ['{"format": "minutes"}', "[1]", "", "\xff"])
def test_a_file_that_is_only_named_like_an_audit_is_no_other_audit(run_folder, made, content):
    for folder in (run_folder, run_folder / "audit"):
        (folder / "notes-step=1.json").write_text(content, encoding="latin-1")
    assert len(read_run(run_folder).history) == 3
    made().to_json(run_folder / "weights" / "result.json")
    (run_folder / "weights" / "notes-step=1.json").write_text(content, encoding="latin-1")
    assert len(read_run(run_folder / "weights").history) == 1


def test_an_audit_that_somebody_has_laid_out_anew_is_one_still(run_folder):
    for file in (run_folder / "audit").glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()), sort_keys=True))
    assert len(read_run(run_folder).history) == 3


PARTS = ("settings", "membership", "neighbours", "versions", "utility", "looks", "notes", "epsilon", "on_both_sides")


@pytest.mark.parametrize("null", ["parts", "settings"])
def test_nulls_are_missing_parts(tmp_path, made, null):
    told = json.loads(made(0.05).to_json(tmp_path / "result.json").read_text())
    if null == "parts":
        told["meta"] |= dict.fromkeys(PARTS)
    else:
        told["meta"]["settings"] |= dict.fromkeys(("prefix", "primary", "fdr", "seed"))
    (tmp_path / "result.json").write_text(json.dumps(told))
    run = read_run(tmp_path / "result.json")
    assert (run.result.prefix, run.result.primary) == ("audit", "membership")
    assert len(write_report(run, formats=["html", "markdown", "model-card"])) == 3
    assert len(write_comparison(compare([run, run]))) == 2


def test_an_unknown_primary_score_is_named(tmp_path, made):
    result = made(scores=("membership", "reconstruction"))
    result.meta["settings"]["primary"] = "best"
    path = result.to_json(tmp_path / "result.json")
    wrong = r"Expected the primary score to be one of membership, reconstruction, but found 'best'\.$"
    with pytest.raises(ValueError, match=wrong):
        read_run(path)


def test_pictures_are_those_of_the_latest_audit(run_folder, run_of_three):
    result = read_run(run_folder).result
    write_pictures(run_of_three.pictures, result, run_folder / "audit")
    assert len(read_run(run_folder).pictures) == 6


def test_a_run_without_audits_is_none(tmp_path):
    with pytest.raises(ValueError, match="Expected at least one audit to report on, but the run 'x' has none"):
        Run("x", tmp_path, [])


def test_reports_go_beside_the_audits_and_nowhere_else(run_folder, tmp_path):
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    written = write_report(read_run(run_folder), formats=["model-card", "html", "html"])
    assert written == [run_folder / "audit" / "model-card.md", run_folder / "audit" / "report.html"]
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == before | set(written)
    elsewhere = write_report(read_run(run_folder), tmp_path / "new" / "folder")
    assert elsewhere == [tmp_path / "new" / "folder" / name for name in ("report.html", "report.md")]
    run = read_run(run_folder)
    assert write_comparison(compare([run, run])) == [run.folder / n for n in ("comparison.html", "comparison.md")]


def test_unknown_formats_are_named(run_of_three):
    with pytest.raises(ValueError, match="formats html, markdown, model-card, csv, dpia, but got pdf"):
        write_report(run_of_three, formats=["pdf"])
    with pytest.raises(ValueError, match="but got none"):
        write_report(run_of_three, formats=[])


def test_a_report_that_fails_costs_the_report_alone(tmp_path, made):
    (tmp_path / "full").write_text("a file where a folder should be")
    with pytest.warns(
        UserWarning, match=r"The report could not be written \(\w+: .*\); the audit is complete in .*full"
    ):
        assert write_report_or_warn([made()], tmp_path / "full") == []
    assert write_report_or_warn([], tmp_path) == []
    assert [p.name for p in write_report_or_warn([made()], tmp_path / "new")] == ["report.html", "report.md"]


def test_failed_audits_are_stated(run_folder) -> None:
    from mia_lightning.report.html_page import html
    from mia_lightning.report.markdown_page import markdown
    from mia_lightning.result.failed_audit import FailedAudit, write_failure

    before = read_run(run_folder)
    failures = [FailedAudit(f"OSError: <{n}> no space left", n, 10 * n) for n in range(20, 32)]
    for failure in reversed(failures):
        write_failure(failure, before.folder)
    run = read_run(run_folder)
    assert list(run.failures) == failures
    assert len(run.history) == len(before.history)
    for page, first in ((html(run), "OSError: &lt;20&gt; no space"), (markdown(run), "no space left")):
        assert first in page
        assert "The audit after epoch 30 failed" in page
        assert "after epoch 31 failed" not in page
        assert "2 more audits failed." in page
    assert "failed" not in markdown(before)


def test_a_run_whose_audits_all_failed_says_why(tmp_path) -> None:
    from mia_lightning.result.failed_audit import FailedAudit, write_failure

    write_failure(FailedAudit("OSError: no space left on device", 0, 3), tmp_path / "audit")
    with pytest.raises(
        ValueError, match=r"no audit that succeeded\. The audit after epoch 1 failed: OSError: no space"
    ):
        read_run(tmp_path)
