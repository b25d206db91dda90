"""Files of volumes: NIfTI, read by nibabel as it is stored, and NumPy arrays."""

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

NIFTI_SUFFIXES = frozenset({".nii", ".nii.gz"})
"""Suffixes (lower case) of NIfTI files."""

_SAME = 1e-3  # millimetres by which places of corners may differ: files round their affine


class Volume(NamedTuple):
    """What a NIfTI file holds.

    Attributes:
        values: (X, Y, Z), or (C, X, Y, Z): what NIfTI keeps behind the three axes of space comes first.
        affine: From places in the array to millimetres, (4, 4); None where that is not known.
    """

    values: npt.NDArray[Any]
    affine: npt.NDArray[np.float64] | None


def is_nifti(path: Path) -> bool:
    """Whether a file's name is that of a NIfTI file.

    Example:
        >>> is_nifti(Path("scan.nii.gz")), is_nifti(Path("scan.npy"))
        (True, False)
    """
    return path.name.lower().endswith(tuple(NIFTI_SUFFIXES))


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file: axes in their order on disk, whole numbers as they are, scaled by its header where it says so.

    Raises:
        ImportError: If nibabel is not installed.
        ValueError: If it cannot be read, or holds something else than one volume of numbers.
    """
    image = _opened(path)
    try:
        values = np.asanyarray(image.dataobj)
    except Exception as error:  # zlib, EOF and others: the file is damaged
        raise ValueError(f"{path} cannot be read as NIfTI: {error}") from error
    found = values.shape
    if values.ndim == 5 and values.shape[3] == 1:  # vectors, behind an axis of time
        values = values[:, :, :, 0]
    require_volume(path, values, "(X, Y, Z), or with channels behind them (X, Y, Z, C)", found)
    channels_first = np.moveaxis(values, 3, 0) if values.ndim == 4 else values
    return Volume(channels_first, np.asarray(image.affine, dtype=np.float64))


def require_volume(path: Path, values: npt.NDArray[Any], expected: str, shape: tuple[int, ...] | None = None) -> None:
    """Raise a ValueError unless an array holds one volume of numbers, with or without channels.

    Args:
        path: Its file.
        values: The array.
        expected: Names of the axes, for the message.
        shape: Its shape in the file; None if that of the array.
    """
    if values.ndim not in (3, 4) or values.dtype.kind not in "biuf":
        found = f"a {values.dtype} array {values.shape if shape is None else shape}"
        raise ValueError(f"{path} holds {found}: expected a volume of numbers {expected}")


def nifti_shape(path: Path) -> tuple[int, ...]:
    """Shape of a NIfTI file by its header; errors as of :func:`read_nifti`."""
    return tuple(int(side) for side in _opened(path).shape)


def require_one_affine(reference: Path, volume: Volume, path: Path, other: Volume) -> None:
    """Raise a ValueError unless two volumes of one size, whose affines are known, lie in space alike."""
    assert volume.affine is not None
    assert other.affine is not None
    size = other.values.shape[-3:]
    corners = np.stack(np.meshgrid(*((0, side - 1) for side in size), indexing="ij"), -1).reshape(-1, 3)
    homogeneous = np.concatenate([corners, np.ones((len(corners), 1))], 1)
    apart = float(np.abs(homogeneous @ (volume.affine - other.affine).T).max())
    if apart <= _SAME:
        return
    raise ValueError(
        f"{path} does not lie where {reference} lies: {_in_words(other.affine)} beside {_in_words(volume.affine)}, "
        f"corners up to {apart:.3g} mm apart, so that voxels would be compared that do not belong together. Bring it "
        "to the grid of the first (nibabel.processing.resample_from_to with order=0 for labels, or MONAI's "
        "ResampleToMatch), or save it with the affine of the first, if only its header is wrong."
    )


def _in_words(affine: npt.NDArray[np.float64]) -> str:
    import nibabel

    axes = cast(Any, nibabel).orientations.aff2axcodes(affine)
    sizes = " x ".join(f"{side:.4g}" for side in np.linalg.norm(affine[:3, :3], axis=0))
    origin = ", ".join(f"{place:.4g}" for place in affine[:3, 3])
    return f"axes {''.join(map(str, axes))}, voxels of {sizes} mm from ({origin})"


def _opened(path: Path) -> Any:
    """A NIfTI file of which only the header is read."""
    try:
        import nibabel
    except ImportError as error:
        raise ImportError(
            f"{path} is a NIfTI file, which nibabel reads, and nibabel is not installed: pip install "
            "'mia-lightning[medical]'. Or store the volumes as NumPy arrays (.npy)."
        ) from error
    try:
        return nibabel.load(path)
    except Exception as error:  # nibabel raises kinds of its own, and those of gzip and struct
        raise ValueError(f"{path} cannot be read as NIfTI: {error}") from error
