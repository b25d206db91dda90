"""Which samples of somebody else's data module are members, and which are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, cast

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader

from mia_lightning.audit.loading import Source
from mia_lightning.cli.seeds import Draws

Split = Literal["train", "val", "test", "predict"]
Owner = LightningDataModule | LightningModule

# Fit makes validation data, too: training validates.
_STAGES = {"train": "fit", "val": "fit", "test": "test", "predict": "predict"}


def check_splits(owner: Owner, members: Split | None, nonmembers: Split | None) -> tuple[Split, Split] | None:
    """Hold the two options against the loaders there are.

    Returns:
        Both, or None where neither is given.

    Raises:
        ValueError: If only one is given, both are the same, or there is no such loader.
    """
    if members is None and nonmembers is None:
        return None
    if members is None or nonmembers is None or members == nonmembers:
        raise ValueError(
            f"Expected two loaders, such as --members train --nonmembers test, but got members={members} and "
            f"nonmembers={nonmembers}."
        )
    for split in (members, nonmembers):
        if not is_overridden(f"{split}_dataloader", owner):
            there = [s for s in _STAGES if is_overridden(f"{s}_dataloader", owner)]
            listed = ", ".join(there) or "none"
            raise ValueError(f"{type(owner).__name__} has no {split}_dataloader(); those that it has are {listed}.")
    return members, nonmembers


def nothing_to_audit(data: Owner | None) -> str:
    """Say what is missing, and the lines to write."""
    if data is None:
        return "There is no audit to run: name the data module that has the samples with --data my_project.MyData."
    if callable(getattr(data, "audit_dataloaders", None)):
        return "There is no audit to run: the model has audit=False."
    return (
        f"There is no audit to run: {type(data).__name__} does not say which samples the model was trained on. Name "
        "two of its own loaders, such as --members train --nonmembers test, or add to it:\n"
        "    def audit_dataloaders(self):\n"
        "        if not hasattr(self, 'train_set'):  # the training must not get another split\n"
        "            self.setup('fit')\n"
        "        if not hasattr(self, 'test_set'):\n"
        "            self.setup('test')\n"
        "        return DataLoader(self.train_set), DataLoader(self.test_set)  # members, nonmembers: not augmented"
    )


def loader_of(owner: Owner, split: Split) -> Source:
    """The one loader of a split.

    Raises:
        ValueError: If there are several, or something else, or it has no samples.
    """
    try:
        loader = getattr(owner, f"{split}_dataloader")()
    except ValueError as error:
        if "num_samples" not in str(error):  # what torch says of a shuffling loader of nothing
            raise
        raise ValueError(
            f"{type(owner).__name__}.{split}_dataloader() has no samples: its data set is empty. Check the path and "
            "the split that it reads."
        ) from error
    if isinstance(loader, (list, tuple)) and len(loader) == 1:
        loader = loader[0]
    if isinstance(loader, DataLoader) or (hasattr(loader, "__getitem__") and not isinstance(loader, (list, dict))):
        return cast(Source, loader)
    found = f"{len(loader)} loaders" if isinstance(loader, (list, tuple, dict)) else f"a {type(loader).__name__}"
    raise ValueError(
        f"{type(owner).__name__}.{split}_dataloader() gives {found}; expected one DataLoader. Give it an "
        "audit_dataloaders() -> (members, nonmembers) that says which is meant."
    )


def stages_of(splits: tuple[Split, Split] | None) -> tuple[str, ...]:
    """The stages that data have to be set up for; for ``audit_dataloaders()`` those of a training."""
    return ("fit",) if splits is None else tuple(dict.fromkeys(_STAGES[split] for split in splits))


@contextmanager
def set_up_for(owner: Owner, stages: Sequence[str], draws: Draws) -> Iterator[None]:
    """Let a trainer that is about to predict set data up for other stages, and note what is drawn at that."""
    data = cast(Any, owner)
    data.setup = partial(_set_up, data.setup, tuple(stages), draws)
    named = callable(getattr(data, "audit_dataloaders", None))
    if named:
        data.audit_dataloaders = partial(_watched, draws, "audit_dataloaders()", data.audit_dataloaders)
    try:
        yield
    finally:
        del data.setup
        if named:
            del data.audit_dataloaders


def _set_up(setup: Callable[[str | None], None], stages: Sequence[str], draws: Draws, stage: str | None = None) -> None:
    for wanted in stages if stage == "predict" else (stage,):
        _watched(draws, "setup()", setup, wanted)


def _watched(draws: Draws, part: str, function: Callable[..., Any], *args: Any) -> Any:
    with draws.watch(part):
        return function(*args)
