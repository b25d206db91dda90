"""Looking at many files: from disk once, then from memory or SQLite for as long as a file is unchanged."""

from __future__ import annotations

import os
import sqlite3

import numpy as np
import pytest
from PIL import Image

from mia_lightning import SegmentationDataModule
from mia_lightning.data import file_survey
from mia_lightning.data.file_survey import FileSurvey


@pytest.fixture
def files(tmp_path, data_rng):
    paths = [tmp_path / "data" / f"{i}.png" for i in range(40)]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(data_rng.integers(0, 3, (8, 12), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(file_survey, "_REMEMBERED", {})


def test_headers_and_values(files):
    survey = FileSurvey()
    header = survey.headers(files)[files[3]]
    assert (header.width, header.height, header.mode, header.pages, header.turn) == (12, 8, "L", 1, 1)
    assert (header.format, header.lossy, header.depth) == ("PNG", False, "uint8")
    summary = survey.labels(files)[files[3]]
    assert summary.pixels.values.tolist() == [np.unique(np.asarray(Image.open(files[3]))).tolist()]
    assert survey.ranges(files)[files[3]] == (0.0, 2.0)
    assert survey.opened == 3 * len(files)


def test_a_file_is_opened_once_a_process(files):
    FileSurvey().headers(files)
    again = FileSurvey()
    again.headers(files)
    assert again.opened == 0


def test_a_later_process_reads_the_cache_and_notices_changed_files(files, tmp_path, monkeypatch):
    first = FileSurvey(tmp_path / "cache")
    first.labels(files)
    assert first.opened == 40
    Image.fromarray(np.full((8, 12), 9, dtype=np.uint8)).save(files[5])
    status = files[7].stat()
    os.utime(files[7], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    monkeypatch.setattr(file_survey, "_REMEMBERED", {})
    second = FileSurvey(tmp_path / "cache")
    assert second.labels(files)[files[5]].pixels.values.tolist() == [[9]]
    assert second.opened == 2
    monkeypatch.setattr(file_survey, "_REMEMBERED", {})
    third = FileSurvey(tmp_path / "cache")
    third.labels(files)
    assert third.opened == 0
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["files.sqlite"]


def test_nothing_is_written_without_a_folder(files, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    FileSurvey().labels(files)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_found_before_a_broken_file_is_kept(files, tmp_path, monkeypatch):
    files[-1].write_bytes(files[-1].read_bytes()[:60])
    with pytest.raises(OSError, match=r"39\.png"):
        FileSurvey(tmp_path / "cache").labels(files)
    monkeypatch.setattr(file_survey, "_REMEMBERED", {})
    again = FileSurvey(tmp_path / "cache")
    again.labels(files[:32])
    assert again.opened == 0


def test_a_file_that_is_no_cache_is_named(files, tmp_path):
    (tmp_path / "files.sqlite").write_text("no database at all, and long enough to be seen as one" * 20)
    with pytest.raises(ValueError, match=r"files\.sqlite is not a cache of files .*choose another cache_dir"):
        FileSurvey(tmp_path).headers(files)


def test_answers_are_plain_text(files, tmp_path):
    FileSurvey(tmp_path / "cache").labels(files)
    with sqlite3.connect(tmp_path / "cache" / "files.sqlite") as database:
        types = set(database.execute("SELECT typeof(path), typeof(answer) FROM files"))
    assert types == {("text", "text")}


def test_a_bar_is_shown_for_many_files(files, monkeypatch, capsys):
    monkeypatch.setattr(file_survey, "MANY_FILES", 10)
    monkeypatch.setenv("FORCE_COLOR", "1")
    FileSurvey().headers(files)
    assert "Headers of files" in capsys.readouterr().err


def test_the_data_modules_use_the_folder(mask_folders, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    for opened in (True, False):
        monkeypatch.setattr(file_survey, "_REMEMBERED", {})
        data = SegmentationDataModule(mask_folders, 3, image_size=16, cache_dir=str(folder))
        data.setup()
        assert bool(data._survey.opened) is opened
