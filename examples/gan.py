"""A GAN that paints drawings, with manual optimisation and two optimizers; batches are (drawing, photo)."""

import lightning as L
from photographs import edges
from torch import cat, nn, optim
from torch.utils.data import DataLoader, TensorDataset, random_split

from mia_lightning import MembershipAudit


class GAN(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.painter = nn.Sequential(nn.Flatten(), nn.Linear(1024, 3072), nn.Sigmoid(), nn.Unflatten(1, (3, 32, 32)))
        self.critic = nn.Sequential(nn.Conv2d(4, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 1, 4, 2, 1))

    def forward(self, drawing):
        return self.painter(drawing)

    def training_step(self, batch, batch_idx):
        (drawing, photo), made = batch, self(batch[0])
        real, fake, fooled = (self.critic(cat([drawing, x], 1)) for x in (photo, made.detach(), made))
        losses = 50 * (made - photo).abs().mean() - fooled.mean(), (1 - real).relu().mean() + (1 + fake).relu().mean()
        for optimizer, loss in zip(self.optimizers(), losses, strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def validation_step(self, batch, batch_idx): ...  # the audit runs in validation

    def configure_optimizers(self):
        return [optim.Adam(network.parameters(), 1e-3) for network in (self.painter, self.critic)]


L.seed_everything(0)
train_set, held_out_set = random_split(TensorDataset(*edges()), [0.5, 0.5])
audit = MembershipAudit(members=train_set, nonmembers=held_out_set, every_n_epochs=5)
L.Trainer(max_epochs=15, callbacks=[audit]).fit(GAN(), DataLoader(train_set, 8, True), DataLoader(held_out_set, 8))
print(*audit.history, sep="\n")
