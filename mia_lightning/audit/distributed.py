"""Agreement between processes: which of them failed, and whether any still has samples."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from mia_lightning.audit.loading import NumberedBatch, Side

T = TypeVar("T")

_DONE, _READING, _FAILED = 0, 1, 2
_AGREED = "_failed_on_all"  # attribute of an error that all processes know of

# By name: importing torch.distributed.fsdp or deepspeed for isinstance would cost seconds.
_COLLECTIVE = ("FullyShardedDataParallel", "FSDPModule", "DistributedDataParallel", "DeepSpeedEngine")


class OtherProcessError(RuntimeError):
    """Raised where all went well, since another process failed."""


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) without distribution."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def forward_is_collective(module: object) -> bool:
    """Whether each forward pass of a model is made by all processes together, as it is where weights are sharded."""
    if rank_and_world()[1] == 1 or not isinstance(module, nn.Module):
        return False
    return any(kind.__name__ in _COLLECTIVE for part in module.modules() for kind in type(part).__mro__)


@contextmanager
def failing_together(device: torch.device) -> Iterator[None]:
    """Run a block; if it fails on one process, fail on all.

    A process that fails goes to the end of its innermost block at once, and the others must come to the end of a block
    next. So a block may hold :func:`shares`, and blocks within it, and directly behind such an inner block another
    collective, such as :func:`gathered`: all processes have come to its end then, and all go on. Whether an inner block
    or a collective is entered must be the same on each process, as it is where settings decide, or what was gathered.
    What has failed on all in an inner block fails on all in the outer one, too.

    Raises:
        OtherProcessError: On the processes whose own share went well, naming those where it did not.
    """
    failure: Exception | None = None
    try:
        yield
    except OtherProcessError:
        raise  # the processes have agreed already
    except Exception as error:
        if getattr(error, _AGREED, False):
            raise  # in a block within this one
        failure = error
    try:
        _exchange(_DONE if failure is None else _FAILED, device)
    except OtherProcessError:
        if failure is None:
            raise
    if failure is not None:
        setattr(failure, _AGREED, True)
        raise failure


def reason_of(error: Exception) -> str:
    """Why an audit failed that has failed on all processes: the reason of the first whose own share did. A collective.

    Returns:
        The error's type and message, the same on every process.
    """
    own = "" if isinstance(error, OtherProcessError) else f"{type(error).__name__}: {error}"
    return next((reason for reason in gathered([own]) if reason), str(error))


def gathered(own: Sequence[T]) -> list[T]:
    """What all processes have, in their order; the same on each. A collective."""
    lists: list[Any] = [list(own)]
    if rank_and_world()[1] > 1:
        lists *= rank_and_world()[1]
        dist.all_gather_object(lists, list(own))
    return [one for every in lists for one in every]


def shares(side: Side, module: object, spare: Any, device: torch.device) -> Iterator[NumberedBatch]:
    """Read this process's share of a side. Use inside :func:`failing_together`.

    Where the forward pass is a collective, a process that has read its share goes on until all have: it makes forward
    passes of the spare batch, whose results are dropped.

    Yields:
        This process's batches, then spare ones with no positions.

    Raises:
        OtherProcessError: If another process failed meanwhile.
    """
    batches = side.batches(*rank_and_world())
    if not forward_is_collective(module):
        yield from batches
        return
    while True:
        batch = next(batches, None)
        states = _exchange(_DONE if batch is None else _READING, device)
        if _READING not in states:
            return
        yield batch or ([], spare)


def _exchange(state: int, device: torch.device) -> list[int]:
    rank, world = rank_and_world()
    if world == 1:
        return [state]
    states = torch.zeros(world, dtype=torch.int32, device=device)
    states[rank] = state
    dist.all_reduce(states)
    gathered: list[int] = states.tolist()
    if failed := [str(r) for r, s in enumerate(gathered) if s == _FAILED and r != rank]:
        raise OtherProcessError(f"The audit failed on process {', '.join(failed)}; its message says why.")
    return gathered
