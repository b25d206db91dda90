"""White blood cells: two sets of stained smears, 3 classes."""

from mia_lightning.data.presets.preset import Layout, Preset

# Masks hold 0, 128 and 255, and a few greys between.
_GREYS = {"label_map": {grey: (grey >= 64) + (grey >= 192) for grey in range(256)}, "membership": "coin"}

PRESET = Preset(
    name="wbc",
    title="White blood cells (Zheng and others, 2018)",
    about="400 stained white blood cells, of two microscopes",
    url="https://github.com/zxaoyou/segmentation_WBC",
    licence="GPL-3.0, as the repository states",
    classes=("background", "cytoplasm", "nucleus"),
    colours=((0, 0, 0), (128, 128, 128), (255, 255, 255)),
    note="A few cells were photographed twice.",
    layouts=(
        Layout(name="images and masks", signs=("images", "masks")),
        Layout(
            name="as published",
            signs=("Dataset 1",),
            images="Dataset {split}",
            masks="Dataset {split}",
            image_end=".bmp",
            mask_end=".png",
            common=_GREYS,
            pairs={"1": 300, "2": 100},
        ),
    ),
)
