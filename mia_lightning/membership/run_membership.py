"""Finds what is known of the members of a training: in a checkpoint or an export, and in the folder of its run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mia_lightning.membership.export_entry import read_entry
from mia_lightning.membership.record import ENTRY, MembershipSummary, find_record, places_of
from mia_lightning.membership.verification import RunMembership


def membership_of(
    path: str | Path | None, content: Mapping[str, Any] | None = None, *, state_key: str | None = None
) -> RunMembership:
    """Look for the members of the training that made some weights.

    Args:
        path: A checkpoint, a file of weights, or an exported model; None where weights come from no file.
        content: What a checkpoint holds; None for an exported model.
        state_key: Name of the audit callback's part of it; None, or one that is not there, takes the first that has
            an entry.
    """
    content = {} if content is None else content
    summary = _summary_in(content, state_key)
    if summary is None and path is not None and not content:
        summary = MembershipSummary.from_plain(read_entry(Path(path)))
    hyperparameters = content.get("datamodule_hyper_parameters")
    run = None if summary is None else summary.run
    record, file = (None, None) if path is None else find_record(places_of(Path(path)), run)
    return RunMembership(
        summary if summary is not None or record is None else record.summary,
        record,
        file,
        hyperparameters if isinstance(hyperparameters, Mapping) else None,
    )


def _summary_in(content: Mapping[str, Any], state_key: str | None) -> MembershipSummary | None:
    callbacks = content.get("callbacks")
    states = callbacks if isinstance(callbacks, Mapping) else {}
    for state in [states.get(state_key), *states.values()]:
        found = MembershipSummary.from_plain(state.get(ENTRY)) if isinstance(state, Mapping) else None
        if found is not None:
            return found
    return None
