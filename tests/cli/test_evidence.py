"""``mia-lightning evidence``, both ways: outputs alone, and a model with its checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mia_lightning import PairedImageDataModule, Pix2Pix
from mia_lightning.cli.evidence import split_options
from mia_lightning.cli.main import main
from mia_lightning.evidence.evidence_record import Evidence
from mia_lightning.features import PredictabilityScorer

SIZE = 24
CPU = ("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")
Images = list[np.ndarray]

# A model that has learnt its training pairs by heart, and otherwise returns its input.
BY_HEART = """
import torch
from lightning.pytorch import LightningModule

class ByHeart(LightningModule):
    def __init__(self, number: int = 24, size: int = 24):
        super().__init__()
        self.save_hyperparameters()
        self.register_buffer("inputs", torch.full((number, 3, size, size), -1.0))
        self.register_buffer("targets", torch.full((number, 3, size, size), 0.5))
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        distance = (x[:, None] - self.inputs).abs().flatten(2).mean(2)
        known, which = distance.min(1)
        learnt = 0.5 * self.targets[which] + 0.5 * x
        return torch.where((known < 1e-6).view(-1, 1, 1, 1), learnt, x) + self.weight
"""


@pytest.fixture(autouse=True)
def inside_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The default features take 0.06 s an image; these tell as much about pictures of this size.
    monkeypatch.setattr(
        "mia_lightning.audit.auditor.PredictabilityScorer", lambda: PredictabilityScorer(nn.AvgPool2d(4), grid=6)
    )


def pictures(count: int, seed: int, brighter: float = 0.0) -> Images:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.1, 0.6, (count, 4, 4, 3)) + brighter
    fine = np.kron(coarse, np.ones((1, SIZE // 4, SIZE // 4, 1))) + rng.normal(0.0, 0.03, (count, SIZE, SIZE, 3))
    return list(np.clip(fine, 0.0, 1.0))


def partners(images: Images, seed: int) -> Images:
    """Targets: the picture, a little redder, plus detail that nobody can predict."""
    rng = np.random.default_rng(1000 + seed)
    strength = rng.uniform(0.02, 0.06, len(images))
    return [
        np.clip(0.9 * i + [0.06, 0.02, 0.0] + s * rng.normal(size=i.shape), 0, 1)
        for i, s in zip(images, strength, strict=True)
    ]


def save(folder: Path, images: Images, prefix: str = "s", suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        pixels = np.rint(image * 255).astype(np.uint8) if image.dtype != np.uint8 else image
        if suffix == ".npy":
            np.save(folder / f"{prefix}{number:02d}.npy", image)
        else:
            Image.fromarray(pixels).save(folder / f"{prefix}{number:02d}{suffix}")


def triples(root: Path, seed: int, error: Callable[[np.ndarray], float], *, count: int = 24, brighter: float = 0.0):
    """inputs, targets, and outputs that miss the target by noise of a strength that may depend on the target."""
    rng, inputs = np.random.default_rng(2000 + seed), pictures(count, seed, brighter)
    targets = partners(inputs, seed)
    outputs = [np.clip(t + error(t) * rng.uniform(0.8, 1.2) * rng.normal(size=t.shape), 0, 1) for t in targets]
    for name, images in (("inputs", inputs), ("targets", targets), ("outputs", outputs)):
        save(root / name, images)
    return root


def innocent(_: np.ndarray) -> float:
    return 0.15


def evidence(*args: str) -> Evidence:
    main(["evidence", *args])
    return Evidence.from_json("evidence/evidence.json")


def failure(capsys, *args: str, status: int = 1) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["evidence", *args])
    assert stopped.value.code == status
    assert not Path("evidence").exists()
    return capsys.readouterr().err


FOLDERS = ("--task=translation", "--suspects=suspects", "--reference=reference")


# ---- outputs alone


def test_a_model_that_memorised_is_found_out_by_its_outputs(capsys):
    triples(Path("suspects"), 1, lambda _: 0.08)
    triples(Path("reference"), 2, innocent)
    found = evidence(*FOLDERS)
    assert found.conclusion == "supported"
    assert found.whole.p_value < 1e-3
    assert (found.whole.suspects, found.whole.references, found.primary) == (24, 24, "membership")
    assert sorted(s.id for s in found.suspects) == [f"s{i:02d}" for i in range(24)]
    assert (found.meta["source"], found.meta["task"], found.meta["suspects"]) == ("outputs", "translation", "suspects")
    shown, text = capsys.readouterr().out, Path("evidence/evidence.txt").read_text()
    assert shown == f"{text}\nWritten: evidence/evidence.json, evidence/evidence.txt\n"
    assert "  Supported.\n" in text
    assert sorted(p.name for p in Path("evidence").iterdir()) == ["evidence.json", "evidence.txt"]
    evidence(*FOLDERS)
    assert sorted(p.name for p in Path("evidence").iterdir()) == ["evidence.json", "evidence.txt"]
    capsys.readouterr()
    evidence(*FOLDERS, "--seed=3")
    assert Path("evidence/evidence-1.txt").read_text() == text
    shown = capsys.readouterr().out
    assert shown.startswith("The evidence that was there is kept: evidence/evidence-1.json, evidence/evidence-1.txt\n")


def test_an_innocent_model_is_not_accused():
    triples(Path("suspects"), 1, innocent)
    triples(Path("reference"), 2, innocent)
    found = evidence(*FOLDERS, "--level=0.05", "--seed=5", "--output_dir=evidence")
    assert found.conclusion == "not supported"
    assert (found.level, found.seed) == (0.05, 5)


def test_suspects_that_are_only_brighter_allow_no_conclusion():
    triples(Path("suspects"), 1, lambda target: 0.2 * (1 - float(target.mean())), brighter=0.3)
    triples(Path("reference"), 2, lambda target: 0.2 * (1 - float(target.mean())))
    found = evidence(*FOLDERS)
    assert found.whole.p_value < 1e-3, "without the blind check this would convict"
    assert found.conclusion == "cannot conclude"
    assert "distinguishable without the model" in found.reason


def test_one_suspect_gets_a_p_value_and_no_conclusion():
    triples(Path("suspects"), 1, lambda _: 0.0, count=1)
    triples(Path("reference"), 2, innocent)
    found = evidence(*FOLDERS)
    assert found.suspects[0].p_value == pytest.approx(1 / 25)
    assert found.conclusion == "cannot conclude"
    assert "With 1 suspect(s) and 24 references even the strongest outcome" in found.reason


def test_grey_pictures_of_odd_and_different_sizes():
    for root, seed in (("suspects", 1), ("reference", 2)):
        rng = np.random.default_rng(seed)
        for name in ("inputs", "targets", "outputs"):
            sizes = [(21 + i % 3, 33 + i % 3) for i in range(5)]
            save(Path(root) / name, [rng.integers(0, 255, size, dtype=np.uint8) for size in sizes])
    found = evidence(*FOLDERS)
    assert (found.whole.suspects, found.whole.references) == (5, 5)
    assert found.reason.startswith("The reference has 5 images")


def test_folders_may_have_other_names_and_samples_be_limited():
    for root, seed in (("suspects", 1), ("reference", 2)):
        triples(Path(root), seed, innocent, count=6)
        for old, new in (("inputs", "A"), ("targets", "B"), ("outputs", "made")):
            (Path(root) / old).rename(Path(root) / new)
    found = evidence(*FOLDERS, "--inputs_dir=A", "--targets_dir=B", "--outputs_dir=made", "--max_samples", "4")
    assert (found.whole.suspects, found.whole.references) == (4, 4)


@pytest.mark.parametrize("kind", ["probabilities", "labels"])
def test_a_segmenter_that_memorised(kind):
    for root, seed in (("suspects", 1), ("reference", 2)):
        rng = np.random.default_rng(seed)
        masks = [np.kron(rng.integers(0, 3, (4, 4)), np.ones((6, 6))).astype(np.uint8) for _ in range(24)]
        save(Path(root) / "inputs", pictures(24, seed))
        save(Path(root) / "targets", masks)
        wrong = [rng.random(m.shape) < (0.1 if root == "suspects" else 0.3) * rng.uniform(0.7, 1.3) for m in masks]
        guess = [np.where(w, (m + 1) % 3, m).astype(np.uint8) for m, w in zip(masks, wrong, strict=True)]
        if kind == "labels":
            save(Path(root) / "outputs", guess)
        else:
            p = [np.where(np.arange(3)[:, None, None] == g, 0.8, 0.1).astype(np.float16) for g in guess]
            save(Path(root) / "outputs", p, suffix=".npy")
    common = ["--task=segmentation", "--suspects=suspects", "--reference=reference"]
    found = evidence(*common, *(["--num_classes=3"] if kind == "labels" else []))
    assert found.conclusion == "supported"
    assert found.meta["kind"] == kind
    assert any("carry less evidence than probabilities" in note for note in found.notes) == (kind == "labels")


def test_suspects_in_the_reference_are_refused(capsys):
    triples(Path("suspects"), 1, innocent, count=4)
    triples(Path("reference"), 2, innocent, count=4)
    for name in ("inputs", "targets", "outputs"):
        for old, new in (("s02", "z7"), ("s03", "z8")):
            source = Path("suspects") / name / f"{old}.png"
            (Path("reference") / name / f"{new}.png").write_bytes(source.read_bytes())
    message = failure(capsys, *FOLDERS)
    assert "The reference holds 2 suspects as well, with the same content (suspect = reference): " in message
    assert "'s02 = z7', 's03 = z8'. The reference must not have been trained on" in message


def test_the_same_picture_twice_counts_once():
    triples(Path("suspects"), 1, innocent, count=4)
    triples(Path("reference"), 2, innocent, count=4)
    for name in ("inputs", "targets", "outputs"):
        source = Path("suspects") / name / "s01.png"
        (Path("suspects") / name / "copy.png").write_bytes(source.read_bytes())
    found = evidence(*FOLDERS)
    assert found.whole.suspects == 4
    assert found.excluded == [{"id": "s01", "side": "suspect", "reason": "a copy of 'copy', which counts"}]
    assert "s01 (suspect): a copy of 'copy'" in found.to_text()


def test_outputs_that_were_stored_in_another_way_are_refused(capsys):
    triples(Path("suspects"), 1, innocent, count=4)
    triples(Path("reference"), 2, innocent, count=4)
    for path in Path("suspects/outputs").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    message = failure(capsys, *FOLDERS)
    assert (
        "The outputs of the suspects are stored as lossy images (JPEG or WebP), those of the reference as " in message
    )


def test_grey_outputs_beside_coloured_ones_are_refused(capsys):
    triples(Path("suspects"), 1, innocent, count=4)
    triples(Path("reference"), 2, innocent, count=4)
    for path in Path("suspects/outputs").iterdir():
        Image.open(path).convert("L").save(path)
    message = failure(capsys, *FOLDERS)
    assert "suspects are stored as lossless grey images, those of the reference as lossless images." in message


def test_an_output_that_was_resized_is_named(capsys):
    triples(Path("suspects"), 1, innocent, count=4)
    triples(Path("reference"), 2, innocent, count=4)
    odd = next(Path("suspects/outputs").iterdir())
    picture = Image.open(odd)
    picture.resize((picture.width // 2, picture.height // 2)).save(odd)
    message = failure(capsys, *FOLDERS)
    assert f"1 of 8 outputs have another size than the {picture.width}x{picture.height} of the rest" in message
    assert odd.name in message


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "Name two folders, --suspects DIR and --reference DIR, each with the folders inputs, targets and outputs"),
        (["--suspects=a", "--task=translation"], "To ask a model instead, add --ckpt_path FILE"),
        (["--suspects=a", "--reference=b"], "Say what the model does: --task translation, segmentation or multilabel"),
        ([*FOLDERS, "--primary=best"], "Unknown score primary='best'; choose one of reconstruction, membership"),
        ([*FOLDERS, "--primary=trained"], "Unknown score primary='trained'"),
        ([*FOLDERS, "--primary=combined"], "'combined' asks the model about flipped or shifted copies"),
        ([*FOLDERS], "no folder suspects: expected the data set there"),
    ],
)
def test_what_is_missing_is_said(capsys, args, text):
    for folder in ("suspects", "reference"):
        if args != [*FOLDERS]:
            Path(folder).mkdir()
    if args == [*FOLDERS]:
        message = failure(capsys, *args)
        assert "'suspects'" in message
    else:
        assert text in failure(capsys, *args)


def test_files_without_partners_are_named(capsys):
    triples(Path("suspects"), 1, innocent, count=3)
    triples(Path("reference"), 2, innocent, count=3)
    Path("reference/outputs/s01.png").unlink()
    assert "Files in reference/inputs without an output in reference/outputs: 1." in failure(capsys, *FOLDERS)


def test_a_mistyped_option_is_named(capsys):
    message = failure(capsys, "--suspcts=a", status=2)
    assert "unknown option '--suspcts' (did you mean '--suspects'?)" in message


def test_the_help_tells_both_ways(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evidence", "--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "with the model: --ckpt_path FILE",
        "-c CONFIG",
        "with outputs alone: --task",
        "Folder of the images in question.",
    ):
        assert part in shown


@pytest.mark.parametrize(
    "args", [["evidence", "--help"], ["audit", "--outputs=a", "--help"], ["evidence", "--suspects=x"]]
)
def test_help_and_mistakes_import_nothing_heavy(args):
    """In a process of its own: this one has torch already."""
    code = f"""
