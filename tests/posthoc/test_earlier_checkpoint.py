"""An audit of two checkpoints of one training, for who holds both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_checkpoints import MEMBERS, NONMEMBERS, SCORER, Net, model, pairs
from torch.utils.data import TensorDataset

from mia_lightning import Auditor, audit_checkpoint
from mia_lightning.membership.record import record_sides


def save(
    name: str, seed: int, step: int | None = None, members: TensorDataset | None = None, optimizers: int = 1
) -> None:
    content = {"state_dict": model(seed).state_dict()}
    if step is not None:
        content |= {"epoch": step // 8, "global_step": optimizers * step}
    if step is not None and optimizers > 1:  # stepped by hand, as a GAN does
        total = {"total": {"completed": optimizers * step}}
        progress = {"epoch_loop.manual_optimization.optim_step_progress": total}
        content |= {"loops": {"fit_loop": progress | {"epoch_loop.batch_progress": {"total": {"completed": step}}}}}
    if members is not None:
        summary, keys = record_sides(members, NONMEMBERS, {}, None)
        content |= {"callbacks": {"MembershipAudit": {"membership": summary.to_plain()}}}
        keys.write(Path())
    torch.save(content, name)


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("last.ckpt", 0, 40)
    save("early.ckpt", 1, 8)


def audit(earlier_ckpt, path="last.ckpt", **options):
    return audit_checkpoint(
        Net(), None, path, members=MEMBERS, nonmembers=NONMEMBERS, accelerator="cpu", scorer=SCORER,
        earlier_ckpt=earlier_ckpt, **options,
    )  # fmt: skip


def test_it_adds_the_score_of_both_and_moves_no_other():
    result, plain = audit("early.ckpt"), audit(None)
    assert set(result.scores) - set(plain.scores) == {"combined_history"}
    for name, score in plain.scores.items():
        np.testing.assert_array_equal(result.scores[name], score)
    assert {key: result.metrics[key] for key in plain.metrics} == pytest.approx(plain.metrics, abs=0, nan_ok=True)
    assert (result.verdict_score, result.grade) == (plain.verdict_score, plain.grade)
    auditor = Auditor(scorer=SCORER)
    by_hand = [auditor.run(model(seed), MEMBERS, NONMEMBERS).scores["combined"] for seed in (1, 0)]
    np.testing.assert_allclose(result.scores["combined_history"], np.mean(by_hand, 0), rtol=1e-4, atol=1e-4)
    assert np.isfinite(result.metric("auc_low/combined_history"))
    assert result.meta["interpretation"]["combined_history"].startswith(
        "mean of combined at this audit and at the one before, of early.ckpt, after step 8, which is taken to be of the"
    )


def test_other_checkpoints_are_refused_before_the_audit(monkeypatch):
    monkeypatch.setattr("mia_lightning.audit.auditor.Auditor.run", None)
    save("copy.ckpt", 0, 8)
    save("later.ckpt", 1, 48)
    save("others.ckpt", 1, 8, members=pairs(24, 5))
    torch.save({"state_dict": Net(width=5).state_dict()}, "wider.ckpt")
    for name, error, message in (
        (
            "none.ckpt",
            FileNotFoundError,
            r"^earlier_ckpt \(--earlier_ckpt\): .*none\.ckpt.* Expected a checkpoint that the same training wrote",
        ),
        ("wider.ckpt", ValueError, r"^earlier_ckpt .* Expected weights of the audited architecture"),
        ("copy.ckpt", ValueError, "copy.ckpt has the very weights that are audited"),
        (
            "later.ckpt",
            ValueError,
            "later.ckpt is of step 48, and the audited last.ckpt of step 40: expected an earlier",
        ),
        ("others.ckpt", ValueError, "others.ckpt: These are not the members that the model was trained on"),
    ):
        with pytest.raises(error, match=message):
            audit(name)
    with pytest.raises(ValueError, match="primary='combined_history' is one of them"):
        audit("early.ckpt", primary="combined_history")


def test_of_two_optimizers_batches_and_their_steps_are_told_apart():
    save("last.ckpt", 0, 40, optimizers=2)
    save("early.ckpt", 1, 8, optimizers=2)
    save("later.ckpt", 1, 48, optimizers=2)
    message = (
        r"later.ckpt is of batch 48 \(optimizer step 96\), and the audited last.ckpt of batch 40 \(optimizer step 80\)"
    )
    with pytest.raises(ValueError, match=message):
        audit("later.ckpt")
    result = audit("early.ckpt")
    assert (result.meta["step"], result.meta["global_step"]) == (40, 80)
    assert (
        "of early.ckpt, after batch 8 (optimizer step 16), which" in result.meta["interpretation"]["combined_history"]
    )


def test_other_members_are_taken_at_the_users_word_and_said():
    save("others.ckpt", 1, 8, members=pairs(24, 5))
    result = audit("others.ckpt", unverified_members=True)
    assert "combined_history" in result.scores
    notes = [note for note in result.meta["notes"] if "others.ckpt: audited at the user's word, although" in note]
    assert len(notes) == 1


def test_what_is_absent_is_stated_once_of_the_checkpoint_that_was_named():
    state = {name: value + 1e-7 for name, value in model(0).state_dict().items()}
    torch.save({"state_dict": state, "epoch": 1, "global_step": 8}, "near.ckpt")
    result = audit("near.ckpt", scores=("membership", "combined", "combined_history"))
    stated = result.meta["interpretation"]["combined_history"]
    assert stated == "absent: every earlier audit has the errors of this one, as audits of the same weights have"
    assert f"No score combined_history: {stated}." in result.meta["notes"]


def test_an_audit_without_copies_says_why_there_is_none():
    result = audit("early.ckpt", scores=("membership",))
    assert "combined_history" not in result.scores
    assert any(note.startswith("No score combined_history: it needs neighbour") for note in result.meta["notes"])
