"""Writing models as ONNX, TorchScript and ``torch.export`` files, each tried against the model before it is kept."""

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
import torch.fx
from torch import Tensor, nn

from mia_lightning.exported import load_exported
from mia_lightning.functional.descriptions import describe

ExportFormat = Literal["onnx", "torchscript", "export"]
SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "torchscript": ".ts", "export": ".pt2"}
TOLERANCE = 1e-3
"""Largest difference of an output, as a share of the largest output (at least 1), between a model and its export."""

_LARGEST_ONNX = 1_900_000_000  # bytes of weights in one file, whose format ends at two gigabytes
_Predict = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Export:
    """A file that was written.

    Attributes:
        path: The file.
        format: Its format.
        input_shape: Shape of one input that it takes, (C, H, W).
        any_batch: Whether it takes batches of any size; otherwise single inputs, which whoever audits it need not mind.
        difference: Largest difference of its outputs from those of the model, on inputs drawn at random.
    """

    path: Path
    format: ExportFormat
    input_shape: tuple[int, ...]
    any_batch: bool
    difference: float

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.input_shape))
        batches = "of any size" if self.any_batch else "of one"
        return (
            f"{self.path}: takes batches {batches}, inputs of {shape}; its outputs differ from the model's by at most "
            f"{self.difference:.1e}."
        )


class _Predictor(nn.Module):
    """The part of a model that answers: its prediction alone, of an input alone."""

    def __init__(self, module: nn.Module, predict: _Predict) -> None:
        super().__init__()
        self.module, self._predict = module, predict

    def forward(self, image: Tensor) -> Tensor:
        return self._predict(self.module, image)