import sys
from mia_lightning.cli.main import main
try:
    main({args})
except SystemExit:
    print(sorted({{"torch", "numpy", "lightning", "sklearn", "scipy", "torchmetrics"}} & sys.modules.keys()))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


def test_options_are_told_apart():
    own, other = split_options(["--seed", "-1", "-c", "a.yaml", "--ckpt_path=b", "--data.root", "d", "--fdr=.2"])
    assert own == ["--seed", "-1", "--fdr=.2"]
    assert other == ["-c", "a.yaml", "--ckpt_path=b", "--data.root", "d"]


# ---- with the model


@pytest.fixture
def run(tmp_path, monkeypatch) -> list[str]:
    """Pairs of which the first 24 are known by heart, the checkpoint, and the arguments that name both."""
    (tmp_path / "byheart.py").write_text(BY_HEART)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "byheart", raising=False)
    inputs = pictures(48, 3)
    targets = partners(inputs, 3)
    for folder, images in (("A", inputs), ("B", targets)):
        save(tmp_path / "data" / folder, images)
    lines = [f"s{i:02d},{'train' if i < 24 else 'val'}" for i in range(48)]
    (tmp_path / "data" / "splits.csv").write_text("\n".join(["id,split", *lines]) + "\n")
    from byheart import ByHeart

    model = ByHeart(24, SIZE)
    for i in range(24):
        model.inputs[i], model.targets[i] = (
            torch.from_numpy(np.asarray(Image.open(tmp_path / "data" / folder / f"s{i:02d}.png")) / np.float32(255))
            .permute(2, 0, 1)
            .float()
            for folder in "AB"
        )
    torch.save(
        {"state_dict": model.state_dict(), "epoch": 7, "global_step": 70, "callbacks": {}, "hyper_parameters": {}},
        tmp_path / "model.ckpt",
    )
    Path("run.yaml").write_text(
        f"""
model: {{class_path: byheart.ByHeart, init_args: {{number: 24, size: {SIZE}}}}}
data:
  class_path: mia_lightning.PairedImageDataModule
  init_args: {{root: data, image_size: {SIZE}, augment: none}}
trainer: {{accelerator: cpu, enable_progress_bar: false}}
"""
    )
    return ["-c", "run.yaml", "--ckpt_path=model.ckpt"]


