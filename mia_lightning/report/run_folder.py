"""Where the audits of a run lie on disk; without anything heavy, since a wrong folder is noticed before all else."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXPECTED = (
    "Expected a run's folder as runs/NAME/version_0, its audit folder, the output folder of 'mia-lightning audit', or "
    "the result.json in it."
)


def require_run(path: str | Path) -> Path:
    """Return the path of a run, of any kind that :data:`EXPECTED` names.

    Raises:
        FileNotFoundError: If there is nothing.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no {path}. {EXPECTED}")
    return Path(path)


def name_of_audited(meta: Mapping[str, Any]) -> str | None:
    """What an audit of something trained already was of, by its result's meta: a checkpoint of a run, a file, a folder.

    Example:
        >>> name_of_audited({"checkpoint": "runs/facades/version_0/checkpoints/epoch=19-step=1200.ckpt"})
        'facades/version_0/epoch=19-step=1200'
        >>> name_of_audited({"checkpoint": "model.onnx"}), name_of_audited({"outputs": "made/outputs_a"})
        ('model', 'outputs_a')
    """
    source = meta.get("outputs") or meta.get("checkpoint")
    if not isinstance(source, str):
        return None
    path = Path(source).absolute() if meta.get("outputs") else Path(source)
    if path.parent.name != "checkpoints":
        return path.stem if meta.get("checkpoint") and not meta.get("outputs") else path.name
    run = path.absolute().parent.parent
    name = f"{run.parent.name}/{run.name}" if re.fullmatch(r"version_\d+", run.name) else run.name
    return f"{name}/{path.stem}"


def folder_for(root: str | Path, file: str, meta: Mapping[str, Any]) -> Path:
    """Where results go that nobody has named a folder for: never over those of something else.

    Args:
        root: The usual folder.
        file: Name of the file that holds results in it, such as ``result.json``.
        meta: What the new results are of: entries that the file's own ``meta`` has where both are of the same.

    Returns:
        The usual folder where it holds no results, or those of the same; else one beside it, named after what the new
        ones are of.
    """
    root, known = Path(root), {name: value for name, value in meta.items() if value is not None}
    slug = re.sub(r"[^\w.=-]+", "-", name_of_audited(known) or "other").strip("-.")
    beside = (root.with_name(f"{root.name}-{slug}" + (f"-{n}" if n > 1 else "")) for n in range(1, 1000))
    for folder in (root, *beside):
        if not (folder / file).exists() or _is_of(folder / file, known):
            return folder
    raise FileExistsError(f"{root} and the folders beside it hold results of other audits: name one with --output_dir.")


def _is_of(file: Path, meta: Mapping[str, Any]) -> bool:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["meta"]
        return all(found.get(name) == value for name, value in meta.items())
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return False
