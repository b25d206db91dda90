"""Sections of ``validity.py`` on the blind test and the control: what they find, and how often they are wrong."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from mia_lightning.data.demo_images import find_shipped
from mia_lightning.data.images import read_image
from mia_lightning.features.extractors import FeatureExtractor
from mia_lightning.functional.blind import IMAGE_STATISTICS, blind_test, image_statistics, is_further
from mia_lightning.functional.feature_means import FEATURES, feature_means
from mia_lightning.functional.picture_technique import TECHNIQUE, technique_statistics
from mia_lightning.scores.analysis import Plan, analyse

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]
Row = tuple[str, float, float, int, str]
"""What was measured, nominal rate, measured rate, draws, and what stands beside it."""

LEVEL = 0.05
SIDE = 96
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
OTHERS = ("ihc.png", "retina.jpg")


def _brighter(picture: Picture, spread: float) -> Picture:
    return np.asarray(np.clip(picture + 0.3 * 255.0 * spread, 0, 255).round(), dtype=np.uint8)


def _tinted(picture: Picture, spread: float) -> Picture:
    return np.asarray(np.clip(picture * np.array([1.03, 1.0, 1 / 1.03]), 0, 255).round(), dtype=np.uint8)


def _blurred(picture: Picture, spread: float) -> Picture:
    return np.asarray(gaussian_filter(picture.astype(float), (0.7, 0.7, 0.0)).round(), dtype=np.uint8)


def _stored(picture: Picture, spread: float) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file).convert("RGB"))


def _resized(picture: Picture, spread: float) -> Picture:
    image = Image.fromarray(picture)
    width, height = image.size
    smaller = image.resize((width * 3 // 4, height * 3 // 4), Image.Resampling.LANCZOS)
    return np.asarray(smaller.resize((width, height), Image.Resampling.BICUBIC))


SHIFTS: Mapping[str, Callable[[Picture, float], Picture]] = {
    "none": lambda picture, spread: picture,
    "brighter by 0.3 sd": _brighter,
    "red and blue 3 % apart": _tinted,
    "blur of 0.7 pixels": _blurred,
    "JPEG of quality 75": _stored,
    "from 3/4 of the size": _resized,
}


def statistics_of(pictures: Sequence[Picture], extractor: FeatureExtractor) -> dict[str, Floats]:
    """What the blind classifiers see of pictures, (N,) by name."""
    rows = []
    for picture in pictures:
        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255.0
        square = nn.functional.interpolate(image, size=(224, 224), mode="bilinear", antialias=True)
        parts = (image_statistics(image), technique_statistics(image), feature_means(extractor(square)))
        rows.append(torch.cat(parts, 1)[0].numpy())
    names = [f"input_{name}" for name in (*IMAGE_STATISTICS, *TECHNIQUE)] + list(FEATURES)
    return dict(zip(names, np.stack(rows).T, strict=True))


def rejections(
    members: Mapping[str, Floats], nonmembers: Mapping[str, Floats], each: int, draws: int, *, paired: bool
) -> tuple[float, float, float]:
    """How often both tests reject, how often that of the few statistics alone, and the mean AUC.

    With ``paired`` rows are of the same pictures, and no picture stands on both sides.
    """
    size, other = (len(next(iter(pool.values()))) for pool in (members, nonmembers))
    member, found = np.arange(2 * each) < each, []
    for draw in range(draws):
        rng = np.random.default_rng([each, draw])
        chosen = rng.permutation(size)
        first, second = chosen[:each], (chosen[each : 2 * each] if paired else rng.permutation(other)[:each])
        table = {name: np.concatenate([members[name][first], nonmembers[name][second]]) for name in members}
        both = blind_test(table, member, permutations=99, seed=draw)
        few = {name: column for name, column in table.items() if not is_further(name)}
        alone = blind_test(few, member, permutations=99, seed=draw)
        found.append((both.p_value < LEVEL, alone.p_value < LEVEL, both.auc))
    both_found, alone_found, auc = np.mean(np.array(found, dtype=np.float64), axis=0)
    return float(both_found), float(alone_found), float(auc)


def blind(small: bool) -> Iterator[Row]:
    """How often the blind test tells sides apart that differ in one thing, and sides that do not differ."""
    draws, sizes, count = (30, (20,), 60) if small else (400, (20, 48, 150), 310)
    extractor = FeatureExtractor(nn.AvgPool2d(16), name="grey means")
    if not small:
        from mia_lightning.features.extractors import load_extractor

        extractor = load_extractor()
    pictures = crops(PHOTOGRAPHS, count)
    spread = float(np.std([picture.mean() / 255.0 for picture in pictures]))
    plain = statistics_of(pictures, extractor)
    shifts = dict(list(SHIFTS.items())[:1] + list(SHIFTS.items())[3:4]) if small else SHIFTS
    for name, shift in shifts.items():
        shifted = statistics_of([shift(picture, spread) for picture in pictures], extractor)
        for each in sizes:
            both, alone, auc = rejections(shifted, plain, each, draws, paired=True)
            beside = f"few statistics alone {alone:.3f}; blind AUC {auc:.2f}"
            yield f"{name}, {each} a side", LEVEL if name == "none" else 0.8, both, draws, beside
    if not small:
        others = statistics_of(crops(OTHERS, 200), extractor)
        both, alone, auc = rejections(others, plain, 20, draws, paired=False)
        yield "other contents, 20 a side", 0.8, both, draws, f"few statistics alone {alone:.3f}; blind AUC {auc:.2f}"


def crops(names: Sequence[str], count: int) -> list[Picture]:
    """Random squares of photographs that scikit-image ships, as many of each."""
    rng = np.random.default_rng(0)
    photos = [read_image(path) for path in find_shipped(list(names))]
    cut = []
    for number in range(count):
        photo = photos[number % len(photos)]
        top, left = (int(rng.integers(side - SIDE + 1)) for side in photo.shape[:2])
        cut.append(np.ascontiguousarray(photo[top : top + SIDE, left : left + SIDE]))
    return cut


def control(small: bool) -> Iterator[Row]:
    """How often the control of a harmless audit misses 0.5, by itself and in groups, of plain and fitted scores."""
    draws = 40 if small else 1000
    for each, size, primary in (
        ((48, 1, "membership"),)
        if small
        else [(n, g, p) for n in (20, 48, 150) for g in (1, 4) for p in ("membership", "calibrated")]
    ):
        if each // size < 12 and size > 1:
            continue
        misses = 0
        for draw in range(draws):
            rng = np.random.default_rng([each, size, draw, 7])
            member, group = np.arange(2 * each) < each, np.arange(2 * each) // size
            shared = rng.normal(size=2 * each)[group]
            difficulty = np.sqrt(0.7) * shared + np.sqrt(0.3) * rng.normal(size=2 * each)
            raw = {
                "reconstruction": np.exp(difficulty + 0.5 * rng.normal(size=2 * each) - 0.8 * member),
                "predictability": np.exp(0.8 * difficulty + 0.3 * rng.normal(size=2 * each)),
            }
            codes = None if size == 1 else group
            metrics = analyse(raw, {}, member, Plan((primary,), primary, seed=draw), group=codes).metrics
            low, high = metrics["audit/control_auc_low"], metrics["audit/control_auc_high"]
            misses += not low <= 0.5 <= high
        yield f"control of {primary}, {each} a side, groups of {size}", LEVEL, misses / draws, draws, ""


SECTIONS: dict[str, Callable[[bool], Iterator[Row]]] = {"blind": blind, "control": control}
