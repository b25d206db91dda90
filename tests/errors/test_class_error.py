"""The error of each class: its numbers, whom it leaves out, what it is called, and where the audit shows it."""

import csv
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from mia_lightning import Auditor, AuditResult, PredictabilityScorer, register_error, registry
from mia_lightning.audit.class_names import names_in
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.registry import Outputs
from mia_lightning.result.limits import check_limits, checked_limits

SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=8)
NAMES = ["background", "cell/1", "rare"]


class Model(nn.Module):
    """Knows class 1 of the members, which have a mark, better than that of others."""

    def forward(self, x):
        logits = x.clone()
        logits[:, 1] += 2.0 * x[:, 2] * (x[:, 0, :1, :1] == 0.25).float()
        return logits


def side(letter, count=30):
    """Every sample shows class 0, two thirds class 1, and two a pixel of class 2; the first row is ignored."""
    generator, samples = torch.Generator().manual_seed(ord(letter)), []
    for i in range(count):
        image = torch.rand(3, 16, 16, generator=generator)
        image[0, 0, 0] = 0.25 if letter == "m" else 0.75
        target = ((image[1] > 0.5) & torch.tensor(i % 3 > 0)).long()
        target[5, 5] = 2 if i in (1, 7) else 0
        target[0], target[1, 0] = 255, -1
        samples.append({"image": image, "mask": target, "id": f"{letter}{i}"})
    return samples


