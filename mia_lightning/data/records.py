"""Finds the pairs of a data set on disk: two folders with matching names, or pix2pix's side-by-side files.

:mod:`mia_lightning.data.found_files` has what is found, pairs or not.
"""

import os
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Suffixes (lower case) of the files that are looked at; everything else in a folder is ignored."""

_PACKED = ".nii.gz"  # the one suffix of two parts

NO_SPLIT = "all"
"""Name of the only split of data that has neither a splits file nor a folder per split."""


@dataclass(frozen=True)
class Record:
    """One pair on disk.

    Args:
        id: Path below its folder without suffix, such as ``"0007"`` or ``"train/0007"``; unique, in Unicode's form NFC.
        split: Name of the pair's split.
        group: What must stay on one side (a building, a patient), or None where the pair has no group.
        input_path: File of the input.
        target_path: File of the target; the same as `input_path` where both lie side by side in one file.
        columns: What the splits file says of the pair, by column, such as its site.
        object_paths: Where the target has one file an object, these files, of which `target_path` is the first.
    """

    id: str
    split: str
    group: str | None
    input_path: Path
    target_path: Path
    columns: Mapping[str, str] = field(default_factory=dict, compare=False)
    object_paths: tuple[Path, ...] = ()

    @property
    def target_paths(self) -> tuple[Path, ...]:
        """All files of the target."""
        return self.object_paths or (self.target_path,)


def require_folder(path: Path, expected: str) -> Path:
    """Return `path` if it is a folder.

    Raises:
        FileNotFoundError: Names the missing folder, what was `expected` in it, and the existing alternatives.
        NotADirectoryError: If it is a file.
    """
    if path.is_dir():
        return path
    if path.exists():
        raise NotADirectoryError(f"expected a folder with {expected} at {path}, but it is a file: pass the folder")
    parent = path.parent
    if not parent.is_dir():
        raise FileNotFoundError(f"no folder {path}: expected {expected} there, but {parent} does not exist either")
    raise FileNotFoundError(
        f"no folder {path.name!r} in {parent}: expected {expected} there. "
        f"Folders that do exist: {_listing(folders_in(parent))}. Correct the path or the folder's name."
    )


def folders_in(path: Path) -> list[str]:
    """Return the names of the visible folders directly in `path`, sorted."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def find_folder_pairs(
    root: Path,
    input_dir: str,
    target_dir: str,
    *,
    input_suffixes: Collection[str] = IMAGE_SUFFIXES,
    target_suffixes: Collection[str] = IMAGE_SUFFIXES,
) -> list[Record]:
    """Pair ``root/input_dir/<stem>.*`` with ``root/target_dir/<stem>.*``; suffixes may differ.

    Files may also lie one folder deeper, ``root/<dir>/<split>/<stem>.*``: that folder's name is the split and part of
    the id. Without such a folder the split is ``"all"``. Records are sorted by id.

    Raises:
        FileNotFoundError: If a folder is missing or holds no image.
        ValueError: If stems occur twice or have no partner.
    """
    require_folder(root, "the data set")
    input_folder, target_folder = folder_in(root, input_dir), folder_in(root, target_dir)
    inputs = _images_by_id(require_folder(input_folder, "the input images"), input_suffixes)
    targets = _images_by_id(require_folder(target_folder, "the target images"), target_suffixes)
    _require_partners(inputs, targets, input_folder, target_folder)
    return [Record(id, split_of(id), None, inputs[id], targets[id]) for id in sorted(inputs)]


def find_side_by_side(root: Path) -> list[Record]:
    """Find pix2pix's AB files (A left, B right): ``root/<split>/<stem>.*`` or ``root/<stem>.*``.

    Records are sorted by id; both paths are that of the AB file.

    Raises:
        FileNotFoundError: If the folder is missing or holds no image.
        ValueError: If a stem occurs twice.
    """
    files = _images_by_id(require_folder(root, "side-by-side AB images"))
    return [Record(id, split_of(id), group=None, input_path=files[id], target_path=files[id]) for id in sorted(files)]


def split_of(id: str) -> str:
    """Return the split that an id's own folder names.

    Example:
        >>> split_of("train/0007"), split_of("0007")
        ('train', 'all')
    """
    return id.split("/", maxsplit=1)[0] if "/" in id else NO_SPLIT


