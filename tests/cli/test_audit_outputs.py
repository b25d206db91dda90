"""``mia-lightning audit --outputs``: an audit without the model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mia_lightning import Auditor
from mia_lightning.cli.main import main
from mia_lightning.features import PredictabilityScorer
from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.picture_files import PARTS, read_pictures

SIZE = 24


@pytest.fixture(autouse=True)
def inside_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "mia_lightning.audit.auditor.PredictabilityScorer", lambda: PredictabilityScorer(nn.AvgPool2d(4), grid=6)
    )


def picture(rng: np.random.Generator) -> np.ndarray:
    coarse = rng.uniform(0.2, 0.7, (4, 4, 3))
    image = np.kron(coarse, np.ones((SIZE // 4, SIZE // 4, 1))) + rng.normal(0, 0.05, (SIZE, SIZE, 3))
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)


def translated(root: Path, count: int = 6) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Outputs close to the target for members, less so for nonmembers; returned by id."""
    rng, triples = np.random.default_rng(0), {}
    for side, noise in (("members", 4), ("nonmembers", 30)):
        for i in range(count):
            x, y = picture(rng), picture(rng)
            output = np.clip(y + rng.normal(0, noise, y.shape), 0, 255).astype(np.uint8)
            name = f"{side[0]}{i}"
            triples[name] = x, y, output
            for folder, array in (("inputs", x), ("targets", y), ("outputs", output)):
                save(root / side / folder / f"{name}.png", array)
    return triples


