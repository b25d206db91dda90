"""Which file holds trained weights, decided without reading them and, where it is missing, without importing torch."""

import zipfile
from pathlib import Path

_SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")
OTHER = "Name another with --ckpt_path."
_KINDS = {"torchscript": "TorchScript", "torch_export": "torch.export", "onnx": "ONNX"}


def require_checkpoint_file(path: str | Path) -> Path:
    """Check that a file may hold weights, and return its path.

    Raises:
        FileNotFoundError: If there is no such file; names the checkpoints beside it.
        ValueError: If it is a folder, empty, or an exported model.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"The checkpoint {path} is a folder. {_checkpoints_in(path)} {OTHER}")
    if not path.is_file():
        raise FileNotFoundError(no_such_checkpoint(path))
    if path.stat().st_size == 0:
        raise ValueError(f"{path} cannot be read as a checkpoint: it is empty, as if cut off while written. {OTHER}")
    if (kind := exported_kind(path)) is not None:
        raise ValueError(
            f"{path} is a {_KINDS[kind]} file: a network with its weights, not a checkpoint. Audit it with --model "
            f"ExportedModel --model.path {path}, and leave out --ckpt_path."
        )
    return path


def no_such_checkpoint(path: Path) -> str:
    """Say that a checkpoint does not exist, and name those beside it."""
    return f"The checkpoint {path} does not exist. {_checkpoints_in(path.parent)}"


def _checkpoints_in(folder: Path) -> str:
    beside = sorted(folder.glob("*")) if folder.is_dir() else []
    near = [p for p in beside if p.suffix in _SUFFIXES and not _is_network(p)]
    return f"Checkpoints there: {', '.join(map(str, near[:5]))}." if near else "There is no checkpoint in that folder."


def exported_kind(path: Path) -> str | None:
    """Kind of an exported model, such as ``"onnx"``; None where the file is none."""
    from mia_lightning.exported import kind_of  # imports torch

    try:
        return kind_of(path)
    except (OSError, ValueError):
        return None


def _is_network(path: Path) -> bool:
    """Whether an archive holds a program beside weights, by the names in it: :func:`exported_kind` imports torch."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name or name.endswith("/archive_format") for name in archive.namelist())
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return False
