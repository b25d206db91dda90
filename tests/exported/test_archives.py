"""What of a ``torch.export`` archive is refused; each payload is shown to be live by letting torch itself load it."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from mia_lightning.exported import load_exported
from mia_lightning.exported.guard import Refused, check_graph


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 3).eval()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """An honest archive."""
    program = torch.export.export(network(), (torch.zeros(4, 3, 8, 8),), dynamic_shapes=({0: Dim("batch")},))
    torch.export.save(program, tmp_path / "plain.pt2")
    return tmp_path / "plain.pt2"


def test_a_damaged_archive_is_told(plain: Path, tmp_path: Path) -> None:
    rewrite(plain, tmp_path / "no_graph.pt2", {"models/model.json": None})
    with pytest.raises(ValueError, match=r"no_graph\.pt2 is damaged or incomplete \(KeyError.*; copy it again"):
        load_exported(tmp_path / "no_graph.pt2")
    rewrite(plain, tmp_path / "no_json.pt2", {"models/model.json": lambda _: b"{"})
    with pytest.raises(ValueError, match=r"no_json\.pt2 is damaged or incomplete \(JSONDecodeError"):
        load_exported(tmp_path / "no_json.pt2")
    rewrite(plain, tmp_path / "lost.pt2", {"data/weights/weight_0": None})
    with pytest.raises(
        ValueError, match=r"torch .* cannot load the torch\.export archive .*lost\.pt2: .*Export the model"
    ):
        load_exported(tmp_path / "lost.pt2")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("a/constants.pkl", "a/code/x.py"):
            archive.writestr(name, b"")
    with pytest.raises(ValueError, match=r"torch .* cannot read the TorchScript archive .*script\.pt: "):
        load_exported(tmp_path / "script.pt")


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [(8, 1, "encrypted"), (10, 99, "compression method")],
    ids=["encrypted", "packed in another way"],
)
def test_an_archive_that_asks_for_more_than_reading_is_told(tmp_path, place, value, text):
    path = tmp_path / "odd.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/archive_format", b"pt2")
    content = bytearray(path.read_bytes())
    for start, shift in ((b"PK\x01\x02", 0), (b"PK\x03\x04", -2)):  # the list of contents, and the record itself
        content[content.index(start) + place + shift] = value
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"odd\.pt2 is an archive that cannot be read \(.*{text}"):
        load_exported(path)


def test_broken_compression_is_told(tmp_path):
    path = tmp_path / "broken.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/archive_format", b"pt2" * 50)
    content = bytearray(path.read_bytes())
    start = content.index(b"archive_format") + len("archive_format")
    content[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.pt2 begins as an archive but is cut off or damaged \("):
        load_exported(path)


Change = Callable[[bytes], bytes] | None


def rewrite(source: Path, target: Path, changes: dict[str, Change], more: dict[str, bytes] | None = None) -> None:
    """Copy an archive with some records changed, left out or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].split("/")[0] + "/"
        for name in old.namelist():
            change = changes.get(name.removeprefix(root), lambda content: content)
            if change is not None:
                new.writestr(name, change(old.read(name)))
        for name, content in (more or {}).items():
            new.writestr(root + name, content)


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def in_json(change: Callable[[Any], None]) -> Change:
    def rewritten(content: bytes) -> bytes:
        parsed = json.loads(content)
        change(parsed)
        return json.dumps(parsed).encode()

    return rewritten


