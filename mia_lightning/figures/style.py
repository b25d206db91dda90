"""The look that all figures share."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's colours: apart for every kind of colour vision.
COLOURS = {
    "membership": "#0072B2",
    "reconstruction": "#E69F00",
    "combined": "#D55E00",
    "neighbour": "#CC79A7",
    "calibrated": "#56B4E9",
    "trained": "#000000",
    "blind": "#7F7F7F",
    "members": "#D55E00",
    "nonmembers": "#009E73",
    "paper": "#F2F2F2",
}
_SPARE = ("#117733", "#882255", "#AA4499", "#DDCC77", "#332288", "#44AA99")


def colour(name: str, number: int = 0) -> str:
    """Colour of a score or side; the same name has the same colour in every figure."""
    return COLOURS.get(name, _SPARE[number % len(_SPARE)])


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of a size in inches that can be drawn anywhere."""
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Render a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def to_array(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure as pixels, (H, W, 3)."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
