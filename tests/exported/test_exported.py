from __future__ import annotations

import contextlib
import copy
import multiprocessing
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from mia_lightning.audit.auditor import Auditor
from mia_lightning.exported import kind_of, load_exported
from mia_lightning.features import PredictabilityScorer
from mia_lightning.models.pix2pix import Pix2Pix
from mia_lightning.models.unet_segmenter import UNetSegmenter

SIDE = 32
ROUTES = [
    "torchscript-trace",
    "torch_export-dynamic",
    "torch_export-fixed",
    "onnx-dynamo-dynamic",
    "onnx-dynamo-fixed",
    "onnx-legacy-dynamic",
    "onnx-legacy-fixed",
]
USUAL = {
    **dict.fromkeys(("torchscript-trace", "torch_export-dynamic", "onnx-legacy-dynamic"), ("translator",)),
    **dict.fromkeys(("torch_export-fixed", "onnx-dynamo-dynamic", "onnx-legacy-fixed"), ("segmenter",)),
    "onnx-dynamo-fixed": (),  # that exporter takes seconds
}
"""Each format on one of the models; the others are for -m slow."""


def image(count: int, seed: int = 0, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def audited(module: Callable[..., Any], task: str, **settings: Any) -> Any:
    """An audit of 5 members and 6 nonmembers in batches of 3: neither is a multiple of an export's batch of 4."""
    images = [x[0] for x in image(11).split(1)]
    targets = [x.flip(0) if task == "translation" else (x.mean(0) * 2.999).long() for x in images]
    data = list(zip(images, targets, strict=True))
    auditor = Auditor(scorer=PredictabilityScorer(nn.AvgPool2d(4), grid=4), batch_size=3, **settings)
    return auditor.run(module, data[:5], data[5:])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters deprecate each other, and tell the world."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def export(module: nn.Module, route: str, path: Path, example: Tensor | None = None) -> Path:
    example = image(4) if example is None else example
    kind, *ways = route.split("-")
    dynamic = "dynamic" in ways
    with quiet():
        if kind == "torchscript":
            script = torch.jit.trace(module, example) if "trace" in ways else torch.jit.script(module)
            torch.jit.save(script, str(path))
        elif kind == "torch_export":
            shapes = ({0: Dim("batch")},) if dynamic else None
            torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), path)
        else:
            pytest.importorskip("onnx", reason="onnx is not installed: nothing can export ONNX files")
            pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: ONNX files cannot be run")
            shape: dict[str, Any] = {"input_names": ["image"], "dynamo": "dynamo" in ways}
            if shape["dynamo"]:
                pytest.importorskip(
                    "onnxscript", reason="onnxscript is not installed: torch cannot export ONNX with it"
                )
                shape |= {"dynamic_shapes": ({0: Dim("batch")},)} if dynamic else {}
            elif dynamic:
                shape |= {"dynamic_axes": {"image": {0: "batch"}}}
            torch.onnx.export(module, (example,), str(path), verbose=False, **shape)
    return path


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    translator = Pix2Pix(image_size=SIDE, ngf=4, ndf=4).eval().generator
    segmenter = UNetSegmenter(num_classes=3, base_channels=4, depth=2).eval().network
    for norm in (m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)  # a trained model's statistics are not those it starts with
        norm.running_var.uniform_(0.5, 2.0)
    return {"translator": translator, "segmenter": segmenter}


@pytest.fixture(scope="module")
def reference(models: dict[str, nn.Module]) -> dict[str, Any]:
    return {
        "translator": audited(models["translator"], "translation"),
        "segmenter": audited(models["segmenter"], "segmentation"),
    }


