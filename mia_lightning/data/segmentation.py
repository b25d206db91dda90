"""SegmentationDataModule: images and masks with matching names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from mia_lightning.data.assignment import Membership, MembershipRule
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.datasets import Item, SegmentationDataset
from mia_lightning.data.readers import FolderReader, MaskReader, image_reader
from mia_lightning.data.records import Record, find_folder_pairs
from mia_lightning.data.splits_file import apply_splits
from mia_lightning.data.transforms import PairedTransform


class SegmentationDataModule(AuditableDataModule):
    """Images with masks for semantic segmentation, with members and nonmembers to audit.

    Items are ``{"image": float (C, H, W) in [0, 1], "mask": long (H, W), "id": str}``. Training uses the members
    only; nonmembers are the validation set.

    Args:
        root: Folder of the data set.
        num_classes: Number of classes; masks hold their ids from 0. 1 means binary masks of zeros and ones.
        image_dir: Folder of the images: ``root/images/0007.*`` or ``root/images/train/0007.*``.
        mask_dir: Folder of the masks, named like the images: palette PNG, or one channel of ids.
        ignore_index: Id of ignored pixels; it is kept, and left out of losses and audits.
        class_names: Names of the classes, in the order of their ids; for logs and reports.
        foreground: With num_classes 1, the mask value that marks the foreground and becomes 1, such as 255.
        palette: RGB colour of each class, needed only where masks are coloured images without ids. One more colour
            may stand for ignored pixels, if ignore_index is num_classes.
        splits: CSV file in root with columns ``id`` and ``split``. ``splits.csv`` may be absent: then folders name
            the splits.
        group_column: Column of the splits file that names what must stay on one side (a scene, a patient).
        membership: ``split``: members and nonmembers are two splits; ``coin``: a fair coin a group (or a pair)
            decides over all splits together, which epsilon bounds need.
        member_split: Split to train on, with membership split.
        nonmember_split: Split never trained on, with membership split.
        one_per_group: Keep one pair a group, drawn with the seed.
        max_per_side: At most so many members and so many nonmembers; the rest is not used at all.
        image_size: Height and width after resizing, as one number or [height, width].
        augment: ``none`` or a list of hflip, vflip, transpose, rotate90, jitter and brightness, for training.
        image_channels: 3 reads images as RGB, 1 as grey.
        batch_size: Pairs a training step.
        eval_batch_size: Pairs a batch in validation, test and audit.
        num_workers: Loader processes; 0 reads in the main process.
        seed: Seed of the membership draws.

    Raises:
        ValueError: If a setting is outside its range or contradicts another. Files are looked at in `setup`.
    """

    def __init__(  # noqa: PLR0913 - each argument is an option of the command line
        self,
        root: str | Path,
        num_classes: int,
        *,
        image_dir: str = "images",
        mask_dir: str = "masks",
        ignore_index: int = 255,
        class_names: list[str] | None = None,
        foreground: int | None = None,
        palette: list[tuple[int, int, int]] | None = None,
        splits: str | None = "splits.csv",
        group_column: str | None = None,
        membership: Membership = "split",
        member_split: str = "train",
        nonmember_split: str = "val",
        one_per_group: bool = False,
        max_per_side: int | None = None,
        image_size: int | tuple[int, int] = 256,
        augment: str | Sequence[str] = ("hflip",),
        image_channels: int = 3,
        batch_size: int = 8,
        eval_batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        root = str(root)  # hyperparameters go into checkpoints, which load plain values only
        rule = MembershipRule(membership, member_split, nonmember_split, one_per_group, max_per_side, seed)
        super().__init__(rule, image_size, augment, batch_size, eval_batch_size, num_workers)
        self.save_hyperparameters(logger=False)
        named = max(num_classes, 1)
        if class_names is not None and len(class_names) != named:
            raise ValueError(f"expected {named} class_names, one per class, but got {len(class_names)}: {class_names}")
        self.root, self.image_dir, self.mask_dir = Path(root), image_dir, mask_dir
        self.splits, self.group_column = splits, group_column
        self.num_classes, self.ignore_index, self.class_names = num_classes, ignore_index, class_names
        self._read_mask = MaskReader(num_classes, ignore_index, foreground, palette)
        self._read = FolderReader(image_reader(image_channels), self._read_mask)

    def _find_records(self) -> list[Record]:
        records = find_folder_pairs(self.root, self.image_dir, self.mask_dir)
        return apply_splits(records, self.root, self.splits, self.group_column)

    def _make_dataset(self, records: Sequence[Record], augment: Sequence[str]) -> Dataset[Item]:
        return SegmentationDataset(records, self._read, PairedTransform(self.image_size, augment, target_kind="labels"))

    def _check(self, records: Sequence[Record]) -> None:
        """Read the masks; raise for unknown ids, and where every pixel that is not 0 would be ignored."""
        label_ids = {id for record in records for id in np.unique(self._read_mask(record.target_path)).tolist()}
        if self.num_classes == 1 and label_ids == {0, self.ignore_index}:
            raise ValueError(
                f"the first {len(records)} masks in {self.root / self.mask_dir} hold only 0 and "
                f"{self.ignore_index}, which is the ignore_index: nothing but background would be learned. "
                f"Pass foreground={self.ignore_index} if that value marks the foreground."
            )
