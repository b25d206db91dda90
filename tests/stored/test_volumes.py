"""Folders of volumes: NIfTI and arrays, what their values mean, where they lie in space, and evidence from them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mia_lightning import PredictabilityScorer, audit_outputs, weigh_outputs
from mia_lightning.cli.main import main
from mia_lightning.data.output_layout import OutputFiles
from mia_lightning.data.volume_outputs import VolumeOutputs
from mia_lightning.result.audit_result import AuditResult

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed: it writes the NIfTI files")

SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=6)
AFFINE = np.diag([-0.9, 0.9, 3.0, 1.0])
RNG = np.random.default_rng(0)
SCANS = RNG.integers(-1000, 1000, (12, 9, 8, 6)).astype(np.int16)
LABELS = (SCANS > 0).astype(np.uint8) + (SCANS > 700)
LOGITS = RNG.normal(0, [[[[[1]]]]] * 6 + [[[[[4]]]]] * 6, (12, 3, 9, 8, 6)) + 3 * np.eye(3)[LABELS].transpose(
    0, 4, 1, 2, 3
)
IDS = [f"s{number:02d}" for number in range(12)]


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.name.endswith((".nii", ".nii.gz")):
        last = np.moveaxis(array, 0, 3) if array.ndim == 4 else array
        nibabel.save(nibabel.Nifti1Image(last, affine), path)
    else:
        np.save(path, array)


def folder(root: Path, suffixes: tuple[str, str, str], outputs: Any = None, sides: bool = False) -> Path:
    outputs = LOGITS.astype(np.float32) if outputs is None else outputs
    for number, id in enumerate(IDS):
        base = root / ("members" if number < 6 else "nonmembers") if sides else root
        for name, suffix, arrays in zip(
            ("inputs", "targets", "outputs"), suffixes, (SCANS, LABELS, outputs), strict=True
        ):
            save(base / name / f"{id}{suffix}", arrays[number])
    return root


EXPECTED = F.cross_entropy(torch.tensor(LOGITS), torch.tensor(LABELS.astype(int)), reduction="none").flatten(1).mean(1)


@pytest.mark.parametrize(
    "suffixes", [(".nii.gz", ".nii.gz", ".npy"), (".nii", ".nii", ".nii.gz"), (".npy", ".npy", ".npy")]
)
def test_an_audit_of_stored_volumes(tmp_path, suffixes):
    root = folder(tmp_path, suffixes)
    result = audit_outputs(root, member_ids=IDS[:6], nonmember_ids=IDS[6:], scorer=SCORER)
    assert result.ids == IDS
    assert result.errors["reconstruction"] == pytest.approx(EXPECTED.numpy(), rel=1e-5)
    assert result.meta["interpretation"]["volumes"].startswith("(B, C, D, H, W)")
    assert "each scaled by its own" in result.meta["interpretation"]["input"]
    assert result.auc == 1.0


def test_label_volumes_probabilities_and_channels(tmp_path):
    sides = {"member_ids": IDS[:6], "nonmember_ids": IDS[6:], "scorer": SCORER}
    predicted = LOGITS.argmax(1).astype(np.uint8)
    labels = folder(tmp_path / "labels", (".nii", ".nii", ".nii"), predicted)
    result = audit_outputs(labels, num_classes=3, **sides)
    wrong = (predicted != LABELS).reshape(12, -1).mean(1)
    assert result.errors["reconstruction"] == pytest.approx(wrong)
    with pytest.raises(ValueError, match=r"label volume, which does not tell how many classes .* pass num_classes"):
        audit_outputs(labels, task="segmentation", **sides)
    soft = torch.tensor(LOGITS).softmax(1).float().numpy()
    result = audit_outputs(folder(tmp_path / "soft", (".nii", ".nii", ".npy"), soft), **sides)
    assert result.meta["kind"] == "probabilities"
    assert result.errors["reconstruction"] == pytest.approx(EXPECTED.numpy(), rel=1e-4)
    single = 1 / (1 + np.exp(-LOGITS[:, 1])).astype(np.float32)
    binary = folder(tmp_path / "single", (".nii", ".nii", ".nii"), single)
    for path in sorted((binary / "targets").iterdir()):
        save(path, (np.asarray(nibabel.load(path).dataobj) == 1).astype(np.uint8) * 255)
    files = {"kind": "probabilities", "foreground": 255}
    for task in ("segmentation", "multilabel"):
        result = audit_outputs(binary, task=task, **files, **sides)
        expected = F.binary_cross_entropy(torch.tensor(single), torch.tensor(LABELS == 1).float(), reduction="none")
        assert result.errors["reconstruction"] == pytest.approx(expected.flatten(1).mean(1).numpy(), rel=1e-4)


def test_volumes_that_are_pictures(tmp_path):
    pictures, targets = RNG.random((2, 12, 7, 9, 8)).astype(np.float32)
    for id, x, y in zip(IDS, pictures, targets, strict=True):
        for name, array in (("inputs", x), ("targets", y), ("outputs", (x + y) / 2)):
            save(tmp_path / name / f"{id}.nii.gz", array)
    result = audit_outputs(
        tmp_path, task="translation", member_ids=IDS[:6], nonmember_ids=IDS[6:], scorer=SCORER, errors=["ssim"]
    )
    expected = np.abs((pictures + targets) / 2 - targets).reshape(12, -1).mean(1)
    assert result.errors["reconstruction"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="do not tell what the model does: say --task translation, --task segm"):
        audit_outputs(tmp_path, member_ids=IDS[:6], nonmember_ids=IDS[6:], scorer=SCORER)


@pytest.mark.parametrize("role", ["targets", "outputs"])
def test_volumes_that_lie_elsewhere_are_refused(tmp_path, role):
    root = folder(tmp_path, (".nii", ".nii", ".nii"))
    turned = AFFINE.copy()
    turned[0, 0], turned[2, 3] = 0.9, 40.0
    arrays = {"targets": LABELS, "outputs": LOGITS.astype(np.float32)}[role]
    save(root / role / "s04.nii", arrays[4], turned)
    with pytest.raises(ValueError, match="does not lie where") as refused:
        audit_outputs(root, member_ids=IDS[:6], nonmember_ids=IDS[6:], scorer=SCORER)
    message = str(refused.value)
    assert f"{role}/s04.nii does not lie where" in message
    assert "axes RAS, voxels of 0.9 x 0.9 x 3 mm from (0, 0, 40) beside axes LAS" in message
    assert "resample_from_to" in message


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: save(root / "targets" / "s03.nii", LABELS[3, :8]),
            "s03.nii has 8 x 8 x 6 voxels, but the input .*9 x 8",
        ),
        (lambda root: (root / "targets" / "s03.nii").write_bytes(b"\0" * 400), "s03.nii cannot be read as NIfTI"),
        (lambda root: (root / "outputs" / "s03.nii").unlink(), "without an output .*'s03'"),
        (lambda root: (root / "targets" / "s03.nii").unlink(), "have no partner in .*'s03'"),
        (lambda root: save(root / "outputs" / "s03.npy", LABELS[3]), "two outputs named 's03'"),
        (
            lambda root: save(root / "inputs" / "s03.nii", SCANS[3].astype(np.complex64)),
            "complex64 array .* volume of numbers",
        ),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, spoil, message):
    root = folder(tmp_path, (".nii", ".nii", ".nii"))
    spoil(root)
    with pytest.raises((ValueError, OSError), match=message):
        audit_outputs(root, member_ids=IDS[:6], nonmember_ids=IDS[6:], scorer=SCORER, task="segmentation")


def test_what_the_header_scales_is_scaled_and_channels_come_first(tmp_path):
    scaled = nibabel.Nifti1Image(SCANS[0], AFFINE)
    scaled.header.set_slope_inter(0.5, 100)
    for name in ("inputs", "targets", "outputs"):
        (tmp_path / name).mkdir()
    nibabel.save(scaled, tmp_path / "inputs" / "a.nii.gz")
    save(tmp_path / "targets" / "a.nii.gz", LABELS[0])
    save(tmp_path / "outputs" / "a.nii.gz", LOGITS[0].astype(np.float32))
    item = VolumeOutputs(tmp_path, "segmentation", OutputFiles())[0]
    stored = np.asarray(nibabel.load(tmp_path / "inputs" / "a.nii.gz").dataobj)
    assert torch.allclose(item["input"], torch.from_numpy(stored).float()[None])
    assert torch.equal(item["stored_output"], torch.from_numpy(LOGITS[0]).float())
    assert item["target"].dtype == torch.uint8
    assert item["id"] == "a"


def test_without_nibabel_it_says_what_to_install(tmp_path, monkeypatch):
    root = folder(tmp_path, (".nii.gz", ".nii.gz", ".npy"))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImportError, match=r"pip install 'mia-lightning\[medical\]'. Or store .* as NumPy arrays"):
        audit_outputs(root, member_ids=IDS[:6], nonmember_ids=IDS[6:], scorer=SCORER, task="segmentation")


def test_evidence_and_the_command_line(tmp_path, monkeypatch, capsys):
    root = folder(tmp_path, (".nii.gz", ".nii.gz", ".nii.gz"), sides=True)
    evidence = weigh_outputs(root / "members", root / "nonmembers", task="segmentation", scorer=SCORER)
    assert evidence.meta["interpretation"]["volumes"].startswith("(B, C, D, H, W)")
    monkeypatch.chdir(tmp_path)
    scorer = ["--scorer", "mia_lightning.PredictabilityScorer", "--scorer.grid", "8"]
    main(["audit", "--outputs", str(root), "--slices", "2", *scorer, "--output_dir", "here"])
    result = AuditResult.from_json(tmp_path / "here" / "result.json")
    assert result.errors["reconstruction"] == pytest.approx(EXPECTED.numpy(), rel=1e-5)
    assert "slices=2 of them" in result.meta["interpretation"]["volumes"]
    assert (tmp_path / "here" / "audit-pictures.json").is_file()
    assert "segmentation: 6 members, 6 nonmembers; outputs are logits of 3 classes." in capsys.readouterr().out
