"""Names of the classes of an audit: those of the settings, else those of the data module or the model, else numbers."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mia_lightning.audit.config import AuditConfig
from mia_lightning.registry import Task

_BACKGROUND = "background"


def names_in(*owners: Any) -> tuple[str, ...] | None:
    """The ``class_names`` of the first that has some; what is no list of different texts is passed over.

    So is a property that cannot be read yet: nobody may have asked for names.
    """
    for owner in owners:
        names = None
        with suppress(Exception):
            names = getattr(owner, "class_names", None)
        if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
            continue
        if all(name.strip() for name in names) and len(set(names)) == len(names):
            return tuple(names)
    return None


def named_classes(
    config: AuditConfig, task: Task, count: int, of_data: Sequence[str] | None = None
) -> tuple[list[str], str]:
    """Name each of an audit's classes, by their numbers where nothing else is known, and say by what; empty: by these.

    Args:
        config: The settings, whose ``class_names`` come first.
        task: The task.
        count: Number of classes. Of two classes of a segmentation one name is that of the foreground.
        of_data: What the data module or the model calls them; passed over where it does not fit.

    Raises:
        ValueError: If the setting has another number of names.

    Example:
        >>> named_classes(AuditConfig(class_names=["cell"]), "segmentation", 2)[0]
        ['background', 'cell']
    """
    if config.class_names is not None:
        names = _fitting(config.class_names, task, count)
        if names is None:
            what = "channels" if task == "multilabel" else "classes"
            raise ValueError(
                f"class_names has {len(config.class_names)} names, but the model's first prediction has {count} "
                f"{what}: name each, in the order of their numbers, or leave the setting out."
            )
        return names, "class_names"
    names = None if of_data is None else _fitting(of_data, task, count)
    if names is not None:
        return names, "class_names of the data module or the model"
    return [str(number) for number in range(count)], ""


def _fitting(names: Sequence[str], task: Task, count: int) -> list[str] | None:
    if len(names) == count:
        return list(names)
    if (len(names), count, task) == (1, 2, "segmentation") and names[0] != _BACKGROUND:
        return [_BACKGROUND, names[0]]
    return None
