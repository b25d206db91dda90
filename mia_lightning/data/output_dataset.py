"""Folders of inputs, targets and the outputs of a model that cannot be opened."""

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mia_lightning.data.datasets import Item
from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.file_survey import FileSurvey
from mia_lightning.data.images import ReadingRules, read_image
from mia_lightning.data.label_encoding import encode_image, read_labels, require_ids
from mia_lightning.data.label_pixels import LabelArray
from mia_lightning.data.output_checks import check_outputs, require_turns
from mia_lightning.data.output_files import (
    ARRAY_SUFFIXES,
    fit_to,
    header_of,
    is_grey,
    label_map_in,
    masks_in,
    picture_in,
    read_array,
    size_of,
    storage_of,
)
from mia_lightning.data.output_layout import OutputKind
from mia_lightning.data.readers import MaskReader
from mia_lightning.data.records import (
    IMAGE_SUFFIXES,
    Record,
    files_in,
    find_folder_pairs,
    folder_in,
    name_some,
    require_folder,
)
from mia_lightning.data.transforms import Array
from mia_lightning.functional.output_values import joined, kind_by_values, undecided, values_of

Task = Literal["translation", "segmentation", "multilabel"]

FIRST_FILES = 8
"""Outputs, evenly over a folder, by which it is decided what all of them are."""


