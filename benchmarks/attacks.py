"""Which score finds members best? Trains small models on seven sets and scores them at several epochs.

    python benchmarks/attacks.py train --data ../shared/data --work /tmp/attacks [--seeds 1 2] [--augment plain flip]
    python benchmarks/attacks.py table --work /tmp/attacks          # scores beside each other, paired differences
    python benchmarks/attacks.py references --work /tmp/attacks     # with one reference model, and with more
    python benchmarks/attacks.py choices --work /tmp/attacks        # weights chosen without a set, measured on it
    python benchmarks/attacks.py history --work /tmp/attacks        # with the audits before, for the owner of a run
    python benchmarks/attacks.py neighbours --work /tmp/attacks     # with some of the neighbours only

Three folders of photographs and four sets that are made (`attack_sets.py`). A training is kept as its weights at the
audited epochs and as one file an epoch with the errors of the model on all pairs of the set, and on the neighbours of
these; everything after that takes seconds. What is there is not made again. All trainings of a set share its pairs,
with coins of their own: each is a reference model for the others.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from attack_sets import MADE, make_set
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from mia_lightning import (
    PairedImageDataModule,
    Pix2Pix,
    PredictabilityScorer,
    SegmentationDataModule,
    UNetSegmenter,
    registry,
)
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.functional import combination, weighting
from mia_lightning.functional.calibration import calibrated_error, combined_score, standardise
from mia_lightning.functional.neighbours import AUTO, FLIPS, SHIFTS, choose_neighbours, moved_back, transform_pair
from mia_lightning.functional.pixel_errors import pixel_errors
from mia_lightning.functional.predictability import Task
from mia_lightning.functional.reconstruction import segmentation_error, translation_error
from mia_lightning.functional.roc import roc_auc, tpr_at_fpr
from mia_lightning.functional.tiles import tile_log_errors, tile_ratio
from mia_lightning.models.audited_module import AuditedModule
from mia_lightning.registry import ScoreInputs
from mia_lightning.scores.building import NEIGHBOUR, TILES, build_scores, derive_errors, score_column
from mia_lightning.scores.reference_statistics import References, ReferenceStatistics, translation_statistic

Floats = NDArray[np.float64]

SETS: dict[str, dict[str, Any]] = {
    "facades": {
        "input_dir": "labels", "target_dir": "photos", "group_column": "building", "one_per_group": True,
        "max_per_side": 120, "batch_size": 4,
    },
    "edges": {"max_per_side": 120, "batch_size": 4},
    "wbc": {"num_classes": 3, "max_per_side": 120, "batch_size": 8},
    "camvid": {"num_classes": 11, "ignore_index": 11, "max_per_side": 100, "batch_size": 8},
    "mosaics": {"num_classes": 5, "max_per_side": 100, "batch_size": 8},
    "retina": {"num_classes": 2, "max_per_side": 120, "batch_size": 8},
    "materials": {"num_classes": 4, "max_per_side": 100, "batch_size": 8},
}  # fmt: skip
TRANSLATED = ("facades", "edges")
EPOCHS = dict.fromkeys(SETS, (12, 18, 24)) | {
    "facades": (6, 9, 12), "edges": (6, 9, 12), "retina": (18, 26, 34), "materials": (4, 6, 9),
}  # fmt: skip
AUGMENT = {"plain": "none", "flip": "hflip"}
SCORES = ("reconstruction", "membership", "calibrated", "neighbour", "combined", "trained")
FIRST, SECOND, THIRD = "combined, first edition", "combined, second edition", "combined, third edition"
CHOICES = {"three mirror images": FLIPS, "four shifts": SHIFTS, "three mirror images and four shifts (auto)": AUTO}
AUTOMATIC = f"combined with {[*CHOICES][-1]}"
ATTACKS = ("combined_references", "difficulty", "lira_offline", "lira_online", "rmia_offline", "rmia_online")


def datamodule(name: str, augment: str, seed: int, data: Path, work: Path) -> AuditableDataModule:
    """The pairs of a set, the same for all its trainings, with coins of the seed's own."""
    shared: dict[str, Any] = {"membership": "coin", "image_size": 64, "augment": AUGMENT[augment], "seed": 0}
    kind = PairedImageDataModule if name in TRANSLATED else SegmentationDataModule
    root = make_set(name, work / "sets") if name in MADE else data / name
    module: AuditableDataModule = kind(root, **shared, **SETS[name])
    return module.redrawn(seed)


