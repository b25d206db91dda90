"""Maps: aerial photographs beside maps, pix2pix's side-by-side files."""

from mia_lightning.data.presets.preset import Layout, Preset

PRESET = Preset(
    name="maps",
    title="Maps (pix2pix)",
    about="aerial photographs of New York beside the map of the same place, 600 x 600 pixels each",
    url="http://efrosgans.eecs.berkeley.edu/pix2pix/datasets (maps.tar.gz)",
    licence="see the site (imagery of Google Maps, whose terms hold)",
    layouts=(
        Layout(
            name="pix2pix",
            signs=("train",),
            side_by_side="left",  # photograph on the left: photograph to map, as pix2pix trains it
            tasks=("translation",),
            pairs={"train": 1096, "val": 1098},
        ),
    ),
    note="The photograph is the input; direction=b_to_a makes photographs of maps.",
)
