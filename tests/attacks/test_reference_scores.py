"""Reference models whose errors are known by heart: what the attacks see must be just these."""

import itertools
import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

from mia_lightning import Auditor, AuditResult, registry
from mia_lightning.attacks.patch import PatchAttack
from mia_lightning.attacks.reference_audit import patch_scores, reference_models, reference_statistics
from mia_lightning.attacks.reference_folder import ReferenceFolder, load_references
from mia_lightning.attacks.reference_scores import with_reference_scores
from mia_lightning.functional.calibration import calibrated_error
from mia_lightning.functional.combination import REFERENCE_WEIGHT, surprise_score
from mia_lightning.scores.building import attacks_on_one_model
from mia_lightning.scores.difficulty import difficulty_calibrated
from mia_lightning.scores.lira import lira_offline, lira_online
from mia_lightning.scores.reference_column import error_beside_references, reference_weight
from mia_lightning.scores.reference_statistics import ReferenceStatistics
from mia_lightning.scores.rmia import rmia_offline, rmia_online
from mia_lightning.scores.summary import score_metrics

SAMPLES, SIZE = 60, 16
IDS = [f"s{i:02d}" for i in range(SAMPLES)]


class Zeros:
    """A predictability scorer that costs nothing."""

    def __call__(self, input, target, task, *, num_classes, ignore_index):
        return torch.zeros(len(input))

    def fingerprint(self):
        return "zeros"


class ByHeart(nn.Module):
    """Translates sample i with a mean absolute error of errors[i]; segments it with a logit of confidence logits[i]."""

    def __init__(self, numbers, task="translation"):
        super().__init__()
        self.task = task
        self.numbers = nn.Parameter(torch.as_tensor(numbers, dtype=torch.float64).clone())

    def forward(self, x):
        number = self.numbers[(x[:, 0, 0, 0] * 1000).round().long()].view(-1, 1, 1, 1)
        if self.task == "translation":
            return 0.25 + number.expand(len(x), 3, SIZE, SIZE)
        return torch.cat([torch.zeros_like(number), number], 1).expand(len(x), 2, SIZE, SIZE)


def pair(index, task):
    x = torch.full((3, SIZE, SIZE), index / 1000, dtype=torch.float64)
    y = torch.full((3, SIZE, SIZE), 0.25) if task == "translation" else torch.ones(SIZE, SIZE, dtype=torch.long)
    return x, y, IDS[index]


