"""The summary of a training's members in exported models: ONNX, TorchScript and ``torch.export`` files."""

import json
import zipfile
from pathlib import Path
from typing import Any

from mia_lightning.exported import kind_of
from mia_lightning.exported.onnx import metadata_of
from mia_lightning.exported.program import records_of
from mia_lightning.membership.record import MembershipSummary

_NAME = "mia_lightning.membership"
_ONNX_METADATA = 14  # the field metadata_props of a ModelProto
_LARGEST = 2**20  # bytes; a summary has some hundreds


def add_entry(path: str | Path, summary: MembershipSummary) -> None:
    """Write into an exported model what a checkpoint says of its members; the model stays as it is.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no exported model, or says something of its members already.
    """
    path, text = Path(path), json.dumps(summary.to_plain())
    if read_entry(path) is not None:
        raise ValueError(f"{path} names the training that its members are of already: export the model anew.")
    if kind_of(path) == "onnx":
        # A field at the end of a message joins those of its kind.
        entry = _field(1, _NAME.encode()) + _field(2, text.encode())
        with path.open("ab") as file:
            file.write(_field(_ONNX_METADATA, entry))
        return
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        root, _ = records_of(archive)
        archive.writestr(f"{root}extra/{_NAME}", text)


def read_entry(path: Path) -> Any:
    """What :func:`add_entry` wrote, as plain values; None where there is nothing, or no exported model."""
    try:
        if kind_of(path) == "onnx":
            return json.loads(metadata_of(path).get(_NAME, "null"))
        with zipfile.ZipFile(path) as archive:
            root, _ = records_of(archive)
            name = f"{root}extra/{_NAME}"
            if name not in archive.namelist() or archive.getinfo(name).file_size > _LARGEST:
                return None
            return json.loads(archive.read(name))
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return None


def _field(number: int, content: bytes) -> bytes:
    """One field of a protocol buffer, with its length before it."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
