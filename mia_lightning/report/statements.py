"""Numbers and sentences of a report, from which the HTML page, the Markdown and the model card are made."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mia_lightning import registry
from mia_lightning.functional.blind import is_further
from mia_lightning.functional.operating_point import NOMINAL_RATES
from mia_lightning.registry import MetricSpec
from mia_lightning.report.formatting import NONE, number, p_value, percent, short, signed, span
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.failed_audit import FailedAudit
from mia_lightning.result.remarks import counted, matched_pairs, not_estimable, place_among_looks, shown_rates
from mia_lightning.result.verdict import sides_differ
from mia_lightning.result.verdict_score import ByVerdictScore

LIMITS = (
    "An AUC near 0.5 does not show that nothing is memorised. It says that these attacks, on these samples, find "
    "nothing.",
    "An AUC above 0.5 on sides that differ by themselves (another camera, another year) may show that difference. The "
    "blind attack looks for it, but only in some statistics. With randomised assignment there is no such difference.",
    "A high score does not prove that a particular image was used. Its p-value is the chance that a nonmember looks "
    "like that, not the chance of innocence, and with n nonmembers it is never below 1/(n + 1).",
    "Epsilon bounds from splits, or from the best of many epochs, are indications, not proofs.",
    "Nonmembers that also select checkpoints are no longer independent of the model.",
    "An interval covers which samples were drawn, not what another training with another seed would give.",
)
"""Limits of every audit."""

_FAILURES = 10  # failed audits that are named
_UNKNOWN_SIDES = "Members and nonmembers were named by those who ran the audit; how they were chosen is not recorded."


@dataclass(frozen=True)
class KeyNumber:
    """A number with its name and what it means."""

    label: str
    value: str
    note: str


def key_numbers(result: AuditResult) -> list[KeyNumber]:
    """The key numbers of an audit: AUC, its first tenth, true positives at 1 %, p-value, blind AUC, epsilon bound.

    Where the verdict rests on another score than the primary one, AUC and p-value of that one come second. Where the
    primary score corrects for difficulty, also what that gains.
    """
    looks = int(result.meta.get("looks", 1))
    times = f", corrected for {looks} looks" if looks > 1 else ""
    band = f", {span(*result.band())} with all looks" if not math.isnan(result.band()[0]) else ""
    area = f"95 % interval {span(*result.interval())}{band}; 0.5 is chance"
    first = "area under the ROC up to 10 % false positives, standardised; 0.5 is chance"
    exposed = result.metric("p_value_corrected/most_exposed")
    at_top = "" if math.isnan(exposed) else f"; of so many members at the top, {p_value(exposed)}"
    chance = f"chance of such an AUC if membership were shuffled{times}{at_top}"
    numbers = [
        KeyNumber(f"AUC, {registry.scores.label(result.primary)} score", number(result.auc), area),
        KeyNumber("Partial AUC", number(result.metric(f"partial_auc_fpr_0.1/{result.primary}")), first),
        KeyNumber("True positives at 1 % false positives", *_true_positives(result)),
        KeyNumber("p-value", p_value(result.metric("p_value_corrected")), chance),
        KeyNumber("Blind AUC", number(result.metric("blind_auc")), _blind_note(result)),
        KeyNumber("Epsilon, at least", number(result.metric("epsilon_low"), 2), _epsilon_note(result)),
    ]
    if (rested := ByVerdictScore(result)).primary != result.primary:
        label = f"{registry.scores.label(rested.primary)} score"
        p_values = f"p-value {p_value(rested.metric('p_value_corrected'))}{times}"
        area = f"the verdict rests on it; 95 % interval {span(*rested.interval())}; {p_values}"
        numbers[3] = replace(numbers[3], label=f"p-value, {registry.scores.label(result.primary)} score")
        numbers.insert(1, KeyNumber(f"AUC, {label}", number(rested.auc), area))
    gain = result.metric("auc_gain")
    if not math.isnan(gain):
        bounds = span(result.metric("auc_gain_low"), result.metric("auc_gain_high"))
        note = f"AUC beyond that of the reconstruction error alone; 95 % interval {bounds}"
        numbers.append(KeyNumber("Gain by correction", signed(gain), note))
    return numbers


def scores_table(result: AuditResult) -> list[list[str]]:
    """The scores of an audit, a row each: name, AUC, interval, true positives at 1 %, 0.1 % and no false positives.

    A rate that cannot be estimated has a dash.
    """
    rates = shown_rates(result)
    return [
        [
            registry.scores.label(name),
            number(result.metric(f"auc/{name}")),
            span(*result.interval(name)),
            *(
                percent(result.metric(f"tpr_at_fpr_{fpr:g}/{name}") if fpr in rates else math.nan, 1)
                for fpr in NOMINAL_RATES
            ),
        ]
        for name in result.scores
    ]


def unknown_rates(result: AuditResult) -> list[str]:
    """Say at which nominal false-positive rates nothing can be estimated; empty where all can be."""
    why = {fpr: reason for fpr in NOMINAL_RATES if fpr and (reason := not_estimable(result, fpr))}
    return [f"TPR at {100 * fpr:g} % FPR: {reason}." for fpr, reason in why.items()]


def error_table(result: AuditResult) -> list[list[str]]:
    """The errors of an audit, a row each: label, mean of members, mean of nonmembers, and what it is."""
    rows, classes = [], {one.key: one.value for one in result.sliced.rows if one.of_class}
    for name in result.errors:
        means = [result.metric(f"error/{name}/{side}") for side in ("members", "nonmembers")]
        family, _, of_class = name.partition("/")
        spec = registry.errors.find(family)
        if spec is not None and not np.isnan(means).all():
            label = f"{spec.label}, {classes.get(name, of_class)}" if of_class else spec.label
            rows.append([label, *map(short, means), spec.sentence])
    return rows


def further_metrics(result: AuditResult) -> list[list[str]]:
    """Registered metrics that are not the package's own, a row each: label, value, interval, and what it is."""
    return [row for spec in registry.metrics if not spec.built_in for row in _metric_rows(spec, result)]


