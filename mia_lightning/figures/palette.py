"""Colours of scores, sides and runs, the same in every figure and page, each for light and for dark grounds."""

from mia_lightning import registry
from mia_lightning.registry import Colour

# Okabe and Ito's colours are distinguishable with every kind of colour vision; scores declare theirs themselves.
_VERMILION, _GREEN = Colour("#D55E00", "#FF8A4A"), Colour("#009E73", "#35C79B")
_FIXED = {"blind": Colour("#7F7F7F", "#a8a8a8"), "members": _VERMILION, "nonmembers": _GREEN}
_RUNS = (
    Colour("#0072B2", "#4DB1E8"),
    _VERMILION,
    _GREEN,
    Colour("#CC79A7", "#E29CC4"),
    Colour("#E69F00", "#F0B43C"),
    Colour("#56B4E9", "#8ECDF2"),
)
_SPARE = (
    Colour("#117733", "#5DBB7B"),
    Colour("#882255", "#D06A9C"),
    Colour("#AA4499", "#CF7FC0"),
    Colour("#B59F3B", "#DDCC77"),
    Colour("#332288", "#9C90E0"),
    Colour("#44AA99", "#6FD0C2"),
)

BACKGROUND = "#F2F2F2"
"""Around pictures that do not fill their square."""


def colour(name: str, number: int = 0) -> Colour:
    """Colour of a score, a side (``"members"``, ``"nonmembers"``) or the ``"blind"`` attack.

    Scores without a colour of their own take spare ones in turn, by their number.

    Example:
        >>> colour("membership").light, colour("members").dark
        ('#0072B2', '#FF8A4A')
    """
    return palette()[entry(name, number)]


def entry(name: str, number: int = 0) -> str:
    """Entry of the :func:`palette` with the colour of a score, a side or the blind attack; arguments as :func:`colour`.

    Example:
        >>> entry("membership"), entry("members"), entry("from a plug-in that is not installed", 7)
        ('score-membership', 'members', 'spare-1')
    """
    if name in _FIXED:
        return name
    spec = registry.scores.find(name)
    return f"spare-{number % len(_SPARE)}" if spec is None or spec.colour is None else _entry_of_score(name)


def entry_of_run(number: int) -> str:
    """Entry of the :func:`palette` with the colour of one of several runs."""
    return f"run-{number % len(_RUNS)}"


def palette() -> dict[str, Colour]:
    """All colours by their entries, which are also the names of the custom properties in the style sheets of pages."""
    specs = (*registry.errors, *registry.scores)
    return {
        **_FIXED,
        **{_entry_of_score(spec.name): spec.colour for spec in specs if spec.colour is not None},
        **{f"run-{number}": shade for number, shade in enumerate(_RUNS)},
        **{f"spare-{number}": shade for number, shade in enumerate(_SPARE)},
    }


def _entry_of_score(name: str) -> str:
    return f"score-{name.replace('.', '-')}"
