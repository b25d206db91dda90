"""What the predictability error is made of: extractor, stages, grid, held-out pixels, ridge and weight, one at a time.

    python benchmarks/attacks.py train --data ../shared/data --work /tmp/attacks     # trainings, unless they are there
    python benchmarks/ablations.py --data ../shared/data --work /tmp/attacks [--wide_resnet50_2 FILE]

No model is trained for it: predictability errors depend on pairs alone, and `attacks.py` keeps its models' errors on
all pairs. A variant is one pass over the pairs of a set, kept in ``WORK/ablations``; what is there is not made again.
Milliseconds are those of one core, forward pass included. Prints Markdown.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attacks import SETS, TRANSLATED, Floats, Measured, Rows, all_pairs, audits, datamodule, differences, mean_of_sets
from torch import Tensor, nn

from mia_lightning import PredictabilityScorer
from mia_lightning.features.extractors import IMAGENET_MEAN, IMAGENET_STD, FeatureExtractor, load_extractor
from mia_lightning.functional.roc import roc_auc
from mia_lightning.scores.building import build_scores, derive_errors

DEFAULT = "default: EfficientNet-Lite0, grid 56, 5 folds, ridge 1e-3"
NONE = "none: reconstruction alone"
PAPERS = "wide_resnet50_2"
BATCH = 16
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


class Remembering:
    """An extractor that keeps the maps of the images it saw last, and how many CPU seconds they took."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.extractor = extractor
        self.image: Tensor | None = None
        self.maps: list[Tensor] = []
        self.seconds, self.saved = 0.0, 0.0

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Return all maps of images, (B, 3, H, W) in [0, 1]."""
        if self.image is None or not torch.equal(self.image, image):
            started = time.process_time()
            self.image, self.maps = image.clone(), self.extractor(image)
            self.seconds = time.process_time() - started
        else:
            self.saved += self.seconds
        return self.maps


class Stages(FeatureExtractor):
    """Some of the maps of an extractor, which is run once for all variants that see the same images one after another.

    Args:
        whole: The extractor, and what it returned last; shared by all variants of it.
        chosen: Which of its maps; None takes all.
    """

    def __init__(self, whole: Remembering, chosen: Sequence[int] | None = None) -> None:
        super().__init__(nn.Identity(), name=whole.extractor.name)
        self.whole, self.chosen = whole, chosen

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the chosen maps of images, (B, 3, H, W) in [0, 1]."""
        maps = self.whole(image)
        return maps if self.chosen is None else [maps[index] for index in self.chosen]


