"""Presets: data sets by name. One file each; every file of this folder that has a ``PRESET`` is found."""

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points

from mia_lightning.data.presets.preset import Preset, no_preset

_added: dict[str, Preset] = {}


def preset_names() -> list[str]:
    """Names of all presets, sorted."""
    return sorted({**_own(), **_added})


def find_preset(name: str) -> Preset:
    """Look a preset up; ``Kvasir-SEG`` is ``kvasir_seg``.

    Raises:
        ValueError: If there is none of that name; names the nearest and lists all.

    Example:
        >>> len(find_preset("cityscapes").classes)
        19
    """
    plain = name.lower().replace("-", "_")
    if plain not in _own() and name not in _added:
        for plugin in entry_points(group="mia_lightning.plugins"):
            plugin.load()
    found = _added.get(name) or _own().get(plain)
    if found is None:
        raise ValueError(no_preset(name, preset_names()))
    return found


def register_preset(preset: Preset) -> Preset:
    """Add a preset of your own, and return it.

    Raises:
        ValueError: If another of that name is there.
    """
    if preset.name in {**_own(), **_added}:
        raise ValueError(f"the preset {preset.name!r} is registered already; register yours under another name")
    _added[preset.name] = preset
    return preset


def remove_preset(name: str) -> None:
    """Forget a preset that was added; for tests and interactive work."""
    del _added[name]


@cache
def _own() -> dict[str, Preset]:
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    presets = [module.PRESET for module in modules if hasattr(module, "PRESET")]
    return {preset.name: preset for preset in presets}