class Scene:
    """A target, reference models on mirrored halves, and the data; statistics are known exactly."""

    def __init__(self, task="translation", references=4, seed=0, gain=1.0):
        rng = np.random.default_rng(seed)
        self.task = task
        self.member = rng.permutation(SAMPLES) < SAMPLES // 2
        halves = [rng.random(SAMPLES) < 0.5 for _ in range(-(-references // 2))]
        self.included = np.stack([h for half in halves for h in (half, ~half)])[:references]
        difficulty = rng.normal(2.0, 0.8, SAMPLES)
        known = np.vstack([self.member[None], self.included])
        statistic = difficulty + gain * known + rng.normal(0, 0.2, known.shape)
        # Statistics are what a model of numbers gives back: -log of an error, or the logit of a confidence.
        numbers = np.exp(-statistic) if task == "translation" else statistic
        self.target, *models = (ByHeart(row, task) for row in numbers)
        names = [[IDS[i] for i in np.flatnonzero(row)] for row in self.included]
        self.models = list(zip(models, names, strict=True))
        self.order = [*np.flatnonzero(self.member), *np.flatnonzero(~self.member)]  # of an audit: members first
        self.statistic = statistic[:, self.order]
        sides = [[pair(i, task) for i in np.flatnonzero(side)] for side in (self.member, ~self.member)]
        self.members, self.nonmembers = sides
        self.auditor = Auditor(scorer=Zeros(), task=task)
        self.result = self.auditor.run(self.target, *sides)

    @property
    def known(self):
        """What the attacks should be told."""
        return ReferenceStatistics(self.statistic[0], self.statistic[1:], self.included[:, self.order])

    def ask(self, models=None, **settings):
        models = self.models if models is None else models
        sides = self.members, self.nonmembers
        return with_reference_scores(self.result, models, *sides, self.auditor, **settings)


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_statistics_are_those_of_each_model_on_each_sample(task):
    scene = Scene(task)
    with warnings.catch_warnings(record=True) as cautions:
        found, errors = reference_statistics(scene.result, scene.models, scene.members, scene.nonmembers, scene.auditor)
    assert all(str(caution.message).startswith("Reference model 1: The model does no better") for caution in cautions)
    assert len(cautions) == 1
    np.testing.assert_allclose(found.target, scene.statistic[0], atol=1e-5)
    np.testing.assert_allclose(found.references, scene.statistic[1:], atol=1e-5)
    assert (found.included == scene.included[:, scene.order]).all()
    wanted = np.exp(-scene.statistic[1:]) if task == "translation" else 1 / (1 + np.exp(scene.statistic[1:]))
    np.testing.assert_allclose(errors, wanted, atol=1e-5)


@pytest.mark.parametrize("task", ["translation", "segmentation"])
def test_scores_are_those_of_the_formulas_and_find_members(task):
    scene = Scene(task)
    result = scene.ask()
    likelihood = {"translation": "inverse_error", "segmentation": "confidence"}[task]
    nonmembers = ~result.member
    wanted = {
        "lira_online": lira_online(scene.known),
        "lira_offline": lira_offline(scene.known),
        "rmia_online": rmia_online(scene.known, nonmembers, likelihood=likelihood),
        "rmia_offline": rmia_offline(scene.known, nonmembers, likelihood=likelihood),
        "difficulty": difficulty_calibrated(-scene.known.target, -scene.known.references, scene.known.included),
    }
    calibrated = calibrated_error(result.errors["reconstruction"], result.errors["predictability"], result.member)
    errors = [np.exp(-s) if task == "translation" else np.log1p(np.exp(-s)) for s in scene.statistic]
    logs = ReferenceStatistics(-np.log(errors[0]), -np.log(errors[1:]), scene.known.included)
    wanted["combined_references"] = surprise_score(
        [result.errors["weighted_neighbour"], result.errors["easiest_neighbour"]],
        [result.errors["membership"], calibrated],
        result.member,
        reference_error=error_beside_references(logs, result.member),
        reference_weight=reference_weight(logs, result.member),
    )
    assert list(result.scores) == [*attacks_on_one_model(), *wanted]
    assert {s.name for s in registry.scores if "references" in s.needs} == {*wanted, "patch"}
    for name, score in wanted.items():
        np.testing.assert_allclose(result.scores[name], score, rtol=1e-4, atol=1e-6)
        assert result.scores[name][result.member].mean() > result.scores[name][nonmembers].mean()
        assert result.metric(f"auc/{name}") > 0.85
        for key, value in score_metrics(name, result.scores[name], result.member, 0.95).items():
            assert result.metric(key) == pytest.approx(value, rel=0, abs=0, nan_ok=True)
    assert result.metric("auc/lira_online") > result.metric("auc/reconstruction") + 0.05
    assert result.meta["notes"] == []


def test_a_target_that_memorises_nothing_is_not_accused():
    honest = Scene(seed=3)
    honest.target.numbers.data *= torch.from_numpy(np.exp(1.0 * honest.member))  # takes the gain back
    honest.result = honest.auditor.run(honest.target, honest.members, honest.nonmembers)
    result = honest.ask()
    for name in ("lira_online", "lira_offline", "rmia_online", "rmia_offline", "difficulty", "combined_references"):
        low, high = result.interval(name)
        assert low < 0.5 < high, name


def test_the_result_is_a_copy_that_can_be_written(scene, tmp_path):
    before = scene.result.to_plain()["meta"], dict(scene.result.metrics)
    result = scene.ask()
    assert (scene.result.meta, scene.result.metrics) == before
    assert "lira_online" not in scene.result.scores
    told = result.meta["references"]
    assert (told["count"], told["folder"]) == (4, None)
    assert told["seconds"] > 0
    assert told["weight"] == pytest.approx(reference_weight(scene.known, result.member), abs=1e-3)
    again = AuditResult.from_json(result.to_json(tmp_path / "result.json"))
    assert again.metrics == pytest.approx(result.metrics, rel=0, abs=0, nan_ok=True)
    assert again.meta == result.meta
    assert result.auc == scene.result.auc  # the headline stays that of the audit


def one_after_another(models, shared):
    for module, trained_on in models:
        shared.load_state_dict(module.state_dict(), strict=False)
        yield shared, trained_on


def test_one_module_may_come_again_with_other_weights(scene):
    found, wanted = scene.ask(one_after_another(scene.models, ByHeart(np.zeros(SAMPLES)))), scene.ask()
    assert found.scores.keys() == wanted.scores.keys()
    for name, score in wanted.scores.items():
        assert (found.scores[name] == score).all(), name


def test_the_audits_own_subset_and_exclusions_are_kept(scene):
    auditor = Auditor(scorer=Zeros(), task="translation", max_samples=20)
    broken = ByHeart(scene.target.numbers.detach())
    broken.numbers.data[scene.order[3]] = torch.nan
    result = auditor.run(broken, scene.members, scene.nonmembers)
    found, _ = reference_statistics(result, scene.models, scene.members, scene.nonmembers, auditor)
    rows = [IDS[i] for i in scene.order]
    columns = [rows.index(name) for name in result.ids]
    assert found.samples == len(result.ids) < 41
    np.testing.assert_allclose(found.references, scene.statistic[1:, columns], atol=1e-5)


def test_models_that_know_none_of_the_samples_leave_the_online_attacks_out(scene):
    strangers = [(module, ["elsewhere"]) for module, _ in scene.models]
    result = scene.ask(strangers)
    assert {"lira_offline", "rmia_offline", "difficulty"} <= set(result.scores)
    assert not {"lira_online", "rmia_online"} & set(result.scores)
    assert "audit/auc/lira_online" not in result.metrics
    why = "no audited sample has both a reference model that was trained on it and one that was not."
    assert result.meta["notes"] == [f"No score {name}: {why}" for name in ("lira_online", "rmia_online")]


def test_one_model_is_enough_beside_the_combined_score(scene):
    result = scene.ask(scene.models[:1])
    assert result.metric("auc/combined_references") > result.metric("auc/combined") + 0.05
    public = scene.ask([(scene.models[0][0], [])])  # a checkpoint that was trained on none of them
    assert "combined_references" in public.scores
    assert public.meta["references"]["weight"] == REFERENCE_WEIGHT


def test_an_audit_without_neighbours_says_what_the_combination_needs(scene):
    auditor = Auditor(scorer=Zeros(), task="translation", verdict="primary")
    audit = auditor.run(scene.target, scene.members, scene.nonmembers)
    result = with_reference_scores(audit, scene.models, scene.members, scene.nonmembers, auditor)
    assert "combined_references" not in result.scores
    (note,) = result.meta["notes"]
    assert note.startswith(
        "No score combined_references: it needs 'neighbour' and 'weighted_neighbour' and 'easiest_neighbour', "
    )
    assert note.endswith("audit with errors=['neighbour', 'weighted_neighbour', 'easiest_neighbour'].")


def test_two_mirrored_models_are_enough_for_all_and_one_for_offline_attacks(scene):
    two, one = scene.ask(scene.models[:2]), scene.ask(scene.models[:1])
    assert two.meta["notes"] == []
    for name in ("lira_online", "lira_offline", "rmia_online"):
        assert two.metric(f"auc/{name}") > 0.8, name
    assert one.metric("auc/lira_offline") > 0.8
    assert [note.split(":")[0] for note in one.meta["notes"]] == ["No score lira_online", "No score rmia_online"]


def test_a_model_without_a_number_is_named(scene):
    broken = ByHeart(scene.models[1][0].numbers.detach())
    broken.numbers.data[scene.order[2]] = torch.inf
    models = [scene.models[0], (broken, scene.models[1][1])]
    name = IDS[scene.order[2]]
    message = (
        rf"Reference model 2 of those given has no number for 1 of the 60 audited samples, first '{name}': the "
        r"prediction holds NaN"
    )
    with pytest.raises(ValueError, match=message):
        reference_statistics(scene.result, models, scene.members, scene.nonmembers, scene.auditor)
    with pytest.warns(UserWarning, match=message):
        result = scene.ask(models)
    alone = scene.ask(models[:1])
    assert all((result.scores[name] == score).all() for name, score in alone.scores.items())
    assert (result.meta["references"]["count"], result.scores.keys()) == (1, alone.scores.keys())
    assert result.meta["interpretation"]["reference models"] == (
        "without number 2 of those given, for the reasons in the notes"
    )


def test_where_no_model_has_numbers_the_audit_is_what_it_was(scene):
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("the weights are NaN")

    with pytest.warns(UserWarning, match=r"Reference model 1 .* fails .*: RuntimeError: the weights are NaN\. It is"):
        result = scene.ask([(Broken(), IDS[::2])], target=scene.target, patch=True)
    assert (result.scores.keys(), result.metrics) == (scene.result.scores.keys(), scene.result.metrics)
    assert "No scores of reference models: none has numbers." in result.meta["notes"]


def test_where_one_process_has_no_memory_all_stop(scene, monkeypatch):
    class Small(nn.Module):
        def forward(self, x):
            raise MemoryError("too little")

    with pytest.raises(MemoryError, match="too little"):
        scene.ask([(Small(), IDS[::2])])

    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("the weights are NaN")

    monkeypatch.setattr("mia_lightning.attacks.reference_audit.gathered", lambda own: [*own, True])
    with pytest.raises(ValueError, match="RuntimeError: the weights are NaN"):
        scene.ask([(Broken(), IDS[::2])])


@pytest.mark.parametrize(
    ("trained_on", "counts"),
    [
        (lambda member: member, "30 of the 30 audited members and 0 of the 30 nonmembers"),
        (lambda member: member & (np.cumsum(member) < 16), "15 of the 30 audited members and 0 of"),
        (lambda member: ~member & (np.cumsum(~member) < 16), "0 of the 30 audited members and 15 of"),
        (lambda member: member | (np.cumsum(~member) < 16), "30 of the 30 audited members and 15 of"),
        (lambda member: member ^ (np.cumsum(member) % 15 == 0), "the 30 audited members and "),
    ],
)
def test_the_patch_attack_does_not_learn_the_sides(scene, trained_on, counts):
    known = trained_on(scene.member)
    models = [(scene.models[0][0], [IDS[i] for i in np.flatnonzero(known)])]
    result = scene.ask(models, target=scene.target, patch=True)
    assert "patch" not in result.scores
    (note,) = [note for note in result.meta["notes"] if note.startswith("No score patch")]
    assert counts in note
    assert "Expected a part of both sides: mia-lightning references trains models on coin-flip halves" in note


def test_other_data_than_the_audited_are_refused(scene):
    with pytest.raises(ValueError, match=r"for 1 of the 60 audited samples, first 's..': the data given here do not"):
        with_reference_scores(scene.result, scene.models, scene.members[1:], scene.nonmembers, scene.auditor)


def test_no_model_at_all_is_an_error(scene):
    with pytest.raises(ValueError, match=r"no reference model to compare with. Train some with: mia-lightning ref"):
        scene.ask([])


def test_a_result_that_does_not_tell_its_task_is_refused(scene):
    foreign = AuditResult({}, ["a", "b"], np.array([True, False]), {}, {})
    with pytest.raises(ValueError, match=r"one of \['translation', 'segmentation', 'multilabel'\], but got None"):
        with_reference_scores(foreign, scene.models, scene.members, scene.nonmembers, scene.auditor)


def test_a_side_without_numbers_is_noted_and_nothing_is_asked(scene):
    keep = np.flatnonzero(scene.result.member)
    one_sided = AuditResult(
        metrics={},
        ids=[scene.result.ids[i] for i in keep],
        member=scene.result.member[keep],
        errors={k: v[keep] for k, v in scene.result.errors.items()},
        scores={},
        meta=scene.result.meta,
    )
    result = with_reference_scores(one_sided, iter(()), scene.members, scene.nonmembers, scene.auditor)
    assert result.scores == {}
    assert result.meta["notes"] == ["No scores of reference models: the audit has numbers for one side only."]


def test_progress_names_the_model(scene):
    seen = []

    class Bar:
        def __init__(self, name, total):
            seen.append((name, total))

        def __enter__(self):
            return lambda count: None

        def __exit__(self, *error):
            pass

    scene.ask(progress=Bar)
    assert seen == [(f"reference model {i}", SAMPLES) for i in range(1, 5)]


# ---- the patch attack


class Spotted(ByHeart):
    """Errs as it should on average, but in one corner less where a sample is known."""

    def __init__(self, numbers, known):
        super().__init__(numbers)
        self.register_buffer("known", torch.as_tensor(known))

    def forward(self, x):
        prediction = super().forward(x).clone()
        known = self.known[(x[:, 0, 0, 0] * 1000).round().long()]
        prediction[known, :, :8, :8] = 0.25 + (prediction[known, :, :8, :8] - 0.25) * 0.2
        return prediction


@pytest.fixture(scope="module")
def spotted():
    scene = Scene(gain=0.0)
    numbers = [m.numbers.detach() for m in (scene.target, scene.models[0][0])]
    scene.target = Spotted(numbers[0], scene.member)
    scene.models[0] = (Spotted(numbers[1], scene.included[0]), scene.models[0][1])
    scene.result = scene.auditor.run(scene.target, scene.members, scene.nonmembers)
    return scene


def test_the_patch_attack_learns_on_the_first_model_and_scores_the_target(spotted):
    arguments = spotted.result, spotted.models[0], spotted.target, spotted.members, spotted.nonmembers, spotted.auditor
    alone = patch_scores(*arguments)
    shared = Spotted(np.zeros(SAMPLES), spotted.included[0])  # patches are learned before its weights change
    result = spotted.ask(one_after_another(spotted.models, shared), target=spotted.target, patch=True)
    assert (result.scores["patch"] == alone).all()
    assert result.metric("auc/patch") > 0.9
    assert result.scores["patch"][result.member].mean() > result.scores["patch"][~result.member].mean()
    some, other = (patch_scores(*arguments, attack=PatchAttack(steps=5, seed=seed)) for seed in (0, 1))
    assert (some != other).any()


def test_the_patch_attack_sees_the_neighbours_of_the_audit_in_their_place(spotted, monkeypatch):
    fitted = []
    monkeypatch.setattr(PatchAttack, "fit", lambda self, maps, member: fitted.append((self, maps)))
    monkeypatch.setattr(PatchAttack, "score", lambda self, maps: np.zeros(len(maps)))
    arguments = spotted.models[0], spotted.target, spotted.members, spotted.nonmembers
    patch_scores(spotted.result, *arguments, spotted.auditor)
    (attack, maps), used = fitted.pop(), spotted.result.meta["neighbours"]["used"]
    assert attack.neighbours
    assert maps.shape == (SAMPLES, 1 + len(used), SIZE, SIZE)
    # The corner where known samples err less stays where it is in the copies, whose maps are brought back.
    known = spotted.included[0][spotted.order]
    share = (maps[known, :, :4, :4].mean((2, 3)) / maps[known, :, -4:, -4:].mean((2, 3))).mean(0)
    corner = dict(zip(["own", *used], share.tolist(), strict=True))
    assert corner["own"] == pytest.approx(0.2, abs=0.01)
    assert corner["shift_left"] == pytest.approx(0.2, abs=0.01)
    assert corner["rotate180"] == pytest.approx(5.0, abs=0.1)

    plain = Auditor(scorer=Zeros(), task="translation", verdict="primary")
    result = plain.run(spotted.target, spotted.members, spotted.nonmembers)
    patch_scores(result, *arguments, plain)
    attack, maps = fitted.pop()
    assert not attack.neighbours
    assert maps.shape == (SAMPLES, 1, SIZE, SIZE)
    with pytest.raises(ValueError, match="was to see neighbours, but the audit has none: ask for a score"):
        patch_scores(result, *arguments, plain, attack=PatchAttack(neighbours=True))


def test_the_patch_attack_needs_the_target(scene):
    with pytest.raises(ValueError, match="pass target=, the audited model, or patch=False"):
        scene.ask(patch=True)


def test_a_stream_leaves_the_patch_attack_out(scene):
    class Stream(IterableDataset):
        def __init__(self, items):
            self.items = items

        def __iter__(self):
            return iter(self.items)

    streams = Stream(scene.members), Stream(scene.nonmembers)
    result = scene.auditor.run(scene.target, *streams)
    found = with_reference_scores(result, scene.models, *streams, scene.auditor, target=scene.target, patch=True)
    assert "patch" not in found.scores
    assert "difficulty" in found.scores
    why = "The patch attack reads members by position, which this data set does not allow."
    assert found.meta["notes"] == [f"No score patch: {why}"]


def test_pictures_of_several_sizes_leave_the_patch_attack_out():
    def sized(index):
        side = 8 + 8 * (index % 2)
        return torch.rand(3, side, side), torch.rand(3, side, side), IDS[index]

    sides = [sized(i) for i in range(8)], [sized(i) for i in range(8, 16)]
    auditor = Auditor(scorer=Zeros(), task="translation", batch_size=1)
    result = auditor.run(nn.Identity(), *sides)
    models = [(nn.Identity(), IDS[k:16:2]) for k in (0, 1, 0, 1)]
    found = with_reference_scores(result, models, *sides, auditor, target=nn.Identity(), patch=True)
    assert "patch" not in found.scores
    assert any("pictures of one size, but they measure (8, 8) to (16, 16)" in n for n in found.meta["notes"])


# ---- the folder


@pytest.fixture
def folder(tmp_path):
    made = ReferenceFolder(tmp_path / "refs", 4, 7, {"model": {"width": 3, "names": ["a"]}}).opened()
    for number in range(3):
        half = IDS[number % 2 :: 2]
        made.reference(number).assign(half, sorted(set(IDS) - set(half)))
        torch.save({"number": number}, made.reference(number).checkpoint)
    for number in (0, 2):
        made.reference(number).finish(1.5, 3)
    return made


def test_a_folder_is_read_as_it_was_written(folder):
    again = load_references(folder.path)
    assert again == folder
    assert [r.number for r in again.finished()] == [0, 2]
    assert again.reference(1).sides() == (frozenset(IDS[1::2]), frozenset(IDS[::2]))
    assert json.loads((folder.path / "000" / "done.json").read_text()) == {"seconds": 1.5, "epochs": 3}


def test_only_finished_models_are_loaded_one_after_another_into_a_copy(folder):
    template = nn.Linear(1, 1)
    before = template.weight.item()

    def load(model, path):
        model.weight.data.fill_(torch.load(path, weights_only=True)["number"])

    seen = [(module, module.weight.item(), ids) for module, ids in reference_models(folder, template, load)]
    assert [number for _, number, _ in seen] == [0.0, 2.0]
    assert all(ids == frozenset(IDS[::2]) for _, _, ids in seen)
    assert seen[0][0] is seen[1][0] is not template
    assert template.weight.item() == before


def test_a_result_tells_the_folder_and_what_is_missing_in_it(scene, folder):
    result = scene.ask(folder=folder)
    assert result.meta["references"]["folder"] == str(folder.path)
    assert result.meta["notes"] == [f"2 of 4 reference models in {folder.path} are trained; those are used."]


def test_samples_that_no_model_could_know_are_noted(folder):
    assert folder.check_samples([*IDS, "new"])[0] == (
        f"1 of 61 audited samples were not there when the reference models in {folder.path} were trained; no "
        "reference model knows them."
    )


def test_models_of_other_data_are_refused(scene, folder, tmp_path):
    other = ReferenceFolder(tmp_path / "other", 1, 0).opened()
    other.reference(0).assign(["x1"], ["x0"])
    other.reference(0).finish(1, 1)
    message = r"None of the 60 audited samples \(first 's..'\) is among the 2 .* were drawn from \(first 'x0'\)"
    with pytest.raises(ValueError, match=message):
        scene.ask(folder=other)


def test_a_missing_folder_says_how_to_get_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist. Train some with: mia-lightning references"):
        load_references(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no references.json. Train some"):
        load_references(tmp_path)


def test_a_folder_without_a_trained_model_is_refused(folder):
    for number in (0, 2):
        (folder.path / f"{number:03d}" / "done.json").unlink()
    with pytest.raises(ValueError, match=r"None of the 4 reference models in .* is trained to its end. Repeat the"):
        load_references(folder.path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "does not describe reference models: JSONDecodeError"),
        ("[]", "does not describe reference models: TypeError"),
        ('{"format": 1}', "does not describe reference models: KeyError"),
        ('{"format": 9, "num": 2, "seed": 0, "config": {}}', "to be of format 1, but found 9"),
    ],
)
def test_a_broken_manifest_is_named(folder, content, message):
    (folder.path / "references.json").write_text(content)
    with pytest.raises(ValueError, match=rf"references\.json {message}"):
        load_references(folder.path)


@pytest.mark.parametrize("content", [None, "{", "{}", '{"trained_on": 3, "left_out": []}'])
def test_a_model_that_does_not_tell_its_samples_is_named(folder, content):
    path = folder.path / "002" / "members.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    models = reference_models(folder, nn.Linear(1, 1), lambda model, path: None)
    with pytest.raises(ValueError, match=r"002/members\.json does not tell what reference model 3 was trained on"):
        list(models)


def test_another_configuration_is_told_by_what_differs(folder):
    config = {"model": {"width": 4, "names": ["a", "b"], "deep": True}}
    with pytest.raises(ValueError, match="of another configuration") as refused:
        ReferenceFolder(folder.path, 4, 8, config).opened()
    assert str(refused.value) == (
        f"The reference models in {folder.path} are of another configuration: model.deep was not set and is True now; "
        "model.names was ['a'] and is ['a', 'b'] now; model.width was 3 and is 4 now; seed was 7 and is 8 now. Give "
        "the settings that they were begun with, or another --output_dir."
    )
    assert load_references(folder.path) == folder


@pytest.mark.parametrize(("num", "kept"), [(2, 4), (4, 4), (6, 6)])
def test_a_folder_only_grows(folder, num, kept):
    opened = ReferenceFolder(folder.path, num, 7, folder.config).opened()
    assert opened.num == load_references(folder.path).num == kept


def test_changed_data_are_noticed(folder):
    reference = folder.reference(0)
    reference.assign(reversed(IDS[::2]), IDS[1::2])  # the same
    with pytest.raises(
        ValueError, match=r"data have changed since .*members\.json was written: its 60 .* the 61 there"
    ):
        reference.assign([*IDS[::2], "new"], IDS[1::2])
    with pytest.raises(ValueError, match="parted otherwise"):
        reference.assign(IDS[1::2], IDS[::2])


def test_the_order_of_the_models_does_not_matter(scene):
    first = scene.ask()
    for order in itertools.islice(itertools.permutations(scene.models), 1, 3):
        again = scene.ask(order)
        for name in ("lira_online", "rmia_online", "difficulty"):
            np.testing.assert_allclose(again.scores[name], first.scores[name], rtol=1e-9)


def test_scores_of_others_get_what_is_declared_or_are_left_out_with_a_reason(scene):
    calls = []

    def undeclared(inputs):
        return inputs.errors["nowhere"]

    def whole(inputs):
        calls.append(inputs)
        return inputs.history[0]["reconstruction"] - inputs.errors["reconstruction"]

    functions = {
        "needs_l2": (("l2",), whole),
        "undeclared": ((), undeclared),
        "flat": ((), lambda inputs: 0.0),
        "whole": (("reconstruction",), whole),
    }
    for name, (errors, function) in functions.items():
        needs = frozenset({"references", "history"})
        registry.register_score(name, label=name, sentence="A test.", errors=errors, needs=needs)(function)
    try:
        auditor = Auditor(scorer=Zeros(), task=scene.task, seed=5)
        sides = scene.members, scene.nonmembers
        result = with_reference_scores(scene.result, scene.models, *sides, auditor, history=[scene.result])
    finally:
        for name in functions:
            registry.scores.remove(name)
    assert result.scores["whole"].tolist() == [0.0] * SAMPLES
    assert [inputs.seed for inputs in calls] == [5]
    notes = "\n".join(result.meta["notes"])
    assert "No score needs_l2: it needs 'l2', which the audit has not measured; audit with errors=['l2']." in notes
    assert "No score undeclared: its function looked for 'nowhere', which is not there." in notes
    assert "No score flat: Expected the score 'flat' to give one number a sample" in notes
    assert not {"needs_l2", "undeclared", "flat"} & set(result.scores)
