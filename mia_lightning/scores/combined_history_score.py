"""The combined score over two audits of a training, which only who holds several checkpoints of the run can compute."""

from collections.abc import Mapping, Sequence

import numpy as np

from mia_lightning.registry import Colour, Column, ScoreInputs, Sides, register_score
from mia_lightning.scores.combined_score import FURTHER_PARTS, PARTS, combined, neighbour_columns

EXPOSURE = "how exposed samples are to somebody who holds several checkpoints of the run, not to who has the last only"

SAME_WEIGHTS = 1e-3
"""Relative difference of all reconstruction errors below which two audits count as audits of the same weights."""

SAME_PAIR = 1e-2
"""Relative difference of predictability errors, which no weights change, up to which an id stands for the same pair."""

_NEEDED = ("reconstruction", "predictability", "membership")


def statement(inputs: ScoreInputs, earlier: Sequence[str]) -> str:
    """What an audit states of the score: of which audits it is the mean, or why it is absent.

    Args:
        inputs: Those that the score was made of.
        earlier: When the audits of ``inputs.history`` were made, such as ``"after step 120"``; empty texts where the
            course of the training tells it.
    """
    if not inputs.history:
        return (
            f"absent: there is no earlier audit of the training, nor a checkpoint as earlier_ckpt; it tells {EXPOSURE}"
        )
    number = _audit_before(inputs)
    if number is None:
        return "absent: every earlier audit has the errors of this one, as audits of the same weights have"
    before, when = inputs.history[number], f", {earlier[number]}" if earlier[number] else ""
    if missing := _missing(before):
        return (
            f"absent: the audit before{when} has not measured {' and '.join(missing)}; audit the training from "
            "its start with scores=[..., 'combined_history'], or name the earlier checkpoint with earlier_ckpt "
            "(--earlier_ckpt) in an audit of the later one"
        )
    mean = f"mean of combined at this audit and at the one before{when}: {EXPOSURE}"
    sides = (("this audit", inputs.errors), ("the audit before", before))
    whole = [audit for audit, errors in sides if not errors.keys() >= {*FURTHER_PARTS}]
    if len(whole) == 1:
        mean += (
            f"; {whole[0]} has no errors of tiles, which older releases did not measure: its combined is without them"
        )
    complete, same = _complete(before), _same_pair(inputs, before)
    if not complete.any():
        return (
            f"absent: the audit before{when} has no number of any of these samples: they are others, under other ids, "
            "the model had no finite prediction of them, or they were left in the folder of the run, where the "
            "checkpoint no longer is"
        )
    absent = [f"{n} have no number at the audit before" for n in [int((~complete).sum())] if n]
    absent += [f"{n} were other pairs under the same ids there" for n in [int((complete & ~same).sum())] if n]
    if not absent:
        return mean
    return (
        f"{mean}; of {len(inputs.member)} samples {' and '.join(absent)}, so that these have no score and the score no "
        "metrics: show the same pairs, under the same ids and without random transforms, to each audit"
    )


@register_score(
    "combined_history",
    label="combined history",
    sentence="the mean of combined at this audit and at the one before: for who holds several checkpoints of the run, "
    "not the last one only.",
    errors=PARTS,
    further_errors=FURTHER_PARTS,
    needs=frozenset({"history", "neighbours", "nonmembers"}),
    remark="needs two checkpoints of the run",
    statement=statement,
    colour=Colour("#7A6A00", "#CDBB3C"),
    order=170,
)
def combined_history(inputs: ScoreInputs) -> Column:
    """Average the combined score at this audit and at the one before it, (N,), in nats.

    It says how exposed samples are to the owner of the run, and to anybody else who holds several of its checkpoints;
    who holds the last one only has ``combined``. Two weights of one training err differently on samples that neither
    has memorised, and alike on those that both have: their mean has less noise.

    The audit before is the latest one of other weights. Its score is made anew of its errors, for the samples that both
    audits have by id and side.

    Returns:
        The mean; NaN for samples that the audit before has no number of, or that were another pair under the same id
        there: for all of them at the first audit, or where the one before has not measured errors on neighbours.
    """
    number = _audit_before(inputs)
    if number is None or _missing(before := inputs.history[number]):
        return np.full(inputs.member.shape, np.nan)
    shared = _complete(before) & _same_pair(inputs, before)
    errors = {name: np.where(shared, before[name], np.nan) for name in before}
    earlier = combined(ScoreInputs(errors, inputs.member, inputs.seed, group=inputs.group))
    return (combined(inputs) + earlier) / 2.0


def _audit_before(inputs: ScoreInputs) -> int | None:
    """Number of the latest earlier audit of other weights; None where there is none.

    What is audited twice without a step between, as after a training or out of its last checkpoint, tells nothing new.
    """
    now = inputs.errors["reconstruction"]
    for number in reversed(range(len(inputs.history))):
        before = inputs.history[number].get("reconstruction")
        if before is None:
            return number
        both = np.isfinite(now) & np.isfinite(before)
        if not both.any() or not np.allclose(now[both], before[both], rtol=SAME_WEIGHTS, atol=0.0):
            return number
    return None


def _missing(before: Mapping[str, Column]) -> list[str]:
    """Errors that an earlier audit lacks."""
    missing = [name for name in _NEEDED if name not in before]
    try:
        neighbour_columns(before)
    except KeyError:
        missing.append("neighbour")
    return missing


def _complete(before: Mapping[str, Column]) -> Sides:
    """Whether samples have all numbers at an earlier audit, (N,)."""
    columns = [*(before[name] for name in _NEEDED), *neighbour_columns(before)]
    return np.asarray(np.isfinite(columns).all(axis=0))


def _same_pair(inputs: ScoreInputs, before: Mapping[str, Column]) -> Sides:
    """Whether ids stand for the same pairs at an earlier audit, (N,): ids may be places in data that are drawn anew."""
    return np.isclose(inputs.errors["predictability"], before["predictability"], rtol=SAME_PAIR, atol=0.0)
