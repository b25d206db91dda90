"""Folders of inputs, targets and outputs: what is read, how sizes meet, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mia_lightning.data.output_dataset import OutputDataset

GREY = np.full((8, 8, 3), 102, dtype=np.uint8)  # 0.4
MASK = np.array([[0, 1], [2, 255]], dtype=np.uint8)


def put(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


def translation(root: Path, output: np.ndarray, name: str = "a.png", target: np.ndarray = GREY) -> OutputDataset:
    put(root / "inputs" / "a.png", target)
    put(root / "targets" / "a.png", target)
    put(root / "outputs" / name, output)
    return OutputDataset(root, "translation")


def segmentation(root: Path, output: np.ndarray, name: str = "a.npy", mask: np.ndarray = MASK, **settings):
    put(root / "inputs" / "a.png", np.zeros((*mask.shape, 3), dtype=np.uint8))
    put(root / "targets" / "a.png", mask)
    put(root / "outputs" / name, output)
    return OutputDataset(root, "segmentation", **settings)


def test_an_image_is_read_beside_its_pair(tmp_path):
    data = translation(tmp_path, np.full((8, 8, 3), 51, dtype=np.uint8))
    (item,) = [data[i] for i in range(len(data))]
    assert (item["id"], data.ids, data.kind, data.num_classes, data.storage) == ("a", ["a"], "images", None, ["image"])
    assert item["stored_output"].shape == item["target"].shape == item["input"].shape == (3, 8, 8)
    assert item["stored_output"].unique().tolist() == pytest.approx([0.2])
    assert item["target"].unique().tolist() == pytest.approx([0.4])


@pytest.mark.parametrize(
    "array",
    [
        np.full((8, 8, 3), 0.25),
        np.full((3, 8, 8), 0.25, dtype=np.float16),
        np.full((8, 8, 1), 0.25, dtype=np.float32),
        np.full((8, 8), 0.25),
    ],
    ids=["hwc", "chw", "one channel", "grey"],
)
def test_an_array_is_read_as_an_image(tmp_path, array):
    data = translation(tmp_path, array, "a.npy")
    output = data[0]["stored_output"]
    assert data.storage == ["array"]
    assert output.shape == (3, 8, 8)
    assert output.dtype == torch.float32
    assert (output == 0.25).all()


def test_channels_and_orientation_of_an_array_are_kept(tmp_path):
    array = np.random.default_rng(0).random((8, 8, 3)).astype(np.float32)
    output = translation(tmp_path, array, "a.npy")[0]["stored_output"]
    np.testing.assert_array_equal(output.permute(1, 2, 0).numpy(), array)


def test_an_uint8_array_is_divided_by_255(tmp_path):
    assert translation(tmp_path, GREY, "a.npy")[0]["stored_output"].unique().tolist() == pytest.approx([0.4])


def test_a_grey_image_becomes_three_channels(tmp_path):
    output = translation(tmp_path, np.full((8, 8), 51, dtype=np.uint8))[0]["stored_output"]
    assert output.shape == (3, 8, 8)
    assert output.unique().tolist() == pytest.approx([0.2])


def test_input_and_target_are_brought_to_the_size_of_the_output(tmp_path):
    target = np.zeros((16, 24, 3), dtype=np.uint8)
    target[:, :12] = 200
    item = translation(tmp_path, np.zeros((8, 12, 3), dtype=np.uint8), target=target)[0]
    assert item["target"].shape == item["input"].shape == (3, 8, 12)
    np.testing.assert_allclose(item["target"][:, :, :6], 200 / 255, rtol=1e-6)
    assert (item["target"][:, :, 6:] == 0).all()


def test_another_aspect_ratio_is_refused(tmp_path):
    data = translation(tmp_path, np.zeros((8, 12, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"a\.png is 12x8 pixels, but .*a\.png is 8x8: expected one aspect ratio"):
        data[0]


def test_sizes_may_be_odd(tmp_path):
    item = translation(tmp_path, np.zeros((11, 17, 3), dtype=np.uint8), target=np.zeros((22, 35, 3), dtype=np.uint8))[0]
    assert item["target"].shape == (3, 11, 17)


@pytest.mark.parametrize("scale", [2.0, 255.0])
def test_values_outside_of_the_range_are_named(tmp_path, scale):
    array = np.linspace(-1.0, 1.0, 64).reshape(8, 8) if scale == 2.0 else np.full((8, 8), scale)
    data = translation(tmp_path, array, "a.npy")
    found = "-1 to 1" if scale == 2.0 else "255 to 255"
    with pytest.raises(ValueError, match=rf"values from {found}: expected an image in \[0, 1\]. Bring"):
        data[0]


def test_nan_is_left_to_the_audit(tmp_path):
    array = np.full((8, 8), np.nan)
    assert translation(tmp_path, array, "a.npy")[0]["stored_output"].isnan().all()


@pytest.mark.parametrize("array", [np.zeros((8, 8, 4)), np.zeros(8), np.zeros((8, 8), dtype=np.int64)])
def test_an_array_that_is_no_image_is_described(tmp_path, array):
    data = translation(tmp_path, array, "a.npy")
    with pytest.raises(ValueError, match=r"a\.npy holds a (float|int)64 array \(8.*expected an image \(H, W, 3\)"):
        data[0]


def test_nothing_is_unpickled(tmp_path):
    data = translation(tmp_path, np.zeros((8, 8)), "a.npy")
    np.save(tmp_path / "outputs" / "a.npy", np.array([{"evil": Path()}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy cannot be read as an array of plain numbers: .*pickle"):
        data[0]


def test_a_broken_array_is_named(tmp_path):
    data = translation(tmp_path, np.zeros((8, 8)), "a.npy")
    (tmp_path / "outputs" / "a.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.npy cannot be read as an array"):
        data[0]


def test_an_encrypted_archive_is_named(tmp_path):
    translation(tmp_path, np.zeros((8, 8)), "a.npy")
    np.savez(tmp_path / "outputs" / "a.npz", p=np.zeros((8, 8)))
    content = bytearray((tmp_path / "outputs" / "a.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag that asks for a password
    (tmp_path / "outputs" / "a.npz").write_bytes(content)
    (tmp_path / "outputs" / "a.npy").unlink()
    data = OutputDataset(tmp_path, "translation")
    with pytest.raises(ValueError, match=r"a\.npz cannot be read as an array of plain numbers: .*encrypted"):
        data[0]


def test_settings_of_a_segmentation_do_not_fit_a_translation(tmp_path):
    translation(tmp_path, GREY)
    with pytest.raises(ValueError, match="num_classes, foreground and kind are for task='segmentation'"):
        OutputDataset(tmp_path, "translation", num_classes=3)


# ---- names


def test_files_without_a_partner_are_named(tmp_path):
    translation(tmp_path, GREY)
    put(tmp_path / "outputs" / "b.png", GREY)
    with pytest.raises(
        ValueError, match=r"inputs without an output in .*: 0\. Outputs without an input: 1\. They are 'b'; 1 match"
    ):
        OutputDataset(tmp_path, "translation")
    (tmp_path / "outputs" / "a.png").unlink()
    with pytest.raises(
        ValueError, match=r"inputs without an output in .*: 1\. .* input: 1\. They are 'a', 'b'; 0 match"
    ):
        OutputDataset(tmp_path, "translation")


def test_two_outputs_of_one_name_are_refused(tmp_path):
    translation(tmp_path, GREY)
    put(tmp_path / "outputs" / "a.npy", np.zeros((8, 8)))
    with pytest.raises(ValueError, match=r"two outputs named 'a', a\.npy and a\.png: remove one"):
        OutputDataset(tmp_path, "translation")


def test_a_missing_or_empty_folder_is_named(tmp_path):
    translation(tmp_path, GREY)
    (tmp_path / "outputs" / "a.png").rename(tmp_path / "outputs" / "a.txt")
    with pytest.raises(FileNotFoundError, match=r"no outputs in .*outputs: expected files ending in \.bmp"):
        OutputDataset(tmp_path, "translation")
    with pytest.raises(FileNotFoundError, match=r"no folder 'made' in .*the model's outputs.*'inputs', 'outputs'"):
        OutputDataset(tmp_path, "translation", outputs_dir="made")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        OutputDataset(tmp_path / "nowhere", "translation")


# ---- segmentation


def test_probabilities_are_told_by_their_values(tmp_path):
    p = np.array([0.5, 0.3, 0.2]).reshape(3, 1, 1) * np.ones((3, 2, 2))
    data = segmentation(tmp_path, p.astype(np.float32))
    item = data[0]
    assert (data.kind, data.num_classes) == ("probabilities", 3)
    np.testing.assert_allclose(item["stored_output"], p, rtol=1e-6)
    assert item["target"].tolist() == MASK.tolist()
    assert item["target"].dtype == torch.int64


def test_half_precision_stays(tmp_path):
    p = np.zeros((3, 2, 2), dtype=np.float16)
    p[0], p[1] = 0.75, 0.25
    assert segmentation(tmp_path, p)[0]["stored_output"].dtype == torch.float16


@pytest.mark.parametrize("name", ["planes", "one channel", "sums"])
def test_what_values_leave_open_is_asked_for(tmp_path, name):
    output = {
        "planes": np.stack([MASK % 2 == 0, MASK % 2 == 1]).astype(np.float32),
        "one channel": np.array([[0.9, 0.5], [0.1, 0.0]], dtype=np.float32),
        "sums": np.full((2, 2, 2), 0.3, dtype=np.float32),
    }[name]
    with pytest.raises(ValueError, match=r"Cannot tell .*outputs.*output='logits' or output='probabilities' .--output"):
        segmentation(tmp_path, output, mask=MASK % 2)


def test_the_rule_looks_at_several_files(tmp_path):
    put(tmp_path / "inputs" / "b.png", np.zeros((2, 2, 3), dtype=np.uint8))
    put(tmp_path / "targets" / "b.png", MASK % 2)
    put(tmp_path / "outputs" / "b.npy", np.full((2, 2, 2), -3.0, dtype=np.float32))
    assert segmentation(tmp_path, np.full((2, 2, 2), 0.7, dtype=np.float32), mask=MASK % 2).kind == "logits"


def test_logits_stay_as_they_are(tmp_path):
    logits = np.random.default_rng(0).normal(0.0, 5.0, (3, 2, 2)).astype(np.float32)
    data = segmentation(tmp_path, logits)
    assert data.kind == "logits"
    np.testing.assert_array_equal(data[0]["stored_output"].numpy(), logits)


def test_values_that_look_like_probabilities_may_be_declared_logits(tmp_path):
    p = np.full((2, 2, 2), 0.5, dtype=np.float32)
    data = segmentation(tmp_path, p, mask=MASK % 2, kind="logits")
    assert (data[0]["stored_output"] == 0.5).all()


def test_one_class_is_that_of_the_foreground(tmp_path):
    p = np.array([[0.9, 0.5], [0.1, 0.0]], dtype=np.float32)
    output = segmentation(tmp_path, p, mask=MASK % 2, kind="probabilities")[0]["stored_output"]
    assert output.shape == (1, 2, 2)
    np.testing.assert_array_equal(output[0], p)


def test_a_label_map_is_one(tmp_path):
    data = segmentation(tmp_path, MASK, "a.png", num_classes=3)
    assert (data.kind, data.num_classes, data.storage) == ("labels", 3, ["image"])
    assert data[0]["stored_output"].tolist() == MASK.tolist()
    assert data[0]["stored_output"].dtype == torch.int64


def test_an_integer_array_is_a_label_map(tmp_path):
    image = segmentation(tmp_path / "image", MASK, "a.png", num_classes=3)
    array = segmentation(tmp_path / "array", MASK.astype(np.int64), "a.npy", num_classes=3)
    assert array.kind == "labels"
    assert torch.equal(image[0]["stored_output"], array[0]["stored_output"])


def test_binary_label_maps_have_a_foreground(tmp_path):
    mask = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    data = segmentation(tmp_path, mask, "a.png", mask=mask, num_classes=1, foreground=255)
    assert data[0]["stored_output"].tolist() == data[0]["target"].tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("name", ["a.npy", "a.png"])
def test_two_classes_may_have_a_foreground_of_255(tmp_path, name):
    mask = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    output = np.stack([mask == 0, mask == 255]).astype(np.float32) * 0.5 + 0.25 if name == "a.npy" else mask
    data = segmentation(tmp_path, output, name, mask=mask, foreground=255, num_classes=2)
    assert data[0]["target"].tolist() == [[0, 1], [1, 0]]
    found = data[0]["stored_output"]
    assert (found.argmax(0) if name == "a.npy" else found).tolist() == [[0, 1], [1, 0]]


def test_what_outputs_do_not_share_with_their_targets_is_noted(tmp_path):
    small = np.zeros((4, 4), dtype=np.uint8)
    grey_array, colour_array = np.zeros((1, 8, 8), dtype=np.float32), np.zeros((3, 8, 8), dtype=np.float32)
    (resized, grey) = translation(tmp_path / "small", small).notes
    assert resized.startswith(
        f"1 of 1 outputs in {tmp_path / 'small'} have another size than their targets, which were"
    )
    assert grey.startswith(f"1 of 1 outputs in {tmp_path / 'small'} are grey beside targets in colour: the colour that")
    assert grey.endswith("counts as error ('a'). Store targets and outputs as the model had them.")
    assert len(translation(tmp_path / "array", grey_array, "a.npy").notes) == 1
    for place, output, name in (("image", GREY, "a.png"), ("chw", colour_array, "a.npy"), ("hwc", GREY, "a.npy")):
        assert translation(tmp_path / place, output, name).notes == []
    assert segmentation(tmp_path / "maps", MASK, "a.png", num_classes=3).notes == []
    assert len(segmentation(tmp_path / "classes", -np.ones((3, 4, 4), dtype=np.float32)).notes) == 1


def test_a_mask_is_brought_to_the_size_of_the_output_without_new_ids(tmp_path):
    mask = np.kron(MASK, np.ones((4, 4), dtype=np.uint8))
    item = segmentation(tmp_path, -np.ones((3, 2, 2), dtype=np.float32), mask=mask)[0]
    assert item["target"].tolist() == MASK.tolist()
    assert item["input"].shape == (3, 2, 2)


def test_label_maps_need_the_number_of_classes(tmp_path):
    with pytest.raises(
        ValueError, match=r"a\.png is a label map, which does not tell.*pass num_classes \(--num_classes N"
    ):
        segmentation(tmp_path, MASK, "a.png")


def test_an_unknown_class_in_an_output_is_named(tmp_path):
    data = segmentation(tmp_path, MASK, "a.png", num_classes=2, mask=MASK % 2)
    with pytest.raises(ValueError, match=r"output .*a\.png: unknown class ids 2 .*raise num_classes"):
        data[0]


@pytest.mark.parametrize(
    ("shape", "settings", "text"),
    [
        ((4, 2, 2), {"num_classes": 3}, r"\(4, 2, 2\): expected \(classes, H, W\) with 3 classes\.$"),
        (
            (16, 16, 3),
            {},
            r"\(16, 16, 3\): expected \(classes, H, W\); pass num_classes.*It looks like \(H, W, classes",
        ),
        ((16, 16, 3), {"num_classes": 3}, r"with 3 classes\. It looks like \(H, W, classes\): move the last axis"),
        ((2, 2, 2, 2), {}, r"expected floats \(classes, H, W\)"),
    ],
)
def test_an_array_of_another_shape_is_described(tmp_path, shape, settings, text):
    with pytest.raises(ValueError, match=text):
        segmentation(tmp_path, np.zeros(shape, dtype=np.float32), **settings)


def second(root: Path, output: np.ndarray, name: str = "b.npy") -> None:
    put(root / "inputs" / "b.png", np.zeros((2, 2, 3), dtype=np.uint8))
    put(root / "targets" / "b.png", MASK % 2)
    put(root / "outputs" / name, output)


def test_all_outputs_are_one_thing(tmp_path):
    half = np.full((2, 2, 2), 0.5, dtype=np.float32)
    second(tmp_path, 4.0 * half - 3.0)
    with pytest.raises(ValueError, match=r"Cannot tell .* from -1 to 0.5, which do not sum to one"):
        segmentation(tmp_path, half, mask=MASK % 2)
    data = OutputDataset(tmp_path, "segmentation", kind="probabilities")
    message = r"b\.npy holds 2 channels of values from -1 to -1, .*not probabilities.*output='logits'"
    with pytest.raises(ValueError, match=message):
        data[1]


def test_a_label_map_among_probabilities_is_refused(tmp_path):
    second(tmp_path, MASK % 2, "b.png")
    data = segmentation(tmp_path, np.full((2, 2, 2), 0.5, dtype=np.float32), mask=MASK % 2)
    assert data.storage == ["array", "image"]
    with pytest.raises(ValueError, match=r"b\.png is an image, but the first output holds probabilities"):
        data[1]


def test_probabilities_among_label_maps_are_refused(tmp_path):
    second(tmp_path, np.full((2, 2, 2), 0.5, dtype=np.float32))
    data = segmentation(tmp_path, MASK % 2, "a.png", mask=MASK % 2, num_classes=2)
    with pytest.raises(ValueError, match=r"b\.npy holds a float32 array .*the first output is a label map"):
        data[1]


def test_an_archive_of_one_array_is_read_and_of_several_refused(tmp_path):
    segmentation(tmp_path, -np.ones((3, 2, 2), dtype=np.float32))
    (tmp_path / "outputs" / "a.npy").unlink()
    np.savez_compressed(tmp_path / "outputs" / "a.npz", p=np.full((3, 2, 2), 1 / 3))
    np.testing.assert_allclose(OutputDataset(tmp_path, "segmentation")[0]["stored_output"], 1 / 3, rtol=1e-6)
    np.savez(tmp_path / "outputs" / "a.npz", p=np.zeros(1), q=np.zeros(1))
    with pytest.raises(ValueError, match=r"a\.npz holds 2 arrays \(p, q\): expected one"):
        OutputDataset(tmp_path, "segmentation")
