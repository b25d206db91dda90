"""A MONAI network; batches are dicts of MetaTensors. Float masks of zeros and ones ask for task="segmentation"."""

import lightning as L
import torch
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import EnsureTyped
from photographs import vessels

from mia_lightning import MembershipAudit


class Segmenter(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = UNet(spatial_dims=2, in_channels=3, out_channels=1, channels=(16, 32, 64), strides=(2, 2))
        self.loss = DiceCELoss(sigmoid=True)

    def forward(self, image):
        return self.model(image)

    def training_step(self, batch, batch_idx):
        return self.loss(self(batch["image"]), batch["label"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(self(batch["image"]), batch["label"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 3e-3)


L.seed_everything(0)
data = [{"image": image, "label": label} for image, label in zip(*vessels(), strict=True)]
train_set, held_out_set = (Dataset(half, EnsureTyped(["image", "label"])) for half in (data[::2], data[1::2]))

audit = MembershipAudit(members=train_set, nonmembers=held_out_set, task="segmentation", every_n_epochs=20)
trainer = L.Trainer(max_epochs=40, callbacks=[audit])
trainer.fit(Segmenter(), DataLoader(train_set, batch_size=8, shuffle=True), DataLoader(held_out_set, batch_size=8))
print(*audit.history, sep="\n")
