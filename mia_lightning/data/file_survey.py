"""What all files of a data set hold: looked at once, and remembered for as long as a file is unchanged."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_only
from PIL import Image

from mia_lightning.data.image_headers import ImageHeader, read_header
from mia_lightning.data.images import load_image, load_pages, wide_pixels
from mia_lightning.data.label_pixels import LabelPixels, read_label_pixels
from mia_lightning.result.cache_file import open_cache

MANY_FILES = 500
"""With more files than these to be opened, a progress bar is shown."""

MANY_VALUES = 4096
"""No more distinct values of a file are kept: no label map has more classes."""

_CHUNK = 16  # files that a thread takes at once
_STORED_AT_ONCE = 1024
_FORMAT = 1  # raised when an answer changes its meaning

Stamp = tuple[int, int]  # size, and time of modification in nanoseconds

# Answers of this process, for data modules that look at the same files again: question and path to stamp and answer.
_REMEMBERED: dict[tuple[str, str], tuple[Stamp, Any]] = {}


@dataclass(frozen=True)
class LabelSummary:
    """The distinct pixels of a label map or palette picture.

    Args:
        pixels: Each value that occurs, once, at most :data:`MANY_VALUES`.
        flatness: Share of pixels that equal their right neighbour.
    """

    pixels: LabelPixels
    flatness: float


class FileSurvey:
    """Looks at many files, each once: again only where its size or time of modification is another.

    Args:
        cache_dir: Folder for ``files.sqlite``, which later runs read; None remembers for this process alone.

    Raises:
        ValueError: If the file there is no such cache.
    """

    def __init__(self, cache_dir: str | Path | None = None) -> None:
        self._path = None if cache_dir is None else Path(cache_dir) / "files.sqlite"
        self.opened = 0
        """Files that were opened because nothing was remembered of them."""

    def headers(self, paths: Iterable[Path]) -> dict[Path, ImageHeader]:
        """Read the headers of files.

        Raises:
            OSError: If a file is missing or no image; names it.
        """
        answers = self._ask("header", paths, lambda path: asdict(read_header(path)), "Headers of files")
        return {path: ImageHeader(**answer) for path, answer in answers.items()}

    def ranges(self, paths: Iterable[Path]) -> dict[Path, tuple[float, float]]:
        """Find the smallest and the largest value of files, NaN where there is one, over all pages and channels.

        Raises:
            OSError: If a file is missing, no image, or truncated; names it.
        """
        answers = self._ask("range", paths, _range_of, "Range of files")
        return {path: (float(low), float(high)) for path, (low, high) in answers.items()}

    def labels(self, paths: Iterable[Path]) -> dict[Path, LabelSummary]:
        """Find the distinct pixels of label maps or palette pictures.

        Raises:
            OSError: If a file is missing, no image, or truncated; names it.
            ValueError: If it holds what no label map does.
        """
        answers = self._ask("labels", paths, lambda path: _summarise(read_label_pixels(path)), "Label maps")
        return {path: _summary_from(answer) for path, answer in answers.items()}

    def _ask(
        self, question: str, paths: Iterable[Path], answer: Callable[[Path], Any], description: str
    ) -> dict[Path, Any]:
        """Answer a question of each file, from memory, from disk, or by opening it."""
        question = f"{question} {_FORMAT}"
        stamps = {path: _stamp(path) for path in dict.fromkeys(paths)}
        names = {path: str(path.absolute()) for path in stamps}
        fresh: list[Path] = []
        missing = [p for p in stamps if _REMEMBERED.get((question, names[p]), (None, None))[0] != stamps[p]]
        if missing and self._path is not None:
            stored = self._stored(question)
            for path in missing:
                if (row := stored.get(names[path])) is not None and row[0] == stamps[path]:
                    _REMEMBERED[question, names[path]] = (stamps[path], json.loads(row[1]))
                else:
                    fresh.append(path)
        else:
            fresh = missing
        for batch in _in_batches(fresh, answer, description):
            self.opened += len(batch)
            rows = [(question, names[path], *stamps[path], json.dumps(found)) for path, found in batch]
            _REMEMBERED.update({(question, names[path]): (stamps[path], found) for path, found in batch})
            if self._path is not None:
                with closing(self._database()) as database, database:
                    database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)
        return {path: _REMEMBERED[question, names[path]][1] for path in stamps}

    def _stored(self, question: str) -> dict[str, tuple[Stamp, str]]:
        with closing(self._database()) as database:
            rows = database.execute("SELECT path, size, mtime_ns, answer FROM files WHERE question = ?", (question,))
            return {path: ((size, mtime), answer) for path, size, mtime, answer in rows}

    def _database(self) -> sqlite3.Connection:
        assert self._path is not None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        table = (
            "CREATE TABLE IF NOT EXISTS files (question TEXT, path TEXT, size INTEGER, mtime_ns INTEGER, answer TEXT, "
            "PRIMARY KEY (question, path)) WITHOUT ROWID"
        )
        return open_cache(self._path, table, "a cache of files")


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except FileNotFoundError:
        link = f": it is a link to {path.readlink()}, which does not exist" if path.is_symlink() else ""
        raise FileNotFoundError(f"no image file {path}{link}; restore or remove it") from None
    return status.st_size, status.st_mtime_ns


def _in_batches(
    paths: Sequence[Path], answer: Callable[[Path], Any], description: str
) -> Iterator[list[tuple[Path, Any]]]:
    """Answer for many files by threads: decoders release the interpreter, and slow disks are waited for together."""
    if not paths:
        return
    Image.init()  # not while several threads open their first file
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with _bar(description, len(paths)) as advance, ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        batch: list[tuple[Path, Any]] = []
        broken: Exception | None = None
        try:
            for answers in pool.map(lambda chunk: [(path, answer(path)) for path in chunk], chunks):
                batch += answers
                advance(len(answers))
                if len(batch) >= _STORED_AT_ONCE:
                    yield batch
                    batch = []
        except (OSError, ValueError) as error:
            broken = error
            pool.shutdown(wait=False, cancel_futures=True)
        if batch:  # what was found before a broken file is not lost
            yield batch
        if broken is not None:
            raise broken


@contextmanager
def _bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on the first process, where there is something to wait for."""
    if total < MANY_FILES or getattr(rank_zero_only, "rank", 0) > 0:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


