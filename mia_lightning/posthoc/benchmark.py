"""Benchmarks of a configuration: a target a seed, reference models of its own, and an audit of each target."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from lightning.pytorch import LightningModule

from mia_lightning.attacks.reference_folder import DONE, MEMBERS, Reference, ReferenceFolder, differences_of
from mia_lightning.attacks.reference_folder import MANIFEST as REFERENCES
from mia_lightning.attacks.reference_training import Build, sample_ids, train_half
from mia_lightning.audit.config import PRIMARY, SCORES, AuditConfig
from mia_lightning.callbacks.membership_audit import MembershipAudit
from mia_lightning.posthoc.audit_trainer import AuditTrainer
from mia_lightning.result.atomic_files import write_atomically
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.scores.building import attacks_on_one_model
from mia_lightning.version import __version__

MANIFEST = "benchmark.json"
FORMAT = 1
_AUDITED = "audited.json"
_LARGEST_SEED = 2**32 - 1  # that Lightning takes


class Training(NamedTuple):
    """One training of a benchmark.

    Attributes:
        name: What it is called on the screen.
        place: Where it is kept; numbered over the whole benchmark.
        half: Makes its data module.
        seed: Of its weights.
    """

    name: str
    place: Reference
    half: Callable[[], Any]
    seed: int


class Progressing(NamedTuple):
    """Work of a benchmark that several processes share, as far as it is done."""

    path: Path
    places: Sequence[Reference]

    @property
    def num(self) -> int:
        """How many pieces of work there are."""
        return len(self.places)

    def finished(self) -> list[Reference]:
        """Those that are done."""
        return [place for place in self.places if place.finished]

    def missing(self) -> list[int]:
        """Numbers of those that are not."""
        return [number for number, place in enumerate(self.places) if not place.finished]


@dataclass(frozen=True)
class Audited(Reference):
    """The audit of a target on disk.

    Attributes:
        record: What it depends on, the files with the weights included, as plain JSON values.
    """

    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether it is there, of the weights that are there now, and under the same settings."""
        try:
            content = json.loads((self.folder / _AUDITED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and content.get("record") == self.record

    def result(self) -> AuditResult:
        """Read it."""
        return AuditResult.from_json(self.folder / "result.json")

    def begin(self) -> None:
        """Declare it unfinished: what an interruption leaves behind is of no settings that are known."""
        (self.folder / _AUDITED).unlink(missing_ok=True)

    def keep(self, seconds: float) -> None:
        """Declare it finished, after so many seconds."""
        content = {"record": self.record, "seconds": round(seconds, 3)}
        write_atomically(self.folder / _AUDITED, json.dumps(content, indent=1) + "\n")


@dataclass(frozen=True)
class Benchmark:
    """A folder with the trainings and audits of one configuration.

    All trainings share the pairs of the data module, and each has coins of its own: they say which half of the pairs it
    is trained on. ``seed-1/target`` has the target of seed 1, ``seed-1/references`` its reference models as
    ``mia-lightning references`` keeps them, and ``seed-1/audit`` the audit of the target with these.

    Attributes:
        path: The folder.
        seeds: Seeds of the targets: of their coins and of their weights. Reference models have seeds made of these.
        references: Number of reference models a target.
        config: What determines the models, as plain JSON values: model, data, and the trainer's settings that matter.
        audit: Settings of the audits that were passed, likewise.
    """

    path: Path
    seeds: tuple[int, ...]
    references: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seeds = self.seeds
        if not seeds:
            raise ValueError("Expected at least one seed, such as --seeds 1 2 3, but got none.")
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            raise ValueError(
                f"Expected seeds that differ (--seeds), but {', '.join(map(str, twice))} is there more than once: a "
                "training that is counted twice would make the intervals too narrow."
            )
        if wrong := [seed for seed in seeds if not 0 <= seed <= _LARGEST_SEED]:
            raise ValueError(f"Expected seeds from 0 to {_LARGEST_SEED} (--seeds), but got {wrong[0]}.")
        if self.references < 0:
            raise ValueError(f"Expected a number of reference models (--references), 0 or more, not {self.references}.")

    def opened(self, say: Callable[[str], None] | None = None) -> Self:
        """Make this the folder on disk, or join the one that is there; raises as :meth:`joined` does.

        Args:
            say: Where nothing in the folder has been trained for an epoch, this takes the place of what was begun
                there for its seeds, other pairs included; another configuration, that of all seeds, which is told to
                ``say``. None refuses it.
        """
        if say is None or self._there() is None or self._holds(Reference(0, Path()).checkpoint.name, DONE):
            joined = self.joined()
        else:
            if differ := self._differences():
                say(f"Nothing in {self.path} is trained yet, so that other settings count now: {'; '.join(differ)}.")
                (self.path / MANIFEST).unlink()
            # Other seeds of the same configuration may be those of a run that goes on beside this one.
            seeds = ["*"] if differ else list(map(str, self.seeds))
            for file in (f for seed in seeds for name in (MEMBERS, REFERENCES) for f in self._of_seed(seed, name)):
                file.unlink()
            joined = self if differ else self.joined()
        content = {"format": FORMAT, "references": joined.references, "config": self.config}
        write_atomically(self.path / MANIFEST, json.dumps(content, indent=1) + "\n")
        return joined

    def joined(self) -> Self:
        """What this is beside the folder on disk, where there is one: the larger number of reference models counts.

        Raises:
            ValueError: If the one on disk is of another configuration, naming what differs, or none of a benchmark.
        """
        references = self.references
        if (there := self._there()) is not None:
            if differ := self._differences():
                unfinished = "" if self._holds(DONE) else ", or delete that folder: no model in it is finished"
                raise ValueError(
                    f"The benchmark in {self.path} is of another configuration: {'; '.join(differ)}. Give the settings "
                    f"that it was begun with, or another folder with --output{unfinished}."
                )
            references = max(references, there[1])
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            what = "holds other files and no benchmark" if self.path.is_dir() else "is a file"
            raise ValueError(f"{self.path} {what}: name a new folder with --output.")
        return replace(self, references=references)

    def with_others_there(self) -> tuple[Self, list[int]]:
        """This with the other seeds of the folder that are audited under the same settings, and those that are not."""
        found = (path.parent.parent.name.removeprefix("seed-") for path in self.path.glob("seed-*/audit/result.json"))
        others = sorted({int(name) for name in found if name.isdecimal()} - set(self.seeds))
        left = [seed for seed in others if replace(self, seeds=(seed,)).auditing().missing()]
        return replace(self, seeds=(*self.seeds, *(seed for seed in others if seed not in left))), left

    def _holds(self, *names: str) -> bool:
        """Whether a training in the folder has a file of one of these names."""
        return any(self._of_seed("*", name) for name in names)

    def _of_seed(self, seed: str, name: str) -> list[Path]:
        """Files of that name among the trainings of a seed; of all for ``"*"``."""
        return list(self.path.glob(f"seed-{seed}/**/{name}"))

    def _there(self) -> tuple[dict[str, Any], int] | None:
        """Configuration and number of reference models of the benchmark on disk, where there is one."""
        manifest = self.path / MANIFEST
        if not manifest.is_file():
            return None
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            made, config, references = content["format"], dict(content["config"]), int(content["references"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{manifest} does not describe a benchmark: {error!r}.") from error
        if made != FORMAT:
            raise ValueError(f"Expected {manifest} to be of format {FORMAT}, but found {made!r}.")
        return config, references

    def _differences(self) -> list[str]:
        """How the configuration of the benchmark on disk differs, where there is one."""
        there = self._there()
        return [] if there is None else differences_of(there[0], self.config)

    def trainings(self, datamodule: Any = None) -> list[Training]:
        """All trainings, those of a seed together; to look them up, no ``datamodule`` is needed."""
        found: list[Training] = []
        for seed in self.seeds:
            own, half = self.path / f"seed-{seed}", getattr(datamodule, "redrawn", None)
            target = Reference(len(found), own / "target")
            found.append(Training(f"Seed {seed}, target", target, partial(half, seed) if half else _no_data, seed))
            folder = self.references_of(seed)
            for number in range(self.references):
                place = Reference(len(found), folder.reference(number).folder)
                of_half = folder.half(number, datamodule) if half else _no_data
                name = f"Seed {seed}, reference model {number + 1} of {self.references}"
                found.append(Training(name, place, of_half, folder.seed + 1 + number))
        return found

    def references_of(self, seed: int) -> ReferenceFolder:
        """Where the reference models of a seed are; their coins and weights are no other training's."""
        first = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]) >> 1
        return ReferenceFolder(self.path / f"seed-{seed}" / "references", self.references, first, self.config)

    def audits(self) -> list[Audited]:
        """The audits, one a seed."""
        record = {"references": self.references, "settings": self.audit, "mia_lightning": __version__}
        places, each = [training.place for training in self.trainings()], self.references + 1
        return [
            Audited(
                number,
                self.path / f"seed-{seed}" / "audit",
                record | {"weights": [_state_of(p.checkpoint) for p in places[number * each : (number + 1) * each]]},
            )
            for number, seed in enumerate(self.seeds)
        ]

    def training(self) -> Progressing:
        """The trainings, as far as they are done."""
        return Progressing(self.path, [training.place for training in self.trainings()])

    def auditing(self) -> Progressing:
        """The audits, as far as they are done."""
        return Progressing(self.path, self.audits())

    def check_pairs(self, datamodule: Any) -> None:
        """Raise a ValueError where the pairs are others than those of the trainings that are there."""
        begun = (t for t in self.trainings(datamodule) if t.place.assigned)
        if (first := next(begun, None)) is not None:
            half = first.half()
            first.place.assign(*(sample_ids(source, type(half).__name__) for source in half.audit_dataloaders()))

    def train(self, number: int, datamodule: Any, build: Build, say: Callable[[str], None]) -> None:
        """Train one of :meth:`trainings`; go on where it was interrupted.

        Args:
            number: Which one, from 0.
            datamodule: The configuration's, with ``redrawn``.
            build: As for :func:`~mia_lightning.attacks.reference_training.train_references`.
            say: Called with a line of text at each step.
        """
        training = self.trainings(datamodule)[number]
        if self.references:
            self.references_of(self.seeds[number // (self.references + 1)]).opened()
        train_half(training.place, training.half, build, training.name, training.seed, say=say)

    def run_audit(
        self,
        number: int,
        datamodule: Any,
        model: LightningModule,
        config: AuditConfig,
        *,
        patch: bool = False,
        **trainer: Any,
    ) -> AuditResult:
        """Audit the target of one of the seeds, with its reference models, and write what was found.

        Args:
            number: Which one, from 0.
            datamodule: The configuration's, with ``redrawn``.
            model: A model of the configuration; it gets the target's weights.
            config: Settings of the audit. Whatever they say of scores, all attacks on one model are there.
            patch: Add the patch attack, where there are reference models.
            **trainer: Settings of the trainer: where, and in what precision.
        """
        started, audited, seed = time.monotonic(), self.audits()[number], self.seeds[number]
        # All trainings share the pairs: their predictability is computed once.
        config = replace(with_every_attack(config), cache_dir=config.cache_dir or self.path / "cache", output_dir=None)
        runner = AuditTrainer(
            devices=1,
            callbacks=[MembershipAudit(config=config, verbose=False)],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            **trainer,
        )
        audited.begin()
        result = runner.audit(
            model,
            datamodule.redrawn(seed),
            str(self.path / f"seed-{seed}" / "target" / "last.ckpt"),
            output_dir=str(audited.folder),
            references=str(self.references_of(seed).path) if self.references else None,
            patch=patch and self.references > 0,
        )
        audited.keep(time.monotonic() - started)
        return result

    def results(self) -> list[AuditResult]:
        """The audits, one a seed, all of which are there."""
        return [audited.result() for audited in self.audits()]


def with_every_attack(config: AuditConfig) -> AuditConfig:
    """The settings of an audit, with all of the package's attacks on one model.

    Example:
        >>> "combined" in with_every_attack(AuditConfig(scores=["reconstruction", "membership", "calibrated"])).scores
        True
    """
    if (config.scores, config.primary) == (SCORES, PRIMARY):
        return replace(config, verdict="auto")  # which leaves those out that data or model do not allow
    return AuditConfig.of(config, scores=tuple(dict.fromkeys((*config.scores, *attacks_on_one_model()))))


def _state_of(file: Path) -> list[int] | None:
    """What tells a file from one that was written in its place, without reading it; None where there is none."""
    try:
        state = file.stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]


def _no_data() -> Any:
    raise TypeError("These trainings were looked up without a data module.")
