"""Any folder of images and one of masks: what the data modules read by themselves."""

from mia_lightning.data.presets.preset import Layout, Preset

PRESET = Preset(
    name="folders",
    title="Folders of your own",
    about="images/ and masks/, A/ and B/, or side-by-side files, with or without a folder a split and a splits.csv",
    url="your own",
    licence="your own",
    note="num_classes says how many classes masks have.",
    layouts=(
        Layout(name="images and masks", signs=("images", "masks")),
        Layout(
            name="A and B",
            signs=("A", "B"),
            tasks=("translation",),
            translation={"input_dir": "A", "target_dir": "B"},
        ),
        Layout(name="side by side", signs=(), side_by_side="left", tasks=("translation",)),
    ),
)
