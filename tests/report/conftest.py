"""Made-up runs: a gap between the sides, or none, or sides that differ by themselves."""

import io

import numpy as np
import pytest
from PIL import Image

from mia_lightning.report.run import Run
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.picture_files import Picture, chosen_rows
from mia_lightning.scores.analysis import Plan, analyse

HOSTILE = '<script>alert(1)</script>.png"><img src=x onerror=alert(1)>'


def make_result(
    shift=0.05, blind_shift=0.0, number=60, epoch=None, seed=0, ids=None, scores=("membership",), errors=(), **meta
):
    rng = np.random.default_rng(seed)
    member = np.arange(2 * number) < number
    bright = rng.normal(0.5, 0.1, 2 * number) + blind_shift * member
    p = rng.normal(0.2, 0.05, 2 * number).clip(0.01)
    r = p + rng.normal(0.1, 0.02, 2 * number) - shift * member
    raw, blind = {"reconstruction": r, "predictability": p, **dict(errors)}, {"input_mean": bright}
    told = analyse(raw, blind, member, Plan(tuple(scores), scores[0]))
    full = {
        "task": "translation",
        "epoch": epoch,
        "step": None if epoch is None else 10 * (epoch + 1),
        "membership": {"assignment": "split" if blind_shift else "coin", "unit": "sample", "seed": 7},
        "notes": told.notes,
        "epsilon": told.epsilon | {"valid": False, "standing": "indicative: made up"},
        "settings": {"prefix": "audit", "primary": scores[0], "fdr": 0.1, "seed": 3, "scorer": {"grid": 56}},
        "versions": {"mia_lightning": "0.1.0", "torch": "2.9"},
    }
    ids = ids or [f"s{i:04d}" for i in range(2 * number)]
    return AuditResult(told.metrics, ids, member, told.errors, told.scores, full | meta, blind=blind)


def make_pictures(result, each=2, size=8):
    rng = np.random.default_rng(0)

    def png():
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(buffer, format="PNG")
        return buffer.getvalue()

    parts = ("input", "target", "output", "error")
    return [Picture(row, group, {p: png() for p in parts}) for row, group in chosen_rows(result, each)]


def make_run(folder, epochs=3, pictured=0, **settings):
    utility = [{"val/l1": 0.3 / (n + 1), "val/psnr": 10.0 + n} for n in range(epochs)]
    history = [make_result(0.012 * n, epoch=n, seed=n, utility=utility[n], **settings) for n in range(epochs)]
    pictures = make_pictures(history[-1], pictured) if pictured else ()
    return Run("demo/version_0", folder, history, pictures, "model: Pix2Pix\n")


@pytest.fixture
def made():
    return make_result


@pytest.fixture
def run_of_three(tmp_path):
    return make_run(tmp_path, pictured=2, scores=("membership", "reconstruction"))


@pytest.fixture
def hostile_run(tmp_path):
    """Everything that users supply looks like code."""
    ids = [f"{n} {HOSTILE}|`x`@user" for n in range(120)]
    history = [make_result(0.05, epoch=n, ids=ids, notes=[HOSTILE], task=HOSTILE) for n in range(2)]
    for result in history:
        result.meta["settings"] |= {HOSTILE: HOSTILE}
        result.meta.update(checkpoint=HOSTILE, utility={HOSTILE: float(result.epoch or 0)}, versions={HOSTILE: "1"})
        result.excluded.append({"id": HOSTILE, "side": "member", "reason": HOSTILE})
    return Run(HOSTILE, tmp_path, history, make_pictures(history[-1]), HOSTILE)
