"""What must hold over all files of stored outputs, their inputs and targets."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mia_lightning.data.file_checks import (
    Headers,
    require_exact_files,
    require_one_index,
    require_one_palette,
    require_one_turn,
    require_pages,
    require_same_order,
    require_white_of_use,
    settle_white,
)
from mia_lightning.data.file_survey import FileSurvey
from mia_lightning.data.image_headers import ImageHeader
from mia_lightning.data.images import ReadingRules
from mia_lightning.data.output_files import ARRAY_SUFFIXES, size_of
from mia_lightning.data.records import Record

_ONE_PALETTE = "An index means one class in all files: store them with one palette."


def check_outputs(
    records: Sequence[Record],
    outputs: Sequence[Path],
    rules: ReadingRules,
    survey: FileSurvey,
    *,
    labels: bool,
    foreground: int | None = None,
) -> None:
    """Look at all files before any is read.

    Args:
        records: Inputs and targets.
        outputs: The output of each.
        rules: How images are read.
        survey: Looks at files.
        labels: Whether targets, and outputs that are images, are label maps.
        foreground: Value that marks the foreground of label maps.

    Raises:
        OSError: If an image cannot be read.
        ValueError: If a file has several pages, turns or palettes contradict each other, or files do not tell white.
    """
    inputs, targets = [record.input_path for record in records], [record.target_path for record in records]
    images = [path for path in outputs if path.suffix.lower() not in ARRAY_SUFFIXES]
    headers = survey.headers([*inputs, *targets, *images])
    groups = {"the inputs": inputs, "the targets": targets, "the outputs": images}
    for what, paths in groups.items():
        require_pages(paths, headers, None, what)
    require_turns(records, outputs, rules, survey, pictures=not labels)
    pictures = ["the inputs"] if labels else list(groups)
    try:
        whites = [settle_white(groups[what], headers, survey, rules.white, what) for what in pictures]
    except ValueError as error:
        if labels:
            raise
        units = "Depths, counts and other numbers are compared as they are stored with target_range=(low, high)."
        raise ValueError(f"{error} {units}") from None
    require_white_of_use(rules.white, whites)
    if labels:
        for what, paths in (("the targets", targets), ("the outputs", images)):
            require_exact_files(paths, headers, what, indices=True, foreground=foreground)
            indexed = [path for path in paths if headers[path].mode == "P"]
            require_one_palette(survey.labels(indexed), _ONE_PALETTE, foreground)
        _require_one_order(targets, images, headers, survey, foreground)


def require_turns(
    records: Sequence[Record], outputs: Sequence[Path], rules: ReadingRules, survey: FileSurvey, *, pictures: bool
) -> None:
    """Refuse samples of which EXIF turns one file and not the others, unless their sizes leave no doubt.

    Args:
        records: Inputs and targets, images or arrays.
        outputs: The output of each.
        rules: How images are read.
        survey: Looks at files.
        pictures: Whether targets and outputs that are arrays may have their channels last.

    Raises:
        ValueError: Names a sample, its tags, and the setting that answers.
    """
    samples = [(r, (r.input_path, r.target_path, path)) for r, path in zip(records, outputs, strict=True)]
    images = (path for _, paths in samples for path in paths if path.suffix.lower() not in ARRAY_SUFFIXES)
    headers = survey.headers(images)
    turned = [(r, p) for r, p in samples if any(path in headers and headers[path].turn != 1 for path in p)]
    for _, (input, *others) in turned:
        arrays = [(input, True), *((path, pictures) for path in others)]
        headers |= {path: _header_of_array(path, pictures=last) for path, last in arrays if path not in headers}
    require_one_turn([record for record, _ in turned], headers, rules.exif, len(records))
    beside = [replace(r, input_path=target, target_path=output) for r, (_, target, output) in turned]
    require_one_turn(beside, headers, rules.exif, len(records))


def _require_one_order(
    targets: Sequence[Path], outputs: Sequence[Path], headers: Headers, survey: FileSurvey, foreground: int | None
) -> None:
    """Refuse label maps whose indices mean other colours in outputs than in targets."""
    sides = [[path for path in paths if headers[path].mode == "P"] for paths in (targets, outputs)]
    if not any(sides):
        return
    plain = [next(iter(path for path in paths if headers[path].mode != "P"), None) for paths in (targets, outputs)]
    found = [survey.labels(paths) for paths in sides]
    require_one_index(found[0], found[1], _ONE_PALETTE, foreground)
    for indexed, other in ((found[0], plain[1]), (found[1], plain[0])):
        if indexed and other is not None:
            require_same_order({**indexed, **survey.labels([other])}, foreground, _ONE_PALETTE)


def _header_of_array(path: Path, *, pictures: bool) -> ImageHeader:
    width, height = size_of(path, pictures=pictures)
    return ImageHeader(width, height, "array", 1, 1, "uint8")
