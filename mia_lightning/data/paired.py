"""PairedImageDataModule: image translation from two folders or from pix2pix's side-by-side files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image
from torch.utils.data import Dataset

from mia_lightning.data.assignment import Membership, MembershipRule
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.datasets import Encode, Item, TranslationDataset
from mia_lightning.data.label_encoding import (
    OneHotEncoder,
    PaletteEncoder,
    encode_image,
    is_label_map,
    read_labels,
    read_palette,
)
from mia_lightning.data.readers import FolderReader, Read, SideBySideReader, image_mode, image_reader
from mia_lightning.data.records import IMAGE_SUFFIXES, Record, find_folder_pairs, find_side_by_side
from mia_lightning.data.splits_file import apply_splits
from mia_lightning.data.transforms import Kind, PairedTransform


class PairedImageDataModule(AuditableDataModule):
    """Pairs of images for translation, with members and nonmembers to audit.

    Items are ``{"input": float (C, H, W), "target": float (C, H, W), "id": str}`` with values in [0, 1].
    Training uses the members only; nonmembers are the validation set.

    Args:
        root: Folder of the data set.
        layout: ``folders`` pairs ``root/A/0007.*`` with ``root/B/0007.*`` (or ``root/A/train/0007.*`` with
            ``root/B/train/0007.*``); ``side_by_side`` reads pix2pix's ``root/train/*.jpg`` or ``root/*.jpg``, A on
            the left, B on the right; ``auto`` takes side_by_side if neither folder is there but images twice as
            wide as high are.
        input_dir: Folder called A, with layout folders.
        target_dir: Folder called B, with layout folders.
        direction: ``a_to_b`` or ``b_to_a``: which of the two is the input.
        input_kind: What the input files are: ``image``, ``labels`` (class ids), or ``auto``: labels if they are
            palette images. Targets are always judged automatically; a label map as target becomes colours.
        input_encoding: How label maps become channels: ``palette`` (the colours in the first file, or generated
            ones) or ``onehot``.
        num_input_classes: Number of classes, and so of channels, for onehot.
        splits: CSV file in root with columns ``id`` and ``split``. ``splits.csv`` may be absent: then folders name
            the splits.
        group_column: Column of the splits file that names what must stay on one side (a building, a patient).
        membership: ``split``: members and nonmembers are two splits; ``coin``: a fair coin a group (or a pair)
            decides over all splits together, which epsilon bounds need.
        member_split: Split to train on, with membership split.
        nonmember_split: Split never trained on, with membership split.
        one_per_group: Keep one pair a group, drawn with the seed.
        max_per_side: At most so many members and so many nonmembers; the rest is not used at all.
        image_size: Height and width after resizing, as one number or [height, width].
        augment: ``none`` or a list of hflip, vflip, transpose, rotate90, jitter and brightness, for training.
        input_channels: 3 reads input images as RGB, 1 as grey.
        target_channels: Likewise for the target.
        batch_size: Pairs a training step; pix2pix takes 1.
        eval_batch_size: Pairs a batch in validation, test and audit.
        num_workers: Loader processes; 0 reads in the main process.
        seed: Seed of the membership draws.

    Raises:
        ValueError: If a setting is outside its range or contradicts another. Files are looked at in `setup`.
    """

    def __init__(  # noqa: PLR0913 - each argument is an option of the command line
        self,
        root: str | Path,
        *,
        layout: Literal["auto", "side_by_side", "folders"] = "auto",
        input_dir: str = "A",
        target_dir: str = "B",
        direction: Literal["a_to_b", "b_to_a"] = "a_to_b",
        input_kind: Literal["auto", "image", "labels"] = "auto",
        input_encoding: Literal["palette", "onehot"] = "palette",
        num_input_classes: int | None = None,
        splits: str | None = "splits.csv",
        group_column: str | None = None,
        membership: Membership = "split",
        member_split: str = "train",
        nonmember_split: str = "val",
        one_per_group: bool = False,
        max_per_side: int | None = None,
        image_size: int | tuple[int, int] = 256,
        augment: str | Sequence[str] = ("jitter", "hflip"),
        input_channels: int = 3,
        target_channels: int = 3,
        batch_size: int = 1,
        eval_batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        root = str(root)  # hyperparameters go into checkpoints, which load plain values only
        rule = MembershipRule(membership, member_split, nonmember_split, one_per_group, max_per_side, seed)
        super().__init__(rule, image_size, augment, batch_size, eval_batch_size, num_workers)
        self.save_hyperparameters(logger=False)
        for name, value, choices in (
            ("layout", layout, ["auto", "side_by_side", "folders"]),
            ("direction", direction, ["a_to_b", "b_to_a"]),
            ("input_kind", input_kind, ["auto", "image", "labels"]),
            ("input_encoding", input_encoding, ["palette", "onehot"]),
        ):
            if value not in choices:
                raise ValueError(f"expected {name} to be one of {choices} but got {value!r}")
        if input_encoding == "onehot" and not num_input_classes:
            raise ValueError("input_encoding='onehot' needs num_input_classes: the number of classes in the label maps")
        self.root, self.layout = Path(root), layout
        self.directories = (input_dir, target_dir) if direction == "a_to_b" else (target_dir, input_dir)
        self.swap = direction == "b_to_a"
        self.input_kind = input_kind
        self.num_input_classes = num_input_classes if input_encoding == "onehot" else None
        self.splits, self.group_column = splits, group_column
        self._modes = (image_mode(input_channels), image_mode(target_channels))
        self._image_channels = (input_channels, target_channels)
        self._kinds: tuple[Kind, Kind] = ("image", "image")
        self._read: Read = FolderReader()
        self._encode: tuple[Encode, Encode] = (encode_image, encode_image)

    @property
    def input_channels(self) -> int:
        """Channels of the input as models receive it; looks at the data if it has to."""
        self.setup()
        return self._image_channels[0] if self._kinds[0] == "image" else self.num_input_classes or 3

    @property
    def target_channels(self) -> int:
        """Channels of the target as models receive it; looks at the data if it has to."""
        self.setup()
        return self._image_channels[1] if self._kinds[1] == "image" else 3

    def _find_records(self) -> list[Record]:
        if self.layout == "side_by_side" or (self.layout == "auto" and self._looks_side_by_side()):
            records = find_side_by_side(self.root)
            if self.input_kind == "labels" or self.num_input_classes:
                raise ValueError(
                    "side-by-side files hold two images of colours, not class ids: use input_kind='auto' and "
                    "input_encoding='palette', or keep label maps in a folder of their own (layout='folders')"
                )
            self._read = SideBySideReader(*self._modes, swap=self.swap)
        else:
            records = find_folder_pairs(self.root, *self.directories)
            self._configure_folders(records[0])
        return apply_splits(records, self.root, self.splits, self.group_column)

    def _looks_side_by_side(self) -> bool:
        """Say whether neither folder is there, but an image twice as wide as high."""
        if not self.root.is_dir() or any((self.root / name).is_dir() for name in self.directories):
            return False
        images = (path for pattern in ("*", "*/*") for path in sorted(self.root.glob(pattern)))
        first = next((path for path in images if path.suffix.lower() in IMAGE_SUFFIXES), None)
        if first is None:
            return False
        with Image.open(first) as image:
            return image.width == 2 * image.height

    def _configure_folders(self, first: Record) -> None:
        """Settle what the files are, how to read them and how to encode them, by the first pair."""
        labels = self.input_kind == "labels" or (self.input_kind == "auto" and is_label_map(first.input_path))
        if self.num_input_classes and not labels:
            raise ValueError(
                f"input_encoding='onehot' needs label maps, but {first.input_path} is no palette image: pass "
                "input_kind='labels' if its grey values are class ids, else input_encoding='palette'"
            )
        read_input, read_target = map(image_reader, self._image_channels)
        kinds: list[Kind] = ["image", "image"]
        encoders: list[Encode] = [encode_image, encode_image]
        if labels:
            kinds[0], read_input = "labels", read_labels
            one_hot = self.num_input_classes
            encoders[0] = OneHotEncoder(one_hot) if one_hot else PaletteEncoder(read_palette(first.input_path))
        if is_label_map(first.target_path):
            kinds[1], read_target = "labels", read_labels
            encoders[1] = PaletteEncoder(read_palette(first.target_path))
        self._kinds, self._encode = (kinds[0], kinds[1]), (encoders[0], encoders[1])
        self._read = FolderReader(read_input, read_target)

    def _make_dataset(self, records: Sequence[Record], augment: Sequence[str]) -> Dataset[Item]:
        transform = PairedTransform(self.image_size, augment, input_kind=self._kinds[0], target_kind=self._kinds[1])
        return TranslationDataset(records, self._read, transform, *self._encode)

    def _check(self, records: Sequence[Record]) -> None:
        if "labels" in self._kinds:  # wrong ids would go unnoticed; images are checked when they are read
            dataset = self._make_dataset(records, augment=())
            for index in range(len(records)):
                dataset[index]
