"""The risk section of a data-protection impact assessment: what was tested, on whom, how sure, and what was not.

Every sentence is derived from the result and the files beside it; what they do not say is said to be not recorded.
Terms are those of the GDPR (recital 26, Article 35(7)) and of the EDPB's opinion 28/2024 on AI models, adopted on
17 December 2024.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from mia_lightning import registry
from mia_lightning.report import exposed_groups, exposed_samples, slices, statements
from mia_lightning.report.formatting import NONE
from mia_lightning.report.html_page import render, tone
from mia_lightning.report.run import Run, when
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.remarks import by_coin, counted, sizes, unverified
from mia_lightning.result.verdict import some_stand_out
from mia_lightning.result.verdict_score import ByVerdictScore

NOT_RECORDED = "not recorded"
_LISTED = 10
_PIECE = 2**20
_TODAY = "(the file as it is today)"
_AGE = re.compile(r"(?<![a-zA-Z_/])(epoch|step)=(\d+)")

TERMS = (
    "Recital 26 of the GDPR: whether a natural person is identifiable is judged by all the means reasonably likely to "
    "be used, such as singling out, by the controller or by another person, with regard to costs, time and the "
    "technology available. The principles of data protection do not apply to anonymous information.",
    "EDPB, opinion 28/2024: a model that was trained on personal data is not anonymous in all cases. For it to be so, "
    "both the likelihood of extracting personal data of those whose data it was trained on, and that of obtaining such "
    "data from queries, should be insignificant, by all the means reasonably likely to be used. Tests of a model's "
    "resistance to attacks, membership inference among them, are one of the elements to be assessed, by their scope, "
    "frequency, quantity and quality.",
    "Article 35(7) of the GDPR: an assessment contains the risks to rights and freedoms (c) and the measures envisaged "
    "(d). This page is a contribution to both. It is not the assessment, and no legal advice.",
)
"""What the law and the supervisory authorities say, as far as this page leans on it."""

UNTESTED = (
    "Extraction and reconstruction of training data (model inversion), and inference of attributes of persons, are "
    "other attacks, which this audit does not make.",
    "Whether membership says anything about a person, or is itself sensitive (a patient of a clinic), is not decided "
    "by numbers.",
    "The audit is of these weights, on these samples: another training, with another seed or other data, may memorise "
    "other samples.",
)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        sentences: Its paragraphs.
        rows: Pairs of a name and what it is.
        items: Its list.
    """

    title: str
    sentences: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    items: tuple[str, ...] = ()


def impact_assessment(run: Run, *, today: datetime | None = None) -> str:
    """Write the page as HTML, as self-contained as the report.

    Args:
        run: The run; its ``auditor`` is named.
        today: Date of the page; by default now.
    """
    result = run.result
    date = (today or datetime.now(UTC)).strftime("%Y-%m-%d")
    return render(
        "impact_assessment.html",
        title=f"Privacy risk of {run.name}",
        run=run,
        date=date,
        verdict=result.verdict,
        tone=tone(result.verdict.grade),
        conclusion=conclusion(result),
        sections=[
            _tested(run, date),
            _samples(result),
            _confidence(result),
            _attacker(result),
            _untested(result),
            _measures(run),
            _access(run),
            Section("Terms", items=TERMS),
        ],
        exposed=[[s.id, s.p_value, s.mark, s.since or NONE] for s in exposed_samples.most_exposed(run, _LISTED)],
        flagged=exposed_samples.flagged_in_words(run),
        groups_in_words=exposed_groups.groups_in_words(run),
        group_head=exposed_groups.HEAD,
        slices_in_words=slices.slices_in_words(result),
        slice_head=slices.HEAD,
        slices=slices.slice_rows(result, _LISTED),
        groups=[group.row for group in exposed_groups.most_exposed_groups(run, _LISTED)],
    )


