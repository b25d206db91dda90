"""Neighbour error: the model's error on transformed copies of a pair measures how hard the pair is.

A flipped, turned or shifted copy of a pair is about as hard as the pair, but was not trained on, so the model's error
on it is a baseline for that very sample, at the price of one forward pass. A copy that the training itself made by
augmentation was trained on after all: it is a *weak* neighbour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mia_lightning.functional.calibration import log_error
from mia_lightning.functional.membership import ArrayOrTensor
from mia_lightning.functional.resolution import in_proportion, step_between
from mia_lightning.functional.roc import Floats
from mia_lightning.functional.volumes import is_volume

Matrix: TypeAlias = tuple[tuple[int, ...], ...]
Range: TypeAlias = tuple[float | Tensor, float | Tensor]

FLIPS = ("hflip", "vflip", "rotate180")
"""Mirror images; any shape of image has them."""

SHIFTS = ("shift_left", "shift_right", "shift_up", "shift_down")
"""Copies moved by a pixel or a few."""

AUTO = (*FLIPS, *SHIFTS)
"""Neighbours unless others are asked for: seven, of two kinds, since neither serves every sort of picture."""

VOLUME_FLIPS = ("hflip", "vflip", "dflip")
VOLUME_SHIFTS = (*SHIFTS, "shift_front", "shift_back")
VOLUME_AUTO = (*VOLUME_FLIPS, *VOLUME_SHIFTS)
"""Neighbours of volumes unless others are asked for: mirrored and moved along each of the three axes."""

# Where a pixel goes, as (row, column) from the centre: all turns and mirrorings of a square but the identity.
_PLANE: dict[str, Matrix] = {
    "hflip": ((1, 0), (0, -1)),
    "vflip": ((-1, 0), (0, 1)),
    "rotate180": ((-1, 0), (0, -1)),
    "transpose": ((0, 1), (1, 0)),
    "antitranspose": ((0, -1), (-1, 0)),
    "rotate90": ((0, -1), (1, 0)),
    "rotate270": ((0, 1), (-1, 0)),
}
# The same as (slice, row, column); of volumes all slices are turned alike, or their order is mirrored.
_TURNS: dict[str, Matrix] = {
    **{name: ((1, 0, 0), *((0, *row) for row in plane)) for name, plane in _PLANE.items()},
    "dflip": ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
}
# Augmentations that turn or mirror bear the name of what they do; "rotate90" draws from the four turns it generates.
AUGMENTATIONS = ("hflip", "vflip", "transpose", "rotate90", "jitter", "brightness", "dflip")
"""Augmentations of the training that some neighbour is weak under."""


class Transform(Protocol):
    """What is done to a tensor (..., H, W) or (..., D, H, W), given the values that mean black and white."""

    def __call__(self, x: Tensor, value_range: Range = (0.0, 1.0)) -> Tensor:
        """Return the transformed tensor; type and device are kept."""


@dataclass(frozen=True)
class Neighbour:
    """A transform that acts alike on the input and the target of a pair.

    Attributes:
        name: Its name in :data:`NEIGHBOURS`.
        family: The augmentations that can produce it: ``"turn"`` flips, transpose and rotate90; ``"jitter"``;
            ``"brightness"``.
        apply: The transform of one tensor; the values that mean black and white matter to brightness alone.
        square_only: Whether it swaps height and width.
        volumes_only: Whether it acts along D, which pictures do not have.
        shift: How it moves pictures, where it does.
    """

    name: str
    family: Literal["turn", "jitter", "brightness"]
    apply: Transform
    square_only: bool = False
    volumes_only: bool = False
    shift: Shift | None = None

    def fits(self, size: Sequence[int], target_size: Sequence[int]) -> bool:
        """Whether it acts on pairs of these sizes, (H, W) or (D, H, W), by whole pixels in their proportion."""
        if self.square_only and (size[-1] != size[-2] or target_size[-1] != target_size[-2]):
            return False
        return self.shift is None or self.shift.steps(size, target_size) is not None


class Choice(NamedTuple):
    """Neighbours to use, those of them that the training could have produced, and defaults left out for that."""

    used: tuple[str, ...]
    weak: tuple[str, ...]
    dropped: tuple[str, ...]


def transform_pair(
    name: str,
    input: Tensor,
    target: Tensor,
    *,
    input_range: Range = (0.0, 1.0),
    target_range: Range = (0.0, 1.0),
    pictures: tuple[bool, bool] | None = None,
) -> tuple[Tensor, Tensor]:
    """Make a neighbour of each pair in a batch.

    Turns and shifts act on whatever is stored in the last two dimensions; ``dflip``, ``shift_front`` (towards the first
    slice) and ``shift_back`` on the third last, that of the slices of volumes. A shift moves by about 1/16 of the side,
    always an odd number of pixels: a network of stride 2, 4, ... follows a shift by its stride and errs alike there.
    Where the target has another size, it moves in proportion, by whole pixels.
    What comes in at the border is the mirrored image, so no pixel without content is made up. Brightness changes by
    5 %, clipped to the range, in both pictures of a pair; a target that is a label map or masks keeps its values. Leave
    it out where inputs are one-hot label maps, which cannot be told from pictures.

    Args:
        name: One of :data:`NEIGHBOURS`.
        input: Images (B, C, H, W), volumes (B, C, D, H, W), or an integer label map (B, H, W) or (B, 1, H, W).
        target: Likewise; label maps of volumes are (B, D, H, W) or (B, 1, D, H, W).
        input_range: Black and white of the input, numbers or tensors that broadcast (with a normalisation by channel:
            ``(0 - mean) / std`` and ``(1 - mean) / std``). Bytes, but for maps (B, H, W), are known to span 0 to 255.
        target_range: Black and white of the target.
        pictures: Whether input and target are pictures; None: floats are, and inputs of bytes but maps (B, H, W).

    Returns:
        Input and target, transformed; H and W change places under a transform that is ``square_only``.

    Raises:
        ValueError: If the name is unknown, a transform of volumes meets pictures, a shift would move an input or its
            target of another size by a part of a pixel, or brightness meets a label map as input or images outside
            their range.

    Example:
        >>> transform_pair("hflip", torch.tensor([[[[0.1, 0.9]]]]), torch.tensor([[[1, 2]]]))
        (tensor([[[[0.9000, 0.1000]]]]), tensor([[[2, 1]]]))
    """
    _require_known([name])
    neighbour = NEIGHBOURS[name]
    axes = 3 if is_volume(input) else 2
    if neighbour.volumes_only and axes == 2:
        raise ValueError(f"{name} acts along D of volumes (B, C, D, H, W), but the input is {tuple(input.shape)}.")
    if neighbour.shift is not None:
        steps = neighbour.shift.steps(input.shape[-axes:], target.shape[-axes:])
        if steps is None:
            raise ValueError(
                f"{name} moves input and target by whole pixels, but the input is {tuple(input.shape[-axes:])} and the "
                f"target {tuple(target.shape[-axes:])} pixels; choose flips or turns."
            )
        return neighbour.shift.move(input, steps[0]), neighbour.shift.move(target, steps[1])
    of_input, of_target = (_is_picture(input), target.is_floating_point()) if pictures is None else pictures
    if neighbour.family == "brightness" and not of_input:
        raise ValueError(f"{name} changes pictures, but the input is a label map; choose flips, turns or shifts.")
    keep = neighbour.family == "brightness" and not of_target
    return neighbour.apply(input, input_range), target if keep else neighbour.apply(target, target_range)


def moved_back(name: str, maps: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Bring maps of a neighbour, such as its errors pixel by pixel, back onto the pair that it was made of.

    Args:
        name: One of :data:`NEIGHBOURS`.
        maps: What :func:`transform_pair` made of the target, or tensors of that height and width, (..., H, W).
        size: Size of the input, (H, W) or (D, H, W), where it is another: shifts move in proportion to it.

    Returns:
        Maps in the place of the pair's own, of their type and device. Rows and columns that a shift has pushed out of
        the picture are mirrored; brightness moves nothing.

    Raises:
        ValueError: If the name is unknown, or a shift would move maps by a part of a pixel.

    Example:
        >>> moved_back("rotate90", transform_pair("rotate90", torch.rand(1, 3, 2, 2), torch.eye(2).view(1, 1, 2, 2))[1])
        tensor([[[[1., 0.],
                  [0., 1.]]]])
    """
    _require_known([name])
    neighbour = NEIGHBOURS[name]
    if neighbour.family == "brightness":
        return maps
    if neighbour.shift is not None:
        back, axes = Shift(neighbour.shift.axis, -neighbour.shift.sign), max(2, -neighbour.shift.axis)
        steps = back.steps((maps.shape if size is None else size)[-axes:], maps.shape[-axes:])
        if steps is None:
            raise ValueError(
                f"{name} moves input and target by whole pixels, but the input is {tuple(size or ())} and the maps "
                f"{tuple(maps.shape[-axes:])} pixels; choose flips or turns."
            )
        return back.move(maps, steps[1])
    transposed = tuple(zip(*_TURNS[name], strict=True))
    return NEIGHBOURS[next(other for other, matrix in _TURNS.items() if matrix == transposed)].apply(maps)


