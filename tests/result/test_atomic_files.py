from __future__ import annotations

import os
from pathlib import Path

import pytest

from mia_lightning.result.atomic_files import write_atomically


def test_text_is_written_as_utf8_with_its_own_line_ends(tmp_path):
    path = write_atomically(tmp_path / "new" / "folder" / "a.txt", "ü\n\r\n")
    assert path.read_bytes() == b"\xc3\xbc\n\r\n"


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, place):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    path = write_atomically(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os if place == "fsync" else Path, place, fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path):
    path = write_atomically(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        write_atomically(path, "new \udcff")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
