"""``mia-lightning demo``: from nothing to a memorization curve on photographs that are installed already."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from mia_lightning.cli.parser import Helpful

_DESCRIPTION = """Train a small model on embedded photographs and audit it as it learns. Half of the pictures, chosen
by randomised assignment, are trained on; at validation epochs the audit measures whether the model gives away which
half: at first it does not, at the end it does."""


def demo_parser() -> Helpful:
    """Declare the options, without the imports that a training needs."""
    parser = Helpful(prog="mia-lightning demo", description=_DESCRIPTION)
    task = "translation turns edges into photographs (pix2pix), segmentation labels textures (UNet)."
    parser.add_argument("--task", type=Literal["translation", "segmentation"], default="translation", help=task)
    parser.add_argument("--epochs", type=int | None, help="How long to train; long enough to see memorization if left.")
    folder = "Folder for the TensorBoard files, the results and the picture of the curve."
    parser.add_argument("--output_dir", type=str, default="runs/demo", help=folder)
    seed = "Seed of the assignment and of the training; one whose two halves are alike if left."
    parser.add_argument("--seed", type=int | None, help=seed)
    return parser


def demo_command(args: Sequence[str]) -> None:
    """Parse the options, train and print what was found.

    Args:
        args: Arguments after the command's name.
    """
    options = demo_parser().parse_args(list(args))
    # Seconds of imports, which the help does without.
    from lightning.pytorch import Trainer, seed_everything
    from lightning.pytorch.loggers import TensorBoardLogger

    from mia_lightning.callbacks.membership_audit import MembershipAudit
    from mia_lightning.cli.printing import files_in, print_history
    from mia_lightning.data.demo import CHOSEN_SEED
    from mia_lightning.report.write import write_report_or_warn

    console, seed = Console(), CHOSEN_SEED if options.seed is None else options.seed
    _hide_advice()
    seed_everything(seed, workers=True, verbose=False)
    module, data, epochs, every = _model_and_data(options.task, seed)
    logger = TensorBoardLogger(options.output_dir, name=None)
    folder = Path(logger.log_dir) / "audit"
    audit = MembershipAudit(every_n_epochs=every, cache_dir=folder, output_dir=folder, **module.audit_settings())
    trainer = Trainer(
        max_epochs=options.epochs or epochs,
        callbacks=[audit],
        logger=logger,
        log_every_n_steps=5,
        accelerator="cpu",
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    console.print(Text(f"Training on half of the pictures, auditing every {every} epochs. Files: {logger.log_dir}"))
    trainer.fit(module, datamodule=data)
    audit.attach(trainer, write_report_or_warn(audit.history, folder))
    print_history(console, audit.history, files_in(folder))
    console.print(Text(f"Report: {folder / 'report.html'}"), soft_wrap=True)
    seed_option = "" if seed == CHOSEN_SEED else f" --data.seed {seed}"
    _print_next_steps(console, Path(logger.log_dir), options.task, seed_option)


def _model_and_data(task: str, seed: int) -> tuple[Any, Any, int, int]:
    """A small model, its data, epochs to train, and epochs from audit to audit."""
    from mia_lightning.data.demo import DemoDataModule
    from mia_lightning.models.pix2pix import Pix2Pix
    from mia_lightning.models.unet_segmenter import UNetSegmenter

    if task == "segmentation":
        data = DemoDataModule("segmentation", batch_size=4, seed=seed)
        assert data.num_classes is not None
        model = UNetSegmenter(data.num_classes, base_channels=32, depth=4, audit=True, log_images_every_n_epochs=10)
        return model, data, 40, 4
    pix2pix = Pix2Pix(image_size=64, ngf=32, ndf=16, lr=5e-4, log_images_every_n_epochs=5)
    return pix2pix, DemoDataModule("translation", batch_size=4, seed=seed), 20, 2


def _hide_advice() -> None:
    # A newcomer should see the demo, not the advice that Lightning gives to owners of GPUs and loggers.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for message in ("does not have many workers", "smaller than the logging interval", "LeafSpec"):
        warnings.filterwarnings("ignore", message=f".*{message}.*")


def _print_next_steps(console: Console, folder: Path, task: str, seed_option: str) -> None:
    kind = "segmentation/wbc" if task == "segmentation" else "translation/facades"
    checkpoint = next(iter(sorted(folder.glob("checkpoints/*.ckpt"))), folder / "checkpoints" / "last.ckpt")
    console.print("\nNext:")
    for command, why in (
        (f"tensorboard --logdir {folder}", "the board of the training; the curves are under CUSTOM SCALARS"),
        (
            f"mia-lightning audit -c configs/{task}/demo.yaml{seed_option} --ckpt_path {checkpoint}",
            "audit the model just trained (in a checkout of the repository)",
        ),
        (f"mia-lightning fit -c configs/{kind}.yaml --data.root YOUR_DATA", "your own pictures"),
        ("mia-lightning --help", "everything else"),
    ):
        console.print(Text(f"  {command}\n      {why}"), soft_wrap=True)  # commands are copied: no line breaks in them
