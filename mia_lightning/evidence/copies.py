"""Images that occur twice: on one side they count once, on both sides there is nothing to compare."""

from typing import Any

from torch.utils.data import DataLoader, SubsetRandomSampler

from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.cache import content_keys
from mia_lightning.audit.isolation import isolated
from mia_lightning.audit.loading import Side, Source
from mia_lightning.audit.unreadable import Unreadable, read_sample
from mia_lightning.data.records import name_some
from mia_lightning.result.remarks import counted

Loaders = tuple[DataLoader[Any], DataLoader[Any]]


def without_copies(suspects: Source, reference: Source, auditor: Auditor) -> tuple[Loaders, tuple[dict[str, str], ...]]:
    """Look through both sides, with the adapter and the settings of an auditor, for pairs that occur more than once.

    Returns:
        Loaders of both sides with each pair once, at its place in the data set; and what was left out, as
        :attr:`AuditContext.excluded` has it.

    Raises:
        TypeError: If a side cannot be read by position.
        ValueError: If a side is empty, or a pair is on both sides.
    """
    names: list[dict[bytes, str]] = []
    loaders: list[DataLoader[Any]] = []
    copies: list[dict[str, str]] = []
    with isolated(None, suspects, reference):
        for name, source in (("member", suspects), ("nonmember", reference)):
            size, workers = auditor.config.batch_size, auditor.config.num_workers
            side = Side(name, source, max_samples=None, batch_size=size, num_workers=workers, seed=0)
            if side.indices is None:
                raise TypeError(
                    f"Expected data sets that can be read by position, so that copies are found, but got "
                    f"{type(source).__name__}. Pass a list of the samples or a torch.utils.data.Dataset with a length."
                )
            first: dict[bytes, str] = {}
            kept = []
            for index in side.indices:
                item = read_sample(side.dataset, index)
                if item is None or isinstance(item, Unreadable):
                    kept.append(index)  # the audit leaves it out and names it
                    continue
                batch = auditor.adapter.unpack(side.batch_of([item]))
                key, id = content_keys("", batch.input, batch.target)[0], side.names(batch.id, [index])[0]
                if key in first:
                    # The same image twice is one observation: counted twice, it would overstate the certainty.
                    copies.append({"id": id, "side": name, "reason": f"a copy of {first[key]!r}, which counts"})
                else:
                    first[key] = id
                    kept.append(index)
            names.append(first)
            # A sampler and not a Subset: images without an id are named by their place in the data set.
            loaders.append(
                DataLoader(
                    side.dataset,
                    batch_size=side.batch_size,
                    sampler=SubsetRandomSampler(kept),
                    num_workers=side.num_workers,
                    collate_fn=side.collate,
                    **side.workers,
                )
            )
    if shared := names[0].keys() & names[1].keys():
        pairs = [f"{names[0][key]} = {names[1][key]}" for key in shared]
        raise ValueError(
            f"The reference holds {counted(len(shared), 'suspect')} as well, with the same content (suspect = "
            f"reference): {name_some(pairs)}. The reference must not have been trained on: remove them from one side."
        )
    return (loaders[0], loaders[1]), tuple(copies)
