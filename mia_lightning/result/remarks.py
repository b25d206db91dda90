"""Remarks that accompany a verdict: flagged samples, epsilon bounds, notes of the audit."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mia_lightning import registry
from mia_lightning.functional.error_spending import OPEN_LOOKS
from mia_lightning.functional.groups import Codes, units
from mia_lightning.functional.operating_point import NOMINAL_RATES, fewest_nonmembers
from mia_lightning.functional.p_values import fewest_flags

# With half of a side shared, at most half of what is memorised can show.
TOO_MUCH_SHARED = 0.5


ENOUGH_TO_FIT = 100
"""Nonmembers, or groups of them, from which a score that is fitted on them is as good as fitted on any number."""


class Audited(Protocol):
    """What is said about an audit reads this much of its result."""

    @property
    def member(self) -> NDArray[np.bool_]:
        """True for members, (N,)."""

    @property
    def group_codes(self) -> Codes | None:
        """Number of each sample's group, (N,); None where there are no groups."""

    @property
    def errors(self) -> Mapping[str, NDArray[np.float64]]:
        """Errors by name, each (N,)."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """How the audit came about."""

    @property
    def excluded(self) -> Sequence[Mapping[str, str]]:
        """Samples left out, with reasons."""

    @property
    def epoch(self) -> int | None:
        """Epoch of the audit, from 0."""

    @property
    def primary(self) -> str:
        """Name of the headline's score."""

    @property
    def auc(self) -> float:
        """AUC of the primary score."""

    def metric(self, key: str) -> float:
        """Look a metric up without its prefix."""

    def interval(self, score: str | None = None) -> tuple[float, float]:
        """Interval of a score's AUC."""

    def flagged(self, rate: float | None = None, score: str | None = None) -> NDArray[np.bool_]:
        """Members that stand out, (N,)."""


def counted(number: int, thing: str, several: str = "") -> str:
    """Write a number of things, with an s, or as the plural that is passed, where there is not exactly one.

    Example:
        >>> counted(1, "member"), counted(2, "member"), counted(2, "class", "classes")
        ('1 member', '2 members', '2 classes')
    """
    return f"{number} {thing if number == 1 else several or f'{thing}s'}"


def sizes(result: Audited) -> str:
    """Number of members and nonmembers, and of the groups that they come in."""
    members = int(result.member.sum())
    counts = f"{counted(members, 'member')} and {counted(len(result.member) - members, 'nonmember')}"
    if result.group_codes is None:
        return counts
    first, second = units(result.member, result.group_codes)
    return f"{counts} in {first} and {counted(second, 'group')}"


def sides(result: Audited) -> str:
    """The same with what it means.

    Samples that come in groups are no independent observations, and how many groups there are says how much is known.
    """
    return f"{sizes(result)}{'' if result.group_codes is None else ', which count in place of samples'}"


def matched_pairs(result: Audited) -> tuple[int, str]:
    """Number of pairs that are alike without the model, of samples or of groups, and in words what they are of."""
    each = result.metric("groups/matched") / 2.0
    if not math.isnan(each):  # results of before have matched the samples of groups one by one
        samples, groups = int(result.metric("samples/matched")), counted(int(each), "group")
        return int(each), f"{samples} samples of {groups} of members and as many of nonmembers"
    each = int(result.metric("samples/matched")) // 2
    return each, f"{counted(each, 'member')} and {counted(each, 'nonmember')}"


def not_estimable(result: Audited, fpr: float) -> str:
    """Why no true-positive rate at a nominal false-positive rate can be estimated; empty where it can be.

    Results that do not say it themselves are judged by their sizes.
    """
    nonmembers, least = units(result.member, result.group_codes)[1], fewest_nonmembers(fpr)
    said = result.metric(f"tpr_at_fpr_{fpr:g}/estimable")
    if said == 1.0 or (said != 0.0 and nonmembers >= least):
        return ""
    things = counted(nonmembers, "nonmember" if result.group_codes is None else "group")
    return f"not estimable with {things}{'' if result.group_codes is None else ' of nonmembers'}: at least {least}"


