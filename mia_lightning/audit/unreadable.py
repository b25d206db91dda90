"""Samples that cannot be read, such as truncated files: left out and named, up to a share of a side."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import GeneratorType
from typing import Any

from mia_lightning.audit.machine_failures import MACHINE_FAILURES
from mia_lightning.audit.place_names import name_by_place
from mia_lightning.audit.ready_batches import BatchFormError

SHARE = 0.05
"""So large a share of a side may be unreadable; where it is more, the audit fails."""

_ONE_IN = round(1 / SHARE)  # in whole numbers, or 3 of 60 would be a matter of rounding
_LETTERS = 200  # of a message that are kept
_NAMED = 3
_IN_A_ROW = 32  # after so many failures a stream is taken to be broken


class Unreadable:
    """Stands in the place of a sample that could not be read.

    Args:
        error: What was raised instead.
        ends: Whether nothing can be read after it, as of a generator.
    """

    def __init__(self, error: Exception, ends: bool = False) -> None:
        self.error, self.ends = error, ends

    @property
    def reason(self) -> str:
        """Why the sample has no numbers, in one line."""
        message = " ".join(f"{type(self.error).__name__}: {self.error}".split())
        return f"it could not be read ({message[:_LETTERS]}{'...' if len(message) > _LETTERS else ''})"

    def __getstate__(self) -> dict[str, Any]:
        """Travel out of a worker process; an error that cannot be made anew there is replaced by its words."""
        words = f"{type(self.error).__name__}: {self.error}"
        plain = all(isinstance(value, (str, int, bytes, type(None))) for value in self.error.args)
        if not plain or vars(self.error) or "<locals>" in type(self.error).__qualname__:
            return {"error": RuntimeError(words), "ends": self.ends}
        try:
            anew = str(type(self.error)(*self.error.args)) == str(self.error)
        except Exception:
            anew = False
        return {"error": self.error if anew else RuntimeError(words), "ends": self.ends}


def read_sample(dataset: Any, index: int) -> Any:
    """Read a sample by its position; what it raises is returned as :class:`Unreadable`.

    Raises:
        MemoryError: As all failures of the machine, which are not the sample's.
    """
    try:
        return dataset[index]
    except MACHINE_FAILURES:
        raise
    except StopIteration as error:
        # A loader would take it for the end of the data.
        failure = RuntimeError(
            f"The data set raised StopIteration for the sample at position {index}, which would end the audit of its "
            "side there: read no further than an iterator goes, or raise another error."
        )
        failure.__cause__ = error
        return Unreadable(failure)
    except Exception as error:
        return Unreadable(error)


def read_stream(dataset: Iterable[Any], draws: AbstractContextManager[None] | None = None) -> Iterator[Any]:
    """Read a stream from its start, past samples that cannot be read, each of which becomes an :class:`Unreadable`.

    The last one has ``ends`` where the stream cannot go on: a generator is over once it has raised, and so may be
    what is made of one; an iterator that raises again and again is broken.

    Args:
        dataset: The stream.
        draws: Entered while it reads, as :class:`~mia_lightning.audit.isolation.OwnDraws`.

    Raises:
        MemoryError: As :func:`read_sample`.
        BatchFormError: If it is made of batches that cannot be taken apart.
    """
    draws = draws or nullcontext()
    with draws:
        items = iter(dataset)
    failure, in_a_row = None, 0
    while True:
        try:
            with draws:
                item = next(items)
        except StopIteration:
            if failure is not None:
                yield Unreadable(failure, ends=True)
            return
        except MACHINE_FAILURES:
            raise
        except BatchFormError:
            raise
        except Exception as error:
            if failure is not None:
                yield Unreadable(failure)
            failure, in_a_row = error, in_a_row + 1
            if isinstance(items, GeneratorType) or in_a_row == _IN_A_ROW:
                yield Unreadable(failure, ends=True)
                return
            continue
        if failure is not None:
            yield Unreadable(failure)
        failure, in_a_row = None, 0
        yield item


def end_of_stream(name: str, place: int, end: Unreadable) -> RuntimeError:
    """Why a side that is a stream cannot be read past a sample, and what to do."""
    error = RuntimeError(
        f"The stream of {name}s ended at its sample {place} with {type(end.error).__name__}: {end.error}. A generator "
        "cannot go on after an exception, so that all samples behind this one would be missing without a word. Catch "
        "the error where the sample is read, and yield None in its place (try: ... except Exception: yield None): it "
        "is then left out and named. Streams of packages can leave it out, too, but do not name it: WebDataset by "
        "handler=webdataset.ignore_and_continue in each stage that reads or decodes; Hugging Face's datasets by a "
        "column that the function of map sets where it has caught an error, and filter behind it."
    )
    error.__cause__ = end.error
    return error


def require_few(name: str, unreadable: Mapping[int, Unreadable], count: int) -> None:
    """Raise the error of the first sample that cannot be read, if more than :data:`SHARE` of a side cannot.

    Args:
        name: ``"member"`` or ``"nonmember"``.
        unreadable: Those of them that this process knows, by position.
        count: Size of the side.
    """
    if unreadable and are_many(len(unreadable), count):
        raise with_count(name, unreadable, len(unreadable), count)


def are_many(unreadable: int, count: int) -> bool:
    """Whether an audit fails where so many samples of a side cannot be read.

    Example:
        >>> are_many(1, 20), are_many(2, 20), are_many(1, 19)
        (False, True, True)
    """
    return _ONE_IN * unreadable > count


def with_count(name: str, unreadable: Mapping[int, Unreadable], total: int, count: int) -> Exception:
    """The error of the first of some samples, with a note that says how many of a side there are and names some."""
    places = sorted(unreadable)
    named = [name_by_place(name, place) for place in places[:_NAMED]]
    first = unreadable[places[0]].error
    if not getattr(first, "__notes__", ()):
        first.add_note(
            f"At least {total} of {count} {name}s cannot be read, which is more than {SHARE:.0%}: "
            f"{', '.join(named)}{', ...' if len(places) > _NAMED else ''}. Repair them, or take them out of the data "
            "set; fewer would be left out and named."
        )
        if isinstance(first, (TypeError, KeyError)):
            first.add_note(
                "A data set that is read by other keys than positions, as torchgeo's are by bounding boxes, needs a "
                "loader whose sampler gives these: DataLoader(data, sampler=GridGeoSampler(data, size), ...)."
            )
    return first
