"""Keywords of the functions for stored outputs: settings of the files and of the audit."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

from mia_lightning.audit.config import AuditOptions
from mia_lightning.data.output_layout import OutputFiles, OutputKind


class OutputOptions(AuditOptions, total=False):
    """The fields of :class:`~mia_lightning.AuditConfig` and :class:`~mia_lightning.data.output_layout.OutputFiles`."""

    inputs_dir: str
    targets_dir: str
    outputs_dir: str
    kind: OutputKind | None
    foreground: int | None


def split_options(options: OutputOptions) -> tuple[OutputFiles, AuditOptions]:
    """Tell the settings of the files from those of the audit."""
    names = {f.name for f in fields(OutputFiles)}
    plain = cast(dict[str, Any], options)
    files = OutputFiles(**{name: value for name, value in plain.items() if name in names})
    return files, cast(AuditOptions, {name: value for name, value in plain.items() if name not in names})
