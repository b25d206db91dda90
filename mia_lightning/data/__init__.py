"""Lightning data modules that assign and record membership: paired images, segmentation and a download-free demo.

Every module offers ``audit_dataloaders()`` (members, nonmembers, both under evaluation transforms) and
``audit_info()`` (how membership was assigned, as plain values that go into the result).
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mia_lightning.data.demo import DemoDataModule
    from mia_lightning.data.paired import PairedImageDataModule
    from mia_lightning.data.segmentation import SegmentationDataModule

_HOMES = {"PairedImageDataModule": "paired", "SegmentationDataModule": "segmentation", "DemoDataModule": "demo"}

__all__ = ["PairedImageDataModule", "SegmentationDataModule", "DemoDataModule"]


def __getattr__(name: str) -> object:
    """Import a data module from its file on first use (PEP 562): Lightning takes seconds to import."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names are {sorted(_HOMES)}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
