"""Names of samples that come in a stream without ids: their places, or their contents where the order changes."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mia_lightning.audit.cache import content_keys
from mia_lightning.audit.place_names import name_by_place
from mia_lightning.functional.batches import Batch
from mia_lightning.metrics.collector import SampleTable
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.context import AuditContext

_MARK = "\0"  # no id of a project begins with it
_DIGITS = 12  # two of a million samples share them with a chance of 0.002, and are then told apart by a suffix

Keys = dict[int, str]
"""Keys of the contents of samples, by their places in the stream."""


class StreamNames(NamedTuple):
    """The rows of an audit with their names.

    Attributes:
        table: The rows; those named by contents are in the order of their names, which no order of the stream changes.
        meta: What was found, by side: the entry ``streams`` of a result's meta. Empty where no side is a stream.
        decisions: The same in words, by side.
        notes: What a reader of the result must know.
    """

    table: SampleTable
    meta: dict[str, Any]
    decisions: dict[str, str]
    notes: list[str]

    def told_in(self, context: AuditContext) -> AuditContext:
        """What is known around an audit, with what was found here."""
        streams = {"streams": self.meta} if self.meta else {}
        return context.with_notes(*self.notes).but(extra={**context.extra, **streams})


def marked(batch: Batch) -> list[str]:
    """Keys of the contents of a batch, marked, until it is known whether they become names."""
    return [f"{_MARK}{key.hex()[:_DIGITS]}" for key in content_keys("", batch.input, batch.target)]


class LatestStreams:
    """The latest audit of streams, with which the next one of the same streams is compared where it has no history.

    They are the same where they are one object, or have a sample in common.
    """

    def __init__(self) -> None:
        self._latest: dict[str, tuple[AuditResult, object, frozenset[str]]] = {}

    def before(self, table: SampleTable, sources: Mapping[str, object]) -> dict[str, AuditResult]:
        """The audit before, by side, of what was read now.

        Args:
            table: Rows of all processes, as :func:`name_streams` takes them.
            sources: What the sides were read from.
        """
        contents = _contents(table)
        return {
            side: result
            for side, (result, source, known) in self._latest.items()
            if source is sources[side] or known & contents[side]
        }

    def remember(self, result: AuditResult, table: SampleTable, sources: Mapping[str, object]) -> None:
        """Keep an audit of streams for the next one."""
        self._latest = {side: (result, sources[side], known) for side, known in _contents(table).items() if known}


def _contents(table: SampleTable) -> dict[str, frozenset[str]]:
    """Keys of the contents of samples of streams, by side."""
    ids = np.array(table.ids, dtype=object)
    sides = {"member": ids[table.member], "nonmember": ids[~table.member]}
    return {side: frozenset(name for name in names if name.startswith(_MARK)) for side, names in sides.items()}


def name_streams(
    table: SampleTable, heads: Mapping[str, Sequence[Keys]], earlier: Mapping[str, AuditResult]
) -> StreamNames:
    """Name the samples of streams, by what was seen of their order.

    They are named by their places, as samples of other data sets, where the stream has begun with the same samples
    both times that it was read, and with all in the order of the audit before.

    Args:
        table: Rows of all processes; names that :func:`marked` made are those of streams without ids.
        heads: The first samples of each side, as they came when it was decided what they mean, and as they would come
            in its next epoch, where it is told of epochs.
        earlier: The audit before, by side; nothing for the first.

    Raises:
        ValueError: If processes have read streams of several lengths.
    """
    ids = np.array(table.ids, dtype=object)
    order = np.arange(len(ids))
    found = StreamNames(table, {}, {}, [])
    for side in ("member", "nonmember"):
        rows = np.flatnonzero(table.member == (side == "member"))
        keys = {int(table.position[row]): ids[row] for row in rows if ids[row].startswith(_MARK)}
        if not keys:
            continue
        _require_whole(side, table.position[rows].tolist())
        record = _record(side, keys, heads.get(side, ()), earlier.get(side))
        found.meta[side] = record
        if record["ids"] == "content":
            ids[rows] = _by_content(side, ids[rows].tolist())
            order[rows] = rows[np.argsort(ids[rows].astype(str), kind="stable")]
            _compare(record, set(ids[rows]), side, earlier.get(side))
        else:
            places = table.position[rows].tolist()
            ids[rows] = [
                name_by_place(side, place) if name.startswith(_MARK) else name
                for name, place in zip(ids[rows], places, strict=True)
            ]
        found.decisions[f"{side}s"] = _words(record)
        if not record["followed"]:
            found.notes.append(_warning(side, record))
    if not found.meta:
        return found
    columns = {name: column[order] for name, column in table.columns.items()}
    groups = None if table.groups is None else [table.groups[row] for row in order]
    named = SampleTable(ids[order].tolist(), table.member[order], table.position[order], columns, groups)
    return found._replace(table=named)


def _by_content(side: str, ids: Sequence[str]) -> list[str]:
    """Names by contents; equal samples are told apart by how many there were before."""
    names, counts = list[str](), Counter[str]()
    for name in ids:
        counts[name] += 1
        again = f"-{counts[name]}" if counts[name] > 1 else ""
        names.append(f"{side}-{name.removeprefix(_MARK)}{again}" if name.startswith(_MARK) else name)
    return names


def require_same(heads: Sequence[Mapping[str, Sequence[Keys]]]) -> None:
    """Raise a ValueError where the streams of processes, which share them by place, do not begin alike."""
    for side in heads[0]:
        if any(head.get(side) != heads[0][side] for head in heads):
            raise ValueError(
                f"The stream of {side}s gives other samples, or another order, on each process, and processes share a "
                "stream by the places of its samples: some would be audited twice and others never. Give the audit "
                "the whole stream on each process (no split by node: datasets without split_dataset_by_node, "
                "WebDataset with nodesplitter=None) and the same seed for its shuffling, or none."
            )


def _require_whole(side: str, places: Sequence[int]) -> None:
    if len(places) != max(places) + 1:
        raise ValueError(
            f"Of the stream of {side}s the places up to {max(places)} were shared out to the processes, but only "
            f"{len(places)} samples came: it is not equally long on each. Give each process the whole stream."
        )


def _record(side: str, keys: Keys, heads: Sequence[Keys], earlier: AuditResult | None) -> dict[str, Any]:
    """What is known of the order of one side."""
    digest = hashlib.blake2b(digest_size=8)
    for place in sorted(keys):
        digest.update(f"{place}:{keys[place].removeprefix(_MARK)} ".encode())
    head = heads[0] if heads else {}
    known = set(keys.values())
    again = sum(key in known for key in head.values())
    before = ({} if earlier is None else earlier.meta.get("streams") or {}).get(side)
    record: dict[str, Any] = {"ids": "position", "order": digest.hexdigest(), "followed": True}
    if any(keys.get(place, key) != key for one in heads for place, key in one.items()):
        record["ids"] = "content"
    if again < len(head):
        record |= {"ids": "content", "followed": False, "came_again": [again, len(head)]}
    if before is not None and before.get("ids") == "content":
        record["ids"] = "content"
    elif before is not None and before.get("order") != record["order"]:
        record |= {"ids": "content", "followed": False, "named_by_place_before": True}
    return record


def _compare(record: dict[str, Any], names: set[str], side: str, earlier: AuditResult | None) -> None:
    """Note how many of the samples were in the audit before, where those were named by their contents, too."""
    before = ({} if earlier is None else earlier.meta.get("streams") or {}).get(side)
    if earlier is None or before is None or before.get("ids") != "content" or not earlier.ids:
        return
    known = {
        name for name, is_member in zip(earlier.ids, earlier.member, strict=True) if is_member == (side == "member")
    }
    known |= {row["id"] for row in earlier.excluded if row["side"] == side}
    if missing := names - known:
        record |= {"followed": False, "in_audit_before": [len(names) - len(missing), len(names)]}


def _words(record: Mapping[str, Any]) -> str:
    if record["ids"] == "position":
        return "a stream without ids, in the same order each time: samples are named by their places"
    return "a stream without ids, in another order each time: samples are named by their contents"


def _warning(side: str, record: Mapping[str, Any]) -> str:
    if record.get("named_by_place_before") and "came_again" not in record:
        return (
            f"The stream of {side}s has another order, or other samples, than in the audit before, which named them by "
            "their places: from here on they are named by their contents, and earlier audits say nothing of single "
            f"{side}s. With an id in each batch they could be followed over epochs."
        )
    came, of = record.get("in_audit_before") or record["came_again"]
    what = "were in the audit before" if "in_audit_before" in record else "came again when the stream was read again"
    return (
        f"The stream of {side}s gives other samples each time it is read: {came} of {of} {what}. So it is where "
        "transforms are random, or where max_samples takes the first of a shuffled stream. They cannot be followed "
        "over epochs: what is said of single samples holds for one audit, and scores that need earlier audits have no "
        "numbers. Evaluation transforms, max_samples=None, or a data set with a length mend it."
    )
