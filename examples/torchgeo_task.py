"""The SemanticSegmentationTask of torchgeo; batches are dicts, and its data module normalises them on the device."""

import lightning as L
from photographs import fields
from torchgeo.datamodules import NonGeoDataModule
from torchgeo.datasets import NonGeoDataset
from torchgeo.trainers import SemanticSegmentationTask

from mia_lightning import MembershipAudit


class Fields(NonGeoDataset):
    def __init__(self, split):
        self.images, self.masks = (part[split == "val" :: 2] for part in fields())

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "mask": self.masks[index]}


L.seed_everything(0)
task = SemanticSegmentationTask(backbone="resnet18", in_channels=1, num_classes=2)
datamodule = NonGeoDataModule(Fields, batch_size=8)

audit = MembershipAudit(members=Fields("train"), nonmembers=Fields("val"), every_n_epochs=7)
trainer = L.Trainer(max_epochs=14, callbacks=[audit])
trainer.fit(task, datamodule=datamodule)
print(*audit.history, sep="\n")
