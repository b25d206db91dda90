"""Which score finds members best? Trains small models on real data and audits them at several epochs.

    python benchmarks/attacks.py train --data ../shared/data --work /tmp/attacks     # models, resumable
    python benchmarks/attacks.py table --data ../shared/data --work /tmp/attacks     # audits and the table

Three data sets, with and without flip augmentation, three seeds of coins and weights; for each of the six settings four
reference models on halves of the same pairs. Weights are kept at the audited epochs, so that `table` can be run again.
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
import torch
from lightning.pytorch.callbacks import Callback

from mia_lightning import PairedImageDataModule, Pix2Pix, SegmentationDataModule, UNetSegmenter
from mia_lightning.data.base import AuditableDataModule
from mia_lightning.models.base import AuditedModule

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
        return f"{self.data}-{self.augment}-{self.kind}{self.number}"


def jobs(sets: list[str]) -> list[Job]:
    """All trainings, targets of every set first."""
    settings = [(d, a) for d in sets for a in AUGMENT]
    targets = [Job(d, a, "target", s) for s in SEEDS for d, a in settings]
    return targets + [Job(d, a, "reference", n) for n in range(REFERENCES) for d, a in settings]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["train"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # CPU seconds of trainings can then be compared
    for job in jobs(options.sets):
        train(job, options.data, options.work)


if __name__ == "__main__":
    main()
