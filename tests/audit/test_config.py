from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_type_hints

import pytest
from jsonargparse import ArgumentParser

from mia_lightning import Auditor, MembershipAudit
from mia_lightning.audit.adapters import AutoAdapter
from mia_lightning.audit.config import PRIMARY, SCORES, AuditConfig, AuditOptions
from mia_lightning.audit.protocols import Adapter, Scorer
from mia_lightning.features import PredictabilityScorer


def test_a_primary_score_alone_adds_what_it_needs():
    config = AuditConfig(primary="combined")
    assert tuple(config.scores) == ("reconstruction", "membership", "combined")
    assert config.needs_neighbours
    with pytest.raises(ValueError, match="'calibrated' is not among scores="):  # those were chosen
        AuditConfig(scores=("membership", "combined"), primary="calibrated")
    assert tuple(AuditConfig().scores) == ("reconstruction", "membership")
    with pytest.raises(ValueError, match="is no attack"):
        AuditConfig(primary="trained")
    with pytest.raises(ValueError, match="is unknown"):
        AuditConfig(primary="magic")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "depth"}, "'auto', 'translation', 'segmentation', 'multilabel' as task, but got 'depth'"),
        ({"scores": ("membership", "magic")}, r"Unknown scores \['magic'\]; choose some of reconstruction, membership"),
        ({"errors": ("magic",)}, r"Unknown errors \['magic'\]; choose some of reconstruction, "),
        ({"scores": ()}, "choose some of reconstruction, membership"),
        ({"scores": ("reconstruction",)}, r"primary score 'membership' is not among scores=\['reconstruction'\]"),
        ({"mean": (0.5,)}, "mean and std together"),
        ({"std": (0.5,)}, "mean and std together"),
        ({"target_range": (1.0, 1.0)}, r"low < high, but got \(1\.0, 1\.0\)"),
        ({"batch_size": 0}, "batch_size >= 1, but got 0"),
        ({"max_samples": 0}, "max_samples >= 1, but got 0"),
        ({"num_classes": 0}, "num_classes >= 1"),
        ({"prefix": ""}, r"prefix of one or more names with slashes between them.*but got ''"),
        ({"prefix": "audit/"}, "but got 'audit/'"),
        ({"prefix": "/audit"}, "but got '/audit'"),
        ({"prefix": "a//b"}, "but got 'a//b'"),
        ({"prefix": ".."}, r"but got '\.\.'"),
        ({"prefix": "audit/./b"}, r"but got 'audit/\./b'"),
        ({"prefix": "a\\b"}, r"but got 'a\\\\b'"),
        ({"prefix": "a\0b"}, r"but got 'a\\x00b'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        AuditConfig(**settings)


def test_alpha_must_be_finite():
    with pytest.raises(ValueError, match="Expected a finite alpha, but got nan"):
        AuditConfig(alpha=float("nan"))


def test_normalisation_is_one_number_a_channel():
    with pytest.raises(ValueError, match="one mean and one positive std a channel"):
        AuditConfig(mean=(0.5, 0.5), std=(0.5,))
    with pytest.raises(ValueError, match="one mean and one positive std a channel"):
        AuditConfig(mean=(0.5,), std=(0.0,))


def test_lists_are_frozen_and_one_text_or_number_stands_for_itself():
    config = AuditConfig(
        scores=["membership"], errors="soft_error", neighbours=["rotate90"], mean=[0.5], std=0.25, target_range=[-1, 1]
    )
    assert config.scores == ("membership",)
    assert AuditConfig(scores="membership").scores == ("membership",)
    assert config.errors == ("soft_error",)
    assert config.neighbours == ("rotate90",)
    assert (config.mean, config.std) == ((0.5,), (0.25,))
    assert repr(config.target_range) == "(-1.0, 1.0)"
    with pytest.raises(AttributeError):
        config.alpha = 2.0
    assert isinstance(hash(config), int)


def test_the_keywords_are_the_fields_of_the_config():
    """Editors and type checkers read one, everything else the other."""
    names = {"Adapter": Adapter, "Scorer": Scorer, "PredictabilityScorer": PredictabilityScorer}
    assert get_type_hints(AuditOptions, localns=names) == get_type_hints(AuditConfig, localns=names)
    assert list(AuditOptions.__annotations__) == [field.name for field in fields(AuditConfig)]
    assert AuditOptions.__total__ is False


@pytest.mark.parametrize("room", [Auditor, MembershipAudit])
def test_config_and_keywords_are_taken_together(room):
    config = AuditConfig(alpha=0.5, seed=3, output_dir="results")

    def config_of(**options: Any) -> AuditConfig:
        made = room(config=config, **options)
        return made.config if isinstance(made, Auditor) else made.auditor.config

    assert config_of().alpha == 0.5
    assert config_of(batch_size=2).alpha == 0.5
    assert config_of(batch_size=2).seed == 3
    assert config_of(alpha=1.0).alpha == 1.0  # the default, but it was passed
    assert config_of(alpha=1.0).seed == 3
    assert config.alpha == 0.5


def test_the_settings_of_the_callback_are_those_of_its_auditor():
    audit = MembershipAudit(scores="membership", prefix="train", output_dir="results")
    assert audit.auditor.config.scores == ("membership",)
    assert (audit.prefix, audit.output_dir) == ("train", "results")


@pytest.mark.parametrize(
    ("room", "name", "nearest"),
    [
        (AuditConfig.of, "bach_size", "batch_size"),
        (Auditor, "inputkey", "input_key"),
        (MembershipAudit, "alfa", "alpha"),
        (MembershipAudit, "every_n_epoch", "every_n_epochs"),
    ],
)
def test_an_unknown_keyword_names_the_nearest(room, name, nearest):
    with pytest.raises(TypeError, match=rf"Unknown setting '{name}' \(did you mean '{nearest}'\?\)"):
        room(**{name: 1})


def test_a_keyword_like_no_other_lists_them_all():
    with pytest.raises(
        TypeError, match=r"Unknown setting 'xyz'; settings are task, output, errors, scores, .*output_dir"
    ):
        AuditConfig.of(xyz=1)


def test_recorded_settings_are_plain_values():
    """What results have always recorded, and no object, no folder."""
    meta = AuditConfig(mean=(0.5,), std=(0.5,), adapter=AutoAdapter(), output_dir="here").to_meta()
    assert json.loads(json.dumps(meta)) == meta
    usual = {
        "task": "auto",
        "scores": ["reconstruction", "membership"],
        "primary": "membership",
        "alpha": 1.0,
        "neighbours": "auto",
        "num_classes": None,
        "ignore_index": 255,
        "mean": [0.5],
        "std": [0.5],
        "target_range": "auto",
        "max_samples": 512,
        "batch_size": 16,
        "num_workers": 0,
        "seed": 0,
        "fdr": 0.1,
        "prefix": "audit",
    }
    assert {name: meta[name] for name in usual} == usual
    assert not {"adapter", "scorer", "cache_dir", "output_dir"} & set(meta)


def test_every_field_is_documented():
    assert AuditConfig.__doc__
    for field in fields(AuditConfig):
        assert f"        {field.name}: " in AuditConfig.__doc__


def test_the_command_line_makes_options_of_the_fields():
    parser = ArgumentParser()
    parser.add_class_arguments(AuditConfig, "audit", as_group=False)
    text = parser.format_help()
    for field in fields(AuditConfig):
        assert f"--audit.{field.name}" in text
    assert "Weight of the predictability error" in text
    parsed = parser.parse_args(
        ["--audit.scores=[membership]", "--audit.mean=[0.5]", "--audit.std=[0.5]", "--audit.output_key=1"]
    )
    config = AuditConfig(**parsed.audit)
    assert (config.scores, config.mean, config.output_key) == (("membership",), (0.5,), 1)


def test_scores_that_are_passed_decide_the_verdict_also_as_the_default():
    """As keywords in any case; as fields where they are others, since a field that is the default is not told apart."""
    assert AuditConfig(scores=SCORES).verdict == AuditConfig().verdict == "auto"
    assert AuditConfig(scores="membership").verdict == AuditConfig(primary="reconstruction").verdict == "primary"
    assert AuditConfig.of(scores=SCORES).verdict == AuditConfig.of(primary=PRIMARY).verdict == "primary"
