"""No last batch of one sample in training; otherwise the batches of a loader as they are."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from lightning_package import LightningModule, Trainer
from torch.utils.data import DataLoader, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from mia_lightning.data.training_loader import TrainingLoader


@pytest.mark.parametrize("size", range(1, 6))
@pytest.mark.parametrize("count", range(1, 14))
@pytest.mark.parametrize("workers", [0])
def test_every_sample_once_in_the_order_of_before_and_none_alone(count: int, size: int, workers: int) -> None:
    torch.manual_seed(3)
    plain = [batch.tolist() for batch in DataLoader(range(count), size, shuffle=True)]
    drawn = torch.get_rng_state()
    torch.manual_seed(3)
    loader = TrainingLoader(range(count), size, shuffle=True, num_workers=workers)
    joined = [batch.tolist() for batch in loader]
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [*chain.from_iterable(joined)] == [*chain.from_iterable(plain)]
    assert len(joined) == len(loader)
    if count > 1 and size > 1 and count % size == 1:
        assert joined == [*plain[:-2], plain[-2] + plain[-1]]
    else:
        assert joined == plain


def test_dropping_the_last_batch_still_drops_it() -> None:
    assert [len(b) for b in TrainingLoader(range(9), 4, drop_last=True)] == [4, 4]


def test_workers_read_the_same() -> None:
    loader = TrainingLoader(range(9), 4, num_workers=2)
    assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]


def test_the_share_of_a_process_has_no_batch_of_one() -> None:
    """Lightning puts a sampler of its own into the loader where there are several processes."""
    from lightning.fabric.utilities.data import _update_dataloader

    sampler = DistributedSampler(range(10), num_replicas=2, rank=1, shuffle=False)  # type: ignore[arg-type]  # it only asks for the length
    loader = _update_dataloader(TrainingLoader(range(10), 4, sampler=SequentialSampler(range(10))), sampler)
    assert isinstance(loader, TrainingLoader)
    assert [batch.tolist() for batch in loader] == [[1, 3, 5, 7, 9]]
    assert len(loader) == 1


def test_a_trainer_counts_the_joined_batches(tmp_path) -> None:
    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.sizes = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.BatchNorm1d(2)), []

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            self.sizes.append(len(batch))
            return self.layer(batch[:, None].float()).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Module()
    Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    ).fit(module, TrainingLoader(range(9), 4))
    assert module.sizes == [4, 5, 4, 5]
