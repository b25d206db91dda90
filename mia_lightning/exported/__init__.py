"""Exported models, whatever wrote them: TorchScript, ``torch.export`` and ONNX files as modules for the auditor."""

import zipfile
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from mia_lightning.exported.network import ExportedNetwork
from mia_lightning.exported.onnx import OnnxNetwork, onnx_layout
from mia_lightning.exported.program import BROKEN_ARCHIVE, ProgramNetwork, records_of
from mia_lightning.exported.script import ScriptNetwork

Kind = Literal["torchscript", "torch_export", "onnx"]

_NETWORKS: dict[Kind, type[ExportedNetwork]] = {
    "torchscript": ScriptNetwork,
    "torch_export": ProgramNetwork,
    "onnx": OnnxNetwork,
}
_EXPECTED = "expected a TorchScript archive, a torch.export archive or an ONNX file"


def load_exported(path: str | Path, *, kind: Kind | None = None) -> nn.Module:
    """Load an exported model as a module ``input -> prediction``, ready for :meth:`mia_lightning.Auditor.run`.

    What the file holds tells its kind, not its name. The module takes batches of any size, even where the export takes
    one only, converts images to the export's number format, moves between devices, and can be copied to other
    processes, which read the file again. What each kind asks of your trust:

    - ``torch.export``: nothing is unpickled, and no text of the archive is run as Python; archives that would need
      either are refused.
    - TorchScript: the archive is a program. It runs in torch's interpreter, not in Python, but may use any operator,
      and some write files.
    - ONNX: the graph runs on onnxruntime's own operators; no libraries of operators are loaded, and weights are read
      only from the file's folder.

    Args:
        path: The file.
        kind: ``"torchscript"``, ``"torch_export"`` or ``"onnx"`` to accept that kind only; None accepts all.

    Returns:
        The module, in eval mode on the CPU. It returns a tensor; of several outputs, a dict by name where the file
        names them (ONNX), else what the export returns, for ``output_key`` to choose from.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If an ONNX file is given and onnxruntime 1.24 or newer is not installed.
        ValueError: If the file is none of the three, damaged or refused, or the model does not take one image.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "model.pt2"
        >>> program = torch.export.export(nn.Sigmoid(), (torch.zeros(2, 3, 8, 8),))
        >>> torch.export.save(program, file)
        >>> load_exported(file)(torch.zeros(5, 3, 8, 8)).shape  # exported for batches of 2
        torch.Size([5, 3, 8, 8])
    """
    path = Path(path)
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(f"Unknown kind {kind!r}; choose one of {', '.join(get_args(Kind))}, or None to accept all.")
    found = kind_of(path)
    if kind is not None and found != kind:
        raise ValueError(f"{path} is of the kind {found!r}, expected {kind!r}; give the other file, or leave out kind.")
    return _NETWORKS[found](path).eval()


def kind_of(path: str | Path) -> Kind:
    """Tell what an exported model is by what the file holds, not by its name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none of the three kinds, or cut off.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, {_EXPECTED}; give the file itself.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; {_EXPECTED}.")
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        layout = onnx_layout(file)
    if head == b"PK\x03\x04":
        return _kind_of_archive(path)
    if layout == "whole":
        return "onnx"
    if layout == "cut":
        raise ValueError(f"{path} begins as an ONNX file but is cut off; copy it again.")
    if head[:1] == b"\x80":
        raise ValueError(f"{path} is a pickle, {_EXPECTED}. {_NO_CHECKPOINT}")
    raise ValueError(
        f"{path} begins with {head!r}: it is none of the known kinds, {_EXPECTED}; export the model as one."
    )


_NO_CHECKPOINT = (
    "Weights alone do not say what network they belong to, and pickles are not read: audit a Lightning checkpoint "
    "with `mia-lightning audit --model <class> --ckpt_path <file>`, or load the weights into the model in Python and "
    "export it or give it to Auditor.run."
)


def _kind_of_archive(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            root, records = records_of(archive)
            pt2 = "archive_format" in records and archive.read(root + "archive_format") == b"pt2"
    except RuntimeError as error:  # what zipfile raises for a password and for other packing
        raise ValueError(
            f"{path} is an archive that cannot be read ({error}): expected one as torch writes it, neither encrypted "
            "nor packed otherwise; export the model again."
        ) from error
    except BROKEN_ARCHIVE as error:
        raise ValueError(f"{path} begins as an archive but is cut off or damaged ({error}); copy it again.") from error
    if pt2:
        return "torch_export"
    if "constants.pkl" in records and any(name.startswith("code/") for name in records):
        return "torchscript"
    if "serialized_exported_program.json" in records:
        raise ValueError(
            f"{path} is a torch.export archive of torch before 2.8, which pickles its weights, and pickles are not "
            "read; export the model again with torch 2.9 or newer."
        )
    if "data.pkl" in records:
        raise ValueError(f"{path} holds weights or a checkpoint and no network, {_EXPECTED}. {_NO_CHECKPOINT}")
    raise ValueError(
        f"{path} is an archive of {', '.join(sorted(records)[:3]) or 'nothing'}, {_EXPECTED}; export the model as one."
    )
