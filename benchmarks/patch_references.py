"""What do loss maps of four reference models teach that their errors do not? Learned from all, pixel beside pixel.

    python benchmarks/patch_references.py maps --work /tmp/attacks     # loss maps of the kept weights, once
    python benchmarks/patch_references.py learn --work /tmp/attacks    # from each three trainings of a set
    python benchmarks/patch_references.py table --work /tmp/attacks    # beside `combined_references`

The work folder is that of `attacks.py train --augment plain --seeds 1 2 3 4 5`: of the five trainings of a set each is
the target, the other four its reference models. A classifier of loss maps (`patch_attack.py`) learns from three of them
at once, each with coins of its own; beside a pair's neighbours it sees the middle of the other two models' maps. It
scores the fourth, whose coins it has not seen, and the target, whose score is the mean of four such classifiers. On
the reference models' coins a logistic regression then learns what that score, neighbours, difficulty and reference
models weigh. Scores are kept; what is there is not made again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from attacks import EPOCHS, Measured, Rows, mean_of_sets, numbers, show
from numpy.typing import NDArray
from patch_attack import Stage, holds, keep, keep_maps, maps_of, run_stage, stage_parser
from sklearn.linear_model import LogisticRegression

from mia_lightning.attacks.patch import PatchAttack
from mia_lightning.functional.calibration import standardise
from mia_lightning.functional.combination import in_side_units, surprise
from mia_lightning.registry import ScoreInputs
from mia_lightning.scores.building import derive_errors
from mia_lightning.scores.combined_score import difficulty_columns, neighbour_columns
from mia_lightning.scores.reference_column import error_beside_references
from mia_lightning.scores.reference_statistics import ReferenceStatistics, translation_statistic

Floats = NDArray[np.float64]

REFERENCES = 4
BLOCK = 2  # maps are averaged in blocks of this side, which costs nothing and is four times as fast
STEPS = 400
WEIGHT = 0.5  # nats for each unit of the classifier's score where nothing is learned


def groups(found: Sequence[Measured]) -> list[dict[int, Measured]]:
    """The trainings of each set at each epoch, by seed; last epochs first."""
    every: dict[tuple[int, str], dict[int, Measured]] = {}
    for one in found:
        place = -EPOCHS[one.name].index(one.epoch), one.name
        every.setdefault(place, {}).update({other.seed: other for other in (one, *one.references)})
    return [every[key] for key in sorted(every)]


def make_maps(work: Path, found: Sequence[Measured]) -> None:
    """Make the loss maps that are not there yet."""
    keep_maps(work, [one for group in groups(found) for one in group.values()])


def scores_file(work: Path, learned: Sequence[Measured]) -> Path:
    """Where the scores by what some trainings teach are kept."""
    first = learned[0]
    return work / "patch" / f"of-{first.name}-{'-'.join(str(one.seed) for one in learned)}-{first.epoch:03d}.npz"


def learn(work: Path, found: Sequence[Measured]) -> None:
    """Learn from each three trainings of a set at an epoch, and score the others; keep the scores."""
    for group in groups(found):
        maps: dict[int, torch.Tensor] = {}
        for chosen in itertools.combinations(sorted(group), REFERENCES - 1):
            file = scores_file(work, [group[seed] for seed in chosen])
            others = [seed for seed in group if seed not in chosen]
            if holds(file, [str(seed) for seed in others]):
                continue
            started = time.process_time()
            maps = maps or {seed: F.avg_pool2d(maps_of(work, one), BLOCK) for seed, one in group.items()}
            coins = {seed: one.member for seed, one in group.items()}
            taught = [beside_middle(maps, coins, s, [other for other in chosen if other != s]) for s in chosen]
            attack = PatchAttack(neighbours=True, steps=STEPS)
            attack.fit(torch.cat(taught), np.concatenate([coins[seed] for seed in chosen]))
            keep(file, {str(s): attack.score(beside_middle(maps, coins, s, chosen)) for s in others})
            print(f"{file.stem}: {time.process_time() - started:.1f} s of CPU", flush=True)


def beside_middle(
    maps: dict[int, torch.Tensor], coins: dict[int, NDArray[np.bool_]], seed: int, others: Sequence[int]
) -> torch.Tensor:
    """A model's maps and, as that of one more copy, the middle of other models' maps, (N, 1 + 7 + 1, H, W).

    The middle is that of `combined_references`, of the logarithms of one more than the losses, pixel by pixel.
    """
    logs = {number: torch.log1p(maps[number][:, 0]).double().numpy() for number in (seed, *others)}
    pixels = logs[seed][0].size
    included = np.stack([np.repeat(coins[other], pixels) for other in others])
    stats = ReferenceStatistics(-logs[seed].ravel(), np.stack([-logs[other].ravel() for other in others]), included)
    distance = error_beside_references(stats, np.repeat(coins[seed], pixels)).reshape(logs[seed].shape)
    middle = torch.from_numpy(np.expm1(logs[seed] - distance)).clamp_min(0.0).float()
    return torch.cat([maps[seed], middle.unsqueeze(1)], 1)


def columns(one: Measured, others: Sequence[Measured], patch: Floats) -> Floats:
    """What weights are learned of, (N, 7): surprise, difficulty, references, three of neighbours, the classifier."""
    errors = derive_errors(one.raw, one.member, ["combined"])
    units = [-in_side_units(error, one.member) for error in neighbour_columns(errors)]
    difficulty = [standardise(e, one.member).values for e in difficulty_columns(ScoreInputs(errors, one.member))]
    own, *theirs = (translation_statistic(m.raw["reconstruction"]) for m in (one, *others))
    stats = ReferenceStatistics(own, np.stack(theirs), np.stack([other.member for other in others]))
    reference = standardise(error_beside_references(stats, one.member), one.member).values
    surprises = np.mean([surprise(u) for u in units], 0)
    return np.stack(
        [surprises, -np.mean(difficulty, 0), -reference, *units, in_side_units(patch, one.member)], 1, dtype=np.float64
    )


def learned_sum(taught: Floats, coins: NDArray[np.bool_], target: Floats) -> Floats:
    """Log-odds of the target's samples by a logistic regression on those of reference models, (N,)."""
    centre, spread = taught.mean(0), taught.std(0)
    fitted = LogisticRegression(max_iter=500).fit((taught - centre) / spread, coins)
    return np.asarray(fitted.decision_function((target - centre) / spread))


