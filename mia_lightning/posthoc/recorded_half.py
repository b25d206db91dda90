"""Compares the sides of an audit with the coin-flip half that a reference model, or a benchmark's target, was shown."""

from pathlib import Path

from mia_lightning.attacks.reference_folder import MEMBERS, Reference
from mia_lightning.attacks.reference_training import sample_ids
from mia_lightning.audit.loading import Source
from mia_lightning.audit.protocols import Adapter
from mia_lightning.data.records import name_some
from mia_lightning.membership.verification import Verification


def recorded_half(
    path: str | Path, members: Source, nonmembers: Source, *, owner: str, adapter: Adapter
) -> Verification | None:
    """What the file beside a checkpoint says of the sides: they are its half of the samples, or refused as another.

    Args:
        path: The checkpoint.
        members: Those of the audit, whole.
        nonmembers: Likewise.
        owner: Class of the data module, for errors.
        adapter: Reads the ids out of batches.

    Returns:
        None where there is no such file, samples have no ids, or some are not in it and none is on the wrong side.
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
    where = reference.folder / MEMBERS
    if not any(wrong):
        if not (trained_on.issuperset(ids[0]) and left_out.issuperset(ids[1])):
            return None
        counts = f"{len(ids[0])} members and {len(ids[1])} nonmembers"
        return Verification(True, "keys", f"{counts} were compared, by their ids, with the coins in {where}.")
    sides = zip(("members were left out of the training", "nonmembers were trained on"), wrong, ids, strict=True)
    counts = " and ".join(
        f"{len(found)} of {len(side)} {what} ({name_some(found, most=3)})" for what, found, side in sides if found
    )
    return Verification(
        False,
        "keys",
        f"by {where}, {counts}: reference models, and the targets of a benchmark, are trained on "
        "coin-flip halves of their own (the audit of a target lies beside its folder).",
        refused=True,
    )
