"""ONNX files as modules, run by onnxruntime."""

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from torch import Tensor

from mia_lightning.exported.network import Declared, ExportedNetwork, Size, check_one_input
from mia_lightning.exported.onnx_graph import last_operations
from mia_lightning.functional.last_operation import declare

DTYPES = {
    "tensor(float16)": torch.float16,
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(uint8)": torch.uint8,
    "tensor(int8)": torch.int8,
    "tensor(int32)": torch.int32,
    "tensor(int64)": torch.int64,
    "tensor(bool)": torch.bool,
}
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""Fields of an ONNX ModelProto and how each is written: 0 a number, 2 with a length before it."""

_LEFT_BEHIND: list[Any] = []
"""Sessions of a parent process: ending their threads, which a fork does not copy, would hang."""


class OnnxNetwork(ExportedNetwork):
    """An ONNX file, run by onnxruntime with its own operators and no others.

    On a CUDA device it runs there if onnxruntime can (``pip install onnxruntime-gpu``), otherwise on the CPU, with as
    many threads as torch uses. Weights in files of their own are read from the model's folder only. A session is
    opened anew in every process. The graph is as it was exported: ``eval()`` changes nothing.

    Raises:
        ImportError: If onnxruntime is not installed, or older than 1.24.
        ValueError: If onnxruntime cannot run the file, it takes several inputs, or returns no tensor.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._runtime = _import_runtime(self.path.name)
        self._session: Any = None
        self._opened: tuple[int, torch.device] | None = None
        session = self.session()
        inputs = session.get_inputs()
        check_one_input([i.name for i in inputs], self.path.name)
        if inputs[0].type not in DTYPES:
            raise ValueError(
                f"{self.path.name} takes {inputs[0].type}, expected one of {', '.join(DTYPES)}; export it with one of "
                "these."
            )
        self._input = inputs[0].name
        self._operations = last_operations(self.path)
        self._outputs = [o.name for o in session.get_outputs() if o.type in DTYPES]
        if not self._outputs:
            found = ", ".join(f"{o.name}: {o.type}" for o in session.get_outputs())
            raise ValueError(
                f"{self.path.name} returns {found}, expected a tensor of numbers; export its logits or image."
            )
        # A shape of no dimensions is how onnxruntime says that it does not know.
        self.declared = Declared(DTYPES[inputs[0].type], tuple(map(_size, inputs[0].shape)) or None)

    def session(self) -> Any:
        """The onnxruntime session of this process and device, opened on first use."""
        here = (os.getpid(), self.device)
        if self._opened != here:
            if self._opened is not None and self._opened[0] != here[0]:
                _LEFT_BEHIND.append(self._session)
            self._session, self._opened = self._open(), here
        return self._session

    def call(self, input: Tensor) -> Any:
        """Run the graph; returns a tensor, or a dict by name where there are several."""
        array = input.detach().cpu().contiguous().numpy()
        found = self.session().run(self._outputs, {self._input: array})
        tensors = [torch.from_numpy(output).to(self.device) for output in found]
        for name, tensor in zip(self._outputs, tensors, strict=True):
            declare(tensor, self._operations.get(name))
        return tensors[0] if len(tensors) == 1 else dict(zip(self._outputs, tensors, strict=True))

    def _open(self) -> Any:
        runtime = self._runtime
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3  # errors are raised; warnings about the exporter's habits help nobody
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.device.type == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": self.device.index or 0}))
        try:
            return runtime.InferenceSession(str(self.path), sess_options=options, providers=providers)
        except Exception as error:
            raise ValueError(
                f"onnxruntime {runtime.__version__} cannot run {self.path}: {' '.join(str(error).split())}. A cut-off "
                "file must be copied again, with the weight files beside it that it names; operators of other "
                "libraries are not loaded: export the model with standard ones."
            ) from error


def _import_runtime(name: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"{name} is an ONNX file, which onnxruntime runs, and that is not installed: "
            "pip install 'mia-lightning[onnx]'."
        ) from error
    if tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < (1, 24):
        raise ImportError(
            f"onnxruntime {onnxruntime.__version__} is installed, expected 1.24 or newer: older ones read the weights "
            f"of {name} from wherever on this disk it says. pip install --upgrade 'mia-lightning[onnx]'."
        )
    return onnxruntime


def _size(size: int | str | None) -> Size:
    return (size, size) if isinstance(size, int) and size > 0 else (1, None)


def onnx_layout(file: BinaryIO) -> Literal["whole", "cut", "other"]:
    """Tell an ONNX model by how it is written, for the format has no mark of its own.

    Returns:
        ``"whole"`` if the fields of a model, a graph among them, fill the file; ``"cut"`` if they begin so but the
        last one runs past the end; ``"other"`` otherwise.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    fields: set[int] = set()
    while file.tell() < size:
        key = _varint(file)
        number, form = (key or 0) >> 3, (key or 0) & 7
        if key is None or _MODEL_FIELDS.get(number) != form:
            return "other" if 7 not in fields else "cut"
        fields.add(number)
        value = _varint(file)
        if value is None or (form == 2 and file.tell() + value > size):
            return "cut" if 1 in fields else "other"
        if form == 2:
            file.seek(value, os.SEEK_CUR)
    return "whole" if 7 in fields else "other"


def metadata_of(path: Path) -> dict[str, str]:
    """Names and texts that an exporter left in an ONNX file beside the graph (its ``metadata_props``).

    Raises:
        OSError: If the file cannot be read.
    """
    found: dict[str, str] = {}
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        while file.tell() < size and (key := _varint(file)) is not None and (value := _varint(file)) is not None:
            if key == 14 << 3 | 2:
                entry = _texts(file.read(value))
                found[entry.get(1, "")] = entry.get(2, "")
            elif key & 7 == 2:
                file.seek(value, os.SEEK_CUR)
    return found


def _texts(message: bytes) -> dict[int, str]:
    """Texts of a message by the numbers of their fields."""
    file, texts = io.BytesIO(message), dict[int, str]()
    while (key := _varint(file)) is not None and (size := _varint(file)) is not None:
        texts[key >> 3] = file.read(size).decode(errors="replace")
    return texts


def _varint(file: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
