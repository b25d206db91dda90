"""The audits of one run with their pictures and configuration, as read from its folder."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mia_lightning.report.run_folder import EXPECTED, name_of_audited, require_run
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.context import step_name
from mia_lightning.result.failed_audit import FailedAudit, read_failures
from mia_lightning.result.history import course, in_training, read_audits, stem
from mia_lightning.result.picture_files import Picture, read_pictures

RESULT = "result.json"
_AUDIT_FILE = re.compile(r"(?P<stem>.+?)-(?:epoch=\d+-)?step=\d+\.json")
_BEGINNING = 64  # characters
_USUAL = re.compile(r"audit(-|$)")
_NUMBERED = re.compile(r"version_\d+")


@dataclass(frozen=True)
class Run:
    """The audits of one run.

    Attributes:
        name: What to call it: its folder's name.
        folder: Folder that the audits are in, and that reports go to by default.
        history: Audits in order, at least one; an audit of trained weights is a history of one.
        pictures: Pictures of samples of the audit that is reported on.
        config: Text of the run's ``config.yaml``; None where there is none.
        failures: Audits that failed while the training went on, in order.
        auditor: Who audited, in the words of the person who writes the report; empty where nobody is named.
    """

    name: str
    folder: Path
    history: Sequence[AuditResult]
    pictures: Sequence[Picture] = ()
    config: str | None = None
    failures: Sequence[FailedAudit] = ()
    auditor: str = ""

    def __post_init__(self) -> None:
        if not self.history:
            raise ValueError(f"Expected at least one audit to report on, but the run {self.name!r} has none.")

    @property
    def result(self) -> AuditResult:
        """The audit that is reported on: the last of the training, where there was one, else the last."""
        return self.course[-1]

    @property
    def course(self) -> Sequence[AuditResult]:
        """The audits of the training, where there was one, else all."""
        return course(self.history)

    @property
    def aside(self) -> Sequence[AuditResult]:
        """The audits outside of the training that are not reported on; none where there was no training."""
        return [r for r in self.history if not in_training(r)] if in_training(self.result) else []


def read_run(path: str | Path, prefix: str | None = None) -> Run:
    """Read the audits of a run, also where it was killed.

    Args:
        path: The run's folder, its audit folder, the output folder of ``mia-lightning audit``, or a result's file.
        prefix: Which audit, where several lie side by side; the only one there is by default.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If there is no audit in it, no readable one, or several to choose from.
    """
    path = require_run(path)
    if path.is_file():
        return _run_in(path.parent, [AuditResult.from_json(path)])
    above = (path / "audit").is_dir() and not (path / RESULT).is_file() and not _prefixes(path)
    folder = path / "audit" if above else path
    prefixes = _prefixes(folder)
    if not prefixes and (folder / RESULT).is_file():
        return _single(folder, prefix)
    # If no file can be read, they are broken audits, which is reported below.
    prefixes = prefixes or sorted(_audit_files(folder))
    if not prefixes and (failures := _failures(folder)):
        raise ValueError(f"{folder} holds no audit that succeeded. {failures}")
    if not prefixes:
        inside = sorted(p.parent for p in folder.glob("*/audit") if p.is_dir())
        hint = f" There are {', '.join(map(str, inside[:8]))} in it." if inside else ""
        raise ValueError(f"{path} holds no audit. {EXPECTED}{hint}")
    if prefix is None and len(prefixes) > 1:
        raise ValueError(f"{folder} holds audits of several prefixes, {', '.join(prefixes)}: choose one with --prefix.")
    chosen = prefixes[0] if prefix is None else stem(prefix)
    if chosen not in prefixes:
        raise ValueError(
            f"{folder} holds no audits of the prefix {prefix!r}; those there are of {', '.join(prefixes)}."
        )
    history = read_audits(folder, chosen)
    if not history:
        raise ValueError(
            f"None of the audits of the prefix {chosen!r} in {folder} can be read: their files are broken."
        )
    return _run_in(folder, history)


def run_of(history: Sequence[AuditResult], folder: str | Path) -> Run:
    """Make a run of audits in memory, in order, at least one; pictures and configuration are read in their folder."""
    return _run_in(Path(folder), history)


def when(result: AuditResult) -> str:
    """Say at what age of the model an audit was made, as ``after epoch 20``; empty where none is recorded."""
    if result.epoch is not None:
        return f"after epoch {result.epoch + 1}"
    step = result.meta.get("step")
    return f"after {step_name(step, result.meta.get('global_step'))}" if step else ""


def _single(folder: Path, prefix: str | None) -> Run:
    """The output of an audit of trained weights; of several audits the first is in the folder, the others below."""
    result = AuditResult.from_json(folder / RESULT)
    if prefix is None or result.prefix == prefix:
        return _run_in(folder, [result])
    below = folder / stem(prefix)
    if not (below / RESULT).is_file():
        raise ValueError(f"{folder} holds an audit of the prefix {result.prefix!r}, and none of {prefix!r}.")
    return _run_in(below, [AuditResult.from_json(below / RESULT)])


def _run_in(folder: Path, history: Sequence[AuditResult]) -> Run:
    place = folder.absolute()
    place = place.parent if place.name == "audit" else place
    name = f"{place.parent.name}/{place.name}" if _NUMBERED.fullmatch(place.name) else place.name
    trained_already = (
        bool(history) and history[-1].meta.get("stage") == "audit" and not (place / "hparams.yaml").is_file()
    )
    if trained_already and _USUAL.match(folder.name):
        name = name_of_audited(history[-1].meta) or name  # the folder says nothing of what was audited
    try:
        pictures = read_pictures(course(history)[-1], folder) if history else []
    except ValueError as error:
        warnings.warn(f"The report goes on without pictures: {error}", stacklevel=3)
        pictures = []
    config = place / "config.yaml"
    # Beside an audit folder that is in no run's folder, a file of that name may be about anything.
    ours = config.is_file() and (place / "hparams.yaml").is_file()
    text = config.read_text(encoding="utf-8", errors="replace") if ours else None
    return Run(name, folder, history, pictures, text, read_failures(folder, history[-1].prefix) if history else ())


def _prefixes(folder: Path) -> list[str]:
    """First parts of the names of the audit files in a folder."""
    return sorted(name for name, files in _audit_files(folder).items() if any(map(_is_audit, files)))


def _audit_files(folder: Path) -> dict[str, list[Path]]:
    """Files that are named as audits are, by the first part of their names."""
    files: dict[str, list[Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := _AUDIT_FILE.fullmatch(path.name):
            files.setdefault(match["stem"], []).append(path)
    return files


def _failures(folder: Path) -> str:
    """What the audits of a folder failed of, the first three; empty where none did."""
    stems = {path.name.partition("-epoch=")[0].partition("-step=")[0] for path in folder.glob("*.failed.json")}
    return " ".join(f"{failure.sentence}." for name in sorted(stems) for failure in read_failures(folder, name)[:3])


def _is_audit(path: Path) -> bool:
    """Whether a file is an audit, and not only named like one; of those that we wrote the beginning is enough."""
    try:
        with path.open(encoding="utf-8") as file:
            if file.read(_BEGINNING).startswith('{\n"format": '):
                return True
        AuditResult.from_json(path)
    except (OSError, ValueError):
        return False
    return True
