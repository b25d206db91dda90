"""SegmentationDataModule: images and masks with matching names."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch.utils.data import Dataset

from mia_lightning.data.arrangement import Arrangement
from mia_lightning.data.assignment import Membership, MembershipRule
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.datasets import Item, SegmentationDataset
from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.file_checks import (
    label_ids,
    reading_notes,
    require_aspects,
    require_classes,
    require_exact_files,
    require_foreground,
    require_one_palette,
    require_one_turn,
    require_pages,
    require_same_order,
    require_white_of_use,
    settle_white,
)
from mia_lightning.data.file_survey import FileSurvey
from mia_lightning.data.found_files import FoundFiles, Naming, find_files
from mia_lightning.data.images import Pages, ReadingRules
from mia_lightning.data.label_pixels import LabelArray
from mia_lightning.data.presets import find_preset
from mia_lightning.data.presets.preset import BY_PRESET, ByPreset, settle
from mia_lightning.data.readers import (
    FolderReader,
    MaskReader,
    ObjectsReader,
    image_reader,
    merged_mask,
    require_channels,
)
from mia_lightning.data.record_columns import native_size
from mia_lightning.data.records import Record, folder_in, nfc
from mia_lightning.data.splits_file import DEFAULT_SPLITS
from mia_lightning.data.transforms import PairedTransform

MaskFiles = Literal["one", "objects"]


class SegmentationDataModule(AuditableDataModule):
    """Images with masks for semantic segmentation, with members and nonmembers to audit.

    Items are ``{"image": float (C, H, W) in [0, 1], "mask": long (H, W), "id": str}``. Training uses the members
    only; nonmembers are the validation set.

    Args:
        root: Folder of the data set.
        num_classes: Number of classes; masks hold their ids from 0. 1 means binary masks of zeros and ones. Needed
            where no preset says it.
        preset: Name of a data set, such as ``cityscapes`` (``mia-lightning data list``), that says what other
            arguments do not; these go before it, and so does None where it says that there is none. What is left is
            ``by_preset``; without a preset that is what each argument's text says, or none.
        image_dir: Folder of the images (``images``): ``root/images/0007.*`` or ``root/images/train/0007.*``; with
            ``{split}`` in it one for each split.
        mask_dir: Folder of the masks (``masks``), named like the images: palette PNG, or one channel of ids.
        image_end: End of the names of images, such as ``_leftImg8bit`` or ``.jpg``; the rest is the id.
        mask_end: Likewise of masks; images and masks may lie in one folder then.
        mask_files: ``one`` mask an image, or ``objects``: each sample has a folder, with its image in ``image_dir`` and
            a mask for each object in ``mask_dir``.
        ignore_index: Id of ignored pixels (255); it is kept, and left out of losses and audits.
        class_names: Names of the classes, in the order of their ids; for logs and reports.
        foreground: The mask value that marks the foreground and becomes 1, such as 255; for one, two or more classes.
        palette: RGB colour of each class, for masks that are coloured images without ids, and for palette PNGs whose
            colours count and not their order. One more colour may stand for ignored pixels, if ignore_index is
            num_classes.
        label_map: Id of the class, or ignore_index, for each id that masks hold.
        threshold: Mask values from here on become 1, all others 0: for masks with soft edges, in JPEG, or with a number
            for each object.
        splits: CSV file in root with columns ``id`` and ``split``. ``splits.csv`` may be absent: then folders name
            the splits. Audits can be sliced by its other columns (``slices``).
        id_column: Column of the splits file that holds ids (``id``).
        group_column: Column of the splits file that names what must stay on one side (a scene, a patient).
        group_pattern: Regular expression whose brackets find the group in an id, such as ``^(.+)_frame``.
        split_pattern: Likewise the split.
        only_splits: Splits that are used at all; all by default.
        membership: ``split``, the default: members and nonmembers are two splits; ``coin``: a fair coin a group (or a
            pair) decides over all splits together, which epsilon bounds need.
        member_split: Split to train on (``train``), with membership split.
        nonmember_split: Split never trained on (``val``), with membership split.
        one_per_group: Keep one pair a group, drawn with the seed.
        max_per_side: At most so many members and so many nonmembers; the rest is not used at all. With
            ``membership="coin"`` about so many: twice as many pairs are drawn before the coins are flipped.
        image_size: Height and width after resizing, as one number or [height, width].
        augment: ``none`` or a list of hflip, vflip, transpose, rotate90, jitter and brightness, for training.
        image_channels: 3 reads images as RGB, 1 as grey; with pages channels the number of pages.
        white: Value that is white in images of more than 8 bits, such as 4095 for data of 12 bits; asked for where
            files do not tell.
        pages: ``single``: an image file of several pages is refused; ``channels``: its pages are the channels.
        exif: ``pair``: EXIF turns of an image and its mask are applied, or refused where they contradict each other;
            ``apply``: each file is turned by its own tag; ``ignore``: pixels are read as they are stored.
        cache_dir: Folder for what is found in the files, so that later runs look only at those that have changed;
            None remembers it for this process.
        batch_size: Pairs a training step.
        eval_batch_size: Pairs a batch in validation, test and audit.
        num_workers: Loader processes; 0 reads in the main process.
        seed: Seed of the membership draws.

    Raises:
        ValueError: If a setting is outside its range or contradicts another. Files are looked at in `setup`.
    """

    USUAL: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(("num_classes", "class_names", "foreground", "palette", "label_map", "threshold")),
        **dict.fromkeys(("group_column", "group_pattern", "split_pattern", "only_splits")),
        **{"image_dir": "images", "mask_dir": "masks", "image_end": "", "mask_end": "", "mask_files": "one"},
        **{"ignore_index": 255, "splits": DEFAULT_SPLITS, "id_column": "id"},
        **{"membership": "split", "member_split": "train", "nonmember_split": "val"},
    }
    """Arguments that a preset may say, and what holds where neither it nor anybody else says anything."""

    def __init__(  # noqa: PLR0913 - each argument is an option of the command line
        self,
        root: str | Path,
        num_classes: int | None = None,
        *,
        preset: str | None = None,
        image_dir: str | None = None,
        mask_dir: str | None = None,
        ignore_index: int | None = None,
        class_names: list[str] | ByPreset | None = BY_PRESET,
        foreground: int | ByPreset | None = BY_PRESET,
        palette: list[tuple[int, int, int]] | ByPreset | None = BY_PRESET,
        splits: str | None = BY_PRESET,
        group_column: str | None = BY_PRESET,
        membership: Membership | None = None,
        member_split: str | None = None,
        nonmember_split: str | None = None,
        one_per_group: bool = False,
        max_per_side: int | None = None,
        image_size: int | tuple[int, int] = 256,
        augment: str | Sequence[str] = ("hflip",),
        image_channels: int = 3,
        batch_size: int = 8,
        eval_batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        white: float | None = None,
        pages: Pages = "single",
        exif: Exif = "pair",
        cache_dir: str | None = None,
        image_end: str | None = None,
        mask_end: str | None = None,
        mask_files: MaskFiles | None = None,
        label_map: dict[int, int] | ByPreset | None = BY_PRESET,
        threshold: int | ByPreset | None = BY_PRESET,
        id_column: str | None = None,
        group_pattern: str | None = BY_PRESET,
        split_pattern: str | None = BY_PRESET,
        only_splits: list[str] | ByPreset | None = BY_PRESET,
    ) -> None:
        root = str(root)  # hyperparameters go into checkpoints, which load plain values only
        chosen = find_preset(preset) if preset else None
        settled = settle(chosen, "segmentation", Path(root), self.USUAL, locals())
        num_classes, names, ignore_index = settled.take("num_classes", "class_names", "ignore_index")
        if "class_names" in settled.proposed:
            names = _names_for(num_classes, names)
        marker, colours, id_map, lowest = settled.take("foreground", "palette", "label_map", "threshold")
        image_dir, mask_dir, image_end, mask_end = settled.take("image_dir", "mask_dir", "image_end", "mask_end")
        mask_files, splits, id_column, group_column = settled.take("mask_files", "splits", "id_column", "group_column")
        group_pattern, split_pattern, only_splits = settled.take("group_pattern", "split_pattern", "only_splits")
        membership, member_split, nonmember_split = settled.take("membership", "member_split", "nonmember_split")
        member_split, nonmember_split = nfc(member_split), nfc(nonmember_split)
        rule = MembershipRule(membership, member_split, nonmember_split, one_per_group, max_per_side, seed)
        super().__init__(rule, image_size, augment, batch_size, eval_batch_size, num_workers, exif)
        self.save_hyperparameters(logger=False)
        self._fill_hyperparameters({**settled.values, "class_names": names})
        if num_classes is None:
            raise ValueError(
                "SegmentationDataModule needs num_classes, the number of classes in the masks, or a preset that says it"
            )
        if mask_files not in ("one", "objects"):
            raise ValueError(f"expected mask_files to be 'one' or 'objects' but got {mask_files!r}")
        count = max(num_classes, 1)
        if names is not None and len(names) != count:
            raise ValueError(f"expected {count} class_names, one per class, but got {len(names)}: {names}")
        self.root, self.image_dir, self.mask_dir = Path(root), image_dir, mask_dir
        self.preset, self.layout_name = chosen, settled.layout.name if settled.layout else None
        self._naming = Naming(image_dir, mask_dir, image_end, mask_end, mask_files == "objects")
        self.arrangement = Arrangement(
            splits, group_column, id_column, only_splits, split_pattern, group_pattern, settled.proposed
        )
        self.num_classes, self.ignore_index, self.image_channels = num_classes, ignore_index, image_channels
        self.class_names: list[str] | None = names
        self._foreground: int | None = marker
        self._rules, self._survey = ReadingRules(white, pages, exif), FileSurvey(cache_dir)
        require_channels(image_channels, pages)
        self._read_mask = MaskReader(num_classes, ignore_index, marker, colours or None, exif, id_map or None, lowest)
        self._read: FolderReader | ObjectsReader | None = None

    def found_files(self) -> FoundFiles:
        """Look for all files, pairs or not, and for what is wrong with them."""
        return find_files(self.root, self._naming, self.arrangement.keeps)

    def labels_of(self, record: Record) -> LabelArray:
        """The class ids (H, W) of a pair's mask."""
        return merged_mask(record, self._read_mask)

    def names_of_classes(self) -> list[str]:
        """Names of the classes, or their ids where they have none."""
        names = self.class_names if self.class_names and self.num_classes > 1 else None
        return names or [str(id) for id in self._read_mask.class_ids]

    def void_id(self) -> int:
        """Id of ignored pixels."""
        return self.ignore_index

    def _settle(self, records: Sequence[Record]) -> dict[str, str]:
        """Settle how files are read by the headers of all, and by the values of what has more than 8 bits."""
        images, masks = [r.input_path for r in records], [path for r in records for path in r.target_paths]
        headers = self._survey.headers([*images, *masks])
        folder = f"the masks in {self.root / self.mask_dir}"
        require_pages(masks, headers, None, folder)
        if self._read_mask.threshold is None:
            require_exact_files(
                masks, headers, folder, indices=self._read_mask.palette is None, foreground=self._foreground
            )
        pages = require_pages(images, headers, self._rules, f"the images in {self.root / self.image_dir}")
        turned = require_one_turn(records, headers, self._rules.exif)
        require_aspects(records, headers, self._rules.exif)
        white = settle_white(
            images, headers, self._survey, self._rules.white, f"the images in {self.root / self.image_dir}"
        )
        require_white_of_use(self._rules.white, [white])
        reader = ObjectsReader if self._naming.objects else FolderReader
        self._read = reader(image_reader(self.image_channels, self._rules, pages), self._read_mask)
        return reading_notes({"images": white}, pages, turned, len(records), self._rules.exif)

    def _make_dataset(self, records: Sequence[Record], augment: Sequence[str]) -> Dataset[Item]:
        assert self._read is not None
        transform = PairedTransform(self.image_size, augment, target_kind="labels")
        return SegmentationDataset(records, self._read, transform, partial(native_size, exif=self._rules.exif))

    def _check(self, records: Sequence[Record]) -> None:
        """Look at the masks: unknown ids, palettes that differ, and masks from which nothing would be learned."""
        self._label_ids(records)

    def _check_all(self, records: Sequence[Record]) -> None:
        ids = self._label_ids(records)
        folder = folder_in(self.root, self.mask_dir)
        require_classes(ids, folder, self.num_classes, self.ignore_index, self._foreground)

    def _label_ids(self, records: Sequence[Record]) -> dict[Path, frozenset[int]]:
        summaries = self._survey.labels(path for record in records for path in record.target_paths)
        ids = label_ids(summaries, self._read_mask.labels)
        if self._read_mask.palette is None and self._read_mask.threshold is None:
            require_one_palette(summaries, foreground=self._foreground)
            require_same_order(summaries, self._foreground)
            require_foreground(summaries, self._foreground)
        return ids


def _names_for(num_classes: int | None, names: list[str]) -> list[str] | None:
    """The names of a preset's classes where these are meant; that of the foreground for one class."""
    if num_classes is None or len(names) == num_classes:
        return names
    return names[-1:] if num_classes == 1 and len(names) == 2 else None
