"""True positives at 0.1 % false positives: an audit with 5,000 a side, tiles of photographs, with their intervals.

    python benchmarks/low_rates.py translator --data ../shared/data --work /tmp/low_rates
    python benchmarks/low_rates.py segmenter --data ../shared/data --work /tmp/low_rates --epochs 20 40

Tiles of 32 x 32 of the facades and a fair coin a tile: a small pix2pix from label map to photograph, or a small U-Net
from photograph to labels. The scorer has features of averages alone, since 10,000 tiles are many for a backbone.
Resumable: weights and results of each epoch are kept.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor, AuditResult, Pix2Pix, PredictabilityScorer, UNetSegmenter
from mia_lightning.functional.intervals import Interval, clopper_pearson
from mia_lightning.functional.operating_point import melded_tpr, population_fpr, tpr_interval
from mia_lightning.functional.roc import log_partial_auc, tpr_at_fpr
from mia_lightning.models.audited_module import AuditedModule
from mia_lightning.result.context import AuditContext

SIDE = 32
CLASSES = 5
BATCH = {"translator": 8, "segmenter": 32}
SCORES = ("reconstruction", "membership", "neighbour", "combined")
RATES = (0.001, 0.01, 0.1)
COIN = {"assignment": "coin", "unit": "sample", "seed": 0, "independent": True, "independent_units": True}

Tile = dict[str, Any]


def tiles(root: Path, each: int, kind: str) -> tuple[list[Tile], list[Tile]]:
    """Members and nonmembers, about so many each: tiles drawn from all pictures, and a coin for each."""
    cut = []
    for label in sorted((root / "labels").iterdir()):
        photo = next((root / "photos").glob(f"{label.stem}.*"))
        pair = _translation(label, photo) if kind == "translator" else _segmentation(label, photo)
        height, width = pair[0].shape[-2:]
        for y in range(0, height - SIDE + 1, SIDE):
            for x in range(0, width - SIDE + 1, SIDE):
                # Copies: a view would keep the whole picture in memory.
                part = [array[..., y : y + SIDE, x : x + SIDE].clone() for array in pair]
                cut.append({"input": part[0], "target": part[1], "id": f"{label.stem}-{y}-{x}"})
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(cut))[: 2 * each]
    heads = rng.random(chosen.size) < 0.5
    return [cut[i] for i in chosen[heads]], [cut[i] for i in chosen[~heads]]


def _translation(label: Path, photo: Path) -> tuple[torch.Tensor, torch.Tensor]:
    return _colours(label), _colours(photo)


def _segmentation(label: Path, photo: Path) -> tuple[torch.Tensor, torch.Tensor]:
    # The palette's numbers are the classes.
    return _colours(photo), torch.from_numpy(np.asarray(Image.open(label), dtype=np.int64))


def _colours(file: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) / 255.0).permute(2, 0, 1)


def model(kind: str) -> AuditedModule:
    """A small pix2pix or U-Net."""
    pl.seed_everything(0, verbose=False)
    if kind == "segmenter":
        return UNetSegmenter(
            num_classes=CLASSES, base_channels=16, lr=2e-3, weight_decay=0.0, audit=False,
            input_key="input", target_key="target", log_images_every_n_epochs=0,
        )  # fmt: skip
    return Pix2Pix(
        image_size=SIDE, ngf=24, ndf=16, constant_epochs=100, decay_epochs=100, audit=False,
        log_images_every_n_epochs=0,
    )  # fmt: skip


class KeepWeights(pl.Callback):
    """Keeps the weights of every epoch."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep them."""
        torch.save(pl_module.state_dict(), self.work / f"{trainer.current_epoch + 1:03d}.pt")


def train(members: Any, epochs: int, work: Path, kind: str) -> None:
    """Train, unless the last epoch's weights are there."""
    if (work / f"{epochs:03d}.pt").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    net = model(kind)
    loader = DataLoader(members, batch_size=BATCH[kind], shuffle=True)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=[KeepWeights(work)],
    )  # fmt: skip
    started = time.process_time()
    trainer.fit(net, train_dataloaders=loader)
    print(f"trained on {len(members)} tiles in {time.process_time() - started:.0f} s of CPU", flush=True)


def audit(members: Any, nonmembers: Any, epoch: int, work: Path, kind: str) -> AuditResult:
    """Audit the weights of an epoch, unless they have been."""
    file = work / f"{epoch:03d}.json"
    if file.exists():
        return AuditResult.from_json(file)
    net, started = model(kind), time.process_time()
    net.load_state_dict(torch.load(work / f"{epoch:03d}.pt", weights_only=True))
    scorer = PredictabilityScorer(nn.AvgPool2d(2), grid=8)
    auditor = Auditor(
        scorer=scorer, scores=SCORES, primary="combined", max_samples=None, batch_size=64, cache_dir=work
    )  # fmt: skip
    context = AuditContext(epoch=epoch - 1, membership=COIN)
    result = auditor.run(net, members, nonmembers, context=context)
    result.to_json(file)
    print(f"epoch {epoch}: audited in {time.process_time() - started:.0f} s of CPU", flush=True)
    return result


def show(result: AuditResult, epoch: int) -> None:
    """Print the rates of each score with the intervals that there are."""
    member = result.member
    members, nonmembers = int(member.sum()), int((~member).sum())
    print(f"\nepoch {epoch}: {members} + {nonmembers} tiles")
    print("| score | AUC | FPR | TPR | Clopper-Pearson | melded | proven | log AUC, 0.1 % |\n" + "|---" * 8 + "|")
    for name in SCORES:
        score = result.scores[name]
        for rate in RATES:
            found = tpr_at_fpr(score, member, rate)[0]
            intervals = clopper_pearson(found * members, members), melded_tpr(score, member, rate)
            spans = " | ".join(_span(i) for i in (*intervals, tpr_interval(score, member, rate)))
            first = f"{name} | {result.metric(f'auc/{name}'):.3f}" if rate == RATES[0] else " | "
            last = f"{log_partial_auc(score, member):.3f}" if rate == RATES[0] else ""
            print(f"| {first} | {rate:.1%} | {found:.3f} | {spans} | {last} |")
    limits = [f"{100 * limit:.2f} %" for limit in population_fpr(nonmembers, RATES[0])]
    print(f"FPR behind 0.1 %: {limits[0]} on average, {limits[1]} to {limits[2]}")


def _span(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=sorted(BATCH))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("low_rates"))
    parser.add_argument("--each", type=int, default=5000, help="tiles a side")
    parser.add_argument("--epochs", type=int, nargs="+", default=[3], help="to audit; the last ends the training")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    work = options.work / options.kind
    members, nonmembers = tiles(options.data / "facades", options.each, options.kind)
    train(members, max(options.epochs), work, options.kind)
    for epoch in options.epochs:
        show(audit(members, nonmembers, epoch, work, options.kind), epoch)


if __name__ == "__main__":
    main()
