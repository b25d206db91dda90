"""What each process of an audit in groups and slices does; a module of its own, so that processes can import it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mia_lightning.audit.auditor import Auditor
from mia_lightning.features import PredictabilityScorer

SETTINGS: dict[str, Any] = {
    "groups": lambda id: id.partition("-")[0],
    "slices": ["site", "resolution"],
    "batch_size": 5,
    "scores": ("reconstruction", "membership", "combined"),
    "primary": "combined",
}


def scorer() -> PredictabilityScorer:
    return PredictabilityScorer(nn.AvgPool2d(4), grid=4)


def samples(letter: str, groups: int = 23) -> list[dict[str, Any]]:
    """Groups of two, of one site but for the last two groups; a picture more of the first group."""
    names = [f"{letter}{g}-{i}" for g in range(groups) for i in range(2)] + [f"{letter}0-2"]
    images = torch.rand(len(names), 3, 16, 16, generator=torch.Generator().manual_seed(ord(letter)))
    rare = {f"{letter}{g}-{i}" for g in range(groups - 2, groups) for i in range(2)}
    return [
        {"input": x, "target": 0.5 * x + 0.25 * x.flip(2), "id": name, "site": "rare" if name in rare else "A"}
        for name, x in zip(names, images, strict=True)
    ]


class Sited(list[dict[str, Any]]):
    """A data set of batches without sites, which its ``metadata`` knows."""

    def __init__(self, letter: str) -> None:
        with_sites = samples(letter)
        super().__init__({name: value for name, value in one.items() if name != "site"} for one in with_sites)
        self.metadata = {"site": [one["site"] for one in with_sites]}


CASES: dict[str, tuple[dict[str, Any], Callable[[str], list[dict[str, Any]]]]] = {
    "entries": (SETTINGS, samples),
    "one-batch-a-side": (SETTINGS | {"batch_size": 64}, Sited),  # so that the second process has none
}


def model(image: Tensor) -> Tensor:
    """Half of what the targets are made of."""
    return 0.6 * image


def audit(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    for name, (settings, side) in CASES.items():
        result = Auditor(scorer=scorer(), **settings).run(model, side("m"), side("n"))
        torch.save(result.to_plain(), f"{folder}/{name}-{rank}.pt")
    dist.destroy_process_group()
