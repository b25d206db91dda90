"""The folder of reference models: what their training writes into it, and how an audit reads it."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from mia_lightning.result.atomic_files import write_atomically

MANIFEST = "references.json"
FORMAT = 1
MEMBERS = "members.json"
"""Who a reference model was trained on, beside its checkpoint."""
DONE = "done.json"
"""Beside the checkpoint of a training that came to its end."""


@dataclass(frozen=True)
class Reference:
    """One reference model on disk: its number, from 0, and its own folder."""

    number: int
    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Weights of its last epoch, with all that is needed to go on."""
        return self.folder / "last.ckpt"

    @property
    def finished(self) -> bool:
        """Whether its training came to its end."""
        return (self.folder / DONE).is_file()

    @property
    def assigned(self) -> bool:
        """Whether it is recorded who it is trained on."""
        return (self.folder / MEMBERS).is_file()

    def assign(self, trained_on: Collection[str], left_out: Collection[str]) -> None:
        """Record the ids that it is trained on and those that the random assignment left out.

        Raises:
            ValueError: If other samples are recorded already.
        """
        sides = frozenset(trained_on), frozenset(left_out)
        path = self.folder / MEMBERS
        if not path.is_file():
            content = {"trained_on": sorted(trained_on), "left_out": sorted(left_out)}
            write_atomically(path, json.dumps(content, indent=1) + "\n")
        elif (recorded := self.sides()) != sides:
            before, now = (len(both[0] | both[1]) for both in (recorded, sides))
            raise ValueError(
                f"The data have changed since {path} was written: its {before} samples were parted otherwise "
                f"than the {now} there are now. Restore the data, or train in another folder."
            )

    def sides(self) -> tuple[frozenset[str], frozenset[str]]:
        """Read which samples it was trained on, and which the random assignment left out.

        Raises:
            ValueError: If the file that says so is missing or broken.
        """
        path = self.folder / MEMBERS
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return frozenset(content["trained_on"]), frozenset(content["left_out"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} does not tell what reference model {self.number + 1} was trained on ({error!r}). "
                f"Delete {self.folder} and train that model anew."
            ) from error

    def finish(self, seconds: float, epochs: int) -> None:
        """Declare the training finished, after so many seconds, interruptions not counted, and epochs."""
        write_atomically(self.folder / DONE, json.dumps({"seconds": round(seconds, 3), "epochs": epochs}) + "\n")


@dataclass(frozen=True)
class ReferenceFolder:
    """A folder of reference models of one configuration.

    Attributes:
        path: The folder.
        num: How many reference models there are to be.
        seed: Seed of the first one's weights and of its random half.
        config: What determines the models, as plain JSON values: model, data, and the trainer's settings that matter.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     folder = ReferenceFolder(Path(place), num=2, seed=0).opened()
        ...     folder.reference(0).finish(seconds=12.5, epochs=3)
        ...     [reference.number for reference in load_references(place).finished()]
        [0]
    """

    path: Path
    num: int
    seed: int
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a folder.

        Raises:
            FileNotFoundError: If there is no such folder, or it is none of reference models.
            ValueError: If its manifest is broken or of another format.
        """
        path = Path(path)
        manifest = path / MANIFEST
        if not manifest.is_file():
            what = f"holds no {MANIFEST}" if path.is_dir() else "does not exist"
            raise FileNotFoundError(
                f"The folder of reference models {path} {what}. Train some with: mia-lightning references -c CONFIG "
                f"--output_dir {path}"
            )
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            made = content["format"]
            folder = cls(path, int(content["num"]), int(content["seed"]), dict(content["config"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{manifest} does not describe reference models: {error!r}") from error
        if made != FORMAT:
            raise ValueError(f"Expected {manifest} to be of format {FORMAT}, but found {made!r}.")
        return folder

    def opened(self) -> Self:
        """Make this the folder on disk, or join the one that is there already; the larger number of models counts.

        Raises:
            ValueError: If the one on disk is of another configuration; names what differs.
        """
        manifest = self.path / MANIFEST
        if manifest.is_file():
            there = self.read(self.path)
            differ = differences_of({"seed": there.seed, **there.config}, {"seed": self.seed, **self.config})
            if differ:
                raise ValueError(
                    f"The reference models in {self.path} are of another configuration: {'; '.join(differ)}. Give the "
                    "settings that they were begun with, or another --output_dir."
                )
            if there.num >= self.num:
                return there
        content = {"format": FORMAT, "num": self.num, "seed": self.seed, "config": self.config}
        write_atomically(manifest, json.dumps(content, indent=1) + "\n")
        return self

    def reference(self, number: int) -> Reference:
        """The reference model of a number, whether it is there already or not."""
        return Reference(number, self.path / f"{number:03d}")

    def half(self, number: int, datamodule: Any) -> Callable[[], Any]:
        """What makes the data of a reference model: new coins, or the other side of those of the model before."""
        return partial(datamodule.redrawn, self.seed + number // 2, complement=number % 2 == 1)

    def finished(self) -> list[Reference]:
        """The reference models that are trained, in order."""
        return [r for r in map(self.reference, range(self.num)) if r.finished]

    def check_samples(self, ids: Sequence[str]) -> list[str]:
        """Compare the ids of audited samples with those that the trained models were drawn from.

        Returns:
            Notes on samples that no reference model was trained on, and on models that are not trained yet.

        Raises:
            ValueError: If no audited sample is among them.
        """
        finished = self.finished()
        pool = frozenset[str]().union(*(side for reference in finished for side in reference.sides()))
        strangers = [name for name in ids if name not in pool]
        if pool and len(strangers) == len(ids):
            raise ValueError(
                f"None of the {len(ids)} audited samples (first {ids[0]!r}) is among the {len(pool)} that the "
                f"reference models in {self.path} were drawn from (first {min(pool)!r}): they are of other data."
            )
        notes = []
        if strangers:
            notes.append(
                f"{len(strangers)} of {len(ids)} audited samples were not there when the reference models in "
                f"{self.path} were trained; no reference model knows them."
            )
        if len(finished) < self.num:
            notes.append(f"{len(finished)} of {self.num} reference models in {self.path} are trained; those are used.")
        return notes


def load_references(path: str | Path) -> ReferenceFolder:
    """Read a folder of ``mia-lightning references`` of which at least one model is trained.

    Raises:
        FileNotFoundError: If there is no such folder, or it is none of reference models.
        ValueError: If its manifest is broken, or none of its models is trained.
    """
    folder = ReferenceFolder.read(path)
    if not folder.finished():
        raise ValueError(
            f"None of the {folder.num} reference models in {folder.path} is trained to its end. Repeat the command "
            "that began them (mia-lightning references ...): it goes on where it was interrupted."
        )
    return folder


def differences_of(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which settings differ, by dotted name."""

    def value_of(settings: Mapping[str, Any], name: str) -> str:
        return repr(settings[name]) if name in settings else "not set"

    old, new = dict(_flat(before)), dict(_flat(now))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return [f"{name} was {value_of(old, name)} and is {value_of(new, name)} now" for name in names]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
