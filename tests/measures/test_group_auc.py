"""The area under the ROC of groups, and where there is none."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_lightning.functional.group_scores import group_scores
from mia_lightning.functional.intervals import delong_interval
from mia_lightning.scores.analysis import Plan, analyse


def analysed(groups, size, *, grouped=True):
    rng, code = np.random.default_rng(0), np.repeat(np.arange(2 * groups), size)
    member = code < groups
    raw = {
        "reconstruction": rng.normal(1.0, 0.1, code.size) - 0.05 * member,
        "predictability": rng.normal(1.0, 0.1, code.size),
    }
    found = analyse(raw, {}, member, Plan(), group=code if grouped else None)
    return found, member, code


def test_groups_count_once():
    found, member, code = analysed(30, 4)
    groups = group_scores(found.scores["membership"], member, code)
    area = found.metrics["audit/group/auc"]
    assert area == pytest.approx(roc_auc_score(groups.member, groups.mean))
    interval = found.metrics["audit/group/auc_low"], found.metrics["audit/group/auc_high"]
    assert interval == delong_interval(groups.mean, groups.member)[1:]


def test_few_groups_have_no_interval_and_samples_no_groups():
    few = analysed(4, 5)[0].metrics
    assert np.isnan([few["audit/group/auc_low"], few["audit/group/auc_high"]]).all()
    assert not [key for key in analysed(30, 4, grouped=False)[0].metrics if "group/" in key]
