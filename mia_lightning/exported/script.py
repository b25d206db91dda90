"""TorchScript archives as modules."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mia_lightning.exported.network import ExportedNetwork, check_one_input, warn_of_training_mode

_TRAINING_ARGUMENTS = {"aten::dropout": ("dropout", 2), "aten::batch_norm": ("batch norm", 5)}


class ScriptNetwork(ExportedNetwork):
    """A TorchScript archive.

    The archive's code runs in torch's own interpreter, not in Python, and its data are read by torch's C++ unpickler,
    which builds tensors and containers only. That code may still use any operator, those that read and write files
    among them: load archives only from whom you would take a program.

    A scripted model obeys ``eval()``; a trace does where its training flag was not traced as a constant, and a warning
    says where it was. A trace keeps the sizes and devices that Python computed while tracing.

    Raises:
        ValueError: If torch cannot read it, or the model takes several inputs.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        network = self._load(torch.device("cpu"))
        needed = [a.name for a in network.forward.schema.arguments[1:] if not a.has_default_value()]
        check_one_input(needed, self.path.name)
        warn_of_training_mode(self.path.name, _stuck(network))
        # A frozen archive has no training flag and no parameters; as a submodule it would break whoever reads them.
        self._frozen = [network] if not hasattr(network, "training") else []
        self.network = None if self._frozen else network
        self._frozen_on = torch.device("cpu")

    def input_dtype(self) -> torch.dtype | None:
        """Archives do not declare a format; that of the weights is what they compute in."""
        return self.weight_dtype()

    def call(self, input: Tensor) -> Any:
        """Run the archive's ``forward``."""
        if self.network is not None:
            return self.network(input)
        if self._frozen_on != self.device:
            self._frozen, self._frozen_on = [self._load(self.device)], self.device
        return self._frozen[0](input)

    def _load(self, device: torch.device) -> Any:
        with warnings.catch_warnings():
            # torch deprecates writing such archives; reading those that exist is the point here.
            warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
            try:
                return torch.jit.load(str(self.path), map_location=device)  # type: ignore[no-untyped-call]  # has no types of its own
            except RuntimeError as error:
                raise ValueError(
                    f"torch {torch.__version__} cannot read the TorchScript archive {self.path}: "
                    f"{str(error).strip().splitlines()[0]} Copy or export it again."
                ) from error


def _stuck(network: Any) -> Iterator[str]:
    graph = network.inlined_graph
    for kind, (name, place) in _TRAINING_ARGUMENTS.items():
        for node in graph.findAllNodes(kind):
            value = list(node.inputs())[place]
            if value.node().kind() == "prim::Constant" and value.toIValue() is True:
                yield name