def ids(path: str, numbers: range) -> str:
    Path(path).write_text("# chosen before the test\n" + "\n".join(f"s{i:02d}" for i in numbers) + "\n")
    return path


def test_a_model_is_asked_about_ids_of_its_own_folder(run, capsys):
    lists = ["--suspect_ids", ids("suspects.txt", range(24)), "--reference_ids", ids("reference.txt", range(24, 48))]
    found = evidence(*run, *lists)
    assert found.conclusion == "supported"
    assert found.primary == "combined"
    assert found.whole.p_value < 1e-3
    assert sorted(s.id for s in found.suspects) == [f"s{i:02d}" for i in range(24)]
    assert (found.meta["source"], found.meta["epoch"], found.meta["checkpoint"]) == ("model", 7, "model.ckpt")
    assert found.meta["suspect_ids"] == "suspects.txt"
    assert "mean over transformed copies (flips, small shifts) of the log-ratio" in " ".join(
        capsys.readouterr().out.split()
    )
    assert not Path("lightning_logs").exists()


def test_python_does_what_the_command_does(run):
    from mia_lightning import PairedImageDataModule, weigh_evidence
    from mia_lightning.evidence.from_checkpoint import sides_by_id, weigh_checkpoint

    suspects, reference = ids("suspects.txt", range(20)), ids("reference.txt", range(24, 48))
    by_command = evidence(*run, "--suspect_ids", suspects, "--reference_ids", reference, "--seed=2")
    model = sys.modules["byheart"].ByHeart(24, SIZE)
    model.load_state_dict(torch.load("model.ckpt", weights_only=True)["state_dict"])
    data = PairedImageDataModule("data", image_size=SIZE, augment="none")
    found = weigh_evidence(model, *sides_by_id(data, suspects, reference), seed=2)
    assert (found.suspects, found.reference, found.whole) == (
        by_command.suspects,
        by_command.reference,
        by_command.whole,
    )
    assert (found.conclusion, found.reason) == (by_command.conclusion, by_command.reason)
    model = sys.modules["byheart"].ByHeart(24, SIZE)
    again = weigh_checkpoint(model, data, "model.ckpt", suspect_ids=suspects, reference_ids=reference, seed=2)
    assert (again.suspects, again.meta["checkpoint"], again.meta["epoch"]) == (found.suspects, "model.ckpt", 7)
    with pytest.raises(ValueError, match="Name two folders"):
        weigh_checkpoint(model, data, "model.ckpt", suspects="a", reference_ids=reference)


