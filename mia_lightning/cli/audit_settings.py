"""Options of a command that are settings of an audit: names, types, defaults and help are those of ``AuditConfig``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field, fields, make_dataclass
from typing import Any

from jsonargparse import ArgumentParser

from mia_lightning.audit import config
from mia_lightning.audit.config import AuditConfig


def add_settings(parser: ArgumentParser, names: Collection[str], **defaults: Any) -> None:
    """Add some fields of :class:`~mia_lightning.AuditConfig` as options.

    Args:
        parser: The command's parser.
        names: The fields.
        **defaults: Defaults that differ from those of the class.
    """
    # The parser would resolve the types of all fields of the class, and some of them take seconds to import.
    chosen = [f for f in fields(AuditConfig) if f.name in names]
    named = dict(vars(config))
    if "scorer" in names:  # what type checkers alone import there
        from mia_lightning.audit.protocols import Scorer
        from mia_lightning.features import PredictabilityScorer

        named |= {"Scorer": Scorer, "PredictabilityScorer": PredictabilityScorer}
    types = {f.name: eval(str(f.type), named) for f in chosen}  # noqa: S307 - annotations of this package
    settings = make_dataclass(
        "Settings", [(f.name, types[f.name], field(default=defaults.get(f.name, f.default))) for f in chosen]
    )
    settings.__doc__ = AuditConfig.__doc__
    parser.add_class_arguments(settings, as_group=False)
