"""Batches and outputs of a form of your own: an adapter with two methods reads them."""

import lightning as L
import segmentation_models_pytorch as smp
import torch
from photographs import depth
from torch.utils.data import DataLoader

from mia_lightning import Batch, MembershipAudit


class Segmenter(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = smp.Linknet("resnet18", 3, encoder_weights=None, classes=4, aux_params={"classes": 1})

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.model(batch["photo"])[0], batch["depth"], ignore_index=255)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


class Reader:
    def unpack(self, batch):
        return Batch(id=batch["scene"], input=batch["photo"], target=batch["depth"])

    def predict(self, module, input):
        return module.model(input)[0]


L.seed_everything(0)
scenes = [{"scene": f"scene {i}", "photo": x, "depth": y} for i, (x, y) in enumerate(zip(*depth(), strict=True))]
audit = MembershipAudit(members=scenes[::2], nonmembers=scenes[1::2], adapter=Reader(), every_n_epochs=12)
L.Trainer(max_epochs=24, callbacks=[audit]).fit(Segmenter(), DataLoader(scenes[::2], 8, True), DataLoader(scenes[1::2]))
print(*audit.history, sep="\n")
