"""Scripts of `benchmarks/`, which are in no package, as modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[1] / "benchmarks"


@contextmanager
def benchmark_script(name: str) -> Iterator[ModuleType]:
    """Import ``benchmarks/NAME.py`` anew, with the scripts that it imports; forget them all afterwards."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))
        own = [key for key, module in sys.modules.items() if _folder(module) == FOLDER]
        for key in own:
            del sys.modules[key]


def _folder(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).parent if file else None
