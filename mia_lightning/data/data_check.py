"""Looks through a folder of data before a training: what is there, what is missing, what would spoil it."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from mia_lightning.data.assignment import Assignment, assign
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.picture_looks import Look, look_at
from mia_lightning.data.records import Record, name_some
from mia_lightning.functional.look_alikes import MOST, LookAlike, look_alikes

Level = Literal["fault", "warning", "note"]
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

USUAL_SHARE = 0.9
"""Where so large a share of the files has one size or mode, others are named."""

NAMED = 8
"""So many files or pairs of a kind are named."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        level: ``"fault"``: spoils a training or its audit; ``"warning"``: should be known before; ``"note"``.
        text: A sentence, which names files.
    """

    level: Level
    text: str


@dataclass(frozen=True)
class ClassShare:
    """How often a class occurs.

    Args:
        id: Of the class.
        name: Of the class; ``"void"`` for ignored pixels.
        pixels: Share of all pixels.
        samples: Number of label maps that have it.
    """

    id: int
    name: str
    pixels: float
    samples: int


@dataclass(frozen=True)
class Copies:
    """Two pairs whose pictures are the same, or look alike.

    Args:
        first: Id of the one.
        second: Id of the other.
        sides: Where they are: ``"member"``, ``"nonmember"``, or the name of a split.
        similarity: 1 for the same pixels.
        exact: Whether all pixels are the same.
        group: Group of both, where they have one in common.
    """

    first: str
    second: str
    sides: tuple[str, str]
    similarity: float
    exact: bool
    group: str | None = None

    @property
    def across(self) -> bool:
        """Whether one is trained on and the other is not."""
        return set(self.sides) == {"member", "nonmember"}


@dataclass
class DataCheck:
    """What a check found.

    Args:
        root: The folder.
        splits: Pairs of each split.
        expected: Pairs of each split in the whole data set, where that is known.
        members: Pairs that would be trained on.
        nonmembers: Pairs that would be held out.
        assignment: ``"split"`` or ``"coin"``.
        group: What a group is, such as ``building``; "" where there are none.
        groups: Number of groups by the number of pairs in them.
        sizes: Number of pictures by width and height.
        modes: Number of files by colour mode, of inputs and of targets.
        classes: How often classes occur.
        copies: Pairs whose pictures are the same or look alike, the most alike first.
        findings: Everything else, faults first.
        records: The pairs that can be read, for a sheet of samples.
        sides: Where each of them is, by id.
    """

    root: Path
    splits: dict[str, int] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    members: int = 0
    nonmembers: int = 0
    assignment: str = ""
    group: str = ""
    groups: dict[int, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    modes: tuple[dict[str, int], dict[str, int]] = field(default_factory=lambda: ({}, {}))
    classes: list[ClassShare] = field(default_factory=list)
    copies: list[Copies] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    records: list[Record] = field(default_factory=list, repr=False)
    sides: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def faults(self) -> list[str]:
        """What would spoil a training or its audit."""
        return [finding.text for finding in self.findings if finding.level == "fault"]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it but the records as plain values; copies say who is a member."""
        plain = {name: value for name, value in vars(self).items() if name not in ("records", "sides", "root")}
        plain["classes"] = [asdict(share) for share in self.classes]
        plain["copies"] = [asdict(pair) | {"across": pair.across} for pair in self.copies]
        plain["findings"] = [asdict(finding) for finding in self.findings]
        return {"root": str(self.root), **plain, "sound": not self.faults}


def check_data(
    module: AuditableDataModule, bar: Bar, *, expected: dict[str, int] | None = None, group: str = ""
) -> DataCheck:
    """Look through the data of a module that is not set up yet.

    Args:
        module: The data module.
        bar: Shows progress: a context of a callable that counts.
        expected: Pairs of each split in the whole data set.
        group: What a group is.

    Returns:
        What was found: also of data that no training could use.

    Raises:
        OSError: If the folder does not exist.
    """
    check = DataCheck(module.root, expected=dict(expected or {}), group=group)
    found = module.found_files()
    check.findings += [Finding("fault", _sentence(str(error))) for error in found.errors]
    records = _arranged(module, found.records, check)
    if not records:
        return check
    check.splits = dict(sorted(Counter(record.split for record in records).items()))
    _compare_counts(check)
    looks = _look_at_all(module, records, bar)
    readable = _readable(records, looks, check)
    _ask_module(module, readable, check)
    _assign(module, records, readable, check)
    _files(readable, looks, check)
    _classes(module, readable, looks, check)
    groups = _groups(module, records, check)
    _find_copies(readable, looks, groups, check)
    check.findings.sort(key=lambda finding: ("fault", "warning", "note").index(finding.level))
    check.records = readable
    return check