class OutputDataset(Dataset[Item]):
    """Triples of files with one name: ``root/inputs/0007.*``, ``root/targets/0007.*``, ``root/outputs/0007.*``.

    Items are ``{"input": float (3, H, W) in [0, 1], "target": ..., "stored_output": ..., "id": str}``. The size of
    the output is the size of the comparison: inputs and targets are brought to it, by area or bilinearly, label maps by
    the nearest pixel centre; another aspect ratio is an error, since pixels would not lie on one another.

    *translation*: outputs are images, or arrays (H, W, 3), (3, H, W), (H, W) or with one channel, floats in [0, 1] or
    uint8. Grey is repeated to three channels. Target and output are float (3, H, W) in [0, 1].

    *segmentation*: outputs are arrays (K, H, W) of probabilities or logits ((H, W) or K = 1: of class 1 against class
    0), or label maps as images or integer arrays (H, W). A label map carries less information: it does not show how
    sure the model was. What they are is told by the values of a few of them
    (:mod:`~mia_lightning.functional.output_values`), or said by ``kind``. Targets are label maps, long (H, W); outputs
    come as they are stored, float (K, H, W) or labels, long (H, W).

    *multilabel* (channels that do not exclude each other): outputs are arrays (K, H, W) of probabilities or logits, or
    of zeros and ones; targets are arrays (K, H, W) of their height and width, or images with a page a channel, float.

    Args:
        root: Folder that holds the three folders.
        task: ``"translation"``, ``"segmentation"`` or ``"multilabel"``.
        num_classes: Number of classes; None takes the channels of the first output, which label maps do not have.
        ignore_index: Id of pixels that belong to no class.
        foreground: The mask value that marks the foreground, class 1, such as 255.
        inputs_dir: Name of the folder of inputs.
        targets_dir: Name of the folder of targets.
        outputs_dir: Name of the folder of outputs.
        kind: What the outputs of a segmenter are, where their values do not tell.
        white: Value that is white in images of more than 8 bits, such as 4095 for data of 12 bits.
        exif: How EXIF turns of files that belong together are read: as in
            :class:`~mia_lightning.data.images.ReadingRules`.
        cache_dir: Folder for what is found in the files; None remembers it for this process.

    Attributes:
        ids: Names of the triples, in order.
        kind: What the outputs are.
        num_classes: Number of classes; None for translation.

    Raises:
        OSError: If a folder is missing or empty, or the first output cannot be read.
        ValueError: If names do not match, or a setting does not fit the files. Items raise likewise and name the file.
    """

    def __init__(  # noqa: PLR0913 - each argument is an option of the command line
        self,
        root: str | Path,
        task: Task,
        *,
        num_classes: int | None = None,
        ignore_index: int = 255,
        foreground: int | None = None,
        inputs_dir: str = "inputs",
        targets_dir: str = "targets",
        outputs_dir: str = "outputs",
        kind: OutputKind | None = None,
        white: float | None = None,
        exif: Exif = "pair",
        cache_dir: str | Path | None = None,
    ) -> None:
        self.root, self.task = Path(root), task
        self._rules = ReadingRules(white, exif=exif)
        suffixes = IMAGE_SUFFIXES | ARRAY_SUFFIXES if task == "multilabel" else IMAGE_SUFFIXES
        self._records = find_folder_pairs(self.root, inputs_dir, targets_dir, target_suffixes=suffixes)
        self._outputs = find_outputs(folder_in(self.root, outputs_dir), self.root / inputs_dir, self._records)
        labels = task == "segmentation"
        survey = FileSurvey(cache_dir)
        # Masks in several channels are looked at when they are read.
        alone = [replace(record, target_path=record.input_path) for record in self._records]
        checked = alone if task == "multilabel" else self._records
        check_outputs(checked, self._outputs, self._rules, survey, labels=labels, foreground=foreground)
        if task == "multilabel":
            require_turns(self._records, self._outputs, self._rules, survey, pictures=False)
        self._ignore, self._foreground = ignore_index, foreground
        self.num_classes = num_classes
        self._read_mask: Callable[[Path], LabelArray] = read_labels
        if task == "translation":
            if num_classes is not None or foreground is not None or kind not in (None, "images"):
                raise ValueError("num_classes, foreground and kind are for task='segmentation': leave them out")
            self.kind: OutputKind = "images"
        elif task == "multilabel":
            self._settle_masks(kind)
        else:
            self._settle(kind)

    @property
    def ids(self) -> list[str]:
        """Names of the triples, in order."""
        return [record.id for record in self._records]

    @property
    def paths(self) -> list[Path]:
        """Files of the outputs, in order."""
        return list(self._outputs)

    def only(self, ids: Sequence[str]) -> Self:
        """Return the data set of some of the triples, in the order given."""
        places = {record.id: place for place, record in enumerate(self._records)}
        other = copy.copy(self)
        other._records = [self._records[places[id]] for id in ids]
        other._outputs = [self._outputs[places[id]] for id in ids]
        return other

    @property
    def storage(self) -> list[str]:
        """How the outputs are stored: ``"array"``, ``"image"``, ``"lossy grey image"``... Compression leaves traces."""
        return sorted({storage_of(path, pictures=self.kind == "images") for path in self._outputs})

    @property
    def sizes(self) -> dict[Path, tuple[int, int]]:
        """Width and height of the outputs that are images, by file; only their headers are read."""
        images = [path for path in self._outputs if path.suffix.lower() not in ARRAY_SUFFIXES]
        return {path: header_of(path)[0] for path in images}

    @property
    def notes(self) -> list[str]:
        """What the outputs do not share with their targets, so that it counts as error; only headers are read."""
        triples = list(zip(self._records, self._outputs, strict=True))
        affected = {
            "have another size than their targets, which were resized to them: errors hold what resizing changes": [
                record.id for record, path in triples if self._is_resized(path, record.target_path)
            ],
            "are grey beside targets in colour: the colour that they lack counts as error": [
                record.id
                for record, path in triples
                if self.kind == "images" and is_grey(path) and not is_grey(record.target_path)
            ],
        }
        return [
            f"{len(ids)} of {len(self)} outputs in {self.root} {what} ({name_some(ids, most=3)}). Store targets and "
            "outputs as the model had them."
            for what, ids in affected.items()
            if ids
        ]

    def _is_resized(self, output: Path, target: Path) -> bool:
        # Orientation by EXIF may swap the sides of what is read.
        if self.task == "multilabel":
            return False  # refused
        return sorted(size_of(output, pictures=self.kind == "images")) != sorted(header_of(target)[0])

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Item:
        record, path = self._records[index], self._outputs[index]
        if self.task == "translation":
            output = picture_in(path, self._rules)
            target = encode_image(fit_to(self._picture(record.target_path), output, record.target_path, path, "image"))
        elif self.task == "multilabel":
            output, target = self._masks_at(index)
        else:
            output = self._scores_in(path)
            mask = self._read_mask(record.target_path)
            target = torch.from_numpy(fit_to(mask, output, record.target_path, path, "labels")).long()
        input = encode_image(fit_to(self._picture(record.input_path), output, record.input_path, path, "image"))
        return {"input": input, "target": target, "stored_output": output, "id": record.id}

    def _picture(self, path: Path) -> Array:
        return read_image(path, rules=self._rules)

    # ---- independent channels

    def _settle_masks(self, kind: OutputKind | None) -> None:
        """Find out from a few outputs what all of them are."""
        some = self._outputs[:: max(1, len(self._outputs) // FIRST_FILES)][:FIRST_FILES]
        arrays = [masks_in(path) for path in some]
        self.num_classes = self.num_classes or len(arrays[0])
        samples = [values_of(array[None]) for array in arrays if array.is_floating_point()]
        found = kind or (kind_by_values(samples, independent=True) if samples else "labels")
        if found is None:
            answers = "output='logits' or output='probabilities' (--output on the command line)"
            raise ValueError(undecided(joined(samples), f"the outputs in {some[0].parent}", answers))
        if found not in ("probabilities", "logits", "labels"):
            raise ValueError(f"kind={found!r} is not for task='multilabel': expected probabilities, logits or labels")
        self.kind = found

    def _masks_at(self, index: int) -> tuple[Tensor, Tensor]:
        """Output and target of a triple, (K, H, W) each."""
        record, path = self._records[index], self._outputs[index]
        output = masks_in(path, exif=self._rules.exif)
        target = masks_in(record.target_path, self._foreground, self._rules.exif)
        if output.shape != target.shape or len(output) != self.num_classes:
            raise ValueError(
                f"the output {path} has the shape {tuple(output.shape)} and its target {record.target_path} "
                f"{tuple(target.shape)}: expected one shape (channels, H, W) with {self.num_classes} channels for "
                "task='multilabel'"
            )
        return output, target

    # ---- segmentation

    def _settle(self, kind: OutputKind | None) -> None:
        """Find out from a few outputs what all of them are."""
        path, some = self._outputs[0], self._outputs[:: max(1, len(self._outputs) // FIRST_FILES)][:FIRST_FILES]
        first = read_array(path) if path.suffix.lower() in ARRAY_SUFFIXES else read_labels(path)
        labels = not np.issubdtype(first.dtype, np.floating)
        if kind is not None and (kind == "images" or labels != (kind == "labels")):
            raise ValueError(_contradiction(path, kind, labels=labels))
        if not labels:
            self.num_classes = self.num_classes or len(self._scores(first, path))
        if self.num_classes is None:
            raise ValueError(
                f"{path} is a label map, which does not tell how many classes there are: pass num_classes "
                "(--num_classes N on the command line)"
            )
        if labels:
            self.kind = "labels"
        elif kind is not None:
            self.kind = kind
        else:
            samples = [
                values_of(self._scores(self._array_in(one), one)[None])
                for one in some
                if one.suffix.lower() in ARRAY_SUFFIXES
            ]
            found = kind_by_values(samples)
            if found is None:
                answers = "output='logits' or output='probabilities' (--output on the command line)"
                raise ValueError(undecided(joined(samples), f"the outputs in {path.parent}", answers))
            self.kind = "probabilities" if found == "probabilities" else "logits"
        self._read_mask = MaskReader(self.num_classes, self._ignore, self._foreground, exif=self._rules.exif)

    def _scores_in(self, path: Path) -> Tensor:
        """Read an output: scores (K, H, W), or labels (H, W)."""
        if self.kind == "labels":
            return self._labels(label_map_in(path, self._foreground, self._rules.exif), path)
        scores = self._scores(self._array_in(path), path)
        if self.kind == "logits":
            return scores
        values = values_of(scores[None])
        if values.pixels and not (values.inside and (values.sum_to_one or values.channels == 1)):
            raise ValueError(
                f"{path} holds {values}, not probabilities in [0, 1] that sum to one over the classes, as the outputs "
                "were taken for. If they are logits, pass output='logits'."
            )
        return scores

    def _array_in(self, path: Path) -> npt.NDArray[Any]:
        if path.suffix.lower() not in ARRAY_SUFFIXES:
            raise ValueError(f"{path} is an image, but the first output holds {self.kind}: store all of them alike")
        return read_array(path)

    def _scores(self, values: npt.NDArray[Any], path: Path) -> Tensor:
        """Bring an array to float (K, H, W) and check K."""
        array = values[None] if values.ndim == 2 else values
        if array.ndim != 3 or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{path} holds a {values.dtype} array {values.shape}: expected floats (classes, H, W)")
        channels, classes = array.shape[0], self.num_classes
        last = channels > 4 * array.shape[2]
        if (channels != classes and (channels, classes) != (1, 2)) if classes is not None else last:
            expected = "; pass num_classes if it is" if classes is None else f" with {classes} classes"
            hint = " It looks like (H, W, classes): move the last axis to the front." if last else ""
            raise ValueError(f"{path} holds an array {values.shape}: expected (classes, H, W){expected}.{hint}")
        # Half precision stays: what rounds to zero there need not be impossible.
        kept = np.float16 if array.dtype == np.float16 else np.float32
        return torch.from_numpy(np.ascontiguousarray(array, dtype=kept))

    def _labels(self, labels: LabelArray, path: Path) -> Tensor:
        """Bring a label map to ids of classes, (H, W), and check them."""
        assert self.num_classes is not None
        if self._foreground is not None:
            labels = np.where(labels == self._foreground, np.int32(1), labels)
        ids = [*range(max(2, self.num_classes)), self._ignore]
        try:
            require_ids(labels, ids, "an output holds ids of classes; raise num_classes")
        except ValueError as error:
            raise ValueError(f"output {path}: {error}") from error
        return torch.from_numpy(np.ascontiguousarray(labels)).long()


def _contradiction(path: Path, kind: OutputKind, *, labels: bool) -> str:
    """Message for an output that is not what the setting says."""
    image = path.suffix.lower() not in ARRAY_SUFFIXES
    remedy = (
        "store them as arrays of floats (.npy), such as numpy.asarray(image) / 255, or leave kind out"
        if image and kind == "probabilities"
        else "store what is meant, or leave kind out"
    )
    found = "is an image, whose values are taken for labels" if image else "holds labels"
    return f"{path} {found if labels else 'holds logits or probabilities'}, but kind={kind!r}: {remedy}"


class UnresizedOutputs(OutputDataset):
    """Triples whose files have one size, so that nothing is resized; none of their outputs is an image."""

    @property
    def sizes(self) -> dict[Path, tuple[int, int]]:
        """Sizes of outputs that are images: there are none."""
        return {}

    @property
    def notes(self) -> list[str]:
        """What outputs and targets do not share: nothing."""
        return []


def find_outputs(
    folder: Path, inputs: Path, records: Sequence[Record], suffixes: Collection[str] = IMAGE_SUFFIXES | ARRAY_SUFFIXES
) -> list[Path]:
    """Find the output of each record.

    Raises:
        OSError: If the folder is missing or empty.
        ValueError: If names do not match.
    """
    paths: dict[str, Path] = {}
    require_folder(folder, "the model's outputs")
    for id, path in files_in(folder, suffixes):
        if id in paths:
            raise ValueError(f"{folder} holds two outputs named {id!r}, {paths[id].name} and {path.name}: remove one")
        paths[id] = path
    if not paths:
        raise FileNotFoundError(f"no outputs in {folder}: expected files ending in {', '.join(sorted(suffixes))}")
    ids = {record.id for record in records}
    if lonely := [*(ids - paths.keys()), *(paths.keys() - ids)]:
        raise ValueError(
            f"Files in {inputs} without an output in {folder}: {len(ids - paths.keys())}. Outputs without an input: "
            f"{len(paths.keys() - ids)}. They are {name_some(lonely)}; {len(ids & paths.keys())} match. "
            "An output has the name of its input, suffixes aside: rename or remove the files named here."
        )
    return [paths[record.id] for record in records]
