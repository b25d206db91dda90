"""Cityscapes: street scenes of German and Swiss cities, fine annotations, 19 classes for training."""

from mia_lightning.data.presets.preset import Layout, Preset

_NAMES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
_COLOURS = (
    *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153)),
    *((250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0)),
    *((0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
)
_VOID = 255
_TRAINED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

TRAIN_IDS = {id: _TRAINED.index(id) if id in _TRAINED else _VOID for id in range(34)}
"""Id of each label for training; 255 for those that evaluations ignore."""

_BY_CITY = {
    "only_splits": ["train", "val"],  # the labels of the test split are dummies
    "group_pattern": "^[^/]+/([^/]+)/",
}
_PAIRS = {"train": 2975, "val": 500}

PRESET = Preset(
    name="cityscapes",
    title="Cityscapes (fine annotations)",
    about="street scenes of 2048 x 1024 pixels from 50 cities",
    url="https://www.cityscapes-dataset.com (registration; leftImg8bit_trainvaltest and gtFine_trainvaltest)",
    licence="non-commercial purposes, by its own agreement",
    classes=_NAMES,
    colours=_COLOURS,
    note=(
        "The validation split has three cities, too few for an interval by groups: membership=coin flips a coin for "
        "each of the 21 cities, group_pattern='' counts images one by one."
    ),
    layouts=(
        Layout(
            name="gtFine, train ids",
            signs=("leftImg8bit", "gtFine/*/*/*_gtFine_labelTrainIds.png"),
            images="leftImg8bit",
            masks="gtFine",
            image_end="_leftImg8bit",
            mask_end="_gtFine_labelTrainIds",
            common=_BY_CITY,
            pairs=_PAIRS,
            group="city",
        ),
        Layout(
            name="gtFine",
            signs=("leftImg8bit", "gtFine"),
            images="leftImg8bit",
            masks="gtFine",
            image_end="_leftImg8bit",
            mask_end="_gtFine_labelIds",
            common=_BY_CITY | {"label_map": TRAIN_IDS},
            pairs=_PAIRS,
            group="city",
        ),
        Layout(
            name="pix2pix",
            signs=("train/*.jpg",),
            side_by_side="right",
            tasks=("translation",),
            pairs=_PAIRS,
        ),
    ),
)
