"""What the event file of TensorBoard holds after a tiny fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.data import IterableDataset

import mia_lightning.callbacks.board as board


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0, "tensors": 0}).Reload()


def layout_of(events: EventAccumulator) -> dict[str, Any]:
    """Pages and charts of the custom-scalar layout, by name."""
    (entry,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(entry.tensor_proto.string_val[0])
    return {page.title: {chart.title: chart for chart in page.chart} for page in layout.category}


@pytest.fixture
def events(kit, audit, trainer, loaders, tmp_path: Path) -> tuple[EventAccumulator, Any]:
    callback = audit()
    trainer(callback, logger=TensorBoardLogger(tmp_path, name="", version="")).fit(kit.Translator(), *loaders)
    return read(tmp_path), callback


def test_scalars_histograms_and_figures(events) -> None:
    found, callback = events
    tags = found.Tags()
    assert {k for k in tags["scalars"] if k.startswith("audit/")} == set(callback.result.metrics)
    for key in ("audit/auc", "audit/auc_low/membership", "audit/error/reconstruction/members"):
        logged = found.Scalars(key)
        assert [e.step for e in logged] == [2, 5]
        assert [e.value for e in logged] == pytest.approx([r.metrics[key] for r in callback.history])
    errors = ("reconstruction", "predictability", "membership")
    assert set(tags["histograms"]) == {f"audit/{e}/{side}" for e in errors for side in ("members", "nonmembers")}
    first, last = found.Histograms("audit/membership/members")
    assert (first.step, last.step) == (2, 5)
    assert last.histogram_value.num == 6
    assert found.Histograms("audit/membership/nonmembers")[0].histogram_value.num == 5
    assert set(tags["images"]) == {"audit/roc", "audit/exposed_members"}
    for tag in tags["images"]:
        shown = found.Images(tag)
        assert [e.step for e in shown] == [2, 5]
        assert min(shown[0].width, shown[0].height) > 100
        assert shown[0].encoded_image_string.startswith(b"\x89PNG")


def test_the_memorization_page(events) -> None:
    found, _ = events
    pages = layout_of(found)
    assert list(pages) == ["Memorization"]
    bands = {name: chart for name, chart in pages["Memorization"].items() if chart.HasField("margin")}
    assert len(bands) == 2
    for score, chart in zip(("membership", "reconstruction"), bands.values(), strict=True):
        (series,) = chart.margin.series
        wanted = tuple(f"audit/{part}/{score}" for part in ("auc", "auc_low", "auc_high"))
        assert (series.value, series.lower, series.upper) == wanted
    drawn = {tag for chart in pages["Memorization"].values() for tag in chart.multiline.tag}
    assert {"audit/blind_auc", "audit/auc/membership", "audit/error/reconstruction/nonmembers"} <= drawn
    assert drawn <= set(found.Tags()["scalars"])


def test_a_second_audit_has_its_own_page(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(audit(prefix="other"), logger=logger, max_epochs=1).fit(kit.Translator(), *loaders)
    found = read(tmp_path)
    assert list(layout_of(found)) == ["Memorization (other)"]
    assert set(found.Tags()["images"]) == {"other/roc", "other/exposed_members"}


def test_label_maps_are_shown(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit(kit.Masks(4), kit.Masks(4, 7))
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(callback, logger=logger).validate(kit.Segmenter(), loaders[1], verbose=False)
    assert set(read(tmp_path).Tags()["images"]) == {"audit/roc", "audit/exposed_members"}


def test_histograms_stand_at_the_scalars_step(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    """With two optimizers the global step runs twice as fast as the batches by which Lightning logs scalars."""
    import torch

    class Two(kit.Translator):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()

        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            return [torch.optim.SGD(self.network[i].parameters(), 0.1) for i in (0, 4)]

    callback = audit()
    trainer(callback, logger=TensorBoardLogger(tmp_path, name="", version="")).fit(Two(), *loaders)
    found = read(tmp_path)
    scalars = [e.step for e in found.Scalars("audit/auc")]
    assert [e.step for e in found.Histograms("audit/membership/members")] == scalars
    assert [e.step for e in found.Images("audit/roc")] == scalars
    assert [r.meta["step"] for r in callback.history] == [6, 12]


def test_no_figure_without_tensorboard(kit, audit, trainer, loaders, tmp_path: Path, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a figure was drawn")

    monkeypatch.setattr(board, "roc_figure", never)
    monkeypatch.setattr(board, "gallery", never)
    for logger in (False, CSVLogger(tmp_path)):
        trainer(audit(), logger=logger, max_epochs=1).fit(kit.Translator(), *loaders)


def test_figures_are_closed(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    before = plt.get_fignums()
    trainer(audit(), logger=TensorBoardLogger(tmp_path), max_epochs=3).fit(kit.Translator(), *loaders)
    assert plt.get_fignums() == before


def test_two_tensorboards_and_a_csv(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    loggers = [TensorBoardLogger(tmp_path, name=n, version="") for n in ("a", "b")]
    trainer(audit(), logger=[*loggers, CSVLogger(tmp_path, "c")], max_epochs=1).fit(kit.Translator(), *loaders)
    for name in ("a", "b"):
        found = read(tmp_path / name)
        assert list(layout_of(found)) == ["Memorization"]
        assert len(found.Images("audit/roc")) == 1


def test_a_stream_has_no_gallery_but_all_else(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    """An iterable data set cannot be read again by position."""

    class Stream(IterableDataset):
        def __init__(self, seed: int) -> None:
            self.pairs = kit.Pairs(5, seed)

        def __iter__(self):
            return (self.pairs[i] for i in range(5))

    callback = audit(Stream(0), Stream(1))
    trainer(callback, logger=TensorBoardLogger(tmp_path, name="", version="")).fit(kit.Translator(), *loaders)
    found = read(tmp_path)
    assert "audit/roc" in found.Tags()["images"]
    assert len(callback.result.ids) == 10
    assert len(found.Tags()["histograms"]) == 6
