"""Names of the ways to read EXIF turns; without anything heavy, since the command line shows them in its help."""

from typing import Literal

Exif = Literal["pair", "apply", "ignore"]
