from __future__ import annotations

import os
from pathlib import Path

import pytest

from mia_lightning.result.atomic_files import keep_earlier, require_writable, write_atomically


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


def test_a_folder_that_cannot_be_written_is_named_and_none_is_made(tmp_path, monkeypatch):
    require_writable(tmp_path / "new" / "folder")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"file is a file, .* the folder .*audits: name another"):
        require_writable(tmp_path / "file" / "audits")
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) != tmp_path)
    with pytest.raises(PermissionError, match="cannot be written to, and results are to go into"):
        require_writable(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_earlier_files_get_one_number_together(tmp_path):
    paths = tmp_path / "a.json", tmp_path / "a.txt"
    assert keep_earlier(*paths) == []
    for number in (1, 2):
        for path in paths:
            path.write_text(str(number))
        assert keep_earlier(*paths) == [tmp_path / f"a-{number}.json", tmp_path / f"a-{number}.txt"]
    assert [(tmp_path / f"a-{n}.txt").read_text() for n in (1, 2)] == ["1", "2"]