@pytest.mark.parametrize(
    ("route", "which"),
    [
        pytest.param(r, w, marks=() if w in USUAL[r] else pytest.mark.slow)
        for r in ROUTES
        for w in ("translator", "segmenter")
    ],
)
def test_an_export_has_the_errors_of_the_model(
    route: str, which: str, models: dict[str, nn.Module], reference: dict[str, Any], tmp_path: Path
) -> None:
    path = export(models[which], route, tmp_path / "model.bin")  # no suffix helps
    assert kind_of(path) == route.split("-")[0]
    module = load_exported(path)
    assert not module.training
    result = audited(module, "translation" if which == "translator" else "segmentation")
    tolerance = 1e-5 if route.startswith("onnx") else 1e-6
    assert result.ids == reference[which].ids
    np.testing.assert_allclose(
        result.errors["reconstruction"], reference[which].errors["reconstruction"], rtol=tolerance
    )
    copied = copy.deepcopy(module)
    assert torch.equal(copied(image(3)), module(image(3)))
    assert not copied.training


class Small(nn.Module):
    """Scriptable; with the layers that behave otherwise in training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.drop(self.norm(self.conv(image))))


def small(training: bool = False) -> Small:
    torch.manual_seed(1)
    return Small().train(training)


def test_a_script_obeys_eval_and_a_frozen_one_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = audited(small(), "translation").errors["reconstruction"]
    scripted = load_exported(export(small(training=True), "torchscript-script", tmp_path / "model.pt"))
    np.testing.assert_allclose(audited(scripted, "translation").errors["reconstruction"], wanted, rtol=1e-6)
    with quiet():
        torch.jit.save(torch.jit.freeze(torch.jit.script(small())), str(tmp_path / "frozen.pt"))
    frozen = load_exported(tmp_path / "frozen.pt", kind="torchscript")
    np.testing.assert_allclose(audited(frozen, "translation").errors["reconstruction"], wanted, rtol=1e-6)
    asked: list[torch.device] = []
    monkeypatch.setattr(frozen, "_load", lambda device: asked.append(device) or nn.Identity())
    moved = frozen.to("meta")
    for _ in range(2):
        moved(image(1))
    assert asked == [torch.device("meta")]  # read again, once


@pytest.mark.parametrize("route", ["torchscript-trace", "torch_export-fixed"])
def test_an_export_in_training_mode_is_told(route: str, tmp_path: Path) -> None:
    with quiet(), torch.no_grad():
        if route == "torchscript-trace":
            torch.jit.save(torch.jit.trace(small(True), image(4), check_trace=False), str(tmp_path / "model"))
        else:
            export(small(True), route, tmp_path / "model")
    with pytest.warns(
        UserWarning, match=r"model was exported in training mode: its batch norm and dropout will not obey"
    ):
        load_exported(tmp_path / "model")
    export(small(), route, tmp_path / "sober")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_exported(tmp_path / "sober")


class Several(nn.Module):
    """Two tensors by name, and one without a batch dimension."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"aux": image * 0, "picture": image * 0.5, "mean": image.mean()}


def test_several_outputs_are_chosen_from(tmp_path: Path) -> None:
    def half(x: Tensor) -> Tensor:
        return x * 0.5

    wanted = audited(half, "translation").errors["reconstruction"]
    module = load_exported(export(Several(), "torch_export-fixed", tmp_path / "model.pt2"))
    outputs = module(image(6))
    assert {k: tuple(v.shape) for k, v in outputs.items()} == {
        "aux": (6, 3, SIDE, SIDE),
        "picture": (6, 3, SIDE, SIDE),
        "mean": (2,),  # one a batch of 4
    }
    result = audited(module, "translation", output_key="picture")
    np.testing.assert_allclose(result.errors["reconstruction"], wanted, rtol=1e-6)
    with pytest.raises(TypeError, match="output_key"):
        audited(module, "translation")


def test_several_outputs_of_onnx_have_names(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "two.onnx", ("x", [None, 3, None, None]), {"aux": ("Neg", 1), "picture": ("Abs", 1)})
    module = load_exported(path)
    assert list(module(image(2))) == ["aux", "picture"]
    wanted = audited(nn.Identity(), "translation").errors["reconstruction"]
    result = audited(module, "translation", output_key="picture")
    np.testing.assert_allclose(result.errors["reconstruction"], wanted, rtol=1e-6)


