"""What an audit costs beside a bare evaluation pass, and what memory it needs.

Time: one audit with predictability and blind test cached, against reading the same samples and running the model's
forward pass, in turn, as ratios of pairs; with neighbours, an audit runs the model k + 1 times. Seconds are of the CPU,
which other processes do not change much. Memory: peak resident set of a process that audits 500 samples, with
neighbours, and of one that audits 5,000.

    python benchmarks/overhead.py
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mia_lightning import Auditor, Pix2Pix, PredictabilityScorer, UNetSegmenter
from mia_lightning.functional.neighbours import AUTO


class Made(Dataset[dict[str, Any]]):
    """Pairs made on the fly, so that the data set itself needs no memory."""

    def __init__(self, count: int, size: int, classes: int | None, first: int = 0) -> None:
        self.count, self.size, self.classes, self.first = count, size, classes, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(self.first + index)
        image = torch.rand(3, self.size, self.size, generator=generator)
        if self.classes is None:
            return {"input": image, "target": 1 - image}
        return {"image": image, "mask": (image[0] * self.classes).long().clamp_max(self.classes - 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=64, help="samples a side for the timing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory_of", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of is not None:
        print(peak_memory(options.memory_of))
        return
    torch.manual_seed(0)
    cases: list[tuple[str, nn.Module, int, int | None]] = [
        ("pix2pix generator, ngf 64, 128 x 128", Pix2Pix(image_size=128), 128, None),
        ("UNet, 32 channels, 5 classes, 128 x 128", UNetSegmenter(5, base_channels=32), 128, 5),
    ]
    for label, model, size, classes in cases:
        for scores in (("reconstruction", "membership"), ("membership", "combined")):
            ratio, audit, bare = overhead(model, size, classes, options.samples, options.rounds, scores)
            passes = 1 + len(AUTO) * ("combined" in scores)
            print(
                f"{label:42s} {passes} passes a sample: audit {audit:6.2f} s   bare pass {bare:6.2f} s   "
                f"ratio {ratio:.3f}   per pass {ratio / passes:.3f}"
            )
    peaks = {count: in_a_process(count) for count in (500, 5000)}
    print(", ".join(f"peak memory of {count} samples {peak:.0f} MB" for count, peak in peaks.items()))
    print(f"difference {peaks[5000] - peaks[500]:.0f} MB")


def overhead(
    model: nn.Module, size: int, classes: int | None, samples: int, rounds: int, scores: tuple[str, ...]
) -> tuple[float, float, float]:
    sides = [Made(samples, size, classes), Made(samples, size, classes, first=10**6)]
    auditor = Auditor(max_samples=None, batch_size=16, scores=scores, primary=scores[-1])
    auditor.run(model, *sides)  # fills the cache
    audits, bares = [], []
    for _ in range(rounds):
        start = time.process_time()
        bare_pass(model, sides)
        bares.append(time.process_time() - start)
        start = time.process_time()
        auditor.run(model, *sides)
        audits.append(time.process_time() - start)
    return float(np.median(np.divide(audits, bares))), float(np.median(audits)), float(np.median(bares))


@torch.no_grad()
def bare_pass(model: nn.Module, sides: list[Made]) -> None:
    model.eval()
    for side in sides:
        for batch in DataLoader(side, batch_size=16):
            output: Tensor = model(batch.get("input", batch.get("image")))
            del output


def peak_memory(samples: int) -> float:
    """Audit that many samples with a tiny model and extractor, so that what grows would show."""
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
    sides = [Made(samples // 2, 64, None), Made(samples // 2, 64, None, first=10**6)]
    auditor = Auditor(scorer=scorer, max_samples=None, scores=("membership", "combined"), primary="combined")
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # forget the peak of the imports, which would hide ours
    auditor.run(nn.Conv2d(3, 3, 3, padding=1), *sides)
    status = Path("/proc/self/status")
    if status.exists():
        return float(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(samples: int) -> float:
    command = [sys.executable, __file__, "--memory_of", str(samples)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
