"""Programs that import one of the two packages: the other stays out, and goes on with what one has written."""

import subprocess
import sys

import pytest

SCRIPT = '''
import multiprocessing, pickle, sys
from pathlib import Path

# As isort has it for "from pytorch_lightning import ...": the callback is imported before the program chooses.
from mia_lightning import MembershipAudit, PredictabilityScorer


def child(audit):
    """What a spawned process gets."""
    import pytorch_lightning

    assert type(audit) is MembershipAudit and isinstance(audit, pytorch_lightning.Callback)
    assert "lightning" not in sys.modules
    print("child", audit.state_key)


def main(name, other, folder, resumed):
    import torch

    x = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    pairs = [(image, 1 - image, str(i)) for i, image in enumerate(x)]
    scorer = PredictabilityScorer(torch.nn.Identity(), grid=4)

    def make():
        return MembershipAudit(pairs[:6], pairs[6:], scorer=scorer, verbose=False)

    early = make()
    assert early.state_key == "MembershipAudit{'prefix': 'audit'}"
    assert not {"lightning", "pytorch_lightning"} & set(sys.modules), "neither is imported for the callback"
    if name == "pytorch_lightning":
        import pytorch_lightning as pl
    else:
        import lightning.pytorch as pl
    audit = make() if resumed else early
    for one in (early, make()):
        assert isinstance(one, pl.Callback) and type(one) is MembershipAudit

    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, image):
            return self.layer(image).sigmoid()

        def training_step(self, batch, batch_idx):
            return (self(batch[0]) - batch[1]).abs().mean()

        def validation_step(self, batch, batch_idx):
            self.log("val/loss", self.training_step(batch, batch_idx), batch_size=3)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    stopping = pl.callbacks.EarlyStopping("audit/auc", mode="min", patience=9, check_finite=False)
    saving = pl.callbacks.ModelCheckpoint(
        folder, "saved", monitor="audit/auc", mode="min", enable_version_counter=False
    )
    board = pl.loggers.TensorBoardLogger(folder, "board", name)
    trainer = pl.Trainer(
        max_epochs=2 if resumed else 1, accelerator="cpu", callbacks=[audit, stopping, saving], logger=board,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )
    loaders = [torch.utils.data.DataLoader(side, 3) for side in (pairs[:6], pairs[6:])]
    trainer.fit(Net(), *loaders, ckpt_path=f"{folder}/saved.ckpt" if resumed else None)
    assert stopping.best_score == saving.best_model_score == min(r.auc for r in audit.history)
    events = list(Path(folder, "board", name).glob("events*"))
    assert b"audit/verdict" in b"".join(file.read_bytes() for file in events), "the sink of its TensorBoard"
    assert other.partition(".")[0] not in sys.modules
    print("epochs", [r.epoch for r in audit.history])
    if not resumed:
        process = multiprocessing.get_context("spawn").Process(target=child, args=(make(),))
        process.start()
        process.join()
        assert process.exitcode == 0


if __name__ == "__main__":
    main(*sys.argv[1:4], resumed=len(sys.argv) > 4)
'''


@pytest.mark.slow
def test_one_package_is_imported_alone_and_the_other_goes_on_with_its_checkpoint(tmp_path) -> None:
    script, names = tmp_path / "script.py", ["pytorch_lightning", "lightning.pytorch"]
    script.write_text(SCRIPT)
    printed = []
    for arguments in ([*names, tmp_path], [*reversed(names), tmp_path, "resumed"]):
        command = [sys.executable, script, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        printed.append([line for line in done.stdout.splitlines() if line.startswith(("epochs", "child"))])
    assert printed == [["epochs [0]", "child MembershipAudit{'prefix': 'audit'}"], ["epochs [0, 1]"]]
