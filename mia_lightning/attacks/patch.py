"""Segmentations-Leak: a small network learns from a reference model's loss maps what members look like.

Source: He, Rahimian, Schiele and Fritz, "Segmentations-Leak: Membership Inference Attacks and Defenses in Semantic
Image Segmentation", ECCV 2020.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from mia_lightning.functional.labels import valid_pixels
from mia_lightning.functional.multilabel import loss_of_masks
from mia_lightning.functional.pixel_errors import pixel_errors
from mia_lightning.functional.predictability import Task
from mia_lightning.functional.roc import Floats
from mia_lightning.functional.volumes import DIMENSIONS
from mia_lightning.scores.reference_statistics import as_flags

LARGEST_SEEN = 32
"""Patches of a larger side, in pixels, are averaged in blocks down to this, to keep time and memory in bounds."""

PATCH_SHARE = 0.25
"""Side of a patch, as a share of the short side of the maps."""

SMALLEST_PATCH = 8
"""Patches of a smaller side, in pixels, say little more than one pixel does."""


def loss_map(prediction: Tensor, target: Tensor, task: Task, ignore_index: int = 255) -> Tensor:
    """Where in an image a model errs, and by how much: the structured loss map.

    Args:
        prediction: An image (B, C, H, W) for translation, logits (B, K, H, W) for segmentation (K = 1 for binary).
        target: Wanted image (B, C, H, W), integer label map (B, H, W), or masks (B, K, H, W) of independent channels.
        task: ``"translation"``: mean over channels of the absolute difference. ``"segmentation"``: cross-entropy of
            each pixel in nats, zero where the label is ignored (negative or ``ignore_index``). ``"multilabel"``: mean
            over channels of the binary cross-entropy, channels that are ignored (NaN) left out, zero where all are.
        ignore_index: Label of ignored pixels.

    Returns:
        Losses of at least 0, (B, 1, H, W), float32, without gradients.

    Raises:
        ValueError: If shapes do not fit, a label is no class, or the task is unknown.

    Example:
        >>> loss_map(torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 255]]]), "segmentation")
        tensor([[[[0.6931, 0.0000]]]])
    """
    prediction, target = prediction.detach(), target.detach()
    if prediction.ndim == DIMENSIONS:
        raise ValueError(
            f"The patch attack is for pictures, but the prediction is that of volumes, {tuple(prediction.shape)}: "
            "leave patch out; scores of reference models take volumes."
        )
    if task == "translation":
        if prediction.ndim != 4 or prediction.shape != target.shape:
            raise ValueError(
                f"Expected a prediction and a target of one shape (B, C, H, W), but got {tuple(prediction.shape)} and "
                f"{tuple(target.shape)}."
            )
        return pixel_errors(prediction.float(), target.float(), task).mean(1, keepdim=True)
    if task == "multilabel":
        return loss_of_masks(prediction.float(), target)
    if task == "segmentation":
        if prediction.ndim != 4 or target.shape != (prediction.shape[0], *prediction.shape[2:]):
            raise ValueError(
                f"Expected logits (B, K, H, W) and labels (B, H, W) of the same size, but got "
                f"{tuple(prediction.shape)} and {tuple(target.shape)}."
            )
        valid = valid_pixels(target, max(2, prediction.shape[1]), ignore_index).unsqueeze(1)
        return torch.where(valid, pixel_errors(prediction.float(), target, task, ignore_index), 0.0)
    raise ValueError(f'Unknown task {task!r}; choose "translation", "segmentation" or "multilabel".')


@dataclass(frozen=True, eq=False)
class PatchView:
    """How patches are cut and scaled, learned from training maps.

    A loss enters twice, as a multiple of the mean training loss and as log(1 + that). Those of neighbours enter once,
    as how far the logarithm of the pair's own lies above theirs, pixel by pixel. All is standardised.

    Attributes:
        side: Side of a patch in pixels of the maps.
        unit: Mean loss of each channel, (1, C, 1, 1); with neighbours the pair's for all.
        centre: Means of what the network sees, (1, F, 1, 1): F is 2C, with neighbours C + 1.
        spread: Standard deviations of the same, (1, F, 1, 1).
        neighbours: Whether channels beyond the first are of the pair's neighbours.
    """

    side: int
    unit: Tensor
    centre: Tensor
    spread: Tensor
    neighbours: bool = False

    @classmethod
    def fitted(cls, maps: Tensor, side: int, neighbours: bool = False) -> Self:
        """Take units, means and standard deviations from training maps, (N, C, H, W), for patches of that side."""
        unit = maps.mean((0, 2, 3), keepdim=True, dtype=torch.float64).cpu()
        if neighbours:
            unit = unit[:, :1].expand_as(unit)
        unit = torch.where(unit > 0.0, unit, 1.0)
        # Map by map, since float64 copies of all would be large.
        moments = torch.zeros(2, maps.shape[1] + 1 if neighbours else 2 * maps.shape[1], dtype=torch.float64)
        for row in range(maps.shape[0]):
            scaled = _features(_averaged(maps[row : row + 1].double().cpu(), side), unit, neighbours)
            moments += torch.stack([scaled.mean((0, 2, 3)), scaled.square().mean((0, 2, 3))]) / maps.shape[0]
        spread = (moments[1] - moments[0].square()).clamp_min(0.0).sqrt()
        # A constant channel carries nothing; dividing by its rounding error would make noise of it.
        spread = torch.where(spread > 1e-6, spread, 1.0)
        centre, spread = (x.float().view(1, -1, 1, 1) for x in (moments[0], spread))
        return cls(side, unit.float(), centre, spread, neighbours)

    def cut(self, maps: Tensor, rows: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Cut patches at rows and columns ``top`` and ``left`` from maps number ``rows``, (P,) each, and scale them.

        Maps, (N, C, H, W), that are smaller than a patch repeat their last row and column.

        Returns:
            Patches in float32 on the maps' device, (P, F, S, S) with S at most :data:`LARGEST_SEEN`.
        """
        span = torch.arange(self.side)
        down = (top.unsqueeze(1) + span).clamp_max(maps.shape[-2] - 1)
        along = (left.unsqueeze(1) + span).clamp_max(maps.shape[-1] - 1)
        patches = maps[rows.view(-1, 1, 1), :, down.unsqueeze(2), along.unsqueeze(1)].movedim(-1, 1).float()
        unit, centre, spread = (x.to(maps.device) for x in (self.unit, self.centre, self.spread))
        return (_features(_averaged(patches, self.side), unit, self.neighbours) - centre) / spread


