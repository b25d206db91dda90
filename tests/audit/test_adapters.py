from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mia_lightning.audit.adapters import AutoAdapter, Sample, get_adapter
from mia_lightning.audit.config import AuditConfig
from mia_lightning.functional.batches import FILE_KEYS, Batch
from mia_lightning.functional.descriptions import describe

X, Y = torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)


@pytest.mark.parametrize(
    ("batch", "ids"),
    [
        ((X, Y), None),
        ([X, Y], None),
        ((X, Y, ["a", "b"]), ["a", "b"]),
        ((X, Y, ("a", "b")), ["a", "b"]),
        ((X, Y, torch.tensor([7, 9])), ["7", "9"]),
        ({"image": X, "mask": Y}, None),
        ({"input": X, "target": Y, "id": ["a", "b"]}, ["a", "b"]),
        ({"image": X, "label": Y, "filename": ["a.png", "b.png"], "weight": 3}, ["a.png", "b.png"]),
        *(({"image": X, "mask": Y, key: ["a.png", "b.png"]}, ["a.png", "b.png"]) for key in FILE_KEYS),
        ({"image": X, "mask": Y, "path": [Path("a.png"), Path("b.png")]}, ["a.png", "b.png"]),
        ({"image": X, "mask": Y, "path": ("/d/a.png", "/d/b.png"), "id": ["p", "q"]}, ["p", "q"]),
        # What is no name of a file, one a sample, is something else of the project's.
        ({"image": X, "mask": Y, "path": X}, None),
        ({"image": X, "mask": Y, "path": [["a.png"], ["b.png"]]}, None),
        ({"image": X, "mask": Y, "path": ["a.png"]}, None),
        ({"image": X, "mask": Y, "file": 3, "img_path": ["a.png", "b.png"]}, ["a.png", "b.png"]),
    ],
)
def test_usual_batches_are_understood(batch, ids):
    sample = AutoAdapter().unpack(batch)
    assert sample.id == ids
    assert sample.input is X
    assert sample.target is Y


def test_an_adapter_may_change_what_the_automatic_one_returned():
    class Mine(AutoAdapter):
        def unpack(self, batch: Any) -> Batch:
            sample = super().unpack(batch)
            sample.input, sample.id = sample.input / 255, ["a", "b"]
            return sample

    sample = Mine().unpack((255 * X, Y))
    assert torch.allclose(sample.input, X)
    assert sample.id == ["a", "b"]


def test_a_batch_of_one_may_have_a_lone_name():
    assert AutoAdapter().unpack((X[:1], Y[:1], "only")).id == ["only"]
    assert AutoAdapter().unpack((X[:1], Y[:1], torch.tensor(4))).id == ["4"]


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        (X, r"float32 tensor \(2, 3, 4, 4\)"),
        ((X,), r"a tuple of \(float32 tensor"),
        ([X, Y, Y, Y], r"a list of \(float32 tensor"),
        ((X, ["a"]), r"a tuple of \(float32 tensor \(2, 3, 4, 4\), a list of str\)"),
        ({"image": X}, "a dict with 'image'"),
        ({"x": X, "y": Y}, "a dict with 'x': float32 tensor"),
        ({"image": X.numpy(), "mask": Y}, "a dict with 'image': a ndarray"),
        ("text", "a str"),
        ([{"image": X, "label": Y}] * 2, "a list of 2, the first a dict with 'image': float32 tensor"),
        ({}, "a dict with nothing"),
    ],
)
def test_other_batches_are_described_and_a_way_out_is_named(batch, found):
    with pytest.raises(TypeError, match=rf"The batch is {found}.*\(input, target, id\).*pass adapter="):
        AutoAdapter().unpack(batch)


@pytest.mark.parametrize(
    ("output", "key"),
    [
        (X, None),
        ((X, "note"), None),
        ([Y, X], 1),
        ((Y, X), -1),
        ({"only": X}, None),
        ({"out": X, "aux": Y}, None),
        ({"loss": Y, "logits": X}, None),
        ({"a": Y, "b": X}, "b"),
    ],
)
def test_the_prediction_is_found(output, key):
    assert AutoAdapter(key).predict(lambda _: output, X) is X


