"""Whether what an audit claims is true as often as it says: simulated audits by the thousand, one section a claim.

Run ``python benchmarks/validity.py``, or ``--only NAME`` for one section; ``--small`` is a part of it with the same
seeds, which the tests run. Each line has the nominal rate, the measured one, the number of draws, and the Monte-Carlo
error. A section is a function with ``@section("name")`` that yields such lines.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from mia_lightning.functional.error_spending import Spending
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.functional.look_shuffles import SHUFFLES, LookShuffles, UnitKeys, unit_keys
from mia_lightning.functional.p_values import permutation_p_value
from mia_lightning.functional.sequential_tests import corrected_levels
from mia_lightning.scores.building import NEIGHBOUR, TILES, build_scores, derive_errors
from mia_lightning.scores.look_sequence import LookSequence

LOOKS = 20
ALPHA = 0.05

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Line(NamedTuple):
    """A rate that was measured.

    Attributes:
        what: What the rate is of.
        nominal: What it should be, or at most, or at least.
        measured: What it is.
        draws: How many simulated audits, or trainings, it is of.
        beside: Further numbers, in words.
    """

    what: str
    nominal: float
    measured: float
    draws: int
    beside: str = ""

    @property
    def error(self) -> float:
        """The Monte-Carlo error: one standard deviation of the nominal rate, measured so often."""
        rate = min(max(self.nominal, 1.0 / self.draws), 1.0 - 1.0 / self.draws)
        return float(np.sqrt(rate * (1.0 - rate) / self.draws))


Section = Callable[[bool], Iterator[Line]]
SECTIONS: dict[str, Section] = {}


def section(name: str) -> Callable[[Section], Section]:
    """Register a section: a function of whether the small form is asked for, which yields lines."""

    def register(function: Section) -> Section:
        SECTIONS[name] = function
        return function

    return register


def _of_rates(rows: Callable[[bool], Iterator[tuple[str, float, float, int, str]]]) -> Section:
    return lambda small: (Line(*row) for row in rows(small))


def _sections_of_rates() -> dict[str, Section]:
    """Sections on single audits, of the files beside this one, wherever it is run from."""
    sections: dict[str, Section] = {}
    for file in ("validity_rates", "validity_claims", "validity_blind", "validity_low_fpr"):
        spec = spec_from_file_location(file, Path(__file__).with_name(f"{file}.py"))
        assert spec is not None
        assert spec.loader is not None
        rates = module_from_spec(spec)
        spec.loader.exec_module(rates)
        sections |= {name: _of_rates(rows) for name, rows in rates.SECTIONS.items()}
    return sections


SECTIONS |= _sections_of_rates()


def main(arguments: list[str] | None = None) -> None:
    """Print the sections asked for, a table each, with the time that each takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="a section; several may be named")
    parser.add_argument("--small", action="store_true", help="few draws of a part of the cells")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    for name in options.only or SECTIONS:
        start = time.perf_counter()
        print(f"\n## {name}\n\n| | nominal | measured | draws | Monte-Carlo error | |\n|---|---|---|---|---|---|")
        for line in SECTIONS[name](options.small):
            rates = f"{line.nominal:.3f} | {line.measured:.3f} | {line.draws} | {line.error:.4f}"
            print(f"| {line.what} | {rates} | {line.beside} |", flush=True)
        print(f"\n{time.perf_counter() - start:.0f} s", flush=True)
    print(f"\nAll of it: {time.perf_counter() - begin:.0f} s, {time.process_time():.0f} s of one core")


