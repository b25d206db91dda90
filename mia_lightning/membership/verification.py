"""Compares the sides of an audit with those of the training that made the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scipy.stats import binomtest

from mia_lightning.audit.loading import Source
from mia_lightning.data.records import name_some
from mia_lightning.membership.record import MembershipRecord, MembershipSummary, digest_of, keys_of
from mia_lightning.membership.sample_contents import NotComparableError, Samples, SideContents
from mia_lightning.membership.split_settings import decides_surely, differences, split_settings

MISSING_RATE = 0.01
"""Share of samples that may have changed since the training: files that were saved anew or corrected."""
WRONG_SIDE_RATE = 0.001
"""Share of samples that may stand on the other side, as those do that somebody moved by hand."""
SIGNIFICANCE = 0.05
"""Refused is what has a smaller probability than this at these rates (binomial test)."""

Basis = Literal["keys", "digests", "settings", "nothing"]
_SIDES = ("members", "nonmembers")
_FLAG = "unverified_members=True (--unverified_members true)"


@dataclass(frozen=True)
class RunMembership:
    """What is known of the members of a training.

    Attributes:
        summary: What the checkpoint or export says.
        record: The keys in the run's folder.
        path: File of the record.
        named: Whether the weights name their training. Where they do not, a record was found by its place, and may be
            of another training.
        hyperparameters: Those of the data module, as Lightning keeps them in a checkpoint.
    """

    summary: MembershipSummary | None = None
    record: MembershipRecord | None = None
    path: Path | None = None
    named: bool = True
    hyperparameters: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Verification:
    """Whether the members of an audit are those of the training.

    Attributes:
        verified: Whether their samples were compared, and are.
        basis: What was compared.
        reason: A sentence: what agrees, or why nothing is known or other members were found.
        refused: Whether they are others, as far as is known.
        notes: Sentences on single samples that differ.
        accepted: Whether the user vouched for members that could not be verified.
    """

    verified: bool
    basis: Basis
    reason: str
    refused: bool = False
    notes: tuple[str, ...] = ()
    accepted: bool = False

    def to_meta(self) -> dict[str, Any]:
        """The entry ``members`` of a result's meta."""
        entry = {"verified": self.verified, "basis": self.basis, "reason": self.reason}
        return entry | ({"accepted_by_user": True} if self.accepted else {})

    def or_refuse(self, *, unverified_members: bool) -> "Verification":
        """Raise a ValueError for other members than the training's, unless the user vouches for them."""
        if not self.refused:
            return self
        if not unverified_members:
            raise ValueError(
                f"These are not the members that the model was trained on: {self.reason} An audit of other members can "
                f"miss all that was memorised. Give the settings and the data of the training; if you know better, "
                f"{_FLAG} audits them all the same, and the result says so."
            )
        reason = f"audited at the user's word, although {self.reason}"
        return Verification(False, self.basis, reason, notes=self.notes, accepted=True)


def compare_members(
    run: RunMembership, data: object, members: Source, nonmembers: Source, *, by_hand: bool = False
) -> Verification:
    """Compare the sides of an audit with those of a training: the settings, then keys of samples, then digests.

    Where samples can be compared, they decide, and settings say why they differ; where they cannot, settings of
    a split that differ are reason enough to refuse, and others are named.

    Args:
        run: What is known of the training.
        data: The data module of the audit; None where there is none.
        members: Its members, whole.
        nonmembers: Its nonmembers, whole.
        by_hand: The sides were passed as data sets, so that settings of the data module say nothing of them.
    """
    differing = {} if by_hand else differences(_settings_in(run), _settings_of(data))
    named = " and ".join(differing.values())
    samples = _compare_samples(run, members, nonmembers)
    if run.summary is not None and run.summary.earlier and not samples.refused:
        earlier = " and ".join(run.summary.earlier)
        return Verification(
            False,
            samples.basis,
            f"the training went on from a checkpoint of a training with other members ({earlier}), and what that one "
            "was trained on may be among the nonmembers.",
        )
    if samples.refused:
        return Verification(False, samples.basis, "; ".join(filter(None, (named, samples.reason))), refused=True)
    if samples.verified and not run.named:
        reason = f"they are those of {run.path}, but the file with the weights does not name its training."
        return Verification(False, samples.basis, reason, notes=samples.notes)
    if samples.verified:
        notes = samples.notes
        if differing:
            notes = (*notes, f"Settings differ, but the samples are those of the training: {named}.")
        return Verification(True, samples.basis, samples.reason, notes=notes)
    if differing:
        sure = any(map(decides_surely, differing))
        reason = f"{named}." if sure else f"{named}; {samples.reason}"
        return Verification(False, "settings", reason, refused=sure)
    if (run.summary is not None or run.hyperparameters) and not by_hand and _settings_in(run) and _settings_of(data):
        return Verification(False, "settings", f"the settings of the split agree, but {samples.reason}")
    return samples