def fairness(result: AuditResult) -> list[str]:
    """Say how membership was assigned, whether the splits are distinguishable, and what follows for the audit."""
    sentences = [assignment(result), *_members(result), _blind(result)]
    rested = ByVerdictScore(result)
    label = registry.scores.label(rested.primary)
    if not math.isnan(adjusted := rested.metric("adjusted_auc")):
        between = span(rested.metric("adjusted_auc_low"), rested.metric("adjusted_auc_high"))
        sentences.append(
            f"Less what the pairs explain by themselves, the {label} score has an AUC of {number(adjusted)} (95 % "
            f"interval {between}), {number(rested.auc)} as it is."
        )
    matched = result.metric("samples/matched")
    if not math.isnan(matched):
        low, high = rested.metric("matched_auc_low"), rested.metric("matched_auc_high")
        pairs, left = matched_pairs(result)[1], result.metric("matched_imbalance")
        apart = "" if math.isnan(left) else f", which still differ by up to {left:.2f} standard deviations"
        sentences.append(
            "No member has a matching nonmember: there is no fair part to repeat the audit on."
            if math.isnan(rested.metric("matched_auc"))
            else f"On {pairs}, matched in what the blind attack looks at"
            f"{apart}, the AUC of the {label} score is {number(rested.metric('matched_auc'))} (95 % interval "
            f"{span(low, high)})."
        )
    if not math.isnan(control := rested.metric("control_auc")):
        low, high = rested.metric("control_auc_low"), rested.metric("control_auc_high")
        sentences.append(
            f"Control: of random halves of each side in place of the sides the {label} score has an AUC of "
            f"{number(control)} (95 % interval {span(low, high)}), which {'holds' if low <= 0.5 <= high else 'misses'} "
            "0.5; one in twenty audits misses it by chance."
        )
    if (selects := result.meta.get("nonmembers_select_checkpoints")) is not None:
        sentences.append(
            "The nonmembers also selected checkpoints, so that they are no longer independent of the model."
            if selects
            else "The nonmembers selected no checkpoints."
        )
    if result.meta.get("capped"):
        most = result.meta.get("settings", {}).get("max_samples")
        sentences.append(f"A seeded subset was audited: at most {most} samples a side.")
    if standing := (result.meta.get("epsilon") or {}).get("standing"):
        sentences.append(f"The epsilon bound is {standing}.")
    return sentences


def assignment(result: AuditResult) -> str:
    """Say how members and nonmembers were assigned."""
    how = result.meta.get("membership", {})
    unit = "group of samples" if how.get("unit") == "group" else "sample"
    seed = f" (seed {how['seed']})" if how.get("seed") is not None else ""
    more = " One sample a group was kept." if how.get("one_per_group") else ""
    before_coins = "independent_units" in how
    if how.get("capped"):
        result_of_cap = " before the coins" if before_coins else ", so that the assignments are not independent"
        more += f" A cap left samples out{result_of_cap}."
    alone = how.get("independent", True) or how.get("capped") or unit != "sample"  # where units are not told
    if how.get("assignment") == "coin" and not how.get("independent_units", alone):
        more += " The seed was chosen for similar sides, so that the assignments do not count as independent."
    if how.get("assignment") == "coin":
        return f"Randomised assignment: a fair coin for every {unit} decided whether it was trained on{seed}.{more}"
    if how.get("assignment") == "split":
        return f"Members and nonmembers are splits that came with the data, not randomised: they may differ.{more}"
    names = [str(how[side]) for side in ("members", "nonmembers") if side in how]
    return f"{_UNKNOWN_SIDES} They are {' and '.join(names)}." if len(names) == 2 else _UNKNOWN_SIDES


