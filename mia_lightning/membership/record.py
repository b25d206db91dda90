"""The record of who was trained on: keys of samples, for the run's folder, and what may go into a checkpoint."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from mia_lightning.audit.loading import Source
from mia_lightning.membership.sample_contents import Kind, NotComparableError, Samples, SideContents

FORMAT = 1
ENTRY = "membership"
"""Name of the summary in the callback's part of a checkpoint."""


@dataclass(frozen=True)
class MembershipSummary:
    """What a checkpoint or an export says of the members of its training; it tells of no single sample.

    Attributes:
        run: Random name of the training, by which its record is found.
        settings: Settings of the data module that decide who is a member, by name.
        owner: Class of the data module; None where members and nonmembers were passed by hand.
        salt: Random key of the digests, as hexadecimal text.
        digests: One digest a side, ``members`` and ``nonmembers``; none where ``reason`` says why.
        sizes: Number of samples a side.
        kinds: What the digests are of, a side: ``"files"``, ``"arrays"`` or ``"items"``.
        share: Share of the samples that stand for the whole, in (0, 1].
        reason: Why there are no digests.
        earlier: How an earlier part of the training, which this one goes on from, had other members.
    """

    run: str
    settings: dict[str, Any] = field(default_factory=dict)
    owner: str | None = None
    salt: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)
    share: float = 1.0
    reason: str | None = None
    earlier: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Plain values, for checkpoints and JSON."""
        return {"format": FORMAT, **asdict(self), "earlier": list(self.earlier)}

    @classmethod
    def from_plain(cls, plain: object) -> Self | None:
        """Read what :meth:`to_plain` made; None where it is something else."""
        if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
            return None
        try:
            fields = {k: v for k, v in plain.items() if k != "format"}
            return cls(**fields | {"earlier": tuple(fields.get("earlier", ()))})
        except TypeError:
            return None


@dataclass(frozen=True)
class MembershipRecord:
    """The record in the folder of a run: keys of the samples of both sides, and the salt that they were made with.

    Attributes:
        run: The training's name, as in its checkpoints.
        summary: What its checkpoints say, for models that say nothing.
        salt: Random key of the keys, as hexadecimal text; kept nowhere else.
        keys: Keys of the samples, a side, sorted; what is equal on one side occurs as often there.
    """

    run: str
    summary: MembershipSummary
    salt: str
    keys: dict[str, list[str]]

    def write(self, folder: Path) -> Path:
        """Write the record, readable by its owner only, and return its path."""
        content = {"format": FORMAT, "salt": self.salt, "summary": self.summary.to_plain(), "keys": self.keys}
        path = folder / f"membership-{self.run}.json"
        folder.mkdir(parents=True, exist_ok=True)
        # Never readable by others, not even while it is written; nothing is replaced, since names are random.
        temporary = path.with_name(f".{path.name}")
        with open(temporary, "w", encoding="utf-8", opener=_open_for_owner) as file:
            json.dump(content, file)
        return temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a record; None where the file is none, or cannot be read."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            summary = MembershipSummary.from_plain(content["summary"])
            keys = {side: list(map(str, content["keys"][side])) for side in ("members", "nonmembers")}
            return None if summary is None else cls(summary.run, summary, str(content["salt"]), keys)
        except (OSError, ValueError, KeyError, TypeError):
            return None


def record_sides(
    members: Source, nonmembers: Source, settings: Mapping[str, Any], owner: str | None, run: str | None = None
) -> tuple[MembershipSummary, MembershipRecord | None]:
    """Take the digests and keys of both sides, whole or, where they are too large, of a seeded sample of each.

    Read are at most 10,000 samples and about one GiB of files a side, and 256 samples a side where there are no files
    and no arrays in memory, so that each has to be made by its data set. 20,000 files
    of 50 kB took four seconds on one core.

    Args:
        members: The members, whole.
        nonmembers: The nonmembers, whole.
        settings: Settings that decide who is a member, as
            :func:`~mia_lightning.membership.split_settings.split_settings` gives them.
        owner: Class of the data module.
        run: Name of the training; None makes one.

    Returns:
        The summary and the record; no record, and a summary with its reason, where the samples cannot be told apart.
    """
    run, salt, secret = run or secrets.token_hex(8), secrets.token_hex(16), secrets.token_hex(32)
    summary = MembershipSummary(run, dict(settings), owner, salt)
    try:
        sides = {"members": Samples("member", members), "nonmembers": Samples("nonmember", nonmembers)}
        share = min(side.share() for side in sides.values())
        contents = {name: side.contents(share, bytes.fromhex(salt)) for name, side in sides.items()}
    except NotComparableError as error:
        return MembershipSummary(run, dict(settings), owner, salt, reason=f"its samples have no keys: {error}"), None
    except Exception as error:  # data sets of others raise anything, and a training does not end by its record
        reason = f"its samples could not be read when it began ({type(error).__name__}: {error})"
        return MembershipSummary(run, dict(settings), owner, salt, reason=reason), None
    summary = MembershipSummary(
        run,
        dict(settings),
        owner,
        salt,
        digests={name: digest_of(side, salt) for name, side in contents.items()},
        sizes={name: side.size for name, side in contents.items()},
        kinds={name: side.kind for name, side in contents.items()},
        share=share,
    )
    keys = {name: sorted(keys_of(side, secret)) for name, side in contents.items()}
    return summary, MembershipRecord(run, summary, secret, keys)


def _open_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def keys_of(side: SideContents, salt: str) -> list[str]:
    """Keyed digest of each sample that was read, in their order."""
    key = bytes.fromhex(salt)
    return [hashlib.blake2b(d, key=key, person=b"sample", digest_size=16).hexdigest() for d in side.digests]


def digest_of(side: SideContents, salt: str) -> str:
    """One keyed digest of all samples of a side, whatever their order."""
    digest = hashlib.blake2b(key=bytes.fromhex(salt), person=b"side", digest_size=32)
    for content in sorted(side.digests):
        digest.update(content)
    return digest.hexdigest()


def summary_in(checkpoint: Mapping[str, Any], state_key: str | None = None) -> MembershipSummary | None:
    """What a checkpoint says of the members of its training, in the part of the audit callback of that name, or of any.

    Returns:
        The summary; None where the checkpoint says nothing.
    """
    callbacks = checkpoint.get("callbacks")
    states = callbacks if isinstance(callbacks, Mapping) else {}
    for state in [states.get(state_key), *states.values()]:
        found = MembershipSummary.from_plain(state.get(ENTRY)) if isinstance(state, Mapping) else None
        if found is not None:
            return found
    return None


def find_record(places: Iterable[Path], run: str | None) -> tuple[MembershipRecord | None, Path | None]:
    """Find the record of a training near its weights.

    Args:
        places: Folders to look in.
        run: Name of the training; None takes the record that is there, if it is the only one.

    Returns:
        The record and its path; neither where there is none.
    """
    for place in places:
        found = sorted(place.glob("membership-*.json")) if place.is_dir() else []
        if run is not None:
            found = [path for path in found if path.name == f"membership-{run}.json"]
        records = [(record, path) for path in found if (record := MembershipRecord.read(path)) is not None]
        if len(records) == 1 and run in (None, records[0][0].run):
            return records[0]
    return None, None


def places_of(weights: Path) -> list[Path]:
    """Folders in which the record of a training is looked for: that of its weights, and the one above."""
    folder = weights.absolute().parent
    return [folder, folder.parent]