@pytest.mark.parametrize(
    ("output", "key", "message"),
    [
        ((X, Y), None, r"a tuple of \(float32.*expected one tensor.*output_key=0\b"),
        ({"a": X, "b": Y}, None, "output_key='a'"),
        ({"out": X, "logits": Y}, None, "expected one tensor"),
        (None, None, r"turned float32 tensor \(2, 3, 4, 4\) into a NoneType; expected one tensor: Or write"),
        (7, None, "into a int; expected one tensor: Or write"),
        ({"a": X}, "b", "output_key='b' finds no tensor in the model's output, a dict with 'a'"),
        ((X, Y), 2, "output_key=2 finds no tensor"),
        (None, 0, "output_key=0 finds no tensor in the model's output, a NoneType"),
        (X, 0, r"returns float32 tensor \(2, 3, 4, 4\), in which there is nothing to look up, but output_key=0"),
        (X.numpy(), "out", r"nothing to look up, but output_key='out' was given; leave it out"),
    ],
)
def test_an_unclear_output_asks_for_a_key(output, key, message):
    with pytest.raises(TypeError, match=message):
        AutoAdapter(key).predict(lambda _: output, X)


def test_the_proposed_output_has_the_targets_size():
    adapter = AutoAdapter()
    adapter.begin(torch.zeros(2, 3, 4, 4))
    with pytest.raises(TypeError, match="for example output_key='fine'") as error:
        adapter.predict(lambda image: {"coarse": image[..., ::2, ::2], "fine": image}, X)
    assert torch.equal(written(error).predict(lambda image: {"coarse": image[..., ::2, ::2], "fine": image}, X), X)


def test_arrays_are_predictions_too():
    assert torch.equal(AutoAdapter().predict(lambda image: image.numpy(), X), X)
    assert torch.equal(AutoAdapter().predict(lambda image: {"out": image.numpy(), "aux": Y}, X), X)
    assert torch.equal(AutoAdapter(1).predict(lambda image: (Y, image.numpy()), X), X)


def written(error: pytest.ExceptionInfo[TypeError]) -> Any:
    """Run the lines that a message tells its reader to write."""
    _, _, lines = str(error.value).partition("\n\n")
    names: dict[str, Any] = {"AutoAdapter": AutoAdapter, "Batch": Batch}
    exec(textwrap.dedent(lines), names)
    return names["Mine"]()


@pytest.mark.parametrize(
    "batch",
    [
        {"picture": X, "truth": Y},
        {"truth": Y.long(), "picture": X, "weights": torch.ones(2), "place": [1, 2]},
        (X, Y, ["a", "b"], torch.ones(2)),
        [torch.ones(2), Y, X, "note"],
    ],
)
def test_the_lines_to_write_read_the_batch(batch):
    with pytest.raises(TypeError, match="The batch is") as error:
        AutoAdapter().unpack(batch)
    sample = written(error).unpack(batch)
    assert (sample.input is X) == (X.ndim == 4)
    assert sample.target.shape == Y.shape


@pytest.mark.parametrize("output", [(X, X[:, :1]), {"a": X, "b": X + 1}])
def test_the_lines_to_write_pick_a_prediction(output):
    with pytest.raises(TypeError, match=r"turned float32 tensor \(2, 3, 4, 4\) into a (tuple|dict)") as error:
        AutoAdapter().predict(lambda _: output, X)
    assert written(error).predict(lambda _: output, X) is X


def test_nothing_is_guessed_where_there_is_nothing_to_guess_from():
    with pytest.raises(TypeError, match=r"return Batch\(None, the_input, the_target\)$"):
        AutoAdapter().unpack(3)


def test_a_project_may_bring_its_own():
    class Mine:
        def unpack(self, batch: Any) -> Sample:
            return Sample(None, batch, batch)

        def predict(self, module: Any, input: Tensor) -> Tensor:
            return module(input)

    mine = Mine()
    assert get_adapter(AuditConfig(adapter=mine)) is mine
    for default in (None, "auto"):
        adapter = get_adapter(AuditConfig(adapter=default, output_key="key"))
        assert isinstance(adapter, AutoAdapter)
        assert adapter.output_key == "key"


@pytest.mark.parametrize("adapter", ["mine", lambda batch: batch])
def test_half_an_adapter_is_refused(adapter):
    with pytest.raises(TypeError, match="'auto' or an object with unpack and predict, but got"):
        get_adapter(AuditConfig(adapter=adapter))


def test_descriptions_stay_short_for_deep_values():
    assert describe([[[X]]]) == "a list of list"
    assert describe({"a": {"b": {"c": 1}}}) == "a dict with 'a': a dict with 'b': a dict"