def methods(result: AuditResult) -> list[tuple[str, str]]:
    """What each score of an audit is, the primary first."""
    names = [result.primary, *(n for n in result.scores if n != result.primary)]
    specs = {name: registry.scores.find(name) for name in names}
    unknown = "a score that is not registered in this installation."
    return [(registry.scores.label(name), unknown if spec is None else spec.sentence) for name, spec in specs.items()]


def limits(result: AuditResult) -> list[str]:
    """Limits of the numbers."""
    estimates = [registry.scores.label(name) for name in result.scores if not registry.scores.is_attack(name)]
    what = (
        "uses the membership labels: told who is a member (estimate), it is no attack, and what attacks on the same "
        "errors reach may be less, or more."
    )
    return [*LIMITS, *(f"The score {label!r} {what}" for label in estimates)]


def settings(result: AuditResult) -> list[tuple[str, str]]:
    """The audit's settings and how they made it read the data, one a row; parts of parts get a name with a point."""
    readings = {f"{subject} read as": text for subject, text in result.meta.get("interpretation", {}).items()}
    return [*_flat({"task": result.meta.get("task", "-")} | readings), *_flat(result.meta.get("settings", {}))]


def provenance(result: AuditResult) -> list[tuple[str, str]]:
    """Versions, seeds and where the weights come from."""
    meta = result.meta
    rows = [(f"version of {name}", str(v)) for name, v in meta.get("versions", {}).items()]
    rows += [("seed of the audit", str(v)) for v in [meta.get("settings", {}).get("seed")] if v is not None]
    rows += [("seed of the sides", str(v)) for v in [meta.get("membership", {}).get("seed")] if v is not None]
    keys = ("epoch", "step", "logged_step", "global_step", "checkpoint", "outputs", "source", "stage")
    called = dict.fromkeys(["step", "logged_step"], " (batches)") | {"global_step": " (of all optimizers)"}
    called = called if meta.get("global_step") is not None else {}
    rows += [(name + called.get(name, ""), str(meta[name])) for name in keys if meta.get(name) is not None]
    rows += [("look at the training", look)] if (look := place_among_looks(result)) else []
    return [(name, str(int(v) + 1) if name == "epoch" else v) for name, v in rows]


def exclusions(result: AuditResult) -> list[tuple[str, int]]:
    """Why samples were left out, and how many for each reason, the most frequent first."""
    reasons = (entry.get("reason", "no reason recorded") for entry in result.excluded)
    # What could not be read has the error's words behind it, with a path: another reason for each.
    return Counter(r.split(" (")[0] if r.startswith("it could not be read") else r for r in reasons).most_common()


def utility(result: AuditResult) -> list[tuple[str, str]]:
    """The project's own validation metrics at the time of an audit."""
    return [(name, short(float(value))) for name, value in (result.meta.get("utility") or {}).items()]


def failures(failed: Sequence[FailedAudit]) -> list[str]:
    """Say which audits of a training failed, and why; empty where none did."""
    shown = [failure.sentence for failure in failed[:_FAILURES]]
    more = len(failed) - len(shown)
    return [*shown, *([f"{more} more audits failed."] if more else [])]


def aside(results: Sequence[AuditResult]) -> str:
    """Mention audits outside of the training that a report is not about; empty where there are none."""
    if not results:
        return ""
    last = results[-1]
    was = "was 1 audit" if len(results) == 1 else f"were {len(results)} audits"
    which = "it" if len(results) == 1 else "the last of them"
    return (
        f"Outside of the training there {was}, which this report is not about: {which} found an AUC of "
        f"{number(last.auc)} ({registry.scores.label(last.primary)} score, 95 % interval {span(*last.interval())})."
    )