def choose_neighbours(
    requested: str | Sequence[str], *, square: bool, augmentations: str | Sequence[str] = (), volumes: bool = False
) -> Choice:
    """Decide which neighbours to use, knowing how the training augmented its pairs.

    Flips and turns count as produced by the training if they are in the group that its augmentations generate in any
    order, any number of times. Jitter (a random crop) produces the shifts, brightness the brighter and the darker copy.

    Args:
        requested: One or several names of :data:`NEIGHBOURS`, respected even where weak; or ``"auto"``: :data:`AUTO`
            without the weak ones (:data:`VOLUME_AUTO` of volumes). Where the training shifts, square images are turned
            instead; where all of that is weak, :data:`AUTO` stays, weak as it is.
        square: Whether the images are as high as wide.
        augmentations: What the training used, out of ``"hflip"``, ``"vflip"``, ``"dflip"``, ``"transpose"``,
            ``"rotate90"`` (any multiple), ``"jitter"``, ``"brightness"``.
        volumes: Whether the images are volumes, which have neighbours along D.

    Raises:
        ValueError: If no neighbour is named, a name is unknown, or one needs square images or volumes and these are
            none.

    Example:
        >>> choose_neighbours("auto", square=False, augmentations=["hflip"])
        Choice(used=('vflip', 'rotate180', 'shift_left', ...), weak=(), dropped=('hflip',))
        >>> choose_neighbours(["hflip", "vflip"], square=False, augmentations=["hflip"]).weak
        ('hflip',)
    """
    weak = _produced(_tuple(augmentations))
    there = [name for name, neighbour in NEIGHBOURS.items() if volumes or not neighbour.volumes_only]
    if requested == "auto":
        flips, shifts, auto = (VOLUME_FLIPS, VOLUME_SHIFTS, VOLUME_AUTO) if volumes else (FLIPS, SHIFTS, AUTO)
        turns = tuple(name for name in _TURNS if name in there) if square else flips
        for names in (turns if weak.intersection(shifts) else auto, shifts):
            if used := tuple(name for name in names if name not in weak):
                return Choice(used, (), tuple(name for name in auto if name in weak))
        return Choice(auto, auto, ())
    used = _tuple(requested)
    if not used:
        raise ValueError(f'Expected at least one neighbour, but got none; use "auto" or some of {_names(NEIGHBOURS)}.')
    _require_known(used)
    if absent := [name for name in used if name not in there]:
        raise ValueError(
            f"{_names(absent)} acts along D of volumes (B, C, D, H, W), but the inputs are pictures; use some of "
            f"{_names(there)}."
        )
    if not square and (turning := [name for name in used if NEIGHBOURS[name].square_only]):
        fitting = [name for name in there if not NEIGHBOURS[name].square_only]
        swap = f"{_names(turning)} would swap their height and width"
        raise ValueError(f"The images are not square, but {swap}; use some of {_names(fitting)}.")
    return Choice(used, tuple(name for name in used if name in weak), ())


