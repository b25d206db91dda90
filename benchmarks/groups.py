"""What is gained where samples come in groups: true positives of groups beside those of their images.

    python benchmarks/groups.py generated                                    # normal scores in groups of five
    python benchmarks/groups.py facades --data ../shared/data --work /tmp/groups   # trains and audits; resumable
    python benchmarks/groups.py table --work /tmp/groups                     # images beside buildings

Facades: pix2pix at 64 x 64 without augmentation, all buildings that are known, three crops each; a fair coin a building
decides who is trained on, pooled over the splits. A group's score is the mean of its images' standardised scores
(`functional/group_scores.py`).
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray

from mia_lightning import Auditor, AuditResult, PairedImageDataModule, Pix2Pix
from mia_lightning.functional.group_scores import correlation_within, group_scores
from mia_lightning.functional.groups import group_codes
from mia_lightning.functional.roc import roc_auc, tpr_at_fpr
from mia_lightning.result.context import AuditContext

SEEDS = (1, 2, 3)
EPOCHS = (2, 4, 6)
SCORES = ("reconstruction", "membership", "neighbour", "combined")
FPR = 0.1
KNOWN = ("train", "val")  # of the pictures of the third split nobody knows which show one building
LABELS, PHOTOS = "labels", "photos"


def generated(draws: int = 50) -> None:
    """Print true positives at 1 % of normal scores whose correlation within groups of five is known."""
    print("| correlation within groups | members higher by | images | groups | ratio |\n|---|---|---|---|---|")
    for correlation in (0.0, 0.3, 0.5, 0.7):
        for shift in (0.5, 1.0, 1.5):
            found = []
            for draw in range(draws):
                rng = np.random.default_rng([draw, round(10 * correlation)])
                code = np.repeat(np.arange(400), 5)
                member = code < 200
                of_group, own = rng.normal(size=400)[code], rng.normal(size=code.size)
                score = np.sqrt(correlation) * of_group + np.sqrt(1.0 - correlation) * own + shift * member
                groups = group_scores(score, member, code)
                found.append([tpr_at_fpr(score, member, 0.01)[0], tpr_at_fpr(groups.mean, groups.member, 0.01)[0]])
            images, of_groups = np.mean(found, axis=0)
            ratio = of_groups / images
            print(f"| {correlation:g} | {shift:g} | {images:.3f} | {of_groups:.3f} | {ratio:.1f} |", flush=True)


def facades(root: Path, work: Path, seeds: list[int]) -> None:
    """Train and audit."""
    folder = known_buildings(root / "facades", work / "data")
    for seed in seeds:
        train(seed, folder, work / f"seed{seed}")
        audit(seed, folder, work / f"seed{seed}")


def known_buildings(source: Path, folder: Path) -> Path:
    """Link the pictures whose building is known, with a file of splits of their own."""
    if (folder / "splits.csv").exists():
        return folder
    rows = [r for r in csv.DictReader((source / "splits.csv").open(newline="")) if r["split"] in KNOWN]
    for name in (LABELS, PHOTOS):
        (folder / name).mkdir(parents=True, exist_ok=True)
        files = {file.stem: file for file in (source / name).iterdir()}
        for row in rows:
            file = files[row["id"]]
            (folder / name / file.name).symlink_to(file.resolve())
    with (folder / "splits.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "split", "building"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def datamodule(seed: int, folder: Path) -> PairedImageDataModule:
    """All crops; a coin a building."""
    return PairedImageDataModule(
        folder, input_dir=LABELS, target_dir=PHOTOS, group_column="building", membership="coin", image_size=64,
        augment="none", batch_size=4, seed=seed,
    )  # fmt: skip


def model(seed: int) -> Pix2Pix:
    """The model of ``attacks.py``."""
    pl.seed_everything(seed, verbose=False)
    return Pix2Pix(
        image_size=64, ngf=24, ndf=16, constant_epochs=100, decay_epochs=100, audit=False, log_images_every_n_epochs=0
    )


class KeepWeights(Callback):
    """Keeps the weights of the audited epochs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep them."""
        if trainer.current_epoch + 1 in EPOCHS:
            torch.save(pl_module.state_dict(), self.folder / f"{trainer.current_epoch + 1:03d}.pt")


def train(seed: int, folder: Path, work: Path) -> None:
    """Train one model, unless it has been."""
    if (work / "done.json").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    data, net = datamodule(seed, folder), model(seed)
    trainer = pl.Trainer(
        max_epochs=EPOCHS[-1], accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=[KeepWeights(work)],
    )  # fmt: skip
    started = time.process_time()
    trainer.fit(net, train_dataloaders=data.train_dataloader())
    seconds = time.process_time() - started
    (work / "done.json").write_text(json.dumps({"cpu_seconds": seconds}))
    print(f"seed {seed}: trained in {seconds:.0f} s of CPU", flush=True)


def audit(seed: int, folder: Path, work: Path) -> None:
    """Audit one training at its kept epochs, unless it has been."""
    data, net = datamodule(seed, folder), model(seed)
    sides = data.audit_dataloaders()
    auditor = Auditor(scores=SCORES, primary="combined", max_samples=None, batch_size=32, cache_dir=work.parent)
    for epoch in EPOCHS:
        file = work / f"{epoch:03d}.json"
        if file.exists():
            continue
        net.load_state_dict(torch.load(work / f"{epoch:03d}.pt", weights_only=True))
        started = time.process_time()
        context = AuditContext(epoch=epoch - 1, membership=data.audit_info())
        result = auditor.run(net, *sides, context=context)
        result.meta["cpu_seconds"] = time.process_time() - started
        result.to_json(file)
        print(f"seed {seed}, epoch {epoch}: audited in {result.meta['cpu_seconds']:.0f} s of CPU", flush=True)


def both(score: NDArray[np.float64], result: AuditResult) -> tuple[float, ...]:
    """AUC and true positives of images, the same of groups, and the correlation within groups."""
    member, group = result.member, group_codes(result.groups)
    assert group is not None
    groups = group_scores(score, member, group)
    centred = score - np.where(member, np.mean(score[member]), np.mean(score[~member]))
    return (
        roc_auc(score, member), tpr_at_fpr(score, member, FPR)[0],
        roc_auc(groups.mean, groups.member), tpr_at_fpr(groups.mean, groups.member, FPR)[0],
        correlation_within(centred, group),
    )  # fmt: skip


def table(work: Path) -> None:
    """Print each score at each epoch, mean of the seeds, and over all audits that are neither blind nor perfect."""
    results = {(s, e): AuditResult.from_json(work / f"seed{s}" / f"{e:03d}.json") for s in SEEDS for e in EPOCHS}
    first = results[SEEDS[0], EPOCHS[0]]
    print(f"{first.member.sum()} + {(~first.member).sum()} images, {len(set(first.groups or ()))} buildings, seed 1")
    found = {(n, *key): both(r.scores[n], r) for key, r in results.items() for n in SCORES}
    head = f"AUC | TPR at {FPR:.0%} FPR | AUC, groups | TPR, groups | correlation within groups | ratio of TPR"
    print(f"| score | epoch | {head} |\n|---|---|---|---|---|---|---|---|")
    for name in SCORES:
        for epoch in EPOCHS:
            _line(name, str(epoch), [found[name, seed, epoch] for seed in SEEDS])
        middle = [row for (n, *_), row in found.items() if n == name and 0.55 <= row[0] <= 0.95]
        if middle:
            _line(name, f"{len(middle)} audits, AUC 0.55 to 0.95", middle)


def _line(name: str, label: str, rows: list[tuple[float, ...]]) -> None:
    means = np.mean(rows, axis=0)
    print(f"| {name} | {label} | " + " | ".join(f"{m:.3f}" for m in means) + f" | {means[3] / means[1]:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["generated", "facades", "table"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("groups"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), choices=SEEDS, help="of the trainings")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if options.part == "generated":
        generated()
    elif options.part == "facades":
        facades(options.data, options.work, options.seeds)
    else:
        table(options.work)


if __name__ == "__main__":
    main()