def _true_positives(result: AuditResult) -> tuple[str, str]:
    """The true-positive rate at 1 % with its bounds, or why it cannot be estimated and what there is instead."""
    if reason := not_estimable(result, 0.01):
        none = percent(result.metric(f"tpr_at_fpr_0/{result.primary}"))
        limit = result.metric("population_fpr_high_0")
        behind = "" if math.isnan(limit) else f", which is an FPR of up to {percent(limit, 1)}"
        return "not estimable", f"{reason}; {none} of the members at no false positive{behind}"
    ends = {
        "95 % bounds": [f"tpr_{end}_at_fpr_0.01/{result.primary}" for end in ("low", "high")],
        "melded interval": [f"tpr_{end}_at_population_fpr_0.01/{result.primary}" for end in ("low", "high")],
        "Clopper-Pearson with this very threshold": [f"tpr_{end}_at_threshold_0.01" for end in ("low", "high")],
    }
    found = {name: [result.metric(key) for key in keys] for name, keys in ends.items()}
    intervals = [f"{name} {100 * a:.0f} to {100 * b:.0f} %" for name, (a, b) in found.items() if a <= b]
    bounds = ", ".join(intervals) or f"95 % bounds {NONE}"
    nonmembers, realised = int((~result.member).sum()), result.metric("realised_fpr_0.01")
    wrong = NONE if math.isnan(realised) else f"{round(realised * nonmembers)} of {counted(nonmembers, 'nonmember')}"
    limit = result.metric("population_fpr_high_0.01")
    further = "" if math.isnan(limit) else f", of further nonmembers up to {percent(limit, 1)}"
    return percent(result.metric("tpr_at_fpr_0.01")), f"{bounds}; false positives: {wrong}{further}"


def _metric_rows(spec: MetricSpec, result: AuditResult) -> list[list[str]]:
    """A row for each score, or for each key of a metric of the whole audit."""
    labels = {key: spec.label if key == spec.name else f"{spec.label}, {key}" for key in spec.keys or (spec.name,)}
    bounds = {spec.name: spec.bounds}
    if spec.of == "score":
        labels = {f"{spec.name}/{name}": f"{spec.label}, {registry.scores.label(name)}" for name in result.scores}
        bounds = {f"{spec.name}/{name}": tuple(f"{bound}/{name}" for bound in spec.bounds) for name in result.scores}
    pairs = {key: both for key, both in bounds.items() if len(both) == 2}
    between = {key: span(result.metric(both[0]), result.metric(both[1])) for key, both in pairs.items()}
    return [
        [label, short(result.metric(key)), between.get(key, NONE), spec.sentence]
        for key, label in labels.items()
        if f"{result.prefix}/{key}" in result.metrics
    ]


def _members(result: AuditResult) -> list[str]:
    """Whether the members are known to be those of the training; nothing in an audit that does not say."""
    members = result.meta.get("members", {})
    if "verified" not in members:
        return []
    return [f"Members {'verified' if members['verified'] else 'unverified'}: {members.get('reason')}"]


def _blind(result: AuditResult) -> str:
    further = ", tint, frequencies, JPEG blocks, size, frozen features" if any(map(is_further, result.blind)) else ""
    seen = f"difficulty, brightness, contrast, sharpness, class shares{further}"
    looks_at = f"An attack that never queries the model ({seen})"
    chance = result.metric("blind_p_value")
    if math.isnan(result.auc):
        return f"{looks_at} could not be run: a side has no sample."
    if math.isnan(chance):
        auc = number(result.metric("blind_auc"))
        return f"There are too few samples for the blind classifier; difficulty alone has an AUC of {auc}."
    shift = result.metric("blind_detectable_shift")
    power = "" if math.isnan(shift) else f": a shift of {shift:.2f} standard deviations would have been found with 80 %"
    differs = "distinguishes the splits" if sides_differ(result) else f"finds no difference{power}"
    return (
        f"{looks_at} reaches an AUC of {number(result.metric('blind_auc'))} (p-value {p_value(chance)}) and {differs}."
    )


def _blind_note(result: AuditResult) -> str:
    chance = result.metric("blind_p_value")
    what = "an attack that never queries the model"
    if math.isnan(chance):
        return f"{what}: difficulty alone, since there are too few samples"
    finding = "the splits are distinguishable" if sides_differ(result) else "no difference found"
    return f"{what}; p-value {p_value(chance)}: {finding}"


def _epsilon_note(result: AuditResult) -> str:
    epsilon = result.meta.get("epsilon") or {}
    if "standing" not in epsilon:
        return "no bound was computed"
    bound = f"delta {epsilon['delta']:g}, {100 * epsilon['level']:.0f} % confidence"
    bound += ", groups as units" if epsilon.get("unit") == "group" else ""
    mu, gaussian = result.metric("mu_low_fdp"), number(result.metric("epsilon_low_fdp"), 2)
    known = f"; {gaussian} (mu {number(mu, 2)}) if the training is Gaussian-private, as DP-SGD is" if mu > 0 else ""
    found = result.metric("epsilon_low") > 0 or mu > 0
    return f"{bound}{known}; {epsilon['standing'] if found else 'no epsilon is ruled out'}"


def _flat(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            rows.append((f"{before}{name}", ", ".join(map(str, value)) or "-"))
        else:
            rows.append((f"{before}{name}", "-" if value is None else str(value)))
    return rows
