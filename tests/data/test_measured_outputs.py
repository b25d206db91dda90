"""Folders of pictures in units of their own: what files hold, what is refused, and their audit by both routes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from torch import nn

from mia_lightning import PredictabilityScorer, audit_outputs
from mia_lightning.cli.main import main
from mia_lightning.data.measured_outputs import MeasuredOutputs, holds_flat_arrays
from mia_lightning.data.output_layout import OutputFiles
from mia_lightning.result.audit_result import AuditResult

SIZE = (12, 10)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif values.ndim == 3:
        cv2.imwrite(str(path), values[..., ::-1])
    else:
        Image.fromarray(values).save(path)


def folders(root: Path, low: float, high: float, dtype: type, suffix: str, inputs: str = ".png") -> dict[str, float]:
    """Two sides of six; what each sample's mean absolute error is."""
    rng, errors = np.random.default_rng(0), {}
    for number in range(12):
        side, name = root / ("members" if number < 6 else "nonmembers"), f"s{number:02d}"
        picture = rng.random(SIZE)
        target = (low + (high - low) * rng.uniform(0.1, 0.9, SIZE)).astype(dtype)
        noise = (high - low) * rng.uniform(0, 0.02 if number < 6 else 0.1, SIZE)
        output = np.clip(target + noise, low, high).astype(dtype)
        save(side / "inputs" / f"{name}{inputs}", picture if inputs == ".npy" else (255 * picture).astype(np.uint8))
        save(side / "targets" / f"{name}{suffix}", target)
        save(side / "outputs" / f"{name}{suffix}", output)
        errors[name] = np.abs(target.astype(float) - output.astype(float)).mean()
    return errors


def assert_same(result: AuditResult, errors: dict[str, float], span: float) -> None:
    expected = [errors[id] / span for id in result.ids]
    np.testing.assert_allclose(result.errors["reconstruction"], expected, rtol=1e-4)
    assert result.meta["task"] == "translation"
    assert result.auc > 0.9


@pytest.mark.parametrize(
    ("low", "high", "dtype", "suffix"),
    [
        (0, 5000, np.uint16, ".tif"),
        (0, 5000, np.uint16, ".png"),
        (0, 80, np.float32, ".tif"),
        (-1000, 1000, np.float32, ".tif"),
        (-1000, 1000, np.int16, ".npy"),
        (0, 255, np.uint8, ".png"),
    ],
)
def test_numbers_are_compared_as_they_are_stored(tmp_path, low, high, dtype, suffix):
    errors = folders(tmp_path, low, high, dtype, suffix)
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=6)
    assert_same(audit_outputs(tmp_path, scorer=scorer, target_range=(low, high)), errors, high - low)


def test_arrays_of_pictures_tell_their_own_range_and_what_is_void(tmp_path):
    errors = folders(tmp_path, 1, 40, np.float32, ".npy", inputs=".npy")
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=6)
    found = audit_outputs(tmp_path, scorer=scorer, task="translation")
    low, high = found.meta["settings"]["target_range"]
    assert_same(found, errors, high - low)
    path = tmp_path / "members" / "targets" / "s00.npy"
    target = np.load(path)
    target[:2] = -9999
    np.save(path, target)
    with pytest.raises(ValueError, match="void=-9999"):
        audit_outputs(tmp_path, scorer=scorer, task="translation")
    void = audit_outputs(tmp_path, scorer=scorer, void=-9999)
    np.testing.assert_allclose(void.errors["reconstruction"][1:] * np.ptp(void.meta["settings"]["target_range"]),
                               found.errors["reconstruction"][1:] * (high - low), rtol=1e-4)  # fmt: skip


def test_arrays_of_floats_beside_images_need_no_setting(tmp_path):
    errors = folders(tmp_path, -20, 40, np.float32, ".npy")
    found = audit_outputs(tmp_path, scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=6), task="translation")
    assert_same(found, errors, np.ptp(found.meta["settings"]["target_range"]))


def test_colours_of_16_bits_keep_them(tmp_path):
    save(tmp_path / "inputs" / "a.png", np.zeros(SIZE, np.uint8))
    for name in ("targets", "outputs"):
        save(tmp_path / name / "a.png", np.arange(360, dtype=np.uint16).reshape(*SIZE, 3) * 100)
    (item,) = (MeasuredOutputs(tmp_path)[i] for i in range(1))
    assert item["target"][:, 0, 1].tolist() == [300.0, 400.0, 500.0]


def triple(root: Path, name: str, **values: np.ndarray) -> None:
    """One sample: inputs and outputs as arrays, targets of bytes as PNG."""
    for folder, array in values.items():
        save(root / folder / f"{name}{'.png' if array.dtype == np.uint8 else '.npy'}", array)


