"""The few things processes must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) without distribution."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextmanager
def failing_together(device: torch.device) -> Iterator[None]:
    """Run a block that holds no collective; if it fails on one process, fail on all instead of leaving them waiting.

    Raises:
        RuntimeError: On the processes whose own share went well, naming those where it did not.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    rank, world = rank_and_world()
    if world > 1:
        flags = torch.zeros(world, dtype=torch.int32, device=device)
        flags[rank] = failure is not None
        dist.all_reduce(flags)
        if failure is None and bool(flags.any()):
            ranks = torch.nonzero(flags).flatten().tolist()
            raise RuntimeError(f"The audit failed on process {', '.join(map(str, ranks))}; its message says why.")
    if failure is not None:
        raise failure
