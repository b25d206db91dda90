"""Loading trained weights: nothing is unpickled, and a checkpoint of another model is told apart at once."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule


def load_weights(model: LightningModule, path: str | Path) -> dict[str, Any]:
    """Load a checkpoint's weights into a model.

    Args:
        model: The model, built with the settings that it was trained with.
        path: Lightning checkpoint.

    Returns:
        What the checkpoint tells of its training: ``checkpoint``, ``epoch``, ``step``, and ``monitors``: the metrics
        that callbacks selected by, those of the training aside.

    Raises:
        FileNotFoundError: If there is no such file; names the checkpoints beside it.
        ValueError: If the file is no checkpoint, or one of another model.
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
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if state is None:
        raise ValueError(f"{path} is not a Lightning checkpoint: it holds no state_dict.")
    _compare(model, state, path, checkpoint.get("hyper_parameters", {}))
    model.load_state_dict(state)
    # Lightning names a callback's entry after its settings: ModelCheckpoint{'monitor': 'val/loss', ...}.
    monitors = [m for key in checkpoint.get("callbacks", {}) for m in re.findall(r"'monitor': '([^']+)'", key)]
    return {
        "checkpoint": str(path),
        "epoch": checkpoint.get("epoch"),
        "step": checkpoint.get("global_step"),
        "monitors": [m for m in monitors if not m.startswith("train")],
    }


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
