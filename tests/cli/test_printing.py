"""Which members a model exposes, and since when: what ``mia-lightning audit --top`` prints."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from mia_lightning.cli.main import main
from mia_lightning.cli.printing import print_exposed
from mia_lightning.report.terminal_tables import curve_table, exposed_table
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import flagged_since, read_audits
from mia_lightning.scores.building import selectable_scores

WBC = str(Path(__file__).parents[2] / "configs" / "segmentation" / "wbc.yaml")
BOUNDS = (("low", 0.25), ("high", 0.75))
IDS = ["[red]x[/red]", "=1+1", "plain", "two\nlines\x1b[31m"]

SCORES = selectable_scores()


def audit(epoch: int | None = 0, flagged: str = "1100", scores: tuple[str, ...] = ("membership",)) -> AuditResult:
    """Four members, of which those marked 1 stand out from nineteen nonmembers."""
    values = np.array(
        [3.0 - i / 10 if f == "1" else -1.0 - i for i, f in enumerate(flagged)] + [i / 19 for i in range(19)]
    )
    metrics = {f"audit/auc/{name}": 0.5 for name in scores} | {
        f"audit/auc_{k}/{name}": v for name in scores for k, v in BOUNDS
    }
    errors = {f"audit/error/reconstruction/{side}": 10.125 for side in ("members", "nonmembers")}
    rates = {"audit/p_value_corrected": 0.0004, "audit/blind_auc": 0.5, "audit/tpr_at_fpr_0.01": 0.125}
    rates["audit/tpr_at_fpr_0.01/estimable"] = 1.0
    return AuditResult(
        metrics | errors | rates,
        [*IDS, *(f"n{i}" for i in range(19))],
        np.arange(23) < 4,
        {},
        dict.fromkeys(scores, values),
        {"epoch": epoch, "step": 10 * (epoch or 0), "settings": {"primary": scores[-1], "fdr": 0.25}},
    )


def printed(*things: Any, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    for thing in things:
        console.print(thing)
    return console.file.getvalue()


def shown(result: AuditResult, earlier: list[AuditResult], top: int | None) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    print_exposed(console, result, earlier, top)
    return console.file.getvalue()


def test_the_most_exposed_members_with_the_epoch_since_which_they_stand_out():
    history = [audit(0, "0100"), audit(1, "1100"), audit(4, "1100")]
    lines = shown(audit(4), history, 3).splitlines()
    assert lines[0] == "Flagged at a false discovery rate of 25 %: 2 of 4 members."
    assert [line.split() for line in lines if re.match(r" *[1-9]\b.*(yes|no)", line)] == [
        ["1", "3.0000", "0.050", "yes", "2", "[red]x[/red]"],
        ["2", "2.9000", "0.050", "yes", "1", "=1+1"],
        ["3", "-3.0000", "1.000", "no", "-", "plain"],
    ]
    assert lines[-1] == "Since: the first audited epoch from which a member stays flagged."


def test_without_top_one_line():
    assert shown(audit(), [audit()], None).splitlines() == [
        "Flagged at a false discovery rate of 25 %: 2 of 4 members."
    ]


def test_without_a_history_it_says_why_there_is_no_epoch():
    text = shown(audit(), [], 1)
    assert ["1", "3.0000", "0.050", "yes", "-", "[red]x[/red]"] in [line.split() for line in text.splitlines()]
    assert "Since when is not known: neither the checkpoint nor its run's folder holds earlier audits." in " ".join(
        text.split()
    )


def test_earlier_audits_count_by_the_score_and_the_rate_of_the_audit():
    other = audit(0, "1100", ("combined",))  # says nothing of the membership score
    strict = audit(1, "1100")
    strict.meta["settings"]["fdr"] = 0.01
    rows = [line.split() for line in shown(audit(3), [other, strict], 2).splitlines() if " yes " in line]
    assert [row[4] for row in rows] == ["2", "2"]


def test_an_audit_with_an_empty_side_lists_nobody():
    result = audit()
    result.member[:] = True
    assert shown(result, [], 5) == ""


def test_ids_are_neither_markup_nor_terminal_codes():
    text = printed(exposed_table(audit(), 10, {}))
    assert "[red]x[/red]" in text
    assert "two\\nlines\\x1b[31m" in text
    assert "\x1b" not in text
    long = audit()
    long.ids[0] = "tile-" * 40
    text = printed(exposed_table(long, 1, {}))
    assert max(map(len, text.splitlines())) <= 80
    assert (
        "".join(re.findall(r"(?:tile|-)+|[tile-]+$", text.split("id", 2)[-1].replace("\n", "").replace(" ", ""))) != ""
    )
    assert text.replace("\n", "").replace(" ", "").count("tile-") >= 39, "a long id is folded, not cut"


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("first", range(6))
def test_the_curve_fits_eighty_columns_with_any_scores(count, first):
    names = tuple((SCORES[first:] + SCORES[:first])[:count])
    text = printed(curve_table([audit(999, scores=names), audit(1000, scores=names)]))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    (row,) = [line.split() for line in lines if line.lstrip().startswith("1001 ")]
    areas = ["0.500"] * min(count, 3)
    assert row == ["1001", *areas, "0.25-0.75", "<0.001", "0.125", "0.500", "10.125/10.125"]
    caption = " ".join(text.split())
    hidden = re.search(r"The JSON file has the other scores: ([a-z_, ]+)\.", caption)
    assert (hidden is not None) == (count > 3)
    if hidden:
        assert len(hidden[1].split(", ")) == count - 3
        assert not {names[-1], "membership", "reconstruction"} & set(hidden[1].split(", "))


def test_a_rate_that_cannot_be_estimated_is_a_dash_and_says_why():
    result = audit()
    result.metrics["audit/tpr_at_fpr_0.01/estimable"] = 0.0
    lines = printed(curve_table([result])).splitlines()
    (row,) = [line.split() for line in lines if line.lstrip().startswith("1 ")]
    assert row == ["1", "0.500", "0.25-0.75", "<0.001", "-", "0.500", "10.125/10.125"]
    assert "TPR at 1 % FPR: not estimable with 19 nonmembers: at least 99." in " ".join(" ".join(lines).split())


def test_a_score_with_a_long_name_is_hyphenated():
    text = printed(curve_table([audit(scores=("likelihood_ratio_online", "membership", "reconstruction"))]))
    assert max(map(len, text.splitlines())) <= 80
    assert "likeliho-" in text
    assert "…" not in text


@pytest.fixture
def wbc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "wbc" / folder).mkdir(parents=True)
    for i in range(12):
        name = "=1+1" if i == 0 else f"c{i:02d}"
        for folder, pixels in (("masks", rng.integers(0, 3, (40, 40))), ("images", rng.integers(0, 255, (40, 40, 3)))):
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "wbc" / folder / f"{name}.png")
    return ["-c", WBC, f"--data.root={tmp_path / 'wbc'}", "--model.base_channels=4", "--audit.fdr=0.99"]


@pytest.mark.usefixtures("quick_features")
def test_top_on_the_command_line(wbc, capsys):
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    main(["fit", *wbc, *quiet, "--trainer.max_epochs=2", "--audit.every_n_epochs=1"])
    (checkpoint,) = Path().rglob("*.ckpt")
    (samples,) = Path("runs").rglob("samples.*")
    history = read_audits(samples.parent)
    assert [r.epoch for r in history] == [0, 1]
    assert "## Membership audit of" in (samples.parent / "report.md").read_text(encoding="utf-8")
    weights = torch.load(checkpoint, weights_only=True)
    torch.save(weights, "kept.ckpt")  # outside of the run: only the checkpoint tells
    torch.save(weights | {"callbacks": {}}, "bare.ckpt")
    capsys.readouterr()
    main(["audit", *wbc, *quiet, "--ckpt_path=kept.ckpt", "--output_dir=out", "--top=4"])
    text = capsys.readouterr().out
    result = AuditResult.from_json("out/result.json")
    assert f"rate of 99 %: {int(result.flagged().sum())} of {int(result.member.sum())} members." in text
    assert "Since: the first audited epoch from which" in text
    rows = [line.split() for line in text.splitlines() if re.match(r" *\d+ .* (yes|no) ", line)]
    since, flagged = flagged_since([*history, result]), dict(zip(result.ids, result.flagged(), strict=True))
    epochs = {name: "-" if epoch is None else str(epoch + 1) for name, epoch in since.items()}
    expected = [[str(k), "yes" if flagged[i] else "no", epochs[i], i] for k, i in enumerate(result.top(4), start=1)]
    assert [[row[0], *row[3:]] for row in rows] == expected
    main(["audit", *wbc, *quiet, "--ckpt_path=bare.ckpt", "--output_dir=out", "--top=1"])
    assert "Since when is not known" in capsys.readouterr().out


def test_top_below_one_is_refused(wbc, capsys):
    torch.save({"state_dict": {}}, "any.ckpt")
    with pytest.raises(SystemExit) as stopped:
        main(["audit", *wbc, "--ckpt_path=any.ckpt", "--top=0", "--trainer.logger=false"])
    assert stopped.value.code == 1
    assert "Expected --top >= 1, the number of members to list, but got 0." in capsys.readouterr().err


def test_the_help_of_audit_explains_top_and_names_checkpoints(capsys):
    with pytest.raises(SystemExit):
        main(["audit", "--help"])
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "Number of most exposed members" in text
    assert "--reference_ckpt FILE" in text
    assert "--earlier_ckpt FILE" in text