def _range_of(path: Path) -> tuple[float, float]:
    header = read_header(path)
    if header.pages > 1:
        arrays = load_pages(path)[0]
    elif header.wide_colour:
        arrays = [wide_pixels(path, header)]
    else:
        arrays = [np.asarray(load_image(path)[0])]
    if header.depth == "int8":
        arrays = [array.view(np.int8) for array in arrays]
    return min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)


def _summarise(pixels: LabelPixels) -> dict[str, Any]:
    row = pixels.distinct()
    values, colours = row.values[:, :MANY_VALUES], row.colours
    equal = pixels.values[:, 1:] == pixels.values[:, :-1]
    equal = equal.all(axis=2) if equal.ndim == 3 else equal
    return {
        "mode": pixels.mode,
        "type": str(values.dtype),
        "values": values[0].tolist(),
        "colours": None if colours is None else [colours.shape[1], colours.tobytes().hex()],
        "flatness": float(equal.mean()) if equal.size else 1.0,
    }


def _summary_from(answer: dict[str, Any]) -> LabelSummary:
    colours = None
    if answer["colours"] is not None:
        channels, digits = answer["colours"]
        colours = np.frombuffer(bytes.fromhex(digits), dtype=np.uint8).reshape(-1, channels)
    return LabelSummary(
        LabelPixels(answer["mode"], np.asarray(answer["values"], dtype=answer["type"])[None], colours),
        answer["flatness"],
    )