def name_some(names: Iterable[str], most: int = 5) -> str:
    """Name the first few of many for an error message.

    Example:
        >>> name_some(["b", "a", "c"], most=2)
        "'a', 'b', ... (3 in all)"
    """
    ordered = sorted(names)
    text = ", ".join(repr(name) for name in ordered[:most])
    return text if len(ordered) <= most else f"{text}, ... ({len(ordered)} in all)"


def nfc(name: str) -> str:
    """Return a name as it is compared: macOS writes an umlaut as two characters, others as one.

    Example:
        >>> nfc("u\u0308") == "\u00fc"
        True
    """
    return unicodedata.normalize("NFC", name)


def folder_in(parent: Path, name: str) -> Path:
    """Return the folder of a name, however its file system writes accents; ``parent / name`` where there is none."""
    folder = parent / name
    if folder.exists() or not parent.is_dir():
        return folder
    return next((entry for entry in sorted(parent.iterdir()) if nfc(entry.name) == nfc(name)), folder)


def files_in(folder: Path, suffixes: Collection[str]) -> Iterator[tuple[str, Path]]:
    """Yield id and path of every visible file below `folder` with one of the suffixes, sorted; links are followed.

    Raises:
        ValueError: If a link leads back to a folder that it lies in.
    """
    for path in sorted(_visible_files(folder, (os.path.realpath(folder),))):
        name = path.name.lower()
        suffix = _PACKED if name.endswith(_PACKED) and _PACKED in suffixes else path.suffix.lower()
        if suffix in suffixes:
            yield nfc(path.relative_to(folder).as_posix().removesuffix(path.name[-len(suffix) :])), path


def _visible_files(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield path
                continue
            real = os.path.realpath(path) if entry.is_symlink() else str(Path(above[-1]) / entry.name)
            if real in above:
                raise ValueError(
                    f"the link {path} leads back to {real}, a folder that it lies in: its files would be found without "
                    "end. Remove the link."
                )
            yield from _visible_files(path, (*above, real))


def _images_by_id(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Map id to file for every image below `folder`."""
    paths, twice = by_id(files_in(folder, suffixes))
    if twice:
        raise more_than_one(folder, twice)
    if not paths:
        raise no_images(folder, suffixes)
    return paths


def by_id(files: Iterable[tuple[str, Path]]) -> tuple[dict[str, Path], set[str]]:
    """Map id to file, and name the ids of which there are several."""
    paths: dict[str, Path] = {}
    twice: set[str] = set()
    for id, path in files:
        if id in paths:
            twice.add(id)
        paths[id] = path
    return paths, twice


def more_than_one(folder: Path, ids: Iterable[str]) -> ValueError:
    """The error of a folder that holds several files of an id."""
    return ValueError(
        f"{folder} holds more than one image for {name_some(ids)}: names without suffix must be "
        "unique, in whatever way accents are written. Remove or rename the extra files."
    )


def no_images(folder: Path, suffixes: Collection[str], end: str = "") -> FileNotFoundError:
    """The error of a folder without images, or without any whose names have an `end`."""
    named = f" whose names end in {end!r}" if end else ""
    return FileNotFoundError(
        f"no images{named} in {folder} (folders in it: {_listing(folders_in(folder))}): expected files ending "
        f"in {', '.join(sorted(suffixes))}. Fill the folder or correct the path."
    )


def _require_partners(inputs: dict[str, Path], targets: dict[str, Path], input_dir: Path, target_dir: Path) -> None:
    """Raise unless both folders hold the same ids."""
    if error := no_partners(inputs, targets, input_dir, target_dir):
        raise error


def no_partners(
    inputs: Collection[str], targets: Collection[str], input_dir: Path, target_dir: Path
) -> ValueError | None:
    """The error of folders that do not hold the same ids; None where they do."""
    lonely_inputs, lonely_targets = set(inputs) - set(targets), set(targets) - set(inputs)
    if not lonely_inputs and not lonely_targets:
        return None
    sides = [(lonely_inputs, input_dir, target_dir), (lonely_targets, target_dir, input_dir)]
    return ValueError(
        "; ".join(
            f"{len(lonely)} of the files in {here} have no partner in {there}: {name_some(lonely)}"
            for lonely, here, there in sides
            if lonely
        )
        + f". {len(set(inputs) & set(targets))} pairs match. A pair has the same name in both folders, "
        "suffixes aside: rename or remove the files named here."
    )


def _listing(names: Sequence[str]) -> str:
    return name_some(names, most=12) if names else "none"
