"""The history of samples: which of them a model exposes, and since when; and the audit files of a run."""

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mia_lightning.result.atomic_files import write_atomically, write_bytes_atomically
from mia_lightning.result.audit_result import AuditResult, slice_columns
from mia_lightning.result.spreadsheet_text import spreadsheet_text

_WHOLE = ("epoch", "step", "flagged_since")
# Id and side do not tell samples apart where a user has named two of them alike: the third counts namesakes.
_Key = tuple[str, bool, int]


def flagged_since(
    history: Sequence[AuditResult], rate: float | None = None, score: str | None = None
) -> dict[str, int | None]:
    """Tell for each member the first epoch from which it stays flagged up to the last audit.

    An audit that left a member out, or that lacks the score, says nothing about it and is passed over, the last one
    excepted: who is not in it is not flagged at the end. Audits outside of a training have no epoch and do not count.

    Args:
        history: Audits of a training, in order.
        rate: False discovery rate; by default each audit's own setting ``fdr``.
        score: The score to judge by; by default each audit's primary.

    Returns:
        Epoch by id, as :attr:`AuditResult.epoch`; None where the member is not flagged at the last audit. Of members
        that share an id, the one flagged longest counts.

    Raises:
        ValueError: If the rate lies outside (0, 1).

    Example:
        >>> def audit(epoch, scores):
        ...     member, score = np.arange(12) < 2, {"membership": np.array(scores + [0.1 * i for i in range(10)])}
        ...     return AuditResult({}, ["a", "b", *"0123456789"], member, {}, score, {"epoch": epoch})
        >>> history = [audit(0, [2.0, 0.5]), audit(1, [0.5, 0.5]), audit(2, [2.0, 0.5]), audit(3, [2.0, 0.5])]
        >>> flagged_since(history, rate=0.2)
        {'a': 2, 'b': None}
    """
    since = _since(history, rate, score)
    epochs: dict[str, int | None] = {}
    for result in history:
        for key in _keys(result):
            if key[1]:
                candidates = [e for e in (epochs.get(key[0]), since.get(key)) if e is not None]
                epochs[key[0]] = min(candidates, default=None)
    return epochs


def write_history(history: Sequence[AuditResult], folder: str | Path, *, rate: float | None = None) -> Path:
    """Write one row a sample and audit: ``samples.csv``, or ``samples.parquet`` where pyarrow is installed.

    Columns: ``epoch`` (from 0 as in the audits' own files, empty for an audit outside of training), ``step``, ``id``,
    ``side``, ``group`` (where samples of an audit come in groups), each ``slice_*`` (what audits are sliced by), each
    ``error_*``, each ``score_*``, ``p_value`` and ``flagged`` by the audit's primary score, and ``flagged_since``, the
    sample's value of :func:`flagged_since` in each of its rows. Rows are ordered by audit, then by sample, members
    first. What an audit did not compute is left empty. Ids, groups and slices that look like formulas get an apostrophe
    in CSV, which spreadsheets open, and stay as they are in Parquet.

    Args:
        history: Audits, in order.
        folder: Where to write; missing folders are made. Audits of another prefix than ``audit`` get it in front of the
            name, so that audits side by side can share a folder.
        rate: False discovery rate of the flags; by default each audit's own setting ``fdr``.

    Returns:
        The path written; the file is replaced in one step.

    Raises:
        ValueError: If there is no audit, or the rate lies outside (0, 1).
    """
    if not history:
        raise ValueError("Expected one or more audits to write the history of, but got none.")
    name = "samples" if history[-1].prefix == "audit" else f"{stem(history[-1].prefix)}-samples"
    errors = dict.fromkeys(f"error_{name}" for result in history for name in result.errors)
    scores = dict.fromkeys(f"score_{name}" for result in history for name in result.scores)
    group = ["group"] if any(result.groups is not None for result in history) else []
    slices = slice_columns(history)
    columns = ["epoch", "step", "id", "side", *group, *slices, *errors, *scores, "p_value", "flagged"]
    columns.append("flagged_since")
    tables = _tables(history, columns, rate)
    try:
        import pyarrow  # noqa: F401 - only whether it is there
    except ImportError:  # absent, or built against another NumPy: the history is written either way
        return write_atomically(Path(folder) / f"{name}.csv", _csv(tables, columns))
    return write_bytes_atomically(Path(folder) / f"{name}.parquet", _parquet(tables))


