"""ADE20K in its 150 classes of scene parsing (SceneParse150)."""

from mia_lightning.data.presets.preset import Layout, Preset

# The first name of each, in the order of the benchmark's own list, which counts from 1.
_NAMES = (
    "wall, building, sky, floor, tree, ceiling, road, bed, window, grass, cabinet, sidewalk, person, earth, "
    "door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, "
    "field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, "
    "signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, "
    "stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, "
    "coffee table, toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, "
    "swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, "
    "streetlight, booth, television, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman, "
    "bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, "
    "swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, "
    "trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, "
    "vase, traffic light, tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, "
    "glass, clock, flag"
)

PRESET = Preset(
    name="ade20k",
    title="ADE20K, scene parsing in 150 classes",
    about="scenes indoors and outdoors, of many sizes",
    url="http://sceneparsing.csail.mit.edu (ADEChallengeData2016)",
    licence="images for non-commercial research and education, see the site",
    classes=tuple(_NAMES.split(", ")),
    layouts=(
        Layout(
            name="ADEChallengeData2016",
            signs=("images/training", "annotations/training"),
            images="images",
            masks="annotations",
            common={
                "label_map": {0: 255} | {id: id - 1 for id in range(1, 151)},  # 0: none of the 150
                "only_splits": ["training", "validation"],
                "member_split": "training",
                "nonmember_split": "validation",
            },
            pairs={"training": 20210, "validation": 2000},
        ),
    ),
)
