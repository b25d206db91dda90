"""Loading trained weights: nothing is unpickled, and a checkpoint of another model is refused."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mia_lightning.checkpoints.checkpoint_file import OTHER, require_checkpoint_file
from mia_lightning.checkpoints.training_step import counters_of_checkpoint, step_of_checkpoint
from mia_lightning.lightning_packages.loaded import is_overridden
from mia_lightning.result.context import step_name

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule


@dataclass(frozen=True)
class TrainedWeights:
    """Which weights a model has, and what their file says of the training.

    Attributes:
        checkpoint: The file.
        epoch: Epoch that was trained last, from 0; None where it is not known.
        step: Steps of the training, as :func:`~mia_lightning.checkpoints.training_step.step_of_trainer` counts them;
            None where it is not known.
        monitors: Metrics by which callbacks selected weights or ended the training, those of the training set aside.
        counters: Lightning's own counter of steps, as ``global_step``, where it differs.
    """

    checkpoint: str
    epoch: int | None = None
    step: int | None = None
    monitors: tuple[str, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def step_name(self) -> str:
        """The step as messages call it; empty where it is not known."""
        return "" if self.step is None else step_name(self.step, **self.counters)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read trained weights, under ``state_dict``, and what is stored beside them, without running what a file holds.

    Args:
        path: Lightning checkpoint; or weights alone: a ``.safetensors`` file, or what ``torch.save`` makes of a dict of
            tensors, by itself or under ``state_dict``, ``model`` or ``model_state_dict``. They are read onto the CPU.

    Raises:
        FileNotFoundError: If there is no such file; names the checkpoints beside it.
        ValueError: If the file is no checkpoint.
    """
    path = require_checkpoint_file(path)
    if path.suffix == ".safetensors":
        return {"state_dict": _read_safetensors(path)}
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises depends on the bytes of a damaged file
        refused = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused is None:
            reason = next(iter(str(error).splitlines()), "") if path.read_bytes()[:2] in (b"PK", b"\x80\x02") else ""
            reason = reason or "it is none that torch.save has written, or only a part of one"
            raise ValueError(f"{path} cannot be read as a checkpoint: {reason.rstrip('.')}. {OTHER}") from error
        raise ValueError(
            f"{path} cannot be read as a checkpoint of weights and plain values: it holds a {refused[1]}. Files that "
            "hold other Python objects are refused, since reading them can run code. Where you trust it, build the "
            "model in the environment that trained it, load the file there, and store the weights alone: "
            "torch.save({'state_dict': model.state_dict()}, 'weights.ckpt')"
        ) from error
    found = type(content).__name__
    if isinstance(content, dict):
        if _is_state(content):
            return {"state_dict": content}
        for key in ("state_dict", "model", "model_state_dict"):
            if _is_state(content.get(key)):
                return content | {"state_dict": content[key]}
        found = f"a dict with {', '.join(map(repr, list(content)[:5]))}"
    raise ValueError(
        f"{path} holds no weights: expected a Lightning checkpoint, or a dict of tensors, by itself or under "
        f"'state_dict', 'model' or 'model_state_dict', but found {found}."
    )


def load_weights(model: LightningModule, path: str | Path, checkpoint: dict[str, Any] | None = None) -> TrainedWeights:
    """Load a checkpoint's weights into a model, and return what it says of its training.

    Args:
        model: The model, built with the settings that it was trained with.
        path: Lightning checkpoint.
        checkpoint: Its content, where :func:`read_checkpoint` has read it already.

    Raises:
        FileNotFoundError: As :func:`read_checkpoint`.
        ValueError: If the file is no checkpoint, or one of another model.
    """
    checkpoint = read_checkpoint(path) if checkpoint is None else checkpoint
    if is_overridden("configure_model", model):
        model.configure_model()  # makes layers; a trainer calls it again, which Lightning expects it to bear
    if "pytorch-lightning_version" in checkpoint:
        model.on_load_checkpoint(checkpoint)  # it may rename or add weights
    state = renamed(checkpoint["state_dict"], model.state_dict())
    hyperparameters = checkpoint.get("hyper_parameters")
    _compare(model, state, Path(path), hyperparameters if isinstance(hyperparameters, dict) else {})
    model.load_state_dict(state, strict=model.strict_loading)
    # Lightning names a callback's entry after its settings: ModelCheckpoint{'monitor': 'val/loss', ...}.
    monitors = [m for key in checkpoint.get("callbacks", {}) for m in re.findall(r"'monitor': '([^']+)'", key)]
    return TrainedWeights(
        str(path),
        _last_epoch(checkpoint),
        step_of_checkpoint(checkpoint),
        tuple(m for m in monitors if not m.startswith("train")),
        counters_of_checkpoint(checkpoint),
    )


def brought_weights(model: LightningModule, path: str | Path | None) -> TrainedWeights | None:
    """Describe the weights of a model that brings its own, as an exported one does; None for others.

    Raises:
        ValueError: If a checkpoint was named all the same.
    """
    if not getattr(model, "brings_weights", False):
        return None
    name = type(model).__name__
    if path is not None:
        raise ValueError(f"{name} has its weights in its own file: leave out --ckpt_path.")
    return TrainedWeights(str(model.hparams.get("path", name)))


def renamed(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Name weights, by their names in a file, as a model does its own, where wrappers are all that differs.

    Wrappers are DistributedDataParallel (``module.``), ``torch.compile`` (``_orig_mod.``), and a module that holds the
    whole network under one name (``net.``), on either side. Otherwise the weights keep their names.

    Example:
        >>> renamed({"module._orig_mod.conv.bias": 1}, {"net.conv.bias": 0})
        {'net.conv.bias': 1}
    """
    if state.keys() == own.keys():
        return dict(state)
    theirs, ours = ({_without_wrappers(name): name for name in names} for names in (state, own))
    if len(theirs) == len(ours) == len(state) == len(own):
        for longer, shorter in ((ours, theirs), (theirs, ours)):
            first = min(shorter)
            for name in longer:
                prefix = name.removesuffix(first)
                if name.endswith(first) and prefix[-1:] in ("", ".") and {prefix + n for n in shorter} == longer.keys():
                    add = longer is ours
                    return {ours[prefix + n if add else n.removeprefix(prefix)]: state[theirs[n]] for n in theirs}
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from error


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(isinstance(v, torch.Tensor) for v in value.values())


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


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.removeprefix("module.").split(".") if part != "_orig_mod")


def _compare(model: LightningModule, state: dict[str, Any], path: Path, hyperparameters: dict[str, Any]) -> None:
    """Refuse weights of another model, and say how its settings differ."""
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
    now = dict(getattr(model, "hparams", {}))
    differ = [f"{k}={v!r} (now {now[k]!r})" for k, v in hyperparameters.items() if k in now and now[k] != v]
    hint = f" It was trained with {', '.join(differ)}." if differ else ""
    if reshaped and not differ:
        hint = f" Build {type(model).__name__} as it was trained: give its arguments with --model.NAME VALUE."
    if missing and is_overridden("setup", model):
        hint += " Layers that setup() makes are not there yet when weights are loaded: make them in __init__."
    raise ValueError(f"{path} is a checkpoint of another model than {type(model).__name__}: tensors {found}.{hint}")