@dataclass(frozen=True)
class Variant:
    """One line of the table.

    Attributes:
        label: What it says there.
        file: What its file is called.
        extractor: Key of :func:`extractor`.
        stages: Which maps of it; None takes all.
        settings: Of the scorer, where they are not the default ones.
    """

    label: str
    file: str
    extractor: str = "efficientnet_lite0"
    stages: tuple[int, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passes(self) -> tuple[str, int]:
        """Variants equal in this see the same maps."""
        return self.extractor, self.settings.get("grid", 56)


VARIANTS = (
    Variant(DEFAULT, "default"),
    Variant("other folds (seed 1)", "seed-1", settings={"seed": 1}),
    Variant("stages 1 (stride 4)", "stage-1", stages=(0,)),
    Variant("stages 1, 2", "stages-12", stages=(0, 1)),
    Variant("stages 1, 2, 3", "stages-123", stages=(0, 1, 2)),
    Variant("stages 3, 4", "stages-34", stages=(2, 3)),
    Variant("stage 4 (stride 32)", "stage-4", stages=(3,)),
    Variant("2 folds", "folds-2", settings={"folds": 2}),
    Variant("10 folds", "folds-10", settings={"folds": 10}),
    Variant("hold-out 10 %", "holdout-10", settings={"method": "holdout", "holdout": 0.1}),
    Variant("hold-out 30 %", "holdout-30", settings={"method": "holdout"}),
    Variant("hold-out 50 %", "holdout-50", settings={"method": "holdout", "holdout": 0.5}),
    Variant("hold-out 30 %, least squares (the paper's)", "paper", settings={"method": "holdout", "ridge": 0.0}),
    Variant("ridge 0 (least squares)", "ridge-0", settings={"ridge": 0.0}),
    Variant("ridge 1e-2", "ridge-1e-2", settings={"ridge": 1e-2}),
    Variant("ridge 1e-1", "ridge-1e-1", settings={"ridge": 1e-1}),
    Variant("ridge 1", "ridge-1", settings={"ridge": 1.0}),
    Variant("ridge 10", "ridge-10", settings={"ridge": 10.0}),
    Variant("grid 14", "grid-14", settings={"grid": 14}),
    Variant("grid 28", "grid-28", settings={"grid": 28}),
    Variant("grid 42", "grid-42", settings={"grid": 42}),
    Variant("no features: how far the target is from a constant", "constant", "constant"),
    Variant("raw pixels: colour", "colour", "colour"),
    Variant("raw pixels: blocks of 4 x 4", "blocks", "blocks"),
    Variant("random weights (seed 0)", "random-0", "tf_efficientnet_lite0 at random 0"),
    Variant("random weights (seed 1)", "random-1", "tf_efficientnet_lite0 at random 1"),
    Variant("Wide-ResNet-50-2, random weights, grid 28", "wide-random-28", f"{PAPERS} at random 0", None, {"grid": 28}),
    Variant("Wide-ResNet-50-2", "wide", PAPERS),
    Variant("Wide-ResNet-50-2, hold-out 30 %, least squares (the paper's)", "wide-paper", PAPERS, None,
            {"method": "holdout", "ridge": 0.0}),
)  # fmt: skip


def extractor(name: str, weights: Path | None) -> FeatureExtractor:
    """A published network by its name, one with weights drawn at random, or none: the pixels, or not even these."""
    if name == "constant":  # a map of one position adds nothing to the intercept
        return FeatureExtractor(nn.AdaptiveAvgPool2d(1), name=name)
    if name == "colour":  # the mean of each pixel of the grid
        return FeatureExtractor(nn.AvgPool2d(4), name=name)
    if name == "blocks":  # all sixteen pixels of the image that a pixel of the grid stands for
        return FeatureExtractor(nn.PixelUnshuffle(4), name=name)
    if " at random " in name:
        import timm

        network, seed = name.split(" at random ")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            backbone = timm.create_model(network, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4))
        return FeatureExtractor(backbone, IMAGENET_MEAN, IMAGENET_STD, name)
    return load_extractor(name, weights if name == PAPERS else None)


def measure(
    variants: Sequence[Variant], pairs: Mapping[str, Any], settings: Mapping[str, Any], weights: Path | None = None
) -> Iterator[tuple[Variant, Floats, float]]:
    """Predictability errors of all pairs, (N,), by variants that see the same maps, and milliseconds a pair."""
    whole = Remembering(extractor(variants[0].extractor, weights))
    scorers = [PredictabilityScorer(Stages(whole, variant.stages), **variant.settings) for variant in variants]
    errors: list[list[Tensor]] = [[] for _ in variants]
    seconds = np.zeros(len(variants))
    for start in range(0, len(pairs["x"]), BATCH):
        x, y = (pairs[key][start : start + BATCH] for key in "xy")
        for number, scorer in enumerate(scorers):
            whole.saved, started = 0.0, time.process_time()
            errors[number].append(scorer(x, y, **settings).double())
            seconds[number] += time.process_time() - started + whole.saved
    for variant, parts, spent in zip(variants, errors, seconds, strict=True):
        yield variant, torch.cat(parts).numpy(), 1e3 * float(spent) / len(pairs["x"])


def settings_of(name: str) -> dict[str, Any]:
    """How a set's pairs are scored."""
    classes, ignored = SETS[name].get("num_classes"), SETS[name].get("ignore_index", 255)
    task = "translation" if name in TRANSLATED else "segmentation"
    return {"task": task, "num_classes": classes, "ignore_index": ignored}


def run(name: str, variants: Sequence[Variant], data: Path, work: Path, weights: Path | None) -> None:
    """Measure a set's pairs by those variants, of the same maps, that have not been measured yet."""
    folder = work / "ablations"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [variant for variant in variants if not kept(folder, name, variant).exists()]
    if not missing:
        return
    pairs = all_pairs(name, datamodule(name, "plain", 1, data, work), work)
    for variant, errors, milliseconds in measure(missing, pairs, settings_of(name), weights):
        if variant.file == "default" and not np.allclose(errors, pairs["p"].numpy(), rtol=1e-6):
            raise SystemExit(f"{work}/pairs-{name}.pt was scored by other defaults; delete it and train anew.")
        np.savez(kept(folder, name, variant), p=errors, milliseconds=milliseconds, ids=np.array(pairs["ids"]))
        print(f"{name}, {variant.label}: {milliseconds:.0f} ms", flush=True)


def kept(folder: Path, name: str, variant: Variant) -> Path:
    """The file of a set's errors by a variant."""
    return folder / f"{name}-{variant.file}.npz"


