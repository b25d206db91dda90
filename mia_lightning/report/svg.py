"""Charts as SVG: axes and marks, as pure functions of numbers; colours and fonts come from the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray

from mia_lightning.figures.palette import entry

WIDTH, HEIGHT = 640, 360
# Margins fit labels at the size that they have on a telephone.
LEFT, RIGHT, TOP, BOTTOM = 74, 14, 40, 66
_LARGEST = 1e300  # largest end of an axis, so that its length is finite
_ALIKE = 1e-12  # smallest length of an axis, relative to its larger end
_DIGITS = 12  # most digits of a label before or after the point

Stroke = Literal["solid", "dashed", "dotted"]
_DASHES: dict[Stroke, str] = {"solid": "none", "dashed": "7 5", "dotted": "1.5 5"}


def shade(name: str, number: int = 0) -> str:
    """Colour of a score, a side or the blind attack as a custom property of the page's style sheet."""
    return f"var(--{entry(name, number)})"


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a label, its colour, and whether it is a line or an area."""

    label: str
    colour: str
    stroke: Stroke = "solid"
    area: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under headings; the numbers of a chart."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Drawing:
    """A chart with its title, also its accessible name, its legend, how to read it, and the same in numbers."""

    title: str
    svg: Markup
    keys: Sequence[Key] = ()
    note: str = ""
    table: Table | None = None


@dataclass(frozen=True)
class Axis:
    """A range with its ticks, values and their labels.

    Attributes:
        title: What is measured.
        low: Lower end; positive on a logarithmic axis.
        high: Upper end, above the lower one.
    """

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def place(self, values: ArrayLike, start: float, stop: float) -> NDArray[np.float64]:
        """Positions of values between two coordinates; values beyond the ends are put on them."""
        v = np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        if self.log:
            share = np.log(v / self.low) / math.log(self.high / self.low)
        else:
            share = (v - self.low) / (self.high - self.low)
        return np.asarray(start + share * (stop - start), dtype=np.float64)


def linear_axis(title: str, low: float, high: float, *, count: int = 5, whole: bool = False) -> Axis:
    """Make an axis with about ``count`` round ticks; ends that are one but for rounding are moved apart a little.

    Example:
        >>> [label for _, label in linear_axis("AUC", 0.35, 1.0).ticks]
        ['0.4', '0.6', '0.8', '1.0']
    """
    low, high = max(low, -_LARGEST), min(high, _LARGEST)
    if not high - low > _ALIKE * max(abs(low), abs(high)):
        low, high = (low - 0.5, high + 0.5) if whole else (low - abs(low) / 10 - 1e-9, high + abs(high) / 10 + 1e-9)
    raw = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in ((1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)) if unit * m >= raw * 0.999)
    step = max(1.0, step) if whole else step
    ticks = [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    style = ".0f" if whole else _style(step, max(abs(low), abs(high)))
    return Axis(title, low, high, [(tick, f"{tick:{style}}") for tick in ticks])


def rate_axis(title: str, floor: float) -> Axis:
    """Make a logarithmic axis of rates up to one, with a tick a power of ten.

    Example:
        >>> [label for _, label in rate_axis("false-positive rate", 0.005).ticks]
        ['1 %', '10 %', '100 %']
    """
    powers = [10.0**n for n in range(math.ceil(math.log10(floor) - 1e-9), 1)]
    return Axis(title, floor, 1.0, [(p, f"{100 * p:g} %") for p in powers], log=True)


@dataclass
class Chart:
    """Marks between a horizontal and a vertical axis."""

    x: Axis
    y: Axis
    _marks: list[str] = field(default_factory=list)

    def points(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates of values."""
        return self.x.place(x, LEFT, WIDTH - RIGHT), self.y.place(y, HEIGHT - BOTTOM, TOP)

    def line(self, x: ArrayLike, y: ArrayLike, colour: str, *, stroke: Stroke = "solid", width: float = 2.0) -> None:
        """Draw a line, with gaps where a value is missing."""
        path = "".join(_path(part) for part in _segments(*self.points(x, y)))
        dash = f' stroke-dasharray="{_DASHES[stroke]}"' if stroke != "solid" else ""
        self._marks.append(
            f'<path d="{path}" fill="none" stroke-width="{width}" stroke-linejoin="round" stroke-linecap="round"{dash}'
            f' style="stroke:{colour}"/>'
        )

    def band(self, x: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str) -> None:
        """Fill what lies between two lines."""
        across, bottom = self.points(x, low)
        top = self.points(x, high)[1]
        finite = np.isfinite(bottom) & np.isfinite(top)
        across, bottom, top = across[finite], bottom[finite], top[finite]
        around = np.concatenate([across, across[::-1]]), np.concatenate([top, bottom[::-1]])
        if finite.any():
            self._marks.append(f'<path d="{_path(around)}Z" class="band" style="fill:{colour}"/>')

    def bar(self, x: float, low: float, high: float, colour: str) -> None:
        """Draw an interval as an upright bar."""
        (at, _), (bottom, top) = self.points([x, x], [low, high])
        if math.isfinite(bottom) and math.isfinite(top):
            ends = "".join(f"M{at - 5:.1f} {y:.1f}h10" for y in (bottom, top))
            self._marks.append(
                f'<path d="M{at:.1f} {bottom:.1f}V{top:.1f}{ends}" fill="none" stroke-width="1.5" '
                f'style="stroke:{colour}"/>'
            )

    def dots(self, x: ArrayLike, y: ArrayLike, colour: str, radius: float = 3.5) -> None:
        """Draw a dot a value."""
        for across, up in zip(*self.points(x, y), strict=True):
            if math.isfinite(across) and math.isfinite(up):
                self._marks.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="{radius:g}" style="fill:{colour}"/>')

    def histogram(self, edges: ArrayLike, shares: ArrayLike, colour: str, stroke: Stroke = "solid") -> None:
        """Draw the outline of a histogram and fill it."""
        heights = np.repeat(np.asarray(shares, dtype=np.float64), 2)
        sides = np.repeat(np.asarray(edges, dtype=np.float64), 2)
        across, up = self.points(sides, np.concatenate([[self.y.low], heights, [self.y.low]]))
        dash = f' stroke-dasharray="{_DASHES[stroke]}"' if stroke != "solid" else ""
        self._marks.append(
            f'<path d="{_path((across, up))}Z" class="area" stroke-width="1.8"{dash} '
            f'style="fill:{colour};stroke:{colour}"/>'
        )

    def label(self, x: float, y: float, text: str, *, anchor: str = "start", up: float = 10) -> None:
        """Write beside a value."""
        across, height = self.points([x], [y])
        self._marks.append(
            f'<text x="{across[0]:.1f}" y="{height[0] - up:.1f}" text-anchor="{anchor}" class="note">'
            f"{escape(text)}</text>"
        )

    def upright(self, x: float) -> None:
        """Draw a thin line across the whole height."""
        at = self.points([x], [self.y.low])[0][0]
        self._marks.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" class="rule"/>')

    def svg(self, title: str, description: str) -> Markup:
        """Put axes and marks together, with an accessible name and a description for screen readers."""
        head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        about = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
        return Markup("".join([head, about, *self._axes(), *self._marks, "</svg>"]))  # noqa: S704 - text is escaped above, the rest are numbers

    def _axes(self) -> list[str]:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        elements = []
        for value, text in self.y.ticks:
            up = float(self.y.place([value], bottom, TOP)[0])
            elements.append(f'<path d="M{LEFT} {up:.1f}H{right}" class="grid"/>')
            elements.append(f'<text x="{LEFT - 8}" y="{up:.1f}" dy="0.35em" text-anchor="end">{escape(text)}</text>')
        for value, text in self.x.ticks:
            at = float(self.x.place([value], LEFT, right)[0])
            anchor = "end" if at > right - 12 else "middle"
            elements.append(f'<path d="M{at:.1f} {bottom}v5" class="axis"/>')
            elements.append(
                f'<text x="{min(at, right):.1f}" y="{bottom}" dy="1.6em" text-anchor="{anchor}">{escape(text)}</text>'
            )
        elements.append(f'<path d="M{LEFT} {bottom}H{right}" class="axis"/>')
        elements.append(f'<text x="4" y="20" class="title">{escape(self.y.title)}</text>')
        elements.append(
            f'<text x="{right}" y="{bottom}" dy="2.85em" text-anchor="end" class="title">{escape(self.x.title)}</text>'
        )
        return elements


def _path(points: tuple[NDArray[np.float64], NDArray[np.float64]]) -> str:
    return "".join(f"{'L' if n else 'M'}{x:.1f} {y:.1f}" for n, (x, y) in enumerate(zip(*points, strict=True)))


def _segments(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The segments of a line between its gaps."""
    finite = np.isfinite(x) & np.isfinite(y)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]])))
    return [(x[a:b], y[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _style(step: float, largest: float) -> str:
    """Format in which multiples of a step differ; with a power of ten where there would be too many digits."""
    for digits in range(_DIGITS):
        if largest < 10.0**_DIGITS and math.isclose(step, round(step, digits), rel_tol=1e-6):
            return f".{digits}f"
    return f".{max(0, math.floor(math.log10(largest / step))) + 2}g"
