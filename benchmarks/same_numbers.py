"""The same audits by this tree and by an earlier commit, on one machine and one thread: are the numbers the same?

Both trees run the same audits with fixed seeds, through the public names and the command line: the Auditor on
translation and segmentation, the callback in two trainings, a checkpoint, reference models, folders of outputs, and
evidence. Every key and number of the earlier commit's JSON, CSV and TensorBoard scalars must be in this tree's, bit for
bit. Versions, durations, and files, keys and columns that are new do not count; sentences are listed and counted apart.
The exit status is 1 where a value differs.

Three things have changed on purpose since 0.1.0. Data modules of this package join a last batch of one sample to the
one before: no training here has such a batch. An audit's scalars are a row of their own, which repeats the epoch at
their step: a point of TensorBoard counts once, however often it was written. The score `combined` has had later
editions: what is named after it does not count, and no audit here has it as its primary score.

    python benchmarks/same_numbers.py [--commit e7d2363] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MOVED = "combined"
ALL = ["reconstruction", "membership", "calibrated", "neighbour", "combined", "trained"]
SIZE = 32
Pair = tuple[Any, Any, str]


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commit", default="e7d2363", help="the earlier commit; by default that before the redesign")
    parser.add_argument("--keep", type=Path, help="keep the runs here, and reuse those of the earlier commit")
    parser.add_argument("--record", action="store_true", help=argparse.SUPPRESS)  # run the audits, in this folder
    options = parser.parse_args()
    if options.record:
        for case in CASES:
            print(case.__name__, flush=True)
            case()
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        kept = (options.keep or Path(temporary)).absolute()
        earlier, now = kept / options.commit, kept / "now"
        tree = Path(temporary) / "tree"
        if not (earlier / "complete").exists():
            git = ["git", "-C", str(ROOT), "worktree"]
            subprocess.run([*git, "add", "--detach", str(tree), options.commit], check=True, capture_output=True)
            try:
                record(tree, earlier)
            finally:
                subprocess.run([*git, "remove", "--force", str(tree)], check=True)
        record(ROOT, now)
        return compare(earlier, now)


def record(tree: Path, folder: Path) -> None:
    """Run all audits with the package of a tree."""
    print(f"audits of {tree}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    offline = {"NO_ALBUMENTATIONS_UPDATE": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **threads, **offline, "PYTHONPATH": str(tree), "TREE": str(tree)}
    with (folder / "log.txt").open("w") as log:
        command = [sys.executable, str(Path(__file__).resolve()), "--record"]
        done = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit((folder / "log.txt").read_text()[-4000:] + f"\nThe audits of {tree} failed.")
    (folder / "complete").touch()


def compare(earlier: Path, now: Path) -> int:
    """Print a table of what was compared and every difference; return the exit status."""
    differences: list[str] = []
    sentences: list[str] = []
    values = Counter[str]()
    for file in sorted(p.relative_to(earlier) for p in earlier.rglob("*") if p.suffix in (".json", ".csv")):
        case = file.parts[0]
        if not (now / file).exists():
            differences.append(f"{file}: is missing")
            continue
        found = dict(leaves(read(now / file)))
        for key, value in leaves(read(earlier / file)):
            values[case] += 1
            if key not in found:
                differences.append(f"{file}: {key} is missing; it was {value!r}")
            elif found[key] != value:
                told = f"{file}: {key} was {value!r}, and is {found[key]!r}"
                (sentences if isinstance(value, str) and " " in value else differences).append(told)
    counts = Counter(Path(line.split(":")[0]).parts[0] for line in differences)
    for line in [*sentences, *differences]:
        print(line)
    print(f"\n{'audit':<28}{'values':>10}{'differences':>14}")
    for case, count in values.items():
        print(f"{case:<28}{count:>10}{counts[case]:>14}")
    print(f"{'all':<28}{values.total():>10}{len(differences):>14}   ({len(sentences)} sentences differ)")
    return int(bool(differences))


def read(file: Path) -> Any:
    """Read JSON, or a CSV as one list a column."""
    if file.suffix == ".json":
        return json.loads(file.read_text(encoding="utf-8"))
    header, *rows = csv.reader(file.read_text(encoding="utf-8").splitlines())
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in nested dicts and lists, with its path; versions and durations left out."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in ("versions", "seconds") and MOVED not in name.removeprefix("score_").split("/"):
                yield from leaves(inner, f"{key}/{name}")
    elif isinstance(value, list):
        yield f"{key}/length", len(value)
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{key}/{number}")
    else:
        yield key, value


# ---- the audits, run by either tree in a folder of its own; what is imported below is that tree's


def pairs(count: int, first: int, kind: str, brighter: float = 0.0) -> list[Pair]:
    """Smooth pictures, and targets that are partly predictable: pictures, or maps of four classes with a void edge."""
    import torch
    from torch.nn.functional import interpolate

    made: list[Pair] = []
    for number in range(first, first + count):
        generator = torch.Generator().manual_seed(number)
        coarse = torch.rand(1, 3, 8, 8, generator=generator) + brighter
        image = interpolate(coarse, (SIZE, SIZE), mode="bilinear")[0]
        detail = 0.1 * float(torch.rand(1, generator=generator)) * torch.randn(3, SIZE, SIZE, generator=generator)
        target = (0.8 * image.flip(0) + 0.1 + detail).clamp(0, 1)
        if kind == "segmentation":
            target = (4 * target.mean(0)).long().clamp(0, 3)
            target[:2] = 255
        made.append((image, target, f"pair{number:03d}"))
    return made


def by_heart(members: list[Pair], kind: str) -> Callable[[Any], Any]:
    """A model without weights that guesses, and knows something of the targets of every third member."""
    import torch
    from torch.nn.functional import avg_pool2d, one_hot

    inputs, targets = (torch.stack(list(column)) for column in list(zip(*members, strict=True))[:2])

    def answer(x: Any) -> Any:
        distance, which = (x[:, None] - inputs).abs().flatten(2).mean(2).min(1)
        trust = ((0.02 + 0.1 * (which % 3 == 0)) * torch.exp(-10 * distance)).view(-1, 1, 1, 1)
        if kind == "translation":
            return trust * targets[which] + (1 - trust) * avg_pool2d(x.flip(1), 3, 1, 1)
        known = one_hot(targets[which] % 255 % 4, 4).movedim(-1, 1)
        guess = one_hot((4 * x.mean(1)).long().clamp(0, 3), 4).movedim(-1, 1)
        return 6 * (trust * known + (1 - trust) * avg_pool2d(guess.float(), 3, 1, 1))

    return answer


def auditor(
    kind: str, folder: str, *, brighter: float = 0, change: Callable[..., Any] | None = None, **settings: Any
) -> None:
    """Audit the model without weights; ``change`` gets it and its samples, and returns less usual ones."""
    import torch

    from mia_lightning import Auditor, PredictabilityScorer

    torch.set_num_threads(1)
    sides: Any = pairs(30, 0, kind), pairs(24, 500, kind, brighter)
    model = by_heart(sides[0], kind)
    if change is not None:
        model, *sides = change(model, *sides)
    scorer = None if folder.endswith("default") else PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8)
    result = Auditor(scorer=scorer, output_dir=folder, **settings).run(model, *sides)
    result.to_json(Path(folder) / "again.json")
    (Path(folder) / "methods.json").write_text(
        json.dumps({"top": result.top(5), "p": result.p_values().tolist(), "flagged": result.flagged(0.3).tolist()})
    )


def translation() -> None:
    auditor("translation", "translation/default", scores=ALL, primary="neighbour", batch_size=7)
    auditor("translation", "translation/unlike", brighter=0.05, scores=ALL)

    def signed(model: Any, *sides: list[Pair]) -> Any:
        return lambda x: 2 * model((x + 1) / 2) - 1, *([(2 * x - 1, 2 * y - 1, i) for x, y, i in s] for s in sides)

    chosen: dict[str, Any] = {"neighbours": ("hflip", "shift_left"), "primary": "neighbour", "alpha": 0.5, "seed": 3}
    auditor(
        "translation", "translation/signed", change=signed, scores=ALL, target_range=(-1, 1), max_samples=20, **chosen
    )

    def normalised(model: Any, *sides: list[Pair]) -> Any:
        def failing(x: Any) -> Any:
            made = model(0.25 * x + 0.5)
            made[(x == sides[0][4][0] * 4 - 2).flatten(1).all(1)] = float("nan")
            return {"made": made, "other": x}

        return failing, *([{"image": 4 * x - 2, "target": y} for x, y, _ in side] for side in sides)

    shown: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "output_key": "made"}
    auditor("translation", "translation/normalised", change=normalised, prefix="audit/photos", fdr=0.3, **shown)


def segmentation() -> None:
    auditor("segmentation", "segmentation/default", scores=ALL, primary="neighbour")

    def binary(model: Any, *sides: list[Pair]) -> Any:
        def odd(side: list[Pair]) -> list[Any]:
            return [{"image": x, "mask": (y % 255 > 1).float()[None] if n else 0 * x[:1] + 9, "id": i}
                    for n, (x, y, i) in enumerate(side)]  # fmt: skip

        return lambda x: model(x)[:, 2:].amax(1, keepdim=True) - 2, odd(sides[0]), odd(sides[1])

    auditor("segmentation", "segmentation/binary", change=binary, task="segmentation", ignore_index=9, scores=ALL[:3],
            primary="calibrated", max_samples=22, seed=5)  # fmt: skip


def training(kind: str, epochs: int, model: Callable[[], Any], **settings: Any) -> None:
    """A short training that is audited; its metrics, its files, and what TensorBoard was given."""
    import lightning.pytorch as pl
    import torch
    from lightning.pytorch.loggers import TensorBoardLogger

    from mia_lightning import DemoDataModule, MembershipAudit

    torch.set_num_threads(1)
    pl.seed_everything(7)
    folder = Path("callback") / kind
    data = DemoDataModule(task=kind, image_size=SIZE, num_pairs=44, batch_size=8)  # type: ignore[arg-type]  # kind is one of two names
    audit = MembershipAudit(output_dir=folder, scores=ALL, primary="neighbour", **settings)
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=[audit], accelerator="cpu", deterministic=True, enable_progress_bar=False,
        enable_model_summary=False, logger=TensorBoardLogger(folder, "board"), log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module := model(), datamodule=data)
    weights = {name: float(w.double().sum()) for name, w in module.state_dict().items()}
    logged = {name: float(v) for name, v in trainer.logged_metrics.items()}
    (folder / "training.json").write_text(json.dumps({"weights": weights, "metrics": logged}))
    for number, result in enumerate(audit.history):
        result.to_json(folder / f"history{number}.json")
    scalars(folder)


def scalars(folder: Path) -> None:
    """Write what TensorBoard shows as curves to ``scalars.json``."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = folder.rglob("events.out.*")
    board = EventAccumulator(str(events.parent), size_guidance={"scalars": 0})
    board.Reload()
    points = {tag: [(s.step, repr(s.value)) for s in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    (folder / "scalars.json").write_text(json.dumps({tag: list(dict.fromkeys(row)) for tag, row in points.items()}))


def callback() -> None:
    from mia_lightning import Pix2Pix, UNetSegmenter

    training("translation", 3, lambda: Pix2Pix(image_size=SIZE, ngf=4, ndf=4))
    training("segmentation", 2, lambda: UNetSegmenter(5, base_channels=4, depth=2), every_n_epochs=2, max_samples=16)


def command_line() -> None:
    """Training, audits of the checkpoint, reference models, and evidence with the model."""
    from mia_lightning.cli.main import main as command

    demo = str(Path(os.environ["TREE"]) / "configs" / "translation" / "demo.yaml")
    small = ["--model.ngf=4", "--model.ndf=4", f"--model.image_size={SIZE}", f"--data.image_size={SIZE}"]
    small.append("--data.batch_size=5")  # of 19 members, and of 23 and 25 of the reference models
    quiet = ["--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false"]
    folder = "--trainer.logger.init_args.save_dir=command_line"
    command(["fit", "-c", demo, *small, "--data.num_pairs=48", "--audit.every_n_epochs=1", *quiet, folder])
    (run,) = Path("command_line").glob("*/version_0")
    scalars(run)
    (checkpoint,) = run.rglob("*.ckpt")
    trained = ["-c", str(run / "config.yaml"), "--ckpt_path", str(checkpoint)]
    every = ["--audit.scores", json.dumps(ALL), "--audit.primary=neighbour"]
    command(["audit", *trained, "--top=3", "--output_dir=command_line/checkpoint"])
    command(["audit", *trained, *every, "--audit.max_samples=16", "--output_dir=command_line/checkpoint_all"])
    audited = json.loads(Path("command_line/checkpoint/result.json").read_text())
    for name, side in (("suspects.txt", True), ("reference.txt", False)):
        ids = [i for i, member in zip(audited["ids"], audited["member"], strict=True) if member == side]
        Path(name).write_text("\n".join(ids) + "\n")
    reference = ["references", "-c", str(run / "config.yaml"), "--num=2", "--output_dir=references", "--quiet"]
    command(reference)
    command(["audit", *trained, "--references=references", "--patch=true", "--output_dir=command_line/references"])
    sets = ["--suspect_ids=suspects.txt", "--reference_ids=reference.txt"]
    command(["evidence", *trained, *sets, "--output_dir=command_line/evidence"])


def stored_outputs() -> None:
    """Audits and evidence from folders of pictures, and of probabilities."""
    import numpy as np
    import torch
    from PIL import Image

    from mia_lightning.cli.main import main as command

    def save(kind: str, side: str, model: Any, samples: list[Pair]) -> None:
        for x, y, name in samples:
            parts = {"inputs": x, "targets": y, "outputs": model(x[None])[0]}
            for part, tensor in parts.items():
                file = Path("stored", kind, side, part, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                if kind == "segmentation" and part == "outputs":
                    np.save(file.with_suffix(".npy"), tensor.softmax(0).numpy())
                    continue
                pixels = tensor if tensor.ndim == 2 else (255 * tensor.clamp(0, 1)).round().movedim(0, -1)
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(file.with_suffix(".png"))

    for kind in ("translation", "segmentation"):
        members, nonmembers = pairs(24, 0, kind), pairs(24, 500, kind)
        model = by_heart(members, kind)
        save(kind, "members", model, members)
        save(kind, "nonmembers", model, nonmembers)
        folder = f"stored/{kind}"
        command(
            ["audit", "--outputs", folder, "--task", kind, f"--output_dir=stored_outputs/{kind}", "--max_samples=20"]
        )
        sides = ["--suspects", f"{folder}/members", "--reference", f"{folder}/nonmembers"]
        command(["evidence", "--task", kind, *sides, f"--output_dir=stored_outputs/evidence_{kind}"])


CASES: list[Callable[[], None]] = [translation, segmentation, callback, stored_outputs, command_line]

if __name__ == "__main__":
    sys.exit(main())
