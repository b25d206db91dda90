"""Which linear predictor serves the audit of segmenters better: ridge on one-hot labels, or logistic regression?

Trains a small UNet on coin-flip members of a data set, audits it, and computes the predictability error of the same
pairs with both predictors on the same features, folds and grid. Prints the AUC of the membership error under each.

    python benchmarks/segmentation_predictor.py --data ../shared/data --epochs 30
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from mia_lightning import MembershipAudit, PredictabilityScorer, SegmentationDataModule, UNetSegmenter
from mia_lightning.functional.design import reduce_columns
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.labels import valid_pixels
from mia_lightning.functional.predictability import PROBABILITY_FLOOR

GRID = 28
SETS: dict[str, dict[str, Any]] = {
    "wbc": {"num_classes": 3, "image_size": 64, "ignore_index": 255},
    "camvid": {"num_classes": 11, "image_size": (48, 64), "ignore_index": 11},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--per_side", type=int, default=150)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in options.sets:
        compare(name, options.data / name, options.epochs, options.per_side)


def compare(name: str, root: Path, epochs: int, per_side: int) -> None:
    pl.seed_everything(0, verbose=False)
    classes, ignore = SETS[name]["num_classes"], SETS[name]["ignore_index"]
    data = SegmentationDataModule(
        root, membership="coin", max_per_side=per_side, augment="none", batch_size=8, **SETS[name]
    )
    model = UNetSegmenter(classes, base_channels=16, ignore_index=ignore, log_images_every_n_epochs=0)
    scorer = PredictabilityScorer(grid=GRID, ridge=1e-3)
    audit = MembershipAudit(scorer=scorer, num_classes=classes, ignore_index=ignore, every_n_epochs=5)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[audit],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    sides: list[Any] = [loader.dataset for loader in data.audit_dataloaders()]
    samples = [side[i] for side in sides for i in range(len(side))]
    member = audit.history[-1].member
    predictors: dict[str, NDArray[np.float64]] = {}
    for ridge in (1e-3, 1e-2, 1e-1):
        own = PredictabilityScorer(grid=GRID, ridge=ridge)
        start = time.perf_counter()
        values = [
            float(own(s["image"][None], s["mask"][None], "segmentation", num_classes=classes, ignore_index=ignore))
            for s in samples
        ]
        predictors[f"ridge {ridge:g}  ({(time.perf_counter() - start) / len(samples):.3f} s an image)"] = np.array(
            values
        )
    for penalty in (1e-2, 1e-1):
        start = time.perf_counter()
        values = [logistic(scorer, s["image"], s["mask"], classes, ignore, penalty) for s in samples]
        seconds = (time.perf_counter() - start) / len(samples)
        predictors[f"logistic C={penalty:g}  ({seconds:.3f} s an image)"] = np.array(values)
    print(f"\n{name}: {int(member.sum())} + {int((~member).sum())} samples, mean AUC over {len(audit.history)} audits")
    print(f"  {'no correction (reconstruction)':44s} {mean_auc(audit, np.zeros(len(member))):.4f}")
    for label, p in predictors.items():
        print(f"  {label:44s} {mean_auc(audit, p):.4f}   mean error {p.mean():.4f}")


def mean_auc(audit: MembershipAudit, predictability: NDArray[np.float64]) -> float:
    areas = [delong_interval(predictability - r.errors["reconstruction"], r.member).estimate for r in audit.history]
    return float(np.mean(areas))


@torch.no_grad()
def logistic(
    scorer: PredictabilityScorer, image: torch.Tensor, mask: torch.Tensor, classes: int, ignore: int, penalty: float
) -> float:
    """Cross-fitted multinomial logistic regression on the features that the ridge sees."""
    picture = F.interpolate(image[None], (4 * GRID, 4 * GRID), mode="bilinear", antialias=True)
    columns = []
    for feature in scorer.network(picture):
        wide = feature.double()
        wide = (wide - wide.mean((2, 3), keepdim=True)) / wide.std((2, 3), keepdim=True).clamp_min(1e-6)
        small = reduce_columns(wide)
        columns.append(F.interpolate(small, (GRID, GRID), mode="bilinear", align_corners=False).flatten(2)[0].T)
    design = torch.cat(columns, 1).numpy()
    labels = F.interpolate(mask[None, None].double(), (GRID, GRID), mode="nearest-exact")[0].long()
    valid = valid_pixels(labels, classes, ignore).flatten().numpy()
    y = labels.flatten().numpy()
    order = torch.randperm(GRID * GRID, generator=torch.Generator().manual_seed(0)).numpy()
    fold = np.empty(GRID * GRID, dtype=int)
    fold[order] = np.arange(GRID * GRID) % 5
    total = 0.0
    for f in range(5):
        fit, test = valid & (fold != f), valid & (fold == f)
        probability = np.full((int(test.sum()), classes), PROBABILITY_FLOOR)
        present = np.unique(y[fit])
        if len(present) > 1:
            scale = design[fit].std(0).clip(1e-9)
            model = LogisticRegression(C=penalty, max_iter=60).fit(design[fit] / scale, y[fit])
            probability[:, model.classes_] = model.predict_proba(design[test] / scale).clip(PROBABILITY_FLOOR)
        else:
            probability[:, present] = 1.0
        probability /= probability.sum(1, keepdims=True)
        total -= float(np.log(probability[np.arange(len(probability)), y[test]]).sum())
    return total / max(1, int(valid.sum()))


if __name__ == "__main__":
    main()
