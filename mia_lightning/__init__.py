"""Train and audit image-to-image and segmentation models: what have they memorised, and can it be shown?

Public names resolve on first use, so that ``import mia_lightning`` costs little more than Python itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mia_lightning.version import __version__

if TYPE_CHECKING:
    from mia_lightning.attacks.reference_training import train_references
    from mia_lightning.audit.adapters import AutoAdapter
    from mia_lightning.audit.auditor import Auditor
    from mia_lightning.audit.config import AuditConfig
    from mia_lightning.audit.sliding_window import MonaiSlidingWindow
    from mia_lightning.callbacks.membership_audit import MembershipAudit
    from mia_lightning.data.demo import DemoDataModule
    from mia_lightning.data.paired import PairedImageDataModule
    from mia_lightning.data.segmentation import SegmentationDataModule
    from mia_lightning.evidence.evidence_record import Evidence
    from mia_lightning.evidence.from_checkpoint import weigh_checkpoint
    from mia_lightning.evidence.from_model import weigh_evidence
    from mia_lightning.evidence.from_outputs import weigh_outputs
    from mia_lightning.features import PredictabilityScorer
    from mia_lightning.functional.batches import Batch
    from mia_lightning.models.exported import ExportedModel
    from mia_lightning.models.pix2pix import Pix2Pix
    from mia_lightning.models.pix2pix_hd import Pix2PixHD
    from mia_lightning.models.spade import SPADE
    from mia_lightning.models.unet_segmenter import UNetSegmenter
    from mia_lightning.posthoc.audit_checkpoint import audit_checkpoint
    from mia_lightning.posthoc.export_checkpoint import export_checkpoint
    from mia_lightning.registry import register_error, register_metric, register_score
    from mia_lightning.result.audit_result import AuditResult
    from mia_lightning.result.context import AuditContext
    from mia_lightning.sinks.base import AuditSink
    from mia_lightning.stored.outputs_audit import audit_outputs

_HOMES = {
    "MembershipAudit": "callbacks.membership_audit",
    "Auditor": "audit.auditor",
    "AuditConfig": "audit.config",
    "AutoAdapter": "audit.adapters",
    "MonaiSlidingWindow": "audit.sliding_window",
    "Batch": "functional.batches",
    "AuditResult": "result.audit_result",
    "AuditContext": "result.context",
    "audit_outputs": "stored.outputs_audit",
    "Evidence": "evidence.evidence_record",
    "weigh_checkpoint": "evidence.from_checkpoint",
    "weigh_evidence": "evidence.from_model",
    "weigh_outputs": "evidence.from_outputs",
    "PredictabilityScorer": "features",
    "Pix2Pix": "models.pix2pix",
    "Pix2PixHD": "models.pix2pix_hd",
    "SPADE": "models.spade",
    "UNetSegmenter": "models.unet_segmenter",
    "PairedImageDataModule": "data.paired",
    "SegmentationDataModule": "data.segmentation",
    "DemoDataModule": "data.demo",
    "ExportedModel": "models.exported",
    "audit_checkpoint": "posthoc.audit_checkpoint",
    "export_checkpoint": "posthoc.export_checkpoint",
    "train_references": "attacks.reference_training",
    "register_error": "registry",
    "register_metric": "registry",
    "register_score": "registry",
    "AuditSink": "sinks.base",
}

__all__ = [
    "MembershipAudit",
    "Auditor",
    "AuditConfig",
    "AutoAdapter",
    "MonaiSlidingWindow",
    "Batch",
    "AuditResult",
    "AuditContext",
    "audit_outputs",
    "Evidence",
    "weigh_checkpoint",
    "weigh_evidence",
    "weigh_outputs",
    "PredictabilityScorer",
    "Pix2Pix",
    "Pix2PixHD",
    "SPADE",
    "UNetSegmenter",
    "PairedImageDataModule",
    "SegmentationDataModule",
    "DemoDataModule",
    "ExportedModel",
    "audit_checkpoint",
    "export_checkpoint",
    "train_references",
    "register_error",
    "register_metric",
    "register_score",
    "AuditSink",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names are {sorted(_HOMES)}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the lazy names too, for completion in shells and notebooks."""
    return sorted({*globals(), *_HOMES})