def save_graph(
    path: Path, input: tuple[str, list[int | None]], outputs: dict[str, tuple[str, int]], dtype: int = 1, **more: Any
) -> Path:
    """An ONNX file of single operators by hand: output name -> operator and number format."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: nothing can export ONNX files")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: ONNX files cannot be run")
    helper = onnx.helper
    domain = more.get("domain", "")
    attributes = {name: {"to": kind} if op == "Cast" else {} for name, (op, kind) in outputs.items()}
    nodes = [helper.make_node(op, [input[0]], [n], domain=domain, **attributes[n]) for n, (op, _) in outputs.items()]
    inputs = [helper.make_tensor_value_info(n, dtype, input[1]) for n in (input[0], *more.get("others", ()))]
    infos = [helper.make_tensor_value_info(name, kind, input[1]) for name, (_, kind) in outputs.items()]
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, infos), opset_imports=opsets, ir_version=9)
    onnx.save(model, str(path))
    return path


UINT8, FLOAT16, INT64, FLOAT = 2, 10, 7, 1


def test_number_formats_are_those_that_the_file_declares(tmp_path: Path) -> None:
    x = image(3)
    shape = [None, 3, SIDE, SIDE]
    half = load_exported(save_graph(tmp_path / "half.onnx", ("x", shape), {"y": ("Abs", FLOAT16)}, FLOAT16))
    assert torch.equal(half(x), x.half())
    bytes_in = load_exported(save_graph(tmp_path / "u8.onnx", ("x", shape), {"y": ("Cast", FLOAT)}, UINT8))
    assert torch.equal(bytes_in(x), (x * 255).round())
    bytes_both = load_exported(save_graph(tmp_path / "u88.onnx", ("x", shape), {"y": ("Identity", UINT8)}, UINT8))
    assert torch.equal(bytes_both(x), (x * 255).round() / 255)
    maps = load_exported(save_graph(tmp_path / "i64.onnx", ("x", shape), {"y": ("Cast", FLOAT)}, INT64))
    assert torch.equal(maps(x.byte()), torch.zeros_like(x))
    with pytest.raises(
        ValueError, match=r"i64\.onnx takes int64 but the input is float32, and how one becomes the other"
    ):
        maps(x)
    labels = load_exported(save_graph(tmp_path / "argmax.onnx", ("x", shape), {"y": ("Cast", INT64)}))
    assert labels(x).dtype == torch.int64  # class numbers, for an audit of labels


@pytest.mark.parametrize("route", ["torchscript-trace", "torch_export-dynamic"])
def test_half_precision(route: str, tmp_path: Path) -> None:
    module = load_exported(export(small().half(), route, tmp_path / "model", image(4).half()))
    wanted = audited(small().half(), "translation").errors["reconstruction"]
    np.testing.assert_allclose(audited(module, "translation").errors["reconstruction"], wanted, rtol=1e-3)
    # And as a strategy with true half precision converts a module.
    single = load_exported(export(small(), route, tmp_path / "single")).half()
    assert single(image(2)).dtype == torch.float16


def test_what_does_not_fit_is_told_with_both_sizes(tmp_path: Path) -> None:
    fixed = load_exported(export(small(), "torch_export-fixed", tmp_path / "model.pt2"))
    message = (
        r"model\.pt2 takes inputs of shape \(B, 3, 32, 32\) but got \(2, 3, 16, 16\); bring the data to that size "
        r"\(the data modules' image_size\), or export the model with these dimensions dynamic\."
    )
    with pytest.raises(ValueError, match=message):
        fixed(image(2, side=16))
    with pytest.raises(ValueError, match=r"\(B, 3, 32, 32\) but got \(3, 32, 32\)"):
        fixed(image(1)[0])
    with pytest.raises(
        ValueError, match=r"given float32 tensor \(0, 3, 32, 32\), expected a batch of at least one image"
    ):
        fixed(image(0))
    graph = load_exported(save_graph(tmp_path / "x.onnx", ("x", [None, 3, None, 32]), {"y": ("Abs", FLOAT)}))
    with pytest.raises(ValueError, match=r"x\.onnx takes inputs of shape \(B, 3, any, 32\) but got \(2, 3, 16, 16\)"):
        graph(image(2, side=16))


class Padded(nn.Module):
    """Chooses by the size in Python, so that its graph holds for the sizes of one branch only."""

    def forward(self, image: Tensor) -> Tensor:
        return image * 2 if image.shape[2] % 4 == 0 else image * 3


def test_a_graph_is_not_asked_for_sizes_it_does_not_hold_for(tmp_path: Path) -> None:
    shapes = ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)
    torch.export.save(torch.export.export(Padded(), (image(4),), dynamic_shapes=shapes), tmp_path / "m.pt2")
    module = load_exported(tmp_path / "m.pt2")
    assert torch.equal(module(image(3, side=40)), image(3, side=40) * 2)
    assert module(image(1)).shape == (1, 3, 32, 32)  # whatever smallest batch torch allows such a graph
    with pytest.raises(
        ValueError, match=r"m\.pt2 was not exported for inputs of shape \(3, 3, 34, 34\) \(Guard failed"
    ):
        module(image(3, side=34))


class Placed(nn.Module):
    """A constant and a device inside the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, image: Tensor) -> Tensor:
        ramp = torch.arange(image.shape[-1], device=image.device)
        return image * self.weights.to(image)[:, None, None] + ramp