def write_groups(history: Sequence[AuditResult], folder: str | Path, *, rate: float | None = None) -> Path | None:
    """Write one row a group and audit, as ``groups.csv`` beside ``samples.csv``.

    Columns: ``epoch`` and ``step`` as in :func:`write_history`, ``group``, ``side``, ``samples``, ``score_mean``,
    ``score_extreme``, ``p_value`` and ``flagged`` as in :class:`~mia_lightning.result.group_table.GroupTable`, and
    ``flagged_since``, the value of :func:`groups_flagged_since` in each of a group's rows.

    Returns:
        The path written; None, and nothing is written, where no audit has groups enough.
    """
    tables = [(result, result.group_table(rate)) for result in history]
    if all(table is None for _, table in tables):
        return None
    since = groups_flagged_since(history, rate)
    columns = ["epoch", "step", "group", "side", "samples", "score_mean", "score_extreme", "p_value", "flagged"]
    lines = [_lines([[*columns, "flagged_since"]])]
    for result, table in tables:
        place = [result.epoch, result.meta.get("step")]
        rows = (
            [
                *place,
                spreadsheet_text(name),
                "member" if member else "nonmember",
                *numbers,
                since.get(name) if member else None,
            ]
            for name, member, *numbers in table or ()
        )
        lines.append(_lines(rows))
    name = "groups" if history[-1].prefix == "audit" else f"{stem(history[-1].prefix)}-groups"
    return write_atomically(Path(folder) / f"{name}.csv", iter(lines))


def groups_flagged_since(history: Sequence[AuditResult], rate: float | None = None) -> dict[str, int | None]:
    """Tell for each group of members the first epoch from which it stays flagged up to the last audit.

    As :func:`flagged_since` does of samples: an audit without the group says nothing about it, the last one excepted.

    Returns:
        Epoch by the group's name; None where it is not flagged at the last audit.
    """
    since: dict[str, int | None] = {}
    standing: set[str] | None = None
    for result in reversed(history):
        table = result.group_table(rate) if result.epoch is not None else None
        if table is None:
            continue
        flags = {name: flag for name, member, *_, flag in table if member}
        if standing is None:
            standing = {name for name, flag in flags.items() if flag}
        standing = {name for name in standing if flags.get(name, True)}
        since = dict.fromkeys(flags) | since | {name: result.epoch for name in standing if name in flags}
    return since


def file_name(result: AuditResult) -> str:
    """Name of an audit's JSON file, such as ``audit-epoch=0003-step=00000240.json``."""
    epoch = "" if result.epoch is None else f"epoch={result.epoch:04d}-"
    return f"{stem(result.prefix)}-{epoch}step={result.meta.get('step', 0):08d}.json"


def write_audit(result: AuditResult, folder: str | Path) -> Path:
    """Write one audit of a run as JSON and CSV, under names that :func:`read_audits` finds and sorts.

    Returns:
        Path of the JSON file, such as ``audit-epoch=0003-step=00000240.json``; outside of a training there is no epoch.
    """
    path = Path(folder) / file_name(result)
    result.to_json(path)
    result.to_csv(path.with_suffix(".csv"))
    return path


def read_audits(folder: str | Path, prefix: str = "audit") -> list[AuditResult]:
    """Read the audits of a run from its audit folder, also where the run was killed.

    Returns:
        Audits of that prefix in order, those outside of a training last. Broken files are left out with a warning.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; expected a run's audit folder, as runs/NAME/version_0/audit.")
    pattern = re.compile(rf"{re.escape(stem(prefix))}-(?:epoch=(\d+)-)?step=(\d+)\.json")
    found = [(match, path) for path in folder.iterdir() if (match := pattern.fullmatch(path.name))]
    found.sort(key=lambda f: (f[0][1] is None, int(f[0][1] or 0), int(f[0][2])))
    audits = []
    for _, path in found:
        try:
            audits.append(AuditResult.from_json(path))
        except (OSError, ValueError) as error:
            warnings.warn(f"The history goes on without a broken file: {error}", stacklevel=2)
    return audits


def positions(history: Sequence[AuditResult]) -> tuple[list[float], str]:
    """Where the audits of a run stand on the horizontal axis of a curve, and what that axis is.

    Returns:
        Epochs counted from 1 and ``"epoch"``; where epochs do not rise from audit to audit, steps and
        ``"training step"``, or ``"training batch"`` where these are batches and the optimizers' steps others; where
        steps do not either, numbers of audits and ``"audit"``.
    """
    epochs = [float(r.epoch) + 1 for r in history if r.epoch is not None]
    if len(epochs) == len(history) - 1 and len(history) > 1 and history[-1].epoch is None and in_training(history[-1]):
        epochs.append(epochs[-1] + 0.5)  # averaged weights, which the training leaves behind after its last epoch
    if len(epochs) == len(history) and _rise(epochs):
        return epochs, "epoch"
    steps = [r.meta["step"] for r in history if r.meta.get("step") is not None]
    # A trainer that only validates is at step 0, whatever the training before.
    if len(steps) == len(history) and _rise(steps):
        by_batch = any(r.meta.get("global_step") is not None for r in history)
        return [float(s) for s in steps], "training batch" if by_batch else "training step"
    return [float(n) for n in range(1, len(history) + 1)], "audit"


def course(history: Sequence[AuditResult]) -> Sequence[AuditResult]:
    """The audits of the training, where there was one, else all: an audit after the training is not part of it."""
    return [r for r in history if in_training(r)] or history


def in_training(result: AuditResult) -> bool:
    """Whether an audit was made while the model was trained."""
    return result.epoch is not None or result.meta.get("stage") == "fit"


def _rise(values: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def aligned_errors(
    earlier: AuditResult, ids: Sequence[str], member: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Errors of an earlier audit by name, in the order of other samples, (N,) each; NaN where it has none."""
    rows = {key: row for row, key in enumerate(_keys(earlier))}
    places = np.array([rows.get(key, -1) for key in _sample_keys(ids, member)], dtype=np.intp)
    shared = places >= 0
    aligned = {}
    for name, error in earlier.errors.items():
        aligned[name] = np.full(len(ids), np.nan)
        aligned[name][shared] = error[places[shared]]
    return aligned


