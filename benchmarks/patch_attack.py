"""Does a classifier of loss maps find members that `combined` does not? With and without the maps of neighbours.

    python benchmarks/patch_attack.py maps --work /tmp/attacks     # loss maps of the kept weights, once
    python benchmarks/patch_attack.py learn --work /tmp/attacks    # from each training, to score the others of its set
    python benchmarks/patch_attack.py table --work /tmp/attacks    # beside `combined`
    python benchmarks/patch_attack.py across --work /tmp/attacks   # learned on the other sets

The work folder is that of `attacks.py train`, whose weights are read: the last audited epoch of each training. A
classifier learns from one training of a set, the reference model, which has coins of its own, and scores the others
of the set: all of them (*pairs seen*), as in `audit --patch true`, or only such pairs as it has not learned from, by
three folds of the pairs. Scores are kept; what is there is not made again.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from attacks import EPOCHS, SETS, TRANSLATED, Measured, Rows, audits, model, numbers, show
from numpy.typing import NDArray

from mia_lightning.attacks.patch import PatchAttack, loss_map
from mia_lightning.functional.calibration import standardise
from mia_lightning.functional.neighbours import AUTO, moved_back, transform_pair
from mia_lightning.models.audited_module import AuditedModule

Floats = NDArray[np.float64]
Stage = Callable[[Path, Sequence[Measured]], None]

FOLDS = 3
WEIGHTS = (0.35, 1.0)
STEPS = 300
PATCHES = ("own map, pairs seen", "with neighbours, pairs seen", "with neighbours")


def maps_file(work: Path, one: Measured) -> Path:
    """Where the loss maps of an audit are kept."""
    return work / "maps" / f"{one.name}-{one.augment}-{one.seed}-{one.epoch:03d}.npy"


@torch.no_grad()
def loss_maps(name: str, net: AuditedModule, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Loss maps of all pairs and, brought back into their place, of their neighbours, (N, 1 + 7, H, W)."""
    task: Literal["translation", "segmentation"] = "translation" if name in TRANSLATED else "segmentation"
    ignored = SETS[name].get("ignore_index", 255)
    channels = []
    for copy in ("identity", *AUTO):
        losses = []
        for start in range(0, len(x), 32):
            image, target = x[start : start + 32], y[start : start + 32]
            if copy != "identity":
                image, target = transform_pair(copy, image, target)
            if task == "segmentation":
                image = image.to(memory_format=torch.channels_last)
            losses.append(loss_map(net(image), target, task, ignored))
        channel = torch.cat(losses)
        channels.append(channel if copy == "identity" else moved_back(copy, channel))
    return torch.cat(channels, 1)


def keep_maps(work: Path, found: Sequence[Measured]) -> None:
    """Make what is not there yet."""
    for one in found:
        file, weights = maps_file(work, one), work / "runs" / "-".join(map(str, one.training)) / f"{one.epoch:03d}.pt"
        if file.exists():
            continue
        started = time.process_time()
        net = model(one.name, one.seed)
        net.load_state_dict(torch.load(weights, weights_only=True))
        pairs = torch.load(work / f"pairs-{one.name}.pt", weights_only=True)
        maps = loss_maps(one.name, net.eval(), pairs["x"], pairs["y"])
        file.parent.mkdir(exist_ok=True)
        np.save(part := file.with_suffix(".part.npy"), maps.half().numpy())
        part.replace(file)
        print(f"{file.stem}: {time.process_time() - started:.1f} s of CPU", flush=True)


def maps_of(work: Path, one: Measured, neighbours: bool = True) -> torch.Tensor:
    """The kept maps, of the pairs alone or with their neighbours, in the unit of the nonmembers' mean loss."""
    maps = torch.from_numpy(np.load(maps_file(work, one))).float()[:, : None if neighbours else 1]
    return maps / maps[~torch.from_numpy(one.member), :1].mean()


def learn(work: Path, found: Sequence[Measured]) -> None:
    """Learn from each training and score the others of its set; keep the scores."""
    for reference in sorted(found, key=lambda one: one.seed):
        others = [one for one in found if _together(one, reference) and one is not reference]
        file = scores_file(work, reference)
        if not others or holds(file, [f"{one.seed}/{label}" for one in others for label in PATCHES]):
            continue
        started = time.process_time()
        columns = {}
        for label, neighbours in (("own map", False), ("with neighbours", True)):
            maps = maps_of(work, reference, neighbours)
            attack = PatchAttack(neighbours=neighbours).fit(maps, reference.member)
            unseen = scorer_of_unseen(maps, reference.member) if neighbours else None
            for one in others:
                target = maps_of(work, one, neighbours)
                columns[f"{one.seed}/{label}, pairs seen"] = attack.score(target)
                if unseen is not None:
                    columns[f"{one.seed}/{label}"] = unseen(target)
        keep(file, columns)
        print(f"{file.stem}: {time.process_time() - started:.0f} s of CPU", flush=True)