def test_moving_takes_the_constants_of_a_graph_along(tmp_path: Path) -> None:
    module = load_exported(export(Placed(), "torch_export-dynamic", tmp_path / "m.pt2"))
    torch.testing.assert_close(module(image(2)), Placed()(image(2)))
    moved = module.to("meta")
    assert moved(image(2).to("meta")).device.type == "meta"
    assert copy.deepcopy(moved).device.type == "meta"


class Pair(nn.Module):
    def forward(self, image: Tensor, noise: Tensor) -> Tensor:
        return image + noise


def test_several_inputs_are_refused_by_name(tmp_path: Path) -> None:
    x = image(2)
    with quiet():
        torch.jit.save(torch.jit.trace(Pair(), (x, x)), str(tmp_path / "a"))
        torch.export.save(torch.export.export(Pair(), (x, x)), tmp_path / "b")
        torch.export.save(torch.export.export(small(), (), {"image": x}), tmp_path / "c")
    for name in "ab":
        with pytest.raises(
            ValueError, match=rf"{name} takes 2 inputs \(image, noise\), expected one image; export a model"
        ):
            load_exported(tmp_path / name)
    with pytest.raises(
        ValueError, match="takes its input 'image' by keyword, in a structure or as a number, expected one"
    ):
        load_exported(tmp_path / "c")
    path = save_graph(tmp_path / "d", ("x", [1, 3, 4, 4]), {"y": ("Abs", 1)}, others=("noise",))
    with pytest.raises(ValueError, match=r"d takes 2 inputs \(x, noise\), expected one image"):
        load_exported(path)


def test_what_is_no_export_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nothing; expected a TorchScript archive, a torch"):
        load_exported(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"is a folder, expected a TorchScript archive, .*; give the file itself\."):
        load_exported(tmp_path)
    torch.save(small().state_dict(), tmp_path / "weights.ckpt")
    with pytest.raises(
        ValueError, match=r"weights\.ckpt holds weights or a checkpoint and no network, .*--ckpt_path <file>"
    ):
        load_exported(tmp_path / "weights.ckpt")
    torch.save(small().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"old\.pth is a pickle, expected .*--ckpt_path <file>"):
        load_exported(tmp_path / "old.pth")
    (tmp_path / "text.pt").write_text("hello, world")
    with pytest.raises(ValueError, match=r"text\.pt begins with b'hell': it is none of the known kinds, expected"):
        load_exported(tmp_path / "text.pt")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.onnx begins with b'': it is none of the known kinds"):
        load_exported(tmp_path / "empty.onnx")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("a.png", b"")
    with pytest.raises(ValueError, match=r"pictures\.zip is an archive of a\.png, expected"):
        load_exported(tmp_path / "pictures.zip")
    with zipfile.ZipFile(tmp_path / "torch2.6.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", b"{}")
    with pytest.raises(ValueError, match=r"of torch before 2\.8, which pickles its weights, and pickles are not read;"):
        load_exported(tmp_path / "torch2.6.pt2")
    export(small(), "torchscript-script", tmp_path / "script.onnx")
    with pytest.raises(
        ValueError, match=r"script\.onnx is of the kind 'torchscript', expected 'onnx'; give the other file"
    ):
        load_exported(tmp_path / "script.onnx", kind="onnx")
    with pytest.raises(ValueError, match="Unknown kind 'tflite'; choose one of torchscript, torch_export, onnx"):
        load_exported(tmp_path / "script.onnx", kind="tflite")


