"""Which settings of a data module decide who is a member."""

from __future__ import annotations

from pathlib import Path

import pytest

from mia_lightning import PairedImageDataModule, SegmentationDataModule
from mia_lightning.membership.split_settings import differences, split_settings


def test_what_decides_of_our_own():
    paired, masks = PairedImageDataModule("here", membership="coin"), SegmentationDataModule("there", 3)
    assert split_settings(paired.hparams) == {
        "group_column": None,
        "max_per_side": None,
        "membership": "coin",
        "one_per_group": False,
        "seed": 0,
        "splits": "splits.csv",
    }
    assert "seed" not in split_settings(masks.hparams), "nothing is drawn with it"
    drawn = SegmentationDataModule("there", 3, max_per_side=4)
    assert split_settings(drawn.hparams)["seed"] == 0
    assert split_settings(masks.hparams)["nonmember_split"] == "val"


@pytest.mark.parametrize(
    "name", ["root", "data_dir", "batch_size", "val_batch_size", "num_workers", "train_transform", "pin_memory", "_x"]
)
def test_where_data_lie_and_how_they_are_read_does_not_decide(name):
    assert split_settings({name: 1, "fold": 2}) == {"fold": 2}


def test_texts_that_are_paths_do_not_decide():
    assert split_settings({"listing": "/data/a", "place": Path("b"), "names": "a.txt"}) == {"names": "a.txt"}


def test_differences_name_the_rule_first():
    now = {"max_per_side": 2, "seed": 1, "membership": "split", "more": 3}
    found = differences({"max_per_side": None, "seed": 0, "membership": "coin", "less": 1}, now)
    assert list(found) == ["membership", "seed", "max_per_side"]
    assert found == {
        "membership": "data.membership 'coin' in the run, 'split' now",
        "seed": "data.seed 0 in the run, 1 now",
        "max_per_side": "data.max_per_side None in the run, 2 now",
    }
    tuples = split_settings({"folds": (1, 2)})
    assert differences(tuples, split_settings({"folds": [1, 2]})) == {}
