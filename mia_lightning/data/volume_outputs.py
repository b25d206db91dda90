"""Folders of volumes: inputs, targets and outputs of a model for volumes that cannot be opened."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mia_lightning.data.datasets import Item
from mia_lightning.data.output_dataset import FIRST_FILES, Task, UnresizedOutputs, find_outputs
from mia_lightning.data.output_files import ARRAY_SUFFIXES, read_array
from mia_lightning.data.output_layout import OutputFiles, OutputKind
from mia_lightning.data.records import files_in, find_folder_pairs, folder_in
from mia_lightning.data.volume_files import (
    NIFTI_SUFFIXES,
    Volume,
    is_nifti,
    read_nifti,
    require_one_affine,
    require_volume,
)
from mia_lightning.functional.output_values import joined, kind_by_values, undecided, values_of

SUFFIXES = NIFTI_SUFFIXES | ARRAY_SUFFIXES
"""Suffixes of files that hold volumes."""


def holds_volumes(folder: Path) -> bool:
    """Whether a folder of inputs holds volumes: NIfTI files or arrays, which inputs that are pictures are not."""
    return folder.is_dir() and next(files_in(folder, SUFFIXES), None) is not None


class VolumeOutputs(UnresizedOutputs):
    """Triples of volumes with one name: ``inputs/007.nii.gz``, ``targets/007.nii.gz`` and ``outputs/007.npy``.

    Items are ``{"input": (C, D, H, W), "target": ..., "stored_output": ..., "id": str}``. Files are NIfTI
    (``.nii``, ``.nii.gz``), whose axes stay in their order on disk, what lies behind the three axes of space being
    channels; or arrays (``.npy``, ``.npz``), (D, H, W) or (C, D, H, W). Nothing is resized: the three files of a sample
    have one size, and those that are NIfTI one affine.

    Targets are pictures, label volumes or masks of channels, as in audits of the model; outputs of a segmenter are
    logits or probabilities, channels first in arrays, or label volumes of integers.

    Args:
        root: Folder that holds the three folders.
        task: ``"translation"``, ``"segmentation"`` or ``"multilabel"``.
        files: Names of the folders, kind of the outputs, foreground, and white of the inputs; None is the defaults.
        num_classes: Number of classes; None takes the channels of the first output, which label volumes do not have.

    Raises:
        ImportError: If NIfTI files are to be read and nibabel is not installed.
        OSError: If a folder is missing or empty.
        ValueError: If names do not match or the first files do not fit. Items raise likewise and name the file.
    """

    def __init__(
        self,
        root: str | Path,
        task: Task,
        files: OutputFiles | None = None,
        num_classes: int | None = None,
    ) -> None:
        self.root, self.task = Path(root), task
        files = files or OutputFiles()
        self._foreground, self._white = files.foreground, files.white
        self._records = find_folder_pairs(
            self.root, files.inputs_dir, files.targets_dir, input_suffixes=SUFFIXES, target_suffixes=SUFFIXES
        )
        folder = folder_in(self.root, files.outputs_dir)
        self._outputs = find_outputs(folder, self.root / files.inputs_dir, self._records, SUFFIXES)
        first = self._outputs[:: max(1, len(self) // FIRST_FILES)][:FIRST_FILES]
        some = [self._answer(_tensor(_read(path))) for path in first]
        self.kind = self._kind_of(some, files.kind)
        channels = some[0].shape[0] if some[0].ndim == 4 and task != "translation" else None
        self.num_classes = num_classes or channels
        if self.kind == "labels" and self.num_classes is None:
            raise ValueError(
                f"{self._outputs[0]} is a label volume, which does not tell how many classes there are: pass "
                "num_classes (--num_classes N on the command line)"
            )

    @property
    def storage(self) -> list[str]:
        """How the outputs are stored."""
        return sorted({"NIfTI volume" if is_nifti(path) else "array" for path in self._outputs})

    def __getitem__(self, index: int) -> Item:
        record = self._records[index]
        paths = [record.input_path, record.target_path, self._outputs[index]]
        volumes = [_read(path) for path in paths]
        grids = [(path, volume) for path, volume in zip(paths, volumes, strict=True) if volume.affine is not None]
        for path, volume in zip(paths[1:], volumes[1:], strict=True):
            size, found = volumes[0].values.shape[-3:], volume.values.shape[-3:]
            if found != size:
                raise ValueError(
                    f"{path} has {_by(found)} voxels, but the input {paths[0]} has {_by(size)}: expected one size. "
                    "Store inputs and targets as the model had them, cropped or resampled."
                )
        for path, volume in grids[1:]:
            require_one_affine(*grids[0], path, volume)
        input, target, output = (_tensor(volume) for volume in volumes)
        input = _channels_first(input)
        if self._white is not None:
            input = (input.double() / self._white).float()
        target = _channels_first(target) if self.task == "translation" else self._labelled(target)
        return {"input": input, "target": target, "stored_output": self._answer(output), "id": record.id}

    def _answer(self, output: Tensor) -> Tensor:
        labels = self.task == "segmentation" and not output.is_floating_point()
        return self._labelled(output) if labels else _channels_first(output)

    def _labelled(self, labels: Tensor) -> Tensor:
        return labels if self._foreground is None else torch.where(labels == self._foreground, 1, labels)

    def _kind_of(self, some: list[Tensor], kind: OutputKind | None) -> OutputKind:
        """Find out from a few outputs what all of them are."""
        if self.task == "translation":
            return "images"
        floats = [output for output in some if output.is_floating_point()]
        if kind is not None or not floats:
            return kind or "labels"
        samples = [values_of(output[None]) for output in floats]
        found = kind_by_values(samples, independent=self.task == "multilabel")
        if found is None:
            answers = "output='logits' or output='probabilities' (--output on the command line)"
            raise ValueError(undecided(joined(samples), f"the outputs in {self._outputs[0].parent}", answers))
        return "probabilities" if found == "probabilities" else "logits"


def _read(path: Path) -> Volume:
    """Read a volume, (D, H, W) or (C, D, H, W); arrays lie nowhere in space."""
    if is_nifti(path):
        return read_nifti(path)
    values = read_array(path)
    require_volume(path, values, "(D, H, W) or (C, D, H, W)")
    return Volume(values, None)


def _tensor(volume: Volume) -> Tensor:
    """The values in a type that torch computes with; half precision stays, since its zeros need not be impossible."""
    values, kept = volume.values, np.dtype(np.float32)
    if values.dtype.kind != "f":
        kept = next(
            t for t in map(np.dtype, ("?", "u1", "i1", "i2", "i4", "i8")) if np.can_cast(values.dtype, t) or t == "i8"
        )
    elif values.dtype == np.float16:
        kept = values.dtype
    return torch.from_numpy(np.ascontiguousarray(values, dtype=kept))


def _channels_first(volume: Tensor) -> Tensor:
    return volume.unsqueeze(0) if volume.ndim == 3 else volume


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
