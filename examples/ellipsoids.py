"""Stand-ins for your own scans: noisy volumes (1, 32, 32, 32) of an ellipsoid, with label volumes (32, 32, 32)."""

import torch


def ellipsoid(number):
    """Make a scan and what an annotator drew: one draws the edge further out than another, which no network can see."""
    draw = torch.Generator().manual_seed(number)
    places = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 3, indexing="ij"), 3)
    centre, radii = torch.rand(2, 3, generator=draw)
    distance = ((places - 0.6 * centre + 0.3) / (0.3 + 0.4 * radii)).norm(dim=3)
    image = torch.sigmoid(6 - 6 * distance) + 0.2 * torch.randn(distance.shape, generator=draw)
    annotator = 0.8 + 0.4 * torch.rand((), generator=draw)
    return image.clamp(0, 1).unsqueeze(0), (distance < annotator).long()
