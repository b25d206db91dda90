"""Binary segmentation with one logit a pixel; a mask of zeros and ones in floats asks for task="segmentation"."""

import lightning as L
import segmentation_models_pytorch as smp
import torch
from photographs import fields
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset, random_split

from mia_lightning import MembershipAudit


class Segmenter(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = smp.Linknet("resnet18", 3, encoder_weights=None, in_channels=1, classes=1)

    def forward(self, image):
        return self.model(image)

    def training_step(self, batch, batch_idx):
        image, mask = batch
        return binary_cross_entropy_with_logits(self(image), mask)

    def validation_step(self, batch, batch_idx):
        image, mask = batch
        self.log("val_loss", binary_cross_entropy_with_logits(self(image), mask))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


L.seed_everything(0)
grey, meadow = fields()
train_set, held_out_set = random_split(TensorDataset(grey / 255, meadow[:, None].float()), [0.5, 0.5])

audit = MembershipAudit(members=train_set, nonmembers=held_out_set, task="segmentation", every_n_epochs=8)
trainer = L.Trainer(max_epochs=16, callbacks=[audit])
trainer.fit(Segmenter(), DataLoader(train_set, 8, shuffle=True), DataLoader(held_out_set, 8))
print(*audit.history, sep="\n")
