"""What each process of a distributed test does; a module of its own, so that spawned processes can import it."""

from __future__ import annotations

import torch
import torch.distributed as dist

from mia_lightning.metrics.collector import SampleCollector
from mia_lightning.metrics.membership_auc import MembershipAUC


def gather(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    uneven, lopsided, auc = SampleCollector(["a", "b"]), SampleCollector(["a"]), MembershipAUC()
    for place in range(rank, 5, world):
        numbers = {k: torch.tensor([place / 3]) for k in "ab"}
        label = [f'["é{place}"]' if place else None]
        uneven.update([f"né-{place}"], torch.tensor([place]), place % 2 == 0, numbers, labels=label)
    if rank == 1:
        numbers = {"a": torch.tensor([0.5, 0.25])}
        lopsided.update(["x", "yy"], torch.tensor([3, 1]), False, numbers, ["ü", None])
    auc.update(torch.tensor([20.0 + rank, 40.0 - rank]), torch.tensor([False, True]))
    tables = [table._asdict() for table in (uneven.compute(), lopsided.compute())]
    for table in tables:
        table["member"], table["position"] = table["member"].tolist(), table["position"].tolist()
        table["columns"] = {name: values.tolist() for name, values in table["columns"].items()}
    torch.save({"tables": tables, "auc": float(auc.compute())}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