def conclusion(result: AuditResult) -> str:
    """What the finding means for the question whether the model is anonymous."""
    grade = result.verdict.grade
    if grade in ("strong", "weak") and by_coin(result):
        what = (
            "it can be inferred of some samples that the model was trained on them"
            if some_stand_out(ByVerdictScore(result))
            else "whether the model was trained on a sample can be inferred better than by guessing, while no single "
            "member stands out"
        )
        return (
            f"By means that are described below, {what}. Where samples relate to natural persons, this speaks against "
            "treating the model as anonymous."
        )
    if grade in ("strong", "weak"):
        return (
            "Members are treated differently from nonmembers, but membership was not assigned at random: until a "
            "comparison with randomised assignment shows otherwise, the model should not be treated as anonymous where "
            "samples relate to natural persons."
        )
    if grade == "none":
        return (
            "These attacks found no sign that membership can be inferred, within the margin stated. That is one of the "
            "elements of an assessment; by itself it does not show that the model is anonymous."
        )
    return (
        "This audit decides nothing: it supports neither that membership can be inferred nor that it cannot. It should "
        "not be relied on until it is repeated as its limitation says."
    )


def _tested(run: Run, date: str) -> Section:
    result, meta = run.result, run.result.meta
    path = meta.get("checkpoint") or meta.get("outputs")
    versions = ", ".join(f"{name} {version}" for name, version in meta.get("versions", {}).items())
    rows = (
        ("Model", str(path or run.name)),
        *_digests(run, path),
        ("Age of the model", when(result) or NOT_RECORDED),
        ("Task", str(meta.get("task", NOT_RECORDED))),
        ("SHA-256 of the list of samples (side and id)", _digest_of_samples(result)),
        ("Auditor", run.auditor or f"{NOT_RECORDED} (--auditor names them)"),
        ("Date of this page", date),
        ("Software", versions or NOT_RECORDED),
    )
    question = "Tested was membership inference: whether what the model makes of a sample gives away its membership."
    return Section("What was tested", (question,), rows)


def _samples(result: AuditResult) -> Section:
    grouping = result.meta.get("groups")
    persons = (
        f"They come in groups (such as patients): {grouping['members']} of members and {grouping['nonmembers']} of "
        "nonmembers, which count in place of samples in intervals and tests."
        if grouping
        else "No groups were given: every sample is taken to be independent. Where several are of one person, the "
        "intervals are too narrow, and nothing is said of persons: the audit should be repeated with groups."
    )
    sentences = [f"Audited were {sizes(result)}.", persons, statements.assignment(result)]
    sentences += [f"Members are {'unverified: ' + why}" for why in [unverified(result)] if why]
    sentences += [f"Left out were {counted(count, 'sample')}: {why}." for why, count in statements.exclusions(result)]
    if result.meta.get("capped"):
        sentences.append("A seeded subset was audited, not all samples.")
    return Section("On whom", tuple(sentences))


def _confidence(result: AuditResult) -> Section:
    rows = tuple((number.label, f"{number.value} ({number.note})") for number in statements.key_numbers(result))
    return Section("At what confidence", tuple(statements.fairness(result)[1:]), rows)


def _attacker(result: AuditResult) -> Section:
    needs = {need for name in result.scores if (spec := registry.scores.find(name)) for need in spec.needs}
    items = ["the sample in question: its input and its target", "the model's output for it, once"]
    if "neighbours" in needs:
        items.append("outputs for transformed copies of it: a few more queries")
    if "nonmembers" in needs:
        items.append("some samples of the same kind that were not trained on")
    if "references" in needs:
        items.append("models of the same kind, trained on similar data")
    if "history" in needs:
        items.append("the errors of earlier epochs, which only those who hold several checkpoints of the training have")
    how = (
        "The attacks are those of somebody who can query the model, or sees its outputs, and wants to know whether "
        "samples at hand were trained on. They have:"
    )
    return Section("Threat model", (how,), items=tuple(items))


def _untested(result: AuditResult) -> Section:
    missing = [s.label for s in registry.scores if s.attack and s.built_in and s.name not in result.scores]
    attacks = (f"Attacks that this audit did not make: {', '.join(missing)}.",) if missing else ()
    return Section("What was not tested", items=(*attacks, *UNTESTED))


def _measures(run: Run) -> Section:
    found = _measures_in(run.config)
    looks = int(run.result.meta.get("looks") or 1)
    if len(run.course) > 1:
        found.append(f"The training was audited {len(run.course)} times; claims allow for {counted(looks, 'look')}.")
    if run.config is None:
        found.append("No configuration of the training lies beside the audit: further measures are not recorded.")
    return Section("Measures taken", items=tuple(found) or ("None is recorded.",))


