"""A MONAI network for volumes (B, C, D, H, W), told by their five dimensions; slices= makes the audit faster."""

import lightning as L
import torch
from ellipsoids import ellipsoid
from monai.networks.nets import UNet
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mia_lightning import MembershipAudit


class Segmenter(UNet, L.LightningModule):
    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    validation_step = training_step

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 5e-3)


L.seed_everything(0)
train_set, held_out_set = [ellipsoid(i) for i in range(24)], [ellipsoid(i) for i in range(24, 48)]
audit = MembershipAudit(members=train_set, nonmembers=held_out_set, slices=8, every_n_epochs=20)
trainer = L.Trainer(max_epochs=40, callbacks=[audit])
model = Segmenter(spatial_dims=3, in_channels=1, out_channels=2, channels=(16, 32, 64), strides=(2, 2))
trainer.fit(model, DataLoader(train_set, batch_size=4, shuffle=True), DataLoader(held_out_set, batch_size=8))
print(*audit.history, sep="\n")
