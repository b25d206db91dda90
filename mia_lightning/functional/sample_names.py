"""Names of samples as results carry them: short, and each of them once a side."""

import ntpath
import posixpath
from collections import Counter
from collections.abc import Sequence


def short_names(names: Sequence[str], member: Sequence[bool], place: Sequence[int]) -> tuple[list[str], str]:
    """Leave out the folder that all names share, where they are absolute paths, and tell equal names apart.

    Paths keep whatever tells them from one another: of ``/data/a/1.png`` and ``/data/b/1.png`` remain ``a/1.png`` and
    ``b/1.png``. Other names, relative paths among them, stay as they are. A name that stands for several samples of a
    side, such as the file that patches were cut out of, is followed by ``#`` and the sample's place in the data set.

    Args:
        names: One name a sample, (N,).
        member: The sample's side, (N,).
        place: Its place in the data set of its side, (N,).

    Returns:
        The names, (N,), and the folder that was left out, to be put in front of each; empty where none was.

    Example:
        >>> short_names(["/data/a/1.png", "/data/b/1.png"], [True, False], [0, 0])
        (['a/1.png', 'b/1.png'], '/data')
        >>> short_names(["1.png", "1.png", "1.png"], [True, True, False], [0, 1, 0])
        (['1.png#0', '1.png#1', '1.png'], '')
    """
    short, folder = list(names), ""
    for paths in (posixpath, ntpath):
        if names and all(paths.isabs(name) and paths.basename(name) for name in names):
            try:
                common = paths.commonpath([paths.dirname(name) for name in names])
            except ValueError:  # several drives
                break
            if all(name.startswith(common) for name in names):  # not where a path is written in an unusual way
                short, folder = [name[len(common) :].lstrip("\\/") for name in names], common
            break
    sides = [bool(side) for side in member]
    counts = Counter(zip(sides, short, strict=True))
    rows = zip(sides, short, place, strict=True)
    return [name if counts[side, name] == 1 else f"{name}#{int(at)}" for side, name, at in rows], folder