def areas(one: Measured, predictability: Floats, alpha: float = 1.0) -> tuple[float, float]:
    """AUC of ``membership`` and of ``combined`` with other predictability errors, or another weight of them."""
    raw = one.raw | {"predictability": predictability}
    errors = derive_errors(raw, one.member, ["membership", "combined"], alpha=alpha)
    scores = build_scores(errors, one.member, ["membership", "combined"])[0]
    return roc_auc(scores["membership"], one.member), roc_auc(scores["combined"], one.member)


def show(rows: Rows, beside: str, milliseconds: Mapping[str, float] | None = None) -> None:
    """Print the AUC of both scores by line, and the differences to one of them with intervals over trainings."""
    sets = sorted({one.name for one, _ in rows[beside]})
    count = {name: len({one.training for one, _ in rows[beside] if one.name == name}) for name in sets}
    head = [*(f"{name} ({count[name]})" for name in sets), "mean", "difference", "combined", "difference"]
    head += [] if milliseconds is None else ["ms"]
    print(f"| AUC of membership | {' | '.join(head)} |\n" + "|---" * (len(head) + 1) + "|")
    for label, found in rows.items():
        cells = [f"{mean_of_sets(found, [name])[0]:.3f}" for name in sets]
        for mean, gap, low, high in zip(mean_of_sets(found, sets), *differences(found, rows[beside]), strict=True):
            shown = "" if label == beside or np.isnan(gap) else f"{gap:+.3f} ({low:+.3f} to {high:+.3f})"
            cells += ["" if np.isnan(mean) else f"{mean:.3f}", shown]
        if milliseconds is not None:
            cells.append("" if np.isnan(milliseconds[label]) else f"{milliseconds[label]:.0f}")
        print(f"| {label} | {' | '.join(cells)} |")
    print()


def table(found: Sequence[Measured], variants: Sequence[Variant], work: Path) -> None:
    """Print a table of the variants that have been measured on all sets."""
    sets = sorted({one.name for one in found})
    none = [areas(one, one.raw["predictability"], 0.0)[0] for one in found]
    rows: Rows = {
        NONE: [(one, (area, float("nan"))) for one, area in zip(found, none, strict=True)],
        DEFAULT: [(one, areas(one, one.raw["predictability"])) for one in found],
    }
    milliseconds = {NONE: 0.0, DEFAULT: float("nan")}
    unmeasured = []
    for variant in variants:
        files = [kept(work / "ablations", name, variant) for name in sets]
        if not all(file.exists() for file in files):
            unmeasured.append(variant.label)
            continue
        columns = [np.load(file) for file in files]
        milliseconds[variant.label] = float(np.mean([column["milliseconds"] for column in columns]))
        errors = {name: column["p"] for name, column in zip(sets, columns, strict=True)}
        rows[variant.label] = [(one, areas(one, errors[one.name])) for one in found]
    print(f"{len(found)} audits of {len({one.training for one in found})} trainings\n")
    show(rows, DEFAULT, milliseconds)
    if unmeasured:
        print("Not measured: " + "; ".join(unmeasured) + ".\n")


def table_of_weights(found: Sequence[Measured]) -> None:
    """Print a table of weights of the predictability error."""
    rows: Rows = {
        f"alpha {alpha:g}": [(one, areas(one, one.raw["predictability"], alpha)) for one in found] for alpha in ALPHAS
    }
    show(rows, "alpha 1")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True, help="work folder of attacks.py")
    parser.add_argument("--sets", nargs="+", default=["facades", "wbc", "camvid", "edges"], choices=list(SETS))
    parser.add_argument("--wide_resnet50_2", type=Path, help="file of its weights; without one it is left out")
    parser.add_argument(
        "--only", nargs="+", choices=[v.file for v in VARIANTS], help="these variants, and no table of alpha"
    )
    parser.add_argument("--table", action="store_true", help="only print what has been measured")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # CPU seconds can then be compared
    weights = options.wide_resnet50_2
    chosen = [variant for variant in VARIANTS if variant.file in (options.only or (variant.file,))]
    possible = [variant for variant in chosen if variant.extractor != PAPERS or weights is not None]
    for _, alike in groupby([] if options.table else possible, key=lambda variant: variant.passes):
        group = list(alike)
        for name in options.sets:
            run(name, group, options.data, options.work, weights)
    found = audits(options.work, options.sets)
    table(found, chosen, options.work)
    if not options.only:
        table_of_weights(found)


if __name__ == "__main__":
    main()