def _arranged(module: AuditableDataModule, records: list[Record], check: DataCheck) -> list[Record]:
    """Splits and groups of the pairs; those of the folders where a file of splits is at fault."""
    try:
        arranged, notes = module.arrangement.applied(records, module.root)
    except (OSError, ValueError) as error:
        check.findings.append(Finding("fault", _sentence(str(error))))
        try:
            arranged, notes = module.arrangement.applied(records, module.root, lenient=True)
        except (OSError, ValueError):
            return records
    check.findings += [Finding("warning", _sentence(text)) for text in notes.values()]
    if left := len(records) - len(arranged):
        check.findings.append(Finding("note", f"{left} pairs are in no split that is used."))
    if not arranged and records:
        check.findings.append(Finding("fault", f"None of the {len(records)} pairs is in a split that is used."))
    return arranged


def _compare_counts(check: DataCheck) -> None:
    whole = check.expected
    found = {"all": sum(check.splits.values())} if set(whole) == {"all"} else check.splits
    for split, count in whole.items():
        if found.get(split, 0) != count:
            check.findings.append(
                Finding(
                    "warning",
                    f"{found.get(split, 0)} pairs in {'all' if split == 'all' else repr(split)}: the whole data set "
                    f"has {count}.",
                )
            )


def _look_at_all(module: AuditableDataModule, records: Sequence[Record], bar: Bar) -> dict[str, Look]:
    """Read all files, by threads: decoders release the interpreter."""
    Image.init()  # not while several threads open their first file

    def look(record: Record) -> Look:
        return look_at(record, module.pictures_of(record), module.labels_of, module.exif)

    looks: dict[str, Look] = {}
    with bar("Files", len(records)) as advance, ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        for seen in pool.map(look, records):
            looks[seen.id] = seen
            advance(1)
    return looks


def _readable(records: Sequence[Record], looks: dict[str, Look], check: DataCheck) -> list[Record]:
    errors = {path: text for look in looks.values() for path, text in look.errors.items()}
    _name_each(check, "fault", [text for _, text in sorted(errors.items())])
    return [record for record in records if not looks[record.id].errors]


