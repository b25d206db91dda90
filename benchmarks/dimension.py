"""Does a larger output leak more? Trains one small network on outputs and inputs of several sizes, and audits it.

    python benchmarks/dimension.py train --data ../shared/data --work /tmp/dimension [--seeds 1 2 3]   # resumable
    python benchmarks/dimension.py longer --data ../shared/data --work /tmp/dimension   # ends, 3 x the steps
    python benchmarks/dimension.py table --work /tmp/dimension      # tables, trend tests, figures/dimension.png

CamVid at 64 x 64, 160 frames spread over its sequences, read as labels -> photograph (translation) and as photograph ->
labels (segmentation). Every training has the same U-Net with 11 or 3 channels at either end, so the same number of
parameters, the same number of steps on batches of the same frames, and a seed that draws which half of the frames are
members, the first weights and the order of the batches. What varies, one thing at a time:

- output resolution: what the network returns is averaged over blocks, pictures as they are and classes as logits, and
  compared with the target at that resolution: the mean colour, or the class that most pixels of the block have. At one
  value an image this is the usual head of a classifier;
- classes: the two rarest become one, again and again, counted over all frames; the network keeps its 11 logits, and the
  probability of a joined class is the sum of its parts';
- input resolution: the input is averaged over blocks, and each block filled with its mean.

The loss that is trained is the reconstruction error of the audit: L1, or cross-entropy.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from mia_lightning import PredictabilityScorer, SegmentationDataModule
from mia_lightning.figures.palette import colour
from mia_lightning.figures.style import legend_below, new_figure, to_png
from mia_lightning.functional.calibration import log_error
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.neighbours import AUTO, moved_back, transform_pair
from mia_lightning.functional.p_values import holm
from mia_lightning.functional.pixel_errors import pixel_errors
from mia_lightning.functional.reconstruction import segmentation_error, translation_error
from mia_lightning.functional.roc import roc_auc
from mia_lightning.functional.tiles import tile_log_errors, tile_ratio
from mia_lightning.networks.unet import UNet
from mia_lightning.scores.building import NEIGHBOUR, TILES, build_scores, derive_errors

Floats = NDArray[np.float64]
Task = Literal["translation", "segmentation"]

SIDE, CLASSES, VOID, IGNORED = 64, 11, 11, 255
FRAMES, BATCH, STEPS, BASE_CHANNELS, DEPTH, LEARNING_RATE = 160, 8, 240, 12, 4, 2e-3
LONGER = 720
"""Steps of the trainings that show what becomes of the ends of the output sweeps later."""
LOOKS = 3
"""Audits of a training: after a quarter, a half, and all of its steps."""
LEAST_PREDICTED = 16
"""Below this output resolution there is no predictability error: a linear map has no pixels to be fitted on."""
SCORES = ("reconstruction", "membership", "neighbour", "combined")
FIGURE = Path(__file__).parent / "figures" / "dimension.png"


@dataclass(frozen=True)
class Cell:
    """What is trained: one point of a sweep, or of several.

    Attributes:
        task: Labels -> photograph, or photograph -> labels.
        output: Pixels a side of the output.
        input: Pixels a side of the input.
        classes: Number of classes; of a translation always all.
    """

    task: Task
    output: int = SIDE
    input: int = SIDE
    classes: int = CLASSES

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.task}-output{self.output}-input{self.input}-classes{self.classes}"

    @property
    def predicted(self) -> bool:
        """Whether it has a predictability error: whole inputs, and outputs with pixels to fit a linear map on."""
        return self.output >= LEAST_PREDICTED and self.input == SIDE


class Sweep(NamedTuple):
    """Cells that differ in one thing.

    Attributes:
        title: Which task, and what varies.
        axis: What varies, with its unit.
        levels: Its values.
        cells: One a level.
    """

    title: str
    axis: str
    levels: tuple[int, ...]
    cells: tuple[Cell, ...]


def sweeps() -> list[Sweep]:
    """The five sweeps."""
    sides, classes, found = (1, 4, 16, SIDE), (2, 4, 7, CLASSES), []
    tasks: tuple[Task, ...] = ("translation", "segmentation")
    for task in tasks:
        output, input = (tuple(Cell(task, **{end: side}) for side in sides) for end in ("output", "input"))
        found.append(Sweep(f"{task}, output resolution", "output, pixels a side", sides, output))
        found.append(Sweep(f"{task}, input resolution", "input, pixels a side", sides, input))
    merged = tuple(Cell("segmentation", classes=count) for count in classes)
    found.append(Sweep("segmentation, classes", "classes", classes, merged))
    return found


@dataclass(frozen=True)
class Pool:
    """Frames that members and nonmembers are drawn from.

    Attributes:
        photo: (N, 3, S, S) in [0, 1].
        mask: Class of each pixel, (N, S, S), :data:`VOID` where there is none.
    """

    photo: Tensor
    mask: Tensor

    def take(self, chosen: Tensor | slice) -> Pool:
        """Some of them."""
        return Pool(self.photo[chosen], self.mask[chosen])


def read_pool(data: Path, work: Path) -> Pool:
    """Read frames spread evenly over the data set, once."""
    file = work / "pool.pt"
    if not file.exists():
        source = SegmentationDataModule(
            data / "camvid", num_classes=CLASSES, ignore_index=VOID, membership="coin", image_size=SIDE, augment="none"
        )
        records = source.all_records()
        chosen = [records[int(at)] for at in np.linspace(0, len(records) - 1, FRAMES)]
        items: Any = source.dataset_of(chosen)
        read = [items[index] for index in range(len(items))]
        saved(file, {"photo": torch.stack([i["image"] for i in read]), "mask": torch.stack([i["mask"] for i in read])})
    kept = torch.load(file, weights_only=True)
    return Pool(kept["photo"], kept["mask"].long())


def require_settings(work: Path) -> None:
    """Refuse a folder of trainings with other sizes."""
    own = {"frames": FRAMES, "steps": STEPS, "batch": BATCH, "channels": BASE_CHANNELS, "depth": DEPTH, "side": SIDE}
    file = work / "settings.json"
    if file.exists() and (there := json.loads(file.read_text())) != own:
        raise SystemExit(f"{work} holds trainings of {there}, not of {own}: delete it, or name another --work.")
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(own))


def saved(file: Path, values: dict[str, Tensor]) -> None:
    """Write a file that is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    torch.save(values, part)
    part.replace(file)


