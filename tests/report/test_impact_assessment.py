"""The page for an impact assessment: every sentence follows from the result, and what is not known is said."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from mia_lightning.cli.main import main
from mia_lightning.report.impact_assessment import conclusion, impact_assessment
from mia_lightning.report.run import Run
from mia_lightning.report.write import write_report

TODAY = datetime(2026, 1, 2, tzinfo=UTC)


def text_of(run):
    """The page's text, on one line."""
    texts = []
    parser = HTMLParser()
    parser.handle_data = texts.append
    parser.feed(impact_assessment(run, today=TODAY).partition("<body>")[2])
    return " ".join(" ".join(texts).split())


def test_all_parts_are_there_in_order(run_of_three):
    text = text_of(replace(run_of_three, auditor="Jane Doe"))
    parts = ["What was tested", "On whom", "At what confidence", "Who is most exposed", "Threat model"]
    parts += ["What was not tested", "Measures taken", "Who may see this", "Terms"]
    places = [text.index(f" {part} ") for part in parts]
    assert places == sorted(places)
    assert "Auditor Jane Doe Date of this page 2026-01-02" in text
    for sentence in run_of_three.result.verdict.sentences:
        assert sentence in text
    assert run_of_three.result.top(1)[0] in text
    assert "opinion 28/2024" in text
    assert "Recital 26 of the GDPR" in text


@pytest.mark.parametrize(
    ("made_with", "text"),
    [
        ({"shift": 0.05}, "this speaks against treating the model as anonymous"),
        ({"shift": 0.05, "membership": {"assignment": "split"}}, "should not be treated as anonymous"),
        ({"shift": 0.0, "number": 150}, "by itself it does not show that the model is anonymous"),
        ({"shift": 0.05, "blind_shift": 0.3}, "decides nothing"),
        ({"shift": 0.0, "number": 8}, "decides nothing"),
    ],
)
def test_the_conclusion_follows_the_grade(made, tmp_path, made_with, text):
    result = made(**made_with)
    assert text in conclusion(result)
    assert conclusion(result) in text_of(Run("run", tmp_path, [result]))


def test_single_samples_are_spoken_of_where_some_stand_out(made):
    """A weak finding may be of all members together; also by the score that the verdict rests on."""
    single, together = "inferred of some samples that", "inferred better than by guessing, while no single member"
    flagged, weak = made(shift=0.05), made(shift=0.008)
    assert flagged.flagged().any()
    assert weak.grade == "weak"
    assert not weak.flagged().any()
    assert single in conclusion(flagged)
    assert together in conclusion(weak)
    exposed = replace(weak, metrics=weak.metrics | {"audit/p_value_corrected/most_exposed": 0.01})
    assert single in conclusion(exposed)


def test_persons_are_spoken_of_where_groups_are_known(made, tmp_path):
    assert "No groups were given" in text_of(Run("run", tmp_path, [made()]))
    grouped = made(groups={"members": 12, "nonmembers": 14})
    assert "in groups (such as patients): 12 of members and 14 of nonmembers" in text_of(
        Run("run", tmp_path, [grouped])
    )


def test_what_was_not_done_is_named(made, tmp_path):
    text = text_of(Run("run", tmp_path, [made(scores=("membership", "reconstruction"))]))
    assert "Attacks that this audit did not make: " in text
    named = text.partition("Attacks that this audit did not make: ")[2].partition(".")[0]
    assert "combined" in named
    assert "membership" not in named.split(", ")
    assert "model inversion" in text
    assert "outputs for transformed copies" not in text


def test_files_and_samples_have_digests(made, tmp_path):
    file = tmp_path / "model.ckpt"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert f"SHA-256 of its file {digest}" in text_of(Run("run", tmp_path, [made(checkpoint=str(file))]))
    gone = made(checkpoint=str(tmp_path / "gone.ckpt"))
    assert "not recorded: there is no such file here" in text_of(Run("run", tmp_path, [gone]))
    (tmp_path / "checkpoints").mkdir()
    file.rename(tmp_path / "checkpoints" / "epoch=1.ckpt")
    result = made()
    text = text_of(Run("run", tmp_path / "audit", [result]))
    assert f"SHA-256 of epoch=1.ckpt {digest}" in text
    lines = sorted(f"{'member' if m else 'nonmember'}\t{i}" for i, m in zip(result.ids, result.member, strict=True))
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() in text


