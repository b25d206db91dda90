"""GlaS: glands in stained sections of the colon, the Warwick-QU data set."""

from mia_lightning.data.presets.preset import Layout, Preset

PRESET = Preset(
    name="glas",
    title="GlaS (Warwick-QU)",
    about="165 stained sections of colorectal cancer from 16 patients",
    url="https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest",
    licence="research only, no commercial use",
    classes=("background", "gland"),
    colours=((0, 0, 0), (255, 255, 255)),
    note="Patients are in Grade.csv; membership=coin flips one coin for each.",
    layouts=(
        Layout(
            name="Warwick-QU",
            signs=("train_*_anno.bmp",),
            images=".",
            masks=".",
            mask_end="_anno",
            tasks=("segmentation",),
            common={
                "split_pattern": "^(train|testA|testB)_",
                "nonmember_split": "testA",
                "splits": "Grade.csv",
                "id_column": "name",
                "group_column": "patient ID",
            },
            segmentation={"threshold": 1},  # masks number the glands
            pairs={"train": 85, "testA": 60, "testB": 20},
            group="patient",
        ),
    ),
)
