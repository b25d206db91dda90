"""CMP Facades: rectified photographs of facades, 12 classes; as published, as pix2pix's, and as crops."""

from mia_lightning.data.presets.preset import Layout, Preset

_NAMES = (
    *("background", "facade", "window", "door", "cornice", "sill"),
    *("balcony", "blind", "deco", "molding", "pillar", "shop"),
)
_COLOURS = (
    *((0, 0, 170), (0, 0, 255), (0, 85, 255), (0, 170, 255), (0, 255, 255), (85, 255, 170)),
    *((170, 255, 85), (255, 255, 0), (255, 170, 0), (255, 85, 0), (255, 0, 0), (170, 0, 0)),
)
_FROM_ONE = {0: 255} | {id: id - 1 for id in range(1, 13)}  # files count from 1; a pixel of 0 has no label

PRESET = Preset(
    name="facades",
    title="CMP Facade Database",
    about="606 rectified photographs of facades (378 base, 228 extended)",
    url="https://cmp.felk.cvut.cz/~tylecr1/facade (base, extended); http://efrosgans.eecs.berkeley.edu/pix2pix/datasets",
    licence="see the site (made for research; a licence was not verified)",
    classes=_NAMES,
    colours=_COLOURS,
    layouts=(
        Layout(
            name="pix2pix",
            signs=("train/*.jpg",),
            side_by_side="right",
            tasks=("translation",),
            pairs={"train": 400, "val": 100, "test": 106},
        ),
        Layout(
            name="CMP, base and extended",
            signs=("base",),
            images="{split}",
            masks="{split}",
            image_end=".jpg",
            mask_end=".png",
            common={"label_map": _FROM_ONE, "only_splits": ["base", "extended"], "membership": "coin"},
            pairs={"base": 378, "extended": 228},
        ),
        Layout(
            name="CMP, one folder",
            signs=("cmp_*.jpg", "cmp_*.png"),
            images=".",
            masks=".",
            image_end=".jpg",
            mask_end=".png",
            common={"label_map": _FROM_ONE, "membership": "coin"},
        ),
        Layout(
            name="crops in 5 classes",
            signs=("photos", "labels"),
            images="photos",
            masks="labels",
            common={"group_column": "building"},
            classes=("others", "facade", "pillar", "window", "balcony"),
            colours=((0, 0, 0), (0, 128, 255), (128, 255, 128), (255, 128, 0), (255, 0, 0)),
            group="building",
        ),
    ),
)