def torch_loads(path: Path) -> None:
    """What torch itself does with a file: load it, make a module of it, call it."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.load(io.BytesIO(path.read_bytes())).module()(torch.rand(4, 3, 8, 8))


def pickled(payload: Payload) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def first_pickled(config: Any) -> None:
    next(iter(config["config"].values()))["use_pickle"] = True


def opaque(config: Any) -> None:
    config["config"]["evil"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}


def custom(config: Any) -> None:
    config["config"]["evil"] = {
        "path_name": "custom_obj_0",
        "is_param": False,
        "use_pickle": False,
        "tensor_meta": None,
    }


WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"


@pytest.mark.parametrize(
    ("config", "change", "record", "message"),
    [
        (WEIGHTS, first_pickled, "data/weights/weight_0", "it declares a pickled payload, 'weight'"),
        (CONSTANTS, opaque, "data/constants/opaque_obj_0", "it declares a pickled payload, 'evil'"),
        (CONSTANTS, custom, "data/constants/custom_obj_0", r"its constant 'evil' is a custom object \(custom_obj_0\)"),
        (None, None, "data/weights/model.pt", r"its weights are pickled \(data/weights/model\.pt\)"),
    ],
)
def test_pickles_are_refused_before_they_are_read(
    config: str | None, change: Any, record: str, message: str, plain: Path, tmp_path: Path
) -> None:
    mark, evil = tmp_path / "was-here", tmp_path / "evil.pt2"
    raw = pickle.dumps(Payload(mark)) if "opaque" in record else pickled(Payload(mark))
    rewrite(plain, evil, {record: None, **({config: in_json(change)} if config else {})}, {record: raw})
    with pytest.raises(
        ValueError, match=rf"The torch\.export archive .*evil\.pt2 is refused: {message}.* Nothing of it was"
    ):
        load_exported(evil)
    assert not mark.exists()
    torch_loads(evil)
    # Custom objects are for torch's C++ unpickler, opaque ones for torch 2.12 and later; the others were live.
    assert mark.exists() == (change is not custom and (change is not opaque or torch.__version__ >= (2, 12)))


def test_example_inputs_are_replaced_not_read(plain: Path, tmp_path: Path) -> None:
    mark, evil = tmp_path / "was-here", tmp_path / "evil.pt2"
    rewrite(plain, evil, {"data/sample_inputs/model.pt": lambda _: pickled(Payload(mark))})
    module = load_exported(evil)
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(images), network()(images))
    assert not mark.exists()
    torch_loads(evil)
    assert mark.exists()


def called(model: Any, target: str, arguments: dict[str, Any]) -> None:
    """Let the graph call something before all else."""
    graph = model["graph_module"]["graph"]
    node = {
        "target": target,
        "inputs": [{"name": name, "arg": value, "kind": 1} for name, value in arguments.items()],
        "outputs": [{"as_tensor": {"name": "evil"}}],
        "metadata": {},
        "is_hop_single_tensor_return": None,
        "name": "evil",
    }
    graph["nodes"].insert(0, node)
    graph["tensor_values"]["evil"] = graph["tensor_values"]["input"]


def by_system(model: Any, mark: Path) -> None:
    called(model, "torch.os.system", {"command": {"as_string": f"touch {mark}"}})


def by_file(model: Any, mark: Path) -> None:
    arguments = {"filename": {"as_string": str(mark)}, "shared": {"as_bool": True}, "size": {"as_int": 4}}
    called(model, "torch.ops.aten.from_file.default", arguments)


def in_size(model: Any, mark: Path) -> None:
    size = model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0]["as_expr"]
    size["expr_str"] = f"__import__('pathlib').Path({str(mark)!r}).touch() or {size['expr_str']}"


def in_guard(model: Any, mark: Path) -> None:
    model["guards_code"].append(f"__import__('pathlib').Path({str(mark)!r}).touch() is None")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (by_file, r"it calls 'torch\.ops\.aten\.from_file\.default', which opens files"),
        (by_system, r"it calls 'torch\.os\.system', which is no operator of torch"),
        (in_size, "it has a size that is no arithmetic, .*__import__"),
        (in_guard, "it has a size that is no arithmetic, .*__import__"),
    ],
)
def test_text_that_would_be_run_is_refused(change: Any, message: str, plain: Path, tmp_path: Path) -> None:
    mark, evil = tmp_path / "was-here", tmp_path / "evil.pt2"
    rewrite(plain, evil, {"models/model.json": in_json(lambda model: change(model, mark))})
    with pytest.raises(ValueError, match=rf"evil\.pt2 is refused: {message}"):
        load_exported(evil)
    assert not mark.exists()
    torch_loads(evil)
    assert mark.exists() == (change is not by_system)  # torch's verifier refuses that one itself; the others were live


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"target": "torch.ops.aten.from_file.default"}, "opens files"),
        ({"target": "torch.ops.aten.save.default"}, "opens files"),
        ({"target": "torch.ops.aten.no_such.default"}, "does not know here"),
        ({"target": "torch.ops.aten.__class__.mro"}, "does not know here"),
        ({"target": "torch.ops.mine.evil.default"}, "no operator of torch"),
        ({"as_operator": "torch.load"}, "no operator of torch"),
        ({"target": "_operator.methodcaller"}, "no operator of torch"),
        ({"name": "x; import os"}, "a name that is none"),
        ({"forward_arg_names": ["torch.nn"]}, "a name that is none"),
        ({"as_name": "import"}, "a name that is none"),
        ({"a b": 1}, "a name that is none"),
        ({"fqn": "a = b"}, "its fqn holds 'a = b', which is no name"),
        ({"expr_str": "Symbol('a b')"}, "no arithmetic"),
        ({"expr_str": "(lambda: s0)()"}, "no arithmetic"),
        ({"expr_str": "s0.__class__"}, "no arithmetic"),
        ({"expr_str": "exec('s0')"}, "no arithmetic"),
        ({"expr_str": "s0 +"}, "no arithmetic"),
        ({"expr_str": "9**9**9**9"}, "no arithmetic"),
        ({"expr_str": "Pow(Integer(9), Pow(Integer(9), Integer(9)))"}, "no arithmetic"),
        ({"guards_code": ["L['x'].numpy()"]}, "no arithmetic"),
        ({"guards_code": ["torch.load('x')"]}, "no arithmetic"),
        ({"guards_code": ["L['\"'].size()[0] == 1"]}, "no arithmetic"),
        ({"out_spec": '[1, {"type": "my.Class", "context": "null", "children_spec": []}]'}, "of the class my.Class"),
        (
            {"out_spec": '[1, {"type": "builtins.dict", "context": "[{\\"__enum__\\": true}]", "children_spec": []}]'},
            "keys that are no names",
        ),
    ],
)
def test_the_graph_holds_operators_names_and_arithmetic(content: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        check_graph({"graph_module": [content]})


def test_ordinary_graphs_pass_and_lose_their_metadata() -> None:
    content = {
        "target": "torch.ops.aten.__and__.Tensor",
        "as_operator": "_operator.floordiv",
        "metadata": {"stack_trace": "File 'x', line 1; anything"},
        "expr_str": "FloorDiv(Mul(Pow(Symbol('s0', positive=True), Integer(-1)), Symbol('s1')), Integer(4))",
        "guards_code": ["(((-1)*L['x'].size()[2]) + torch.sym_max(8, L['x'].size()[2] // 4)) == 0"],
        "as_string": "any text; quoted where it is used",
        "torch_version": "2.14.1+cu130",
        "fqn": "encoder.0@1",
    }
    assert check_graph(content) == content | {"metadata": {}}