@pytest.mark.parametrize("route", ["torchscript-script", "torch_export-fixed", "onnx-legacy-fixed"])
def test_a_file_that_is_cut_off_is_told(route: str, tmp_path: Path) -> None:
    whole = export(small(), route, tmp_path / "whole").read_bytes()
    for share in (0.3, 0.6, 0.95):
        (tmp_path / "cut").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=r"cut begins as an (archive|ONNX file) but is cut off"):
            load_exported(tmp_path / "cut")


def test_onnx_reads_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "custom.onnx", ("x", [1, 3, 4, 4]), {"y": ("Evil", 1)}, domain="my.ops")
    with pytest.raises(
        ValueError, match=r"(?s)cannot run .*custom\.onnx: .*my\.ops.*operators of other libraries are not"
    ):
        load_exported(path)
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: nothing can export ONNX files")
    folder = tmp_path / "inner"
    folder.mkdir()
    model = onnx.load(str(export(nn.Conv2d(3, 3, 3), "onnx-legacy-fixed", tmp_path / "conv.onnx")))
    onnx.save(model, str(folder / "m.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    assert load_exported(folder / "m.onnx")(image(1)).shape == (1, 3, SIDE - 2, SIDE - 2)
    (folder / "w.bin").rename(tmp_path / "w.bin")
    with pytest.raises(ValueError, match=r"cannot run .*m\.onnx: .*with the weight files beside it that it names"):
        load_exported(folder / "m.onnx")
    moved = onnx.load(str(folder / "m.onnx"), load_external_data=False)
    for entry in (e for tensor in moved.graph.initializer for e in tensor.external_data if e.key == "location"):
        entry.value = "../w.bin"
    onnx.save(moved, str(folder / "m.onnx"))
    with pytest.raises(ValueError, match=r"cannot run .*m\.onnx"):
        load_exported(folder / "m.onnx")


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_graph(tmp_path / "x.onnx", ("x", [1, 3, 4, 4]), {"y": ("Abs", FLOAT)})
    monkeypatch.setattr("onnxruntime.__version__", "1.23.2")
    with pytest.raises(
        ImportError, match=r"onnxruntime 1\.23\.2 is installed, expected 1\.24 or newer: older ones read the"
    ):
        load_exported(path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"x\.onnx is an ONNX file, .*: pip install 'mia-lightning\[onnx\]'\."):
        load_exported(path)


def _in_child(module: nn.Module, answers: Any) -> None:
    answers.put(module(image(5)).tolist())


def test_a_session_does_not_cross_a_fork(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "x.onnx", ("x", [4, 3, SIDE, SIDE]), {"y": ("Neg", FLOAT)})
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    module = load_exported(path)
    before = module.session()
    assert torch.equal(pickle.loads(pickle.dumps(module))(image(5)), -image(5))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with quiet():
        child = context.Process(target=_in_child, args=(module, answers))
        child.start()
    found = answers.get(timeout=120)
    child.join(timeout=120)
    assert child.exitcode == 0
    assert torch.equal(torch.tensor(found), -image(5))
    assert module.session() is before
