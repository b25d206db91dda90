"""What the event file of TensorBoard holds after a tiny fit."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from lightning_package import Callback, CSVLogger, LightningModule, TensorBoardLogger, Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray
from torch.utils.data import IterableDataset

from mia_lightning import AuditConfig, register_error, register_metric, registry
from mia_lightning.figures.gallery import Row
from mia_lightning.result.markdown_text import as_markdown
from mia_lightning.result.picture_files import PARTS, read_pictures
from mia_lightning.result.verdict import headline
from mia_lightning.scores.summary import worth_logging
from mia_lightning.sinks import audit_images
from mia_lightning.sinks.tensorboard import TensorBoardSink, layout


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0, "tensors": 0}).Reload()


def layout_of(events: EventAccumulator) -> dict[str, Any]:
    """Pages and charts of the custom-scalar layout, by name."""
    entry = events.Tensors("custom_scalars__config__")[-1]  # the one that TensorBoard takes
    layout = layout_pb2.Layout.FromString(entry.tensor_proto.string_val[0])
    return {page.title: {chart.title: chart for chart in page.chart} for page in layout.category}


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Leave the figures out where they are not looked at; they take most of the time."""
    monkeypatch.setattr(TensorBoardSink, "wants_pictures", False)
    monkeypatch.setattr(TensorBoardSink, "show", lambda *_: None)


@pytest.fixture
def events(kit, audit, trainer, loaders, tmp_path: Path) -> tuple[EventAccumulator, Any]:
    callback = audit()
    trainer(callback, logger=TensorBoardLogger(tmp_path, name="", version="")).fit(kit.Translator(), *loaders)
    return read(tmp_path), callback


GALLERIES = {"audit/most_exposed", "audit/least_exposed", "audit/member_like"}
IMAGES = {"audit/roc", "audit/distribution"} | GALLERIES


def test_scalars_words_histograms_and_figures(events) -> None:
    found, callback = events
    tags = found.Tags()
    logged = worth_logging(callback.result.metrics, "audit")
    assert {k for k in tags["scalars"] if k.startswith("audit/")} == set(logged)
    for key in ("audit/auc", "audit/auc_low/membership", "audit/error/reconstruction/members"):
        logged = found.Scalars(key)
        assert [e.step for e in logged] == [2, 5]
        assert [e.value for e in logged] == pytest.approx([r.metrics[key] for r in callback.history])
    assert set(tags["images"]) == IMAGES - {"audit/least_exposed"}  # all six members are among the most exposed
    for tag in tags["images"]:
        shown = found.Images(tag)
        assert [e.step for e in shown] == [2, 5]
        assert min(shown[0].width, shown[0].height) > 100
        with Image.open(io.BytesIO(shown[0].encoded_image_string)) as image:
            assert image.size == (shown[0].width, shown[0].height)
    texts = found.Tensors("audit/verdict/text_summary")
    assert [e.step for e in texts] == [2, 5]
    assert as_markdown(headline(callback.result)) in texts[1].tensor_proto.string_val[0].decode()
    assert as_markdown(callback.result.verdict.limitation) in texts[1].tensor_proto.string_val[0].decode()


def histogram_of(events: EventAccumulator, tag: str, place: int = -1) -> np.ndarray:
    return make_ndarray(events.Tensors(tag)[place].tensor_proto)


def test_both_sides_have_the_same_bins(undrawn, events) -> None:
    found, callback = events
    for error, values in callback.result.errors.items():
        members, nonmembers = (histogram_of(found, f"audit/{error}/{side}") for side in ("members", "nonmembers"))
        np.testing.assert_array_equal(members[:, :2], nonmembers[:, :2])
        assert (members[:, 2].sum(), nonmembers[:, 2].sum()) == (6, 5)
        np.testing.assert_array_equal(members[1:, 0], members[:-1, 1])
        assert (members[0, 0], members[-1, 1]) == (values.min(), values.max())
        assert found.summary_metadata[f"audit/{error}/members"].plugin_data.plugin_name == "histograms"


