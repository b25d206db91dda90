"""An audit that failed while the training went on: when, and why; in memory, in checkpoints and as a file."""

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from mia_lightning.result.atomic_files import write_atomically
from mia_lightning.result.history import stem

FAILED = "failed"
"""Key, behind the prefix, that is 1 where the latest audit failed; logged from the first failure on."""

_FORMAT = 1
_ENDING = ".failed.json"


@dataclass(frozen=True)
class FailedAudit:
    """One audit without a result.

    Attributes:
        reason: What was raised, with its type, as the warning says it.
        epoch: Epoch of the audit, counted from 0; None where there was no training.
        step: Steps of the training by then, as ``meta["step"]`` of audits.
        prefix: First part of the audit's metric keys.

    Example:
        >>> FailedAudit("OSError: no space left on device", epoch=2, step=90).sentence
        'The audit after epoch 3 failed: OSError: no space left on device'
    """

    reason: str
    epoch: int | None = None
    step: int = 0
    prefix: str = "audit"

    @property
    def sentence(self) -> str:
        """What happened, for a reader of a report."""
        age = f"after epoch {self.epoch + 1}" if self.epoch is not None else f"after step {self.step}"
        return f"The audit {age} failed: {self.reason.rstrip('.')}"

    def to_plain(self) -> dict[str, Any]:
        """Plain Python values."""
        return {"failed_audit": _FORMAT, **asdict(self)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Rebuild a record from :meth:`to_plain` or from parsed JSON; ValueError if it is none."""
        if not isinstance(plain, dict) or plain.get("failed_audit") != _FORMAT:
            raise ValueError(f"Expected the record of a failed audit, of format {_FORMAT}, but found another file.")
        epoch = plain.get("epoch")
        return cls(
            str(plain.get("reason", "no reason is recorded")),
            None if epoch is None else int(epoch),
            int(plain.get("step") or 0),
            str(plain.get("prefix", "audit")),
        )


def write_failure(failure: FailedAudit, folder: str | Path) -> Path:
    """Write the record beside the audits of a run; return its path, as ``audit-epoch=0003-step=00000240.failed.json``.

    Readers of audits pass it over.
    """
    epoch = "" if failure.epoch is None else f"epoch={failure.epoch:04d}-"
    path = Path(folder) / f"{stem(failure.prefix)}-{epoch}step={failure.step:08d}{_ENDING}"
    return write_atomically(path, json.dumps(failure.to_plain(), indent=1))


def read_failures(folder: str | Path, prefix: str = "audit") -> list[FailedAudit]:
    """Read the failed audits of a run, in order; none where there is no such folder.

    Left out are records beside an audit of the same step, which was repeated with success, and broken files, of which
    a warning tells.
    """
    pattern = re.compile(rf"{re.escape(stem(prefix))}-(?:epoch=\d+-)?step=\d+{re.escape(_ENDING)}")
    failures = []
    for path in Path(folder).iterdir() if Path(folder).is_dir() else ():
        if not pattern.fullmatch(path.name) or path.with_name(path.name.removesuffix(_ENDING) + ".json").is_file():
            continue
        try:
            failures.append(FailedAudit.from_plain(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            warnings.warn(f"A record of a failed audit cannot be read, {path}: {error}", stacklevel=2)
    return in_order(failures)


def in_order(failures: Sequence[FailedAudit]) -> list[FailedAudit]:
    """Sort records by epoch and step, those outside of a training last."""
    return sorted(failures, key=lambda f: (f.epoch is None, f.epoch or 0, f.step))
