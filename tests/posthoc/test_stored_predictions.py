"""A folder of predictions gives the numbers of the audit of the model, whatever its tensors are."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mia_lightning import Auditor, PredictabilityScorer, audit_outputs
from mia_lightning.posthoc.stored_predictions import store_predictions
from mia_lightning.result.context import AuditContext

SIZE = 16
SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=4)


class Net(nn.Module):
    """One convolution and what comes behind it; in a dict, where models keep auxiliary outputs."""

    def __init__(self, channels: int, classes: int, last: nn.Module | None = None, key: str | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.last, self.key = nn.Conv2d(channels, classes, 3, padding=1), last or nn.Identity(), key

    def forward(self, x: Tensor) -> Any:
        output = self.last(self.conv(x.float()))
        return output if self.key is None else {self.key: output, "other": x}


class Argmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1)


def pairs(kind: str, count: int = 10, channels: int = 3, size: tuple[int, int] = (SIZE, SIZE)) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for i in range(count):
        x = torch.rand(channels, *size, generator=generator)
        y: Tensor = torch.randint(0, 3, size, generator=generator)
        if kind == "binary":
            y = (y > 0).long()
        elif kind == "picture":
            y = torch.rand(3, *size, generator=generator)
        elif kind == "grey":
            y = torch.rand(1, *size, generator=generator)
        elif kind == "signed":
            x, y = 2 * x - 1, 2 * torch.rand(3, *size, generator=generator) - 1
        elif kind == "bytes":
            x, y = (x * 255).round() / 255, (torch.rand(3, *size, generator=generator) * 255).round() / 255
        elif kind == "ignored":
            y[0, :4] = 255
        made.append({"image": x, "target": y, "id": f"sites/{i % 2}/image {i}: é.png"})
    return made


CASES: list[tuple[str, nn.Module, list[dict[str, Any]], dict[str, Any]]] = [
    ("logits", Net(3, 3), pairs("classes"), {}),
    ("softmax", Net(3, 3, nn.Softmax(1)), pairs("classes"), {}),
    ("sigmoid", Net(3, 1, nn.Sigmoid()), pairs("binary"), {}),
    ("argmax", Net(3, 3, Argmax()), pairs("classes"), {"num_classes": 3}),
    ("ignored", Net(3, 3), pairs("ignored"), {}),
    ("not square", Net(3, 3), pairs("classes", size=(16, 24)), {}),
    ("grey input", Net(1, 3), pairs("classes", channels=1), {}),
    ("five channels", Net(5, 3), pairs("classes", channels=5), {}),
    ("picture", Net(3, 3, nn.Sigmoid()), pairs("picture"), {"task": "translation"}),
    ("grey picture", Net(3, 1, nn.Sigmoid()), pairs("grey"), {"task": "translation"}),
    ("signed", Net(3, 3, nn.Tanh()), pairs("signed"), {"task": "translation", "target_range": (-1, 1)}),
    ("bytes", Net(3, 3, nn.Sigmoid()), pairs("bytes"), {"task": "translation"}),
    ("normalised", Net(3, 3), pairs("classes"), {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.2)}),
    ("dict", Net(3, 3, None, "logits_of_mine"), pairs("classes"), {"output_key": "logits_of_mine"}),
    ("subset", Net(3, 3), pairs("classes"), {"max_samples": 3, "seed": 5}),
    ("one a batch", Net(3, 3), pairs("classes"), {"batch_size": 1}),
]


@pytest.mark.parametrize(("model", "data", "settings"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_folder_gives_the_numbers_of_the_model(tmp_path, model, data, settings):
    auditor = Auditor(scorer=SCORER, **settings)
    folder = store_predictions(auditor, model, data[:5], data[5:], tmp_path / "stored")
    live = auditor.run(model, data[:5], data[5:])
    seed = {name: settings[name] for name in ("seed", "batch_size") if name in settings}
    stored = audit_outputs(folder, scorer=SCORER, **seed)
    assert stored.ids == live.ids
    assert stored.member.tolist() == live.member.tolist()
    assert stored.meta["task"] == live.meta["task"]
    # The model was asked about copies of the pairs as well.
    copies = {"neighbour", "weighted_neighbour", "easiest_neighbour", "tile_neighbour"}
    if "tiles" in live.meta["interpretation"]:  # of class numbers there are none
        copies.remove("tile_neighbour")
    assert live.errors.keys() - stored.errors.keys() == copies
    for name, errors in stored.errors.items():
        assert np.array_equal(live.errors[name], errors), name
    assert (live.meta["verdict_score"], stored.meta["verdict_score"]) == ("combined", "membership")
    assert any("rests on the membership score" in note for note in stored.meta["notes"])
    numbers = {k: v for k, v in live.metrics.items() if v == v and not {*copies, "combined"} & set(k.split("/"))}
    assert {k: v for k, v in stored.metrics.items() if v == v} == numbers


def test_what_is_known_of_weights_and_membership_goes_with_the_outputs(tmp_path):
    data, auditor = pairs("classes"), Auditor(scorer=SCORER)
    known = AuditContext(epoch=3, checkpoint="last.ckpt", membership={"assignment": "coin"}, notes=("A note.",))
    folder = store_predictions(auditor, Net(3, 3), data[:5], data[5:], tmp_path / "stored", context=known)
    meta = audit_outputs(folder, scorer=SCORER).meta
    assert (meta["epoch"], meta["checkpoint"], meta["membership"]) == (3, "last.ckpt", {"assignment": "coin"})
    assert "A note." in meta["notes"]
    assert meta["source"] == "outputs"


def test_what_batches_and_data_sets_say_of_samples_goes_with_the_outputs(tmp_path):
    class Scanned(list):
        metadata = MappingProxyType({"scanner": [f"s{i % 2}" for i in range(5)], "fps": 30, "ward": ["w"] * 5})

    data = [
        sample | {"site": f"site {i % 3}", "meta": {"age": i}, "path": f"/home/anna/{i}.png"}
        for i, sample in enumerate(pairs("classes"))
    ]
    sides = Scanned(data[:5]), Scanned(data[5:])
    settings = {"scorer": SCORER, "errors": ["class"], "slices": ["site", "meta.age", "scanner", "class"]}
    auditor = Auditor(class_names=["a", "b", "c"], **settings)
    folder = store_predictions(auditor, Net(3, 3), *sides, tmp_path / "stored")
    live, stored = auditor.run(Net(3, 3), *sides), audit_outputs(folder, **settings)
    assert stored.slices == live.slices
    assert stored.slices["site"][:4] == ["site 0", "site 1", "site 2", "site 0"]
    assert stored.slices["meta.age"][8] == "8"
    assert stored.slices["scanner"][:2] == ["s0", "s1"]
    assert [name for name in stored.errors if name.startswith("class/")] == ["class/a", "class/b", "class/c"]
    assert np.array_equal(stored.errors["class/b"], live.errors["class/b"], equal_nan=True)
    row = json.loads((folder / "members" / "samples.json").read_text())["samples"][0]
    assert row["metadata"] == {"scanner": "s0", "site": "site 0", "meta.age": "0"}
    plain = store_predictions(Auditor(scorer=SCORER), Net(3, 3), *sides, tmp_path / "plain")
    assert not [row for row in json.loads((plain / "members" / "samples.json").read_text())["samples"] if len(row) > 2]
    with pytest.raises(ValueError, match="slices names 'sex', but the batch"):
        store_predictions(Auditor(scorer=SCORER, slices=["sex"]), Net(3, 3), *sides, tmp_path / "absent")
    assert not [*(tmp_path / "absent").rglob("*.npy")]


def test_pictures_of_bytes_and_class_numbers_take_a_byte_a_value(tmp_path):
    data = pairs("bytes")
    folder = store_predictions(
        Auditor(task="translation", scorer=SCORER), Net(3, 3, nn.Sigmoid()), data[:5], data[5:], tmp_path / "a"
    )
    assert {np.load(file).dtype for file in folder.glob("*/inputs/*.npy")} == {np.dtype("uint8")}
    data = pairs("ignored")
    folder = store_predictions(Auditor(scorer=SCORER), Net(3, 3), data[:5], data[5:], tmp_path / "b")
    assert {np.load(file).dtype for file in folder.glob("*/targets/*.npy")} == {np.dtype("uint8")}


def test_folders_are_not_mixed(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    data = pairs("classes")
    for name, text in (("full", "is not empty"), ("full/notes.txt", "is a file")):
        with pytest.raises(FileExistsError, match=f"{text}.*name another --output_dir"):
            store_predictions(Auditor(scorer=SCORER), Net(3, 3), data[:5], data[5:], tmp_path / name)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda index: index | {"format": 9}, "it has format 9, this version reads 1"),
        (lambda index: index | {"samples": []}, "it names no samples"),
        (lambda index: index | {"samples": [{"id": "a", "file": "../../other"}]}, "of no file in this folder"),
        (lambda index: index | {"samples": [{"id": "a", "file": "a", "metadata": ["b"]}]}, "is no table of names"),
        (lambda index: {k: v for k, v in index.items() if k != "settings"}, "it lacks settings"),
        (lambda index: {k: v for k, v in index.items() if k != "format"}, "it lacks 'format'"),
        (lambda index: [index], "cannot be read as the index"),
    ],
)
def test_a_damaged_index_is_said(tmp_path, change, text):
    data = pairs("classes")
    folder = store_predictions(Auditor(scorer=SCORER), Net(3, 3), data[:5], data[5:], tmp_path / "stored")
    index = folder / "members" / "samples.json"
    index.write_text(json.dumps(change(json.loads(index.read_text()))))
    with pytest.raises(ValueError, match=text):
        audit_outputs(folder, scorer=SCORER)


def test_a_missing_file_is_named(tmp_path):
    data = pairs("classes")
    folder = store_predictions(Auditor(scorer=SCORER), Net(3, 3), data[:5], data[5:], tmp_path / "stored")
    next(Path(folder).glob("members/targets/*.npy")).unlink()
    with pytest.raises(FileNotFoundError, match=r"\.npy is missing, but .*samples\.json names it"):
        audit_outputs(folder, scorer=SCORER)


def test_sides_of_different_calls_do_not_mix(tmp_path):
    data = pairs("classes")
    one = store_predictions(Auditor(scorer=SCORER), Net(3, 3), data[:5], data[5:], tmp_path / "one")
    other = Auditor(scorer=SCORER, ignore_index=2)
    two = store_predictions(other, Net(3, 3), data[:5], data[5:], tmp_path / "two")
    (one / "nonmembers").rename(tmp_path / "spare")
    (two / "nonmembers").rename(one / "nonmembers")
    with pytest.raises(ValueError, match=r"stored with different settings \(ignore_index\)"):
        audit_outputs(one, scorer=SCORER)
