"""Exporting trained weights as a file that runs, and can be audited, without the code of the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from mia_lightning.audit.adapters import get_adapter
from mia_lightning.audit.config import AuditConfig
from mia_lightning.checkpoints.trained_weights import brought_weights, load_weights, read_checkpoint
from mia_lightning.exported.writing import SUFFIXES, Export, ExportFormat, write_export
from mia_lightning.membership.export_entry import add_entry
from mia_lightning.membership.record import summary_in


def export_checkpoint(
    model: LightningModule,
    ckpt_path: str | Path,
    output: str | Path | None = None,
    *,
    format: ExportFormat = "onnx",
    input_shape: Sequence[int] | None = None,
    config: AuditConfig | None = None,
) -> Export:
    """Load trained weights into a model and write it as one file, as ``mia-lightning export`` does.

    The file is tried against the model on inputs drawn at random, and kept where both answer alike. It holds the parts
    of the model that make its prediction, what the checkpoint says of the split (settings and a digest, which later
    audits are compared with), and nothing of the data.

    Args:
        model: The model, built as it was trained.
        ckpt_path: As for :func:`~mia_lightning.audit_checkpoint`.
        output: The file to write; None is the checkpoint's name with the suffix of the format, in the current folder.
        format: ``"onnx"``, ``"torchscript"`` or ``"export"`` (``torch.export``).
        input_shape: Shape of one input, (C, H, W). None: that of the model's ``example_input_array``, or of the images
            that the checkpoint says it was trained on.
        config: Says which part of what the model returns is its prediction (``output_key``, ``adapter``).

    Returns:
        The file, and how far its outputs differ from the model's.

    Raises:
        FileExistsError: If there is a file of that name.
        FileNotFoundError: If there is no such checkpoint.
        ImportError: If the format needs a package that is not installed.
        ValueError: If the shape of an input is not known, or the model cannot be exported that way.

    Example:
        >>> import tempfile, torch
        >>> from mia_lightning import Pix2Pix
        >>> model, folder = Pix2Pix(image_size=16, ngf=4, ndf=4), Path(tempfile.mkdtemp())
        >>> torch.save(model.state_dict(), folder / "weights.pt")
        >>> export_checkpoint(model, folder / "weights.pt", folder / "model.pt2", format="export").input_shape
        (3, 16, 16)
    """
    if brought_weights(model, None) is not None:
        raise ValueError(f"{type(model).__name__} is an exported model already: copy its file.")
    checkpoint = read_checkpoint(ckpt_path)
    load_weights(model, ckpt_path, checkpoint)
    shape = _shape_of_inputs(model, checkpoint) if input_shape is None else tuple(input_shape)
    path = Path(Path(ckpt_path).stem + SUFFIXES[format]) if output is None else Path(output)
    adapter = get_adapter(config or AuditConfig())
    export = write_export(model, path, format, shape, predict=adapter.predict)
    if (summary := summary_in(checkpoint)) is not None:
        add_entry(export.path, summary)
    return export


def _shape_of_inputs(model: LightningModule, checkpoint: Mapping[str, Any]) -> tuple[int, ...]:
    """Shape of one input, by what the model and the checkpoint say."""
    example: Any = model.example_input_array
    if isinstance(example, Tensor) and example.ndim > 1:
        return tuple(example.shape[1:])
    settings = dict(model.hparams)
    data = checkpoint.get("datamodule_hyper_parameters")
    channels = settings.get("in_channels")
    if getattr(model, "brings_audit", False):  # of this package: with the channels that it adds to those of a batch
        channels = getattr(model, "in_channels", channels)
    size = (data if isinstance(data, Mapping) else {}).get("image_size") or settings.get("image_size")
    if not isinstance(channels, int) or size is None:
        unknown = "its number of channels" if not isinstance(channels, int) else "its size"
        raise ValueError(
            f"Neither {type(model).__name__} nor the checkpoint says the shape of an input ({unknown} is not known): "
            "name it with --input_shape, such as --input_shape [3,256,256]."
        )
    height, width = (size, size) if isinstance(size, int) else size
    return channels, int(height), int(width)