def audit(members=None, nonmembers=None, model=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auditor = Auditor(scorer=SCORER, **{"output": "logits", "errors": ["class"], **options})
        return auditor.run(model or Model(), members or side("m"), nonmembers or side("n"))


@pytest.fixture(scope="module")
def result():
    return audit(class_names=NAMES)


def by_hand(samples):
    """The mean cross-entropy of each class's pixels, with NumPy alone."""
    rows = []
    for sample in samples:
        with torch.no_grad():
            logits = Model()(sample["image"][None])[0].numpy().astype(np.float64)
        loss = np.log(np.exp(logits).sum(0)) - np.take_along_axis(logits, sample["mask"].clip(0, 2)[None].numpy(), 0)[0]
        masks = [sample["mask"].numpy() == number for number in range(3)]
        rows.append([loss[mask].mean() if mask.any() else np.nan for mask in masks])
    return np.array(rows).T


def test_the_numbers_are_those_of_each_class_alone(result):
    expected = by_hand([*side("m"), *side("n")])
    for name, column in zip(("background", "cell_x2F_1", "rare"), expected, strict=True):
        assert result.errors[f"class/{name}"] == pytest.approx(column, rel=1e-5, nan_ok=True)
        own = column[:30]
        assert result.metric(f"error/class/{name}/members") == pytest.approx(own[np.isfinite(own)].mean(), rel=1e-5)
    assert np.isnan(result.errors["class/cell_x2F_1"]).sum() == 20
    assert not result.excluded


def test_each_has_an_auc_among_the_samples_that_show_the_class(result):
    rows = {one.value: one for one in result.sliced.rows}
    error = result.errors["class/cell_x2F_1"]
    there = np.isfinite(error)
    expected = delong_interval(-error[there], result.member[there], 1.0 - 0.05 / 2)  # two classes share the error
    assert tuple(rows["cell/1"].auc) == pytest.approx(tuple(expected))
    assert result.metric("class/cell_x2F_1/auc") == rows["cell/1"].auc.estimate > 0.9
    assert result.metric("class/cell_x2F_1/auc_low") == rows["cell/1"].auc.low > result.metric("class/background/auc")
    assert result.metric("class/cell_x2F_1/p_value") < 0.01
    assert (rows["cell/1"].members, rows["rare"].members) == (20, 2)
    assert result.sliced.too_small(rows["rare"]).startswith("fewer than 20 a side")
    assert not [key for key in result.metrics if "class/rare/auc" in key]
    assert result.meta["interpretation"]["classes"] == "background, cell/1, rare, by class_names"


def test_other_numbers_are_those_of_an_audit_without(result):
    plain = audit(errors=[])
    assert {k: v for k, v in result.metrics.items() if "/class/" not in k} == pytest.approx(plain.metrics, nan_ok=True)
    assert result.scores["combined"].tolist() == plain.scores["combined"].tolist()


def test_files_keep_them(result, tmp_path):
    again = AuditResult.from_json(result.to_json(tmp_path / "result.json"))
    assert str(again.sliced) == str(result.sliced)
    assert again.errors["class/rare"] == pytest.approx(result.errors["class/rare"], nan_ok=True)
    with result.to_csv(tmp_path / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["error_class/cell_x2F_1"] == "nan"
    assert float(rows[1]["error_class/cell_x2F_1"]) > 0


def test_limits_are_judged_by_their_intervals(result):
    found = check_limits(checked_limits({"class/cell/1/auc": 0.6, "class/rare/auc": 0.6, "class/x/auc": 0.6}), result)
    assert [check.finding for check in found.checks] == ["above", "undecided", "undecided"]
    assert "auc of class error is" in found.checks[0].reason
    assert "no such class; there are class/background, class/cell_x2F_1" in found.checks[2].reason
    assert "errors='class' was not asked for" in str(check_limits({"class/1/auc": 0.6}, audit(errors=[])))
    with pytest.raises(ValueError, match=r"to be class/<class>/<metric>, such as class/1/auc"):
        checked_limits({"class/auc": 0.6})


def test_of_two_classes_one_name_is_the_foreground():
    masks = [[s | {"mask": s["mask"].clamp(max=1)} for s in side(letter)] for letter in "mn"]
    members, nonmembers = ([s | {"mask": torch.where(s["mask"] < 0, 255, s["mask"])} for s in m] for m in masks)
    result = audit(members, nonmembers, lambda x: x[:, :1], class_names=["cell"], num_classes=1)
    assert {"class/background", "class/cell"} <= result.errors.keys()
    numbered = audit(members, nonmembers, lambda x: (x[:, 1] > 0.4).long(), num_classes=2, output="labels")
    wrong = (side("m")[1]["image"][1] <= 0.4).float()[members[1]["mask"] == 1].mean()
    assert numbered.errors["class/1"][1] == pytest.approx(float(wrong))
    assert numbered.meta["interpretation"]["classes"] == "their numbers, 0 to 1; class_names names them"


def test_names_that_do_not_fit_are_refused_and_those_of_data_passed_over():
    with pytest.raises(ValueError, match=r"class_names has 2 names, but the model's first prediction has 3 classes"):
        audit(class_names=["a", "b"])
    with pytest.raises(ValueError, match="class_names to be different names"):
        audit(class_names=["a", "a", "b"])
    names = [names_in(owner) for owner in (type("Data", (), {"class_names": n}) for n in (NAMES, ["a", "a"], "ab", []))]
    assert names == [tuple(NAMES), None, None, None]
    unready = type("Data", (), {"class_names": property(lambda self: self.trainer.names)})()
    assert names_in(unready, type("Model", (), {"class_names": NAMES})) == tuple(NAMES)


def test_names_that_do_not_fit_are_found_before_all_forward_passes():
    class Counted(Model):
        passes = 0

        def forward(self, x):
            self.passes += 1
            return super().forward(x)

    model = Counted()
    with pytest.raises(ValueError, match="class_names has 2 names"):
        audit(model=model, class_names=["a", "b"], batch_size=2)
    assert model.passes == 1


def test_what_has_no_classes_is_refused():
    pairs = [(torch.rand(3, 16, 16), torch.rand(3, 16, 16)) for _ in range(4)]
    with pytest.raises(ValueError, match=r"The error 'class', asked for by errors, is defined for segmentation and"):
        Auditor(errors=["class"], scorer=SCORER).check(nn.Identity(), pairs, pairs)
    with pytest.raises(ValueError, match=r"Unknown scores \['class'\]"):
        Auditor(scores=["class", "membership"])
    with pytest.raises(ValueError, match="is of each class, which pictures do not have"):
        register_error("odd", label="odd", sentence="odd", each_class=True)(len)


def test_own_errors_of_each_class_are_registered():
    options = {"label": "missed", "sentence": "Share missed.", "each_class": True, "tasks": ("segmentation",)}

    @register_error("missed", **options)
    def missed(outputs: Outputs) -> torch.Tensor:
        wrong = outputs.prediction.argmax(1) != outputs.target
        masks = [(outputs.target == number).flatten(1) for number in range(outputs.prediction.shape[1])]
        return torch.stack([(wrong.flatten(1) & m).sum(1) / m.sum(1) for m in masks], 1)

    try:
        result = audit(errors=["missed"])
        assert 0.0 < result.errors["missed/1"][31] < 1.0
        assert "audit/missed/1/auc" in result.metrics
    finally:
        registry.errors.remove("missed")
