"""Sliding windows: an adapter under which a network for patches answers whole volumes, by MONAI's own inferer."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

from torch import Tensor

from mia_lightning.audit.adapters import AutoAdapter


class MonaiSlidingWindow(AutoAdapter):
    """Has a network answer window by window, and joins the answers where windows overlap.

    Batches are read, and predictions are picked from what the network returns of a window, as
    :class:`~mia_lightning.audit.adapters.AutoAdapter` does. Needs MONAI, whose ``SlidingWindowInferer`` does the work:
    ``pip install 'mia-lightning[medical]'``. Where processes share the weights of a network (FSDP), they must all have
    volumes of one size, since each window is a forward pass.

    Args:
        roi_size: Size of a window along D, H and W (H and W for pictures); one number stands for all, 0 and below for
            the whole axis.
        sw_batch_size: Windows that the network is given together.
        overlap: Share of a window that the next one covers again.
        mode: ``"constant"``: all answers of a voxel count alike; ``"gaussian"``: those near the edge of a window count
            less.
        inferer_options: Further arguments of MONAI's inferer, such as ``{"padding_mode": "reflect"}``.
        **keys: Arguments of :class:`~mia_lightning.audit.adapters.AutoAdapter`, such as ``output_key``.

    Raises:
        ImportError: If MONAI is not installed.

    Example::

        audit = MembershipAudit(members, nonmembers, adapter=MonaiSlidingWindow(roi_size=(96, 96, 96), overlap=0.5))

    Windows of your own, without MONAI, are the ``predict`` of an adapter::

        class Slabs(AutoAdapter):
            def predict(self, module, input):
                slabs = [super(Slabs, self).predict(module, slab) for slab in input.split(32, dim=2)]
                return torch.cat(slabs, dim=2)
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        sw_batch_size: int = 4,
        overlap: float = 0.25,
        mode: Literal["constant", "gaussian"] = "constant",
        inferer_options: dict[str, Any] | None = None,
        **keys: Any,
    ) -> None:
        super().__init__(**keys)
        try:
            from monai.inferers.inferer import SlidingWindowInferer
        except ImportError as error:
            raise ImportError(
                "MonaiSlidingWindow runs MONAI's SlidingWindowInferer, and MONAI is not installed: pip install "
                "'mia-lightning[medical]'. Or write an adapter whose predict(module, input) goes through the windows."
            ) from error
        self.inferer = SlidingWindowInferer(roi_size, sw_batch_size, overlap, mode=mode, **(inferer_options or {}))

    def predict(self, module: Callable[..., Any], input: Tensor) -> Tensor:
        """Call the network window by window; return the prediction for the whole, (B, K, ...)."""
        return cast(Tensor, self.inferer(input, partial(super().predict, module)))
