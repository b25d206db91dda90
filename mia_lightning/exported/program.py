"""``torch.export`` archives as modules, loaded from a cleaned copy that cannot run code of its own."""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.node import map_aggregate
from torch.utils._pytree import tree_structure

from mia_lightning.exported.guard import Refused, check_graph
from mia_lightning.exported.network import Declared, ExportedNetwork, Size, check_one_input, warn_of_training_mode

_COPIED = re.compile(r"archive_format|archive_version|byteorder|\.data/version|version|data/(weights|constants)/\w+")
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, OSError)
"""What reading a damaged archive raises, or one that is encrypted or packed in another way (RuntimeError)."""

_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_GRAPH, _EXAMPLE = "models/model.json", "data/sample_inputs/model.pt"
_PLAIN = re.compile(r"(weight|tensor)_\d+", re.ASCII)


class ProgramNetwork(ExportedNetwork):
    """A ``torch.export`` archive, as ``torch.export.save`` writes it.

    ``torch.export.load`` unpickles what an archive declares as pickled, and evaluates text of it as Python. Here
    archives that declare pickled weights or constants are refused before loading, the example inputs (always pickled)
    are replaced, and the graph may hold nothing but operators, names and arithmetic; what was checked, not the file, is
    loaded.

    The graph is frozen as it was exported: ``eval()`` changes nothing, and a warning says where it was exported in
    training mode.

    Raises:
        ValueError: If the archive is damaged, refused, or beyond this version of torch, or takes several inputs.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        copy = clean_copy(self.path)
        with self._loading():
            program = torch.export.load(copy)
        image = self._image(program)
        with self._loading():
            self.network: Any = program.module()
        self.declared = Declared(image.dtype, tuple(_range(size, program.range_constraints) for size in image.shape))
        self._weights = self.weight_dtype()
        self._graph_device = self.device
        warn_of_training_mode(self.path.name, _stuck(program))

    def input_dtype(self) -> torch.dtype | None:
        """The declared format, unless the weights were converted since."""
        now = self.weight_dtype()
        return self.declared.dtype if now == self._weights else now

    def call(self, input: Tensor) -> Any:
        """Run the graph on the device where the weights are now.

        Raises:
            ValueError: If the graph does not hold for an input of this size.
        """
        if self._graph_device != self.device:
            self._move_graph(self.device)
        try:
            return self.network(input)
        except AssertionError as error:
            raise ValueError(
                f"{self.path.name} was not exported for inputs of shape {tuple(input.shape)} ({error}); bring the data "
                "to a size that fits (the data modules' image_size)."
            ) from error

    def train(self, mode: bool = True) -> Self:
        """Note the mode; the graph keeps its own, and cannot be switched."""
        self.training = mode
        return self

    @contextmanager
    def _loading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise ValueError(
                f"torch {torch.__version__} cannot load the torch.export archive {self.path}: "
                f"{(str(error).strip() or type(error).__name__).splitlines()[0]} Export the model again with this "
                "version of torch."
            ) from error

    def _image(self, program: Any) -> Tensor:
        names = program.graph_signature.user_inputs
        check_one_input(names, self.path.name)
        value = next(n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name == names[0])
        if not isinstance(value, Tensor) or program.call_spec.in_spec != tree_structure(((0,), {})):
            raise ValueError(
                f"{self.path.name} takes its input {names[0]!r} by keyword, in a structure or as a number, expected "
                "one image; export a model whose forward takes the image alone, given by position."
            )
        return value

    def _move_graph(self, device: torch.device) -> None:
        """Take along what a module does not move: constants, and devices that the graph names."""
        for part in self.network.modules():
            for name, value in list(vars(part).items()):
                if isinstance(value, Tensor):
                    setattr(part, name, value.to(device))
            if isinstance(part, GraphModule):
                for node in part.graph.nodes:
                    node.args, node.kwargs = map_aggregate(
                        (node.args, dict(node.kwargs)), lambda a: device if isinstance(a, torch.device) else a
                    )
                part.recompile()
        self._graph_device = device


def clean_copy(path: Path) -> io.BytesIO:
    """Copy of a ``torch.export`` archive with nothing in it that is unpickled or run.

    It has no stack traces and extra files, and a stand-in for the example inputs.

    Raises:
        ValueError: If something else in it would be unpickled or run, or it is damaged.
    """
    copy = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as cleaned:
            root, records = records_of(archive)
            _check_layout(records)
            configs = {name: json.loads(archive.read(root + name)) for name in _CONFIGS}
            for config in configs.values():
                _check_payloads(config)
            graph = check_graph(json.loads(archive.read(root + _GRAPH)))
            for name in filter(_COPIED.fullmatch, dict.fromkeys(records)):
                cleaned.writestr(f"model/{name}", archive.read(root + name))
            for name, content in {**configs, _GRAPH: graph}.items():
                cleaned.writestr(f"model/{name}", json.dumps(content))
            # Without example inputs torch leaves out the guards: a graph would answer for sizes it does not hold for.
            example = io.BytesIO()
            torch.save(((torch.zeros(1),), {}), example)
            cleaned.writestr(f"model/{_EXAMPLE}", example.getvalue())
    except Refused as refused:
        raise ValueError(
            f"The torch.export archive {path} is refused: {refused}. Nothing of it was loaded. Ask for an archive of a "
            "plain model, written by torch.export.save of torch 2.9 or newer, or for an ONNX file."
        ) from None
    except (*BROKEN_ARCHIVE, LookupError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"The torch.export archive {path} is damaged or incomplete ({type(error).__name__}: {error}); copy it "
            "again, or export the model again."
        ) from error
    copy.seek(0)
    return copy


def records_of(archive: zipfile.ZipFile) -> tuple[str, list[str]]:
    """Root folder of an archive of torch, with its slash, and the names below it."""
    names = archive.namelist()
    root = names[0].split("/")[0] + "/" if names and all("/" in n for n in names) else ""
    return root, [name.removeprefix(root) for name in names]


def _check_layout(records: list[str]) -> None:
    models = sorted(name for name in records if name.startswith("models/"))
    if models not in ([_GRAPH], []):
        raise Refused(f"it holds {', '.join(models)}, and expected is a single {_GRAPH}")
    if compiled := [name for name in records if name.startswith("data/aotinductor/")]:
        raise Refused(f"it holds compiled machine code ({compiled[0]})")
    if legacy := [n for n in records if re.fullmatch(r"data/(weights|constants)/.*\.pt", n)]:
        raise Refused(f"its weights are pickled ({legacy[0]}), as torch before 2.9 wrote them")


def _check_payloads(config: Any) -> None:
    for name, payload in config["config"].items():
        if payload["use_pickle"] is not False:
            raise Refused(f"it declares a pickled payload, {name!r}")
        if not _PLAIN.fullmatch(payload["path_name"]):
            raise Refused(
                f"its constant {name!r} is a custom object ({payload['path_name']}), which would be unpickled"
            )


def _range(size: Any, ranges: Any) -> Size:
    if isinstance(size, int):
        return size, size
    bounds = ranges.get(size.node.expr)
    if bounds is None:
        return 1, None
    low, high = (int(v) if v.is_Integer else None for v in (bounds.lower, bounds.upper))
    return max(1, low or 1), high


def _stuck(program: Any) -> Iterator[str]:
    for node in program.graph.nodes:
        operator, arguments = str(node.target), [*node.args, *[None] * 6]
        if operator == "aten.dropout.default" and arguments[2] is True:
            yield "dropout"
        if operator == "aten.batch_norm.default" and arguments[3] is not None and arguments[5] is True:
            yield "batch norm"
