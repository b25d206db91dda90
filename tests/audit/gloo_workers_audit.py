"""What each process of a distributed audit does; a module of its own, so that spawned processes can import it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mia_lightning.audit.auditor import Auditor
from mia_lightning.features import PredictabilityScorer


def pairs(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    images = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return [(x, 0.5 * x + 0.25 * x.flip(2)) for x in images]


def model(image: Tensor) -> Tensor:
    """Half of what the targets are made of; breaks on one member."""
    output = 0.6 * image
    return torch.where(image[:, :1, :1, :1] == pairs(7, 0)[4][0][0, 0, 0], torch.nan, output)


def auditor(**settings: Any) -> Auditor:
    return Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=4), batch_size=2, **settings)


def audit(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    # An odd number of members, and one nonmember: the second process has none.
    result = auditor(output_dir=f"{folder}/files", cache_dir=f"{folder}/cache").run(model, pairs(7, 0), pairs(1, 1))
    subset = auditor(max_samples=3).run(model, pairs(7, 0), pairs(5, 1))

    def fails_on_second(image: Tensor) -> Tensor:
        if rank == 1:
            raise OSError("the second process lost its disk")
        return image

    try:
        auditor().run(fails_on_second, pairs(7, 0), pairs(5, 1))
        message = "no error"
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    # The processes still agree on where they are: the next audit works.
    again = auditor(max_samples=3).run(model, pairs(7, 0), pairs(5, 1))
    plain = [r.to_plain() for r in (result, subset, again)]
    torch.save({"results": plain, "message": message}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