def _measures_in(text: str | None) -> list[str]:
    """Measures against memorization that a run's configuration names."""
    try:
        config = yaml.safe_load(text or "")
    except yaml.YAMLError:
        config = None
    if not isinstance(config, Mapping):
        return []
    found = []
    callbacks = (config.get("trainer") or {}).get("callbacks") or []
    names = {str(c.get("class_path", "")).rpartition(".")[2] for c in callbacks if isinstance(c, Mapping)}
    if "EarlyStopping" in names:
        found.append("The training could stop early (EarlyStopping), before it memorises more.")
    if names & {"WeightAveraging", "EMAWeightAveraging", "StochasticWeightAveraging"}:
        found.append("Weights were averaged over the training.")
    augment = _argument(config, "data", "augment")
    if augment is not None and augment not in ("none", [], ()):
        found.append(f"Training samples were augmented (data.augment: {augment}).")
    regularisers = {name: _argument(config, "model", name) for name in ("dropout", "weight_decay")}
    found += [f"The model was trained with {k.replace('_', ' ')} ({v})." for k, v in regularisers.items() if v]
    if limits := (config.get("audit") or {}).get("fail_above"):
        listed = ", ".join(f"{key} {limit}" for key, limit in limits.items())
        found.append(f"The training was to stop where the audit exceeds its limits ({listed}).")
    return found


def _argument(config: Mapping[str, Any], section: str, name: str) -> Any:
    part = config.get(section)
    arguments = part.get("init_args") if isinstance(part, Mapping) else None
    return arguments.get(name) if isinstance(arguments, Mapping) else None


def _access(run: Run) -> Section:
    pictured = len(run.pictures)
    embedded = (
        f"The report beside this page (report.html) embeds pictures of {counted(pictured, 'sample')}: only those who "
        "may see the training data may see it."
        if pictured
        else "No pictures of samples were kept with the audit."
    )
    return Section(
        "Who may see this",
        (
            "This page embeds no pictures. It names ids, and tells of some that they were trained on; result.json and "
            "samples.csv tell it of all. They are personal data wherever ids or membership relate to persons.",
            embedded,
        ),
    )


def _digests(run: Run, path: Any) -> list[tuple[str, str]]:
    """SHA-256 of the model's file or, of a training, of the checkpoints in its run's folder, as they are today.

    Listed are the checkpoints whose names say the epoch and step of the audit. Where no name does, all are, up to ten,
    and it is said that they may be others; first those without an epoch in their names, such as ``last.ckpt``, then
    from the latest to the earliest.
    """
    if path:
        file = Path(str(path))
        digest = f"{_digest_of(file)} {_TODAY}" if file.is_file() else f"{NOT_RECORDED}: there is no such file here"
        return [("SHA-256 of its file", digest)]
    files = [file for file in sorted((run.folder.absolute().parent / "checkpoints").glob("*.ckpt")) if file.is_file()]
    if not files:
        return [("SHA-256 of its file", NOT_RECORDED)]
    meta = run.result.meta
    audited = {"epoch": run.result.epoch, "step": meta.get("global_step", meta.get("step"))}  # as Lightning names files
    audited = {name: number for name, number in audited.items() if number is not None}
    chosen = [file for file in files if (age := _age_of(file)) and age.items() <= audited.items()]
    if chosen:
        return [(f"SHA-256 of {file.name}", f"{_digest_of(file)} {_TODAY}") for file in chosen[:_LISTED]]
    files.sort(key=lambda file: [-_age_of(file).get(name, math.inf) for name in ("epoch", "step")])
    unsure = f"a checkpoint in the run's folder; which one was audited is {NOT_RECORDED}"
    if moment := when(run.result):
        unsure = f"a checkpoint in the run's folder, which may not be the audited one, {moment}"
    return [(f"SHA-256 of {file.name}", f"{_digest_of(file)} {_TODAY}; {unsure}") for file in files[:_LISTED]]


def _age_of(checkpoint: Path) -> dict[str, int]:
    """Epoch, from 0, and step that a checkpoint's name says, as Lightning writes them; empty where it says none."""
    return {name: int(number) for name, number in _AGE.findall(checkpoint.stem)}


def _digest_of(path: Path) -> str:
    """SHA-256 of a file, as it is now."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _digest_of_samples(result: AuditResult) -> str:
    """SHA-256 of sides and ids, one a line, sorted."""
    lines = sorted(f"{'member' if m else 'nonmember'}\t{id}" for id, m in zip(result.ids, result.member, strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
