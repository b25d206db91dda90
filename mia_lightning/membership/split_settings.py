"""Settings of a data module that decide who is a member, and how those of two modules differ."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

# Where data lie, how they are read and in what batches: none of it decides who is a member.
_ELSEWHERE = re.compile(
    r"(.*_)?(root|dir|directory|folder|path|dirs|folders|paths)|(.*_)?(batch_size|image_size|crop_size|img_size)|"
    r"(.*_)?(num_)?workers|pin_memory|persistent_workers|prefetch_factor|drop_last|shuffle|download|"
    r"(.*_)?(augment|augmentation|augmentations|transform|transforms|normalize|normalise|mean|std)|"
    r"(.*_)?(channels|kind|encoding)|size|num_classes|num_input_classes|class_names|ignore_index|foreground|palette|"
    r"layout|direction|pages|white|task_name|device|dtype"
)


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
        if not str(name).startswith("_") and not _ELSEWHERE.fullmatch(str(name)) and not _is_path(value)
    }
    membership = plain.get("membership")
    if membership in ("coin", "split") and "max_per_side" in plain and "one_per_group" in plain:
        drawn = membership == "coin" or plain["max_per_side"] is not None or plain["one_per_group"]
        plain = {name: value for name, value in plain.items() if drawn or name != "seed"}
    if membership == "coin":
        plain = {name: value for name, value in plain.items() if name not in ("member_split", "nonmember_split")}
    return plain


def differences(in_the_run: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the settings whose values differ, of those that both have.

    Example:
        >>> differences({"seed": 0, "fold": 1}, {"seed": 1})
        ['data.seed 0 in the run, 1 now']
    """
    both = [name for name in in_the_run if name in now]
    # A rule decides more than what is drawn by it.
    order = sorted(both, key=lambda name: (name not in ("membership", "seed"), name))
    return [
        f"data.{name} {in_the_run[name]!r} in the run, {now[name]!r} now"
        for name in order
        if in_the_run[name] != now[name]
    ]


def _is_path(value: Any) -> bool:
    return isinstance(value, os.PathLike) or (isinstance(value, str) and ("/" in value or os.sep in value))
