"""What each process of an audit of streams does; a module of its own, so that spawned processes can import it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from mia_lightning.audit.auditor import Auditor

SIZE = 40


class Scorer:
    """A number that tells the content of a target, and costs nothing."""

    def fingerprint(self) -> str:
        return "mean"

    def __call__(self, input: Tensor, target: Tensor, task: str, **options: Any) -> Tensor:
        return target.flatten(1).mean(1)


def auditor(**settings: Any) -> Auditor:
    return Auditor(scorer=Scorer(), batch_size=4, task="translation", **settings)


class Pairs(Dataset):
    """Pairs of which some cannot be read."""

    def __init__(self, seed: int, broken: tuple[int, ...] = ()) -> None:
        values = torch.rand(SIZE, 2, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
        self.items, self.broken = [(x, y) for x, y in values], broken

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        if index in self.broken:
            raise OSError(f"image {index} is truncated")
        return self.items[index]


class Crops(Pairs):
    """Three samples an entry."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return [{"image": x, "target": y}] * 3


class Counted(IterableDataset):
    """In another order each time, the same on each process."""

    def __init__(self, seed: int) -> None:
        self.items, self.epoch = Pairs(seed).items, 0

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        order = random.Random(self.epoch).sample(range(SIZE), SIZE)
        return (self.items[i] for i in order)


class Drawn(Counted):
    """By the global generator, whose state differs from process to process."""

    def __iter__(self) -> Iterator[Any]:
        return (self.items[i] for i in torch.randperm(SIZE).tolist())


class Unseeded(Counted):
    """In another order on each process."""

    def __iter__(self) -> Iterator[Any]:
        return iter(random.SystemRandom().sample(self.items, SIZE))


class Split(Counted):
    """Each process has a part."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items[dist.get_rank() :: dist.get_world_size()])


CASES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "few unreadable": lambda: (Pairs(0, (3, 30)), Pairs(1)),
    "counted": lambda: (Counted(0), Counted(1)),
    "drawn": lambda: (Drawn(0), Pairs(1)),
}
REFUSED: dict[str, Callable[[], tuple[Any, Any]]] = {
    "many unreadable": lambda: (Pairs(0, (3, 6, 30)), Pairs(1)),  # two are one process's, and one the other's
    "many unreadable entries": lambda: (Crops(0, (3, 6, 30)), Pairs(1)),
    "unseeded": lambda: (Unseeded(0), Pairs(1)),
    "split": lambda: (Pairs(1), Split(0)),
}


def audit(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.manual_seed(rank)
    found: dict[str, Any] = {name: auditor().run(nn.Identity(), *make()).to_plain() for name, make in CASES.items()}
    for name, make in REFUSED.items():
        try:
            auditor().run(nn.Identity(), *make())
            found[name] = "no error"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
