"""Makes figures that are drawn without a display, and renders them."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of a size in inches that can be drawn anywhere."""
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend_below(figure: Figure, columns: int) -> Legend:
    """Put the legend of all that is drawn below the axes, in fewer columns where names are too long for the figure."""
    legend = figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
        return legend
    legend.remove()
    return legend_below(figure, columns - 1)


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Render a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
