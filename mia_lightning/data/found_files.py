"""What lies in the folders of a data set, pairs or not: for those who need all of it, and for those who check it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mia_lightning.data.records import (
    IMAGE_SUFFIXES,
    Record,
    by_id,
    files_in,
    folder_in,
    folders_in,
    more_than_one,
    name_some,
    nfc,
    no_images,
    no_partners,
    require_folder,
    split_of,
)

SPLIT = "{split}"
"""Stands in the name of a folder for the name of a split."""


@dataclass(frozen=True)
class Naming:
    """Which files are inputs, and which are their targets.

    Args:
        input_dir: Folder of the inputs below the root; with ``{split}`` in it one for each split, whose name then is
            the first part of ids.
        target_dir: Likewise of the targets.
        input_end: End of the names of inputs, with or without the suffix; ids are names without it.
        target_end: Likewise of the targets.
        objects: Each sample has a folder, with a file in ``input_dir`` and one for each object in ``target_dir``.
    """

    input_dir: str
    target_dir: str
    input_end: str = ""
    target_end: str = ""
    objects: bool = False


@dataclass
class FoundFiles:
    """Files of both sides, by id.

    Args:
        inputs: The inputs.
        targets: The targets, several where each object has one.
        errors: Why a training could not begin; what can be read is there all the same.
    """

    inputs: dict[str, Path] = field(default_factory=dict)
    targets: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    errors: list[OSError | ValueError] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        """Those that have both, sorted by id."""
        return [
            Record(id, split_of(id), None, self.inputs[id], paths[0], object_paths=paths if len(paths) > 1 else ())
            for id, paths in sorted(self.targets.items())
            if id in self.inputs
        ]

    def required(self) -> list[Record]:
        """Return the records, or raise the first error."""
        if self.errors:
            raise self.errors[0]
        return self.records


def find_files(root: Path, naming: Naming, keep: Callable[[str], bool] = lambda id: True) -> FoundFiles:
    """Look for the files of a data set.

    Args:
        root: Folder of the data set.
        naming: Which files are what.
        keep: Whether an id is of use: others are not looked at.

    Returns:
        What there is, and what is wrong with it.

    Raises:
        FileNotFoundError: If the root does not exist.
        NotADirectoryError: If it is a file.
    """
    require_folder(root, "the data set")
    found = FoundFiles()
    try:
        if naming.objects:
            _find_objects(root, naming, keep, found)
        else:
            _find_in_folders(root, naming, keep, found)
    except (OSError, ValueError) as error:  # a folder that is missing ends the search
        found.errors.append(error)
    return found


def find_double_files(root: Path, keep: Callable[[str], bool] = lambda id: True) -> FoundFiles:
    """Look for pix2pix's files of two images; errors as of :func:`find_files`."""
    require_folder(root, "side-by-side AB images")
    found = FoundFiles()
    try:
        paths, twice = by_id((id, path) for id, path in files_in(root, IMAGE_SUFFIXES) if keep(id))
    except ValueError as error:
        found.errors.append(error)
        return found
    if twice:
        found.errors.append(more_than_one(root, twice))
    elif not paths:
        found.errors.append(no_images(root, IMAGE_SUFFIXES))
    found.inputs = paths
    found.targets = {id: (path,) for id, path in paths.items()}
    return found


def _find_in_folders(root: Path, naming: Naming, keep: Callable[[str], bool], found: FoundFiles) -> None:
    names = (naming.input_dir, naming.target_dir)
    if any(SPLIT in name for name in names):
        places = _folders_of_splits(root, naming, keep, found)
    else:
        inputs, targets = (folder_in(root, name) for name in names)
        places = {"": (require_folder(inputs, "the input images"), require_folder(targets, "the target images"))}
    for split, (inputs, targets) in places.items():
        one = inputs.resolve() == targets.resolve()
        sides: list[dict[str, Path]] = []
        for folder, end, other in (
            (inputs, naming.input_end, naming.target_end if one else ""),
            (targets, naming.target_end, naming.input_end if one else ""),
        ):
            files = [(id, path) for id, path in _ending(folder, end, other, split) if keep(id)]
            paths, twice = by_id(files)
            if twice:
                found.errors.append(more_than_one(folder, twice))
            elif not paths:
                found.errors.append(no_images(folder, IMAGE_SUFFIXES, end))
            sides.append(paths)
        found.inputs |= sides[0]
        found.targets |= {id: (path,) for id, path in sides[1].items()}
        if all(sides) and (error := no_partners(sides[0], sides[1], inputs, targets)):
            found.errors.append(error)


def _ending(folder: Path, end: str, other: str, split: str) -> Iterator[tuple[str, Path]]:
    """Yield ids and paths of the images in a folder whose names have an end, and not the longer one of the others."""
    stem, _ = _parted(end)
    for id, path in files_in(folder, IMAGE_SUFFIXES):
        name = nfc(path.name)
        if _has_end(name, end) and not (len(other) > len(end) and _has_end(name, other)):
            kept = id.removesuffix(stem)
            yield f"{split}/{kept}" if split else kept, path