def segmented(root: Path, suffix: str = ".npy", count: int = 12) -> list[str]:
    """Probabilities or label maps of five classes in one folder; the first half are members."""
    rng, names = np.random.default_rng(1), [f"c{i:02d}" for i in range(count)]
    for i, name in enumerate(names):
        labels = rng.integers(0, 5, (6, 6)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        logits = np.eye(5)[labels] * (4 if i < count // 2 else 1) + rng.random((SIZE, SIZE, 5))
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        save(root / "targets" / f"{name}.png", labels)
        save(root / "inputs" / f"{name}.png", picture(rng))
        output = p.transpose(2, 0, 1).astype(np.float32) if suffix == ".npy" else p.argmax(-1).astype(np.uint8)
        save(root / "outputs" / f"{name}{suffix}", output)
    Path("in.txt").write_text("# trained on\n" + "\n".join(names[: count // 2]) + "\n")
    Path("out.txt").write_text("\n".join(names[count // 2 : -1]))
    return names


@pytest.fixture
def audit() -> Callable[..., AuditResult]:
    def run(*args: str) -> AuditResult:
        main(["audit", *args])
        return AuditResult.from_json("audit/result.json")

    return run


def failure(capsys, *args: str, status: int = 1) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["audit", *args])
    assert stopped.value.code == status
    return capsys.readouterr().err


IDS = ["--member_ids=in.txt", "--nonmember_ids=out.txt"]


def test_two_folders_give_what_the_model_itself_would_give(audit, capsys):
    triples = translated(Path("dir"))
    result = audit("--outputs=dir", "--top=2")
    text = capsys.readouterr().out
    unit = {k: [torch.from_numpy(a).permute(2, 0, 1).float() / 255 for a in v] for k, v in triples.items()}
    answers = {x.numpy().tobytes(): output for x, _, output in unit.values()}
    sides = [[(x, y, k) for k, (x, y, _) in unit.items() if k[0] == letter] for letter in "mn"]
    model = lambda batch: torch.stack([answers[x.numpy().tobytes()] for x in batch])  # noqa: E731 - a model
    scorer = PredictabilityScorer(nn.AvgPool2d(4), grid=6)
    expected = Auditor(task="translation", scorer=scorer).run(model, *sides)
    assert result.ids == expected.ids == list(triples)
    for name, errors in expected.errors.items():
        np.testing.assert_allclose(result.errors[name], errors, atol=1e-6, err_msg=name)
    assert result.auc == expected.auc == 1.0
    assert text.startswith("translation: 6 members, 6 nonmembers; outputs are images.\n")
    assert "Most exposed members" in text
    assert "Since when is not known" not in text
    names = ("result.json", "samples.csv", "memorization_curve.png", "report.html", "report.md")
    assert text.splitlines()[-1] == f"Written: {', '.join(f'audit/{name}' for name in names)}"
    assert Path("audit/samples.csv").is_file()
    pictures = read_pictures(result, "audit")
    assert [p.row for p in pictures if p.group == "member-like"] == result.top_indices(8, member=False)
    assert all(tuple(p.parts) == PARTS for p in pictures)
    assert {k: result.meta[k] for k in ("stage", "source", "outputs", "kind", "membership")} == {
        "stage": "audit",
        "source": "outputs",
        "outputs": "dir",
        "kind": "images",
        "membership": {"assignment": "given"},
    }


def test_one_folder_with_lists_of_ids(audit, capsys):
    names = segmented(Path("dir"))
    result = audit("--outputs", "dir", *IDS, "--audit.scores=[reconstruction,membership,calibrated]", "--fdr=0.2")
    assert result.ids == names[:-1], "the last is in neither list"
    assert result.member.tolist() == [True] * 6 + [False] * 5
    assert list(result.scores) == ["reconstruction", "membership", "calibrated"]
    assert result.meta["settings"]["fdr"] == 0.2
    first = np.load("dir/outputs/c00.npy"), np.asarray(Image.open("dir/targets/c00.png"))
    entropy = -np.log(np.take_along_axis(first[0], first[1][None].astype(int), 0)).mean()
    assert result.errors["reconstruction"][0] == pytest.approx(entropy, abs=1e-5)
    assert capsys.readouterr().out.startswith(
        "segmentation: 6 members, 5 nonmembers; outputs are probabilities of 5 classes.\n"
    )
    assert (result.meta["member_ids"], result.meta["nonmember_ids"]) == ("in.txt", "out.txt")


def test_label_maps_of_other_folder_names_carry_less_which_is_noted(audit):
    segmented(Path("dir"), ".png")
    for old, new in (("inputs", "x"), ("targets", "y"), ("outputs", "z")):
        Path("dir", old).rename(Path("dir", new))
    names = ["--inputs_dir=x", "--targets_dir=y", "--outputs_dir=z"]
    result = audit("--outputs=dir", *IDS, *names, "--num_classes=5", "--output_dir=audit")
    assert result.meta["kind"] == "labels"
    assert all(tuple(p.parts) == PARTS for p in read_pictures(result, "audit"))
    assert "The model's outputs are label maps, which do not show how sure it was" in " ".join(result.meta["notes"])
    assert result.meta["interpretation"]["output"] == "labels: the model returns int64"
    assert result.errors["boundary_distance"].shape == (11,)


def test_settings_reach_the_audit(audit, capsys):
    translated(Path("dir"))
    result = audit("--outputs=dir", "--max_samples=4", "--seed=3", "--alpha=0.5", "--cache_dir=cache", "--batch_size=3")
    assert len(result.ids) == 8
    gap = result.errors["reconstruction"] - result.errors["membership"]
    np.testing.assert_allclose(gap, 0.5 * result.errors["predictability"])
    assert (result.meta["settings"]["seed"], result.meta["settings"]["batch_size"]) == (3, 3)
    assert list(Path("cache").iterdir())


def test_sides_that_were_stored_differently_are_warned_of(audit, capsys):
    triples = translated(Path("dir"))
    for name in triples:
        if name[0] == "m":
            path = Path("dir/members/outputs") / f"{name}.png"
            Image.open(path).save(path.with_suffix(".jpg"))
            path.unlink()
    result = audit("--outputs=dir")
    warning = (
        "The outputs of the members are stored as lossy images (JPEG or WebP), those of the nonmembers as lossless"
    )
    assert any(note.startswith(warning) for note in result.meta["notes"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.index(f"Caution: {warning} images. That alone would") < text.index("Memorization by audited epoch")


def test_sizes_that_differ_are_warned_of_and_audited_one_by_one(audit):
    triples = translated(Path("dir"))
    for name in triples:
        if name[0] == "n":
            path = Path("dir/nonmembers/outputs") / f"{name}.png"
            Image.open(path).resize((12, 12)).save(path)
    result = audit("--outputs=dir")
    assert result.meta["settings"]["batch_size"] == 1
    assert any(note.startswith("6 of 12 outputs have another size than the") for note in result.meta["notes"])


def test_grey_and_resized_outputs_are_noted(audit, capsys):
    triples = translated(Path("dir"))
    for name in triples:
        path = next(Path("dir").glob(f"*/outputs/{name}.png"))
        Image.open(path).convert("L").resize((12, 12)).save(path)
    notes = " ".join(audit("--outputs=dir").meta["notes"])
    for side in ("members", "nonmembers"):
        assert f"6 of 6 outputs in dir/{side} have another size than their targets" in notes
        assert f"6 of 6 outputs in dir/{side} are grey beside targets in colour" in notes
    assert capsys.readouterr().out.count("Caution: ") == 4


@pytest.mark.parametrize("outputs", ["probabilities", "labels"])
def test_masks_of_0_and_255_are_not_audited_for_their_background_alone(audit, capsys, outputs):
    rng = np.random.default_rng(3)
    for side, good in (("members", 0.9), ("nonmembers", 0.6)):
        for i in range(4):
            mask = 255 * rng.integers(0, 2, (6, 6)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
            p = np.where(mask == 255, good, 1 - good).astype(np.float32)
            save(Path("dir") / side / "inputs" / f"{i}.png", picture(rng))
            save(Path("dir") / side / "targets" / f"{i}.png", mask)
            if outputs == "labels":
                save(Path("dir") / side / "outputs" / f"{i}.png", mask)
            else:
                save(Path("dir") / side / "outputs" / f"{i}.npy", np.stack([1 - p, p]))
    args = ["--outputs=dir", "--task=segmentation", "--num_classes=2"]
    message = failure(capsys, *args)
    assert "No target holds a class other than 0, and pixels of 255 (ignore_index) are ignored" in message
    assert "--foreground 255" in message
    error = audit(*args, "--foreground=255").errors["reconstruction"]
    expected = np.zeros(8) if outputs == "labels" else -np.log([0.9] * 4 + [0.6] * 4)
    np.testing.assert_allclose(error, expected, rtol=1e-4)


def test_one_sample_a_side_is_counted_in_the_singular(audit, capsys):
    translated(Path("dir"), count=1)
    audit("--outputs=dir")
    assert "translation: 1 member, 1 nonmember; outputs are images." in capsys.readouterr().out


def test_sides_of_different_kinds_are_refused(capsys):
    segmented(Path("one"))
    segmented(Path("two"), ".png")
    Path("dir").mkdir()
    shutil.move("one", "dir/members")
    shutil.move("two", "dir/nonmembers")
    message = failure(capsys, "--outputs=dir", "--num_classes=5")
    assert "The outputs of the members are probabilities, those of the nonmembers labels." in message


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--outputs=gone"], "no folder 'gone'"),
        (["--outputs=dir", "--member_ids=in.txt"], "Expected both files, --member_ids FILE and --nonmember_ids FILE"),
        (["--outputs=dir"], "dir does not say who is a member: it has no folder members and no folder nonmembers (its"),
        (["--outputs=dir"], "folders are inputs, outputs, targets). Either put inputs, targets and outputs of both"),
        (
            ["--outputs=dir", "--member_ids=in.txt", "--nonmember_ids=in.txt"],
            "Both in.txt and in.txt name 6 ids: 'c00'",
        ),
        (
            ["--outputs=dir", *IDS, "--scores=[membership,combined]"],
            "The score 'combined' asks the model about flipped",
        ),
        (["--outputs=dir", "--ckpt_path=x", "--trainer.devices=2"], "--ckpt_path, --trainer.devices: for audits with"),
        (["--outputs=dir", "--audit.adapter=x"], "--adapter: for audits with the model. --outputs DIR audits stored"),
        (
            ["--outputs=dir", *IDS, "--primary=neighbour"],
            "The score 'neighbour' asks the model about flipped or shifted",
        ),
        (
            ["--outputs=dir", *IDS, "--scores=[membership]", "--primary=calibrated"],
            "The primary score 'calibrated' is not among scores=",
        ),
        (["--outputs=dir", *IDS, "--top=0"], "Expected --top >= 1"),
        (
            ["--outputs=maps", *IDS],
            "do not tell what the model does: say --task translation, --task segmentation or --task multilabel.",
        ),
        (["--outputs=maps", *IDS, "--task=segmentation"], "which does not tell how many classes there are: pass num_c"),
    ],
)
def test_what_does_not_fit_is_said(capsys, args, text):
    segmented(Path("dir"))
    segmented(Path("maps"), ".png")
    assert text in failure(capsys, *args)


def test_an_unknown_option_is_named_and_help_is_near(capsys):
    message = failure(capsys, "--outputs=dir", "--num_clases=3", status=2)
    assert (
        "unknown option '--num_clases' (did you mean '--num_classes'?); options there are --help, --outputs" in message
    )
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "--outputs", "dir", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.index("DIR/members and DIR/nonmembers") < text.index("--member_ids FILE --nonmember_ids FILE")


@pytest.mark.parametrize(
    ("output", "target", "task"),
    [
        (np.zeros((7, 8, 9), np.float32), None, "segmentation"),
        (np.zeros((8, 9), np.int64), None, "segmentation"),
        (np.zeros((8, 8, 3), np.float32), "photograph", "translation"),
        (np.zeros((8, 8), np.uint8), "photograph", "translation"),
        (np.zeros((3, 8, 8), np.float32), "labels", None),
        (np.zeros((8, 8), np.float32), "labels", None),
    ],
)
def test_the_task_is_told_where_it_can_be(output, target, task):
    from mia_lightning.data.output_layout import OutputFiles
    from mia_lightning.stored.sides import tell_task

    rng = np.random.default_rng(2)
    kinds = {"photograph": rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8), None: rng.integers(0, 3, (8, 8), np.uint8)}
    save(Path("dir/outputs/a.npy"), output)
    save(Path("dir/targets/a.png"), kinds.get(target, kinds[None]))
    if task is None:
        with pytest.raises(ValueError, match="say --task translation, --task segmentation or --task multilabel"):
            tell_task(Path("dir"), OutputFiles())
    else:
        assert tell_task(Path("dir"), OutputFiles()) == task