def model(name: str, seed: int) -> AuditedModule:
    """A small model with weights of the seed's own."""
    pl.seed_everything(seed, verbose=False)
    if name in TRANSLATED:
        return Pix2Pix(
            image_size=64, ngf=16, ndf=12, constant_epochs=100, decay_epochs=100, audit=False,
            log_images_every_n_epochs=0,
        )  # fmt: skip
    net = UNetSegmenter(
        SETS[name]["num_classes"], ignore_index=SETS[name].get("ignore_index", 255), base_channels=8, depth=4, lr=2e-3,
        audit=False, log_images_every_n_epochs=0,
    )  # fmt: skip
    return net.to(memory_format=torch.channels_last)


class KeepWeights(Callback):
    """Keeps the weights of the audited epochs."""

    def __init__(self, folder: Path, epochs: Sequence[int]) -> None:
        self.folder, self.epochs = folder, epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep them."""
        if trainer.current_epoch + 1 in self.epochs:
            torch.save(pl_module.state_dict(), self.folder / f"{trainer.current_epoch + 1:03d}.pt")


def train(name: str, augment: str, seed: int, data: Path, work: Path) -> None:
    """Train a model and measure its errors at the audited epochs, unless both have been done."""
    folder, epochs = work / "runs" / f"{name}-{augment}-{seed}", EPOCHS[name]
    folder.mkdir(parents=True, exist_ok=True)
    if all(has_tiles(folder / f"{epoch:03d}.npz") for epoch in epochs):
        return
    started = time.process_time()
    module, net = datamodule(name, augment, seed, data, work), model(name, seed)
    if not (folder / f"{epochs[-1]:03d}.pt").exists():
        loader: Any = module.train_dataloader()
        if augment == "plain":  # read once
            items: Any = [loader.dataset[index] for index in range(len(loader.dataset))]
            loader = DataLoader(items, loader.batch_size, shuffle=True, drop_last=loader.drop_last)
        trainer = pl.Trainer(
            max_epochs=epochs[-1], accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            callbacks=[KeepWeights(folder, epochs)],
        )  # fmt: skip
        trainer.fit(net, train_dataloaders=loader)
    pairs = all_pairs(name, module, work)
    members: Any = module.audit_dataloaders()[0].dataset
    known = {record.id for record in members.records}
    for epoch in epochs:
        net.load_state_dict(torch.load(folder / f"{epoch:03d}.pt", weights_only=True))
        member = np.array([id in known for id in pairs["ids"]])
        columns: dict[str, Any] = {"member": member, "p": pairs["p"], "ids": np.array(pairs["ids"])}
        columns |= measure(name, net.eval(), pairs["x"], pairs["y"])
        np.savez(part := folder / f"{epoch:03d}.part.npz", **columns)
        part.replace(folder / f"{epoch:03d}.npz")
    print(f"{folder.name}: {time.process_time() - started:.0f} s of CPU", flush=True)


def all_pairs(name: str, module: AuditableDataModule, work: Path) -> dict[str, Any]:
    """All pairs of a set in the order of their ids, and their predictability errors, which no model changes."""
    file = work / f"pairs-{name}.pt"
    if file.exists():
        kept: dict[str, Any] = torch.load(file, weights_only=True)
        return kept
    items = [item for loader in module.audit_dataloaders() for item in loader.dataset]  # type: ignore[attr-defined]  # any sequence
    items.sort(key=lambda item: str(item["id"]))
    names = ("input", "target") if name in TRANSLATED else ("image", "mask")
    x, y = (torch.stack([item[key] for item in items]) for key in names)
    task, classes = "translation" if name in TRANSLATED else "segmentation", SETS[name].get("num_classes")
    settings = {"num_classes": classes, "ignore_index": SETS[name].get("ignore_index", 255)}
    scorer: Any = PredictabilityScorer()
    p = torch.cat([scorer(x[i : i + 16], y[i : i + 16], task, **settings) for i in range(0, len(x), 16)])
    torch.save(found := {"ids": [item["id"] for item in items], "x": x, "y": y, "p": p.double()}, file)
    return found


def has_tiles(file: Path) -> bool:
    """Whether a file of errors is there, those of tiles, too, which older ones do not hold."""
    if not file.exists():
        return False
    with np.load(file) as kept:
        return "t/identity" in kept.files


@torch.no_grad()
def measure(name: str, net: AuditedModule, x: torch.Tensor, y: torch.Tensor) -> dict[str, Floats]:
    """Errors on the pairs, as ``r/identity``, and on each of their neighbours, and logarithms of those of tiles."""
    found: dict[str, Floats] = {}
    task: Task = "translation" if name in TRANSLATED else "segmentation"
    ignored = SETS[name].get("ignore_index", 255)
    for copy in ("identity", *choose_neighbours("auto", square=True).used):
        errors, tiles = [], []
        for start in range(0, len(x), 32):
            image, target = x[start : start + 32], y[start : start + 32]
            if copy != "identity":
                image, target = transform_pair(copy, image, target)
            if name in TRANSLATED:
                answer = net(image)
                errors.append(translation_error(answer, target))
            else:
                answer = net(image.to(memory_format=torch.channels_last))
                errors.append(segmentation_error(answer, target, ignore_index=ignored))
            of_pixels = pixel_errors(answer, target, task, ignored)
            tiles.append(tile_log_errors(of_pixels if copy == "identity" else moved_back(copy, of_pixels)))
        found |= {f"r/{copy}": torch.cat(errors).double().numpy(), f"t/{copy}": torch.cat(tiles).numpy()}
    return found


@dataclass
class Measured:
    """The errors of one training at one epoch.

    Attributes:
        name: Of the set.
        augment: What the training augments with.
        seed: Of its coins and weights.
        epoch: Which one.
        raw: Columns as an audit has them.
        member: True for members.
        references: The same epoch of the set's other trainings.
        earlier: The earlier audits of the same training, in order.
        kept: Columns of the file of errors.
    """

    name: str
    augment: str
    seed: int
    epoch: int
    raw: dict[str, Floats]
    member: NDArray[np.bool_]
    references: list[Measured] = field(default_factory=list)
    earlier: list[Measured] = field(default_factory=list)
    kept: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def training(self) -> tuple[str, str, int]:
        """Audits of one training are no independent ones."""
        return self.name, self.augment, self.seed

    def scores(self) -> dict[str, Floats]:
        """All scores of one model, and the earlier editions of the combined one."""
        errors = derive_errors(self.raw, self.member, SCORES)
        first = combined_score(errors["membership"], errors["weighted_neighbour"], self.member)
        calibrated = calibrated_error(errors["reconstruction"], errors["predictability"], self.member)
        difficulty = [standardise(error, self.member).values for error in (errors["membership"], calibrated)]
        neighbours = combination.in_side_units(errors["weighted_neighbour"], self.member)
        second = combination.surprise(-neighbours) - 0.6 * np.mean(difficulty, 0)
        whole = {name: error for name, error in errors.items() if name != "tile_neighbour"}
        third = build_scores(whole, self.member, ["combined"])[0]["combined"]
        return build_scores(errors, self.member, SCORES)[0] | {THIRD: third, SECOND: second, FIRST: first}

    def combined(self) -> Floats:
        """The combined score alone."""
        errors = derive_errors(self.raw, self.member, ["combined"])
        return build_scores(errors, self.member, ["combined"])[0]["combined"]

    def with_neighbours(self) -> dict[str, Floats]:
        """The combined score with some of the neighbours only, and without any."""
        found = {}
        for label, names in CHOICES.items():
            errors = derive_errors(raw_columns(self.kept, names), self.member, ["combined"])
            found[f"combined with {label}"] = build_scores(errors, self.member, ["combined"])[0]["combined"]
        return found | {"none: membership": self.scores()["membership"]}

    def with_history(self) -> dict[str, Floats]:
        """Scores that the audits before add to, beside the combined one of this and of the last alone."""
        now, *before = (derive_errors(one.raw, self.member, ["combined"]) for one in (self, *self.earlier))
        found = build_scores(now, self.member, ["combined", "combined_history"], history=before)[0]
        means = [one.combined() for one in (*self.earlier, self)]
        return found | {"combined at the audit before": means[-2], "mean over all audits so far": np.mean(means, 0)}

    def with_references(self, others: Sequence[Measured]) -> dict[str, Floats]:
        """Scores of reference models; those that so few models do not allow are left out."""
        errors = derive_errors(self.raw, self.member, ["combined"])
        own, *theirs = (translation_statistic(one.raw["reconstruction"]) for one in (self, *others))
        statistics = ReferenceStatistics(own, np.stack(theirs), np.stack([one.member for one in others]))
        inputs = ScoreInputs(errors, self.member, references=References(statistics, "inverse_error"))
        found = {}
        for name in ATTACKS:
            try:
                found[name] = score_column(registry.scores.get(name), inputs)
            except ValueError:
                continue
        return found


def audits(work: Path, sets: Sequence[str]) -> list[Measured]:
    """What has been measured and is neither near chance nor near certainty by the two simplest scores."""
    found = []
    for file in sorted(work.glob("runs/*/[0-9][0-9][0-9].npz")):
        name, augment, seed = file.parent.name.rsplit("-", 2)
        with np.load(file) as table:
            columns = {key: table[key] for key in table.files}
        augmented = [] if augment == "plain" else [AUGMENT[augment]]
        used = choose_neighbours("auto", square=True, augmentations=augmented).used
        raw = raw_columns(columns, used)
        if name in sets and int(file.stem) in EPOCHS[name]:
            if TILES not in raw:
                print(f"{file} was written before tiles were measured: its combined is without them", file=sys.stderr)
            found.append(Measured(name, augment, int(seed), int(file.stem), raw, columns["member"], kept=columns))
    for one in found:
        same = (one.name, one.augment, one.epoch)
        one.references = [o for o in found if (o.name, o.augment, o.epoch) == same and o.seed != one.seed]
        one.earlier = [o for o in found if o.training == one.training and o.epoch < one.epoch]
    return [one for one in found if 0.55 <= _visible(one) <= 0.95]


def raw_columns(columns: Mapping[str, NDArray[Any]], copies: Sequence[str]) -> dict[str, Floats]:
    """The columns of an audit with these neighbours, of those that a file of errors has."""
    r = columns["r/identity"]
    raw = {"reconstruction": r, "predictability": columns["p"]}
    raw |= {NEIGHBOUR + copy: np.log(r) - np.log(columns[f"r/{copy}"]) for copy in copies}
    if "t/identity" in columns:
        own, *tiles = (torch.from_numpy(columns[f"t/{copy}"]) for copy in ("identity", *copies))
        raw[TILES] = tile_ratio(own, torch.stack(tiles, 1)).double().numpy()
    return raw


def _visible(one: Measured) -> float:
    ratios = [column for key, column in one.raw.items() if key.startswith(NEIGHBOUR)]
    membership = one.raw["predictability"] - one.raw["reconstruction"]
    return (roc_auc(membership, one.member) + roc_auc(-np.mean(ratios, 0), one.member)) / 2


def numbers(score: Floats, member: NDArray[np.bool_]) -> tuple[float, float, float]:
    """AUC, and TPR at 1 % and 5 % FPR."""
    low, high = (tpr_at_fpr(score, member, rate)[0] for rate in (0.01, 0.05))
    return roc_auc(score, member), low, high


Rows = dict[str, list[tuple[Measured, tuple[float, ...]]]]


def mean_of_sets(rows: list[tuple[Measured, tuple[float, ...]]], sets: Sequence[str]) -> Floats:
    """Means over sets of the means over their audits, (3,)."""
    return np.asarray(np.mean([np.mean([row for one, row in rows if one.name == name], 0) for name in sets], 0))


def show(rows: Rows, beside: str) -> None:
    """Print a table, and the differences to one of its lines with bootstrap intervals over trainings."""
    trained = sorted({one.training for one, _ in rows[beside]})
    sets = sorted({name for name, _, _ in trained})
    count = {name: sum(one.name == name for one, _ in rows[beside]) for name in sets}
    print("| AUC | " + " | ".join(f"{name} ({count[name]})" for name in sets) + " | mean | TPR at 1 % | at 5 % |")
    print("|---|" + "---|" * (len(sets) + 3))
    for label, found in rows.items():
        by_set = [np.mean([row[0] for one, row in found if one.name == name]) for name in sets]
        area, low, high = mean_of_sets(found, sets)
        print(f"| {label} | " + " | ".join(f"{v:.3f}" for v in by_set) + f" | {area:.3f} | {low:.3f} | {high:.3f} |")
    print(f"\n| minus {beside}, 95 % over trainings | AUC | TPR at 1 % | at 5 % |\n|---|---|---|---|")
    for label, found in rows.items():
        if label == beside:
            continue
        value, low, high = differences(found, rows[beside])
        cells = (f"{v:+.3f} ({a:+.3f} to {b:+.3f})" for v, a, b in zip(value, low, high, strict=True))
        print(f"| {label} | " + " | ".join(cells) + " |")
    print()


def differences(
    found: list[tuple[Measured, tuple[float, ...]]], beside: list[tuple[Measured, tuple[float, ...]]]
) -> tuple[Floats, Floats, Floats]:
    """Mean over sets of the differences to another line, and 95 % bootstrap bounds over trainings, (K,) each."""
    gap: dict[tuple[str, str, int], list[Floats]] = {}
    for (one, row), (_, base) in zip(found, beside, strict=True):
        gap.setdefault(one.training, []).append(np.subtract(row, base))
    trained = sorted(gap)
    sets = sorted({name for name, _, _ in trained})
    means = [[np.mean(gap[t], 0) for t in own] for own in _by_set(trained, sets)]
    rng = np.random.default_rng(0)
    draws = [[rng.choice(len(own), len(own)) for own in means] for _ in range(1000)]
    drawn = [np.mean([np.mean([m[i] for i in s], 0) for m, s in zip(means, d, strict=True)], 0) for d in draws]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return np.asarray(np.mean([np.mean(own, 0) for own in means], 0)), low, high


def _by_set(trained: Sequence[tuple[str, str, int]], sets: Sequence[str]) -> list[list[tuple[str, str, int]]]:
    return [[t for t in trained if t[0] == name] for name in sets]


def show_group(
    title: str, chosen: list[Measured], scores: Callable[[Measured], Mapping[str, Any]], beside: str
) -> None:
    """The scores of some audits under a title, if there are any audits."""
    if not chosen:
        return
    print(f"### {title}: {len(chosen)} audits of {len({one.training for one in chosen})} trainings\n")
    rows: Rows = {}
    for one in chosen:
        for name, score in scores(one).items():
            rows.setdefault(name, []).append((one, numbers(score, one.member)))
    show(rows, beside)


def table(found: list[Measured]) -> None:
    """Scores of one model beside each other."""
    for title, chosen in (("all", found), *((a, [one for one in found if one.augment == a]) for a in AUGMENT)):
        show_group(title, chosen, Measured.scores, FIRST)


def with_references(found: list[Measured]) -> None:
    """Scores with one to four reference models beside those without; with one, also on samples that are new to it."""
    for count, out in ((1, False), (1, True), (2, False), (3, False), (4, False)):
        rows: Rows = {}
        for one in found:
            for others in itertools.combinations(one.references, count):
                chosen = ~np.any([o.member for o in others], 0) if out else np.ones_like(one.member)
                scores = {"combined": one.combined()} | one.with_references(others)
                for name, score in scores.items():
                    rows.setdefault(name, []).append((one, numbers(score[chosen], one.member[chosen])))
        if rows:
            print(f"### {count} reference model(s){', samples that it was not trained on' if out else ''}\n")
            most = len(rows["combined"])
            show({name: row for name, row in rows.items() if len(row) == most}, "combined")


def with_neighbours(found: list[Measured]) -> None:
    """The combined score with some of the neighbours, in audits of trainings without augmentation."""
    show_group(
        "some of the neighbours", [one for one in found if one.augment == "plain"], Measured.with_neighbours, AUTOMATIC
    )


def with_history(found: list[Measured]) -> None:
    """Scores of who holds the audits before, in audits that have one: by augmentation, and by how many they have."""
    found = [one for one in found if one.earlier]
    chosen = {"all": found} | {name: [one for one in found if one.augment == name] for name in AUGMENT}
    chosen |= {f"audits before: {n}": [one for one in found if len(one.earlier) == n] for n in (1, 2)}
    for title, some in chosen.items():
        show_group(title, some, Measured.with_history, "combined")


Settings = tuple[float, float, float]


def settings() -> Iterator[Settings]:
    """Weights of difficulty, tails and exponents of the soft minimum to choose from."""
    yield from itertools.product((0.3, 0.45, 0.6), (0.95, 0.975), (6.0, 12.0, 24.0))


def choices(found: list[Measured]) -> None:
    """Choose the settings of the combined score on all sets but one, and measure them on that one."""
    sets = sorted({one.name for one in found})
    tables: dict[Settings, list[tuple[Measured, tuple[float, ...]]]] = {}
    for chosen in settings():
        combination.DIFFICULTY_WEIGHT, combination.TAIL, weighting.SHARPNESS = chosen
        tables[chosen] = [(one, numbers(one.combined(), one.member)) for one in found]
    first: list[tuple[Measured, tuple[float, ...]]]
    first = [(one, numbers(one.scores()[FIRST], one.member)) for one in found]
    print("| set left out | weight, tail and exponent chosen by the others | AUC there | first edition | difference |")
    print("|---" * 5 + "|")
    gained = []
    for name in sets:
        others = [other for other in sets if other != name]
        chosen = max(tables, key=lambda key: float(mean_of_sets(tables[key], others)[0]))
        here, before = (mean_of_sets(rows, [name])[0] for rows in (tables[chosen], first))
        gained.append(here - before)
        print(f"| {name} | {', '.join(map(str, chosen))} | {here:.3f} | {before:.3f} | {here - before:+.3f} |")
    print(f"| mean | | | | {np.mean(gained):+.4f} |\n")
    everywhere = ("/".join(map(str, key)) + f": {mean_of_sets(r, sets)[0]:.4f}" for key, r in tables.items())
    print("All sets: " + ", ".join(everywhere))


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages: dict[str, Callable[[list[Measured]], None]]
    stages = {"table": table, "references": with_references, "choices": choices, "history": with_history}
    stages["neighbours"] = with_neighbours
    parser.add_argument("stage", choices=["train", *stages])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--augment", nargs="+", default=list(AUGMENT), choices=list(AUGMENT))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # CPU seconds can then be compared
    if options.stage == "train":
        for augment, seed, name in itertools.product(options.augment, options.seeds, options.sets):
            train(name, augment, seed, options.data, options.work)
    else:
        found = audits(options.work, options.sets)
        stages[options.stage]([one for one in found if one.augment in options.augment and one.seed in options.seeds])


if __name__ == "__main__":
    main()
