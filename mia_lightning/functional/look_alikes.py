"""Pairs of pictures that look alike: the same picture saved, scaled or lit otherwise, or the same thing once more.

The perceptual hash of a picture is its thumbnail of 32 x 32 pixels in colour, without its mean and of length one; how
alike two pictures are is the product of their hashes, 1 for the same picture. A pair counts where that is at least
0.9775, and where the two are also far nearer to one another than to others: their distance is at most 0.55 of that to
the twentieth nearest picture, or a quarter of the median distance (frames of a film are each other's twentieth
nearest). In sets of which all pictures look alike, such as X-rays of one view, the first condition alone would name
them all.

Measured: of 400 white blood cells it finds the four pairs that were photographed twice and nothing else; of 1,020 crops
of 416 facades, four pairs, each of one facade; the highest similarity of two different facades is 0.90.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SIDE = 32
"""Pixels of a thumbnail along each side."""

ALIKE = 0.9775
"""Similarity from which pictures look alike."""

MOST = 30_000
"""So many pictures are compared at most."""

_NEAR, _FAR = (20, 0.55), 0.25  # which neighbour, and at which part of its distance; likewise of the median
_FEWEST = 12  # pictures among which nothing counts as far
_ROWS = 256  # of similarities that are held at a time


class LookAlike(NamedTuple):
    """A pair of pictures that look alike.

    Attributes:
        first: Position of the one.
        second: Position of the other, behind it.
        similarity: How alike they are, up to 1.
    """

    first: int
    second: int
    similarity: float


def look_alikes(thumbnails: npt.NDArray[np.uint8]) -> list[LookAlike]:
    """Find the pairs of pictures that look alike; the rule stands above.

    Args:
        thumbnails: (N, 32, 32, C), uint8; those of one colour are left out. Of more than 30,000 the first ones count.

    Returns:
        The pairs, the most alike first.

    Example:
        >>> pictures = np.random.default_rng(0).integers(0, 200, (20, 32, 32, 3), dtype=np.uint8)
        >>> pictures[7] = pictures[3] + 40  # brighter
        >>> [(pair.first, pair.second, round(pair.similarity, 3)) for pair in look_alikes(pictures)]
        [(3, 7, 1.0)]
    """
    some = thumbnails[:MOST]
    hashes = some.reshape(len(some), int(np.prod(some.shape[1:]))).astype(np.float32)
    hashes -= hashes.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(hashes, axis=1)
    places = np.flatnonzero(lengths > 0)
    hashes = hashes[places] / lengths[places, None]
    count = len(places)
    reach = np.full(count, 2.0, dtype=np.float32)
    pairs: list[tuple[int, int, float]] = []
    near = min(_NEAR[0], count - 1)
    for start in range(0, count, _ROWS):
        similar = hashes[start : start + _ROWS] @ hashes.T
        if count >= _FEWEST:
            distances = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * similar))
            ordered = np.partition(distances, (near, count // 2), axis=1)
            reach[start : start + _ROWS] = np.maximum(_NEAR[1] * ordered[:, near], _FAR * ordered[:, count // 2])
        rows, columns = np.nonzero(similar >= ALIKE)
        later = columns > rows + start
        pairs += [
            (int(i) + start, int(j), float(similar[i, j])) for i, j in zip(rows[later], columns[later], strict=True)
        ]
    return sorted(
        (
            LookAlike(int(places[i]), int(places[j]), min(similarity, 1.0))
            for i, j, similarity in pairs
            if np.sqrt(max(0.0, 2.0 - 2.0 * similarity)) <= min(reach[i], reach[j]) + 1e-3
        ),
        key=lambda pair: (-pair.similarity, pair.first, pair.second),
    )
