"""One reader for training and audits: the same batch gives both the same tensors, or neither any."""

from __future__ import annotations

from collections import UserDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from mia_lightning import AutoAdapter, Pix2Pix, UNetSegmenter
from mia_lightning.functional.batches import BatchReader

X, Y, MASK = torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32), torch.ones(2, 32, 32, dtype=torch.long)
CLASS = torch.tensor([3, 7])
SEGMENTER = UNetSegmenter(num_classes=8, base_channels=4, depth=2, audit=False)
TRANSLATOR = Pix2Pix(image_size=32, ngf=4, ndf=4, audit=False)


class Pair(NamedTuple):
    photo: Tensor
    drawing: Tensor


READABLE: list[tuple[Any, Tensor]] = [
    ({"input": X, "target": Y, "id": ["a", "b"]}, Y),
    ({"image": X, "mask": MASK}, MASK),
    ({"image": X, "label": MASK}, MASK),
    ({"input": X, "mask": MASK}, MASK),
    (UserDict({"image": X, "target": Y}), Y),
    ((X, Y), Y),
    ([X, MASK, ["a", "b"]], MASK),
    (Pair(X, Y), Y),
    ({"image": X, "mask": MASK, "label": CLASS}, MASK),  # a class beside a mask does not compete
    ({"image": X, "target": CLASS, "label": MASK}, MASK),
    ({"image": X, "mask": CLASS, "target": Y}, Y),
    ({"image": X, "input": CLASS, "target": Y}, Y),
    ({"image": X, "input": ["a", "b"], "target": Y}, Y),
    ({"input": X, "output": Y}, Y),
    ({"input": X, "output": torch.rand(2, 3, 32, 32), "target": Y}, Y),
    ({"image": X, "mask": MASK, "stored_output": torch.rand(2, 5, 32, 32)}, MASK),
    ({"input": X, "output": Y, "stored_output": torch.rand(2, 3, 32, 32)}, Y),
]
REFUSED: list[tuple[Any, str]] = [
    ({"image": X, "input": X + 1, "target": Y}, r"'image' and 'input' could each be the input.*input_key='image'"),
    ({"image": X, "mask": MASK, "target": Y}, r"'mask' and 'target' could each be the target.*target_key='mask'"),
    ({"image": X, "target": Y, "label": MASK}, r"'target' and 'label' could each be the target"),
    ({"image": X, "output": Y}, r"The batch is a dict with 'image'.*expected \(input, target\)"),
    ({"A": X, "B": Y}, r"The batch is a dict with 'A': .*one of image, input, .* and one of mask, target, label"),
    ({0: X, 1: Y}, "The batch is a dict with 0"),
    ({"image": X}, "The batch is a dict with 'image'"),
    ([X], "The batch is a list of "),
    ((X, ["a"]), "a tuple of .*a list of str"),
    (X, "The batch is float32 tensor"),
    (3, "The batch is a int"),
    ("text", "The batch is a str"),
]


@pytest.mark.parametrize(("batch", "target"), READABLE)
def test_training_and_audit_read_the_same_tensors(batch: Any, target: Tensor) -> None:
    audited = AutoAdapter().unpack(batch)
    assert audited.input is X
    assert audited.target is target
    trained = SEGMENTER._read_pair(batch) if target is MASK else TRANSLATOR._read_pair(batch)
    assert trained[0] is audited.input
    assert trained[1] is audited.target
    assert BatchReader().input(batch) is X


@pytest.mark.parametrize(("batch", "message"), REFUSED)
def test_training_and_audit_refuse_the_same_batches(batch: Any, message: str) -> None:
    for read in (AutoAdapter().unpack, TRANSLATOR._read_pair, BatchReader()):
        with pytest.raises(TypeError, match=message):
            read(batch)


def test_training_takes_longer_tuples_and_an_audit_wants_to_know_what_they_hold() -> None:
    batch = (X, Y, ["a", "b"], ["p", "q"])
    assert TRANSLATOR._read_pair(batch) == (X, Y)
    with pytest.raises(TypeError, match=r"The batch is a tuple of .*; expected .*input_key and target_key name others"):
        AutoAdapter().unpack(batch)
    assert AutoAdapter(id_key=2, group_key=3).unpack(batch).group == ["p", "q"]


