"""Label maps: which pixels are ignored, one-hot planes, and colours of classes."""

import torch
from torch import Tensor


def valid_pixels(target: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Mark, (B, H, W), the pixels of an integer label map (B, H, W) that carry a class: 0 to ``num_classes - 1``.

    Pixels with a negative label or ``ignore_index`` are ignored.

    Raises:
        ValueError: If a label is neither a class nor ignored.

    Example:
        >>> valid_pixels(torch.tensor([[[0, 1, 255, -1]]]), num_classes=2)
        tensor([[[ True,  True, False, False]]])
    """
    valid = (target >= 0) & (target != ignore_index)
    stray = valid & (target >= num_classes)
    if bool(stray.any()):
        unknown = torch.unique(target[stray])[:5].tolist()
        raise ValueError(
            f"The label map holds class ids {unknown}, but num_classes={num_classes} allows 0 to {num_classes - 1} "
            f"and ignore_index={ignore_index}. Raise num_classes, or set ignore_index to the id of ignored pixels."
        )
    return valid


def one_hot(target: Tensor, valid: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Spread a label map (B, H, W) over planes (B, num_classes, H, W), all zero where ``valid``, (B, H, W), is not."""
    safe = torch.where(valid, target, torch.zeros_like(target)).long()
    planes = torch.zeros((target.shape[0], num_classes, *target.shape[1:]), dtype=dtype, device=target.device)
    planes.scatter_(1, safe.unsqueeze(1), 1.0)
    return planes * valid.unsqueeze(1)


def labels_of_planes(planes: Tensor) -> Tensor | None:
    """Find the label maps, (B, H, W), of one-hot planes (B, N, H, W): -1 where none is set; None if planes are others.

    Example:
        >>> labels_of_planes(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).view(1, 2, 1, 3))
        tensor([[[ 0,  1, -1]]])
        >>> labels_of_planes(torch.full((1, 2, 1, 3), 0.5)) is None
        True
    """
    is_set, total = planes.amax(1) == 1, planes.sum(1)
    one_hot = bool(is_set.any() and (is_set | (planes == 0).all(1)).all() and (total <= 1).all())
    return planes.argmax(1).masked_fill(~is_set, -1) if one_hot else None


def palette(count: int) -> Tensor:
    """RGB colours in [0, 1], (count, 3), that keep classes apart; the same for the same index whatever the count.

    Hues go by the golden ratio, three brightnesses in turn.

    Example:
        >>> palette(2).shape, bool((palette(5)[:2] == palette(2)).all())
        (torch.Size([2, 3]), True)
    """
    index = torch.arange(count, dtype=torch.float32)
    hue = (index * 0.61803398875) % 1.0
    value = torch.tensor([0.95, 0.65, 0.35])[torch.arange(count) % 3]
    offsets = torch.tensor([5.0, 3.0, 1.0])
    sector = (offsets + 6.0 * hue.unsqueeze(1)) % 6.0
    fall = torch.minimum(sector, 4.0 - sector).clamp(0.0, 1.0)
    return value.unsqueeze(1) * (1.0 - 0.85 * fall)


def voc_palette(count: int) -> Tensor:
    """RGB colours (count, 3), uint8, of Pascal VOC's label maps, class 0 being black; the same whatever the count.

    Example:
        >>> voc_palette(4).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    ids = torch.arange(count)
    colours = torch.zeros(count, 3, dtype=torch.long)
    # Bits 0, 1, 2 of an id are the highest bits of red, green and blue, bits 3, 4, 5 the next, and so on.
    for bit in range(24):
        colours[:, bit % 3] |= (ids >> bit & 1) << (7 - bit // 3)
    return colours.to(torch.uint8)


def as_rgb(image: Tensor) -> Tensor:
    """Show any input to a network that expects colour images: (B, 3, H, W), float, in [0, 1] where the input was.

    Args:
        image: RGB (B, 3, H, W) or grey (B, 1, H, W) in [0, 1]; N channels (B, N, H, W), mixed with fixed colours (a
            one-hot label map gets one colour a class); or an integer label map (B, H, W) or (B, 1, H, W).

    Raises:
        ValueError: If the input has another number of dimensions.

    Example:
        >>> as_rgb(torch.zeros(2, 8, 8, dtype=torch.long)).shape, as_rgb(torch.rand(2, 5, 8, 8)).shape
        (torch.Size([2, 3, 8, 8]), torch.Size([2, 3, 8, 8]))
    """
    if not image.is_floating_point():
        labels = image.squeeze(1) if image.ndim == 4 and image.shape[1] == 1 else image
        if labels.ndim != 3:
            raise ValueError(f"Expected an integer label map (B, H, W), but got {image.dtype} {tuple(image.shape)}.")
        labels = labels.long().clamp_min(0)
        return palette(int(labels.max()) + 1).to(labels.device)[labels].movedim(3, 1)
    if image.ndim != 4:
        raise ValueError(f"Expected images of shape (B, C, H, W), but got {tuple(image.shape)}.")
    channels = image.shape[1]
    if channels == 3:
        return image
    if channels == 1:
        return image.expand(-1, 3, -1, -1)
    colours = palette(channels).to(image)
    mixed = torch.einsum("bnhw,nc->bchw", image, colours)
    # One-hot planes sum to one and need no scaling; free channels are averaged to stay in their range.
    # Decided for each image: the others in its batch must not change it.
    is_one_hot = ((image.sum(1, keepdim=True) - 1.0).abs() < 1e-3).flatten(1).all(1).view(-1, 1, 1, 1)
    return torch.where(is_one_hot, mixed, mixed / colours.sum(0).view(1, 3, 1, 1))
