"""Pictures of single samples, kept beside an audit so that a report can show them without model or data."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mia_lightning.result.atomic_files import write_atomically
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import stem, write_groups

Group = Literal["most exposed", "least exposed", "member-like"]
"""Members with the highest primary score, members with the lowest, nonmembers with the highest."""

GROUPS: tuple[Group, ...] = get_args(Group)
PARTS = ("input", "target", "output", "error")
_FORMAT = 1
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    """One sample to look at: its row in the result, why it is shown, and an encoded image for each of :data:`PARTS`."""

    row: int
    group: Group
    parts: dict[str, bytes]

    def data_uri(self, part: str) -> str:
        """An image as text that a page can hold; a ValueError where its bytes are neither PNG nor JPEG."""
        content = self.parts[part]
        for signature, kind in _SIGNATURES.items():
            if content.startswith(signature):
                return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
        raise ValueError(f"Expected a PNG or JPEG image, but the {part} of row {self.row} begins with {content[:8]!r}.")


def chosen_rows(result: AuditResult, each: int) -> list[tuple[int, Group]]:
    """Choose the samples that are worth a look, at most so many a group: their rows, with their groups.

    A member is shown once, though both ends of a small set are the same.
    """
    if each < 1 or not result.ids:
        return []
    members = int(result.member.sum())
    most = result.top_indices(each)
    least = result.top_indices(min(each, members - len(most)), lowest=True)
    alike = result.top_indices(each, member=False)
    return [(row, group) for rows, group in zip((most, least, alike), GROUPS, strict=True) for row in rows]


def write_pictures(pictures: Sequence[Picture], result: AuditResult, folder: str | Path) -> Path:
    """Keep the pictures of a run's latest audit in its audit folder, in place of those of an earlier one.

    Returns:
        Path of the file, ``audit-pictures.json`` for the prefix ``audit``.
    """
    rows = []
    for p in pictures:
        parts = {name: base64.b64encode(image).decode("ascii") for name, image in p.parts.items()}
        rows.append({"row": p.row, "id": result.ids[p.row], "group": p.group, "parts": parts})
    content = {"format": _FORMAT, "epoch": result.epoch, "step": result.meta.get("step"), "pictures": rows}
    return write_atomically(pictures_path(folder, result.prefix), json.dumps(content, allow_nan=False))


def write_result(result: AuditResult, folder: str | Path, pictures: Sequence[Picture] | None = None) -> None:
    """Write an audit that stands alone: result.json, samples.csv and, where there are groups, groups.csv.

    And its pictures; None leaves these out.
    """
    result.to_json(Path(folder) / "result.json")
    result.to_csv(Path(folder) / "samples.csv")
    write_groups([result], folder)
    if pictures is not None:
        write_pictures(pictures, result, folder)


def read_pictures(result: AuditResult, folder: str | Path) -> list[Picture]:
    """Read the pictures of an audit from the run's audit folder; none where it holds none, or those of another audit.

    Raises:
        ValueError: If the file is broken.
    """
    path = pictures_path(folder, result.prefix)
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}, expected {_FORMAT}")  # noqa: TRY301 - one message for all
        if (content["epoch"], content["step"]) != (result.epoch, result.meta.get("step")):
            return []
        return [_picture(entry, result) for entry in content["pictures"]]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"{path} does not hold pictures of an audit: {error}") from error


def _picture(entry: dict[str, object], result: AuditResult) -> Picture:
    row, parts = entry["row"], entry["parts"]
    if not isinstance(row, int) or isinstance(row, bool) or row < 0 or result.ids[row] != entry["id"]:
        raise ValueError(f"row {row!r} is not that of {entry['id']!r}")
    group = next((group for group in GROUPS if group == entry["group"]), None)
    if group is None:
        raise ValueError(f"unknown group {entry['group']!r}")
    if not isinstance(parts, dict) or not set(parts) <= set(PARTS):
        raise ValueError(f"unknown parts of row {row}")
    picture = Picture(row, group, {name: base64.b64decode(text, validate=True) for name, text in parts.items()})
    for name, content in picture.parts.items():
        if not content.startswith(tuple(_SIGNATURES)):
            raise ValueError(f"the {name} of row {row} is neither PNG nor JPEG: it begins with {content[:8]!r}")
    return picture


def pictures_path(folder: str | Path, prefix: str) -> Path:
    """Where the pictures of an audit are kept."""
    return Path(folder) / f"{stem(prefix)}-pictures.json"
