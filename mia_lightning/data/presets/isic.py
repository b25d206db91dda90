"""ISIC 2018, task 1, and 2017, part 1: outlines of skin lesions."""

from mia_lightning.data.presets.preset import Layout, Preset

_TWO = ["Training", "Validation"]
_SPLITS = {"only_splits": _TWO, "member_split": _TWO[0], "nonmember_split": _TWO[1]}

PRESET = Preset(
    name="isic",
    title="ISIC 2018, task 1 (lesion boundaries)",
    about="dermoscopic images of skin lesions, of many sizes",
    url="https://challenge.isic-archive.com/data/#2018",
    licence="see the site (images of several collections; non-commercial terms hold for some)",
    classes=("background", "lesion"),
    colours=((0, 0, 0), (255, 255, 255)),
    note="The validation split has 100 images: membership=coin makes two large sides. Patients are not named.",
    layouts=(
        Layout(
            name="ISIC 2018",
            signs=("ISIC2018_Task1-2_*_Input",),
            images="ISIC2018_Task1-2_{split}_Input",
            masks="ISIC2018_Task1_{split}_GroundTruth",
            mask_end="_segmentation",
            tasks=("segmentation",),
            common=_SPLITS,
            segmentation={"foreground": 255},
            pairs={"Training": 2594, "Validation": 100},
        ),
        Layout(
            name="ISIC 2017",
            signs=("ISIC-2017_Training_Data",),
            images="ISIC-2017_{split}_Data",
            masks="ISIC-2017_{split}_Part1_GroundTruth",
            mask_end="_segmentation",
            image_end=".jpg",  # superpixels lie beside the images, as PNG
            tasks=("segmentation",),
            common=_SPLITS,
            segmentation={"foreground": 255},
            pairs={"Training": 2000, "Validation": 150},
        ),
    ),
)
