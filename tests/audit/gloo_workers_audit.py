"""What each process of a distributed audit does; a module of its own, so that spawned processes can import it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mia_lightning.audit.auditor import Auditor
from mia_lightning.features import PredictabilityScorer

SCORES = ("reconstruction", "membership", "neighbour", "combined")


def pairs(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    images = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return [(x, 0.5 * x + 0.25 * x.flip(2)) for x in images]


def model(image: Tensor) -> Tensor:
    """Half of what the targets are made of; breaks on one member."""
    output = 0.6 * image
    return torch.where(image[:, :1, :1, :1] == pairs(7, 0)[4][0][0, 0, 0], torch.nan, output)


class Network(nn.Sequential):
    """Has weights to shard and buffers to synchronise."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))
        weights = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=weights)


def auditor(**settings: Any) -> Auditor:
    return Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=4), batch_size=2, **settings)


def audit(rank: int, world: int, folder: str) -> None:
    _meet(rank, world, folder)
    # An odd number of members, and one nonmember: some processes have none.
    result = auditor(output_dir=f"{folder}/files", cache_dir=f"{folder}/cache").run(model, pairs(7, 0), pairs(1, 1))
    subset = auditor(max_samples=3).run(model, pairs(7, 0), pairs(5, 1))

    def fails_on_second(image: Tensor) -> Tensor:
        if rank == 1:
            raise OSError("the second process lost its disk")
        return image

    message = _message(lambda: auditor().run(fails_on_second, pairs(7, 0), pairs(5, 1)))
    # The processes still agree on where they are: the next audit works. The second reads a member of the first again.
    again = auditor(max_samples=3).run(model, iter(pairs(7, 0)[:3]), iter(pairs(2, 1) + pairs(7, 0)[:1]))
    plain = [r.to_plain() for r in (result, subset, again)]
    # One process writes; where that fails, nobody goes on.
    unwritten = _message(lambda: auditor(output_dir=f"{folder}/meet").run(model, pairs(7, 0), pairs(5, 1)))
    torch.save({"results": plain, "message": message, "unwritten": unwritten}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def audit_sharded(rank: int, world: int, folder: str) -> None:
    """Audits of models whose forward pass all processes make together."""
    _meet(rank, world, folder)
    found = {}
    for kind, shard in (
        ("FSDP2", _fully_sharded),
        ("FSDP", _flat_sharded),
        ("DDP", nn.parallel.DistributedDataParallel),
    ):
        network = shard(Network())
        whole = auditor(scores=SCORES).run(network, pairs(7, 0), pairs(1, 1))
        capped = auditor(max_samples=3).run(network, iter(pairs(7, 0)), iter(pairs(5, 1)))
        message = _message(lambda: auditor().run(network, Broken(rank, 1), pairs(5, 1)))  # noqa: B023 - called at once
        again = auditor(max_samples=3).run(network, pairs(3, 0), pairs(3, 1))
        # Found out before the first of eight forward passes, or between them: the others wait for all eight.
        odd = [(x, y + 5 * (i == 2)) for i, (x, y) in enumerate(pairs(7, 0))]
        outside = _message(lambda: auditor(scores=SCORES).run(network, odd, pairs(5, 1)))  # noqa: B023 - called at once
        scorer = Failing(nn.AvgPool2d(4), grid=4, rank=rank)
        unable = Auditor(scorer=scorer, batch_size=2, scores=SCORES)
        between = _message(lambda: unable.run(network, pairs(7, 0), pairs(5, 1)))  # noqa: B023 - called at once
        checked = _message(lambda: unable.check(network, pairs(7, 0), pairs(5, 1)))  # noqa: B023 - called at once
        found[kind] = {
            "checked": checked,
            "results": [r.to_plain() for r in (whole, capped, again)],
            "message": message,
            "outside": outside,
            "between": between,
        }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


class Failing(PredictabilityScorer):
    """Cannot score anything on one process."""

    def __init__(self, extractor: nn.Module, *, grid: int, rank: int) -> None:
        super().__init__(extractor, grid=grid)
        self.rank = rank

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.rank == 1:
            raise OSError("no memory")
        return super().__call__(*args, **kwargs)


class Broken(list[Any]):
    """Samples of which the last cannot be read on one process."""

    def __init__(self, rank: int, where: int) -> None:
        super().__init__(pairs(7, 0))
        self.broken = rank == where

    def __getitem__(self, index: Any) -> Any:
        if self.broken and index in (2, 3):  # the second batch is the second process's
            raise OSError("unreadable")
        return super().__getitem__(index)


def _meet(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)


def _message(run: Callable[[], Any]) -> str:
    try:
        run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _fully_sharded(network: Network) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (network[0], network[3]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(network, mesh=mesh)


def _flat_sharded(network: Network) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(network, device_id=torch.device("cpu"))


def audit_groups(rank: int, world: int, folder: str) -> None:
    _meet(rank, world, folder)
    results = [auditor(**settings).run(model, *in_groups()) for settings in ({}, {"groups": lambda id: id[:2]})]
    message = _message(lambda: auditor(groups={"m0-0": "one"}).run(model, *in_groups()))
    torch.save({"results": [r.to_plain() for r in results], "message": message}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def in_groups() -> list[list[dict[str, Any]]]:
    """Members and nonmembers in groups of two and three; the last nonmember has no group."""
    sides = []
    for letter, seed in (("m", 2), ("n", 3)):
        names = [f"{letter}{g}-{i}" for g in range(7) for i in range(2 + g % 2)]
        images = pairs(len(names), seed)
        sides.append(
            [
                {"input": x, "target": y, "id": name, "group": name[:2]}
                for name, (x, y) in zip(names, images, strict=True)
            ]
        )
    sides[1][-1]["group"] = ""
    return sides
