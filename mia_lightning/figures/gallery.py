"""Pictures of single samples: input, target, output and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mia_lightning.figures.style import new_figure
from mia_lightning.functional.labels import as_rgb
from mia_lightning.functional.reconstruction import two_sided


class Tile(NamedTuple):
    """One sample of a gallery.

    Attributes:
        caption: Id and numbers; shown as plain text.
        input: Image (C, H, W) in [0, 1] or label map (H, W).
        target: Image (C, H, W) in [0, 1] or label map (H, W).
        output: Image (C, H, W) in [0, 1], or class logits (K, H, W) where the target is a label map.
    """

    caption: str
    input: Tensor
    target: Tensor
    output: Tensor


def gallery(tiles: Sequence[Tile], title: str) -> Figure:
    """Lay samples out as rows of input, target, output and error map.

    Args:
        tiles: Samples, the first on top.
        title: Title of the figure.

    Returns:
        The figure; a note instead of pictures where there are none.
    """
    rows = max(1, len(tiles))
    figure = new_figure(6.4, 0.5 + 1.85 * rows)
    engine: Any = figure.get_layout_engine()
    engine.set(h_pad=0.12)
    figure.suptitle(_plain(title), fontsize=11)
    if not tiles:
        figure.text(0.5, 0.4, "nothing to show", ha="center")
        return figure
    for row, tile in enumerate(tiles):
        for column, (name, picture) in enumerate(_pictures(tile).items()):
            axes = figure.add_subplot(rows, 4, 4 * row + column + 1)
            heat = picture.ndim == 2
            axes.imshow(picture.numpy(), interpolation="nearest", cmap="magma", vmin=0.0 if heat else None)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(name, fontsize=9)
            if column == 0:
                caption = axes.text(0.0, -0.04, _plain(tile.caption), transform=axes.transAxes, va="top", fontsize=7.5)
                caption.set_in_layout(False)  # it runs on under the other columns
    return figure


def _pictures(tile: Tile) -> dict[str, Tensor]:
    shown = _image(tile.input)
    if tile.target.is_floating_point():
        error = (tile.output - tile.target).abs().mean(0)
        return {"input": shown, "target": _image(tile.target), "output": _image(tile.output), "|error|": error}
    probability = two_sided(tile.output.unsqueeze(0)).softmax(1)
    known = tile.target.clamp(0, probability.shape[1] - 1)
    void = (tile.target != known).unsqueeze(0)
    error = -probability.gather(1, known.view(1, 1, *known.shape)).clamp_min(1e-6).log().squeeze(1)
    error = torch.where(void, 0.0, error).squeeze(0)
    return {"input": shown, "target": _image(known), "output": _image(probability.argmax(1)[0]), "cross-entropy": error}


def _image(picture: Tensor) -> Tensor:
    return as_rgb(picture.unsqueeze(0)).squeeze(0).movedim(0, 2).clamp(0, 1)


def _plain(text: str) -> str:
    # matplotlib would read a pair of dollar signs in a file name as a formula, and fail on a bad one.
    return text.replace("$", r"\$")