def to_plain(history: Sequence[AuditResult]) -> list[dict[str, Any]]:
    """Plain Python and tensors, as :meth:`AuditResult.to_plain`, one entry an audit.

    What neighbouring audits have in common is one object: a file that keeps references, as a checkpoint, holds it once.
    """
    plain = [result.to_plain() for result in history]
    for earlier, later in pairwise(plain):
        for name in ("ids", "groups", "slices"):
            if name in later and later[name] == earlier.get(name):
                later[name] = earlier[name]
        new, old = later["blind"], earlier["blind"]
        if new.keys() == old.keys() and all(torch.equal(new[name], old[name]) for name in new):
            later["blind"] = old
    return plain


def stem(prefix: str) -> str:
    """First part of the names of an audit's files."""
    return prefix.replace("/", "_")


def _keys(result: AuditResult) -> list[_Key]:
    return _sample_keys(result.ids, result.member)


def _sample_keys(ids: Sequence[str], member: NDArray[np.bool_]) -> list[_Key]:
    occurrences: Counter[tuple[str, bool]] = Counter()
    keys = []
    for named in zip(ids, member.tolist(), strict=True):
        keys.append((*named, occurrences[named]))
        occurrences[named] += 1
    return keys


def _since(history: Sequence[AuditResult], rate: float | None, score: str | None = None) -> dict[_Key, int]:
    """Walk back from the last audit; whoever is found unflagged has no earlier epoch."""
    since: dict[_Key, int] = {}
    standing: set[_Key] | None = None
    for result in reversed(history):
        if result.epoch is None or (score or result.primary) not in result.scores:
            continue
        flags: NDArray[np.bool_] = result.flagged(rate, score)
        flagged = {key: bool(flag) for key, flag in zip(_keys(result), flags, strict=True)}
        if standing is None:
            standing = {key for key, flag in flagged.items() if flag}
        standing = {key for key in standing if flagged.get(key, True)}
        since |= {key: result.epoch for key in standing if key in flagged}
    return since


def _tables(
    history: Sequence[AuditResult], columns: Sequence[str], rate: float | None
) -> Iterator[dict[str, list[Any]]]:
    """The rows of one audit at a time, as one list a column."""
    since = _since(history, rate)
    for result in history:
        count = len(result.ids)
        values: dict[str, list[Any]] = {
            "epoch": [result.epoch] * count,
            "step": [result.meta.get("step")] * count,
            "id": result.ids,
            "side": ["member" if m else "nonmember" for m in result.member],
            "group": [None] * count if result.groups is None else result.groups,
            "p_value": result.p_values().tolist(),
            "flagged": result.flagged(rate).tolist(),
            "flagged_since": [since.get(key) for key in _keys(result)],
        }
        values |= {f"error_{name}": error.tolist() for name, error in result.errors.items()}
        values |= {f"score_{name}": score.tolist() for name, score in result.scores.items()}
        values |= {f"slice_{name}": column for name, column in (result.slices or {}).items()}
        yield {name: values.get(name, [None] * count) for name in columns}


def _csv(tables: Iterator[dict[str, list[Any]]], columns: Sequence[str]) -> Iterator[str]:
    """The table as text, one audit at a time."""
    yield _lines([columns])
    for table in tables:
        texts = {name: [spreadsheet_text(t or "") for t in table[name]] for name in table if _is_text(name)}
        yield _lines(zip(*(table | texts).values(), strict=True))


def _is_text(column: str) -> bool:
    """Whether a column holds names of users."""
    return column in ("id", "group") or column.startswith("slice_")


def _lines(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _parquet(audits: Iterator[dict[str, list[Any]]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "side": pa.string(),
        "flagged": pa.bool_(),
        **dict.fromkeys(_WHOLE, pa.int64()),
    }
    tables = [
        pa.table({k: pa.array(v, pa.string() if _is_text(k) else kinds.get(k, pa.float64())) for k, v in table.items()})
        for table in audits
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(tables), sink)
    return bytes(sink.getvalue().to_pybytes())