def test_a_model_is_asked_about_folders_as_about_ids(run):
    lists = ["--suspect_ids", ids("suspects.txt", range(24)), "--reference_ids", ids("reference.txt", range(24, 48))]
    by_id = evidence(*run, *lists, "--primary=membership")
    for name, numbers in (("suspects", range(24)), ("reference", range(24, 48))):
        for folder in "AB":
            (Path(name) / folder).mkdir(parents=True)
            for i in numbers:
                (Path("data") / folder / f"s{i:02d}.png").rename(Path(name) / folder / f"s{i:02d}.png")
    (Path("data") / "splits.csv").unlink()
    by_folder = evidence(*run, "--suspects=suspects", "--reference=reference", "--primary=membership")
    assert by_folder.suspects == by_id.suspects
    assert by_folder.whole == by_id.whole


def test_an_exported_model_is_asked_without_a_checkpoint(run):
    lists = ["--suspect_ids", ids("suspects.txt", range(24)), "--reference_ids", ids("reference.txt", range(24, 48))]
    expected = evidence(*run, *lists, "--primary=membership")
    model = sys.modules["byheart"].ByHeart(24, SIZE)
    model.load_state_dict(torch.load("model.ckpt", weights_only=True)["state_dict"])
    model.to_torchscript(method="trace", example_inputs=torch.zeros(1, 3, SIZE, SIZE), check_trace=False).save(
        "model.ts"
    )
    config = Path("run.yaml").read_text().splitlines()
    config[1] = "model: {class_path: ExportedModel, init_args: {path: model.ts}}"
    Path("exported.yaml").write_text("\n".join(config))
    found = evidence("-c", "exported.yaml", *lists, "--primary=membership")
    assert found.meta["checkpoint"] == "model.ts"
    assert found.whole == expected.whole


