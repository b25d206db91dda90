"""PairedImageDataModule: image translation from two folders or from pix2pix's side-by-side files."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch.utils.data import Dataset

from mia_lightning.data.arrangement import Arrangement
from mia_lightning.data.assignment import Membership, MembershipRule
from mia_lightning.data.auditable import AuditableDataModule
from mia_lightning.data.datasets import Encode, Item, TranslationDataset
from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.file_checks import (
    Headers,
    reading_notes,
    require_aspects,
    require_one_turn,
    require_pages,
    require_white_of_use,
    settle_white,
)
from mia_lightning.data.file_survey import FileSurvey
from mia_lightning.data.found_files import FoundFiles, Naming, find_double_files, find_files
from mia_lightning.data.images import Pages, ReadingRules
from mia_lightning.data.label_encoding import encode_image
from mia_lightning.data.label_pixels import LabelArray, read_label_pixels
from mia_lightning.data.palette_images import (
    LabelMeaning,
    SideFiles,
    SideKind,
    kind_of,
    label_reader,
    require_known_ids,
)
from mia_lightning.data.presets import find_preset
from mia_lightning.data.presets.preset import BY_PRESET, ByPreset, settle
from mia_lightning.data.readers import (
    FolderReader,
    Read,
    SideBySideReader,
    image_mode,
    image_reader,
    require_channels,
)
from mia_lightning.data.record_columns import native_size
from mia_lightning.data.records import IMAGE_SUFFIXES, Record, files_in, folder_in, nfc
from mia_lightning.data.splits_file import DEFAULT_SPLITS
from mia_lightning.data.transforms import Array, Kind, PairedTransform


class PairedImageDataModule(AuditableDataModule):
    """Pairs of images for translation, with members and nonmembers to audit.

    Items are ``{"input": float (C, H, W), "target": float (C, H, W), "id": str}`` with values in [0, 1].
    Training uses the members only; nonmembers are the validation set.

    Args:
        root: Folder of the data set.
        preset: Name of a data set, such as ``cityscapes`` (``mia-lightning data list``), that says what other
            arguments do not; these go before it, and so does None where it says that there is none. What is left is
            ``by_preset``; without a preset that is what each argument's text says, or none.
        layout: ``folders`` pairs ``root/A/0007.*`` with ``root/B/0007.*`` (or ``root/A/train/0007.*`` with
            ``root/B/train/0007.*``); ``side_by_side`` reads pix2pix's ``root/train/*.jpg`` or ``root/*.jpg``, A on
            the left, B on the right; ``auto`` takes side_by_side if neither folder is there but images twice as
            wide as high are.
        input_dir: Folder called A (``A``), with layout folders; with ``{split}`` in it one for each split.
        target_dir: Folder called B (``B``), likewise.
        input_end: End of the names of files in A, such as ``_gtFine_labelIds`` or ``.png``; the rest is the id.
        target_end: Likewise of those in B; both may lie in one folder then.
        direction: ``a_to_b``, the default, or ``b_to_a``: which of the two is the input.
        input_kind: What the input files are: ``image``, ``labels`` (class ids), or ``auto``: labels if all are palette
            images with flat areas of few colours. Either way colours are those of each file's own palette; label maps
            are resized by the nearest pixel.
        target_kind: Likewise for targets; a label map as target becomes colours.
        input_encoding: How label maps become channels: ``palette`` (the colours of each file's own palette, or
            generated ones) or ``onehot``.
        num_input_classes: Number of classes, and so of channels, for onehot.
        label_map: Id of the class, or 255 for none, for each id that label maps hold.
        class_colours: RGB colour of each class, for label maps with encoding palette; those of each file's own palette,
            or generated ones, where nothing says it.
        splits: CSV file in root with columns ``id`` and ``split``. ``splits.csv`` may be absent: then folders name
            the splits. Audits can be sliced by its other columns (``slices``).
        id_column: Column of the splits file that holds ids (``id``).
        group_column: Column of the splits file that names what must stay on one side (a building, a patient).
        group_pattern: Regular expression whose brackets find the group in an id, such as ``^(.+)_crop``.
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
        input_channels: 3 reads input images as RGB, 1 as grey; with pages channels the number of pages.
        target_channels: Likewise for the target.
        white: Value that is white in images of more than 8 bits, such as 4095 for data of 12 bits; asked for where
            files do not tell.
        pages: ``single``: a file of several pages is refused; ``channels``: its pages are the channels of the image.
        exif: ``pair``: EXIF turns of an input and its target are applied, or refused where they contradict each other;
            ``apply``: each file is turned by its own tag; ``ignore``: pixels are read as they are stored.
        cache_dir: Folder for what is found in the files, so that later runs look only at those that have changed;
            None remembers it for this process.
        batch_size: Pairs a training step; pix2pix takes 1.
        eval_batch_size: Pairs a batch in validation, test and audit.
        num_workers: Loader processes; 0 reads in the main process.
        seed: Seed of the membership draws.

    Raises:
        ValueError: If a setting is outside its range or contradicts another. Files are looked at in `setup`.
    """

    USUAL: ClassVar[dict[str, Any]] = {
        **{"layout": "auto", "input_dir": "A", "target_dir": "B", "input_end": "", "target_end": ""},
        **{"direction": "a_to_b", "input_kind": "auto", "target_kind": "auto"},
        **dict.fromkeys(("num_input_classes", "label_map", "class_colours")),
        **dict.fromkeys(("group_column", "group_pattern", "split_pattern", "only_splits")),
        **{"splits": DEFAULT_SPLITS, "id_column": "id"},
        **{"membership": "split", "member_split": "train", "nonmember_split": "val"},
    }
    """Arguments that a preset may say, and what holds where neither it nor anybody else says anything."""

    def __init__(  # noqa: PLR0913 - each argument is an option of the command line
        self,
        root: str | Path,
        *,
        preset: str | None = None,
        layout: Literal["auto", "side_by_side", "folders"] | None = None,
        input_dir: str | None = None,
        target_dir: str | None = None,
        direction: Literal["a_to_b", "b_to_a"] | None = None,
        input_kind: SideKind | None = None,
        input_encoding: Literal["palette", "onehot"] = "palette",
        num_input_classes: int | None = None,
        splits: str | None = BY_PRESET,
        group_column: str | None = BY_PRESET,
        membership: Membership | None = None,
        member_split: str | None = None,
        nonmember_split: str | None = None,
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
        target_kind: SideKind | None = None,
        white: float | None = None,
        pages: Pages = "single",
        exif: Exif = "pair",
        cache_dir: str | None = None,
        input_end: str | None = None,
        target_end: str | None = None,
        label_map: dict[int, int] | ByPreset | None = BY_PRESET,
        class_colours: list[tuple[int, int, int]] | ByPreset | None = BY_PRESET,
        id_column: str | None = None,
        group_pattern: str | None = BY_PRESET,
        split_pattern: str | None = BY_PRESET,
        only_splits: list[str] | ByPreset | None = BY_PRESET,
    ) -> None:
        root = str(root)  # hyperparameters go into checkpoints, which load plain values only
        chosen = find_preset(preset) if preset else None
        settled = settle(chosen, "translation", Path(root), self.USUAL, locals())
        layout, direction, input_kind, target_kind = settled.take("layout", "direction", "input_kind", "target_kind")
        input_dir, target_dir, input_end, target_end = settled.take(
            "input_dir", "target_dir", "input_end", "target_end"
        )
        num_input_classes, id_map, colours = settled.take("num_input_classes", "label_map", "class_colours")
        splits, id_column, group_column = settled.take("splits", "id_column", "group_column")
        group_pattern, split_pattern, only_splits = settled.take("group_pattern", "split_pattern", "only_splits")
        membership, member_split, nonmember_split = settled.take("membership", "member_split", "nonmember_split")
        member_split, nonmember_split = nfc(member_split), nfc(nonmember_split)
        rule = MembershipRule(membership, member_split, nonmember_split, one_per_group, max_per_side, seed)
        super().__init__(rule, image_size, augment, batch_size, eval_batch_size, num_workers, exif)
        self.save_hyperparameters(logger=False)
        self._fill_hyperparameters(settled.values)
        for name, value, choices in (
            ("layout", layout, ["auto", "side_by_side", "folders"]),
            ("direction", direction, ["a_to_b", "b_to_a"]),
            ("input_kind", input_kind, ["auto", "image", "labels"]),
            ("target_kind", target_kind, ["auto", "image", "labels"]),
            ("input_encoding", input_encoding, ["palette", "onehot"]),
        ):
            if value not in choices:
                raise ValueError(f"expected {name} to be one of {choices} but got {value!r}")
        if input_encoding == "onehot" and not num_input_classes:
            raise ValueError("input_encoding='onehot' needs num_input_classes: the number of classes in the label maps")
        self.root, self.layout = Path(root), layout
        self.directories = (input_dir, target_dir) if direction == "a_to_b" else (target_dir, input_dir)
        ends = (input_end, target_end) if direction == "a_to_b" else (target_end, input_end)
        self._naming = Naming(*self.directories, *ends)
        self.swap = direction == "b_to_a"
        self.preset, self.layout_name = chosen, settled.layout.name if settled.layout else None
        self.arrangement = Arrangement(
            splits, group_column, id_column, only_splits, split_pattern, group_pattern, settled.proposed
        )
        self.class_names = chosen.classes_of(settled.layout) if chosen and settled.layout else ()
        self._meaning = LabelMeaning(id_map or None, colours or None)
        self.input_kind, self.target_kind = input_kind, target_kind
        self.num_input_classes = num_input_classes if input_encoding == "onehot" else None
        for channels in (input_channels, target_channels):
            require_channels(channels, pages)
        self._rules, self._survey = ReadingRules(white, pages, exif), FileSurvey(cache_dir)
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

    def found_files(self) -> FoundFiles:
        """Look for all files, pairs or not, and for what is wrong with them."""
        if self.layout == "side_by_side" or (self.layout == "auto" and self._looks_side_by_side()):
            if self.input_kind == "labels" or self.num_input_classes:
                raise ValueError(
                    "side-by-side files hold two images of colours, not class ids: use input_kind='auto' and "
                    "input_encoding='palette', or keep label maps in a folder of their own (layout='folders')"
                )
            return find_double_files(self.root, self.arrangement.keeps)
        return find_files(self.root, self._naming, self.arrangement.keeps)

    def pictures_of(self, record: Record) -> tuple[Path, ...]:
        """The files of a pair that are pictures and no label maps; both where neither is said to be one."""
        paths, kinds = (record.input_path, record.target_path), (self.input_kind, self.target_kind)
        return tuple(path for path, kind in zip(paths, kinds, strict=True) if kind != "labels") or paths

    def labels_of(self, record: Record) -> LabelArray | None:
        """The class ids (H, W) of a pair's label map, of the input where both are one; None where neither is."""
        paths, kinds = (record.input_path, record.target_path), (self.input_kind, self.target_kind)
        path = next((path for path, kind in zip(paths, kinds, strict=True) if kind == "labels"), None)
        return None if path is None else self._meaning.ids(read_label_pixels(path, self.exif), path)

    def names_of_classes(self) -> list[str]:
        """Names of the classes, as far as a preset says them."""
        return list(self.class_names)

    def _looks_side_by_side(self) -> bool:
        """Say whether neither folder is there, but images twice as wide as high."""
        if not self.root.is_dir() or any(folder_in(self.root, name).is_dir() for name in self.directories):
            return False
        paths = [path for _, path in files_in(self.root, IMAGE_SUFFIXES)]
        if not paths or not self._is_double(paths[0]):
            return False
        if other := next((path for path in paths if not self._is_double(path)), None):
            raise ValueError(
                f"{paths[0]} is twice as wide as high, as side-by-side files are, but {other} is not: pass "
                "layout='side_by_side' or layout='folders'"
            )
        return True

    def _is_double(self, path: Path) -> bool:
        height, width = self._survey.headers([path])[path].size(self._rules.exif)
        return width == 2 * height

    def _settle(self, records: Sequence[Record]) -> dict[str, str]:
        """Settle what the files are, how to read them and how to encode them, by all of them."""
        headers = self._survey.headers(path for r in records for path in (r.input_path, r.target_path))
        double = [record for record in records if record.input_path == record.target_path]
        if double:
            return self._settle_side_by_side([record.input_path for record in double], headers)
        turned = require_one_turn(records, headers, self._rules.exif)
        require_aspects(records, headers, self._rules.exif)
        sides = [[record.input_path for record in records], [record.target_path for record in records]]
        names = [
            f"the {side} files in {folder_in(self.root, d)}" for side, d in zip(_SIDES, self.directories, strict=True)
        ]
        whites: dict[str, str | None] = {}
        kinds: list[Kind] = []
        readers: list[Callable[..., Array]] = []
        encoders: list[Encode] = []
        most = 1
        for i, paths in enumerate(sides):
            files = SideFiles(_SIDES[i], paths, headers, names[i])
            classes = None if i else self.num_input_classes
            kind = kind_of(files, (self.input_kind, self.target_kind)[i], self._survey, classes)
            kinds.append(kind)
            if kind == "labels":
                require_pages(paths, headers, None, names[i])
                reader, encoder = label_reader(files, self._survey, classes, self._rules.exif, self._meaning)
            else:
                pages = require_pages(paths, headers, self._rules, names[i])
                most = max(most, pages)
                whites[_SIDES[i]] = settle_white(paths, headers, self._survey, self._rules.white, names[i])
                reader, encoder = image_reader(self._image_channels[i], self._rules, pages), encode_image
            readers.append(reader)
            encoders.append(encoder)
        require_white_of_use(self._rules.white, whites.values())
        self._kinds, self._encode = (kinds[0], kinds[1]), (encoders[0], encoders[1])
        self._read = FolderReader(*readers)
        notes = reading_notes(whites, most, turned, len(records), self._rules.exif)
        for i, side in enumerate(_SIDES):
            if headers[sides[i][0]].mode == "P":
                how = "label maps" if kinds[i] == "labels" else "pictures"
                own = kinds[i] == "image" or not self._meaning.colours
                notes[f"{side}_kind"] = (
                    f"palette images are read as {how}, in the colours of {'each' if own else 'classes'}"
                )
        return notes

    def _settle_side_by_side(self, paths: Sequence[Path], headers: Headers) -> dict[str, str]:
        what = f"the side-by-side files in {self.root}"
        require_pages(paths, headers, None, what)
        white = settle_white(paths, headers, self._survey, self._rules.white, what)
        require_white_of_use(self._rules.white, [white])
        modes = [image_mode(channels) for channels in self._image_channels]
        self._read = SideBySideReader(modes[0], modes[1], swap=self.swap, rules=self._rules)
        return reading_notes({"side by side": white}, 1, 0, 0, self._rules.exif)

    def _make_dataset(self, records: Sequence[Record], augment: Sequence[str]) -> Dataset[Item]:
        transform = PairedTransform(self.image_size, augment, input_kind=self._kinds[0], target_kind=self._kinds[1])
        size = partial(native_size, exif=self._rules.exif, halves=isinstance(self._read, SideBySideReader))
        return TranslationDataset(records, self._read, transform, *self._encode, size)

    def _check(self, records: Sequence[Record]) -> None:
        """Look at the ids of label maps: wrong ones would go unnoticed."""
        for side, encoder in enumerate(self._encode):
            if self._kinds[side] == "labels" and encoder is not encode_image:
                paths = [(record, (record.input_path, record.target_path)[side]) for record in records]
                require_known_ids(paths, self._survey, encoder, self._meaning)


_SIDES = ("input", "target")
