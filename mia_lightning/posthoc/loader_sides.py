"""Loaders of a data module as members and nonmembers, for data modules without ``audit_dataloaders()``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, cast

from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader

from mia_lightning.audit.loading import Source
from mia_lightning.lightning_packages.loaded import is_overridden
from mia_lightning.posthoc.global_draws import GlobalDraws

LoaderName = Literal["train", "val", "test", "predict"]
"""``"train"`` is ``train_dataloader()``, and so on."""
Owner = LightningDataModule | LightningModule

# Fit makes validation data, too: training validates.
_STAGES = {"train": "fit", "val": "fit", "test": "test", "predict": "predict"}


def check_sides(
    owner: Owner, members: LoaderName | None, nonmembers: LoaderName | None
) -> tuple[LoaderName, LoaderName] | None:
    """Compare the names of two loaders with the loaders there are; None where neither is named.

    Raises:
        ValueError: If only one is named, both are the same, or there is no such loader.
    """
    if members is None and nonmembers is None:
        return None
    if members is None or nonmembers is None or members == nonmembers:
        raise ValueError(
            f"Expected two loaders, such as --members train --nonmembers test, but got members={members} and "
            f"nonmembers={nonmembers}."
        )
    for name in (members, nonmembers):
        if not is_overridden(f"{name}_dataloader", owner):
            listed = ", ".join(s for s in _STAGES if is_overridden(f"{s}_dataloader", owner)) or "none"
            raise ValueError(f"{type(owner).__name__} has no {name}_dataloader(); those that it has are {listed}.")
    return members, nonmembers


def nothing_to_audit(data: Owner | None) -> str:
    """Say what is missing for an audit, and the lines to write."""
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


def loader_of(owner: Owner, name: LoaderName) -> Source:
    """The loader of a name; ValueError if there are several, or something else, or it has no samples."""
    try:
        loader = getattr(owner, f"{name}_dataloader")()
    except ValueError as error:
        if "num_samples" not in str(error):  # torch's message for a shuffling loader of an empty data set
            raise
        raise ValueError(
            f"{type(owner).__name__}.{name}_dataloader() has no samples: its data set is empty. Check the path and "
            "the split that it reads."
        ) from error
    if isinstance(loader, (list, tuple)) and len(loader) == 1:
        loader = loader[0]
    if isinstance(loader, DataLoader) or (hasattr(loader, "__getitem__") and not isinstance(loader, (list, dict))):
        return cast(Source, loader)
    found = f"{len(loader)} loaders" if isinstance(loader, (list, tuple, dict)) else f"a {type(loader).__name__}"
    raise ValueError(
        f"{type(owner).__name__}.{name}_dataloader() gives {found}; expected one DataLoader. Give it an "
        "audit_dataloaders() -> (members, nonmembers) that says which is meant."
    )


def stages_of(sides: tuple[LoaderName, LoaderName] | None) -> tuple[str, ...]:
    """The stages that data have to be set up for; for ``audit_dataloaders()`` those of a training."""
    return ("fit",) if sides is None else tuple(dict.fromkeys(_STAGES[name] for name in sides))


@contextmanager
def set_up_for(owner: Owner, stages: Sequence[str], draws: GlobalDraws) -> Iterator[None]:
    """Have a trainer that is about to predict set data up for other stages, and record what is drawn by that."""
    data = cast(Any, owner)
    data.setup = partial(_set_up, data.setup, tuple(stages), draws)
    has_sides = callable(getattr(data, "audit_dataloaders", None))
    if has_sides:
        data.audit_dataloaders = partial(draws.watched, "audit_dataloaders()", data.audit_dataloaders)
    try:
        yield
    finally:
        del data.setup
        if has_sides:
            del data.audit_dataloaders


def _set_up(
    setup: Callable[[str | None], None], stages: Sequence[str], draws: GlobalDraws, stage: str | None = None
) -> None:
    for name in stages if stage == "predict" else (stage,):
        draws.watched("setup()", setup, name)
