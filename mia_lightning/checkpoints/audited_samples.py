"""The samples of a training's audits stay in the run's folder: its checkpoints name the files, and no sample.

A published checkpoint that held the audited ids and their sides would itself tell who is a member.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import file_name, to_plain
from mia_lightning.result.slice_table import Sliced

FOLDER = "audited-samples"
"""Folder of a run that holds its audits, readable by their owner only, where no audit folder of the run does."""

_ENTRY = "samples_in"
_TABLES = ("errors", "scores", "blind")


def without_samples(
    history: Sequence[AuditResult], run: Path, audits: str | Path | None = None
) -> list[dict[str, Any]]:
    """Write what audits hold of single samples into the run's folder.

    Args:
        history: The audits of a training.
        run: Folder of the run.
        audits: Folder that the audits were written into already; used where it lies in that of the run.

    Returns:
        One entry an audit, as :meth:`AuditResult.to_plain` but with no sample and no slice that is too small for
        numbers, and the path of the file that has them, seen from ``run``. A file that cannot be written is warned of:
        the training matters more.
    """
    return [
        {
            **plain,
            "meta": _without_small_slices(plain["meta"]),
            "excluded": [],
            "ids": [],
            "member": torch.zeros(0, dtype=torch.bool),
            "positions": None,
            **({"groups": []} if "groups" in plain else {}),
            **({"slices": {name: [] for name in plain["slices"]}} if "slices" in plain else {}),
            **{name: {key: torch.zeros(0, dtype=torch.float64) for key in plain[name]} for name in _TABLES},
            _ENTRY: _stored(result, run, audits).as_posix(),
        }
        for result, plain in zip(history, to_plain(history), strict=True)
    ]


def with_samples(history: Sequence[Mapping[str, Any]], checkpoint: str | Path | None) -> list[dict[str, Any]]:
    """Put the samples back, where the run's folder is at hand: that of the checkpoint, or the one above.

    Args:
        history: Entries of :func:`without_samples`; others are returned as they are.
        checkpoint: Path of the checkpoint; None where it is not a file.

    Returns:
        One entry an audit; without samples, which a warning says, where their file is missing or another.
    """
    found = [_completed(plain, checkpoint) for plain in history]
    if missing := sum(_ENTRY in plain and not plain["ids"] for plain in found):
        warnings.warn(
            f"{missing} of {len(found)} earlier audits are known by their metrics only: the files that hold their "
            f"samples, such as {found[0].get(_ENTRY)}, are not in the folder of the run, or are of other audits. Keep "
            "checkpoints in that folder to go on with whole audits.",
            stacklevel=2,
        )
    return found


def _without_small_slices(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the values of slices that may be of one patient, and so tell whose samples were trained on."""
    return {**meta, **Sliced.read(meta).without_small().to_meta()}


def _stored(result: AuditResult, run: Path, audits: str | Path | None) -> Path:
    """Path of the file that has a result, seen from the run's folder; written where there is none yet."""
    name = file_name(result)
    if audits is not None and Path(audits).resolve().is_relative_to(run.resolve()):
        path = Path(audits).resolve() / name
        if path.is_file():
            return path.relative_to(run.resolve())
    path = run / FOLDER / name
    _write(result, path)
    return path.relative_to(run)


def keep_replaced(result: AuditResult, run: Path) -> None:
    """Keep an audit that another of the same weights is about to replace, in its file, too.

    A checkpoint of before names the file, and the samples of that audit are found beside where they were.
    """
    _write(result, run / FOLDER / _replaced(file_name(result)))


def _replaced(name: str) -> str:
    return f"{Path(name).stem}-replaced.json"


def _write(result: AuditResult, path: Path) -> None:
    try:
        if not path.is_file() or not _same(_metrics(path), result.metrics):
            result.to_json(path)
            path.chmod(0o600)
    except OSError as error:
        warnings.warn(
            f"The samples of an audit could not be written into {path}, and the checkpoint goes without them: {error}",
            stacklevel=3,
        )


def _completed(plain: Mapping[str, Any], checkpoint: str | Path | None) -> dict[str, Any]:
    if _ENTRY not in plain or checkpoint is None:
        return dict(plain)
    place = Path(str(plain[_ENTRY]))
    for run in (Path(checkpoint).parent, Path(checkpoint).parent.parent):
        for path in (run / place, run / FOLDER / _replaced(place.name)):
            inside = path.resolve().is_relative_to(run.resolve())  # a checkpoint may come from anywhere
            if inside and path.is_file() and _same(_metrics(path), plain["metrics"]):
                return AuditResult.from_json(path).to_plain()
    return dict(plain)


def _metrics(path: Path) -> Mapping[str, float]:
    try:
        return AuditResult.from_json(path).metrics
    except (OSError, ValueError):
        return {}


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        value == other[key] or (math.isnan(value) and math.isnan(other[key])) for key, value in one.items()
    )