def shown_rates(result: Audited) -> list[float]:
    """The nominal false-positive rates at which the true-positive rates of an audit can be estimated, and no rate."""
    return [fpr for fpr in NOMINAL_RATES if not fpr or not not_estimable(result, fpr)]


def by_coin(result: Audited) -> bool:
    """Whether membership was assigned by coins."""
    return bool(result.meta.get("membership", {}).get("assignment") == "coin")


def shared(result: Audited) -> float:
    """Share of the smaller side that is on the other, too."""
    return float(result.meta.get("on_both_sides", 0.0))


def unverified(result: Audited) -> str:
    """Why members are not known to be those of the training; empty where they are, or an audit does not say."""
    members = result.meta.get("members", {})
    return "" if members.get("verified", True) else str(members.get("reason") or "the reason is not recorded.")


def single_samples(result: Audited) -> list[str]:
    """How many members are flagged individually or, where none is, how many would have to stand out."""
    flagged, members = int(result.flagged().sum()), int(result.member.sum())
    rate = float(result.meta.get("settings", {}).get("fdr", 0.1))
    if not flagged:
        return flags_begin(result, rate)
    by, wrong = f"by the {result.primary} score", f"on average at most {100 * rate:.0f} % of such flags are wrong"
    if result.group_codes is not None:
        groups = len(np.unique(result.group_codes[result.flagged()]))
        where = f" in {groups} of {counted(units(result.member, result.group_codes)[0], 'group')}"
        return [
            f"{flagged} of {counted(members, 'member')} are flagged individually{where} {by} ({wrong}, a group "
            "counting once)."
        ]
    return [f"{flagged} of {counted(members, 'member')} are flagged individually {by} ({wrong})."]


def flags_begin(result: Audited, rate: float) -> list[str]:
    """Say how many members, or groups of them, have to stand out at once before a single one can be flagged."""
    members, nonmembers = units(result.member, result.group_codes)
    if not members or not nonmembers:
        return []
    least = fewest_flags(members, nonmembers, rate)
    many = counted(nonmembers, "nonmember" if result.group_codes is None else "group")
    against = many if result.group_codes is None else f"{many} of nonmembers"
    at = f"at a false discovery rate of {100 * rate:.3g} % against {against}"
    if least > members:
        return [f"No member can be flagged individually {at}, however high it scores: more nonmembers are needed."]
    second = fewest_flags(2 * members, nonmembers, rate)  # one nonmember above them doubles their p-values
    twice = f", or {second} above all but one" if second <= members and result.group_codes is None else ""
    of = counted(members, "member") if result.group_codes is None else f"{counted(members, 'group')} of members"
    return [
        f"No member is flagged individually: {at}, at least {least} of {of} have to stand out at once before any can "
        f"be ({least} above all nonmembers{twice})."
    ]


def control(result: Audited) -> list[str]:
    """Say that the control is off; nothing where it is not, or there is none.

    See :mod:`~mia_lightning.scores.control` for what that may mean.
    """
    low, high = result.metric("control_auc_low"), result.metric("control_auc_high")
    if not (low > 0.5 or high < 0.5):
        return []
    label, area = registry.scores.label(result.primary), 100 * result.metric("control_auc")
    return [
        f"The control is off: of two random halves of each side, scored by the {label} score as if one were members, "
        f"that one scores higher {area:.0f} % of the time ({100 * low:.0f} to {100 * high:.0f} %; 50 % is right). One "
        "in twenty audits shows that by chance; if others do, too, the score treats samples that are called members "
        "unlike others, whatever the model memorised."
    ]


def epsilon(result: Audited) -> list[str]:
    """Which guarantees of differential privacy are ruled out, and how firmly."""
    low, bound = result.metric("epsilon_low"), result.meta.get("epsilon") or {}
    if not low > 0 or "standing" not in bound:
        return []
    of_groups = bound.get("unit") == "group"
    at = f"(delta {bound['delta']:g})"
    if not bound["valid"]:
        for_groups = " for whole groups" if of_groups else ""
        return [f"An epsilon of {low:.2f} or more{for_groups} {at} is {bound['standing']}."]
    return [
        f"Differential privacy{' of whole groups' if of_groups else ''} with epsilon below {low:.2f} {at} is ruled out "
        f"with {100 * bound['level']:.0f} % confidence; {bound['standing']}."
    ]


