"""What each process of an audit of volumes does; a module of its own, so that spawned processes can import it."""

import torch
import torch.distributed as dist
from torch import nn

from mia_lightning import Auditor, AuditResult, PredictabilityScorer


def run() -> AuditResult:
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(9, 1, 8, 8, 6, generator=draw)
    samples = list(zip(images, (images[:, 0] * 2.999).long(), strict=True))
    network = nn.Conv3d(1, 3, 3, padding=1)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=4)
    auditor = Auditor(scorer=scorer, batch_size=2, slices=3, scores=["membership", "neighbour", "combined"])
    return auditor.run(network, samples[:6], samples[6:])


def audit(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save(run().to_plain(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
