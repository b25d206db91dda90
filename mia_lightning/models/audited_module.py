"""Base class of the models: it brings the audit and logs example images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torchmetrics import Metric

from mia_lightning.lightning_packages.bases import Callback, LightningModule, put_first
from mia_lightning.lightning_packages.loaded import classes
from mia_lightning.membership.export_entry import add_entry
from mia_lightning.membership.record import MembershipSummary, summary_in
from mia_lightning.models.visualise import example_grid, to_rgb

NUM_EXAMPLES = 4
"""How many validation samples are shown."""


def check_choice(setting: str, value: str, choices: Sequence[str]) -> None:
    """Refuse an unknown name when the model is built, not epochs later when it is used.

    Raises:
        ValueError: If the value of that argument is not among the choices.
    """
    if value not in choices:
        raise ValueError(f"Unknown {setting} {value!r}; choose one of {', '.join(choices)}.")


class AuditedModule(LightningModule):
    """A LightningModule that brings its own membership audit and shows example images.

    Subclasses call ``save_hyperparameters()`` with, among their own, the hyperparameters ``audit`` (bool) and
    ``log_images_every_n_epochs`` (int, 0 for never).

    Attributes:
        brings_audit: Tells a trainer that :meth:`configure_callbacks` adds an audit where the data have two sides.
    """

    brings_audit = True
    _trained_on: MembershipSummary | None = None

    def configure_callbacks(self) -> list[Callback]:
        """Add a default audit where there is something to audit and nobody audits yet.

        Lightning lets a model's callback *replace* one of the same type in the trainer, so with an audit of the user's
        own in the trainer this returns nothing.

        Returns:
            One ``MembershipAudit`` if ``audit`` is on, the datamodule offers ``audit_dataloaders()`` and the trainer
            has no ``MembershipAudit``; otherwise an empty list.
        """
        put_first(self.trainer)
        datamodule = getattr(self.trainer, "datamodule", None)
        if not self.hparams["audit"] or not callable(getattr(datamodule, "audit_dataloaders", None)):
            return []
        # Not at the top of the file: whoever trains without the audit need not load it.
        from mia_lightning.audit.config import settings_of
        from mia_lightning.callbacks.membership_audit import MembershipAudit

        if any(isinstance(callback, MembershipAudit) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]  # set by Lightning at run time
            return []
        return [MembershipAudit(**settings_of(self))]

    def on_validation_epoch_start(self) -> None:
        """Start validation with metrics that can be updated.

        ``Trainer.validate`` resets them in inference mode, and what was made there cannot be changed in a later fit.
        """
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.reset()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember what a checkpoint says of the members of its training, which exports go on saying."""
        self._trained_on = summary_in(checkpoint)

    def to_onnx(self, file_path: Any = None, *args: Any, **options: Any) -> Any:
        """Export as Lightning does; the file says who decided on members as checkpoints do, and names no sample."""
        program = super().to_onnx(file_path, *args, **options)
        self._mark(file_path)
        return program

    def to_torchscript(self, file_path: Any = None, *args: Any, **options: Any) -> Any:
        """Likewise."""
        script = super().to_torchscript(file_path, *args, **options)
        self._mark(file_path)
        return script

    def _mark(self, path: Any) -> None:
        """Write what is known of the members of the training into an exported file."""
        trained_on = self._trained_on
        if self._trainer is not None:  # this training's, rather than that of a checkpoint loaded before
            from mia_lightning.callbacks.membership_audit import MembershipAudit

            audits = [c for c in self.trainer.callbacks if isinstance(c, MembershipAudit)]  # type: ignore[attr-defined]  # set by Lightning at run time
            trained_on = next((a.trained_on for a in audits if a.trained_on is not None), trained_on)
        if trained_on is not None and isinstance(path, (str, Path)):
            add_entry(path, trained_on)

    def audit_settings(self) -> dict[str, Any]:
        """Fields of :class:`~mia_lightning.AuditConfig` for the default audit: the keys that training reads batches by.

        Others are refused.
        """
        keys = {name: self.hparams.get(name) for name in ("input_key", "target_key")}
        return {name: key for name, key in keys.items() if key is not None}

    def example_images(self, images: Tensor) -> Tensor:
        """Turn inputs, targets or outputs of this model, (B, ...), into RGB images, (B, 3, H, W), in [0, 1]."""
        return to_rgb(images)

    def log_examples(self, batch_idx: int, *columns: Tensor) -> None:
        """Show the first validation samples in TensorBoard, one row each; other loggers are left alone.

        Draws no random number, so that a run with images is the run without.

        Args:
            batch_idx: Only the first batch of a validation run is shown.
            columns: Input, target and output, (B, ...) each.
        """
        every = self.hparams["log_images_every_n_epochs"]
        due = every > 0 and (self.current_epoch + 1) % every == 0
        if batch_idx > 0 or not due or self.trainer.sanity_checking or not self.trainer.is_global_zero:
            return
        boards = [logger for logger in self.loggers if isinstance(logger, classes("loggers.TensorBoardLogger"))]
        if not boards:
            return
        # Drawing needs matplotlib, which a model without pictures need not load.
        from mia_lightning.sinks.base import logged_step

        grid = example_grid(*(self.example_images(column[:NUM_EXAMPLES]) for column in columns))
        for board in boards:
            board.experiment.add_image("val/input_target_output", grid, global_step=logged_step(self.trainer))