def test_a_model_that_knows_nothing_is_not_accused(run):
    checkpoint = torch.load("model.ckpt", weights_only=True)
    checkpoint["state_dict"]["inputs"].fill_(-1.0)
    torch.save(checkpoint, "model.ckpt")
    lists = ["--suspect_ids", ids("suspects.txt", range(24)), "--reference_ids", ids("reference.txt", range(24, 48))]
    found = evidence(*run, *lists)
    assert found.conclusion == "not supported"
    assert found.whole.p_value > 0.05


def test_a_reference_that_was_trained_on_is_refused(run, capsys):
    lists = ["--suspect_ids", ids("suspects.txt", range(20)), "--reference_ids", ids("reference.txt", range(22, 48))]
    message = failure(capsys, *run, *lists)
    assert "2 of the reference were trained on, according to the configuration: 's22', 's23'" in message


def test_the_same_ids_on_both_sides_are_refused(run, capsys):
    lists = ["--suspect_ids", ids("suspects.txt", range(28)), "--reference_ids", ids("reference.txt", range(24, 48))]
    assert "The reference holds 4 suspects as well" in failure(capsys, *run, *lists)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--suspects=a"], "Name two folders, --suspects DIR and --reference DIR, or two files of ids"),
        (["--suspects=a", "--reference_ids=b"], "or two files of ids out of the configuration's own folder"),
        (["--suspects=a", "--reference=b", "--suspect_ids=c"], "Name two folders"),
        (["--suspects=a", "--reference=b", "--task=translation"], "--task are for folders of outputs"),
        (["--suspect_ids=none.txt", "--reference_ids=none.txt"], "There is no file none.txt: expected one with an id"),
        (["--suspect_ids=empty.txt", "--reference_ids=empty.txt"], "empty.txt names nothing: expected an id a line"),
        (["--suspect_ids=odd.txt", "--reference_ids=odd.txt"], "odd.txt names 1 id that the data do not have: 'x'"),
        (["--ckpt_path=null", "--suspects=a", "--reference=b"], "name the trained weights with --ckpt_path"),
        (["--ckpt_path=other.ckpt", "--suspects=a", "--reference=b"], "other.ckpt does not exist"),
        (["--suspects=data", "--reference=gone"], "no folder 'gone'"),
        (["--suspects=data", "--reference=b", "--level=2"], "Expected a level in [0.001, 0.1]"),
        (
            ["--suspects=data", "--reference=b", "--audit.scores=[membership]", "--audit.primary", "membership"],
            "--audit.primary, --audit.scores would be overridden: evidence has options of its own",
        ),
        (["--suspects=data", "--reference=b", "--audit.output_dir=c"], "--audit.output_dir would be overridden"),
    ],
)
def test_what_does_not_fit_a_model_is_said(run, capsys, args, text):
    for folder in ("a", "b"):
        Path(folder).mkdir()
    Path("empty.txt").write_text("# nothing\n\n")
    Path("odd.txt").write_text("s01\nx\n")
    assert text in failure(capsys, *run, *args)


