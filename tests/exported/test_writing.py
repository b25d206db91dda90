"""Exports answer as their model does, hold nothing but it, and what cannot be exported says why."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mia_lightning import ExportedModel, Pix2Pix, UNetSegmenter
from mia_lightning.exported import kind_of, load_exported, writing
from mia_lightning.exported.writing import SUFFIXES, write_export

KINDS = {"onnx": "onnx", "torchscript": "torchscript", "export": "torch_export"}


def call(module: nn.Module, input: Tensor) -> Tensor:
    return module(input)


class Trained(nn.Module):
    """A generator, and beside it what only a training needs, data among it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(9, 9, 3), nn.Conv2d(4, 3, 1)])
        self.critic = nn.Conv2d(77, 78, 3)
        self.scale = nn.Linear(1, 1, bias=False)  # its weight is used, and it is never called

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[2](self.layers[0](x).relu())


class Direct(Trained):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale.weight.view(())


@pytest.mark.parametrize("format", ["torchscript", "export", "onnx"])
def test_an_export_answers_as_its_model_and_has_nothing_else(tmp_path, format):
    if format == "onnx":
        pytest.importorskip("onnxscript", reason="onnxscript is not installed: torch cannot write ONNX files")
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: ONNX files cannot be tried")
    model = Trained().train()
    path = tmp_path / "deep" / f"model{SUFFIXES[format]}"
    export = write_export(model, path, format, (3, 16, 24), predict=call)
    assert model.training
    assert kind_of(path) == KINDS[format]
    assert (export.any_batch, export.input_shape) == (True, (3, 16, 24))
    assert export.difference < 1e-5
    x = torch.rand(5, 3, 16, 24)
    assert torch.allclose(load_exported(path)(x), model(x), atol=1e-5)
    assert path.stat().st_size < 4 * 77 * 78 * 9, "the critic, which is never called, is in the file"
    assert str(Path(__file__).parent).encode() not in path.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with pytest.raises(FileExistsError, match=r"exists already.*name another with --output"):
        write_export(model, path, format, (3, 16, 24), predict=call)


def test_weights_that_are_used_without_a_call_stay(tmp_path):
    model = Direct()
    write_export(model, tmp_path / "model.ts", "torchscript", (3, 8, 8), predict=call)
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(load_exported(tmp_path / "model.ts")(x), model(x))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Pix2Pix(image_size=32, ngf=4, ndf=4), (3, 32, 32)),
        (UNetSegmenter(num_classes=3, base_channels=4, depth=2), (3, 32, 48)),
        (UNetSegmenter(num_classes=1, in_channels=1, base_channels=4, depth=2), (1, 32, 32)),
    ],
)
def test_our_models_are_exported(tmp_path, model, shape):
    export = write_export(model, tmp_path / "model.ts", "torchscript", shape, predict=call)
    x = torch.rand(3, *shape)
    assert torch.allclose(ExportedModel(str(export.path))(x), model.eval()(x), atol=1e-6)
    with zipfile.ZipFile(export.path) as archive:
        weights = sum(i.file_size for i in archive.infolist() if "/data/" in i.filename)
    kept = model.generator if isinstance(model, Pix2Pix) else model.network
    assert weights <= 4 * sum(p.numel() for p in [*kept.parameters(), *kept.buffers()]) + 4096


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Branch(nn.Module):
    """Answers by the values of the whole batch: a trace takes one of two ways for ever."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 1e9 or len(x) == 2 else -x


def test_what_cannot_be_exported_says_why_and_leaves_no_file(tmp_path):
    path = tmp_path / "model.ts"
    for model, format, shape, text in (
        (Noise(), "torchscript", (3, 8, 8), "answers the same input differently from call to call"),
        (
            Branch(),
            "torchscript",
            (3, 8, 8),
            "outputs differ from the model's by up to .*Try --format onnx or --format",
        ),
        (Branch(), "export", (3, 8, 8), "cannot be exported as export .*Try --format onnx or --format torchscript"),
        (Trained(), "torchscript", (1, 8, 8), r"The model failed on .*--input_shape, such as \[3,256,256\]"),
        (Trained(), "pickle", (3, 8, 8), "Unknown format 'pickle'; choose one of onnx, torchscript, export"),
    ):
        with pytest.raises(ValueError, match=text):
            write_export(model, path, format, shape, predict=call)
        assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named_with_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(
        writing,
        "find_spec",
        lambda name: None if name.startswith("onnx") and name != "onnx" else importlib.util.find_spec,
    )
    with pytest.raises(
        ImportError, match=r"onnxscript and onnxruntime are not installed: pip install 'mia-lightning\[exp"
    ):
        write_export(Trained(), tmp_path / "model.onnx", "onnx", (3, 8, 8), predict=call)
