"""One trained model, audited by every route there is: the numbers must agree.

Take a run of ``mia-lightning fit``: its folder holds config.yaml, checkpoints and the callback's own audits. The model
is audited again from its checkpoint, as a class that knows nothing of the audit, exported three ways, and as a folder
of its 8-bit outputs.

    mia-lightning fit -c configs/translation/facades.yaml --data.root path/to/facades --trainer.max_epochs 8
    python benchmarks/routes.py runs/facades/version_0
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from mia_lightning import AuditResult, PairedImageDataModule, Pix2Pix
from mia_lightning.cli.main import main as mia_lightning
from mia_lightning.result.history import read_audits

FOREIGN = """
import lightning.pytorch as pl

from mia_lightning.networks.pix2pix import {network}


class Task(pl.LightningModule):
    def __init__(self, **settings):
        super().__init__()
        self.save_hyperparameters()
        self.net = {network}(**settings)

    def forward(self, x):
        return {{"picture": self.net(2 * x - 1) / 2 + 0.5, "input": x}}
"""


class Translator(nn.Module):
    """What is exported: the generator with images in [0, 1] on both ends."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor) -> Tensor:
        """Translate images in [0, 1]."""
        made: Tensor = self.generator(2 * image - 1) / 2 + 0.5
        return made


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a pix2pix run")
    parser.add_argument("--out", type=Path, default=Path("routes"), help="folder for exports and results")
    options = parser.parse_args()
    checkpoint = max(options.run.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    options.out.mkdir(parents=True, exist_ok=True)
    found = {"callback, in training": read_audits(options.run / "audit")[-1]}
    for name, arguments in routes(options.run, checkpoint, options.out).items():
        folder = options.out / name.replace(",", "").replace(" ", "_")
        print(f"\n$ mia-lightning audit {' '.join(arguments)}", flush=True)
        mia_lightning(["audit", *arguments, "--output_dir", str(folder)])
        found[name] = AuditResult.from_json(folder / "result.json")
    print(table(found))


def routes(run: Path, checkpoint: Path, out: Path) -> dict[str, list[str]]:
    """Export the model, and say what the command line is given for each route."""
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    state = torch.load(checkpoint, weights_only=True)
    known = settings["model"]["init_args"]
    model = Pix2Pix(**known)
    model.load_state_dict(state["state_dict"])
    translator = Translator(model.generator).eval()
    data = PairedImageDataModule(**settings["data"]["init_args"])
    arguments = [f"--data.{key}={value}" for key, value in settings["data"]["init_args"].items() if value is not None]
    shown = ["--data", "PairedImageDataModule", *arguments]
    exported = ["--model", "ExportedModel", "--model.path"]
    return {
        "checkpoint": ["-c", str(run / "config.yaml"), "--ckpt_path", str(checkpoint)],
        "another class": [*foreign(model.generator, known, out), *shown],
        "TorchScript": [*exported, str(script(translator, settings, out)), *shown],
        "torch.export": [*exported, str(program(translator, settings, out)), *shown],
        "ONNX": [*exported, str(onnx(translator, settings, out)), *shown],
        "outputs, 8 bits": ["--outputs", str(outputs(translator, data, out)), "--task", "translation"],
    }


def foreign(generator: nn.Module, settings: dict[str, Any], out: Path) -> list[str]:
    """A class of its own with a checkpoint of its own."""
    name = type(generator).__name__
    (out / "their_project.py").write_text(FOREIGN.format(network=name), encoding="utf-8")
    sys.path.insert(0, str(out))
    kept = {k: settings[k] for k in ("in_channels", "out_channels", "image_size", "ngf", "norm", "dropout")}
    weights = {f"net.{key}": value for key, value in generator.state_dict().items()}
    file = out / "theirs.ckpt"
    torch.save({"state_dict": weights, "hyper_parameters": kept}, file)
    return ["--model", "their_project.Task", "--audit.output_key", "picture", "--ckpt_path", str(file)]


def example(settings: dict[str, Any]) -> Tensor:
    size = settings["model"]["init_args"]["image_size"]
    return torch.rand(2, settings["model"]["init_args"]["in_channels"], size, size)


def script(model: nn.Module, settings: dict[str, Any], out: Path) -> Path:
    file = out / "model.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that the trace takes as constants: sizes
        torch.jit.trace(model, example(settings)).save(str(file))  # type: ignore[no-untyped-call]  # has no types of its own
    return file


def program(model: nn.Module, settings: dict[str, Any], out: Path) -> Path:
    file = out / "model.pt2"
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.export.save(torch.export.export(model, (example(settings),), dynamic_shapes=({0: batch},)), file)
    return file


def onnx(model: nn.Module, settings: dict[str, Any], out: Path) -> Path:
    file = out / "model.onnx"
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(model, (example(settings),), file, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    return file


def outputs(model: nn.Module, data: PairedImageDataModule, out: Path) -> Path:
    """Store inputs, targets and outputs of both sides as PNG."""
    data.prepare_data()
    data.setup("validate")
    folder = out / "stored"
    for side, loader in zip(("members", "nonmembers"), data.audit_dataloaders(), strict=True):
        for batch in loader:
            with torch.no_grad():
                made = model(batch["input"])
            for kind, images in (("inputs", batch["input"]), ("targets", batch["target"]), ("outputs", made)):
                for name, image in zip(batch["id"], images, strict=True):
                    save(image, folder / side / kind / f"{name}.png")
    return folder


def save(image: Tensor, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file)


def table(found: dict[str, AuditResult]) -> str:
    first = next(iter(found.values()))
    lines = [
        "",
        "| route | membership AUC | its interval | largest difference of a membership error |",
        "|---|---|---|---|",
    ]
    for name, result in found.items():
        assert sorted(result.ids) == sorted(first.ids), f"{name} audited other samples"
        order, other = np.argsort(first.ids), np.argsort(result.ids)
        worst = np.abs(first.errors["membership"][order] - result.errors["membership"][other]).max()
        low, high = (result.metrics[f"audit/auc_{end}/membership"] for end in ("low", "high"))
        auc = result.metrics["audit/auc/membership"]
        lines.append(f"| {name} | {auc:.4f} | {low:.3f} to {high:.3f} | {worst:.1e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