@dataclass
class Training:
    """Scores of a simulated training at each look, with or without a leak that grows.

    Scores of successive looks are correlated, and so are those of a group, by 0.7; members' are shifted by what the
    model has memorised, in standard deviations.
    """

    member: Bools
    group: NDArray[np.intp] | None
    looks: list[Floats]

    @classmethod
    def draw(cls, cell: Cell, draw: int, area: float = 0.5) -> Training:
        """Draw a training of a cell, the same for each number; its leak grows to an AUC at the last look."""
        rng = np.random.default_rng([cell.each, cell.size, round(100 * cell.correlation), round(100 * area), draw])
        member = np.arange(2 * cell.each) < cell.each
        group = None if cell.size == 1 else np.arange(2 * cell.each) // cell.size
        shift = np.sqrt(2.0) * float(norm.ppf(area)) / (LOOKS - 1)
        state, looks = _fresh(rng, group, member.size), list[Floats]()
        for number in range(LOOKS):
            looks.append(state + number * shift * member)
            state = cell.correlation * state
            state = state + np.sqrt(1.0 - cell.correlation**2) * _fresh(rng, group, member.size)
        return cls(member, group, looks)

    def corrected(self, seed: int) -> Floats:
        """Corrected p-values of each look, of the AUC and of the most exposed, (2, LOOKS), as ``LookSequence`` does."""
        shuffles = LookShuffles(self.member, self.group, self.keys, seed)
        spending, levels, found = Spending(), np.ones((2, 1 + SHUFFLES), dtype=np.float32), np.ones((2, LOOKS))
        for number, score in enumerate(self.looks):
            spending = spending.after(LOOKS - number)
            for test, statistic in enumerate((shuffles.areas([score]), shuffles.exposures([score]))):
                now = corrected_levels(statistic[:, 0], levels[test], spending.spent)
                levels[test] = np.minimum(levels[test], now)
                found[test, number] = now[0]
        return found

    def graded(self, seed: int, last: Floats, end: int) -> bool:
        """Whether some look up to the one before ``end`` is graded above none; its verdict rests on ``last``, (N,).

        Where that is not the end that was planned, its look was taken before by the first score alone, and is taken
        again with both, as a training does that is stopped.
        """
        shuffles = LookShuffles(self.member, self.group, self.keys, seed)
        spending, levels = Spending(), np.ones((2, 1 + SHUFFLES), dtype=np.float32)
        for number, score in enumerate(self.looks[:end]):
            spending, columns, p_values = spending.after(LOOKS - number), [score], []
            if number + 1 == end:
                columns = [score, last]
            for test, statistics in enumerate((shuffles.areas(columns), shuffles.exposures(columns))):
                largest = statistics.max(axis=1)
                now = corrected_levels(largest, levels[test], spending.spent)
                levels[test] = np.minimum(levels[test], now)
                p_values.append(now[largest <= statistics[0, -1]].min(initial=1.0))
            if 2.0 * min(p_values) <= ALPHA:
                return True
        return False

    def bands(self, seed: int) -> list[tuple[float, float]]:
        """Simultaneous interval of the AUC at each look."""
        sequence, bands = LookSequence(), []
        for number, score in enumerate(self.looks):
            sequence.plan(LOOKS - number)
            look = sequence.look({"reconstruction": score}, (), self.member, self.group, keys=self.keys, seed=seed)
            sequence.keep()
            level = look.levels["reconstruction"]
            bands.append(delong_interval(score, self.member, level, self.group)[1:])
        return bands

    def pointwise(self) -> Floats:
        """One-sided p-values of single looks by the normal limit, (LOOKS,), for Bonferroni's correction."""
        codes = np.arange(self.member.size) if self.group is None else self.group
        share, found = 0.5, []
        for score in self.looks:
            sums = np.bincount(codes, rankdata(score) - (score.size + 1) / 2.0)
            deviation = np.sqrt(share * (1.0 - share) * sums.size * sums.var(ddof=1))
            found.append(norm.sf(sums[: sums.size // 2].sum() / deviation))
        return np.array(found)

    @property
    def keys(self) -> UnitKeys:
        """Keys of samples and groups."""
        names = None if self.group is None else [str(code) for code in self.group]
        return unit_keys(self.member, np.arange(self.member.size), names)


class Cell(NamedTuple):
    """Samples a side, samples a group, and the correlation of one look with the next."""

    each: int
    size: int
    correlation: float

    def __str__(self) -> str:
        return f"{self.each} a side, groups of {self.size}, correlation {self.correlation}"


def _fresh(rng: np.random.Generator, group: NDArray[np.intp] | None, count: int) -> Floats:
    own = rng.normal(size=count)
    if group is None:
        return own
    return np.asarray(np.sqrt(0.7) * rng.normal(size=int(group[-1]) + 1)[group] + np.sqrt(0.3) * own)


def _cells(sizes: tuple[int, ...], correlations: tuple[float, ...]) -> list[Cell]:
    return [Cell(each, size, correlation) for each in sizes for size in (1, 4) for correlation in correlations]


@section("family-wise")
def family_wise(small: bool) -> Iterator[Line]:
    """A harmless training, looked at 20 times: some look has a corrected p-value of 0.05 or less.

    By the AUC alone, and as grades take it: twice the smaller one of the AUC and of the most exposed.
    """
    draws = 60 if small else 1000
    for cell in _cells((20,), (0.8,)) if small else _cells((20, 48, 150), (0.0, 0.8, 0.95)):
        found = []
        for draw in range(draws):
            training = Training.draw(cell, draw)
            corrected, alone = training.corrected(draw), training.pointwise().min()
            graded = 2.0 * corrected.min() <= ALPHA
            found.append([corrected[0].min() <= ALPHA, graded, LOOKS * alone <= ALPHA, alone <= ALPHA / 2])
        area, graded, bonferroni, single = np.mean(found, axis=0)
        yield Line(f"AUC, {cell}", ALPHA, area, draws, f"Bonferroni {bonferroni:.3f}, uncorrected {single:.3f}")
        yield Line(f"grade, {cell}", ALPHA, graded, draws)


STOPPED_AT = 0.58


@section("verdict by another score")
def verdict_score(small: bool) -> Iterator[Line]:
    """A harmless training whose last look is judged by another score, which is correlated with the first by 0.8.

    It ends as planned, after 20 looks, or is stopped at the first look whose AUC exceeds a limit: the most that who
    looks on can do to have the last look be a suspicious one.
    """
    draws = 40 if small else 1000
    for cell in (Cell(20, 1, 0.8),) if small else _cells((20, 48, 150), (0.8,)):
        found = []
        for draw in range(draws):
            training, rng = Training.draw(cell, draw), np.random.default_rng([7, draw])
            areas = np.array([delong_interval(score, training.member)[0] for score in training.looks])
            ends = LOOKS, int(np.argmax(areas > STOPPED_AT)) + 1 if areas.max() > STOPPED_AT else LOOKS
            judged = []
            for end in ends:
                score = 0.8 * training.looks[end - 1] + 0.6 * _fresh(rng, training.group, training.member.size)
                judged.append(training.graded(draw, score, end))
            found.append(judged)
        planned, stopped = np.mean(found, axis=0)
        yield Line(f"grade, {cell}", ALPHA, planned, draws)
        yield Line(f"grade, {cell}, stopped above {STOPPED_AT}", ALPHA, stopped, draws)


@section("power over looks")
def power(small: bool) -> Iterator[Line]:
    """A leak that grows to an AUC over 20 looks: found at some look, and how much earlier than by Bonferroni."""
    draws = 20 if small else 200
    areas = {(48, 1): 0.7, (150, 1): 0.65, (48, 4): 0.8, (150, 4): 0.7}
    for (each, size), area in areas.items():
        for correlation in (0.95,) if small else (0.5, 0.8, 0.95):
            cell, firsts = Cell(each, size, correlation), []
            if small and each != 48:
                continue
            for draw in range(draws):
                training = Training.draw(cell, draw, area)
                ours, theirs = training.corrected(draw)[0] <= ALPHA, LOOKS * training.pointwise() <= ALPHA
                firsts.append([_first(ours), _first(theirs), ours[-1], theirs[-1]])
            first, other, last, other_last = np.array(firsts).T
            both = (first < LOOKS) & (other < LOOKS)
            beside = (
                f"Bonferroni {(other < LOOKS).mean():.3f}; at the last look {last.mean():.3f} against "
                f"{other_last.mean():.3f}; found {(other - first)[both].mean():.1f} looks before it"
            )
            yield Line(f"AUC {area} in the end, {cell}", 0.8, float((first < LOOKS).mean()), draws, beside)


@section("simultaneous bands")
def simultaneous_bands(small: bool) -> Iterator[Line]:
    """The bands of 20 looks hold the AUC at all of them, without a leak and with one."""
    draws = 20 if small else 400
    cells = (Cell(48, 1, 0.8),) if small else _cells((48, 150), (0.8,))
    for cell in cells:
        for area in (0.5, 0.8):
            shift = np.sqrt(2.0) * float(norm.ppf(area)) / (LOOKS - 1)
            true = norm.cdf(np.arange(LOOKS) * shift / np.sqrt(2.0))
            held, widths = [], []
            for draw in range(draws):
                bands = np.array(Training.draw(cell, draw, area).bands(draw))
                held.append(bool(((bands[:, 0] <= true) & (true <= bands[:, 1])).all()))
                widths.append(bands[-1, 1] - bands[-1, 0])
            beside = f"width at the last look {np.mean(widths):.3f}"
            yield Line(f"AUC {area} in the end, {cell}", 1.0 - ALPHA, float(np.mean(held)), draws, beside)


FITTED = ("calibrated", "combined")


@section("fitted scores")
def fitted_scores(small: bool) -> Iterator[Line]:
    """Scores whose scales, weights or lines are fitted on nonmembers, cross-fitted, are shuffled as they are.

    Of harmless audits, the share whose p-value is at most 0.05 without a new fit in each shuffle.
    """
    draws = 150 if small else 1000
    for each in (48,) if small else (20, 48, 150):
        for size in (1, 4):
            found = []
            for draw in range(draws):
                rng = np.random.default_rng([each, size, draw, 2])
                member = np.arange(2 * each) < each
                group = None if size == 1 else np.arange(2 * each) // size
                difficulty = _fresh(rng, group, 2 * each)
                raw = {
                    "reconstruction": np.exp(difficulty + 0.5 * _fresh(rng, group, 2 * each)),
                    "predictability": np.exp(0.8 * difficulty + 0.3 * rng.normal(size=2 * each)),
                } | {f"{NEIGHBOUR}{name}": 0.2 * _fresh(rng, group, 2 * each) for name in ("flip", "shift", "turn")}
                ratios = [column for name, column in raw.items() if name.startswith(NEIGHBOUR)]
                raw[TILES] = np.mean(ratios, 0) + 0.1 * _fresh(rng, group, 2 * each)
                errors = derive_errors(raw, member, FITTED, group=group)
                scores, _ = build_scores(errors, member, FITTED, group=group)
                tests = [
                    permutation_p_value(scores[n], member, permutations=999, seed=draw, group=group) for n in FITTED
                ]
                found.append([p_value <= ALPHA for p_value in tests])
            for name, rate in zip(FITTED, np.mean(found, axis=0), strict=True):
                yield Line(f"{name}, {each} a side, groups of {size}", ALPHA, float(rate), draws)


def _first(found: Bools) -> int:
    return int(np.argmax(found)) if found.any() else found.size


if __name__ == "__main__":
    main()
