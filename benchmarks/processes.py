"""How an audit spreads over processes: seconds a sample with one and with two, one thread each, by Lightning's own DDP.

The first audit of a set computes predictability; those that follow find it in the cache. From both costs follows what a
larger set takes on more devices, for batches are read, scored and forgotten, and nothing but their rows is exchanged.

    python benchmarks/processes.py
    python benchmarks/processes.py --accelerator gpu --processes 1 --samples 2048
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from overhead import Made
from torch.utils.data import DataLoader

from mia_lightning import MembershipAudit, Pix2Pix


class Timed(Callback):
    """Audits in place of the trainer's own work, and tells how long it took."""

    def __init__(self, audit: MembershipAudit, rounds: int) -> None:
        self.audit, self.rounds = audit, rounds

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the audit, time and again."""
        if pl_module.device.type == "cpu":
            torch.set_num_threads(1)
        seconds = []
        for _ in range(1 + self.rounds):
            trainer.strategy.barrier()
            start = time.perf_counter()
            self.audit.run(trainer, pl_module)
            trainer.strategy.barrier()
            seconds.append(time.perf_counter() - start)
        if trainer.is_global_zero:
            result = self.audit.result
            assert result is not None
            n, later = len(result.ids), min(seconds[1:])
            print(
                f"{trainer.world_size} process(es) on {pl_module.device.type}: first audit "
                f"{1000 * seconds[0] / n:.2f} ms a sample, later ones {1000 * later / n:.2f} ms; "
                f"AUC {result.metrics['audit/auc']:.9f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=128, help="samples a side")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 1, 2])
    parser.add_argument("--accelerator", default="cpu", help="cpu or gpu")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0, help="loading processes")
    parser.add_argument("--rounds", type=int, default=3, help="audits after the first one; the fastest counts")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for processes in options.processes:
        torch.manual_seed(0)
        sides = Made(options.samples, 128, None), Made(options.samples, 128, None, first=options.samples)
        loading = {"batch_size": options.batch_size, "num_workers": options.workers}
        trainer = Trainer(
            accelerator=options.accelerator,
            devices=processes,
            strategy="ddp_fork" if processes > 1 else "auto",
            callbacks=[Timed(MembershipAudit(*sides, max_samples=None, verdict="primary", **loading), options.rounds)],
            logger=False,
            limit_predict_batches=1,
            enable_progress_bar=False,
        )
        trainer.predict(Pix2Pix(image_size=128, audit=False), DataLoader(sides[0]), return_predictions=False)


if __name__ == "__main__":
    main()