def drawn(page: dict[str, Any]) -> list[str]:
    """Expressions of a page's lines, each of which TensorBoard matches with the beginnings of tags."""
    return [tag for chart in page.values() for tag in chart.multiline.tag]


def test_the_pages(undrawn, events) -> None:
    found, _ = events
    pages = layout_of(found)
    scalars = found.Tags()["scalars"]
    assert list(pages) == ["Memorization", "Utility", "Other scores, fairness, errors"]
    *_, last = pages["Memorization"].values()  # TensorBoard shows the last band first
    (series,) = last.margin.series
    assert (series.value, series.lower, series.upper) == tuple(
        f"audit/auc{end}/membership" for end in ("", "_low", "_high")
    )
    for chart in pages["Memorization"].values():
        (series,) = chart.margin.series
        assert {series.value, series.lower, series.upper} <= set(scalars)
    for page, wanted in (
        ("Utility", {"val/loss"}),
        (
            "Other scores, fairness, errors",
            {"audit/blind_auc", "audit/auc/reconstruction", "audit/error/membership/nonmembers", "audit/epsilon_low"},
        ),
    ):
        matched = [[tag for tag in scalars if re.match(expression, tag)] for expression in drawn(pages[page])]
        assert {len(tags) for tags in matched} == {1}
        assert wanted <= {tag for tags in matched for tag in tags}