def merged_classes(counts: Sequence[int], classes: int) -> list[list[int]]:
    """Join the two rarest classes until as many are left: the old classes of each new one, sorted."""
    groups = [[number] for number in range(len(counts))]
    while len(groups) > classes:
        groups.sort(key=lambda group: (sum(counts[number] for number in group), group))
        groups = [sorted(groups[0] + groups[1]), *groups[2:]]
    return sorted(groups)


class Problem:
    """What a cell makes of frames, and of what the network returns for them.

    Args:
        cell: Which one.
        counts: Pixels of each class in all frames.
    """

    def __init__(self, cell: Cell, counts: Sequence[int]) -> None:
        self.cell, self.groups = cell, merged_classes(counts, cell.classes)
        self.new_class = torch.full((VOID + 1,), cell.classes)  # the last is void
        for number, group in enumerate(self.groups):
            self.new_class[group] = number

    def pair(self, frames: Pool) -> tuple[Tensor, Tensor]:
        """Input (N, C, S, S), and target: (N, 3, s, s) in [0, 1], or classes (N, s, s)."""
        if self.cell.task == "translation":
            one_hot = F.one_hot(frames.mask, CLASSES + 1)[..., :CLASSES].movedim(-1, 1).float()
            return self._coarse(one_hot), self._pooled(frames.photo)
        return self._coarse(frames.photo), self._majority(self.new_class[frames.mask])

    def _coarse(self, x: Tensor) -> Tensor:
        if self.cell.input == x.shape[-1]:
            return x
        return F.interpolate(F.adaptive_avg_pool2d(x, self.cell.input), size=x.shape[-2:], mode="nearest")

    def _pooled(self, y: Tensor) -> Tensor:
        return y if self.cell.output == y.shape[-1] else F.adaptive_avg_pool2d(y, self.cell.output)

    def _majority(self, mask: Tensor) -> Tensor:
        share = self._pooled(F.one_hot(mask, self.cell.classes + 1).movedim(-1, 1).float())[:, : self.cell.classes]
        most, number = share.max(1)
        return torch.where(most > 0, number, IGNORED)

    def network(self, base_channels: int = BASE_CHANNELS) -> nn.Module:
        """The network of the task, with weights of the global generator."""
        ends = (CLASSES, 3) if self.cell.task == "translation" else (3, CLASSES)
        inner = UNet(4 * ends[0], 4 * ends[1], base_channels=base_channels, depth=DEPTH)
        net = nn.Sequential(nn.PixelUnshuffle(2), inner, nn.PixelShuffle(2))  # a quarter of the time
        return net.to(memory_format=torch.channels_last)

    def predict(self, net: nn.Module, x: Tensor) -> Tensor:
        """What is compared with the target, at its resolution: (N, 3, s, s) in [0, 1], or logits (N, K, s, s)."""
        returned = net(x.to(memory_format=torch.channels_last))
        if self.cell.task == "translation":
            return self._pooled(returned.sigmoid())
        logits = self._pooled(returned)
        if self.cell.classes < CLASSES:
            of_class = logits.unbind(1)
            joined = [torch.stack([of_class[number] for number in group]).logsumexp(0) for group in self.groups]
            logits = torch.stack(joined, 1)
        return logits

    def error_of(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Reconstruction errors, (N,), with their gradient: what is trained and audited."""
        if self.cell.task == "translation":
            return translation_error(prediction, y)
        return segmentation_error(prediction, y, ignore_index=IGNORED)

    def error(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Those of what the network returns."""
        return self.error_of(self.predict(net, x), y)

    def tiles_of(self, prediction: Tensor, x: Tensor, y: Tensor, copy: str | None) -> Tensor:
        """Logarithms of the errors of tiles, (N, T), of a transformed copy in the place of the pair's own.

        Shifts move whole pixels of the input, but parts of those of a coarser output: its errors are brought to the
        input's resolution first.
        """
        errors = pixel_errors(prediction, y, self.cell.task, IGNORED)
        errors = F.interpolate(errors, size=x.shape[-2:], mode="nearest")
        return tile_log_errors(errors if copy is None else moved_back(copy, errors))

    def constant_error(self, members: Tensor, others: Tensor) -> float:
        """Mean error on other targets of the best constant for the members' targets."""
        if self.cell.task == "translation":
            median = members.movedim(1, 0).flatten(1).median(1).values[None, :, None, None]
            return float(translation_error(median.expand_as(others), others).mean())
        share = torch.bincount(members[members != IGNORED], minlength=self.cell.classes).float() + 1.0
        logits = share.log()[None, :, None, None].expand(len(others), -1, *others.shape[1:])
        return float(segmentation_error(logits, others, ignore_index=IGNORED).mean())


def draw_members(count: int, seed: int) -> NDArray[np.bool_]:
    """A random half of the frames, the seed's own: (N,)."""
    member = np.zeros(count, dtype=bool)
    member[np.random.default_rng(seed).permutation(count)[: count // 2]] = True
    return member


def train(
    problem: Problem, pool: Pool, seed: int, *, steps: int = STEPS, base_channels: int = BASE_CHANNELS
) -> dict[str, NDArray[Any]]:
    """Train one network, and measure its errors on all frames.

    Returns:
        ``member`` (N,), ``looks`` (L, N): errors at each audit, ``constant`` (): error of a constant on nonmembers,
        ``r/<copy>`` (N,): errors on transformed copies at the last; and, where there is a predictability error,
        ``t/<copy>`` (N, T): logarithms of those of tiles, ``t/identity`` of the pairs' own.
    """
    member = draw_members(len(pool.photo), seed)
    chosen = torch.from_numpy(member)
    torch.manual_seed(seed)
    net = problem.network(base_channels)
    optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    x, y = problem.pair(pool.take(chosen))
    order = batches(len(x), seed)
    looks, at = [], [max(1, steps // 2**back) for back in range(LOOKS)]
    for step in range(1, steps + 1):
        net.train()
        batch = next(order)
        optimizer.zero_grad()
        loss: Any = problem.error(net, x[batch], y[batch]).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step in at:
            looks.append(measure(problem, net, pool)[0])
    others = problem.pair(pool.take(~chosen))[1]
    columns: dict[str, NDArray[Any]] = {}
    for copy in (None, *AUTO):
        errors, tiles = measure(problem, net, pool, copy)
        columns |= {f"r/{copy}": errors} if copy else {}
        columns |= {f"t/{copy or 'identity'}": tiles} if problem.cell.predicted else {}
    constant = np.array(problem.constant_error(y, others))
    return {"member": member, "looks": np.stack(looks), "constant": constant, **columns}


def batches(count: int, seed: int) -> Iterator[Tensor]:
    """Batches without end, the same for all cells of a seed."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        deal = torch.randperm(count, generator=generator)
        yield from torch.split(deal[: count - count % BATCH], BATCH)


@torch.no_grad()
def measure(
    problem: Problem, net: nn.Module, pool: Pool, copy: str | None = None
) -> tuple[Floats, NDArray[np.float32]]:
    """Errors on all frames, or on transformed copies of them, (N,), and logarithms of those of tiles, (N, T)."""
    net.eval()
    errors, tiles = [], []
    for start in range(0, len(pool.photo), 32):
        frames = pool.take(slice(start, start + 32))
        if copy is not None:
            frames = Pool(*transform_pair(copy, frames.photo, frames.mask))
        x, y = problem.pair(frames)
        prediction = problem.predict(net, x)
        errors.append(problem.error_of(prediction, y))
        tiles.append(problem.tiles_of(prediction, x, y, copy))
    return torch.cat(errors).double().numpy(), torch.cat(tiles).numpy()


def predictability(problem: Problem, pool: Pool) -> dict[str, Floats]:
    """How badly a linear map predicts the target from features of the input, pair by pair: ``p``, (N,)."""
    cell = problem.cell
    scorer = PredictabilityScorer(grid=min(28, cell.output))
    settings: dict[str, Any] = (
        {} if cell.task == "translation" else {"num_classes": cell.classes, "ignore_index": IGNORED}
    )
    x, y = problem.pair(pool)
    parts = [scorer(x[i : i + 16], y[i : i + 16], cell.task, **settings) for i in range(0, len(x), 16)]
    return {"p": torch.cat(parts).double().numpy()}


def train_all(data: Path, work: Path, seeds: Sequence[int]) -> None:
    """Train and measure what has not been."""
    pool, counts = prepared(data, work)
    for seed, cell in itertools.product(seeds, all_cells()):
        last = "t/identity" if cell.predicted else "member"
        keep(work, f"{cell.name}-{seed}", partial(train, Problem(cell, counts), pool, seed), last)
    for cell in all_cells():
        if cell.predicted:
            keep(work, f"{cell.name}-p", partial(predictability, Problem(cell, counts), pool))


def train_longer(data: Path, work: Path, seeds: Sequence[int]) -> None:
    """Train the ends of the sweeps of outputs for more steps."""
    pool, counts = prepared(data, work)
    ends = dict.fromkeys(cell for sweep in sweeps_of_outputs() for cell in (sweep.cells[0], sweep.cells[-1]))
    for seed, cell in itertools.product(seeds, ends):
        keep(work, f"{cell.name}-{seed}-longer", partial(train, Problem(cell, counts), pool, seed, steps=LONGER))


def all_cells() -> list[Cell]:
    """Each once."""
    return list(dict.fromkeys(cell for sweep in sweeps() for cell in sweep.cells))


def sweeps_of_outputs() -> list[Sweep]:
    """Those that change the output."""
    return [sweep for sweep in sweeps() if "input" not in sweep.title]


def prepared(data: Path, work: Path) -> tuple[Pool, list[int]]:
    """The frames, and how many pixels each class has in them."""
    require_settings(work)
    pool = read_pool(data, work)
    return pool, torch.bincount(pool.mask.flatten(), minlength=VOID + 1)[:CLASSES].tolist()


def keep(work: Path, name: str, make: Callable[[], dict[str, NDArray[Any]]], column: str = "") -> None:
    """Make a file of columns, unless it is there with that one, which files from before may lack."""
    file = work / "runs" / f"{name}.npz"
    if file.exists():
        with np.load(file) as there:
            if not column or column in there.files:
                return
    file.parent.mkdir(parents=True, exist_ok=True)
    started = time.process_time()
    columns = make()
    seconds = time.process_time() - started
    part = file.with_suffix(".part.npz")
    np.savez(part, allow_pickle=False, seconds=np.array(seconds), **columns)
    part.replace(file)
    print(f"{name}: {seconds:.0f} s of CPU", flush=True)


class Audit(NamedTuple):
    """One training, audited.

    Attributes:
        scores: By name, (N,); those that need predictability are absent where there is none.
        looks: Reconstruction scores at each audit, (L, N).
        member: True for members, (N,).
        members: Mean error of the members.
        nonmembers: Mean error of the nonmembers.
        constant: That of the best constant.
    """

    scores: dict[str, Floats]
    looks: Floats
    member: NDArray[np.bool_]
    members: float
    nonmembers: float
    constant: float

    @property
    def curve(self) -> tuple[Floats, Floats]:
        """Members' loss over that of the constant at each look, and AUC by reconstruction, both (L,)."""
        fit = -self.looks[:, self.member].mean(1) / self.constant
        return fit, np.array([roc_auc(look, self.member) for look in self.looks])

    def auc(self, score: str) -> tuple[float, float, float]:
        """AUC with DeLong's 95 % interval."""
        return delong_interval(self.scores[score], self.member)


def read_audit(cell: Cell, seed: int, work: Path) -> Audit:
    """Make the scores of a training from the errors that were kept."""
    file = work / "runs" / f"{cell.name}-{seed}.npz"
    with np.load(file) as table:
        columns = {key: table[key] for key in table.files}
    if cell.predicted and "t/identity" not in columns:
        raise SystemExit(f"{file} was written before tiles were measured: `train` makes it again.")
    r, member = columns["looks"][-1], columns["member"]
    raw = {"reconstruction": r}
    raw |= {NEIGHBOUR + copy: np.asarray(log_error(r) - log_error(columns[f"r/{copy}"])) for copy in AUTO}
    names = SCORES if cell.predicted else ("reconstruction", "neighbour")
    if cell.predicted:
        with np.load(work / "runs" / f"{cell.name}-p.npz") as table:
            raw["predictability"] = table["p"]
        tiles, *copies = (torch.from_numpy(columns[f"t/{copy}"]) for copy in ("identity", *AUTO))
        raw[TILES] = tile_ratio(tiles, torch.stack(copies, 1)).double().numpy()
        errors = derive_errors(raw, member, names)
    else:
        ratios = np.stack([column for name, column in raw.items() if name.startswith(NEIGHBOUR)])
        errors = {"reconstruction": r, "neighbour": ratios.mean(0)}
    scores = build_scores(errors, member, names)[0]
    own, others = (float(r[side].mean()) for side in (member, ~member))
    return Audit(scores, -columns["looks"], member, own, others, float(columns["constant"]))


class Trend(NamedTuple):
    """How AUC changes along a sweep.

    Attributes:
        statistic: Page's L.
        rises: Its p-value against "AUC rises with the level".
        falls: The same of the levels in reverse.
        slope: Mean over seeds of the least-squares slope of AUC on log2 of the level.
        low: Lower bound of the slope's 95 % t interval over seeds.
        high: Upper bound.
    """

    statistic: float
    rises: float
    falls: float
    slope: float
    low: float
    high: float


def trend(levels: Sequence[int], areas: Floats) -> Trend:
    """Page's exact test for ordered alternatives (1963), each seed a block, and slopes.

    Args:
        levels: Increasing, (K,).
        areas: AUC of each seed at each level, (S, K).
    """
    rising, falling = (stats.page_trend_test(a, method="exact") for a in (areas, areas[:, ::-1]))
    slopes = np.polyfit(np.log2(levels), areas.T, 1)[0]
    return Trend(float(rising.statistic), float(rising.pvalue), float(falling.pvalue), *over_seeds(slopes))


def at_equal_fit(curves: Sequence[Sequence[tuple[Floats, Floats]]]) -> Floats:
    """AUC of each seed and level when its members are fitted as well as those of the least fitted level at the end.

    Read from :attr:`Audit.curve`, linearly between looks, and from a point that all begin with: the constant's loss and
    an AUC of 0.5.

    Args:
        curves: Of each level and seed.

    Returns:
        (S, K).
    """
    ends = np.array([[fit[-1] for fit, _ in of_level] for of_level in curves])
    least = ends.max(0)
    found = np.empty(ends.T.shape)
    for level, of_level in enumerate(curves):
        for seed, (fit, area) in enumerate(of_level):
            x, y = np.minimum.accumulate([1.0, *fit]), [0.5, *area]
            found[seed, level] = np.interp(-least[seed], -x, y)
    return found


def over_seeds(values: Floats) -> tuple[float, float, float]:
    """Mean with its 95 % t interval."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


Found = dict[Cell, list[Audit]]


def table(found: Found, figure: Path) -> None:
    """Print the tables, and draw the figure."""
    for sweep in sweeps():
        print(f"**{sweep.title[0].upper()}{sweep.title[1:]}**\n")
        head = f"{sweep.axis} | loss, members | nonmembers | a constant | members / constant"
        head += " | AUC reconstruction | seeds, each with DeLong's interval | at equal fit"
        print(f"| {head} | membership | neighbour | combined |")
        print("|---" * 11 + "|")
        equal = at_equal_fit([[one.curve for one in found[cell]] for cell in sweep.cells]).mean(0)
        for level, cell, alike in zip(sweep.levels, sweep.cells, equal, strict=True):
            audits = found[cell]
            losses = np.mean([(one.members, one.nonmembers, one.constant) for one in audits], 0)
            each = ", ".join("{:.2f} ({:.2f} to {:.2f})".format(*one.auc("reconstruction")) for one in audits)
            first, *others = (mean_of(audits, name) for name in SCORES)
            cells = [*(f"{loss:.3f}" for loss in losses), f"{losses[0] / losses[2]:.2f}", first]
            print(f"| {level} | " + " | ".join([*cells, each, f"{alike:.3f}", *others]) + " |")
        print()
    trends(found)
    figure.parent.mkdir(parents=True, exist_ok=True)
    figure.write_bytes(to_png(draw(found), dpi=110))


def mean_of(audits: Sequence[Audit], score: str) -> str:
    """Mean AUC with its interval over seeds."""
    if any(score not in one.scores for one in audits):
        return "-"
    mean, low, high = over_seeds(areas(audits, score))
    return f"{mean:.3f} ({max(low, 0.0):.2f} to {min(high, 1.0):.2f})"


def trends(found: Found) -> None:
    """Print the test of each sweep, of the first score at each look and of the others at the last."""
    rows: list[tuple[str, str, Trend]] = []
    for sweep in sweeps():
        for score in SCORES:
            kept = [(n, c) for n, c in zip(sweep.levels, sweep.cells, strict=True) if score in found[c][0].scores]
            if len(kept) > 2:
                of_seeds = np.array([areas(found[cell], score) for _, cell in kept]).T
                rows.append((sweep.title, score, trend([n for n, _ in kept], of_seeds)))
        for look, share in enumerate(("a quarter", "half")):
            of_seeds = np.array([[one.curve[1][look] for one in found[cell]] for cell in sweep.cells]).T
            rows.append((sweep.title, f"reconstruction after {share} of the steps", trend(sweep.levels, of_seeds)))
        of_seeds = at_equal_fit([[one.curve for one in found[cell]] for cell in sweep.cells])
        rows.append((sweep.title, "reconstruction at equal fit", trend(sweep.levels, of_seeds)))
    first = [one for _, score, one in rows if score == SCORES[0]]
    adjusted = iter(holm([one.rises for one in first]))
    print("| sweep | score | Page's L | p, AUC rises | Holm | p, AUC falls | slope a doubling (95 %) |")
    print("|---" * 7 + "|")
    for title, score, one in rows:
        corrected = f"{next(adjusted):.2g}" if score == SCORES[0] else ""
        slope = f"{one.slope:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
        cells = (title, score, f"{one.statistic:.0f}", f"{one.rises:.2g}", corrected, f"{one.falls:.2g}", slope)
        print("| " + " | ".join(cells) + " |")
    print()


def has_longer(work: Path, seed: int) -> bool:
    """Whether all longer trainings of a seed are there."""
    ends = (cell for sweep in sweeps_of_outputs() for cell in (sweep.cells[0], sweep.cells[-1]))
    return all((work / "runs" / f"{cell.name}-{seed}-longer.npz").exists() for cell in ends)


def table_of_longer(work: Path, seeds: Sequence[int]) -> None:
    """Print both ends of the sweeps of outputs after more steps, for the seeds that have them."""
    at = [LONGER // 2**back for back in reversed(range(LOOKS))]
    head = " | ".join(f"{steps}: losses of members, nonmembers | AUC" for steps in at)
    print(f"| reconstruction, longer training | {head} |\n|---" + "|---" * 2 * LOOKS + "|")
    for sweep in sweeps_of_outputs():
        gaps: list[Floats] = []
        for level, cell in zip((sweep.levels[0], sweep.levels[-1]), (sweep.cells[0], sweep.cells[-1]), strict=True):
            there, losses, found = [], [], []
            for seed in seeds:
                with np.load(work / "runs" / f"{cell.name}-{seed}-longer.npz") as columns:
                    looks, member = columns["looks"], columns["member"]
                losses.append([(r[member].mean(), r[~member].mean()) for r in looks])
                found.append([roc_auc(-r, member) for r in looks])
            gaps.append(np.array(found))
            for (own, others), of_seeds in zip(np.mean(losses, 0), np.transpose(found), strict=True):
                there += [f"{own:.3f}, {others:.3f}", f"{np.mean(of_seeds):.3f}"]
            print(f"| {sweep.title}: {level} | " + " | ".join(there) + " |")
        differences = ["{:+.3f} ({:+.3f} to {:+.3f})".format(*over_seeds(gap)) for gap in (gaps[1] - gaps[0]).T]
        print("| difference (95 % over seeds) | " + " | ".join(f" | {text}" for text in differences) + " |")
    print()


def draw(found: Found) -> Figure:
    """AUC against level: means with intervals over seeds, and each seed's reconstruction with DeLong's interval."""
    figure = new_figure(11.5, 7.4)
    lowest = min(one.auc(SCORES[0])[1] for audits in found.values() for one in audits)
    (first, second, fit), below = figure.subplots(2, 3, sharey=True)
    for axes, sweep in zip((first, second, *below), sweeps(), strict=True):
        draw_sweep(axes, sweep, found, labelled=axes is first)
    draw_fit(fit, found)
    fit.set_ylim(min(0.4, lowest - 0.02), 1.01)
    for axes in (first, below[0]):
        axes.set_ylabel("AUC, members against nonmembers")
    legend_below(figure, 6)
    return figure


def draw_sweep(axes: Axes, sweep: Sweep, found: Found, *, labelled: bool) -> None:
    """One sweep; names of the scores stand in one legend."""
    unit = (sweep.levels[-1] / sweep.levels[0]) ** 0.023  # how far marks of one level lie apart
    for number, score in enumerate(SCORES):
        shade, beside = colour(score, number).light, unit ** (number - 1)
        kept = [(n, c) for n, c in zip(sweep.levels, sweep.cells, strict=True) if score in found[c][0].scores]
        if len(kept) < 2:
            continue
        means, low, high = np.array([over_seeds(areas(found[cell], score)) for _, cell in kept]).T
        at = np.array([level for level, _ in kept]) * beside
        name = f"{score}: mean of seeds, 95 % over seeds" if labelled else None
        bars = [means - low, high - means]
        axes.errorbar(at, means, bars, color=shade, marker="o", markersize=4, capsize=3, linewidth=1.6, label=name)
    shade = colour(SCORES[0], 0).light
    for level, cell in zip(sweep.levels, sweep.cells, strict=True):
        for seed, one in enumerate(found[cell]):
            area, low_one, high_one = one.auc(SCORES[0])
            name = f"{SCORES[0]}: each seed, DeLong" if labelled and level == sweep.levels[0] and not seed else None
            x, ends = level * unit ** (-1.8 - 0.6 * seed), [[area - low_one], [high_one - area]]
            axes.errorbar(
                [x], [area], ends, color=shade, alpha=0.55, marker="o", markersize=2.5, linewidth=0.9, label=name
            )
    test = trend(sweep.levels, np.array([areas(found[cell], SCORES[0]) for cell in sweep.cells]).T)
    title = f"{sweep.title}\nreconstruction rises: Page's p = {test.rises:.2g}"
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle="--", label="chance" if labelled else None)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sweep.levels, [str(level) for level in sweep.levels])
    axes.set_xlabel(sweep.axis)
    axes.set_title(title, fontsize=10)


def draw_fit(axes: Axes, found: Found) -> None:
    """AUC at each look of the sweeps of outputs against how well members are fitted by then, means of seeds."""
    shades, styles = ("#C6DBEF", "#6BAED6", "#2171B5", "#08306B"), (("-", "o"), ("--", "s"), (":", "D"))
    names: list[Any] = []
    for sweep, (style, mark) in zip(sweeps_of_outputs(), styles, strict=True):
        for cell, shade in zip(sweep.cells, shades, strict=True):
            fit, area = np.mean([one.curve for one in found[cell]], 0)
            axes.plot(fit, area, style, color=shade, marker=mark, markersize=4, linewidth=1.2)
        names += axes.plot([], [], style, color="black", marker=mark, markersize=4, linewidth=1.2)
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle="--")
    axes.set(xlabel="mean loss of members / of a constant")
    axes.set_title("reconstruction at a quarter, half and all of the steps,\ndarker: larger output", fontsize=10)
    axes.legend(names, [sweep.title for sweep in sweeps_of_outputs()], fontsize=8)


def areas(audits: Sequence[Audit], score: str) -> Floats:
    """AUC of each training."""
    return np.array([one.auc(score)[0] for one in audits])


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["train", "longer", "table"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # CPU seconds can then be compared
    if options.stage == "train":
        train_all(options.data, options.work, options.seeds)
    elif options.stage == "longer":
        train_longer(options.data, options.work, options.seeds)
    else:
        table({c: [read_audit(c, seed, options.work) for seed in options.seeds] for c in all_cells()}, options.figure)
        longer = [seed for seed in options.seeds if has_longer(options.work, seed)]
        if len(longer) > 1:  # one has no interval over seeds
            table_of_longer(options.work, longer)


if __name__ == "__main__":
    main()
