"""A model that returns a dict of several predictions: output_key names the one to audit."""

import lightning as L
import segmentation_models_pytorch as smp
import torch
from photographs import depth
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

from mia_lightning import MembershipAudit


class Segmenter(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = smp.Unet("resnet18", 3, encoder_weights=None, decoder_channels=(64, 32, 16), classes=5)

    def forward(self, image):
        layers, unknown = self.model(image).split([4, 1], 1)
        return {"layers": layers, "unknown": unknown}

    def training_step(self, batch, batch_idx):
        output, mask = self(batch[0]), batch[1]
        unknown = binary_cross_entropy_with_logits(output["unknown"], (mask == 255)[:, None].float())
        return cross_entropy(output["layers"], mask, ignore_index=255) + unknown

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


L.seed_everything(0)
train_set, held_out_set = random_split(TensorDataset(*depth()), [0.5, 0.5])

audit = MembershipAudit(members=train_set, nonmembers=held_out_set, output_key="layers", every_n_epochs=12)
trainer = L.Trainer(max_epochs=24, callbacks=[audit])
trainer.fit(Segmenter(), DataLoader(train_set, 8, shuffle=True), DataLoader(held_out_set, 8))
print(*audit.history, sep="\n")