def scorer_of_unseen(maps: torch.Tensor, member: NDArray[np.bool_]) -> Callable[[torch.Tensor], Floats]:
    """Learn once a fold of the pairs, from all others; score each pair by the classifier that has not seen it.

    Scores are in units of the nonmembers that a classifier has learned from, so that folds can be pooled.
    """
    folds = np.random.default_rng(0).permutation(len(member)) % FOLDS
    each = []
    for fold in range(FOLDS):
        others = folds != fold
        attack = PatchAttack(neighbours=True).fit(maps[others], member[others])
        each.append((attack, attack.score(maps[others & ~member])))

    def score(target: torch.Tensor) -> Floats:
        found = np.empty(len(target))
        for fold, (attack, units) in enumerate(each):
            found[folds == fold] = (attack.score(target[folds == fold]) - units.mean()) / units.std()
        return found

    return score


def scores_file(work: Path, reference: Measured) -> Path:
    """Where the scores by what one training teaches are kept."""
    return work / "patch" / f"{maps_file(work, reference).stem}.npz"


def table(work: Path, found: Sequence[Measured]) -> None:
    """Classifiers learned on each other training of the set, beside `combined` with and without that reference."""
    rows: Rows = {}
    for target in found:
        for reference in found:
            expected = [f"{target.seed}/{label}" for label in PATCHES]
            if not _together(target, reference) or reference is target:
                continue
            if not holds(scores_file(work, reference), expected):
                continue
            with np.load(scores_file(work, reference)) as kept:
                patch = {label: kept[f"{target.seed}/{label}"] for label in PATCHES}
            combined, further = target.combined(), target.with_references([reference])
            scores = {"combined": combined, **{name: further[name] for name in ("combined_references", "difficulty")}}
            scores |= {f"patch, {label}": score for label, score in patch.items()}
            for base in ("combined", "combined_references"):
                scores |= beside(base, scores[base], patch["with neighbours, pairs seen"], target.member)
            for name, score in scores.items():
                rows.setdefault(name, []).append((target, numbers(score, target.member)))
    show(rows, "combined")


def _together(one: Measured, other: Measured) -> bool:
    return (one.name, one.augment) == (other.name, other.augment)


def beside(base: str, combined: Floats, patch: Floats, member: NDArray[np.bool_]) -> dict[str, Floats]:
    """A combined score, which is in nats, with some of them added for each unit of the nonmembers."""
    units = standardise(patch, member).values
    return {f"{base} + {weight:g} z(patch)": combined + weight * units for weight in WEIGHTS}


def across(work: Path, found: Sequence[Measured]) -> None:
    """A classifier learned on all other sets, one training each, beside `combined`: nothing is trained on the set."""
    rows: Rows = {}
    for name in sorted({one.name for one in found}):
        targets = [one for one in found if one.name == name]
        others = [one for one in found if one.name != name and one.seed == found[0].seed]
        learned = "-".join([*sorted({one.name for one in others}), str(found[0].seed)])
        file = work / "patch" / f"across-{name}-from-{learned}.npz"
        if not holds(file, [str(one.seed) for one in targets]):
            attack = PatchAttack(neighbours=True, steps=2 * STEPS)
            attack.fit(torch.cat([maps_of(work, one) for one in others]), np.concatenate([o.member for o in others]))
            keep(file, {str(one.seed): attack.score(maps_of(work, one)) for one in targets})
            print(f"{file.stem} done", flush=True)
        with np.load(file) as kept:
            for target in targets:
                combined, patch = target.combined(), kept[str(target.seed)]
                scores = {"combined": combined, "patch of the other sets": patch}
                for key, score in (scores | beside("combined", combined, patch, target.member)).items():
                    rows.setdefault(key, []).append((target, numbers(score, target.member)))
    show(rows, "combined")


def holds(file: Path, columns: Sequence[str]) -> bool:
    """Whether a file of scores is there, with all these columns."""
    if not file.exists():
        return False
    with np.load(file) as kept:
        return set(columns) <= set(kept.files)


def keep(file: Path, columns: dict[str, Floats]) -> None:
    """Write a file of scores in one step."""
    file.parent.mkdir(exist_ok=True)
    np.savez(part := file.with_suffix(".part.npz"), **columns)  # type: ignore[arg-type]  # columns by name
    part.replace(file)


def stage_parser(description: str | None, stages: Iterable[str]) -> argparse.ArgumentParser:
    """Options of a command with stages, each of which works on the trainings of a folder."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=[*stages])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    return parser


def run_stage(stage: Stage, options: argparse.Namespace, chosen: Callable[[Measured], bool]) -> None:
    """Run a stage on the chosen audits without augmentation, and print the seconds that it took."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # CPU seconds can then be compared
    found = [one for one in audits(options.work, options.sets) if one.augment == "plain" and chosen(one)]
    started = time.process_time()
    stage(options.work, found)
    print(f"{time.process_time() - started:.0f} s of CPU")


def main() -> None:
    stages: dict[str, Stage] = {"maps": keep_maps, "learn": learn, "table": table, "across": across}
    parser = stage_parser(__doc__, stages)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options = parser.parse_args()
    run_stage(
        stages[options.stage],
        options,
        lambda one: one.seed in options.seeds and one.epoch == EPOCHS[one.name][-1],
    )


if __name__ == "__main__":
    main()
