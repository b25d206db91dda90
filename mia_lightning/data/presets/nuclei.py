"""Nuclei: the Data Science Bowl of 2018, with one mask a nucleus."""

from mia_lightning.data.presets.preset import Layout, Preset

PRESET = Preset(
    name="nuclei",
    title="2018 Data Science Bowl (BBBC038)",
    about="nuclei under many microscopes, one mask a nucleus",
    url="https://bbbc.broadinstitute.org/BBBC038 (stage1_train)",
    licence="CC0",
    classes=("background", "nucleus"),
    colours=((0, 0, 0), (255, 255, 255)),
    note="Images of one experiment look alike; the data do not say which belong together.",
    layouts=(
        Layout(
            name="stage1_train",
            signs=("stage1_train",),
            objects=True,
            tasks=("segmentation",),
            common={"only_splits": ["stage1_train"], "membership": "coin"},
            segmentation={"threshold": 128},
            pairs={"stage1_train": 670},
        ),
        Layout(
            name="one folder a sample",
            signs=("*/images", "*/masks"),
            objects=True,
            tasks=("segmentation",),
            common={"membership": "coin"},
            segmentation={"threshold": 128},
        ),
    ),
)
