"""Compares the sides of an audit with the coin-flip half that a reference model, or a benchmark's target, was shown."""

from pathlib import Path

from mia_lightning.attacks.reference_folder import MEMBERS, Reference
from mia_lightning.attacks.reference_training import sample_ids
from mia_lightning.audit.loading import Source
from mia_lightning.audit.protocols import Adapter
from mia_lightning.data.records import name_some
from mia_lightning.membership.verification import Verification


def other_half(
    path: str | Path, members: Source, nonmembers: Source, *, owner: str, adapter: Adapter
) -> Verification | None:
    """What is refused, where the file beside a checkpoint says that it was trained on another half of the samples.

    Args:
        path: The checkpoint.
        members: Those of the audit, whole.
        nonmembers: Likewise.
        owner: Class of the data module, for errors.
        adapter: Reads the ids out of batches.

    Returns:
        None where there is no such file, samples have no ids, or the sides are those of the training.
    """
    reference = Reference(0, Path(path).parent)
    if reference.checkpoint.name != Path(path).name or not reference.assigned:
        return None
    try:
        trained_on, left_out = reference.sides()
        ids = [sample_ids(source, owner, adapter) for source in (members, nonmembers)]
    except ValueError:  # another file of that name, or samples that nobody can look up in it
        return None
    wrong = [name for name in ids[0] if name in left_out], [name for name in ids[1] if name in trained_on]
    if not any(wrong):
        return None
    sides = zip(("members were left out of the training", "nonmembers were trained on"), wrong, ids, strict=True)
    counts = " and ".join(
        f"{len(found)} of {len(side)} {what} ({name_some(found, most=3)})" for what, found, side in sides if found
    )
    return Verification(
        False,
        "keys",
        f"by {reference.folder / MEMBERS}, {counts}: reference models, and the targets of a benchmark, are trained on "
        "coin-flip halves of their own (the audit of a target lies beside its folder).",
        refused=True,
    )
