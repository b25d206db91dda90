"""What a preset of a data set says: classes, layouts on disk, splits, groups, source and licence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from mia_lightning.functional.suggestions import suggestion

Task = Literal["segmentation", "translation"]
Colour = tuple[int, int, int]

ByPreset = Literal["by_preset"]
BY_PRESET: ByPreset = "by_preset"
"""Default of the arguments whose None says something, that there is none: a word, which configurations can hold."""

_MAY_BE_NONE = frozenset(
    {
        *("class_names", "foreground", "palette", "label_map", "threshold", "class_colours"),
        *("splits", "group_column", "group_pattern", "split_pattern", "only_splits"),
    }
)

_OF_A_FILE = frozenset({"splits", "group_column"})

MODULES: dict[Task, str] = {"segmentation": "SegmentationDataModule", "translation": "PairedImageDataModule"}
"""Data module of each task."""

SEE_THE_SITE = "see the site"
"""What stands for terms that this package does not know for certain."""


@dataclass(frozen=True)
class Layout:
    """How one release of a data set lies on disk.

    Args:
        name: Names it, such as ``gtFine``.
        signs: Patterns of paths below the root; a folder in which each of them exists has this layout.
        images: Folder of the images, ``{split}`` standing for the name of a split; with `objects` that within the
            folder of each sample.
        masks: Likewise of the label maps.
        image_end: End of the names of images, such as ``_leftImg8bit`` or ``.jpg``; the rest is the id.
        mask_end: Likewise of label maps.
        objects: Whether each sample has a folder of its own, with a mask for each object.
        side_by_side: For files of two images, which half is the input: ``"left"`` or ``"right"``.
        tasks: Tasks that it serves.
        segmentation: Further arguments of ``SegmentationDataModule``, which go before those of the fields above.
        translation: Likewise of ``PairedImageDataModule``.
        common: Likewise of both: splits, groups.
        classes: Names of its classes, where they are others than the preset's.
        colours: Their colours.
        void: Id of ignored pixels.
        pairs: Number of pairs of each split in the whole release.
        group: What one group is, such as ``city``; "" where samples have none.
    """

    name: str
    signs: tuple[str, ...]
    images: str = "images"
    masks: str = "masks"
    image_end: str = ""
    mask_end: str = ""
    objects: bool = False
    side_by_side: Literal["left", "right"] | None = None
    tasks: tuple[Task, ...] = ("segmentation", "translation")
    segmentation: Mapping[str, Any] = field(default_factory=dict)
    translation: Mapping[str, Any] = field(default_factory=dict)
    common: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    colours: tuple[Colour, ...] | None = None
    void: int = 255
    pairs: Mapping[str, int] = field(default_factory=dict)
    group: str = ""

    def fits(self, root: Path) -> bool:
        """Whether each sign exists below the root, whatever the case of letters."""
        return root.is_dir() and not self.missing(root)

    def missing(self, root: Path) -> list[str]:
        """The signs that a folder does not have."""
        return [sign for sign in self.signs if not _exists(root, Path(sign).parts)]

    def settings(self, task: Task, preset: "Preset", direction: str | None = None) -> dict[str, Any]:
        """Arguments of a task's data module, for a direction of translation; None is from labels to photographs."""
        classes, colours = preset.classes_of(self), preset.colours_of(self)
        if task == "segmentation":
            own = self._of_segmentation(classes)
        elif self.side_by_side:
            own = {"layout": "side_by_side", "direction": "a_to_b" if self.side_by_side == "left" else "b_to_a"}
        else:
            own = self._of_translation(classes, colours, swapped=direction == "b_to_a")
        further = self.segmentation if task == "segmentation" else self.translation
        return own | dict(self.common) | dict(further)

    def _of_segmentation(self, classes: tuple[str, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {"image_dir": self.images, "mask_dir": self.masks, "ignore_index": self.void}
        own |= {"image_end": self.image_end, "mask_end": self.mask_end}
        own |= {"mask_files": "objects" if self.objects else "one"}
        return own | ({"num_classes": len(classes), "class_names": list(classes)} if classes else {})

    def _of_translation(
        self, classes: tuple[str, ...], colours: tuple[Colour, ...], *, swapped: bool
    ) -> dict[str, Any]:
        own: dict[str, Any] = {"layout": "folders", "input_dir": self.masks, "target_dir": self.images}
        own |= {"input_end": self.mask_end, "target_end": self.image_end}
        if classes:
            kinds = ("image", "labels") if swapped else ("labels", "image")
            own |= {"input_kind": kinds[0], "target_kind": kinds[1], "num_input_classes": len(classes)}
        if colours:
            own |= {"class_colours": [list(colour) for colour in colours]}
        return own


@dataclass(frozen=True)
class Preset:
    """A data set by name: settings of the data modules, and what people have to know of it.

    Args:
        name: Such as ``cityscapes``.
        title: Its full name.
        about: What the images show, in a phrase.
        url: Where to get it.
        licence: What its publishers allow, in a phrase.
        layouts: Its releases; a folder has the first one whose signs are there.
        classes: Names of the classes, in the order of their ids; none where the set has none of its own.
        colours: RGB colour of each class, in pictures of label maps.
        note: What to mind, in a sentence; "" for nothing.

    Raises:
        ValueError: If there is no layout, or classes and colours differ in number.
    """

    name: str
    title: str
    about: str
    url: str
    licence: str
    layouts: tuple[Layout, ...]
    classes: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if not self.layouts:
            raise ValueError(f"the preset {self.name!r} has no layout: expected at least one")
        for layout in self.layouts:
            classes, colours = self.classes_of(layout), self.colours_of(layout)
            if colours and len(colours) != len(classes):
                raise ValueError(
                    f"the preset {self.name!r} has {len(classes)} classes and {len(colours)} colours: one for each"
                )

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks that a layout serves."""
        served = {task for layout in self.layouts for task in layout.tasks}
        return tuple(task for task in MODULES if task in served)

    def classes_of(self, layout: Layout) -> tuple[str, ...]:
        """Names of the classes in a layout."""
        return layout.classes or self.classes

    def colours_of(self, layout: Layout) -> tuple[Colour, ...]:
        """Colours of the classes in a layout."""
        return layout.colours or self.colours

    def layouts_of(self, task: Task) -> tuple[Layout, ...]:
        """Layouts that serve a task.

        Raises:
            ValueError: If none does; names the data module that there is.
        """
        found = tuple(layout for layout in self.layouts if task in layout.tasks)
        if not found:
            raise ValueError(
                f"the preset {self.name!r} is for {' and '.join(MODULES[t] for t in self.tasks)}, not for "
                f"{MODULES[task]}: name that data module, or another preset"
            )
        return found

    def layout_in(self, root: Path, task: Task) -> Layout | None:
        """The layout that a folder has; None where it has none that serves the task."""
        return next((layout for layout in self.layouts_of(task) if layout.fits(root)), None)


@dataclass(frozen=True)
class Settled:
    """Arguments of a data module, once a preset has said its part.

    Args:
        values: By argument.
        proposed: Names of those that the preset says, and nobody else; of a file's, also where the same is passed.
        layout: Layout of the preset that was taken; None without one.
    """

    values: Mapping[str, Any]
    proposed: frozenset[str] = frozenset()
    layout: Layout | None = None

    def take(self, *names: str) -> tuple[Any, ...]:
        """Return the values of some arguments."""
        return tuple(self.values[name] for name in names)


def settle(
    preset: Preset | None, task: Task, root: Path, usual: Mapping[str, Any], passed: Mapping[str, Any]
) -> Settled:
    """Settle the arguments of a data module: what is passed goes before the preset's, and that before the usual.

    Args:
        preset: None for no preset.
        task: That of the data module.
        root: Folder of the data, which tells the layout; the first one where it has none.
        usual: What holds where neither says anything, by argument; no other arguments are settled.
        passed: What was passed. Nothing was where the value is ``BY_PRESET``, or None for an argument that cannot be
            None in the end. Other names are not looked at.

    Raises:
        ValueError: If the preset is not for the task.
    """
    own: dict[str, Any] = {}
    layout = None
    if preset is not None:
        layout = preset.layout_in(root, task) or preset.layouts_of(task)[0]
        own = layout.settings(task, preset, passed.get("direction"))
    said = {name for name in usual if _says(name, passed.get(name))}
    # A checkpoint passes the file that the preset proposed: that it is not there is no more an error than it was.
    again = {name for name in said & _OF_A_FILE if passed[name] == own.get(name)}
    proposed = frozenset((own.keys() & usual.keys() - said) | again)
    values = {name: passed[name] if name in said else own.get(name, usual[name]) for name in usual}
    return Settled(values, proposed, layout)


def is_left(value: Any) -> bool:
    """Whether a value stands for an argument that is left to the preset."""
    return isinstance(value, str) and value == BY_PRESET


def _says(name: str, value: Any) -> bool:
    return not is_left(value) and (value is not None or name in _MAY_BE_NONE)


def no_preset(name: str, names: list[str]) -> str:
    """Say that there is no preset of a name, which one was probably meant, and which there are."""
    return f"no preset {name!r}{suggestion(name, names)}; presets are {', '.join(names)}"


def _exists(folder: Path, pattern: tuple[str, ...]) -> bool:
    """Whether a path below a folder fits a pattern, part by part, whatever the case of letters."""
    first, *rest = pattern
    for entry in folder.iterdir():
        fits = fnmatchcase(entry.name.lower(), first.lower()) and not entry.name.startswith(".")
        if fits and (not rest or (entry.is_dir() and _exists(entry, tuple(rest)))):
            return True
    return False