def test_weights_that_do_not_say_what_model_they_are_of(capsys):
    torch.save({"weight": torch.zeros(1)}, "last.ckpt")
    message = failure(capsys, "--suspect_ids=a", "--reference_ids=b", "--ckpt_path=last.ckpt", status=2)
    assert "name the model with --model CLASS, or a configuration that does with -c FILE" in message


def test_a_checkpoint_of_ours_needs_nothing_else(run, capsys):
    """Its class, its arguments and how its data are read are in it; the training's own folder need not be there."""
    model = Pix2Pix(image_size=SIZE, ngf=4, ndf=4)
    data = PairedImageDataModule("gone", image_size=SIZE, augment="none", batch_size=6)
    keys = {"hyper_parameters": dict(model.hparams), "datamodule_hyper_parameters": dict(data.hparams)}
    torch.save({"state_dict": model.state_dict(), "pytorch-lightning_version": "2.6.0", **keys}, "ours.ckpt")
    for folder, names in (("suspects", range(6)), ("reference", range(24, 48))):
        for side in "AB":
            Path(folder, side).mkdir(parents=True)
            for i in names:
                Path(f"data/{side}/s{i:02d}.png").rename(f"{folder}/{side}/s{i:02d}.png")
    found = evidence("--ckpt_path=ours.ckpt", "--suspects=suspects", "--reference=reference", *CPU)
    assert (len(found.suspects), len(found.reference), found.meta["task"]) == (6, 24, "translation")


