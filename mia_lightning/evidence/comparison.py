"""The numbers of evidence: two collections of images compared, and single images with their p-values."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ScoredImage:
    """One image of either side.

    Attributes:
        id: Its name.
        score: Its score, higher = more likely trained on.
        p_value: Of a suspect: the chance that a reference image would score as high. NaN for the reference.
        flagged: Whether a suspect stands out at the false discovery rate; never where the sets differ by themselves or
            nothing can be concluded.
    """

    id: str
    score: float
    p_value: float = math.nan
    flagged: bool = False


@dataclass(frozen=True)
class Comparison:
    """Suspects against reference as two collections. All p-values are one-sided.

    Attributes:
        suspects: Number of suspects.
        references: Number of reference images.
        p_value: Fisher's statistic over conformal p-values with its permutation null: the collection's p-value.
        adjusted_p_value: The same of what the statistics of the pairs (brightness and so on) do not explain of the
            score, by a regression fitted on the reference.
        simes_p_value: Simes' combination, beside it.
        auc: Chance that a suspect outscores a reference image.
        auc_low: Lower end of its 95 % interval.
        auc_high: Upper end.
        suspect_groups: Number of groups that the suspects come in; 0 where no groups are given.
        reference_groups: Likewise of the reference. Groups count in place of images in all of these numbers.
    """

    suspects: int
    references: int
    p_value: float = math.nan
    adjusted_p_value: float = math.nan
    simes_p_value: float = math.nan
    auc: float = math.nan
    auc_low: float = math.nan
    auc_high: float = math.nan
    suspect_groups: int = 0
    reference_groups: int = 0

    @property
    def units(self) -> tuple[int, int]:
        """Independent observations of the suspects and of the reference: their groups, or the images."""
        if self.suspect_groups or self.reference_groups:
            return self.suspect_groups, self.reference_groups
        return self.suspects, self.references
