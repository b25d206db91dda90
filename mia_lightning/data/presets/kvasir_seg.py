"""Kvasir-SEG: polyps in images of the gut."""

from mia_lightning.data.presets.preset import Layout, Preset

PRESET = Preset(
    name="kvasir_seg",
    title="Kvasir-SEG",
    about="1000 endoscopic images of polyps, of many sizes",
    url="https://datasets.simula.no/kvasir-seg",
    licence="research and education; other use by permission, see the site",
    classes=("background", "polyp"),
    colours=((0, 0, 0), (255, 255, 255)),
    note="Patients are not named, so images count one by one although a patient may have several.",
    layouts=(
        Layout(
            name="images and masks",
            signs=("images", "masks"),
            tasks=("segmentation",),
            # Masks are JPEG files: grey at the edges.
            segmentation={"threshold": 128, "membership": "coin"},
            pairs={"all": 1000},
        ),
    ),
)