def test_data_without_a_folder_have_ids_only(run, capsys):
    for folder in ("a", "b"):
        Path(folder).mkdir()
    demo = ["--data", "mia_lightning.DemoDataModule", "--data.num_pairs=4", "--suspects=a", "--reference=b"]
    assert "DemoDataModule does not read a folder: choose with --suspect_ids" in failure(capsys, *run, *demo)


def test_a_checkpoint_selected_on_validation_data_is_remarked(run):
    checkpoint = torch.load("model.ckpt", weights_only=True)
    checkpoint["callbacks"] = {"ModelCheckpoint{'monitor': 'val/loss', 'mode': 'min'}": {}}
    torch.save(checkpoint, "model.ckpt")
    lists = ["--suspect_ids", ids("suspects.txt", range(4)), "--reference_ids", ids("reference.txt", range(24, 28))]
    found = evidence(*run, *lists)
    assert any("The checkpoint was selected by val/loss" in note for note in found.notes)
    assert json.loads(Path("evidence/evidence.json").read_text())["notes"] == found.notes


def test_a_segmenter_is_asked_as_its_configuration_reads_masks():
    from mia_lightning.models.unet_segmenter import UNetSegmenter

    for root, seed in (("suspects", 1), ("reference", 2)):
        rng = np.random.default_rng(seed)
        save(Path(root) / "images", pictures(4, seed))
        masks = [np.kron(rng.integers(0, 4, (4, 4)), np.ones((6, 6))).astype(np.uint8) for _ in range(4)]
        save(Path(root) / "masks", [np.where(m == 3, 11, m).astype(np.uint8) for m in masks])
    model = UNetSegmenter(3, base_channels=4, depth=2, ignore_index=11)
    torch.save({"state_dict": model.state_dict(), "callbacks": {}, "hyper_parameters": {}}, "unet.ckpt")
    Path("unet.yaml").write_text(
        f"""
model:
  class_path: mia_lightning.UNetSegmenter
  init_args: {{num_classes: 3, base_channels: 4, depth: 2, ignore_index: 11}}
data:
  class_path: mia_lightning.SegmentationDataModule
  init_args: {{root: nowhere, num_classes: 3, ignore_index: 11, image_size: {SIZE}, group_column: patient}}
trainer: {{accelerator: cpu, enable_progress_bar: false}}
"""
    )
    found = evidence("-c", "unet.yaml", "--ckpt_path=unet.ckpt", "--suspects=suspects", "--reference=reference")
    assert (found.whole.suspects, found.whole.references) == (4, 4)
    assert (found.meta["task"], found.meta["settings"]["ignore_index"]) == ("segmentation", 11)
    assert found.meta["neighbours"]["dropped"] == ["hflip"], "the module's own augmentation is no neighbour"
