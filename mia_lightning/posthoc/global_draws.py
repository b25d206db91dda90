"""Data modules that draw from the global random generators: the audit must draw what the training drew."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from mia_lightning.audit.isolation import isolated


class Seeds(NamedTuple):
    """Seeds of the global generators."""

    audit: int | None = None  # None: not seeded
    training: int | None = None  # None: not known


@dataclass(frozen=True)
class GlobalDraws:
    """Runs parts of a data module from one state of the global generators, and records which of them draw.

    One state for all: a ``setup()`` that draws a split for every stage would else draw another one each time. ``found``
    names the parts that drew, in order.

    Example:
        >>> draws = GlobalDraws()
        >>> with draws.watch("setup()"):
        ...     _ = torch.rand(1)
        >>> draws.found
        ['setup()']
    """

    found: list[str] = field(default_factory=list)

    @contextmanager
    def watch(self, part: str) -> Iterator[None]:
        """Run a block, record whether it drew, and restore the generators."""
        with isolated(None):
            before = _states()
            yield
            if _states() != before and part not in self.found:
                self.found.append(part)

    def watched(self, part: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function as :meth:`watch` runs a block."""
        with self.watch(part):
            return function(*args)

    def note(self, owner: object, seeds: Seeds) -> str | None:
        """Say that the audited samples may be others than the training's: a source drew, from another seed."""
        if not self.found or (seeds.audit is not None and seeds.audit == seeds.training):
            return None
        here = "did not seed them" if seeds.audit is None else f"has --seed_everything={seeds.audit}"
        if seeds.training is None:
            there = "the training's seed is not known. Pass it with --seed_everything"
        else:
            there = f"the training had {seeds.training}. Repeat it with --seed_everything={seeds.training}"
        sources, verb = " and ".join(self.found), "draws" if len(self.found) == 1 else "draw"
        return (
            f"{type(owner).__name__}: {sources} {verb} from the global random generators. Where that decides who is a "
            "member, samples that were trained on count as nonmembers here, unless the training began with the same "
            f"seed: this audit {here}, {there}, or give the split a generator of its own."
        )


def _states() -> tuple[object, ...]:
    _, keys, position, *rest = np.random.get_state()  # noqa: NPY002 - the global state is what a split is drawn from
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), np.asarray(keys).tobytes(), position, rest
