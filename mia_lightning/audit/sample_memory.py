"""Samples in memory of their own, where a data set writes one after another into the same."""

import copy
import dataclasses
from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import torch


def own(item: Any) -> Any:
    """A sample in memory of its own: a data set may write its next sample into the same.

    Example:
        >>> buffer = torch.zeros(1)
        >>> sample = own((buffer, "a"))
        >>> buffer += 1
        >>> sample
        (tensor([0.]), 'a')
    """
    if isinstance(item, torch.Tensor):
        return item.clone()
    if isinstance(item, np.ndarray):
        return item.copy()
    if isinstance(item, (tuple, list)) and (type(item) in (tuple, list) or hasattr(type(item), "_make")):
        make = getattr(type(item), "_make", type(item))
        return make(own(value) for value in item)
    if type(item) in (dict, OrderedDict, defaultdict):
        another = copy.copy(item)
        another.update({key: own(value) for key, value in item.items()})
        return another
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        another = copy.copy(item)
        for field in dataclasses.fields(item):
            if hasattr(item, field.name):
                object.__setattr__(another, field.name, own(getattr(item, field.name)))  # a frozen one, too
        return another
    return item