def _ask_module(module: AuditableDataModule, records: Sequence[Record], check: DataCheck) -> None:
    """Have the data module look at pairs as it does before a training, and find those that it refuses."""
    texts: list[str] = []

    def ask(some: Sequence[Record]) -> None:
        try:
            module.examine(some)
        except (OSError, ValueError) as error:
            if len(some) == 1:
                texts.append(str(error))
                return
            before = len(texts)
            ask(some[: len(some) // 2])
            ask(some[len(some) // 2 :])
            if len(texts) == before:  # each half is right by itself, and they do not fit together
                texts.append(str(error))

    if records:
        ask(records)
    _name_each(check, "fault", texts)
    if records and not texts:
        notes = module.examine(records)
        check.findings += [Finding("note", f"{name}: {text}.") for name, text in notes.items()]


def _assign(
    module: AuditableDataModule, records: Sequence[Record], readable: Sequence[Record], check: DataCheck
) -> None:
    """Say who would be a member."""
    check.assignment = module.rule.membership
    try:
        assignment = assign(records, module.rule)
    except ValueError as error:
        check.findings.append(Finding("fault", _sentence(str(error))))
        assignment = Assignment((), ())
    check.members, check.nonmembers = len(assignment.members), len(assignment.nonmembers)
    check.sides = {record.id: record.split for record in readable}
    check.sides |= {record.id: "member" for record in assignment.members}
    check.sides |= {record.id: "nonmember" for record in assignment.nonmembers}
    audited = [record for record in readable if check.sides[record.id] in ("member", "nonmember")]
    if audited and not check.faults:
        try:
            module.examine_sides(audited)
        except ValueError as error:
            check.findings.append(Finding("fault", _sentence(str(error))))


def _files(records: Sequence[Record], looks: dict[str, Look], check: DataCheck) -> None:
    seen = [looks[record.id] for record in records]
    sizes = {look.id: "x".join(map(str, look.sizes[0])) for look in seen}
    check.sizes = _by_count(sizes.values())
    _name_odd(check, "size", sizes)
    for side, name in enumerate(("input", "target")):
        modes = {look.id: look.modes[side] for look in seen}
        check.modes[side].update(_by_count(modes.values()))
        _name_odd(check, f"colour mode of the {name}", modes)
    if blank := [look.id for look in seen if look.blank]:
        text = f"{len(blank)} pictures have one colour all over: {name_some(blank, NAMED)}."
        check.findings.append(Finding("warning", text))


def _name_odd(check: DataCheck, what: str, values: dict[str, str]) -> None:
    """Name the files that are another than almost all."""
    if not values:
        return
    usual, count = Counter(values.values()).most_common(1)[0]
    odd = {id: value for id, value in values.items() if value != usual}
    if odd and count >= USUAL_SHARE * len(values):
        found = "; ".join(
            f"{value}: {name_some([id for id in odd if odd[id] == value], NAMED)}"
            for value in sorted(set(odd.values()))
        )
        text = f"{len(odd)} of {len(values)} pairs have another {what} than the {usual} of the rest: {found}."
        check.findings.append(Finding("warning", text))


def _classes(module: AuditableDataModule, records: Sequence[Record], looks: dict[str, Look], check: DataCheck) -> None:
    pixels: Counter[int] = Counter()
    samples: Counter[int] = Counter()
    for record in records:
        pixels.update(looks[record.id].pixels)
        samples.update(looks[record.id].pixels.keys())
    total = sum(pixels.values())
    if not total:
        return
    names = dict(enumerate(module.names_of_classes()))
    void = module.void_id()
    for id in sorted({*names, *pixels}):
        name = names.get(id, "void" if id == void else "")
        check.classes.append(ClassShare(id, name, pixels[id] / total, samples[id]))
    if absent := [share.name or str(share.id) for share in check.classes if not share.samples]:
        text = f"{len(absent)} of {len(names)} classes occur in no label map: {name_some(absent, NAMED)}."
        check.findings.append(Finding("warning", text))
    empty = [record.id for record in records if set(looks[record.id].pixels) == {void}]
    if empty:
        text = f"{len(empty)} label maps hold ignored pixels alone: {name_some(empty, NAMED)}."
        check.findings.append(Finding("warning", text))


def _groups(module: AuditableDataModule, records: Sequence[Record], check: DataCheck) -> dict[str, str]:
    """Count the groups, also where splits cut through them, and return them by id."""
    try:
        groups = module.arrangement.groups_of(records, module.root)
    except (OSError, ValueError):  # a fault that has been named
        return {}
    sizes = Counter(groups.values())
    check.groups = dict(sorted(Counter(sizes.values()).items()))
    check.group = (check.group or module.arrangement.group_column or "group") if sizes else ""
    return groups


def _find_copies(records: Sequence[Record], looks: dict[str, Look], groups: dict[str, str], check: DataCheck) -> None:
    ordered = [looks[record.id] for record in records if looks[record.id].thumbnail is not None]
    by_digest: dict[bytes, list[str]] = defaultdict(list)
    for look in ordered:
        by_digest[look.digest].append(look.id)
    same = [ids for ids in by_digest.values() if len(ids) > 1]
    exact = {(first, second) for ids in same for n, first in enumerate(ids) for second in ids[n + 1 :]}
    alike: list[LookAlike] = []
    if ordered:
        alike = look_alikes(np.stack([look.thumbnail for look in ordered if look.thumbnail is not None]))
    similar = {(ordered[p.first].id, ordered[p.second].id): p.similarity for p in alike}
    similar |= dict.fromkeys(exact, 1.0)
    for (first, second), similarity in similar.items():
        group = groups.get(first) if groups.get(first) == groups.get(second) else None
        sides = (check.sides[first], check.sides[second])
        check.copies.append(Copies(first, second, sides, similarity, (first, second) in exact, group))
    check.copies.sort(key=lambda pair: (not pair.exact, not pair.across, -pair.similarity, pair.first, pair.second))
    if len(ordered) > MOST:
        check.findings.append(Finding("note", f"Look-alikes were looked for among the first {MOST:,} pictures only."))
    _judge_copies(check)


def _judge_copies(check: DataCheck) -> None:
    for exact, across in ((True, True), (False, True), (True, False)):
        pairs = [pair for pair in check.copies if (pair.exact, pair.across) == (exact, across)]
        if pairs:
            what = "the same picture" if exact else "pictures that look alike"
            where = "on both sides" if across else "within a side or split"
            why = " What is held out was trained on." if across and exact else ""
            what_to_do = " Give such pairs one group, or remove one of them." if across else ""
            text = f"{_pairs(pairs)} {what} {where}: {_named(pairs)}.{why}{what_to_do}"
            check.findings.append(Finding("fault" if exact and across else "warning", text))
    inside = [pair for pair in check.copies if not pair.exact and not pair.across]
    if alone := [pair for pair in inside if pair.group is None]:
        text = f"{_pairs(alone)} pictures that look alike within a side or split: {_named(alone)}."
        check.findings.append(Finding("warning", text))
    if grouped := [pair for pair in inside if pair.group is not None]:
        text = f"{_pairs(grouped)} pictures that look alike within a group: {_named(grouped)}."
        check.findings.append(Finding("note", text))


def _named(pairs: Sequence[Copies]) -> str:
    shown = ", ".join(f"{p.first} / {p.second} ({' / '.join(dict.fromkeys(p.sides))})" for p in pairs[:NAMED])
    return shown if len(pairs) <= NAMED else f"{shown}, ... ({len(pairs)} in all)"


def _name_each(check: DataCheck, level: Level, texts: Iterable[str]) -> None:
    """Add findings; of many of one kind the first ones and their number."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        kinds[re.sub(r"\S*[/\d]\S*", "", text)].append(text)
    for alike in kinds.values():
        check.findings += [Finding(level, _sentence(text)) for text in alike[:NAMED]]
        if len(alike) > NAMED:
            check.findings.append(Finding(level, f"And {len(alike) - NAMED} more like the last one."))


def _by_count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _pairs(pairs: Sequence[Copies]) -> str:
    return "1 pair of ids has" if len(pairs) == 1 else f"{len(pairs)} pairs of ids have"


def _sentence(text: str) -> str:
    text = f"{text[:1].upper()}{text[1:]}" if not text.startswith(("/", ".")) else text
    return text if text.endswith((".", "?", "!")) else f"{text}."