def compare_reference(run: RunMembership, reference: Source) -> Verification:
    """Look for samples of a reference, which the model must not have been trained on, in the record of its training."""
    if run.record is None:
        reason = "the weights come without the record of their training, which would tell what they were trained on."
        return Verification(False, "nothing", reason)
    try:
        (side,) = read_contents(run.record.summary, reference)
    except NotComparableError as error:
        return Verification(False, "nothing", f"the reference cannot be compared with the training's samples: {error}.")
    recorded = set(run.record.keys["members"])
    known = [n for n, key in zip(side.names, keys_of(side, run.record.salt), strict=True) if key in recorded]
    if too_many(len(known), len(side.names), WRONG_SIDE_RATE):
        found = f"{len(known)} of {len(side.names)} in the reference were trained on ({name_some(known, most=3)})"
        return Verification(False, "keys", f"{found} by the record {run.path}.", refused=True)
    if run.record.summary.share < 1:
        reason = "the record of the training holds a sample of its members, and none of it was found in the reference."
        return Verification(False, "keys", reason)
    return Verification(True, "keys", f"{len(side.names)} in the reference are not among the training's members.")


def trained_samples(run: RunMembership, *sources: Source) -> list[tuple[str, ...]]:
    """Name the samples that a training is recorded to have been made on, of each of an audit's sides.

    The keys of a record tell of each sample; the digests in the weights alone, of a side as a whole.

    Args:
        run: What is known of the training; what does not name its training is left alone.
        *sources: Members and nonmembers of the audit, whole.

    Returns:
        The names, one tuple a side; empty where none was trained on, or nothing is known.
    """
    nothing: list[tuple[str, ...]] = [() for _ in sources]
    if run.summary is None or not run.summary.digests or not run.named:
        return nothing
    try:
        sides = read_contents(run.summary, *sources)
    except NotComparableError:
        return nothing
    if run.record is None:
        digest = run.summary.digests["members"]
        return [side.names if side.digests and digest_of(side, run.summary.salt) == digest else () for side in sides]
    recorded, salt = set(run.record.keys["members"]), run.record.salt
    return [tuple(n for n, key in zip(s.names, keys_of(s, salt), strict=True) if key in recorded) for s in sides]


def _settings_in(run: RunMembership) -> dict[str, Any]:
    if run.summary is not None and run.summary.settings:
        return run.summary.settings
    return split_settings(run.hyperparameters or {})


def _settings_of(data: object) -> dict[str, Any]:
    hyperparameters = getattr(data, "hparams", None)
    return split_settings(hyperparameters) if isinstance(hyperparameters, Mapping) else {}


def _compare_samples(run: RunMembership, members: Source, nonmembers: Source) -> Verification:
    summary = run.summary or (run.record.summary if run.record is not None else None)
    if summary is None:
        return Verification(False, "nothing", "the weights come without a record of what they were trained on.")
    if not summary.digests:
        return Verification(False, "nothing", f"the training left no keys, since {summary.reason or 'it took none'}.")
    try:
        sides = dict(zip(_SIDES, read_contents(summary, members, nonmembers), strict=True))
    except NotComparableError as error:
        return Verification(False, "nothing", f"the samples cannot be compared with those of the training: {error}.")
    if not sides["members"].digests:
        reason = "none of the members is of the seeded sample that stands for those of the training."
        return Verification(False, "nothing", reason)
    if run.record is not None:
        found = "" if run.named else ", which was found by its place, since the weights do not name their training"
        return _by_keys(run.record, sides, f"the record {run.path}{found}")
    return _by_digests(summary, sides)