class PatchAttack:
    """Membership from loss maps, learned on a reference model's members and nonmembers; **high score means member**.

    A small convolutional network is shown random patches of the reference model's loss maps and learns to tell those of
    its members from those of its nonmembers; an image of the audited model scores the mean of its patches' logits. What
    is learned is where and how a loss is low, beyond its mean. Source: He et al. (2020), named above. Departures:

    - three convolutions in place of a ResNet-50: there are dozens of maps to learn from, not thousands;
    - beside the map of a pair the network may see those of its neighbours, pixel upon pixel: flipped and shifted copies
      are as hard but were not trained on, and tell not only how low a loss is, but how low it should be;
    - the network sees a loss twice, as a multiple of the mean training loss and as log(1 + that), each standardised by
      the training maps: one is fine where losses are large, the other where they are small;
    - half of each batch are members' patches, half nonmembers', turned and mirrored at random, since members may be
      few and a corner may be any corner;
    - patches are scored on an even grid, so that scoring needs no seed, and averaged, not summed over six random ones;
    - the authors cut patches of 90 x 90 from maps of an eighth of the picture's resolution, most of its height. On loss
      maps of 64 x 64 pixels, learned from one reference model and 240 images, sides from an eighth of the picture to
      all of it found members about equally well, on average hardly better than the mean loss does; a quarter is quick.

    Args:
        patch: Side of the patches in pixels; None takes :data:`PATCH_SHARE` of the short side of the maps that the
            attack is fitted to, at least :data:`SMALLEST_PATCH`. Maps smaller than a patch are extended by
            repeating their last row and column; sides above 32 pixels are averaged in blocks down to that.
        patches: Number of patches a map is scored by, at least 1; rounded to a grid of the map's proportions. With the
            default share, 16 tile a square map.
        steps: Number of batches learned from.
        batch_size: Patches in a batch, half of them members'.
        lr: Learning rate of AdamW at the start; it falls to 0 along a cosine.
        seed: Seed of weights and batches. On the CPU the same seed and maps give the same scores, to the bit; global
            generators are neither read nor moved.
        device: Where the network lives. Maps may lie elsewhere: only patches are moved.
        neighbours: Whether channels of the maps beyond the first are those of the pair's neighbours, brought back into
            its place (:func:`~mia_lightning.functional.neighbours.moved_back`).

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> losses = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> losses[:20] *= 0.5
        >>> scores = PatchAttack(steps=20).fit(losses, torch.arange(40) < 20).score(losses)
        >>> scores.shape, bool(scores[:20].min() > scores[20:].max())
        ((40,), True)
    """

    def __init__(
        self,
        *,
        patch: int | None = None,
        patches: int = 16,
        steps: int = 300,
        batch_size: int = 64,
        lr: float = 3e-3,
        seed: int = 0,
        device: str | torch.device = "cpu",
        neighbours: bool = False,
    ) -> None:
        sizes = {"patch": 1 if patch is None else patch, "patches": patches, "steps": steps, "batch_size": batch_size}
        for name, value in sizes.items():
            least = 2 if name == "batch_size" else 1
            if value < least:
                raise ValueError(f"Expected {name} to be at least {least}, but got {value}.")
        if not lr > 0.0:
            raise ValueError(f"Expected a learning rate above 0, but got {lr}.")
        self.patch, self.patches, self.steps, self.batch_size = patch, patches, steps, batch_size
        self.lr, self.seed, self.device, self.neighbours = lr, seed, torch.device(device), neighbours
        self._fitted: tuple[PatchView, nn.Module] | None = None

    def fit(self, maps: Tensor, member: ArrayLike) -> Self:
        """Learn from the loss maps of a reference model.

        Args:
            maps: Losses of at least 0, (N, C, H, W), for instance those of :func:`loss_map`.
            member: Whether the reference model was trained on each image, (N,).

        Raises:
            ValueError: If the maps have another shape, hold negative or non-finite numbers, or a side is empty.
        """
        check_maps(maps)
        chosen = as_flags(member, "member", (maps.shape[0],))
        if chosen.all() or not chosen.any():
            raise ValueError(
                f"Expected loss maps of members and nonmembers of the reference model, but got {int(chosen.sum())} "
                f"members and {int((~chosen).sum())} nonmembers. Fit on a model that was trained on part of the images."
            )
        side = max(SMALLEST_PATCH, round(PATCH_SHARE * min(maps.shape[-2:]))) if self.patch is None else self.patch
        # An audit runs without gradients; learning needs them, and may be called within one.
        with torch.inference_mode(False), torch.enable_grad():
            maps = maps.detach()
            view = PatchView.fitted(maps, side, self.neighbours)
            self._fitted = view, self._learn(maps, torch.from_numpy(chosen), view)
        return self

    @torch.no_grad()
    def score(self, maps: Tensor) -> Floats:
        """Score the loss maps of the audited model, shaped as those fitted to: mean logit of each, (N,), float64.

        Raises:
            RuntimeError: If the attack has not been fitted.
            ValueError: If the maps have another shape or number of channels, or hold negative or non-finite numbers.
        """
        if self._fitted is None:
            raise RuntimeError("This attack has not been fitted: call fit(maps, member) with a reference model's maps.")
        view, network = self._fitted
        check_maps(maps)
        if maps.shape[1] != (channels := view.unit.shape[1]):
            raise ValueError(f"The attack was fitted to maps of {channels} channels, but these have {maps.shape[1]}.")
        top, left = grid(maps.shape[-2], maps.shape[-1], view.side, self.patches)
        count = top.numel()
        at_once = max(1, 2**20 // (count * view.side**2))
        scores = []
        for start in range(0, maps.shape[0], at_once):
            rows = torch.arange(start, min(start + at_once, maps.shape[0]))
            patches = view.cut(maps, rows.repeat_interleave(count), top.repeat(len(rows)), left.repeat(len(rows)))
            logits: Tensor = network(patches.to(self.device))
            scores.append(logits.double().view(len(rows), count).mean(1).cpu())
        return torch.cat(scores).numpy()

    def _learn(self, maps: Tensor, member: Tensor, view: PatchView) -> nn.Module:
        generator = torch.Generator().manual_seed(self.seed)
        network = _small_network(view.centre.shape[1], generator).to(self.device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        sides = (member.nonzero().flatten(), (~member).nonzero().flatten())
        half = self.batch_size // 2
        labels = (torch.arange(2 * half) < half).float().to(self.device)
        for _ in range(self.steps):
            rows = torch.cat([side[torch.randint(len(side), (half,), generator=generator)] for side in sides])
            top, left = (
                torch.randint(max(length - view.side, 0) + 1, (2 * half,), generator=generator)
                for length in maps.shape[-2:]
            )
            patches = turned(view.cut(maps, rows, top, left), generator).to(self.device)
            loss = F.binary_cross_entropy_with_logits(network(patches).squeeze(1), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # has no types of its own
            optimizer.step()
            schedule.step()
        return network


def _small_network(channels: int, generator: torch.Generator) -> nn.Module:
    # Built without storage, so that the usual initialisation draws nothing from the global generators.
    with torch.device("meta"):
        network = nn.Sequential(
            nn.Conv2d(channels, 16, 5, stride=2, padding=2, dtype=torch.float32),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, dtype=torch.float32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1, dtype=torch.float32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 1, dtype=torch.float32),
        )
    network = network.to_empty(device="cpu")
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        else:
            nn.init.zeros_(parameter)
    return network


def check_maps(maps: Tensor) -> None:
    """Raise a ValueError unless maps are floats of shape (N, C, H, W), finite and at least 0."""
    if maps.ndim != 4 or 0 in maps.shape or not maps.is_floating_point():
        raise ValueError(f"Expected float loss maps of shape (N, C, H, W), but got {maps.dtype} {tuple(maps.shape)}.")
    least, most = (float(x) for x in torch.aminmax(maps.detach()))  # both are NaN where any number is
    if not (least >= 0.0 and most < float("inf")):
        raise ValueError(
            f"Expected finite losses of at least 0 in the maps, but they run from {least:.6g} to {most:.6g}. Give "
            "pixels without a target a loss of 0."
        )


def turned(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Bring each patch, (P, C, S, S), into one of its eight positions at random."""
    upright, mirrored, swapped = (torch.rand(3, len(patches), 1, 1, 1, generator=generator) < 0.5).to(patches.device)
    patches = torch.where(upright, patches, patches.flip(-2))
    patches = torch.where(mirrored, patches, patches.flip(-1))
    return torch.where(swapped, patches, patches.transpose(-1, -2))


def grid(height: int, width: int, side: int, patches: int) -> tuple[Tensor, Tensor]:
    """Spread about a number of patches of a side evenly over a map, from border to border; fewer on small maps.

    Returns:
        First row and first column of each patch, (P,) and (P,).

    Example:
        >>> top, left = grid(height=16, width=24, side=8, patches=6)
        >>> top.tolist(), left.tolist()
        ([0, 0, 0, 8, 8, 8], [0, 8, 16, 0, 8, 16])
    """
    rows = max(1, round((patches * height / width) ** 0.5))
    columns = max(1, round(patches / rows))
    axes = []
    for room, count in ((max(height - side, 0), rows), (max(width - side, 0), columns)):
        places = torch.linspace(0, room, count) if count > 1 else torch.tensor([room / 2.0])
        axes.append(torch.tensor(sorted({round(place) for place in places.tolist()})))
    top, left = torch.meshgrid(axes[0], axes[1], indexing="ij")
    return top.flatten(), left.flatten()


def _averaged(losses: Tensor, side: int) -> Tensor:
    """Block means where patches of that side are larger than the network is shown."""
    block = -(-side // LARGEST_SEEN)
    return F.avg_pool2d(losses, block, ceil_mode=True) if block > 1 else losses


def _features(losses: Tensor, unit: Tensor, neighbours: bool) -> Tensor:
    """(N, C, H, W) -> (N, 2C, H, W), both scales of all; with neighbours (N, C + 1, H, W)."""
    scaled = losses / unit
    logs = torch.log1p(scaled)
    if neighbours:
        return torch.cat([scaled[:, :1], logs[:, :1], logs[:, :1] - logs[:, 1:]], dim=1)
    return torch.cat([scaled, logs], dim=1)
