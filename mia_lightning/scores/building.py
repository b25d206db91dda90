"""From the errors of all samples to derived errors and the scores asked for, by what the registries declare."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mia_lightning import registry
from mia_lightning.functional.calibration import enough_nonmembers
from mia_lightning.registry import Column, ErrorSpec, ErrorTable, GroupNumbers, ScoreInputs, Sides, Task

NEIGHBOUR = "neighbour/"
"""What columns of log-ratios to one neighbour begin with."""

TILES = "tiles/easiest"
"""The column of log-ratios to the easiest neighbours, tile by tile."""

TILE_NEIGHBOUR = "tile_neighbour"
"""The error that this column becomes."""


def selectable_scores() -> list[str]:
    """Names of the scores that an audit of one model can have, attacks and others."""
    return [spec.name for spec in registry.scores if "references" not in spec.needs]


def needs_neighbours(scores: Sequence[str], errors: Sequence[str] = ()) -> bool:
    """Whether a score or error asks for the model's errors on transformed copies of each pair."""
    specs = [registry.scores.get(name) for name in scores]
    named = [*errors, *(name for spec in specs for name in spec.errors)]
    needs = [spec.needs for spec in specs] + [registry.errors.get(name).needs for name in named]
    return any("neighbours" in need for need in needs)


def attacks_on_one_model(*, with_neighbours: bool = True) -> list[str]:
    """Names of the package's attacks that an audit of one model can have, all or those without neighbours.

    Scores that somebody has registered may cost anything, and are asked for by name.
    """
    specs = [spec for spec in registry.scores if spec.built_in and spec.attack and spec.function is not None]
    alone = [spec.name for spec in specs if not {"references", "history"} & spec.needs]
    return [name for name in alone if with_neighbours or not needs_neighbours([name])]


def measured_errors(task: Task, scores: Sequence[str], errors: Sequence[str] = ()) -> list[ErrorSpec]:
    """Errors that are measured on each batch: those of every audit, and those asked for or needed by a score.

    Raises:
        ValueError: If an error is asked for that is not defined for the task.
    """
    named = dict.fromkeys(errors, "errors")
    named |= {name: f"the score {score!r}" for score in scores for name in registry.scores.get(score).errors}
    for name, asked_by in named.items():
        if task not in (spec := registry.errors.get(name)).tasks:
            measured = [s for s in registry.errors if s.measure is not None or s.each_class is not None]
            suited = [s.name for s in measured if not s.always and task in s.tasks]
            raise ValueError(
                f"The error {name!r}, asked for by {asked_by}, is defined for {' and '.join(spec.tasks)}, but this is "
                f"a {task}. Leave it out; further errors of a {task} are {', '.join(suited)}."
            )
    specs = [spec for spec in registry.errors if spec.measure is not None and task in spec.tasks]
    return [spec for spec in specs if spec.always or spec.name in named]


def errors_of_classes(names: Sequence[str]) -> list[ErrorSpec]:
    """Those among the errors that are asked for that have a number for each class."""
    return [spec for spec in registry.errors if spec.each_class is not None and spec.name in names]


def derive_errors(
    raw: Mapping[str, Column],
    member: Sides,
    scores: Sequence[str],
    errors: Sequence[str] = (),
    *,
    alpha: float = 1.0,
    seed: int = 0,
    group: GroupNumbers | None = None,
) -> dict[str, Column]:
    """Add the errors that are derived from those of all samples, where every audit has them or they are asked for.

    Args:
        raw: Per-sample values by name; those under ``neighbour/`` are log-ratios to one neighbour each, and
            :data:`TILES` is that to the easiest of them, tile by tile.
        member: True for members, (N,).
        scores: The scores asked for, which need errors.
        errors: Further errors asked for.
        alpha: Weight of the predictability error in the membership error.
        seed: Seed of the folds.
        group: Number of each sample's group, (N,), which folds do not split.

    Returns:
        The values of ``raw`` but the log-ratios, then the derived errors. Where there are no log-ratios, as in stored
        tables, errors derived from them are those of ``raw``.
    """
    ratios = {name.removeprefix(NEIGHBOUR): column for name, column in raw.items() if name.startswith(NEIGHBOUR)}
    measured = {n: c for n, c in raw.items() if n != TILES and not n.startswith(NEIGHBOUR)}
    table = ErrorTable(measured, ratios, member, alpha, seed, group, raw.get(TILES))
    needed = errors_of(scores, errors)
    for spec in registry.errors:
        possible = ratios or "neighbours" not in spec.needs
        if spec.derive is not None and possible and (spec.always or spec.name in needed):
            column = spec.derive(table)
            if column is not None:  # later ones may be derived from earlier ones
                table = replace(table, errors={**table.errors, spec.name: column})
    return dict(table.errors)


def errors_of(scores: Sequence[str], errors: Sequence[str] = ()) -> set[str]:
    """Names of the errors that are asked for, and of those that scores need or take where samples have them."""
    specs = [registry.scores.get(name) for name in scores]
    return {*errors, *(name for spec in specs for name in (*spec.errors, *spec.further_errors))}


def build_scores(
    errors: Mapping[str, Column],
    member: Sides,
    names: Sequence[str],
    *,
    seed: int = 0,
    history: Sequence[Mapping[str, Column]] = (),
    group: GroupNumbers | None = None,
) -> tuple[dict[str, Column], list[str]]:
    """Compute the scores asked for, and notes on how a fallback came about; **high means member**.

    Args:
        errors: Per-sample errors by name, each (N,), low = member, as :func:`derive_errors` completes them.
        member: True for members, (N,). Attacks look at it to fit on nonmembers only; ``trained`` uses all of it.
        names: Registered scores, or errors: minus the error.
        seed: Seed of the folds in which fits are kept apart from what they score.
        history: Errors of the earlier audits of the same training, for scores that need them.
        group: Number of each sample's group, (N,), which folds do not split.

    Raises:
        KeyError: If there is no such score, or an error that it needs is missing.

    Example:
        >>> errors = {"reconstruction": np.array([0.1, 0.4])}
        >>> build_scores(errors, np.array([True, False]), ["reconstruction"])[0]["reconstruction"].tolist()
        [-0.1, -0.4]
    """
    specs = [registry.scores.get(name) for name in names]
    notes: list[str] = []
    fitted = [spec.name for spec in specs if "nonmembers" in spec.needs]
    if fitted and not enough_nonmembers(member, group=group):
        count = 0 if group is None else len(np.unique(group[~member]))
        of_groups = "" if group is None else f" of {count} group{'' if count == 1 else 's'}"
        notes.append(
            f"Only {int((~member).sum())} nonmembers{of_groups}: too few to fit {' and '.join(fitted)} on. Scales "
            "are those of both sides together, and difficulty is subtracted with slope one."
        )
    inputs = ScoreInputs(errors, member, seed, history, group=group)
    return {spec.name: score_column(spec, inputs) for spec in specs}, notes


def score_column(spec: registry.ScoreSpec, inputs: ScoreInputs) -> Column:
    """Compute one score, (N,).

    Raises:
        KeyError: If an error that it needs is missing.
        ValueError: If it needs reference models and there are none, or its function gives no number a sample.
    """
    if spec.function is None or ("references" in spec.needs and inputs.references is None):
        raise ValueError(f"The score {spec.name!r} needs reference models: audit with them (--references).")
    score = np.asarray(spec.function(inputs), dtype=np.float64)
    if score.shape != inputs.member.shape:
        raise ValueError(
            f"Expected the score {spec.name!r} to give one number a sample, ({len(inputs.member)},), but its function "
            f"returned shape {score.shape}."
        )
    return score
