"""Folders of pictures in units of their own: depths, counts or Hounsfield units that a model for pictures returned."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mia_lightning.data.datasets import Item
from mia_lightning.data.file_survey import FileSurvey
from mia_lightning.data.images import ReadingRules, load_image, read_image, wide_pixels
from mia_lightning.data.label_encoding import encode_image
from mia_lightning.data.output_checks import require_turns
from mia_lightning.data.output_dataset import OutputDataset, find_outputs
from mia_lightning.data.output_files import ARRAY_SUFFIXES, read_array, shape_of
from mia_lightning.data.output_layout import OutputFiles
from mia_lightning.data.records import IMAGE_SUFFIXES, files_in, find_folder_pairs, folder_in
from mia_lightning.data.volume_files import NIFTI_SUFFIXES, is_nifti

SUFFIXES = IMAGE_SUFFIXES | ARRAY_SUFFIXES
"""Suffixes of files that hold pictures."""


def holds_flat_arrays(root: str | Path, files: OutputFiles) -> bool:
    """Whether inputs are arrays that hold pictures, grey or of one or three channels, and no volumes; by the first.

    Three slices (3, H, W) look like three channels: beside NIfTI files, or targets or outputs (C, D, H, W), they are
    slices. A volume of three slices whose files are all arrays is told from a picture as (1, 3, H, W).
    """
    first, *others = (
        _first(folder_in(Path(root), name), SUFFIXES | NIFTI_SUFFIXES)
        for name in (files.inputs_dir, files.targets_dir, files.outputs_dir)
    )
    if first is None or first.suffix.lower() not in ARRAY_SUFFIXES:
        return False
    if any(one is not None and (is_nifti(one) or len(shape_of(one)) == 4) for one in others):
        return False
    shape = shape_of(first)
    return len(shape) == 2 or (len(shape) == 3 and bool({shape[0], shape[2]} & {1, 3}))


def holds_floats(root: str | Path, files: OutputFiles) -> bool:
    """Whether both targets and outputs are arrays of floats, which have one unit; by the first of each."""
    for name in (files.targets_dir, files.outputs_dir):
        first = _first(folder_in(Path(root), name), SUFFIXES)
        if first is None or first.suffix.lower() not in ARRAY_SUFFIXES or read_array(first).dtype.kind != "f":
            return False
    return True


def _first(folder: Path, suffixes: Collection[str]) -> Path | None:
    return next((path for _, path in files_in(folder, suffixes)), None) if folder.is_dir() else None


class MeasuredOutputs(OutputDataset):
    """Triples of pictures with one name, of which targets and outputs are numbers as they are stored.

    Items are ``{"input": (C, H, W), "target": ..., "stored_output": ..., "id": str}``. Targets and outputs are arrays
    (H, W), (C, H, W) or with one or three channels last, or images of any depth, such as TIFF with 16-bit integers or
    floats. Inputs are images, brought to [0, 1], or arrays, which stay as they are. Nothing is resized.

    Args:
        root: Folder that holds the three folders.
        files: Names of the folders, white of the inputs, and how EXIF turns are read; None is the defaults.
        in_units: Whether settings say that all numbers have one unit. Where they do not, all targets and outputs have
            to hold numbers of one type, for 8-bit images beside floats in [0, 1] have not.

    Attributes:
        numbers: The type of these numbers, ``"float"`` or that of integers, such as ``"uint8"``; None with
            ``in_units``.

    Raises:
        OSError: If a folder is missing or empty, or a file cannot be read.
        ValueError: If names do not match, or the first target and output hold numbers of two types. Items raise it
            where these, sizes or channels differ, and name the file.
    """

    def __init__(self, root: str | Path, files: OutputFiles | None = None, *, in_units: bool = False) -> None:
        self.root, self.task, self.num_classes = Path(root), "translation", None
        self.kind = "images"
        files = files or OutputFiles()
        if files.foreground is not None or files.kind not in (None, "images"):
            raise ValueError("foreground and kind are for task='segmentation': leave them out")
        self._rules = ReadingRules(files.white, exif=files.exif)
        self._records = find_folder_pairs(
            self.root, files.inputs_dir, files.targets_dir, input_suffixes=SUFFIXES, target_suffixes=SUFFIXES
        )
        folder = folder_in(self.root, files.outputs_dir)
        self._outputs = find_outputs(folder, self.root / files.inputs_dir, self._records, SUFFIXES)
        require_turns(self._records, self._outputs, self._rules, FileSurvey(), pictures=True)
        self._first_target = self._records[0].target_path
        self.numbers: str | None = None
        if not in_units:
            self.numbers = _values(self._first_target, self._rules).type
            self._require_one_type(self._outputs[0], _values(self._outputs[0], self._rules).type)

    @property
    def notes(self) -> list[str]:
        """What outputs and targets do not share: nothing, other sizes and channels are refused."""
        return []

    def __getitem__(self, index: int) -> Item:
        record, path = self._records[index], self._outputs[index]
        stored = [_values(one, self._rules) for one in (record.target_path, path)]
        for one, values in zip((record.target_path, path), stored, strict=True):
            self._require_one_type(one, values.type)
        target, output = (values.planes for values in stored)
        if record.input_path.suffix.lower() in ARRAY_SUFFIXES:
            input = _values(record.input_path, self._rules).planes
        else:
            input = encode_image(read_image(record.input_path, rules=self._rules))
        if target.shape != output.shape:
            raise ValueError(
                f"the output {path} has the shape {_by(output.shape)} and its target {record.target_path} "
                f"{_by(target.shape)} (channels x height x width): expected one, since nothing is resized where "
                "target_range says that values are in units of their own"
            )
        return {"input": input, "target": target, "stored_output": output, "id": record.id}

    def _require_one_type(self, path: Path, type: str) -> None:
        if self.numbers not in (None, type):
            raise ValueError(
                f"{path} holds numbers of the type {type}, but the target {self._first_target} {self.numbers}: nothing "
                "says that they have one unit, as 0 to 255 and 0 to 1 have not. Store targets and outputs alike, such "
                "as floats in [0, 1]; if all of them are in one unit as they are stored, pass target_range=(low, high) "
                "(--target_range), the range of targets in it"
            )


class _Values(NamedTuple):
    """What a file holds: numbers, float (C, H, W), and their type as it is stored, of floats ``"float"``."""

    planes: Tensor
    type: str


def _values(path: Path, rules: ReadingRules) -> _Values:
    """Read an array or an image as it is stored."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        values = read_array(path)
        last, type = values.ndim == 3 and values.shape[2] in (1, 3) and values.shape[0] not in (1, 3), values.dtype.name
    else:
        (values, type), last = _pixels(path, rules), True
    if values.ndim not in (2, 3) or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} holds a {values.dtype} array {values.shape}: expected a picture of numbers (H, W) or (C, H, W)"
        )
    planes = values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0) if last else values
    numbers = torch.from_numpy(np.array(planes, dtype=np.float32, order="C"))
    return _Values(numbers, "float" if type.startswith("float") else type)


def _pixels(path: Path, rules: ReadingRules) -> tuple[npt.NDArray[Any], str]:
    image, header = load_image(path, rules.exif)
    if header.wide_colour:
        return wide_pixels(path, header, rules.exif), header.depth
    if image.mode in ("P", "1") or image.has_transparency_data:
        raise ValueError(
            f"{path} holds palette colours, bits or transparency: expected numbers, grey or in colours, where "
            "target_range says that values are in units of their own"
        )
    values = np.asarray(image)
    return values.view(np.int8) if header.depth == "int8" else values, header.depth  # Pillow takes these for uint8


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
