"""An exported model for the command line and the trainer: audited, not trained."""

from typing import Any

from torch import Tensor

from mia_lightning.exported import load_exported
from mia_lightning.functional.batches import BatchReader
from mia_lightning.lightning_packages.bases import Callback
from mia_lightning.lightning_packages.loaded import FITTING
from mia_lightning.models.audited_module import AuditedModule


class ExportedModel(AuditedModule):
    """A TorchScript, ``torch.export`` or ONNX file as a LightningModule.

    ``mia-lightning audit --model ExportedModel --model.path model.onnx --data ...`` audits it as any other model. It
    brings its weights, so there is no checkpoint to give. What is trusted with each kind of file:
    :func:`~mia_lightning.exported.load_exported`.

    Args:
        path: The file.
        audit: Whether to bring a default ``MembershipAudit``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If an ONNX file is given and onnxruntime 1.24 or newer is not installed.
        ValueError: If the file is no exported model, or is damaged or refused.
    """

    brings_weights = True
    """There is no checkpoint to load: the file holds the weights."""

    def __init__(self, path: str, audit: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = load_exported(path)

    def forward(self, image: Tensor) -> Any:
        """Run the exported model on (B, C, H, W), in the range that it was trained on; return what it returns."""
        return self.network(image)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Do nothing: what there is to measure, the audit measures after the epoch."""

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """Run the exported model on a batch, with or without targets."""
        return self(BatchReader().input(batch))

    def configure_callbacks(self) -> list[Callback]:
        """Add the default audit, and refuse to be trained.

        Raises:
            TypeError: If the trainer is to fit.
        """
        if self.trainer.state.fn == FITTING:
            raise TypeError(
                f"{self.hparams['path']} is an exported model: it can be audited but not trained. Use "
                "`mia-lightning audit` or trainer.validate, or train the model that it was exported from."
            )
        return super().configure_callbacks()