UNIT = np.random.default_rng(0).random(SIZE).astype(np.float32)
BYTES = (255 * UNIT).astype(np.uint8)


@pytest.mark.parametrize("inputs", [".npy", ".png"])
def test_numbers_of_two_types_have_one_unit_only_where_a_range_says_so(tmp_path, inputs):
    folders(tmp_path, 0, 1, np.float32, ".npy", inputs=inputs)
    for side in ("members", "nonmembers"):
        for path in (tmp_path / side / "targets").glob("*.npy"):
            save(path.with_suffix(".png"), (255 * np.load(path)).astype(np.uint8))
            path.unlink()
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=6)
    if inputs == ".png":  # pictures, all brought to [0, 1]
        assert audit_outputs(tmp_path, scorer=scorer, task="translation").errors["reconstruction"].max() < 0.1
        return
    for settings in ({}, {"target_range": (0, 1)}):
        with pytest.raises(
            ValueError, match=r"type float, but the target .*s00.png uint8: .*target_range=\(low, high\)"
        ):
            audit_outputs(tmp_path, scorer=scorer, task="translation", **settings)
    said = audit_outputs(tmp_path, scorer=scorer, task="translation", target_range=(0, 255))
    assert said.meta["settings"]["target_range"] == [0.0, 255.0]


def test_a_sample_of_another_type_is_named(tmp_path):
    triple(tmp_path, "a", inputs=UNIT, targets=UNIT, outputs=UNIT.astype(np.float16))
    triple(tmp_path, "b", inputs=UNIT, targets=UNIT, outputs=BYTES)
    triple(tmp_path, "c", inputs=UNIT, targets=BYTES, outputs=BYTES)
    found = MeasuredOutputs(tmp_path)
    assert found[0]["stored_output"].shape == (1, *SIZE)
    for index, name in enumerate(("outputs/b", "targets/c"), start=1):
        with pytest.raises(
            ValueError, match=rf"{name}.png holds numbers of the type uint8, but the target .*a.npy float"
        ):
            found[index]
    assert MeasuredOutputs(tmp_path, in_units=True)[2]["target"].max() > 1


def test_sides_of_two_types_are_refused(tmp_path):
    triple(tmp_path / "members", "a", inputs=UNIT, targets=UNIT, outputs=UNIT)
    triple(tmp_path / "nonmembers", "b", inputs=UNIT, targets=BYTES, outputs=BYTES)
    with pytest.raises(ValueError, match="members hold numbers of the type float, those of the nonmembers uint8"):
        audit_outputs(tmp_path, task="translation")


@pytest.mark.parametrize(
    ("input", "target", "flat"),
    [
        ((3, 12, 10), (3, 12, 10), True),
        ((3, 12, 10), (12, 10), True),
        ((12, 10), (1, 12, 10), True),
        ((3, 12, 10), (1, 3, 12, 10), False),
        ((1, 3, 12, 10), (3, 12, 10), False),
        ((5, 12, 10), (5, 12, 10), False),
    ],
)
def test_three_slices_are_told_from_three_channels_by_the_other_files(tmp_path, input, target, flat):
    shapes = {"inputs": input, "targets": target, "outputs": target}
    triple(tmp_path, "a", **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    assert holds_flat_arrays(tmp_path, OutputFiles()) == flat
    (tmp_path / "targets" / "a.npy").rename(tmp_path / "targets" / "a.nii.gz")
    assert not holds_flat_arrays(tmp_path, OutputFiles())


def test_other_sizes_are_refused(tmp_path):
    folders(tmp_path, 0, 80, np.float32, ".npy")
    np.save(tmp_path / "members" / "outputs" / "s03.npy", np.zeros((6, 5), np.float32))
    with pytest.raises(ValueError, match=r"s03.npy has the shape 1 x 6 x 5 and its target .* 1 x 12 x 10"):
        MeasuredOutputs(tmp_path / "members")[3]


def test_the_command_and_the_question_that_leads_there(tmp_path):
    errors = folders(tmp_path / "set", -1000, 1000, np.float32, ".tif")
    with pytest.raises(ValueError, match=r"white.*as they are stored with target_range=\(low, high\)"):
        audit_outputs(tmp_path / "set", task="translation")
    places = ["--outputs", str(tmp_path / "set"), "--output_dir", str(tmp_path / "audit")]
    main(["audit", *places, "--target_range", "[-1000, 1000]", "--max_samples", "2", "--quiet"])
    found = AuditResult.from_json(tmp_path / "audit" / "result.json")
    np.testing.assert_allclose(found.errors["reconstruction"], [errors[id] / 2000 for id in found.ids], rtol=1e-4)