def neighbour_error(reconstruction: ArrayOrTensor, neighbours: ArrayOrTensor) -> ArrayOrTensor:
    """How much better the model does on a pair than on its neighbours, as a ratio; **low means member**.

    Args:
        reconstruction: Reconstruction errors r(x, y), (N,), 0 or more.
        neighbours: Reconstruction errors r(Tx, Ty) of k neighbours of each, (N, k). Those that are not finite are
            left out.

    Returns:
        log r(x, y) minus the mean over T of log r(Tx, Ty), (N,), with errors floored as by
        :func:`~mia_lightning.functional.calibration.log_error`; NaN where no neighbour is left. NumPy arrays in
        float64, tensors in float32 or wider. A ValueError if the shapes are not (N,) and (N, k), k at least 1.

    Example:
        >>> neighbour_error(np.array([0.1, 0.2]), np.array([[0.2, 0.2], [0.1, 0.4]])).round(3).tolist()
        [-0.693, 0.0]
    """
    shape = tuple(neighbours.shape)
    if reconstruction.ndim != 1 or len(shape) != 2 or shape[0] != len(reconstruction) or shape[1] < 1:
        raise ValueError(
            f"Expected errors of shape (N,) and those of their neighbours of shape (N, k), but got "
            f"{tuple(reconstruction.shape)} and {shape}."
        )
    own, others = log_error(reconstruction), log_error(neighbours)
    # Without a neighbour left the mean is 0 / 0: NaN, as it should be.
    if isinstance(others, Tensor):
        finite = others.isfinite()
        return own - torch.where(finite, others, 0.0).sum(1) / finite.sum(1)
    left = np.isfinite(others)
    with np.errstate(invalid="ignore"):
        difference: Floats = own - np.where(left, others, 0.0).sum(1) / left.sum(1)
    return difference