@pytest.mark.parametrize(
    ("names", "listed", "sure"),
    [
        (["epoch=10-step=110.ckpt", "epoch=2-step=30.ckpt", "last.ckpt"], ["epoch=10-step=110.ckpt"], True),
        (["epoch=9-step=100.ckpt", "epoch=10-step=110-v1.ckpt"], ["epoch=10-step=110-v1.ckpt"], True),
        (["val_epoch=10.ckpt", "epoch=10.ckpt"], ["epoch=10.ckpt"], True),
        (
            ["epoch=2-step=30.ckpt", "epoch=10-step=105.ckpt", "best.ckpt"],
            ["best.ckpt", "epoch=10-step=105.ckpt", "epoch=2-step=30.ckpt"],
            False,
        ),
    ],
    ids=["of its epoch", "of another version", "another word", "none"],
)
def test_digests_of_a_training_are_of_the_audited_checkpoint_where_names_tell(made, tmp_path, names, listed, sure):
    (tmp_path / "checkpoints").mkdir()
    for name in names:
        (tmp_path / "checkpoints" / name).write_bytes(name.encode())
    text = text_of(Run("run", tmp_path / "audit", [made(epoch=2), made(epoch=10)]))
    rows = [f"SHA-256 of {n} {hashlib.sha256(n.encode()).hexdigest()} (the file as it is today)" for n in listed]
    places = [text.index(row) for row in rows]
    assert places == sorted(places)
    assert text.count(".ckpt ") == len(listed)
    assert ("which may not be the audited one, after epoch 11" in text) == (not sure)


def test_checkpoints_are_named_after_the_steps_of_all_optimizers(made, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name in ("epoch=10-step=110.ckpt", "epoch=10-step=220.ckpt"):
        (tmp_path / "checkpoints" / name).write_bytes(b"weights")
    text = text_of(Run("run", tmp_path / "audit", [made(epoch=10, step=110, global_step=220)]))
    assert "SHA-256 of epoch=10-step=220.ckpt" in text
    assert "epoch=10-step=110.ckpt" not in text


def test_measures_are_those_of_the_configuration(run_of_three, made, tmp_path):
    config = """
model: {class_path: UNetSegmenter, init_args: {dropout: 0.2}}
data: {class_path: SegmentationDataModule, init_args: {augment: flip}}
trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.EarlyStopping}]}
audit: {fail_above: {auc: 0.6}}
"""
    text = text_of(replace(run_of_three, config=config))
    for measure in (
        "could stop early (EarlyStopping)",
        "augmented (data.augment: flip)",
        "trained with dropout (0.2)",
        "its limits (auc 0.6)",
        "The training was audited 3 times",
    ):
        assert measure in text
    assert "further measures are not recorded" in text_of(Run("run", tmp_path, [made()]))
    for broken in ("]", "", "- a", "trainer: null", "data: X", "trainer: {callbacks: [x]}"):
        assert "Measures taken" in text_of(replace(run_of_three, config=broken))


def test_who_may_see_it(run_of_three, made, tmp_path):
    pictured = len(run_of_three.pictures)
    assert f"(report.html) embeds pictures of {pictured} samples" in text_of(run_of_three)
    assert "No pictures of samples were kept" in text_of(Run("run", tmp_path, [made()]))
    assert "<img" not in impact_assessment(run_of_three)


def test_what_users_wrote_is_text(hostile_run):
    page = impact_assessment(replace(hostile_run, auditor="<script>alert(2)</script>"))
    assert "<script" not in page
    assert "<img" not in page


def test_the_command_writes_it(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made().to_json(tmp_path / "result.json")
    main(["report", "result.json", "--format", "dpia", "--auditor", "Jane Doe"])
    assert capsys.readouterr().out.endswith("Written: dpia.html\n")
    assert "Jane Doe" in (tmp_path / "dpia.html").read_text(encoding="utf-8")
    assert [p.name for p in write_report(Run("run", tmp_path, [made()]), None, ["dpia"])] == ["dpia.html"]
