"""Images normalised with ImageNet statistics in the data set: mean and std let the audit see them as images."""

import lightning as L
import segmentation_models_pytorch as smp
from photographs import depth
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchvision.transforms.functional import normalize

from mia_lightning import MembershipAudit

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Segmenter(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = smp.Unet("resnet18", 3, encoder_weights=None, decoder_channels=(64, 32, 16), classes=4)

    def forward(self, image):
        return self.model(image)

    def training_step(self, batch, batch_idx):
        return cross_entropy(self(batch[0]), batch[1], ignore_index=255)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return Adam(self.parameters(), 1e-3)


L.seed_everything(0)
images, masks = depth()
train_set, held_out_set = random_split(TensorDataset(normalize(images, MEAN, STD), masks), [0.5, 0.5])
audit = MembershipAudit(members=train_set, nonmembers=held_out_set, mean=MEAN, std=STD, every_n_epochs=12)
trainer = L.Trainer(max_epochs=24, callbacks=[audit])
trainer.fit(Segmenter(), DataLoader(train_set, 8, shuffle=True), DataLoader(held_out_set, 8))
print(*audit.history, sep="\n")
