"""What each process of an audit of depths does; a module of its own, so that spawned processes can import it."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mia_lightning.audit.auditor import Auditor
from mia_lightning.features import PredictabilityScorer


def depths(count: int, seed: int, far: float) -> list[tuple[Tensor, Tensor]]:
    """Up to 9 m, but for one pixel; some pixels have none."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 16, 16, generator=generator)
    targets = (9 * images.mean(1, keepdim=True)).masked_fill(torch.rand(count, 1, 16, 16) < 0.2, torch.nan)
    targets[count - 2, 0, 3, 3] = far
    return list(zip(images, targets, strict=True))


def model(image: Tensor) -> Tensor:
    return 8 * image.mean(1, keepdim=True)


def auditor() -> Auditor:
    return Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=4), batch_size=3)


def sides() -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    return depths(19, 0, 40.0), depths(17, 1, -2.0)


def crops(rank: int) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    """Each process has drawn pieces of its own: by chance those of the first lie in [0, 1], as pictures do."""
    return tuple([(x, 0.9 * x[:1] if rank == 0 else y) for x, y in side] for side in sides())


def audit(rank: int, world: int, folder: str) -> None:
    wait = timedelta(seconds=60)
    dist.init_process_group("gloo", f"file://{folder}/meet", wait, rank=rank, world_size=world)
    one = auditor()
    one.check(model, *sides())
    result = one.run(model, *sides())
    cut = auditor().run(model, *crops(rank)).meta["settings"]["target_range"]
    torch.save({"range": one.target_range, "result": result.to_plain(), "cut": cut}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
