"""The data module of a task and a preset; and how many classes masks have, where neither says it."""

from pathlib import Path
from typing import Any

import numpy as np

from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.paired import PairedImageDataModule
from mia_lightning.data.presets.preset import MODULES, Preset, Task
from mia_lightning.data.readers import MaskReader
from mia_lightning.data.segmentation import SegmentationDataModule
from mia_lightning.functional.suggestions import suggestion

_MODULES: dict[Task, type[AuditableDataModule]] = {
    "segmentation": SegmentationDataModule,
    "translation": PairedImageDataModule,
}
_VOID = 255


def module_of_task(root: Path, preset: Preset, task: Task, passed: dict[str, Any]) -> AuditableDataModule:
    """Make the data module of a task for a preset.

    Args:
        root: Folder of the data.
        preset: The preset.
        task: The task.
        passed: Arguments that go before the preset's.

    Raises:
        ValueError: If the data module has no such argument, or one is outside its range.
    """
    cls: Any = _MODULES[task]
    names = [*cls.__init__.__annotations__]
    if unknown := sorted(passed.keys() - set(names)):
        raise ValueError(
            f"{MODULES[task]} has no argument {unknown[0]!r}{suggestion(unknown[0], names)}: it is for another task "
            "(--task)"
        )
    module: AuditableDataModule = cls(root, preset=preset.name, **passed)
    return module


def settings_by_files(
    root: Path, preset: Preset, task: Task, passed: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Add the number of classes where neither the preset nor an argument says it, by what masks hold.

    Returns:
        The arguments, and what was decided, in sentences.
    """
    layout = preset.layout_in(root, task)
    settled = preset.classes or (layout and layout.classes) or passed.get("num_classes") is not None
    if task != "segmentation" or settled:
        return passed, []
    module = SegmentationDataModule(root, 256, preset=preset.name, **passed)
    ids: set[int] = set()
    reader = MaskReader(256, palette=passed.get("palette"))
    for record in module.found_files().records:
        for path in record.target_paths:
            try:
                ids |= set(np.unique(reader(path)).tolist())
            except (OSError, ValueError):
                continue  # the check names it
    if ids <= {0, _VOID} and "foreground" not in passed and "threshold" not in passed:
        note = "num_classes=2 and foreground=255, since masks hold 0 and 255."
        return passed | {"num_classes": 2, "foreground": _VOID}, [note]
    count = max(2, max(ids - {passed.get("ignore_index", _VOID)}, default=0) + 1)
    return passed | {"num_classes": count}, [f"num_classes={count}, by the highest id that masks hold."]
