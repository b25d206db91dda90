"""Base class of the data modules: assignment of membership, and loaders for training, validation and audit."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from torch.utils.data import DataLoader, Dataset

from mia_lightning.data.arrangement import Arrangement
from mia_lightning.data.assignment import Assignment, MembershipRule, assign, redraw
from mia_lightning.data.datasets import Item
from mia_lightning.data.exif_rule import Exif
from mia_lightning.data.found_files import FoundFiles
from mia_lightning.data.label_encoding import VOID
from mia_lightning.data.label_pixels import LabelArray
from mia_lightning.data.presets.preset import is_left
from mia_lightning.data.records import Record
from mia_lightning.data.training_loader import TrainingLoader
from mia_lightning.data.transforms import Size, parse_augment, parse_size
from mia_lightning.lightning_packages.bases import LightningDataModule, put_first

TEST_SPLIT = "test"


class AuditableDataModule(LightningDataModule):
    """A data module whose members and nonmembers can be audited.

    Training uses the members and nothing else. Validation uses the nonmembers. Tests and predictions use the
    split ``"test"`` where membership comes from splits and there is one, otherwise the nonmembers.

    A subclass finds files (:meth:`found_files`) or records (:meth:`_find_records`), settles how they are read
    (:meth:`_settle`), checks them (:meth:`_check`, :meth:`_check_all`) and turns them into a dataset
    (:meth:`_make_dataset`). It lists its arguments and passes them on one by one: help and editors read them there, and
    hyperparameters would not do instead, since they hold those of a user's own subclass where a name occurs twice.

    Args:
        rule: How members and nonmembers are chosen.
        image_size: One number, or height and width.
        augment: Names of the training augmentations, or ``"none"``.
        batch_size: Of training.
        eval_batch_size: Of everything else.
        num_workers: Processes that each loader reads with; 0 reads in the main process.
        exif: How EXIF turns are read.

    Raises:
        ValueError: If a setting is outside its range.
    """

    def __init__(
        self,
        rule: MembershipRule,
        image_size: Size,
        augment: str | Sequence[str],
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        exif: Exif = "pair",
    ) -> None:
        super().__init__()
        sizes = {
            "batch_size": (batch_size, 1),
            "eval_batch_size": (eval_batch_size, 1),
            "num_workers": (num_workers, 0),
        }
        for name, (value, least) in sizes.items():
            if value < least:
                raise ValueError(f"expected {name} to be at least {least} but got {value}")
        self.rule, self.image_size = rule, parse_size(image_size)
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self._augment = parse_augment(augment, self.image_size)
        self._assignment: Assignment | None = None
        self._test_records: tuple[Record, ...] = ()
        self._settled: dict[str, Record] = {}
        self._notes: dict[str, str] = {}
        self._found_notes: dict[str, str] = {}
        self.arrangement = Arrangement()
        self.root, self.exif = Path(), exif

    def _fill_hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Keep what was settled where nothing was passed: checkpoints hold what was used, whatever presets become."""
        for name, value in values.items():
            if name in self.hparams and (self.hparams[name] is None or is_left(self.hparams[name])):
                self.hparams[name] = value

    def found_files(self) -> FoundFiles:
        """Look for all files, pairs or not, and for what is wrong with them."""
        raise NotImplementedError  # a layout finds its pairs, and reads them, in its own way

    def _find_records(self) -> list[Record]:
        """Return all pairs there are."""
        records, notes = self.arrangement.applied(self.found_files().required(), self.root)
        self._found_notes = notes
        return records

    def _make_dataset(self, records: Sequence[Record], augment: Sequence[str]) -> Dataset[Item]:
        """Return the dataset of some pairs under the given augmentations."""
        raise NotImplementedError  # a layout finds its pairs, and reads them, in its own way

    def _settle(self, records: Sequence[Record]) -> dict[str, str]:
        """Settle how files are read by looking at all of them; raise if they differ. Returns what was settled."""
        del records
        return {}

    def _check(self, records: Sequence[Record]) -> None:
        """Look into all pairs before they are used; raise if one cannot be."""

    def _check_all(self, records: Sequence[Record]) -> None:
        """Look at members and nonmembers as a whole; raise if nothing could be learned from them."""

    def setup(self, stage: str | None = None) -> None:
        """Find, assign and check the pairs, once, for all stages; every error of paths and labels comes from here.

        Raises:
            OSError: If a folder or file is missing or cannot be read.
            ValueError: If pairs, splits, groups or labels do not fit together.
        """
        put_first(self.trainer)
        if self._assignment is not None:
            return
        records = self._find_records()
        assignment = assign(records, self.rule)
        test: tuple[Record, ...] = ()
        if self.rule.membership == "split" and TEST_SPLIT not in (self.rule.member_split, self.rule.nonmember_split):
            test = tuple(record for record in records if record.split == TEST_SPLIT)
        audited = [*assignment.members, *assignment.nonmembers]
        self._prepare([*audited, *test])
        self._check_all(audited)
        for side in (assignment.members, assignment.nonmembers):
            self._make_dataset(side[:1], augment=())[0]
        self._test_records = test
        if self._notes:
            rank_zero_info("Files: " + "; ".join(f"{name}: {text}" for name, text in self._notes.items()) + ".")
        self._assignment = assignment

    def train_dataloader(self) -> DataLoader[Item]:
        """Return the members, augmented and shuffled by torch's global generator (see ``seed_everything``).

        A last batch of one sample, on which batch norm may not train, is joined to the one before.
        """
        dataset = self._make_dataset(self._assigned().members, self._augment)
        return self._loader(dataset, self.batch_size, shuffle=True, persistent=True)

    def val_dataloader(self) -> DataLoader[Item]:
        """Return the nonmembers, in order and without augmentation."""
        return self._eval_loader(self._assigned().nonmembers, persistent=True)

    def test_dataloader(self) -> DataLoader[Item]:
        """Return the test split, or the nonmembers where there is none."""
        nonmembers = self._assigned().nonmembers  # this settles the test records, too
        return self._eval_loader(self._test_records or nonmembers)

    def predict_dataloader(self) -> DataLoader[Item]:
        """Return what :meth:`test_dataloader` returns."""
        return self.test_dataloader()

    def audit_dataloaders(self) -> tuple[DataLoader[Item], DataLoader[Item]]:
        """Return members and nonmembers, in order and under evaluation transforms, also before :meth:`setup`."""
        assignment = self._assigned()
        return self._eval_loader(assignment.members), self._eval_loader(assignment.nonmembers)

    def audit_info(self) -> dict[str, object]:
        """Return how membership came about, in plain values: see :class:`~mia_lightning.data.assignment.Assignment`.

        Where files could be read in more than one way, ``files`` says how they are: sentences by setting.
        """
        info = dict(self._assigned().info)
        return info | {"files": dict(self._notes)} if self._notes else info

    def redrawn(self, seed: int, *, complement: bool = False) -> Self:
        """Return a copy with new coins for the same members and nonmembers, a reference model's data: see `redraw`."""
        assignment = redraw(self._assigned(), seed, complement=complement)
        other = copy.copy(self)
        other._assignment = assignment
        return other

    def all_records(self) -> list[Record]:
        """Return all pairs there are, whatever side they are on, sorted by id; membership is not looked at."""
        records = sorted(self._find_records(), key=lambda record: record.id)
        self._prepare(records, look_inside=False)
        return records

    def dataset_of(self, records: Sequence[Record]) -> Dataset[Item]:
        """Return the dataset of some pairs, in order and under evaluation transforms.

        How files are read is settled by these and all records that were used before.
        """
        self._prepare(records)
        return self._make_dataset(records, augment=())

    def examine(self, records: Sequence[Record]) -> dict[str, str]:
        """Look at pairs as before a training, whether or not they are used; returns what was settled.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If pairs cannot be used, or not together.
        """
        notes = self._settle(records)
        self._check(records)
        return notes

    def examine_sides(self, records: Sequence[Record]) -> None:
        """Look at members and nonmembers as a whole; a ValueError if nothing could be learned from them."""
        self._check_all(records)

    def pictures_of(self, record: Record) -> tuple[Path, ...]:
        """The files of a pair that are pictures and no label maps."""
        return (record.input_path,)

    def labels_of(self, record: Record) -> LabelArray | None:
        """The class ids (H, W) of a pair's label map; None where it has none."""
        del record
        return None

    def names_of_classes(self) -> list[str]:
        """Names of the classes, or their ids where they have none."""
        return []

    def void_id(self) -> int:
        """Id of ignored pixels."""
        return VOID

    def _prepare(self, records: Sequence[Record], *, look_inside: bool = True) -> None:
        """Settle how files are read by all records that are used, and look into these."""
        settled = self._settled | {f"{r.input_path}\n{r.target_path}": r for r in records}
        self._notes = self._found_notes | self._settle(list(settled.values()))
        self._settled = settled
        if look_inside:
            self._check(records)

    @property
    def augmentations(self) -> tuple[str, ...]:
        """Names of the training augmentations: poor choices for the neighbours of an audit."""
        return self._augment

    def _assigned(self) -> Assignment:
        self.setup()
        assert self._assignment is not None
        return self._assignment

    def _eval_loader(self, records: Sequence[Record], *, persistent: bool = False) -> DataLoader[Item]:
        dataset = self._make_dataset(records, augment=())
        return self._loader(dataset, self.eval_batch_size, shuffle=False, persistent=persistent)

    def _loader(self, dataset: Dataset[Item], size: int, *, shuffle: bool, persistent: bool) -> DataLoader[Item]:
        kind = TrainingLoader if shuffle else DataLoader
        return kind(
            dataset,
            batch_size=size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            # Only loaders that live as long as the training keep their workers; others are made anew each time.
            persistent_workers=persistent and self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
