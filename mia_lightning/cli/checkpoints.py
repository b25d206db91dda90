"""Loading trained weights: nothing is unpickled, and a checkpoint of another model is told apart at once."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from mia_lightning.results.history import read_audits
from mia_lightning.results.result import AuditResult


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint without running anything that it holds.

    Args:
        path: Lightning checkpoint.

    Returns:
        Its content, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file; names the checkpoints beside it.
        ValueError: If the file is no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob("*.ckpt"))[:5] if path.parent.is_dir() else []
        hint = f"Checkpoints there: {', '.join(near)}." if near else "There is no checkpoint in that folder."
        raise FileNotFoundError(f"The checkpoint {path} does not exist. {hint}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds a {refused[1]}" if refused else str(error).splitlines()[0]
        raise ValueError(
            f"{path} cannot be read as a checkpoint of weights and plain values: {what}. Files that hold other Python "
            "objects are refused, since reading them can run code."
        ) from error
    if not isinstance(checkpoint, dict) or checkpoint.get("state_dict") is None:
        raise ValueError(f"{path} is not a Lightning checkpoint: it holds no state_dict.")
    return checkpoint


def load_weights(model: LightningModule, path: str | Path, checkpoint: dict[str, Any] | None = None) -> dict[str, Any]:
    """Load a checkpoint's weights into a model.

    Args:
        model: The model, built with the settings that it was trained with.
        path: Lightning checkpoint.
        checkpoint: Its content, where :func:`read_checkpoint` has read it already.

    Returns:
        What the checkpoint tells of its training: ``checkpoint``, ``epoch``, ``step``, and ``monitors``: the metrics
        that callbacks selected by, those of the training aside.

    Raises:
        FileNotFoundError: As :func:`read_checkpoint`.
        ValueError: If the file is no checkpoint, or one of another model.
    """
    checkpoint = read_checkpoint(path) if checkpoint is None else checkpoint
    state = checkpoint["state_dict"]
    _compare(model, state, Path(path), checkpoint.get("hyper_parameters", {}))
    model.load_state_dict(state)
    # Lightning names a callback's entry after its settings: ModelCheckpoint{'monitor': 'val/loss', ...}.
    monitors = [m for key in checkpoint.get("callbacks", {}) for m in re.findall(r"'monitor': '([^']+)'", key)]
    return {
        "checkpoint": str(path),
        "epoch": checkpoint.get("epoch"),
        "step": checkpoint.get("global_step"),
        "monitors": [m for m in monitors if not m.startswith("train")],
    }


def earlier_audits(checkpoint: dict[str, Any], key: str, folder: Path, prefix: str = "audit") -> list[AuditResult]:
    """The audits of a training up to a checkpoint: those that it keeps, else those in the run's audit folder.

    Args:
        checkpoint: Content of the checkpoint.
        key: Name of the audit's entry in it.
        folder: Audit folder of the run that made it; need not exist.
        prefix: Prefix of the audit.

    Returns:
        Audits in order; none where neither place has any. A broken entry or file is left out with a warning.
    """
    history: list[AuditResult] = []
    try:
        history = [AuditResult.from_plain(r) for r in checkpoint.get("callbacks", {}).get(key, {}).get("history", [])]
    except (AttributeError, TypeError, ValueError) as error:
        warnings.warn(f"The audits that the checkpoint keeps cannot be read: {error}", stacklevel=2)
    if not history and folder.is_dir():
        history = read_audits(folder, prefix)
    step = checkpoint.get("global_step")
    trained = [r for r in history if r.epoch is not None]
    return [r for r in trained if step is None or r.meta.get("step", 0) <= step]


def _compare(model: LightningModule, state: dict[str, Any], path: Path, trained_with: dict[str, Any]) -> None:
    own = model.state_dict()
    missing = [k for k in own if k not in state]
    unexpected = [k for k in state if k not in own]
    reshaped = [k for k in own if k in state and own[k].shape != state[k].shape]
    if not (missing or unexpected or reshaped):
        return
    counts = {"missing": missing, "not of this model": unexpected, "of another shape": reshaped}
    found = "; ".join(f"{len(keys)} {what} (first {keys[0]})" for what, keys in counts.items() if keys)
    settings = dict(getattr(model, "hparams", {}))
    differ = [f"{k}={v!r} (now {settings[k]!r})" for k, v in trained_with.items() if k in settings and settings[k] != v]
    hint = f" It was trained with {', '.join(differ)}." if differ else ""
    raise ValueError(f"{path} is a checkpoint of another model than {type(model).__name__}: tensors {found}.{hint}")
