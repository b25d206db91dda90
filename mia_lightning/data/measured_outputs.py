"""Folders of pictures in units of their own: depths, counts or Hounsfield units that a model for pictures returned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mia_lightning.data.datasets import Item
from mia_lightning.data.images import ReadingRules, load_image, read_image, wide_pixels
from mia_lightning.data.label_encoding import encode_image
from mia_lightning.data.output_dataset import OutputDataset, find_outputs
from mia_lightning.data.output_files import ARRAY_SUFFIXES, read_array, shape_of
from mia_lightning.data.output_layout import OutputFiles
from mia_lightning.data.records import IMAGE_SUFFIXES, files_in, find_folder_pairs, folder_in

SUFFIXES = IMAGE_SUFFIXES | ARRAY_SUFFIXES
"""Suffixes of files that hold pictures."""


def holds_flat_arrays(folder: Path) -> bool:
    """Whether the arrays of a folder are pictures, grey or of one or three channels, and no volumes; by the first."""
    first = next((path for _, path in files_in(folder, ARRAY_SUFFIXES)), None) if folder.is_dir() else None
    shape = () if first is None else shape_of(first)
    return len(shape) == 2 or (len(shape) == 3 and bool({shape[0], shape[2]} & {1, 3}))


def holds_floats(root: str | Path, files: OutputFiles) -> bool:
    """Whether both targets and outputs are arrays of floats, which have one unit; by the first of each."""
    for name in (files.targets_dir, files.outputs_dir):
        folder = folder_in(Path(root), name)
        first = next((path for _, path in files_in(folder, SUFFIXES)), None) if folder.is_dir() else None
        if first is None or first.suffix.lower() not in ARRAY_SUFFIXES or read_array(first).dtype.kind != "f":
            return False
    return True


class MeasuredOutputs(OutputDataset):
    """Triples of pictures with one name, of which targets and outputs are numbers as they are stored.

    Items are ``{"input": (C, H, W), "target": ..., "stored_output": ..., "id": str}``. Targets and outputs are arrays
    (H, W), (C, H, W) or with one or three channels last, or images of any depth, such as TIFF with 16-bit integers or
    floats. Inputs are images, brought to [0, 1], or arrays, which stay as they are. Nothing is resized.

    Args:
        root: Folder that holds the three folders.
        files: Names of the folders, white of the inputs, and how EXIF turns are read; None is the defaults.

    Raises:
        OSError: If a folder is missing or empty, or a file cannot be read.
        ValueError: If names do not match. Items raise it where sizes or channels differ, and name the file.
    """

    def __init__(self, root: str | Path, files: OutputFiles | None = None) -> None:
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

    @property
    def notes(self) -> list[str]:
        """What outputs and targets do not share: nothing, other sizes and channels are refused."""
        return []

    def __getitem__(self, index: int) -> Item:
        record, path = self._records[index], self._outputs[index]
        target, output = (_numbers(one, self._rules) for one in (record.target_path, path))
        if record.input_path.suffix.lower() in ARRAY_SUFFIXES:
            input = _numbers(record.input_path, self._rules)
        else:
            input = encode_image(read_image(record.input_path, rules=self._rules))
        if target.shape != output.shape:
            raise ValueError(
                f"the output {path} has the shape {_by(output.shape)} and its target {record.target_path} "
                f"{_by(target.shape)} (channels x height x width): expected one, since nothing is resized where "
                "target_range says that values are in units of their own"
            )
        return {"input": input, "target": target, "stored_output": output, "id": record.id}


def _numbers(path: Path, rules: ReadingRules) -> Tensor:
    """Read an array or an image as it is stored, float (C, H, W)."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        values = read_array(path)
        last = values.ndim == 3 and values.shape[2] in (1, 3) and values.shape[0] not in (1, 3)
    else:
        values, last = _pixels(path, rules), True
    if values.ndim not in (2, 3) or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} holds a {values.dtype} array {values.shape}: expected a picture of numbers (H, W) or (C, H, W)"
        )
    planes = values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0) if last else values
    return torch.from_numpy(np.array(planes, dtype=np.float32, order="C"))


def _pixels(path: Path, rules: ReadingRules) -> npt.NDArray[Any]:
    image, header = load_image(path, rules.exif)
    if header.wide_colour:
        return wide_pixels(path, header, rules.exif)
    if image.mode in ("P", "1") or image.has_transparency_data:
        raise ValueError(
            f"{path} holds palette colours, bits or transparency: expected numbers, grey or in colours, where "
            "target_range says that values are in units of their own"
        )
    values = np.asarray(image)
    return values.view(np.int8) if header.depth == "int8" else values  # Pillow takes these for uint8


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
