"""What the commands that read stored outputs share: lists of ids, and sides that were stored in different ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from mia_lightning.data.output_dataset import OutputDataset
from mia_lightning.data.records import name_some
from mia_lightning.result.remarks import counted
from mia_lightning.scores.building import needs_neighbours

Named = tuple[str, OutputDataset]

LABELS_NOTE = (
    "The outputs are label maps, taken to give their class a probability of 0.99. They do not show how sure the model "
    "was, and carry less evidence than probabilities would."
)


def read_ids(path: str | Path, known: Collection[str]) -> list[str]:
    """Read a file with one id a line; empty lines and those that begin with ``#`` are passed over.

    Args:
        path: The file.
        known: Ids that there are.

    Returns:
        The ids, each once.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it names nothing, or something that there is not.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}: expected one with an id a line.")
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    ids = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not ids:
        raise ValueError(f"{path} names nothing: expected an id a line, such as {name_some(known, most=3)}.")
    there = set(known)
    if unknown := [id for id in ids if id not in there]:
        raise ValueError(
            f"{path} names {counted(len(unknown), 'id')} that the data do not have: {name_some(unknown)}. "
            f"Ids look like {name_some(known, most=3)}."
        )
    return ids


def require_no_neighbours(scores: Sequence[str]) -> None:
    """Refuse scores that ask the model.

    Raises:
        ValueError: Naming the score and those that can be had.
    """
    for score in scores:
        if needs_neighbours([score]):
            raise ValueError(
                f"The score {score!r} asks the model about flipped or shifted copies, which stored outputs cannot "
                "answer. Choose --primary membership, calibrated or reconstruction."
            )


def unlike(one: Named, other: Named) -> list[str]:
    """Say in what two sides are different things, so that they cannot be compared."""
    return _differences(
        one,
        other,
        ("are", one[1].kind, other[1].kind),
        ("have a number of classes of", one[1].num_classes, other[1].num_classes),
    )


def stored_unlike(one: Named, other: Named) -> list[str]:
    """Say how the ways in which outputs were stored would tell two sides apart."""
    told = _differences(one, other, ("are stored", _in_words(one[1].storage), _in_words(other[1].storage)))
    sizes = {**one[1].sizes, **other[1].sizes}
    usual, often = Counter(sizes.values()).most_common(1)[0] if sizes else ((0, 0), 0)
    # A few odd ones among many alike; where sizes differ throughout, none stands out.
    if len(sizes) / 2 <= often < len(sizes):
        odd = [str(path) for path, size in sizes.items() if size != usual]
        told.append(
            f"{len(odd)} of {len(sizes)} outputs have another size than the {usual[0]}x{usual[1]} of the rest: "
            f"{name_some(odd)}. Resizing changes an error whatever the model was trained on: leave them out, or take "
            "all as the model gave them."
        )
    return told


def _in_words(storage: Sequence[str]) -> str:
    """Say in which ways files are stored.

    Example:
        >>> _in_words(["array", "image", "lossy grey image"])
        'as arrays, as lossless images and as lossy grey images (JPEG or WebP)'
    """
    lossless = {kind: kind if kind == "array" or kind.startswith("lossy") else f"lossless {kind}" for kind in storage}
    told = [f"as {name}s" + (" (JPEG or WebP)" if kind.startswith("lossy") else "") for kind, name in lossless.items()]
    return " and ".join(part for part in (", ".join(told[:-1]), told[-1]) if part)


def _differences(one: Named, other: Named, *properties: tuple[str, object, object]) -> list[str]:
    return [
        f"The outputs of the {one[0]} {what} {ours}, those of the {other[0]} {theirs}. That alone would tell the two "
        "apart, whatever the model was trained on: store both in the same way."
        for what, ours, theirs in properties
        if ours != theirs
    ]
