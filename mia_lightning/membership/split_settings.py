"""Settings of a data module that decide who is a member, and how those of two modules differ."""

import inspect
import json
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from mia_lightning.data.assignment import MembershipRule

# Where data lie, how they are read and in what batches: none of it decides who is a member.
_ELSEWHERE = re.compile(
    r"(.*_)?(root|dir|directory|folder|path|dirs|folders|paths)|(.*_)?(batch_size|image_size|crop_size|img_size)|"
    r"(.*_)?(num_)?workers|pin_memory|persistent_workers|prefetch_factor|drop_last|shuffle|download|"
    r"(.*_)?(augment|augmentation|augmentations|transform|transforms|normalize|normalise|mean|std|channels)|size|dtype"
)
# Names that people give to settings of a split; others may be about anything.
_OF_A_SPLIT = re.compile(
    r"seed|split|fold|member|fraction|frac|ratio|percent|portion|hold_?out|held_?out|subset|partition|random|group|"
    r"cross_?val|(^|_)(cv|train|val|valid|validation|test)(_|$)"
)
_DECIDING = {rule.name for rule in fields(MembershipRule)} | {"splits", "group_column", "num_pairs", "task"}
# Of these only what is said counts: runs of earlier versions have none.
_SAYING_NOTHING = {"id_column": "id", "group_pattern": None, "split_pattern": None, "only_splits": None}
_DECIDING |= _SAYING_NOTHING.keys()


def split_settings(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Keep those hyperparameters of a data module that may decide who is a member, as plain JSON values.

    Left out are those that say where data lie and how they are read, by their names, and texts that are paths; of the
    data modules of this package also those that have no effect beside the others, as a seed that nothing is drawn with.

    Example:
        >>> split_settings({"root": "/data", "seed": 1, "membership": "coin", "member_split": "train"})
        {'membership': 'coin', 'seed': 1}
    """
    plain = {
        str(name): json.loads(json.dumps(value, default=str))
        for name, value in sorted(hyperparameters.items(), key=lambda item: str(item[0]))
        if _decides(str(name), value)
    }
    membership = plain.get("membership")
    if membership in ("coin", "split") and "max_per_side" in plain and "one_per_group" in plain:
        drawn = membership == "coin" or plain["max_per_side"] is not None or plain["one_per_group"]
        plain = {name: value for name, value in plain.items() if drawn or name != "seed"}
    if membership == "coin":
        plain = {name: value for name, value in plain.items() if name not in ("member_split", "nonmember_split")}
    return plain


def differences(in_the_run: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Settings whose values differ, of those that both have: a text by name.

    Example:
        >>> differences({"seed": 0, "fold": 1}, {"seed": 1})
        {'seed': 'data.seed 0 in the run, 1 now'}
    """
    both = [name for name in in_the_run if name in now]
    # A rule decides more than what is drawn by it.
    order = sorted(both, key=lambda name: (name not in ("membership", "seed"), not decides_surely(name), name))
    return {
        name: f"data.{name} {in_the_run[name]!r} in the run, {now[name]!r} now"
        for name in order
        if in_the_run[name] != now[name]
    }


def decides_surely(name: str) -> bool:
    """Whether a setting is one of a split, by its name.

    Example:
        >>> [decides_surely(name) for name in ("val_fraction", "random_state", "max_per_side", "n")]
        [True, True, True, False]
    """
    return name in _DECIDING or _OF_A_SPLIT.search(name.lower()) is not None


@cache
def _of_reading() -> frozenset[str]:
    """Settings of the data modules of this package that say how files are found and read."""
    # Not at the top of the file: they import Lightning, and the callback is imported before the program has chosen one.
    from mia_lightning.data.demo import DemoDataModule
    from mia_lightning.data.paired import PairedImageDataModule
    from mia_lightning.data.segmentation import SegmentationDataModule

    modules = (PairedImageDataModule, SegmentationDataModule, DemoDataModule)
    return frozenset(name for module in modules for name in inspect.signature(module).parameters) - _DECIDING


def _decides(name: str, value: Any) -> bool:
    elsewhere = name.startswith("_") or name in _of_reading() or _ELSEWHERE.fullmatch(name)
    says_nothing = name in _SAYING_NOTHING and value == _SAYING_NOTHING[name]
    return not elsewhere and not says_nothing and not _is_path(value)


def _is_path(value: Any) -> bool:
    return isinstance(value, os.PathLike) or (isinstance(value, str) and ("/" in value or os.sep in value))
