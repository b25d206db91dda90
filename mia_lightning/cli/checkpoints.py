"""Loading trained weights: nothing is unpickled, and a checkpoint of another model is told apart at once."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden

from mia_lightning.cli.words import exported_kind, no_such_checkpoint
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.history import read_audits

_NAMES = {"torchscript": "TorchScript", "torch_export": "torch.export", "onnx": "ONNX"}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read trained weights, and what is stored beside them, without running anything that a file holds.

    Args:
        path: Lightning checkpoint; or weights alone: a ``.safetensors`` file, or what ``torch.save`` makes of a dict of
            tensors, by itself or under ``state_dict``, ``model`` or ``model_state_dict``.

    Returns:
        Its content, on the CPU, with the weights under ``state_dict``.

    Raises:
        FileNotFoundError: If there is no such file; names the checkpoints beside it.
        ValueError: If the file is no checkpoint.
    """
    path = require_checkpoint_file(path)
    if path.suffix == ".safetensors":
        return {"state_dict": _read_safetensors(path)}
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file, torch raises what its bytes happen to lead to
        refused = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused is None:
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"{path} cannot be read as a checkpoint: {why}") from error
        raise ValueError(
            f"{path} cannot be read as a checkpoint of weights and plain values: it holds a {refused[1]}. Files that "
            "hold other Python objects are refused, since reading them can run code. Where you trust it, build the "
            "model in the environment that trained it, load the file there, and store the weights alone: "
            "torch.save({'state_dict': model.state_dict()}, 'weights.ckpt')"
        ) from error
    if isinstance(content, dict):
        if _is_state(content):
            return {"state_dict": content}
        for key in ("state_dict", "model", "model_state_dict"):
            if _is_state(content.get(key)):
                return content | {"state_dict": content[key]}
    held = (
        f"a dict with {', '.join(map(repr, list(content)[:5]))}"
        if isinstance(content, dict)
        else type(content).__name__
    )
    raise ValueError(
        f"{path} holds no weights: expected a Lightning checkpoint, or a dict of tensors, by itself or under "
        f"'state_dict', 'model' or 'model_state_dict', but found {held}."
    )


def require_checkpoint_file(path: str | Path) -> Path:
    """Insist that a file may hold weights.

    Raises:
        FileNotFoundError: If there is no such file; names the checkpoints beside it.
        ValueError: If it is an exported model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(no_such_checkpoint(path))
    if (kind := exported_kind(path)) is not None:
        raise ValueError(
            f"{path} is a {_NAMES[kind]} file: a network with its weights, not a checkpoint. Audit it with --model "
            f"ExportedModel --model.path {path}, and leave out --ckpt_path."
        )
    return path


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from error


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(isinstance(v, torch.Tensor) for v in value.values())


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
    if is_overridden("configure_model", model):
        model.configure_model()  # layers that are made only now; a trainer calls it again, which it has to bear
    if "pytorch-lightning_version" in checkpoint:
        model.on_load_checkpoint(checkpoint)  # it may rename or add weights
    state = renamed(checkpoint["state_dict"], model.state_dict())
    trained_with = checkpoint.get("hyper_parameters")
    _compare(model, state, Path(path), trained_with if isinstance(trained_with, dict) else {})
    model.load_state_dict(state, strict=model.strict_loading)
    # Lightning names a callback's entry after its settings: ModelCheckpoint{'monitor': 'val/loss', ...}.
    monitors = [m for key in checkpoint.get("callbacks", {}) for m in re.findall(r"'monitor': '([^']+)'", key)]
    return {
        "checkpoint": str(path),
        "epoch": _last_epoch(checkpoint),
        "step": checkpoint.get("global_step"),
        "monitors": [m for m in monitors if not m.startswith("train")],
    }


def _last_epoch(checkpoint: dict[str, Any]) -> int | None:
    """Number of the epoch that was trained last, from 0."""
    epoch = checkpoint.get("epoch")
    try:
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        ready, completed = int(progress["ready"]), int(progress["completed"])
    except (KeyError, TypeError, ValueError):  # weights alone, or written by something else
        return epoch
    # Saved after an epoch, not in it, as trainer.save_checkpoint does after fit: Lightning has counted on by then.
    return epoch if ready > completed else ready - 1 if ready else None


def brought_weights(model: LightningModule, path: str | None) -> dict[str, Any] | None:
    """What there is to tell of the weights of a model that brings its own, as an exported one does.

    Args:
        model: The model.
        path: The checkpoint that was named.

    Returns:
        As :func:`load_weights`; None for a model that needs a checkpoint.

    Raises:
        ValueError: If a checkpoint was named all the same.
    """
    if not getattr(model, "brings_weights", False):
        return None
    name = type(model).__name__
    if path is not None:
        raise ValueError(f"{name} has its weights in its own file: leave out --ckpt_path.")
    return {"checkpoint": str(model.hparams.get("path", name)), "epoch": None, "step": None, "monitors": []}


def renamed(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Name weights as a model does, where wrappers around it are all that differs.

    Wrappers are DistributedDataParallel (``module.``), ``torch.compile`` (``_orig_mod.``), and a module that holds the
    whole network under one name (``net.``), on either side.

    Args:
        state: Weights by their names in a file.
        own: The model's.

    Returns:
        The weights, by the model's names where these can be told, otherwise by their own.

    Example:
        >>> renamed({"module._orig_mod.conv.bias": 1}, {"net.conv.bias": 0})
        {'net.conv.bias': 1}
    """
    if state.keys() == own.keys():
        return dict(state)
    theirs, ours = ({_bare(name): name for name in names} for names in (state, own))
    if len(theirs) == len(ours) == len(state) == len(own):
        for longer, shorter in ((ours, theirs), (theirs, ours)):
            first = min(shorter)
            for name in longer:
                prefix = name.removesuffix(first)
                if name.endswith(first) and prefix[-1:] in ("", ".") and {prefix + n for n in shorter} == longer.keys():
                    add = longer is ours
                    return {ours[prefix + n if add else n.removeprefix(prefix)]: state[theirs[n]] for n in theirs}
    return dict(state)


def _bare(name: str) -> str:
    return ".".join(part for part in name.removeprefix("module.").split(".") if part != "_orig_mod")


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
    if model.strict_loading is False and len(missing) < len(own):
        missing = []  # its author leaves a part out of checkpoints, such as a frozen backbone
    if not (missing or unexpected or reshaped):
        return
    counts = {"missing": missing, "not of this model": unexpected, "of another shape": reshaped}
    found = "; ".join(f"{len(keys)} {what} (first {keys[0]})" for what, keys in counts.items() if keys)
    settings = dict(getattr(model, "hparams", {}))
    differ = [f"{k}={v!r} (now {settings[k]!r})" for k, v in trained_with.items() if k in settings and settings[k] != v]
    hint = f" It was trained with {', '.join(differ)}." if differ else ""
    if reshaped and not differ:
        hint = f" Build {type(model).__name__} as it was trained: give its arguments with --model.NAME VALUE."
    if missing and is_overridden("setup", model):
        hint += " Layers that setup() makes are not there yet when weights are loaded: make them in __init__."
    raise ValueError(f"{path} is a checkpoint of another model than {type(model).__name__}: tensors {found}.{hint}")