def write_export(
    module: nn.Module, path: str | Path, format: ExportFormat, input_shape: tuple[int, ...], *, predict: _Predict
) -> Export:
    """Export a model, run the file beside the model on inputs drawn at random, and keep it where both agree.

    The file holds what the prediction needs and no more: parts of the model that are not called for it, such as the
    discriminator of a GAN and metrics with their states, are left out. No data go into it.

    Args:
        module: The model, in any mode; left as it was. It is exported in evaluation mode, on the CPU.
        path: The file; a missing folder is made.
        format: ``"onnx"``, ``"torchscript"`` (a trace) or ``"export"`` (``torch.export``).
        input_shape: Shape of one input, without the batch: (C, H, W).
        predict: Calls the module on an input, (B, ...), and returns its prediction, (B, ...).

    Raises:
        FileExistsError: If there is a file of that name.
        ImportError: If the format needs a package that is not installed.
        ValueError: If the model does not take such inputs, cannot be exported, or the export answers otherwise.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "model.pt2"
        >>> export = write_export(nn.Sigmoid(), file, "export", (3, 8, 8), predict=lambda module, image: module(image))
        >>> export.any_batch, export.difference, load_exported(file)(torch.zeros(2, 3, 8, 8)).shape
        (True, 0.0, torch.Size([2, 3, 8, 8]))
    """
    path = Path(path)
    if format not in get_args(ExportFormat):
        raise ValueError(f"Unknown format {format!r}; choose one of {', '.join(get_args(ExportFormat))}.")
    if path.exists():
        raise FileExistsError(f"{path} exists already, and exports do not replace files: name another with --output.")
    _require_packages(format)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.rand(count, *input_shape, generator=generator) for count in (2, 3, 1)]
    with _quiet(), torch.no_grad():
        predictor = _Predictor(copy.deepcopy(module).cpu().float().eval(), predict)
        expected = _answers(predictor, inputs)
        predictor = _without_idle_parts(predictor, inputs[0], expected[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            file, reasons = Path(folder) / path.name, []
            for example in (inputs[0], inputs[2]):  # of two, so that the size of a batch is left open; else of one
                try:
                    _WRITERS[format](predictor, example, file)
                    difference = _difference(file, inputs, expected)
                except Exception as error:  # exporters raise what they like
                    reasons.append(error)
                    continue
                file.replace(path)
                return Export(path, format, tuple(input_shape), len(example) > 1, difference)
    reason = next((r for r in reasons if isinstance(r, _DiffersError)), reasons[-1])
    text = " ".join(str(reason).split())
    others = " or ".join(f"--format {other}" for other in get_args(ExportFormat) if other != format)
    raise ValueError(
        f"The model cannot be exported as {format} ({text[:300] or type(reason).__name__}). Try {others}."
    ) from reason


class _DiffersError(ValueError):
    """An export answers otherwise than its model."""


def _require_packages(format: ExportFormat) -> None:
    needed = ("onnx", "onnxscript", "onnxruntime") if format == "onnx" else ()
    if missing := [name for name in needed if find_spec(name) is None]:
        verb = "is" if len(missing) == 1 else "are"
        raise ImportError(
            f"An ONNX file is written with onnx and onnxscript and tried with onnxruntime, and {' and '.join(missing)} "
            f"{verb} not installed: pip install 'mia-lightning[export]'."
        )


def _answers(predictor: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    """What the model makes of inputs; ValueError if it cannot, or answers differently the second time."""
    try:
        answers, again = ([predictor(input) for input in inputs] for _ in range(2))
    except RuntimeError as error:
        raise ValueError(
            f"The model failed on {describe(inputs[0])} ({' '.join(str(error).split())[:300]}): name the shape of one "
            "input that it takes with --input_shape, such as [3,256,256]."
        ) from error
    if any(not torch.equal(one, other) for one, other in zip(answers, again, strict=True)):
        raise ValueError(
            "The model answers the same input differently from call to call, in evaluation mode: an export of it would "
            "be another model. Remove what draws at random, or keeps a state, from its forward()."
        )
    return answers


def _without_idle_parts(predictor: _Predictor, input: Tensor, expected: Tensor) -> _Predictor:
    """Leave out the modules that are not called; all stay where the rest answers otherwise, or not at all."""
    reduced, called = copy.deepcopy(predictor), set()
    for module in reduced.modules():
        module.register_forward_pre_hook(lambda module, _: called.add(module))
    reduced(input)

    def reduce(parent: nn.Module) -> None:
        for name, child in list(parent.named_children()):
            if called.isdisjoint(child.modules()):
                parent._modules[name] = nn.Identity()  # keeps the places of those that follow in a list
            else:
                reduce(child)

    reduce(reduced)
    for module in reduced.modules():
        module._forward_pre_hooks.clear()
    try:
        return reduced if torch.equal(reduced(input), expected) else predictor
    except Exception:  # a weight is used without a call of the module that has it
        return predictor


def _difference(file: Path, inputs: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of what a file makes of inputs from what is expected; ValueError where it is too large."""
    exported, largest = load_exported(file), 0.0
    for input, answer in zip(inputs, expected, strict=True):
        found = exported(input)
        if not isinstance(found, Tensor) or found.shape != answer.shape:
            raise _DiffersError(f"the export returns {describe(found)}, the model {describe(answer)}")
        scale = max(1.0, float(answer.abs().max()))
        difference = float((found.float() - answer.float()).abs().max())
        if not difference <= TOLERANCE * scale:
            raise _DiffersError(f"the export's outputs differ from the model's by up to {difference:.3g}")
        largest = max(largest, difference)
    return largest


def _write_onnx(predictor: nn.Module, example: Tensor, file: Path) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in predictor.state_dict().values())
    if size > _LARGEST_ONNX:
        raise ValueError(f"the weights have {size:,} bytes, and one ONNX file holds at most {_LARGEST_ONNX:,}")
    program: Any = torch.onnx.export(
        predictor, (example,), input_names=["image"], dynamo=True, dynamic_shapes=_open_batch(example), verbose=False
    )
    for graph in (program.model.graph, *program.model.functions.values()):
        for node in graph:
            node.metadata_props.clear()  # lines of the source, with paths of this machine
    program.save(str(file), external_data=False)  # one file, which is complete wherever it is copied


def _write_script(predictor: nn.Module, example: Tensor, file: Path) -> None:
    for module in predictor.modules():
        if hasattr(type(module), "_jit_is_scripting"):  # a LightningModule, whose properties ask for its trainer
            cast(Any, module)._jit_is_scripting = True
    torch.jit.trace(predictor, example, check_trace=False).save(str(file))  # type: ignore[no-untyped-call]  # has no types of its own


def _write_program(predictor: nn.Module, example: Tensor, file: Path) -> None:
    program = torch.export.export(predictor, (example,), dynamic_shapes=_open_batch(example), strict=False)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # lines of the source, with paths of this machine
    torch.export.save(program, file)


def _open_batch(example: Tensor) -> tuple[dict[int, Any]] | None:
    return ({0: torch.export.Dim("batch", min=1, max=65536)},) if len(example) > 1 else None


_WRITERS: dict[ExportFormat, Callable[[nn.Module, Tensor, Path], None]] = {
    "onnx": _write_onnx,
    "torchscript": _write_script,
    "export": _write_program,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters deprecate each other and comment on every size that they take as fixed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
