"""The line that an audit prints."""

from __future__ import annotations

import logging

import pytest
from lightning_package import pl

from mia_lightning.result.remarks import readings
from mia_lightning.result.verdict import headline


def test_a_line_for_each_audit(kit, audit, trainer, loaders, caplog: pytest.LogCaptureFixture) -> None:
    callback = audit()
    with caplog.at_level(logging.INFO, logger=f"{pl.__name__}.utilities.rank_zero"):
        trainer(callback).fit(kit.Translator(), *loaders)
    lines = [r.getMessage() for r in caplog.records if "AUC" in r.getMessage()]
    assert lines == [headline(result) for result in callback.history]
    assert lines[1].startswith("epoch 2 | membership AUC 0.")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger=f"{pl.__name__}.utilities.rank_zero"):
        trainer(audit(verbose=False)).fit(kit.Translator(), *loaders)
    assert not [r for r in caplog.records if "AUC" in r.getMessage()]


def test_how_the_data_are_read_is_printed_once(kit, audit, trainer, loaders, caplog: pytest.LogCaptureFixture) -> None:
    callback = audit()
    with caplog.at_level(logging.INFO, logger=f"{pl.__name__}.utilities.rank_zero"):
        trainer(callback).fit(kit.Translator(), *loaders)
    lines = [r.getMessage() for r in caplog.records if "read as" in r.getMessage()]
    assert len(callback.history) > 1
    assert lines == [f"Audit: {readings(callback.history[0])}."]


def test_lines_go_above_the_progress_bar(kit, audit, trainer, loaders, capsys: pytest.CaptureFixture[str]) -> None:
    callback = audit()
    trainer(callback, enable_progress_bar=True).fit(kit.Translator(), *loaders)
    out, err = capsys.readouterr()
    assert all(headline(result) in out + err for result in callback.history)
