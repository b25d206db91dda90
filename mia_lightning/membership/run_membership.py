"""Finds what is known of the members of a training: in a checkpoint or an export, and in the folder of its run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mia_lightning.membership.export_entry import read_entry
from mia_lightning.membership.record import MembershipSummary, find_record, places_of, summary_in
from mia_lightning.membership.verification import RunMembership


def membership_of(
    path: str | Path | None,
    content: Mapping[str, Any] | None = None,
    *,
    state_key: str | None = None,
    runs: Sequence[Path] = (),
) -> RunMembership:
    """Look for the members of the training that made some weights.

    Args:
        path: A checkpoint, a file of weights, or an exported model; None where weights come from no file.
        content: What a checkpoint holds; None for an exported model.
        state_key: Name of the audit callback's part of it; None, or one that is not there, takes the first that has
            an entry.
        runs: Folders of runs, for weights that lie elsewhere.
    """
    content = {} if content is None else content
    summary = summary_in(content, state_key)
    if summary is None and path is not None and not content:
        summary = MembershipSummary.from_plain(read_entry(Path(path)))
    hyperparameters = content.get("datamodule_hyper_parameters")
    run = None if summary is None else summary.run
    record, file = (None, None) if path is None else find_record([*places_of(Path(path)), *runs], run)
    return RunMembership(
        summary if summary is not None or record is None else record.summary,
        record,
        file,
        summary is not None,
        hyperparameters if isinstance(hyperparameters, Mapping) else None,
    )
