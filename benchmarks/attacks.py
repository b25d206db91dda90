"""Which score finds members best? Trains small models on real data and audits them at several epochs.

    python benchmarks/attacks.py train --data ../shared/data --work /tmp/attacks     # models, resumable
    python benchmarks/attacks.py audit --data ../shared/data --work /tmp/attacks     # audits, resumable
    python benchmarks/attacks.py table --work /tmp/attacks                           # the tables
    python benchmarks/attacks.py neighbours --data ../shared/data --work /tmp/attacks  # which neighbours, which weights

Three data sets, with and without flip augmentation, three seeds of coins and weights. Where training does not flip,
four reference models on halves of the same pairs beside them (--references all: where it flips, too). Weights are kept
at the audited epochs and results beside them, so that every stage can be run again by itself.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from mia_lightning import Auditor, AuditResult, PairedImageDataModule, Pix2Pix, SegmentationDataModule, UNetSegmenter
from mia_lightning.attacks.reference_scores import with_reference_scores
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.functional.calibration import combined_score
from mia_lightning.functional.neighbours import AUTO, FLIPS, SHIFTS, choose_neighbours
from mia_lightning.functional.roc import roc_auc, tpr_at_fpr
from mia_lightning.models.audited_module import AuditedModule
from mia_lightning.result.context import AuditContext
from mia_lightning.scores.building import selectable_scores

SETS: dict[str, dict[str, Any]] = {
    "facades": {
        "input_dir": "labels", "target_dir": "photos", "group_column": "building", "one_per_group": True,
        "max_per_side": 120, "batch_size": 4,
    },
    "wbc": {"num_classes": 3, "max_per_side": 120, "batch_size": 8},
    "camvid": {"num_classes": 11, "ignore_index": 11, "max_per_side": 100, "batch_size": 8},
}  # fmt: skip
EPOCHS = {"facades": (2, 4, 6, 8, 10, 12, 14), "wbc": (8, 16, 24, 32, 40, 48), "camvid": (8, 16, 24, 32, 40, 48)}
AUGMENT = {"plain": "none", "flip": "hflip"}
NEIGHBOUR_SETS = {
    "seven turns and mirror images": (*FLIPS, "transpose", "antitranspose", "rotate90", "rotate270"),
    "three mirror images": FLIPS,
    "four shifts": SHIFTS,
    "three mirror images and four shifts (auto)": AUTO,
}
SEEDS = (1, 2, 3)
REFERENCES = 4


@dataclass(frozen=True)
class Job:
    """One training: a target (a seed of coins) or a reference model (a half, or the other half, of the pairs)."""

    data: str
    augment: str
    kind: str
    number: int

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"{self.data}-{self.augment}-{self.kind}{self.number}"


def targets(sets: list[str]) -> list[Job]:
    """The audited trainings."""
    return [Job(d, a, "target", s) for s in SEEDS for d in sets for a in AUGMENT]


def references(sets: list[str], augment: list[str]) -> list[Job]:
    """The trainings of reference models."""
    return [Job(d, a, "reference", n) for n in range(REFERENCES) for d in sets for a in augment]


def datamodule(job: Job, root: Path) -> AuditableDataModule:
    """The pairs of a job: the same for all jobs of a data set, with coins of the job's own."""
    shared: dict[str, Any] = {"membership": "coin", "image_size": 64, "augment": AUGMENT[job.augment], "seed": 0}
    kind = PairedImageDataModule if job.data == "facades" else SegmentationDataModule
    data: AuditableDataModule = kind(root / job.data, **shared, **SETS[job.data])
    if job.kind == "target":
        return data.redrawn(job.number)
    return data.redrawn(1000 + job.number // 2, complement=job.number % 2 == 1)


def model(job: Job) -> AuditedModule:
    """A small model with weights of the job's own."""
    pl.seed_everything(100 * (job.kind == "reference") + job.number, verbose=False)
    if job.data == "facades":
        return Pix2Pix(
            image_size=64, ngf=24, ndf=16, constant_epochs=100, decay_epochs=100, audit=False,
            log_images_every_n_epochs=0,
        )  # fmt: skip
    settings = SETS[job.data]
    return UNetSegmenter(
        settings["num_classes"], ignore_index=settings.get("ignore_index", 255), base_channels=12, depth=4, lr=1e-3,
        audit=False, log_images_every_n_epochs=0,
    )  # fmt: skip


class KeepWeights(Callback):
    """Keeps the weights of the audited epochs."""

    def __init__(self, folder: Path, epochs: tuple[int, ...]) -> None:
        self.folder, self.epochs = folder, epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep them."""
        if trainer.current_epoch + 1 in self.epochs:
            torch.save(pl_module.state_dict(), self.folder / f"{trainer.current_epoch + 1:03d}.pt")


def train(job: Job, root: Path, work: Path) -> None:
    """Train one model, unless it has been."""
    folder = work / job.folder
    if (folder / "done.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    data = datamodule(job, root)
    net = model(job)
    trainer = pl.Trainer(
        max_epochs=EPOCHS[job.data][-1], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0,
        callbacks=[KeepWeights(folder, EPOCHS[job.data])],
    )  # fmt: skip
    started = time.process_time()
    trainer.fit(net, train_dataloaders=data.train_dataloader())
    (folder / "done.json").write_text(json.dumps({"cpu_seconds": time.process_time() - started}))
    print(f"{job.folder}: {time.process_time() - started:.0f} s of CPU", flush=True)


def audit(job: Job, root: Path, work: Path) -> None:
    """Audit one training at its kept epochs, with reference models where they are trained."""
    data, net, epochs = datamodule(job, root), model(job), EPOCHS[job.data]
    members, nonmembers = data.audit_dataloaders()
    others = [Job(job.data, job.augment, "reference", n) for n in range(REFERENCES)]
    trained = [o for o in others if (work / o.folder / f"{epochs[-1]:03d}.pt").exists()]
    auditor = Auditor(
        scores=selectable_scores(), primary="combined", max_samples=None, batch_size=32, cache_dir=work,
        ignore_index=SETS[job.data].get("ignore_index", 255), num_classes=SETS[job.data].get("num_classes"),
    )  # fmt: skip
    auditor.augmentations = data.augmentations
    for epoch in epochs:
        file = work / job.folder / f"{epoch:03d}.json"
        if file.exists():
            continue
        net.load_state_dict(torch.load(work / job.folder / f"{epoch:03d}.pt", weights_only=True))
        started = time.process_time()
        result = auditor.run(
            net, members, nonmembers, context=AuditContext(epoch=epoch - 1, membership=data.audit_info())
        )
        result.meta["cpu_seconds"] = time.process_time() - started
        if len(trained) == REFERENCES:
            started = time.process_time()
            known = ((_loaded(o, epoch, work), _members(o, root)) for o in trained)
            result = with_reference_scores(result, known, members, nonmembers, auditor, target=net, patch=True)
            result.meta["references"]["cpu_seconds"] = time.process_time() - started
        result.to_json(file)
    print(f"{job.folder}: audited", flush=True)


def _loaded(job: Job, epoch: int, work: Path) -> AuditedModule:
    net = model(job)
    net.load_state_dict(torch.load(work / job.folder / f"{epoch:03d}.pt", weights_only=True))
    return net


def _members(job: Job, root: Path) -> set[str]:
    members, _ = datamodule(job, root).audit_dataloaders()
    pairs: Any = members.dataset
    return {record.id for record in pairs.records}


def table(sets: list[str], work: Path) -> None:
    """Print the tables."""
    audits = [
        (job, AuditResult.from_json(work / job.folder / f"{epoch:03d}.json"))
        for job in targets(sets)
        for epoch in EPOCHS[job.data]
    ]
    chosen = [(j, r) for j, r in audits if 0.55 <= r.metric("auc/membership") <= 0.95]
    print(f"{len(chosen)} of {len(audits)} audits have a membership AUC between 0.55 and 0.95\n")
    show("all", [r for _, r in chosen])
    for name in sets:
        show(name, [r for j, r in chosen if j.data == name])
    for name in AUGMENT:
        show(name, [r for j, r in chosen if j.augment == name])
    show("with reference models", [r for _, r in chosen if "references" in r.meta])
    for name in sets:
        cost = [json.loads((work / j.folder / "done.json").read_text()) for j in references([name], ["plain"])]
        seconds = sum(c["cpu_seconds"] for c in cost)
        own = [r.meta["cpu_seconds"] for j, r in chosen if j.data == name]
        print(f"{name}: {len(cost)} reference models {seconds:.0f} s of CPU, an audit {sum(own) / len(own):.1f} s")


def show(title: str, results: list[AuditResult]) -> None:
    """Print mean AUC and mean TPR of each score that all results have."""
    if not results:
        return
    names = [n for n in results[0].scores if all(n in r.scores for r in results)]
    print(f"| {title} ({len(results)} audits) | AUC | TPR at 1 % FPR |\n|---|---|---|")
    for name in names:
        areas, rates = ([r.metric(f"{k}/{name}") for r in results] for k in ("auc", "tpr_at_fpr_0.01"))
        print(f"| {name} | {np.mean(areas):.3f} | {np.mean(rates):.3f} |")
    print()


def neighbours(sets: list[str], root: Path, work: Path) -> None:
    """Compare sets of neighbours, and weights with a plain mean, on two audits of each training of the first seed."""
    rows: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for job in targets(sets):
        if job.number != SEEDS[0]:
            continue
        data, net = datamodule(job, root), model(job)
        for epoch in EPOCHS[job.data][1:4:2]:
            net.load_state_dict(torch.load(work / job.folder / f"{epoch:03d}.pt", weights_only=True))
            for label, names in NEIGHBOUR_SETS.items():
                produced = choose_neighbours(names, square=True, augmentations=data.augmentations).weak
                auditor = Auditor(
                    scores=("membership", "combined"), max_samples=None, batch_size=32, cache_dir=work,
                    neighbours=[n for n in names if n not in produced],
                    ignore_index=SETS[job.data].get("ignore_index", 255), num_classes=SETS[job.data].get("num_classes"),
                )  # fmt: skip
                result = auditor.run(net, *data.audit_dataloaders())
                plain = combined_score(result.errors["membership"], result.errors["neighbour"], result.member)
                for kind, score in ((label, result.scores["combined"]), (f"{label}, plain mean", plain)):
                    numbers = roc_auc(score, result.member), tpr_at_fpr(score, result.member, 0.01)[0]
                    rows.setdefault(kind, {}).setdefault(job.data, []).append(numbers)
            numbers = result.metric("auc/membership"), result.metric("tpr_at_fpr_0.01/membership")
            rows.setdefault("none: membership", {}).setdefault(job.data, []).append(numbers)
    print("| combined with | " + " | ".join(sets) + " | mean |\n|---|" + "---|" * (len(sets) + 1))
    for kind, found in rows.items():
        means = [np.mean(found[name], 0) for name in sets]
        print(f"| {kind} | " + " | ".join(f"{a:.3f} / {t:.3f}" for a, t in [*means, np.mean(means, 0)]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["train", "audit", "table", "neighbours"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--references", choices=["plain", "all"], default="plain")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # CPU seconds can then be compared
    augment = list(AUGMENT) if options.references == "all" else ["plain"]
    if options.stage == "table":
        table(options.sets, options.work)
    if options.stage == "neighbours":
        neighbours(options.sets, options.data, options.work)
    for job in targets(options.sets) + references(options.sets, augment):
        if options.stage == "train":
            train(job, options.data, options.work)
        elif options.stage == "audit" and job.kind == "target":
            audit(job, options.data, options.work)


if __name__ == "__main__":
    main()