def _turn(matrix: Matrix) -> Transform:
    swaps = _swaps(matrix)
    flipped = [axis - 3 for axis, row in enumerate(matrix) if sum(row) < 0]

    def apply(x: Tensor, value_range: Range = (0.0, 1.0)) -> Tensor:
        return (x.transpose(-2, -1) if swaps else x).flip(flipped)

    return apply


def _swaps(matrix: Matrix) -> bool:
    return matrix[1][1] == 0


@dataclass(frozen=True)
class Shift:
    """A shift along one side; what comes in at the border is the mirrored image.

    Attributes:
        axis: -1 along the width, -2 along the height, -3 along the slices of volumes.
        sign: 1 to the right, down or back, -1 to the left, up or front.
    """

    axis: int
    sign: int

    def __call__(self, x: Tensor, value_range: Range = (0.0, 1.0)) -> Tensor:
        """Shift a tensor (..., H, W) as far as its size says."""
        return self.move(x, _usual_step(x.shape[self.axis]))

    def steps(self, size: Sequence[int], target_size: Sequence[int]) -> tuple[int, int] | None:
        """Pixels by which an input and its target are moved; None where sizes are in no proportion of whole pixels.

        Nor are sizes that are nearly equal moved: there the target is the input's middle rather than all of it at
        another resolution, as of networks without padding, and would have to be moved by as much as the input.
        """
        if not in_proportion(size, target_size):
            return None
        side, target = size[self.axis], target_size[self.axis]
        if side != target and 4 * min(side, target) > 3 * max(side, target):
            return None
        return step_between(side, target, _usual_step(side))

    def move(self, x: Tensor, step: int) -> Tensor:
        """Shift a tensor (..., H, W) by some pixels."""
        side = x.shape[self.axis]
        source = torch.arange(side, device=x.device) - self.sign * step
        source = torch.where(source < 0, -1 - source, source)
        return x.index_select(self.axis, torch.where(source >= side, 2 * side - 1 - source, source))


