"""Seconds an image for the predictability error: the published procedure, ours, and the backbone's forward pass alone.

(a) the paper's procedure rebuilt with scikit-image and scikit-learn: the four maps of Wide-ResNet-50-2 resized to
    56 x 56 by ``skimage.transform.resize``, gathered per pixel (3840 features), ``LinearRegression`` on 70 % of the
    pixels, mean absolute error on the other 30 %;
(b) ours on the same backbone and the same pixels: ``predictability_error(..., fit_mask=..., ridge=0)``;
(c) the backbone's forward pass alone.

(a) and (b) both include the forward pass. Everything is timed in turn on each image, forward passes before and after
the rest, and reported as medians; beside it the default scorer and the forward pass of its own backbone. CPU seconds
(``--cpu_seconds``) are what the process takes of its cores, for a machine that others use, too; with OMP_NUM_THREADS=1.
Without ``--weights`` the backbone has random weights whose batch norms are calibrated on the images, which costs the
same. With ``--accelerator gpu`` all but (a) run on the GPU.

    python benchmarks/predictability.py --images 8
    OMP_NUM_THREADS=1 python benchmarks/predictability.py --images 12 --cpu_seconds
    python benchmarks/predictability.py --images 64 --accelerator gpu
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage.transform import resize
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from mia_lightning import PredictabilityScorer
from mia_lightning.features import load_extractor
from mia_lightning.functional.predictability import predictability_error

GRID = 56
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def options_of() -> tuple[argparse.Namespace, torch.device]:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--weights", type=Path, default=None, help="local file with the ImageNet weights")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="where all but (a) run")
    parser.add_argument("--cpu_seconds", action="store_true", help="CPU time in place of wall-clock time")
    options = parser.parse_args()
    if options.cpu_seconds and options.accelerator == "gpu":
        parser.error("--cpu_seconds does not see what a GPU does; take wall-clock time")
    if options.accelerator == "gpu" and not torch.cuda.is_available():
        parser.error("--accelerator gpu: torch finds no GPU here (torch.cuda.is_available() is False); take cpu")
    return options, torch.device("cuda" if options.accelerator == "gpu" else "cpu")


def main() -> None:
    options, device = options_of()
    timed = partial(timed_by, clock=time.process_time if options.cpu_seconds else time.perf_counter)
    images = photographs(options.images)
    backbone = wide_resnet(images, options.weights)
    on_device = copy.deepcopy(backbone).to(device)
    fit_mask = torch.rand(GRID * GRID, generator=torch.Generator().manual_seed(0)) < 0.7
    seconds: dict[str, list[float]] = {"a": [], "b": [], "c": [], "lite": [], "lite forward": []}
    differences = []
    default = PredictabilityScorer()
    with torch.inference_mode():
        for number, image in enumerate([images[:1], *images.tensor_split(len(images))]):
            theirs, a = timed(published, backbone, image, fit_mask)
            moved, target = image.to(device), target_of(image).to(device)
            before = timed(on_device, moved)[1], timed(default.network, moved)[1]
            ours, b = timed(reduced, on_device, moved, fit_mask)
            _, lite = timed(default, moved, target)
            after = timed(on_device, moved)[1], timed(default.network, moved)[1]
            c, forward = (float(np.mean(times)) for times in zip(before, after, strict=True))
            if number == 0:
                continue  # warm-up
            for key, value in zip(seconds, (a, b, c, lite, forward), strict=True):
                seconds[key].append(value)
            differences.append(abs(theirs - ours))
    median = {key: float(np.median(values)) for key, values in seconds.items()}
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{len(differences)} images, {where}, medians" + (" of CPU seconds" if options.cpu_seconds else ""))
    print(f"(a) published procedure   {median['a']:8.3f} s")
    print(f"(b) ours, same backbone   {median['b']:8.3f} s")
    print(f"(c) forward pass alone    {median['c']:8.3f} s")
    print(f"    ours, default scorer  {median['lite']:8.3f} s   (EfficientNet-Lite0, cross-fitted)")
    print(f"    its forward pass      {median['lite forward']:8.3f} s")
    print(f"(a) / (b)                 {np.median(np.divide(seconds['a'], seconds['b'])):8.2f}")
    print(f"(b) / (c)                 {np.median(np.divide(seconds['b'], seconds['c'])):8.2f}")
    print(f"default / its forward     {np.median(np.divide(seconds['lite'], seconds['lite forward'])):8.2f}")
    print(f"largest |(a) - (b)|       {max(differences):8.1e}  in error, on the same pixels")


def photographs(count: int) -> Tensor:
    """Different crops of photographs, (count, 3, 224, 224)."""
    crops = []
    for number in range(count):
        photo: NDArray[np.uint8] = getattr(skimage.data, PHOTOGRAPHS[number % len(PHOTOGRAPHS)])()
        offset = 16 * (number // len(PHOTOGRAPHS))
        crop = torch.from_numpy(photo[offset:, offset:]).movedim(2, 0)[None].float() / 255
        crops.append(F.interpolate(crop, (4 * GRID, 4 * GRID), mode="bilinear", antialias=True))
    return torch.cat(crops).clamp(0, 1)


def target_of(image: Tensor) -> Tensor:
    """A target that the image predicts well but not perfectly: its negative, mirrored in part."""
    return 0.7 * (1 - image) + 0.3 * image.flip(3)


def wide_resnet(images: Tensor, weights: Path | None) -> nn.Module:
    if weights is not None:
        return load_extractor("wide_resnet50_2", weights)
    torch.manual_seed(0)
    # Zero-initialised residual branches, timm's default, would leave most channels without signal.
    stages = (1, 2, 3, 4)
    network: nn.Module = timm.create_model(
        "wide_resnet50_2", pretrained=False, features_only=True, out_indices=stages, zero_init_last=False
    )
    with torch.no_grad():
        for _ in range(3):
            network.train()(2 * images - 1)
    return load_extractor(nn.Sequential(network))


def published(backbone: nn.Module, image: Tensor, fit_mask: Tensor) -> float:
    fit = fit_mask.numpy()
    maps = [m[0].movedim(0, 2).double().numpy() for m in backbone(image)]
    shrink: Any = resize  # scikit-image has no annotations for it
    resized = [shrink(m, (GRID, GRID), order=1) for m in maps]
    features = np.concatenate(resized, axis=2).reshape(GRID * GRID, -1)
    target = F.interpolate(target_of(image).double(), (GRID, GRID), mode="area")[0].flatten(1).T.numpy()
    model = LinearRegression().fit(features[fit], target[fit])
    return float(np.abs(model.predict(features[~fit]) - target[~fit]).mean())


def reduced(backbone: nn.Module, image: Tensor, fit: Tensor) -> float:
    return float(predictability_error(backbone(image), target_of(image), grid=GRID, fit_mask=fit, ridge=0.0))


def timed_by(run: Callable[..., Any], *inputs: Any, clock: Callable[[], float]) -> tuple[Any, float]:
    time.sleep(0.3)  # the threads of the library that ran before spin on for a while
    start = clock()
    value = run(*inputs)
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # kernels are still running when a call returns
    return value, clock() - start


if __name__ == "__main__":
    main()