def _has_end(name: str, end: str) -> bool:
    """Whether a file's name has an end, which may or may not include the suffix.

    Example:
        >>> _has_end("a_mask.png", "_mask"), _has_end("a.JPG", ".jpg"), _has_end("a_mask.png", "_mask.bmp")
        (True, True, False)
    """
    stem, suffix = _parted(end)
    path = Path(name)
    return path.stem.endswith(stem) and (not suffix or path.suffix.lower() == suffix)


def _parted(end: str) -> tuple[str, str]:
    """The part of an end before the suffix, and the suffix, "" where it has none.

    Example:
        >>> _parted("_mask"), _parted("_mask.PNG"), _parted(".jpg")
        (('_mask', ''), ('_mask', '.png'), ('', '.jpg'))
    """
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if end.lower().endswith(suffix)), "")
    return nfc(end[: len(end) - len(suffix)]), suffix


def _folders_of_splits(
    root: Path, naming: Naming, keep: Callable[[str], bool], found: FoundFiles
) -> dict[str, tuple[Path, Path]]:
    """Folders of inputs and targets for each split; a split that has one of the two is an error."""
    inputs, targets = (_matching(root, name) for name in (naming.input_dir, naming.target_dir))
    if naming.input_dir != naming.target_dir:  # trainannot is the folder of labels, not of a split trainannot
        taken = set(targets.values()) & set(inputs.values())
        looser = targets if len(naming.input_dir) > len(naming.target_dir) else inputs
        for split in [split for split, folder in looser.items() if folder in taken]:
            del looser[split]
    inputs, targets = ({s: f for s, f in side.items() if keep(f"{s}/")} for side in (inputs, targets))
    for name, here, there in ((naming.target_dir, inputs, targets), (naming.input_dir, targets, inputs)):
        if lonely := sorted(here.keys() - there.keys()):
            places = name_some(name.replace(SPLIT, split) for split in lonely)
            found.errors.append(
                FileNotFoundError(
                    f"no folder {places} in {root}, though {name_some(here[s].name for s in lonely)} is there: "
                    "add the files of that split, or leave the split out with only_splits"
                )
            )
    both = sorted(inputs.keys() & targets.keys())
    if not both and not found.errors:
        names = ", ".join(map(repr, folders_in(root))) or "none"
        found.errors.append(
            FileNotFoundError(
                f"no folders {naming.input_dir} and {naming.target_dir} in {root}, for whatever split. Folders that do "
                f"exist: {names}. Correct the path or the folders' names."
            )
        )
    return {split: (inputs[split], targets[split]) for split in both}


def _matching(root: Path, template: str) -> dict[str, Path]:
    """Folders whose path below the root fits a template, by what stands for the split."""
    places: dict[str, Path] = {"": root}
    for part in Path(template).parts:
        below: dict[str, Path] = {}
        for split, folder in places.items():
            if SPLIT not in part or split:
                name = part.replace(SPLIT, split)
                below |= {split: folder / name} if (folder / name).is_dir() else {}
                continue
            before, after = part.split(SPLIT, maxsplit=1)
            for name in folders_in(folder):
                if name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after):
                    below[nfc(name[len(before) : len(name) - len(after)])] = folder / name
        places = below
    return places


def _find_objects(root: Path, naming: Naming, keep: Callable[[str], bool], found: FoundFiles) -> None:
    """Samples that have a folder each, with one image and a mask for each object."""
    if absolute := [name for name in (naming.input_dir, naming.target_dir) if Path(name).is_absolute()]:
        raise ValueError(
            f"{absolute[0]} is one folder, and with mask_files='objects' each sample has folders of its own: expected "
            "image_dir and mask_dir to be names within the folder of a sample, such as images and masks"
        )
    folders = sorted(path.parent for path in root.rglob(naming.input_dir) if path.is_dir())
    empty: list[str] = []
    for folder in folders:
        id = nfc(folder.relative_to(root).as_posix()) if folder != root else nfc(root.name)
        if not keep(id):
            continue
        images = [path for _, path in files_in(folder / naming.input_dir, IMAGE_SUFFIXES)]
        masks = folder / naming.target_dir
        objects = tuple(path for _, path in files_in(masks, IMAGE_SUFFIXES)) if masks.is_dir() else ()
        if len(images) > 1:
            found.errors.append(
                ValueError(f"{folder / naming.input_dir} holds {len(images)} images: expected one a sample")
            )
        if images:
            found.inputs[id] = images[0]
        if objects:
            found.targets[id] = objects
        if not images or not objects:
            empty.append(f"{id}/{naming.target_dir if images else naming.input_dir}")
    if not found.inputs and not found.targets:
        found.errors.append(
            FileNotFoundError(
                f"no sample in {root}: expected a folder for each, with an image in {naming.input_dir} and a mask for "
                f"each object in {naming.target_dir}. Folders that do exist: "
                f"{name_some(folders_in(root), 12) or 'none'}."
            )
        )
    elif empty:
        found.errors.append(
            ValueError(
                f"{len(empty)} of the samples in {root} lack their files: nothing in {name_some(empty)}. Add the "
                "files, or remove the folders."
            )
        )