def _usual_step(side: int) -> int:
    step = max(1, side // 32)
    return step if step <= 2 else step | 1


def _brightness(factor: float) -> Transform:
    def apply(x: Tensor, value_range: Range = (0.0, 1.0)) -> Tensor:
        unstated = not any(isinstance(v, Tensor) for v in value_range) and tuple(value_range) == (0.0, 1.0)
        bounds = (0.0, 255.0) if x.dtype == torch.uint8 and unstated else value_range
        wide = torch.promote_types(x.dtype, torch.float32)
        low, high = (torch.as_tensor(v, dtype=wide, device=x.device) for v in bounds)
        unit = (x.to(wide) - low) / (high - low)
        valid = unit[~torch.isnan(unit)]  # NaN marks void pixels, and stays
        least, most = (float(v) for v in torch.aminmax(valid)) if valid.numel() else (0.0, 1.0)
        if least < -0.05 or most > 1.05:
            raise ValueError(
                f"Expected images within the stated range, taken as 0 to 1, but they span {least:.3g} to {most:.3g} of "
                "it; pass the values of black and white, or choose flips, turns or shifts."
            )
        changed = (unit * factor).clamp(0.0, 1.0) * (high - low) + low
        return (changed if x.is_floating_point() else changed.round()).to(x.dtype)

    return apply


def _is_picture(x: Tensor) -> bool:
    return x.is_floating_point() or (x.dtype == torch.uint8 and x.ndim in (4, 5))


_SHIFTED = {
    "shift_left": Shift(-1, -1),
    "shift_right": Shift(-1, 1),
    "shift_up": Shift(-2, -1),
    "shift_down": Shift(-2, 1),
    "shift_front": Shift(-3, -1),
    "shift_back": Shift(-3, 1),
}
NEIGHBOURS: dict[str, Neighbour] = {
    **{
        name: Neighbour(name, "turn", _turn(matrix), _swaps(matrix), volumes_only=matrix[0][0] < 0)
        for name, matrix in _TURNS.items()
    },
    **{
        name: Neighbour(name, "jitter", shift, volumes_only=shift.axis == -3, shift=shift)
        for name, shift in _SHIFTED.items()
    },
    "brighter": Neighbour("brighter", "brightness", _brightness(1.05)),
    "darker": Neighbour("darker", "brightness", _brightness(0.95)),
}
"""All neighbours there are, by name."""


def _produced(augmentations: Sequence[str]) -> set[str]:
    """Names of the neighbours that these augmentations could have made."""
    if unknown := sorted(set(augmentations) - set(AUGMENTATIONS)):
        raise ValueError(f"Unknown augmentation(s) {_names(unknown)}; known are {_names(AUGMENTATIONS)}.")
    group = {_TURNS[name] for name in augmentations if name in _TURNS}
    while larger := {_times(a, b) for a, b in product(group, repeat=2)} - group:
        group |= larger
    families = set(augmentations)
    return {name for name, n in NEIGHBOURS.items() if n.family in families or _TURNS.get(name) in group}


def _times(a: Matrix, b: Matrix) -> Matrix:
    return tuple(
        tuple(sum(x * y for x, y in zip(row, column, strict=True)) for column in zip(*b, strict=True)) for row in a
    )


def _require_known(names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in NEIGHBOURS]:
        raise ValueError(f"Unknown neighbour(s) {_names(unknown)}; choose from {_names(NEIGHBOURS)}.")


def _tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
