from __future__ import annotations

import io

import numpy as np
from PIL import Image

from mia_lightning.functional.look_alikes import SIDE, look_alikes


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((90, 70), Image.Resampling.BICUBIC)


def thumbnail(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX))


def compressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.resize((60, 48)).save(stream, "JPEG", quality=40)
    return Image.open(stream)


def found(pictures):
    return [(pair.first, pair.second) for pair in look_alikes(np.stack([thumbnail(p) for p in pictures]))]


def test_a_picture_that_is_compressed_scaled_or_brighter_is_found():
    pictures = [picture(seed) for seed in range(30)]
    brighter = Image.eval(picture(5), lambda value: min(255, int(value * 0.8) + 20))
    assert found(pictures) == []
    assert found([*pictures, compressed(picture(3)), brighter]) in ([(5, 31), (3, 30)], [(3, 30), (5, 31)])


def test_of_few_pictures_the_similarity_alone_decides():
    assert found([picture(0), picture(1), compressed(picture(0))]) == [(0, 2)]


def test_where_all_look_alike_none_is_named_but_the_same_one():
    rng = np.random.default_rng(0)
    scene = np.asarray(picture(0).resize((SIDE, SIDE)), dtype=np.int64)
    views = [np.clip(scene + rng.integers(-15, 16, scene.shape), 0, 255).astype(np.uint8) for _ in range(40)]
    assert look_alikes(np.stack(views)) == []
    pairs = look_alikes(np.stack([*views, views[7]]))
    assert [(pair.first, pair.second) for pair in pairs] == [(7, 40)]


def test_frames_of_films_are_found():
    rng = np.random.default_rng(0)
    films = [np.asarray(picture(seed).resize((SIDE, SIDE)), dtype=np.int64) for seed in range(3)]
    frames = [np.clip(film + rng.integers(-3, 4, film.shape), 0, 255).astype(np.uint8) for film in films * 30]
    assert len(look_alikes(np.stack(frames))) == 3 * 30 * 29 // 2


def test_pictures_of_one_colour_and_no_pictures():
    flat = np.full((15, SIDE, SIDE, 3), 7, dtype=np.uint8)
    assert look_alikes(flat) == []
    assert look_alikes(flat[:0]) == []
