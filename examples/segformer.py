"""A SegFormer of transformers, trained with pytorch_lightning; batches are dicts of pixel_values and labels."""

import pytorch_lightning as pl
import torch
from photographs import depth
from torch.utils.data import DataLoader, random_split
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from mia_lightning import MembershipAudit


class Segmenter(pl.LightningModule):
    def __init__(self):
        super().__init__()
        sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 32, 64], "decoder_hidden_size": 32}
        self.model = SegformerForSemanticSegmentation(SegformerConfig(num_labels=4, **sizes))

    def forward(self, pixel_values, labels=None):
        return self.model(pixel_values=pixel_values, labels=labels)  # a ModelOutput, with logits of a quarter's size

    def training_step(self, batch, batch_idx):
        return self(**batch).loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self(**batch).loss)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 2e-3)


pl.seed_everything(0)
scenes = [{"pixel_values": image, "labels": mask} for image, mask in zip(*depth(), strict=True)]
train_set, held_out_set = random_split(scenes, [0.5, 0.5])

audit = MembershipAudit(members=train_set, nonmembers=held_out_set, every_n_epochs=12)
trainer = pl.Trainer(max_epochs=24, callbacks=[audit])
trainer.fit(Segmenter(), DataLoader(train_set, 8, shuffle=True), DataLoader(held_out_set, 8))
print(*audit.history, sep="\n")
