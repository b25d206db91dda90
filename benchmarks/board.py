"""How many bytes an audit adds to TensorBoard's event file, with figures and without, and to the file of pictures.

Trains a tiny model on photographs (cuts of those that scikit-image ships) and audits it each epoch: what the file grows
by from audit to audit, with figures at each, and with figures at the first and last alone.

    python benchmarks/board.py
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from skimage import data
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mia_lightning import MembershipAudit, PredictabilityScorer

Pair = tuple[Tensor, Tensor, str]


class Sharpener(LightningModule):
    """A convolution that turns a blurred photograph into a sharp one."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Conv2d(3, 3, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        """Sharpen, (B, 3, H, W)."""
        sharp: Tensor = self.network(x).clamp(0, 1)
        return sharp

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        """L1."""
        return F.l1_loss(self(batch[0]), batch[1])

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        """Log L1."""
        self.log("val/l1", F.l1_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 1e-2)


class Sizes(Callback):
    """Notes the size of the event file after each validation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sizes: list[int] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Flush, look."""
        for logger in trainer.loggers:
            logger.save()
        self.sizes.append(sum(f.stat().st_size for f in self.folder.rglob("events.out*")))


def photographs(count: int, side: int) -> list[Pair]:
    """Cut photographs into pairs of blurred and sharp squares, in an order that mixes them."""
    cuts = []
    for name in ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry"):
        image = torch.from_numpy(getattr(data, name)()).movedim(2, 0).float() / 255
        for top in range(0, image.shape[1] - side + 1, side // 2):
            for left in range(0, image.shape[2] - side + 1, side // 2):
                sharp = image[:, top : top + side, left : left + side]
                cuts.append((F.avg_pool2d(sharp, 5, 1, 2), sharp, f"{name}-{top}-{left}"))
    order = np.random.default_rng(0).permutation(len(cuts))[:count]
    return [cuts[i] for i in order]


def growth(pairs: list[Pair], audits: int, every: int) -> tuple[list[int], int]:
    """Bytes by which each audit after the first grew the event file, and bytes of the pictures kept for the report."""
    half = len(pairs) // 2
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sizes = Sizes(folder)
        audit = MembershipAudit(
            cast(Any, pairs[:half]),  # a list is a data set
            cast(Any, pairs[half:]),
            scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=16),
            figures_every_n_audits=every,
            output_dir=folder / "audit",
            verbose=False,
        )
        trainer = Trainer(
            max_epochs=audits,
            accelerator="cpu",
            logger=TensorBoardLogger(folder),
            callbacks=[audit, sizes],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        loaders: list[Any] = [DataLoader(cast(Any, side), 16) for side in (pairs[:half], pairs[half:])]
        trainer.fit(Sharpener(), *loaders)
        kept = (folder / "audit" / "audit-pictures.json").stat().st_size
    return np.diff(sizes.sizes).tolist(), kept


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=160, help="both sides together")
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--audits", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    torch.manual_seed(0)
    pairs = photographs(options.samples, options.side)
    drawn, kept = growth(pairs, options.audits, 1)
    plain, _ = growth(pairs, options.audits, options.audits)
    print(f"{len(pairs)} samples of {options.side} x {options.side}")
    without = max(plain[:-1])
    print(f"an audit with figures adds {max(drawn) / 1000:.0f} kB at the most, without figures {without / 1000:.0f} kB")
    print(f"pictures kept for the report: {kept / 1000:.0f} kB, of the latest audit alone")


if __name__ == "__main__":
    main()
