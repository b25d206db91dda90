"""The page: everything on it, nothing that runs, small whatever the number of samples."""

import io
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mia_lightning.report
from mia_lightning import registry
from mia_lightning.figures.palette import palette
from mia_lightning.registry import Colour, Estimate, register_error, register_metric, register_score
from mia_lightning.report.html_page import html
from mia_lightning.report.markdown_page import markdown, model_card
from mia_lightning.report.run import Run
from mia_lightning.result.picture_files import Picture

VOID = {"meta", "link", "img", "br", "path", "circle"}


class Page(HTMLParser):
    """Elements, their text, and whether every one is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.text += " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text += data if self.open and self.open[-1] != "style" else ""


def words(page):
    return " ".join(page.text.split())


def test_verdict_comes_first_and_all_parts_follow(run_of_three):
    text = words(Page(html(run_of_three)))
    told = run_of_three.result.verdict
    parts = [
        "demo/version_0",
        "60 members and 60 nonmembers, after epoch 3",
        told.grade,
        *told.sentences,
        "AUC, membership score",
        "True positives at 1 % false positives",
        "Memorization curve",
        "Membership error of both sides",
        "Reconstruction error of both sides",
        "ROC",
        "Memorization against val/l1",
        "Memorization against val/psnr",
        "Most exposed members",
        "Least exposed members",
        "Nonmembers that look like members",
        "The 50 most exposed members, by membership score",
        "Is the comparison fair?",
        "Randomised assignment: a fair coin for every sample decided whether it was trained on (seed 7).",
        "Limits of these numbers",
        "An AUC near 0.5 does not show that nothing is memorised.",
        "seed of the audit",
        "scorer.grid",
        "model: Pix2Pix",
        "Samples left out",
    ]
    at = 0
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, f"{part!r} is missing, or comes too early"
        at = found


def test_the_numbers_are_those_of_the_audit(run_of_three):
    result, text = run_of_three.result, words(Page(html(run_of_three)))
    low, high = result.interval()
    assert f"{result.auc:.3f} 95 % interval {low:.3f} to {high:.3f}; 0.5 is chance" in text
    for row in result.top_indices(50):
        assert result.ids[row] in text
    for earlier in run_of_three.history:
        assert f"{earlier.auc:.3f}" in text


def test_every_chart_has_a_name_and_a_description(run_of_three):
    page = html(run_of_three)
    charts = re.findall(r'<svg viewBox="0 0 640 360" role="img"><title>([^<]+)</title><desc>([^<]+)</desc>', page)
    assert len(charts) == page.count("<svg") == 6
    assert all(title and described.endswith(".") for title, described in charts)
    assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", page))


def test_pictures_are_part_of_the_page(run_of_three):
    images = [attrs for tag, attrs in Page(html(run_of_three)).elements if tag == "img"]
    assert len(images) == 6 * 4
    assert all(i["src"].startswith("data:image/png;base64,") for i in images)
    first = run_of_three.result.top(1)[0]
    assert images[0]["alt"] == f"input of {first}"


@pytest.mark.parametrize("which", ["run_of_three", "hostile_run"])
def test_nothing_runs_and_nothing_is_loaded(which, request):
    page = Page(html(request.getfixturevalue(which)))
    assert page.open == []
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "script" not in policy
    for tag, attrs in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base", "a"}
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "srcset", "xlink:href"):
            assert attrs.get(name, "data:").startswith("data:")
        assert "url(" not in attrs.get("style", "")
    style = (Path(mia_lightning.report.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_what_users_wrote_is_text(hostile_run):
    page = html(hostile_run)
    told = Page(page)
    ids = hostile_run.result.top(2)
    assert hostile_run.result.top(1)[0] in told.text
    assert told.text.count("<script>alert(1)</script>.png") > 60
    assert "<script" not in page
    assert "<img src=x" not in page
    assert next(a["alt"] for tag, a in told.elements if tag == "img") == f"input of {ids[0]}"


def test_since_when_a_member_is_flagged(tmp_path, made):
    history = [made(0.0, epoch=0), made(0.09, epoch=1), made(0.09, epoch=2)]
    assert "yes</td><td>epoch 2</td>" in html(Run("run", tmp_path, history))
    # A lone audit does not know since when.
    alone = html(Run("run", tmp_path, history[-1:]))
    assert "yes</td><td>-</td>" in alone
    assert "epoch 2" not in alone


def test_an_audit_of_trained_weights_says_what_it_does_not_have(tmp_path, made):
    text = words(Page(html(Run("weights", tmp_path, [made()]))))
    assert "The audits hold no validation metric of the project" in text
    assert "No pictures were kept with this audit." in text
    assert "config.yaml" not in text


@pytest.mark.parametrize(
    ("shift", "blind_shift", "number", "grade"),
    [
        (0.05, 0, 60, "strong"),
        (0, 0, 150, "none"),
        (0.05, 0.3, 60, "unfair"),
        (0.01, 0, 5, "inconclusive"),
    ],
)
def test_each_grade_has_its_page(tmp_path, made, shift, blind_shift, number, grade):
    run = Run("run", tmp_path, [made(shift, blind_shift, number)])
    assert run.result.verdict.grade == grade
    text = words(Page(html(run)))
    assert (
        f"translation {run.result.verdict.summary.replace('(', '').replace(')', '')} {run.result.verdict.found}" in text
    )
    if grade == "unfair":
        assert "distinguishes the splits" in text
        assert "matched in what the blind attack looks at, which still differ by up to" in text


def test_a_side_without_samples_still_gives_a_page(tmp_path, made):
    result = made(number=30)
    member = np.ones(60, dtype=bool)
    empty = type(result)({}, result.ids, member, result.errors, result.scores, result.meta)
    text = words(Page(html(Run("run", tmp_path, [empty]))))
    assert "No AUC could be computed: a side has no sample left." in text
    assert "could not be run: a side has no sample" in text


def test_a_bare_result_has_a_page(tmp_path, made):
    result = replace(made(), meta={}, excluded=[{"id": "x"}])
    text = words(Page(html(Run("bare", tmp_path, [result]))))
    assert "Members and nonmembers were named by those who ran the audit" in text
    assert "1: no reason recorded" in text


def test_left_out_samples_are_counted_by_reason(tmp_path, made):
    result = made()
    result.excluded.extend({"id": f"x{n}", "side": "member", "reason": "not finite"} for n in range(70))
    text = words(Page(html(Run("run", tmp_path, [result]))))
    assert "70: not finite" in text
    assert "20 more are in the audit's own file." in text


def test_the_colours_are_those_of_all_figures(run_of_three):
    page = html(run_of_three)
    light, dark = page[: page.index("@media")], page[page.index("@media") :]
    assert {"score-membership", "score-trained", "members", "nonmembers", "blind", "run-0"} <= set(palette())
    for name, colour in palette().items():
        assert f"--{name}: {colour.light};" in light
        assert f"--{name}: {colour.dark};" in dark
    style = (Path(mia_lightning.report.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    assert not [name for name in registry.scores.names() if name in style]


def test_what_a_third_party_registers_is_on_the_page(tmp_path, made):
    @register_error("worst_pixel", label="worst pixel", sentence="largest difference of a pixel.")
    def worst_pixel(outputs):
        return (outputs.prediction - outputs.target).abs().flatten(1).amax(1)

    @register_score(
        "worst",
        label="worst place",
        sentence="minus the largest difference of a pixel.",
        errors=("worst_pixel",),
        colour=Colour("#123456", "#abcdef"),
        attack=False,
        remark="made up",
    )
    def worst(inputs):
        return -inputs.errors["worst_pixel"]

    @register_metric(
        "spread", label="score range", sentence="Range of the score.", bounds=("spread_low", "spread_high")
    )
    def spread(score, member, level):
        return Estimate(float(np.ptp(score)), 0.5, 0.75)

    @register_metric("sizes", label="imbalance", sentence="Members less nonmembers.", of="audit")
    def sizes(inputs):
        return float(inputs.member.sum() - (~inputs.member).sum())

    try:
        shown = "worst_pixel", np.linspace(0.0, 1.0, 120)
        history = [made(0.05, epoch=n, scores=("membership", "worst"), errors=dict([shown])) for n in range(2)]
        run = Run("run", tmp_path, history)
        page, text = html(run), words(Page(html(run)))
        assert "--score-worst: #123456;" in page
        assert "--score-worst: #abcdef;" in page
        assert page.count('stroke-dasharray="7 5" style="stroke:var(--score-worst)"') == 2  # the curve and the ROC
        assert "worst place (made up)" in text
        assert f"worst place {history[-1].metric('auc/worst'):.3f}" in text
        assert "worst place minus the largest difference of a pixel." in text
        assert "The score 'worst place' uses the membership labels" in text
        for name, label in (("membership", "membership"), ("worst", "worst place")):
            value = f"{history[-1].metric(f'spread/{name}'):.4g}"
            assert f"score range, {label} {value} 0.500 to 0.750 Range of the score." in text
        assert "imbalance 0 - Members less nonmembers." in text
        assert "worst pixel 0.2479 0.7521 largest difference of a pixel." in text
        assert text.count("worst pixel") == 2  # means of both sides, and the table of exposed samples
        document = markdown(run)
        assert "| imbalance | 0 | - | Members less nonmembers. |" in document
        assert "| worst pixel |" in document
        card = model_card(run)
        assert "- Score worst place: minus the largest difference of a pixel." in card
        assert "| imbalance | 0 |" in card
    finally:
        registry.errors.remove("worst_pixel")
        registry.scores.remove("worst")
        registry.metrics.remove("spread")
        registry.metrics.remove("sizes")


def test_a_report_with_large_pictures_stays_small(tmp_path, made):
    rng = np.random.default_rng(0)
    noise = [Picture(n, "most exposed", _parts(rng)) for n in range(8)]
    noise += [Picture(n, "least exposed", _parts(rng)) for n in range(8, 16)]
    noise += [Picture(500 + n, "member-like", _parts(rng)) for n in range(8)]
    history = [made(0.02, number=500, epoch=n, scores=("membership", "reconstruction")) for n in range(3)]
    page = html(Run("run", tmp_path, history, noise))
    assert page.count("<img") == 24 * 4
    assert len(page.encode()) < 3 * 2**20


def _parts(rng):
    parts = {}
    for name in ("input", "target", "output", "error"):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(buffer, format="JPEG", quality=85)
        parts[name] = buffer.getvalue()
    return parts


def test_many_samples_make_no_larger_page(tmp_path, made):
    result = made(0.01, number=100)
    rng = np.random.default_rng(0)
    number = 100_000
    member = np.arange(2 * number) < number
    errors = {name: rng.gamma(4.0, 0.02, 2 * number) + 0.01 * ~member for name in result.errors}
    large = type(result)(
        result.metrics,
        [f"s{n:06d}" for n in range(2 * number)],
        member,
        errors,
        {"membership": -errors["membership"]},
        result.meta,
    )
    start = time.perf_counter()
    page = html(Run("run", tmp_path, [large]))
    assert len(page) < 150_000
    assert time.perf_counter() - start < 20.0
