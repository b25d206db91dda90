"""What a trainer refuses, in terms of the options that it was made with."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

_NAMED_OTHERWISE = {
    r"backend|accelerator|no GPU|TPU|XLA|XPU|HPU": "accelerator",
    r"device|gpus": "devices",
    r"strateg|ddp|fsdp": "strategy",
    r"precision|amp": "precision",
}


@contextmanager
def options_named(accelerator: object = None, prefix: str = "--trainer.") -> Iterator[None]:
    """Make a trainer; what it refuses becomes a ValueError that begins with the option that is to be changed.

    Args:
        accelerator: The accelerator that the trainer is made with.
        prefix: Stands in front of an option's name.

    Yields:
        Nothing.

    Raises:
        ValueError: If the trainer refuses an option, or has not what it asks for.

    Example:
        >>> with options_named():
        ...     Trainer(max_epochs=-5)
        Traceback (most recent call last):
        ValueError: --trainer.max_epochs: `max_epochs` must be a non-negative integer or -1. You passed in -5.
    """
    try:
        yield
    except (MisconfigurationException, ValueError, RuntimeError, ImportError) as error:
        text = " ".join(str(error).split())
        if "backend found" in text:
            text = f"there is no {accelerator or 'such device'} that torch can use here: take cpu or auto. ({text})"
        raise ValueError(f"{prefix}{_option_in(str(error))}: {text}") from error


def _option_in(text: str) -> str:
    """The option that a message is about: the first that it names, or the one that its words stand for."""
    options = [name for name in inspect.signature(Trainer).parameters if re.search(rf"\b{name}\b", text)]
    if options:
        return min(options, key=lambda name: text.index(name))
    return next((name for words, name in _NAMED_OTHERWISE.items() if re.search(words, text, re.IGNORECASE)), "*")
