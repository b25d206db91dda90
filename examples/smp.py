"""A network of segmentation-models-pytorch in a LightningModule of your own; batches are (image, mask)."""

import lightning as L
import segmentation_models_pytorch as smp
import torch
from photographs import depth
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

from mia_lightning import MembershipAudit


class Segmenter(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = smp.Unet("resnet18", 3, encoder_weights=None, decoder_channels=(64, 32, 16), classes=4)

    def forward(self, image):
        return self.model(image)

    def training_step(self, batch, batch_idx):
        image, mask = batch
        return cross_entropy(self(image), mask, ignore_index=255)

    def validation_step(self, batch, batch_idx):
        image, mask = batch
        self.log("val_loss", cross_entropy(self(image), mask, ignore_index=255))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


L.seed_everything(0)
train_set, held_out_set = random_split(TensorDataset(*depth()), [0.5, 0.5])

audit = MembershipAudit(members=train_set, nonmembers=held_out_set, every_n_epochs=12)
trainer = L.Trainer(max_epochs=24, callbacks=[audit])
trainer.fit(Segmenter(), DataLoader(train_set, 8, shuffle=True), DataLoader(held_out_set, 8))
print(*audit.history, sep="\n")