@pytest.mark.parametrize("batch", [X, [X], (X,), (X, "note"), {"image": X, "id": ["a"]}, {"input": X}])
def test_an_input_may_come_alone_where_nothing_is_learned(batch: Any) -> None:
    assert BatchReader().input(batch) is X


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"target": Y}, "expected an input, a tuple that begins with one, or a dict with one of image, input"),
        (("a", X), "expected an input"),
        ({"image": X, "input": Y}, "'image' and 'input' could each be the input"),
    ],
)
def test_a_batch_without_an_input_is_described(batch: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        BatchReader().input(batch)


def test_settings_name_the_keys() -> None:
    batch = {"t1": X, "image": Y, "t2": Y, "case": ["a", "b"], "patient": torch.tensor([4, 4]), "id": ["c", "d"]}
    parts = BatchReader(input_key="t1", target_key="t2", id_key="case", group_key="patient")(batch)
    assert parts.input is X
    assert parts.target is Y
    assert (parts.id, parts.group) == (["a", "b"], ["4", "4"])
    assert AutoAdapter(input_key="t1", target_key="t2").unpack(batch).id == ["c", "d"]


def test_a_setting_decides_between_two_tensors() -> None:
    batch = {"image": X, "input": Y, "mask": MASK, "label": MASK + 1}
    assert BatchReader(input_key="input", target_key="mask").pair(batch) == (Y, MASK)
    # What is named for one part is no candidate for another.
    assert BatchReader(input_key="mask").pair({"mask": MASK, "target": Y}) == (MASK, Y)


def test_settings_name_places_in_tuples() -> None:
    batch = (CLASS, X, "note", Y, ["p", "q"], ["a", "b"])
    parts = BatchReader(input_key=1, target_key=3, group_key=4, id_key=5)(batch)
    assert (parts.input is X, parts.target is Y, parts.group, parts.id) == (True, True, ["p", "q"], ["a", "b"])
    assert BatchReader(group_key=2)((X, Y, ["p", "q"])).id is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"input_key": "t1"}, "input_key='t1' finds no tensor in the batch, a dict with 'image'"),
        ({"input_key": "id"}, "input_key='id' finds no tensor"),
        ({"target_key": "t2"}, "target_key='t2' finds no tensor"),
        ({"id_key": "case"}, "id_key='case' finds nothing in the batch, a dict with 'image'"),
        ({"group_key": "patient"}, "group_key='patient' finds nothing"),
        ({"group_key": "weights"}, r"one group a sample \(text or whole numbers\), but the batch has float32 tensor"),
        ({"id_key": "weights"}, r"one id a sample \(text or whole numbers\), but the batch has float32.*by id_key"),
    ],
)
def test_a_setting_that_leads_to_nothing_is_refused(keys: dict[str, str], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        BatchReader(**keys)({"image": X, "mask": MASK, "id": ["a", "b"], "weights": torch.rand(2, 4)})


def test_weights_of_pixels_are_no_ids() -> None:
    """The message says how to go on, and that works."""
    batch = (X, MASK, torch.rand(2, 8, 8))
    with pytest.raises(TypeError, match=r"one id a sample .*; say which entry is the target, such as target_key=1"):
        BatchReader()(batch)
    parts = BatchReader(target_key=1)(batch)
    assert parts.id is None
    assert parts.target is MASK


@pytest.mark.parametrize(
    ("group", "expected"), [(["p", "q"], ["p", "q"]), (CLASS, ["3", "7"]), (torch.rand(2, 4), None), (None, None)]
)
def test_groups_travel_with_the_batch(group: Any, expected: list[str] | None) -> None:
    """What else a project keeps under the usual name is left alone."""
    assert BatchReader()({"image": X, "mask": MASK, "group": group}).group == expected


def test_ids_that_are_none_are_none() -> None:
    assert BatchReader()({"image": X, "mask": MASK, "id": [None, None]}).id is None
    with pytest.raises(TypeError, match="Expected one id a sample"):
        BatchReader()({"image": X, "mask": MASK, "id": ["a", None]})


def test_stored_outputs_travel_with_the_batch() -> None:
    assert BatchReader()({"input": X, "target": Y, "stored_output": Y}).stored_output is Y
    assert BatchReader()({"input": X, "target": Y}).stored_output is None
    assert BatchReader()((X, Y)).stored_output is None


def test_training_reads_no_ids() -> None:
    """A project may keep anything under ``name``; only an audit needs one text a sample."""
    batch = {"image": X, "mask": MASK, "name": [["a"], ["b"]]}
    assert BatchReader().pair(batch) == (X, MASK)
    with pytest.raises(TypeError, match="one id a sample"):
        BatchReader()(batch)


def test_lists_of_numbers_are_no_tensors_which_is_said():
    batch = {"image": [[[0.0, 1.0]]], "labels": [[[0, 1]]], "name": ["a"]}
    with pytest.raises(TypeError, match=r"Nested lists are no tensors.*with_format\('torch'\)"):
        BatchReader()(batch)
