"""The membership error m = r - alpha p: the reconstruction error corrected for how hard the pair is by itself."""

from mia_lightning.functional.membership import membership_error
from mia_lightning.registry import Column, ErrorTable, register_error


@register_error(
    "membership",
    label="membership",
    sentence="r - alpha p: the reconstruction error, lowered by how hard the pair is by itself (Shafran, Peleg and "
    "Hoshen, ICCV 2021).",
    derived=True,
    always=True,
    order=80,
)
def paper_error(table: ErrorTable) -> Column:
    """Subtract the weighted predictability error of each sample, (N,)."""
    return membership_error(table.errors["reconstruction"], table.errors["predictability"], table.alpha)