def readings(result: Audited) -> str:
    """How task, inputs and outputs were read, and by what that was decided; empty where the result does not say."""
    decisions = result.meta.get("interpretation", {})
    return "; ".join(f"{subject} read as {decision}" for subject, decision in decisions.items())


def pictured_slices(result: Audited) -> str:
    """What pictures of volumes show, in a sentence; empty where the samples are pictures themselves."""
    volumes = "volumes" in result.meta.get("interpretation", {})
    return "Of each volume, the middle slice along the axis with the fewest voxels is shown." if volumes else ""


def fitted_on_few(result: Audited) -> list[str]:
    """Say that a score that is fitted on few nonmembers comes out low; nothing where it is not, or not on few."""
    spec, nonmembers = registry.scores.find(result.primary), units(result.member, result.group_codes)[1]
    if spec is None or "nonmembers" not in spec.needs or not 0 < nonmembers < ENOUGH_TO_FIT:
        return []
    things = counted(nonmembers, "nonmember" if result.group_codes is None else "group")
    return [
        f"The {spec.label} score is fitted on nonmembers. With {things} its AUC comes out a little low (in "
        "simulations by up to 0.02 with 20 and 0.011 with 48)."
    ]


def place_among_looks(result: Audited) -> str:
    """Which look at its training an audit is, of how many, and how much of the error is spent; empty outside of one."""
    look = result.meta.get("look") or {}
    if not {"number", "planned", "spent"} <= look.keys():
        return ""
    return f"{look['number']} of {look['planned']} planned, {100 * look['spent']:.3g} % of the error spent"


def open_length(result: Audited) -> list[str]:
    """Say how the error is spent where nobody knows how many looks there will be; nothing where it is known."""
    if not (result.meta.get("look") or {}).get("open"):
        return []
    return [
        f"The length of the training is open: looks are planned {OPEN_LOOKS} at a time, and each plan may spend half "
        "of the error that is left, so that all looks together stay within it. This is look "
        f"{place_among_looks(result)}."
    ]


def notes(result: Audited) -> list[str]:
    """Whether members are unverified, notes of the audit, neighbours that the training augments with, exclusions."""
    lines = [str(note) for note in result.meta.get("notes", [])]
    if 0 < (share := shared(result)) < TOO_MUCH_SHARED:
        lines.insert(0, f"{100 * share:.0f} % of the smaller side is on the other, too, which pulls the AUC to 0.5.")
    if caution := result.meta.get("plausibility", {}).get("caution"):
        lines.insert(0, str(caution))
    if reason := unverified(result):
        lines.insert(0, f"Members unverified: {reason}")
    if copies := result.meta.get("near_copies"):
        across = f" ({copies['across']} of them on the other side)" if copies.get("across") else ""
        lines.append(
            f"{copies.get('samples')} of {copies.get('compared')} samples look nearly like another one{across}: where "
            "they show one thing, such as a patient or a film, the intervals are too narrow and the p-values too "
            "small. Say which samples belong together (groups, group_key, group_column), or that they are independent "
            "(groups='none')."
        )
    if both := result.meta.get("groups", {}).get("on_both_sides"):
        have = "group has" if both == 1 else "groups have"
        lines.append(f"{both} {have} samples on both sides; intervals and tests allow for it.")
    lines += control(result) + open_length(result) + fitted_on_few(result)
    neighbours = result.meta.get("neighbours", {})
    if weak := neighbours.get("weak"):
        lines.append(
            f"The training augments with the transforms of {', '.join(weak)}: these neighbours hide memorization."
        )
    if dropped := neighbours.get("dropped"):
        lines.append(f"Left out as neighbours, since the training augments with them: {', '.join(dropped)}.")
    if result.excluded:
        were = "was" if len(result.excluded) == 1 else "were"
        lines.append(f"{counted(len(result.excluded), 'sample')} {were} left out; the result says which and why.")
    return lines
