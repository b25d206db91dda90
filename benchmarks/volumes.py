"""Seconds and memory of the predictability error: a voxel of volumes beside a pixel of pictures of the same slices.

Cubes of growing sides are scored whole, and the slices of each once more as pictures. Each is measured in a process of
its own: CPU seconds of the second call, and by how much the peak of its memory exceeds that before the first call.

    python benchmarks/volumes.py --sides 16 32 64

With ``--audit`` it measures instead what an audit with predictability cached takes beside a bare pass of MONAI's UNet
over the same ``--samples`` a side; with ``--stream`` these are streams without a length, in another order each time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from mia_lightning import Auditor, PredictabilityScorer


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--batch", type=int, default=1, help="volumes that are scored together")
    parser.add_argument("--audit", action="store_true", help="audits beside bare passes")
    parser.add_argument("--samples", type=int, default=8, help="volumes a side of an audit")
    parser.add_argument("--stream", action="store_true", help="audits of streams")
    options = parser.parse_args()
    if options.audit:
        for side in options.sides:
            audit, bare = overhead(side, options.samples, options.stream)
            print(f"{side:3d}^3: audit {audit:6.2f} s, bare pass {bare:6.2f} s, ratio {audit / bare:.3f}")
        return
    print("voxels      volumes                            the same slices as pictures        ratio")
    for side in options.sides:
        rows = []
        for volumes in (True, False):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(measure, (side, options.batch, volumes)))
        count = options.batch * side**3
        texts = [f"{s:7.2f} s {1e6 * s / count:7.1f} us a voxel {m:6.0f} MB" for s, m in rows]
        print(f"{options.batch} x {side:3d}^3   {texts[0]}   {texts[1]}   {rows[0][0] / rows[1][0]:.2f}")


def measure(side: int, batch: int, volumes: bool) -> tuple[float, float]:
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    inputs: Any = torch.rand(batch, 1, side, side, side, generator=draw)
    targets: Any = 0.7 * inputs + 0.3 * torch.rand(inputs.shape, generator=draw)
    scorer = PredictabilityScorer()
    if not volumes:
        inputs, targets = (x.movedim(2, 1).flatten(0, 1).split(16) for x in (inputs, targets))
    scorer.network.to("cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        start = time.process_time()
        if volumes:
            scorer(inputs, targets)
        else:
            for pictures, others in zip(inputs, targets, strict=True):
                scorer(pictures, others)
        seconds = time.process_time() - start
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


class Stream(IterableDataset[Any]):
    """Samples in another order each time that they are read."""

    def __init__(self, pairs: Sequence[Any]) -> None:
        self.pairs = pairs

    def __iter__(self) -> Iterator[Any]:
        return iter(random.SystemRandom().sample(self.pairs, len(self.pairs)))


def overhead(side: int, samples: int = 8, stream: bool = False, rounds: int = 3) -> tuple[float, float]:
    """CPU seconds of an audit of as many volumes a side, and of reading them and running the network."""
    from monai.networks.nets.unet import UNet

    torch.set_num_threads(1)
    network: Any = UNet(3, 1, 2, channels=(32, 64, 128, 256), strides=(2, 2, 2), num_res_units=2)
    model = network.eval()
    draw = torch.Generator().manual_seed(0)
    volumes = torch.rand(2 * samples, 1, side, side, side, generator=draw)
    pairs: Any = list(zip(volumes, (volumes[:, 0] > 0.5).long(), strict=True))
    auditor = Auditor(scorer=PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8), batch_size=2)
    sides: Any = [Stream(half) if stream else half for half in (pairs[:samples], pairs[samples:])]
    auditor.run(model, *sides)  # fills the cache
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        with torch.no_grad():
            for half in sides:
                for batch in DataLoader(half, batch_size=2):
                    model(batch[0])
        middle = time.process_time()
        auditor.run(model, *sides)
        seconds.append((time.process_time() - middle, middle - start))
    return sorted(audit for audit, _ in seconds)[rounds // 2], sorted(bare for _, bare in seconds)[rounds // 2]


if __name__ == "__main__":
    main()
