from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mia_lightning.data as data


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["torch", "lightning", "albumentations"]
    code = f"import sys, mia_lightning.data; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_lazy_names():
    assert data.DemoDataModule.__name__ == "DemoDataModule"
    with pytest.raises(AttributeError, match="public names are"):
        data.Nothing  # noqa: B018 - the look-up is what is tested


def test_one_file_knows_albumentations():
    files = sorted(Path(data.__file__).parent.glob("*.py"))
    users = [path.name for path in files if "import albumentations" in path.read_text()]
    assert users == ["transforms.py"]