def test_bands_of_all_looks_have_a_chart(undrawn, kit, audit, trainer, loaders, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    sides = kit.Pairs(12, seed=0, name="in"), kit.Pairs(12, seed=1, name="out")
    trainer(audit(*sides), logger=logger).fit(kit.Translator(), *loaders)
    found = read(tmp_path)
    charts = layout_of(found)["Memorization"]
    (series,) = charts["AUC of the membership score, all looks together, 95 % interval"].margin.series
    ends = [f"audit/auc_{end}_simultaneous/membership" for end in ("low", "high")]
    assert [series.value, series.lower, series.upper] == ["audit/auc/membership", *ends]
    assert {series.lower, series.upper} <= set(found.Tags()["scalars"])


class MoreAndMore(Callback):
    """Logs a second metric from the second epoch on, and in its own hook after ours."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            pl_module.log("val/iou", 0.5)


def test_a_metric_that_comes_later_gets_its_chart(undrawn, kit, audit, trainer, loaders, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(audit(), MoreAndMore(), logger=logger).fit(kit.Translator(), *loaders)
    assert list(layout_of(read(tmp_path))["Utility"]) == ["val/iou", "val/loss"]


def test_audits_side_by_side_share_a_layout(undrawn, kit, audit, trainer, loaders, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    audits = audit(), audit(prefix="other", every_n_epochs=2)
    trainer(*audits, logger=logger).fit(kit.Translator(), *loaders)
    found = read(tmp_path)
    further = "Other scores, fairness, errors"
    assert list(layout_of(found)) == ["Memorization", "Memorization (other)", "Utility", further, f"{further} (other)"]
    assert {f"{prefix}/verdict/text_summary" for prefix in ("audit", "other")} <= set(found.Tags()["tensors"])
    assert "^other/blind_auc(_epoch)?$" in drawn(layout_of(found)[f"{further} (other)"])
    names = [m.name.tag for m in hparams_of(found)[0].metric_infos]
    assert {"audit/auc", "other/auc", "val/loss"} <= set(names)


def test_classes_and_slices_have_charts_whatever_they_will_be() -> None:
    pages = layout([AuditConfig(errors=["class", "dice"], slices=["site", "St. Mary/2"])], [])
    charts = {name: kind_and_keys[1] for name, kind_and_keys in pages["Other scores, fairness, errors"].items()}
    tags = {
        "AUC of the class error of each class": "audit/class/nucleus/auc",
        "class error of both sides, each class": "audit/error/class/nucleus/members",
        "AUC by site": "audit/slice/site/A/auc_epoch",
        "AUC by St. Mary/2": "audit/slice/St._x20_Mary_x2F_2/A/auc",
        "dice error of both sides": "audit/error/dice/members",
    }
    for name, tag in tags.items():
        assert any(re.search(key, tag) for key in charts[name])
        assert not any(re.search(key, f"{tag}_low") for key in charts[name])
    assert "class error of both sides" not in charts


def test_a_resumed_run_has_pages_in_its_own_files(undrawn, kit, audit, trainer, loaders, tmp_path: Path) -> None:
    first, second = (TensorBoardLogger(tmp_path, name="", version=v) for v in ("a", "b"))
    before = trainer(audit(), logger=first, max_epochs=1)
    before.fit(kit.Translator(), *loaders)
    before.save_checkpoint(tmp_path / "x.ckpt")
    trainer(audit(), logger=second).fit(kit.Translator(), *loaders, ckpt_path=tmp_path / "x.ckpt")
    assert layout_of(read(tmp_path / "b")) == layout_of(read(tmp_path / "a"))


def hparams_of(events: EventAccumulator) -> tuple[Any, Any]:
    """What TensorBoard's HPARAMS page is told: the description of metrics, and the values."""
    told = [
        plugin_data_pb2.HParamsPluginData.FromString(events.summary_metadata[f"_hparams_/{name}"].plugin_data.content)
        for name in ("experiment", "session_start_info")
    ]
    return told[0].experiment, told[1].session_start_info


@pytest.mark.parametrize("placeholder", [True, False])
def test_runs_can_be_compared(undrawn, kit, audit, trainer, loaders, tmp_path: Path, placeholder: bool) -> None:
    class Named(kit.Translator):
        def __init__(self, lr: float = 0.1, options: Any = None) -> None:
            super().__init__(lr=lr)
            self.save_hyperparameters()

    logger = TensorBoardLogger(tmp_path, name="", version="", default_hp_metric=placeholder)
    options = {"deep": True, "list": [1, 2], "none": None}
    trainer(audit(), logger=logger).fit(Named(lr=0.2, options=options), *loaders)
    found = read(tmp_path)
    experiment, session = hparams_of(found)
    names = [m.name.tag for m in experiment.metric_infos]
    assert names == ["audit/auc", "audit/tpr_at_fpr_0.01", "audit/blind_auc", "audit/epsilon_low", "val/loss"]
    assert set(names) <= set(found.Tags()["scalars"])
    assert session.hparams["lr"].number_value == 0.2
    assert session.hparams["options/list"].string_value == "[1, 2]"
    assert {h.name for h in experiment.hparam_infos} == {"lr", "options/deep", "options/list", "options/none"}
    assert session.hparams["options/deep"].string_value == "True"
    assert "hp_metric" not in found.Tags()["scalars"]
    assert logger._default_hp_metric is placeholder  # the logger is the user's


def test_a_run_that_is_killed_before_its_first_audit_can_be_compared(
    undrawn, kit, audit, trainer, loaders, tmp_path: Path
) -> None:
    logger, checked = TensorBoardLogger(tmp_path, name="", version=""), []

    class LooksEarly(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            assert logger._default_hp_metric is True, "the logger is the user's from the first step on"
            if trainer.current_epoch == 1 and not checked:
                checked.append(read(tmp_path))

    callback = audit(every_n_epochs=3)
    trainer(callback, LooksEarly(), logger=logger, num_sanity_val_steps=1).fit(kit.Translator(), *loaders)
    (found,) = checked
    assert "audit/auc" not in found.Tags()["scalars"]
    assert [m.name.tag for m in hparams_of(found)[0].metric_infos][::4] == ["audit/auc", "val/loss"]
    assert list(layout_of(found)) == ["Memorization", "Utility", "Other scores, fairness, errors"]


def test_a_sink_of_two_trainings_writes_for_both(undrawn, kit, audit, trainer, loaders, tmp_path: Path) -> None:
    sink = TensorBoardSink()
    for name in ("a", "b"):
        logger = TensorBoardLogger(tmp_path, name=name, version="")
        trainer(audit(sinks=[sink]), logger=logger, max_epochs=1).fit(kit.Translator(), *loaders)
        assert hparams_of(read(tmp_path / name))[0].metric_infos[0].name.tag == "audit/auc"
        assert "Memorization" in layout_of(read(tmp_path / name))


def test_hparams_that_the_user_has_described_stay(undrawn, kit, audit, trainer, loaders, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    logger.log_hyperparams({"mine": 1}, {"own": 0.0})
    trainer(audit(), logger=logger, max_epochs=1).fit(kit.Translator(), *loaders)
    experiment, _ = hparams_of(read(tmp_path))
    assert [m.name.tag for m in experiment.metric_infos] == ["own"]


def test_a_training_without_validation_has_its_hparams(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    with pytest.warns(UserWarning, match="this training has none"):
        trainer(audit(), logger=logger, limit_val_batches=0).fit(kit.Translator(), loaders[0])
    assert hparams_of(read(tmp_path))[0].metric_infos[0].name.tag == "audit/auc"


def test_figures_are_drawn_at_their_cadence_and_last(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    callback = audit(figures_every_n_audits=3, output_dir=tmp_path / "audit")
    trainer(callback, logger=logger, max_epochs=5).fit(kit.Translator(), *loaders)
    found = read(tmp_path)
    every = [e.step for e in found.Scalars("audit/auc")]
    assert len(every) == len(found.Tensors("audit/membership/members")) == 5
    for tag in IMAGES - {"audit/least_exposed"}:
        assert [e.step for e in found.Images(tag)] == [every[0], every[3], every[4]]
    assert len(read_pictures(callback.result, tmp_path / "audit")) == 11  # six members and five nonmembers


def test_the_last_figures_are_drawn_where_a_later_callback_ends_the_training(
    kit, audit, trainer, loaders, tmp_path: Path
) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    callback = audit(figures_every_n_audits=5, output_dir=tmp_path / "audit")

    class StopAtTwo(Callback):
        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    trainer(callback, StopAtTwo(), logger=logger, max_epochs=9).fit(kit.Translator(), *loaders)
    assert [e.step for e in read(tmp_path).Images("audit/roc")] == [2, 5]
    assert len(callback.history) == 2
    assert read_pictures(callback.result, tmp_path / "audit")


def test_a_cadence_below_one_is_refused(audit) -> None:
    with pytest.raises(ValueError, match="Expected figures_every_n_audits >= 1, but got 0"):
        audit(figures_every_n_audits=0)


def test_pictures_are_kept_without_tensorboard(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit(output_dir=tmp_path / "audit")
    trainer(callback, max_epochs=1).fit(kit.Translator(), *loaders)
    pictures = read_pictures(callback.result, tmp_path / "audit")
    assert {p.group for p in pictures} == {"most exposed", "member-like"}  # all six members are among the most exposed
    assert all(tuple(p.parts) == PARTS for p in pictures)
    assert [p.row for p in pictures[:6]] == callback.result.top_indices(6)
    # The right samples: by the side and place, not by the row.
    row = pictures[-1].row
    assert not callback.result.member[row]
    with Image.open(io.BytesIO(pictures[-1].parts["input"])) as image:
        shown = np.asarray(image.convert("RGB")) / 255
    known = torch.cat([callback.nonmembers.inputs, callback.members.inputs]).movedim(1, 3).numpy()
    assert np.abs(shown - known).mean((1, 2, 3)).argmin() == callback.result.positions[row]


def test_captions_tell_id_errors_and_p_value(kit, audit, trainer, loaders, tmp_path: Path, monkeypatch) -> None:
    seen: dict[str, list[Row]] = {}

    def spy(rows: list[Row], title: str, note: str) -> Image.Image:
        seen[title] = rows
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(audit_images, "gallery", spy)
    callback = audit(kit.Pairs(20, 0, "triple", "in"), kit.Pairs(20, 1, "triple", "<b>"))
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(callback, logger=logger, max_epochs=1).fit(kit.Translator(), *loaders)
    result = callback.result
    assert list(seen) == [
        "Members with the highest membership score",
        "Members with the lowest membership score",
        "Nonmembers with the highest membership score",
    ]
    most, least, alike = seen.values()
    assert [r.name for r in most] == result.top(6)
    assert [r.name for r in least] == result.top(6, lowest=True)
    assert [r.name for r in alike] == result.top(6, member=False)
    row = result.top_indices(1)[0]
    assert most[0].mark == f"p-value {result.p_values()[row]:.3f}"
    assert f"reconstruction {result.errors['reconstruction'][row]:.3f}, predict" in most[0].numbers


def test_ids_and_notes_are_text_in_the_verdict(audit) -> None:
    assert as_markdown("<script>alert(1)</script>.png") == "&lt;script&gt;alert\\(1\\)&lt;/script&gt;.png"
    assert as_markdown("![x](http://y) `a`\n# b") == "\\!\\[x\\]\\(http://y\\) \\`a\\` \\# b"


def test_label_maps_are_shown(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    callback = audit(kit.Masks(4), kit.Masks(4, 7))
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(callback, logger=logger).validate(kit.Segmenter(), loaders[1], verbose=False)
    assert set(read(tmp_path).Tags()["images"]) == IMAGES - {"audit/least_exposed"}


def test_histograms_stand_at_the_scalars_step(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    """With two optimizers the global step runs twice as fast as the batches that loggers and files count."""

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
    assert [e.step for e in found.Tensors("audit/membership/members")] == scalars
    assert [e.step for e in found.Images("audit/roc")] == scalars
    assert [r.meta["step"] for r in callback.history] == [s + 1 for s in scalars] == [3, 6]
    assert [r.meta["global_step"] for r in callback.history] == [6, 12]
    assert [r.meta["logged_step"] for r in callback.history] == scalars


def test_no_figure_without_tensorboard(kit, audit, trainer, loaders, tmp_path: Path, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a figure was drawn")

    monkeypatch.setattr(audit_images, "roc_figure", never)
    monkeypatch.setattr(audit_images, "gallery", never)
    for logger in (False, CSVLogger(tmp_path)):
        trainer(audit(), logger=logger, max_epochs=1).fit(kit.Translator(), *loaders)


def test_figures_are_closed(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    before = plt.get_fignums()
    trainer(audit(), logger=TensorBoardLogger(tmp_path), max_epochs=1).fit(kit.Translator(), *loaders)
    assert plt.get_fignums() == before


def test_two_tensorboards_and_a_csv(kit, audit, trainer, loaders, tmp_path: Path) -> None:
    loggers = [TensorBoardLogger(tmp_path, name=n, version="") for n in ("a", "b")]
    trainer(audit(), logger=[*loggers, CSVLogger(tmp_path, "c")], max_epochs=1).fit(kit.Translator(), *loaders)
    for name in ("a", "b"):
        found = read(tmp_path / name)
        assert "Memorization" in layout_of(found)
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
    assert not GALLERIES & set(found.Tags()["images"])
    assert len(histogram_of(found, "audit/membership/members"))


def test_what_others_register_is_on_the_board(undrawn, kit, audit, trainer, loaders, tmp_path: Path) -> None:
    @register_error("worst_pixel", label="worst pixel", sentence="Largest difference.", tasks=("translation",))
    def worst_pixel(outputs: registry.Outputs) -> torch.Tensor:
        return (outputs.prediction - outputs.target).abs().flatten(1).amax(1)

    register_metric("spread", label="spread", sentence="Range of the score.")(lambda score, *_: float(np.ptp(score)))
    try:
        callback = audit(errors=("worst_pixel",), scores=("membership", "worst_pixel"))
        logger = TensorBoardLogger(tmp_path, name="", version="")
        trainer(callback, logger=logger, max_epochs=1).fit(kit.Translator(), *loaders)
    finally:
        registry.errors.remove("worst_pixel")
        registry.metrics.remove("spread")
    found = read(tmp_path)
    scalars = found.Tags()["scalars"]
    assert histogram_of(found, "audit/worst_pixel/members")[:, 2].sum() == 6
    further = layout_of(found)["Other scores, fairness, errors"]
    for chart, tags in {
        "worst_pixel error of both sides": ["audit/error/worst_pixel/members", "audit/error/worst_pixel/nonmembers"],
        "spread": ["audit/spread/membership", "audit/spread/worst_pixel"],
    }.items():
        lines = further[chart].multiline.tag
        assert [tag for line in lines for tag in scalars if re.match(line, tag)] == tags
