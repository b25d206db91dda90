"""What exported models of every kind share: fixed sizes, number formats and copies between processes."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mia_lightning.functional.descriptions import describe

Size = tuple[int, int | None]
"""Smallest and largest size that an export takes along a dimension; None: any."""


@dataclass(frozen=True)
class Declared:
    """What an export says about its input: number format, and one range of sizes a dimension, the batch first."""

    dtype: torch.dtype | None = None
    sizes: tuple[Size, ...] | None = None


def check_one_input(names: Sequence[object], name: str) -> None:
    """Raise a ValueError for a file of that name unless its model needs one input, an image, and no other."""
    if len(names) != 1:
        raise ValueError(
            f"{name} takes {len(names)} inputs ({', '.join(map(str, names)) or 'none'}), expected one image; export a "
            "model whose forward takes the image alone."
        )


class ExportedNetwork(nn.Module):
    """An exported model as a module ``input -> prediction``; subclasses load a file and run it.

    Copying and pickling, as strategies that start processes do, load the file again: it must still be there.
    """

    _place: Tensor
    declared = Declared()

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path).absolute()
        # Says where the model is, to itself and to whoever looks for its first tensor; weighs nothing.
        self.register_buffer("_place", torch.zeros(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._place.device

    def call(self, input: Tensor) -> Any:
        """Run the export on a batch, (B, ...), of the declared size and number format."""
        raise NotImplementedError  # each format is run by its own library

    def forward(self, input: Tensor) -> Any:
        """Run the export on a batch of any size.

        Args:
            input: (B, ...), images in the range that the model was trained on. Floating point is converted to the
                floating point that the export takes; for an export that takes 8-bit pictures (uint8), [0, 1] becomes
                0 to 255.

        Returns:
            A tensor, a tuple, or a dict by name. An 8-bit picture becomes floating point in [0, 1]; other integers stay
            class numbers.

        Raises:
            ValueError: If the batch is empty, or size or number format of the input do not fit.
        """
        if input.ndim == 0 or len(input) == 0:
            raise ValueError(f"{self.path.name} was given {describe(input)}, expected a batch of at least one image.")
        check_sizes(input, self.declared.sizes, self.path.name)
        low, high = self.declared.sizes[0] if self.declared.sizes else (1, None)
        batch = to_format(input, self.input_dtype(), self.path.name)
        outputs = []
        for part in torch.split(batch, high or len(batch)):
            if len(part) >= low:
                outputs.append(self.call(part))
                continue
            whole = self.call(part[torch.arange(low, device=part.device) % len(part)])
            outputs.append(_first(whole, len(part), low))
        return self._readable(outputs[0] if len(outputs) == 1 else _join(outputs), input)

    def input_dtype(self) -> torch.dtype | None:
        """Number format that the input is converted to; None leaves it."""
        return self.declared.dtype

    def weight_dtype(self) -> torch.dtype | None:
        """Number format of the first weights in floating point; None where there are none."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), None)

    def __reduce__(self) -> tuple[Callable[..., nn.Module], tuple[Any, ...]]:
        """Copy by loading the file again: compiled graphs and sessions cannot be copied."""
        return _load_again, (type(self), self.path, self.device, self.training)

    def _readable(self, output: Any, input: Tensor) -> Any:
        if not isinstance(output, Tensor) or output.is_floating_point():
            return output
        pictures = output.dtype == self.declared.dtype == torch.uint8 and output.ndim == input.ndim >= 4
        if pictures and output.shape[1] == input.shape[1]:
            return output.float() / 255
        return output  # class numbers


def _load_again(kind: type[ExportedNetwork], path: Path, device: torch.device, training: bool) -> nn.Module:
    return kind(path).to(device).train(training)


def check_sizes(input: Tensor, sizes: tuple[Size, ...] | None, name: str) -> None:
    """Raise a ValueError unless an input, (B, ...), fits the sizes that a file of that name takes, the batch aside."""
    if sizes is None:
        return
    shape = tuple(input.shape)
    fits = len(shape) == len(sizes) and all(
        low <= size and (high is None or size <= high) for size, (low, high) in zip(shape[1:], sizes[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name} takes inputs of shape {_shape_in_words(sizes)} but got {shape}; bring the data to that size "
            "(the data modules' image_size), or export the model with these dimensions dynamic."
        )


def to_format(input: Tensor, dtype: torch.dtype | None, name: str) -> Tensor:
    """Convert an input to the number format that a file of that name takes; None leaves it as it is.

    Returns:
        The input; from floating point to uint8 it is multiplied by 255, rounded and clamped.

    Raises:
        ValueError: If the conversion would have to guess a scale.

    Example:
        >>> to_format(torch.tensor([0.0, 0.5, 1.0]), torch.uint8, "model.onnx")
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    if dtype is None or input.dtype == dtype:
        return input
    if input.is_floating_point() and dtype.is_floating_point:
        return input.to(dtype)
    if input.is_floating_point() and dtype == torch.uint8:
        return (input.float() * 255).round().clamp(0, 255).to(dtype)
    if not input.is_floating_point() and not dtype.is_floating_point:
        return input.to(dtype)
    expected, found = (str(d).removeprefix("torch.") for d in (dtype, input.dtype))
    raise ValueError(
        f"{name} takes {expected} but the input is {found}, and how one becomes the other is not for the audit to "
        f"guess; let the data set give {expected}."
    )


def warn_of_training_mode(name: str, layers: Iterable[str]) -> None:
    """Warn where layers of an export go on as in training, whatever eval() says."""
    if names := sorted(set(layers)):
        warnings.warn(
            f"{name} was exported in training mode: its {' and '.join(names)} will not obey eval(), so its predictions "
            "depend on chance or on the batch. Call model.eval() before the export.",
            stacklevel=4,
        )


def _first(output: Any, kept: int, batch: int) -> Any:
    """Drop what was computed for repeated samples."""
    if isinstance(output, Tensor):
        return output[:kept] if output.ndim and len(output) == batch else output
    if isinstance(output, Mapping):
        return {key: _first(value, kept, batch) for key, value in output.items()}
    if isinstance(output, (list, tuple)):
        return tuple(_first(value, kept, batch) for value in output)
    return output


def _join(outputs: list[Any]) -> Any:
    """Put the outputs of several batches together; tensors without a batch dimension are stacked."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(outputs) if first.ndim else torch.stack(outputs)
    if isinstance(first, Mapping):
        return {key: _join([output[key] for output in outputs]) for key in first}
    if isinstance(first, (list, tuple)):
        return tuple(_join(list(values)) for values in zip(*outputs, strict=True))
    return first


def _shape_in_words(sizes: tuple[Size, ...]) -> str:
    bounds = ["B"]
    for low, high in sizes[1:]:
        bounds.append(str(low) if low == high else "any" if high is None and low <= 1 else f"{low} to {high or 'any'}")
    return f"({', '.join(bounds)})"