def read_contents(summary: MembershipSummary, *sources: Source) -> list[SideContents]:
    """Read sides as they were read for the record.

    Raises:
        NotComparableError: If they cannot be, or are of another kind.
    """
    names = ("member", "nonmember")
    samples = [Samples(name, source) for name, source in zip(names, sources, strict=False)]
    kinds = {side.kind for side in samples} | set(summary.kinds.values())
    if len(kinds) > 1:
        raise NotComparableError(f"samples of the kinds {' and '.join(sorted(kinds))} cannot be compared")
    return [side.contents(summary.share, bytes.fromhex(summary.salt)) for side in samples]


def _by_keys(record: MembershipRecord, sides: Mapping[str, SideContents], where: str) -> Verification:
    recorded = {name: set(record.keys[name]) for name in _SIDES}
    missing, wrong, total, notes = [], [], 0, []
    for name, other in (_SIDES, _SIDES[::-1]):
        side = sides[name]
        keys = keys_of(side, record.salt)
        strangers = [n for n, key in zip(side.names, keys, strict=True) if not any(key in r for r in recorded.values())]
        wrong += [n for n, k in zip(side.names, keys, strict=True) if k in recorded[other] and k not in recorded[name]]
        if name == "nonmembers" and len(strangers) == len(keys):
            notes.append(
                "The nonmembers are others than those of the training; none of them was trained on by its record."
            )
            continue
        missing += strangers
        total += len(keys)
    if too_many(len(missing), total, MISSING_RATE) or too_many(len(wrong), total, WRONG_SIDE_RATE):
        return Verification(False, "keys", f"{_in_words(missing, wrong, total)} by {where}.", refused=True)
    if missing or wrong:
        notes.append(f"{_in_words(missing, wrong, total)} by the record of the training, which may be a changed file.")
    counts = " and ".join(f"{len(sides[name].digests)} {name}" for name in _SIDES)
    sampled = ", a seeded sample," if record.summary.share < 1 else ""
    return Verification(
        True, "keys", f"{counts}{sampled} were compared with the record of the training.", notes=tuple(notes)
    )


def too_many(count: int, total: int, rate: float) -> bool:
    """Whether so many of a total are more than an error rate allows.

    Example:
        >>> too_many(1, 24, 0.01), too_many(3, 24, 0.01)
        (False, True)
    """
    return count > 0 and float(binomtest(count, total, rate, alternative="greater").pvalue) < SIGNIFICANCE


def _in_words(missing: list[str], wrong: list[str], total: int) -> str:
    texts = []
    if missing:
        texts.append(f"{len(missing)} of {total} samples are none of the training's ({name_some(missing, most=3)})")
    if wrong:
        texts.append(f"{len(wrong)} of {total} samples stand on the other side ({name_some(wrong, most=3)})")
    return " and ".join(texts)


def _by_digests(summary: MembershipSummary, sides: Mapping[str, SideContents]) -> Verification:
    now = {name: digest_of(side, summary.salt) for name, side in sides.items()}
    copy = "The record in the training's folder, copied beside the weights, would say which samples differ."
    if now["members"] == summary.digests["members"]:
        shared = set(sides["members"].digests) & set(sides["nonmembers"].digests)
        notes: tuple[str, ...] = ()
        if now["nonmembers"] != summary.digests["nonmembers"]:
            notes = (f"The nonmembers are others than those of the training; {len(shared)} of them are also members.",)
        return Verification(
            True, "digests", "the members have the digest that the training's members had.", notes=notes
        )
    if now["members"] == summary.digests["nonmembers"]:
        reason = "the members are the nonmembers of the training: the sides are swapped."
    else:
        counts = f"{sides['members'].size} members now, {summary.sizes['members']} in the training"
        reason = f"the members have another digest than the training's members ({counts}). {copy}"
    return Verification(False, "digests", reason, refused=True)
