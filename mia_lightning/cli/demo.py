"""``mia-lightning demo``: from nothing to a memorization curve on photographs that are installed already."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.text import Text

from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.cli.printing import files_in, print_history
from mia_lightning.data.demo import CHOSEN_SEED, DemoDataModule
from mia_lightning.models.pix2pix import Pix2Pix
from mia_lightning.models.unet_segmenter import UNetSegmenter
from mia_lightning.report.write import write_report_or_warn


def demo(
    task: Literal["translation", "segmentation"] = "translation",
    epochs: int | None = None,
    output_dir: str = "runs/demo",
    seed: int = CHOSEN_SEED,
) -> MembershipAudit:
    """Train a small model on embedded photographs and audit it as it learns.

    Half of the pictures, chosen by coin flips, are trained on. The audit asks at validation epochs whether the model
    gives away which half: at first it cannot, at the end it does.

    Args:
        task: ``translation`` turns edges into photographs (pix2pix), ``segmentation`` tells textures apart (UNet).
        epochs: How long to train; by default long enough to see memorization.
        output_dir: Folder for the TensorBoard files, the results and the picture of the curve.
        seed: Seed of the coin flips and of the training.

    Returns:
        The audit, with its history.
    """
    console = Console()
    _quiet()
    seed_everything(seed, workers=True, verbose=False)
    module, data, usual, every = _parts(task, seed)
    logger = TensorBoardLogger(output_dir, name=None)
    folder = Path(logger.log_dir) / "audit"
    settings: dict[str, Any] = getattr(module, "audit_settings", dict)()
    audit = MembershipAudit(every_n_epochs=every, cache_dir=folder, output_dir=folder, **settings)
    trainer = Trainer(
        max_epochs=epochs or usual,
        callbacks=[audit],
        logger=logger,
        log_every_n_steps=5,
        accelerator="cpu",
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    console.print(Text(f"Training on half of the pictures, auditing every {every} epochs. Files: {logger.log_dir}"))
    trainer.fit(module, datamodule=data)
    write_report_or_warn(audit.history, folder)
    print_history(console, audit.history, files_in(folder))
    console.print(Text(f"Report: {folder / 'report.html'}"), soft_wrap=True)
    _next_steps(console, Path(logger.log_dir), task, seed)
    return audit


def demo_command(args: Sequence[str]) -> None:
    """Parse the demo's options and run it."""
    from jsonargparse import auto_cli

    from mia_lightning.cli.parser import Helpful

    auto_cli(demo, args=list(args), prog="mia-lightning demo", parser_class=Helpful)


def _parts(task: str, seed: int) -> tuple[LightningModule, LightningDataModule, int, int]:
    if task == "segmentation":
        data = DemoDataModule("segmentation", batch_size=4, seed=seed)
        assert data.num_classes is not None
        model = UNetSegmenter(data.num_classes, base_channels=32, depth=4, audit=True, log_images_every_n_epochs=10)
        return model, data, 40, 4
    pix2pix = Pix2Pix(image_size=64, ngf=32, ndf=16, lr=5e-4, log_images_every_n_epochs=5)
    return pix2pix, DemoDataModule("translation", batch_size=4, seed=seed), 20, 2


def _quiet() -> None:
    # A newcomer should see the demo, not the advice that Lightning gives to owners of GPUs and loggers.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")


def _next_steps(console: Console, folder: Path, task: str, seed: int) -> None:
    kind = "segmentation/wbc" if task == "segmentation" else "translation/facades"
    checkpoint = next(iter(sorted(folder.glob("checkpoints/*.ckpt"))), folder / "checkpoints" / "last.ckpt")
    coin = "" if seed == CHOSEN_SEED else f" --data.seed {seed}"
    console.print("\nNext:")
    for command, why in (
        (f"tensorboard --logdir {folder}", "the board of the training; the curves are under CUSTOM SCALARS"),
        (
            f"mia-lightning audit -c configs/{task}/demo.yaml{coin} --ckpt_path {checkpoint}",
            "audit the model just trained (in a checkout of the repository)",
        ),
        (f"mia-lightning fit -c configs/{kind}.yaml --data.root YOUR_DATA", "your own pictures"),
        ("mia-lightning --help", "everything else"),
    ):
        console.print(Text(f"  {command}\n      {why}"), soft_wrap=True)  # commands are copied: no line breaks in them
