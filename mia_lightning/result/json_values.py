"""Plain values that JSON can hold."""

import math
from collections.abc import Mapping
from typing import Any


def without_nan(value: Any) -> Any:
    """Put null where JSON has no word: for NaN and infinite numbers.

    Example:
        >>> without_nan({"auc": float("nan"), "ids": [1.0]})
        {'auc': None, 'ids': [1.0]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return [without_nan(item) for item in value] if isinstance(value, (list, tuple)) else value