def scores_of(work: Path, one: Measured) -> dict[str, Floats]:
    """All scores of a target that has four reference models."""
    models = one.references
    left_out = [[m for m in models if m is not model] for model in models]
    kept = []
    for others in left_out:
        with np.load(scores_file(work, sorted(others, key=lambda other: other.seed))) as table:
            kept.append({key: table[key] for key in table.files})
    patch = np.mean([scores[str(one.seed)] for scores in kept], 0)
    taught = np.concatenate(
        [
            columns(model, others, scores[str(model.seed)])
            for model, others, scores in zip(models, left_out, kept, strict=True)
        ]
    )
    coins, target = np.concatenate([model.member for model in models]), columns(one, models, patch)
    references = one.with_references(models)["combined_references"]
    return {
        "combined": one.combined(),
        "combined_references": references,
        "patch of four models": patch,
        f"combined_references + {WEIGHT:g} z(patch)": references + WEIGHT * standardise(patch, one.member).values,
        "learned weights, without patch": learned_sum(taught[:, :-1], coins, target[:, :-1]),
        "learned weights, with patch": learned_sum(taught, coins, target),
    }


def table(work: Path, found: Sequence[Measured]) -> None:
    """All of them beside `combined` and `combined_references`: the last audits of all trainings, then all."""
    rows: Rows = {}
    for one in found:
        triples = itertools.combinations(sorted(one.references, key=lambda other: other.seed), REFERENCES - 1)
        if len(one.references) == REFERENCES and all(scores_file(work, triple).exists() for triple in triples):
            for name, score in scores_of(work, one).items():
                rows.setdefault(name, []).append((one, numbers(score, one.member)))
    for title, last in (("Last audits", True), ("All of these audits", False)):
        chosen = {k: [r for r in row if not last or r[0].epoch == EPOCHS[r[0].name][-1]] for k, row in rows.items()}
        for base in ("combined", "combined_references"):
            print(f"### {title}: {len(chosen[base])} audits, minus {base}\n")
            show(chosen, base)
        choose(chosen)


def choose(rows: Rows) -> None:
    """Which of the scores is best on all sets but one, and what it gains there over `combined` and its references."""
    sets = sorted({one.name for one, _ in rows["combined"]})
    gained = []
    for name in sets:
        others = [other for other in sets if other != name] or sets
        best = max(rows, key=lambda label: float(mean_of_sets(rows[label], others)[0]))
        here = [mean_of_sets(rows[label], [name]) for label in (best, "combined", "combined_references")]
        gained.append([here[0] - here[1], here[0] - here[2]])
        print(f"{name}: {best}, {', '.join(f'{gap[0]:+.3f}' for gap in gained[-1])}")
    for base, gap in zip(("combined", "combined_references"), np.mean(gained, 0), strict=True):
        print(f"chosen on the other sets, minus {base}: {gap[0]:+.4f}, TPR at 1 % {gap[1]:+.3f}, at 5 % {gap[2]:+.3f}")
    print()


def main() -> None:
    stages: dict[str, Stage] = {"maps": make_maps, "learn": learn, "table": table}
    parser = stage_parser(__doc__, stages)
    parser.add_argument("--audits", type=int, default=2, choices=(1, 2, 3), help="of each training, from the last")
    options = parser.parse_args()
    run_stage(stages[options.stage], options, lambda one: one.epoch in EPOCHS[one.name][-options.audits :])


if __name__ == "__main__":
    main()
