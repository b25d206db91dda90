"""What must hold over all files of a data set, lest some of them are read with another meaning than the rest."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.file_survey import FileSurvey, LabelSummary
from mia_lightning.data.image_headers import ImageHeader
from mia_lightning.data.images import ReadingRules, declares_white, highest_value, pages_advice
from mia_lightning.data.label_pixels import LabelArray, LabelPixels, follows_greys
from mia_lightning.data.records import Record
from mia_lightning.data.transforms import require_one_aspect, same_aspect

Headers = Mapping[Path, ImageHeader]

FOLLOW_COLOURS = (
    "Pass palette=[[R, G, B], ...], the colour of each class, so that colours are followed, or store all files with "
    "one palette."
)
"""What to do about palettes that differ between files."""

_DEPTHS = (8, 10, 12, 14, 16)
_BLACK = (0, 0, 0)


def require_pages(paths: Sequence[Path], headers: Headers, rules: ReadingRules | None, what: str) -> int:
    """Return the number of pages of a side's files, which is 1 without ``pages="channels"``, and for label maps.

    Args:
        paths: The files.
        headers: Their headers.
        rules: How pictures are read; None where a file can have one page only.
        what: Names the files in messages.

    Raises:
        ValueError: If a file has several and they were not said to be channels, or numbers differ.
    """
    numbers = {path: headers[path].pages for path in paths}
    several = [path for path in paths if numbers[path] > 1]
    if not several:
        return 1
    if rules is None or rules.pages == "single":
        raise ValueError(
            f"{_count(several, paths)} of {what} hold more than one page: {several[0]} holds "
            f"{pages_advice(numbers[several[0]], channels=rules is not None)}."
        )
    if len(found := sorted(set(numbers.values()))) > 1:
        examples = ", ".join(f"{next(p for p in paths if numbers[p] == n)} has {n}" for n in found[:3])
        raise ValueError(
            f"{what} differ in their number of pages ({examples}): with pages='channels' all have the same"
        )
    return found[0]


def require_one_turn(records: Sequence[Record], headers: Headers, exif: Exif, total: int | None = None) -> int:
    """Refuse pairs of which EXIF turns one file and not the other, unless their sizes leave no doubt.

    Args:
        records: The pairs.
        headers: Of their files.
        exif: The setting.
        total: How many pairs there are, where these are some of them, for the message.

    Returns:
        Number of pairs of which a file is turned.

    Raises:
        ValueError: Names a pair, its tags, and the setting that answers.
    """
    turned = 0
    faults: list[tuple[Record, str]] = []
    for record in records:
        first, second = headers[record.input_path], headers[record.target_path]
        turned += first.turn != 1 or second.turn != 1
        if exif == "pair" and (fault := turn_fault(first, second)):
            faults.append((record, fault))
    if faults:
        record, fault = faults[0]
        raise ValueError(
            f"sample {record.id!r} ({record.input_path} and {record.target_path}): {fault} The same holds for "
            f"{len(faults)} of {total or len(records)} pairs. Pass exif='apply' if each file is right once it is "
            "turned by its own tag (as viewers show it), exif='ignore' if they lie on one another as their pixels are "
            "stored; or store both files without a tag."
        )
    return turned


def require_aspects(records: Sequence[Record], headers: Headers, exif: Exif) -> None:
    """Raise a ValueError that names the first pair whose files differ in their aspect ratio, as they are read."""
    for record in records:
        first, second = headers[record.input_path], headers[record.target_path]
        try:
            require_one_aspect(first.size(exif), second.size(exif))
        except ValueError as error:
            raise ValueError(f"sample {record.id!r} ({record.input_path} and {record.target_path}): {error}") from error


def turn_fault(first: ImageHeader, second: ImageHeader) -> str | None:
    """Say in a sentence why the EXIF turns of a pair cannot both be right; None where they can.

    Example:
        >>> photo, mask = ImageHeader(96, 64, "RGB", 1, 6, "uint8"), ImageHeader(64, 96, "L", 1, 1, "uint8")
        >>> turn_fault(photo, mask) is None  # the mask was drawn upright: only so do the sizes fit
        True
    """
    if first.turn == second.turn:
        return None
    tags = f"EXIF orientations are {first.turn} and {second.turn}"
    if 1 not in (first.turn, second.turn):
        return f"{tags}: two different turns of one scene."
    turned, plain = (first, second) if second.turn == 1 else (second, first)
    size = (plain.height, plain.width)
    upright = same_aspect(turned.upright_size, size)
    stored = same_aspect((turned.height, turned.width), size)
    if upright and not stored:
        return None
    if stored and not upright:
        return f"{tags}: only one of the two is turned, and their sizes fit only as their pixels are stored."
    if not stored:
        return None  # of other scenes, whatever the turn: the sizes say so
    return f"{tags}: only one of the two is turned, and their sizes do not tell whether the other is upright already."


def settle_white(
    paths: Sequence[Path], headers: Headers, survey: FileSurvey, white: float | None, what: str
) -> str | None:
    """Say what is white in files of more than 8 bits; None where there are none.

    Raises:
        ValueError: If values lie outside of 0 to white, or `white` is None and files do not tell: all values fit into
            half of what their type holds.
    """
    wide = [path for path in paths if not declares_white(headers[path].depth)]
    if not wide:
        return None
    ranges = survey.ranges(wide)
    depths = sorted({headers[path].depth for path in wide})
    held = f"{_count(wide, paths)} of {what} hold {' and '.join(depths)} values"
    for path in wide:
        low, high = ranges[path]
        if not (low >= 0 and high < float("inf")):  # written so that NaN is refused too
            raise ValueError(
                f"{held}, and {path} has values from {low:g} to {high:g}: expected 0 or more, and finite ones. Move "
                "the values (such as +1024 for Hounsfield units) and store them anew, then pass white=VALUE."
            )
        if white is not None and high > white:
            raise ValueError(f"{held}, and {path} has values up to {high:g}, above white={white:g}: raise white")
    highest = max(high for _, high in ranges.values())
    if white is not None:
        return f"{held} up to {highest:g}; white={white:g} as set"
    for depth in depths:
        own = highest_value(depth) if depth == "uint16" or depth.startswith("float") else None
        top = max(ranges[path][1] for path in wide if headers[path].depth == depth)
        if own is None or not own / 2 < top <= own:
            example = next(path for path in wide if headers[path].depth == depth)
            raise ValueError(
                f"{held}, the highest being {top:g} (such as {example}), and files do not say which value is white. "
                f"Pass white=VALUE: {_suggestions(depth, top)}."
            )
    return f"{held} up to {highest:g}; white is the highest that they can hold"


def require_one_palette(
    summaries: Mapping[Path, LabelSummary], remedy: str = FOLLOW_COLOURS, foreground: int | None = None
) -> None:
    """Refuse label maps whose indices mean other colours in other files.

    Raises:
        ValueError: Names two files and what differs.
    """
    palettes = {path: s.pixels for path, s in summaries.items() if s.pixels.colours is not None}
    files = [(path, pixels) for path, pixels in palettes.items() if not follows_greys(pixels, foreground)]
    colours = {pixels.colours[:, :3].tobytes() for _, pixels in files if pixels.colours is not None}
    longest = max(colours, key=len, default=b"")
    if all(longest.startswith(table) for table in colours):
        return
    by_index: dict[int, tuple[tuple[int, ...], Path]] = {}
    by_colour: dict[tuple[int, ...], tuple[set[int], Path]] = {}
    for path, pixels in files:
        indices: dict[tuple[int, ...], set[int]] = {}
        for index, colour in pixels.used_colours.items():
            indices.setdefault(colour, set()).add(index)
            other, where = by_index.setdefault(index, (colour, path))
            if other != colour:
                found = f"index {index} is the colour {list(other)} in {where} and {list(colour)} in {path}"
                raise ValueError(f"the palettes of the files differ: {found}. {remedy}")
        for colour, own in indices.items():
            earlier, where = by_colour.setdefault(colour, (own, path))
            if not earlier & own:
                found = f"the colour {list(colour)} has the index {min(earlier)} in {where} and {min(own)} in {path}"
                raise ValueError(f"the palettes of the files differ: {found}. {remedy}")
            earlier |= own


def require_one_index(
    first: Mapping[Path, LabelSummary], second: Mapping[Path, LabelSummary], remedy: str, foreground: int | None = None
) -> None:
    """Refuse two folders of label maps in which a colour that both use has no index in common.

    Colours that one of them alone has say nothing: a program that keeps the indices may write palettes of its own.

    Raises:
        ValueError: Names a file of each, the colour and its indices.
    """
    places: list[dict[tuple[int, ...], dict[int, Path]]] = []
    for summaries in (first, second):
        of_colours: dict[tuple[int, ...], dict[int, Path]] = {}
        for path, summary in summaries.items():
            if not follows_greys(summary.pixels, foreground):
                for index, colour in summary.pixels.used_colours.items():
                    of_colours.setdefault(colour, {}).setdefault(index, path)
        places.append(of_colours)
    for colour in places[0].keys() & places[1].keys():
        own, other = places[0][colour], places[1][colour]
        if not own.keys() & other.keys():
            (index, path), (other_index, other_path) = min(own.items()), min(other.items())
            raise ValueError(
                f"the palettes of the files differ: the colour {list(colour)} has the index {index} in {path} and "
                f"{other_index} in {other_path}. {remedy}"
            )


def require_same_order(
    summaries: Mapping[Path, LabelSummary],
    foreground: int | None,
    remedy: str = "Pass foreground=255 if white marks the foreground, or palette=[[R, G, B], ...].",
) -> None:
    """Refuse palettes of greys, white before black, and of another colour before black, among files without a palette.

    Raises:
        ValueError: Names two files.
    """
    plain = next((path for path, s in summaries.items() if s.pixels.colours is None), None)
    if plain is None:
        return
    used = {path: summary.pixels.used_colours for path, summary in summaries.items()}
    binary = all(index in (0, 1) for colours in used.values() for index in colours)
    for path, colours in used.items():
        if follows_greys(summaries[path].pixels, foreground):
            continue
        greys = [colour[0] for _, colour in sorted(colours.items()) if len(set(colour)) == 1]
        black_last = binary and colours.get(1) == _BLACK != colours.get(0)
        mixed = len(greys) < len(colours)
        unordered = greys != sorted(greys) or any((i == 0) != (colour[0] == 0) for i, colour in colours.items())
        if black_last or (unordered and not mixed):
            raise ValueError(
                f"{path} has a palette in which 0 is not black, and {plain} has none: their values would mean opposite "
                f"things. {remedy}"
            )


def require_foreground(summaries: Mapping[Path, LabelSummary], foreground: int | None) -> None:
    """Refuse a value of the foreground that no mask holds where colours of palettes may mark it instead.

    Raises:
        ValueError: Names a mask and its colours.
    """
    if foreground is None or any((s.pixels.values == foreground).any() for s in summaries.values()):
        return
    if any(follows_greys(s.pixels, foreground) for s in summaries.values()):
        return
    for path, summary in summaries.items():
        if len(colours := summary.pixels.used_colours) > 1:
            raise ValueError(
                f"foreground={foreground} occurs in none of {len(summaries)} masks: {path} is a palette image whose "
                f"indices are {', '.join(f'{i} ({list(colour)})' for i, colour in list(colours.items())[:5])}. Pass "
                "palette=[[R, G, B], ...], the colour of each class, or leave foreground out if indices are the ids."
            )


def require_exact_files(
    paths: Sequence[Path], headers: Headers, what: str, *, indices: bool, foreground: int | None = None
) -> None:
    """Refuse label maps in files that do not keep ids: of JPEG and its like, and indices of GIF.

    Args:
        paths: The files.
        headers: Their headers.
        what: Names the files in messages.
        indices: Whether indices of palettes are ids.
        foreground: A value that marks the foreground decides instead of indices.

    Raises:
        ValueError: Names a file and what to do.
    """
    if lossy := [path for path in paths if headers[path].lossy]:
        name = headers[lossy[0]].format
        raise ValueError(
            f"{_count(lossy, paths)} of {what} are {name} files, such as {lossy[0]}: JPEG compression alters ids, save "
            "masks as PNG"
        )
    gifs = [path for path in paths if headers[path].format == "GIF" and headers[path].mode == "P"]
    if indices and gifs and foreground is None:
        raise ValueError(
            f"{_count(gifs, paths)} of {what} are GIF files, such as {gifs[0]}: programs that write GIF put the "
            "colours of a palette into another order, and indices are no ids then. Pass palette=[[R, G, B], ...], the "
            "colour of each class (or foreground=255 for black and white), or save masks as PNG."
        )


def label_ids(
    summaries: Mapping[Path, LabelSummary], read: Callable[[LabelPixels, Path], LabelArray]
) -> dict[Path, frozenset[int]]:
    """Return the ids of each file under the rules of a reader; what it raises names the file."""
    return {path: frozenset(np.unique(read(s.pixels, path)).tolist()) for path, s in summaries.items()}


def require_classes(
    ids: Mapping[Path, frozenset[int]], folder: Path, num_classes: int, ignore_index: int, foreground: int | None
) -> None:
    """Refuse masks from which nothing but one class would be learned, or whose foreground is not the same in all.

    Raises:
        ValueError: Says what all masks hold and which setting answers.
    """
    found = frozenset().union(*ids.values())
    count = f"the {len(ids)} masks in {folder}"
    if foreground is None and found == {0, ignore_index}:
        raise ValueError(
            f"{count} hold only 0 and {ignore_index}, which is the ignore_index: nothing but background would be "
            f"learned. Pass foreground={ignore_index} if that value marks the foreground."
        )
    if len(found - {ignore_index}) <= 1:
        held = " and ".join(map(str, sorted(found)))
        raise ValueError(
            f"{count} hold nothing but {held}: expected more than one class of {max(num_classes, 2)} (ids that are not "
            f"ignore_index={ignore_index}). Are these the right files, and is the mask in their colours?"
        )
    if foreground is not None or max(num_classes, 2) > 2:
        return
    void = [path for path, values in ids.items() if ignore_index in values]
    if void and not any(1 in ids[path] for path in void):
        other = next(path for path, values in ids.items() if 1 in values)
        raise ValueError(
            f"{len(void)} of {count} hold {ignore_index} and no 1, such as {void[0]}, others 1 and no {ignore_index}, "
            f"such as {other}: either may mark the foreground. Pass foreground={ignore_index} if that value does, "
            f"foreground=1 if {ignore_index} marks ignored pixels."
        )


def require_white_of_use(white: float | None, notes: Iterable[str | None]) -> None:
    """Refuse `white` where no file has more than 8 bits a sample."""
    if white is not None and not any(notes):
        raise ValueError(f"white={white:g} is for files of more than 8 bits a sample, and there are none: leave it out")


def reading_notes(whites: Mapping[str, str | None], pages: int, turned: int, pairs: int, exif: Exif) -> dict[str, str]:
    """Say how files are read, where more than one way is open: plain sentences by setting."""
    notes = {f"white ({side})": text for side, text in whites.items() if text}
    if pages > 1:
        notes["pages"] = f"the {pages} pages of a file are the channels of an image"
    if turned:
        how = "left as stored" if exif == "ignore" else "applied"
        notes["exif"] = f"turns in {turned} of {pairs} pairs are {how}"
    return notes


def _suggestions(depth: str, top: float) -> str:
    if depth.startswith("float"):
        return f"white=1 if values are shares of one, or the highest value that there can be, {top:g} or more"
    fits = [2**bits - 1 for bits in _DEPTHS if 2**bits - 1 >= top]
    ways = [f"white={value} for data of {value.bit_length()} bits" for value in fits[:1]]
    ways += ["white=65535 for the full range of 16 bits"] if fits and fits[0] != 65535 else []
    return " or ".join(ways) or f"{top:g} or more"


def _count(some: Sequence[Path], paths: Sequence[Path]) -> str:
    return f"{len(some)} of {len(set(paths))}"
