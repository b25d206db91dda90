"""Which files weights are read from, and whose they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule
from safetensors.torch import save_file
from torch import nn

from mia_lightning.checkpoints.trained_weights import TrainedWeights, load_weights, read_checkpoint, renamed


class Net(LightningModule):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))


class MadeLater(Net):
    def configure_model(self) -> None:
        if not hasattr(self, "late"):
            self.late = nn.Linear(2, 2)


class Renaming(Net):
    def on_load_checkpoint(self, checkpoint):
        checkpoint["state_dict"] = {k.replace("old.", "net."): v for k, v in checkpoint["state_dict"].items()}


class WithoutBackbone(Net):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.strict_loading = False


class MadeInSetup(Net):
    def setup(self, stage):
        self.late = nn.Linear(2, 2)


@pytest.fixture
def state():
    torch.manual_seed(1)
    net = Net()
    nn.init.normal_(net.net[1].running_mean)
    return net.state_dict()


def equal(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[k], state[k]) for k in state)


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_weights_alone(tmp_path, state, key, prefix):
    weights = {prefix + k: v for k, v in state.items()}
    torch.save(weights if key is None else {key: weights, "epoch": 3}, tmp_path / "w.pt")
    model = Net()
    trained = load_weights(model, tmp_path / "w.pt")
    assert equal(model, state)
    assert trained == TrainedWeights(str(tmp_path / "w.pt"), epoch=None if key is None else 3, step=None, monitors=())


@pytest.mark.parametrize(
    ("ready", "completed", "epoch"),
    [(3, 2, 2), (3, 3, 2), (0, 0, None)],
    ids=["within the third epoch", "after it", "before the first"],
)
def test_the_epoch_is_the_last_that_was_trained(tmp_path, state, ready, completed, epoch):
    progress = {"current": {"ready": ready, "completed": completed}}
    # Lightning stores the number of epochs completed.
    content = {"state_dict": state, "epoch": completed, "loops": {"fit_loop": {"epoch_progress": progress}}}
    torch.save(content, tmp_path / "w.ckpt")
    assert load_weights(Net(), tmp_path / "w.ckpt").epoch == epoch


def test_other_settings_are_hinted_at_where_a_file_remembers_none(tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"Build Net as it was trained: give its arguments with --model\.NAME VALUE\.$"
    ):
        load_weights(Net(3), tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_an_exported_model_is_no_checkpoint(tmp_path):
    torch.jit.trace(nn.Conv2d(3, 3, 1), torch.rand(1, 3, 4, 4)).save(str(tmp_path / "model.pt"))
    torch.save({"w": torch.zeros(1)}, tmp_path / "weights.pt")
    advice = r"model\.pt is a TorchScript file: .* Audit it with --model ExportedModel --model\.path .*model\.pt, and"
    with pytest.raises(ValueError, match=advice):
        read_checkpoint(tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match=r"Checkpoints there: \S*weights\.pt\.$"):
        read_checkpoint(tmp_path / "gone.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00(X", bytes(range(256)) * 8])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "w.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.ckpt cannot be read as a checkpoint: \S+"):
        read_checkpoint(tmp_path / "w.ckpt")


def test_safetensors_of_the_inner_network(tmp_path, state):
    save_file({k.removeprefix("net."): v for k, v in state.items()}, tmp_path / "w.safetensors")
    model = Net()
    load_weights(model, tmp_path / "w.safetensors")
    assert equal(model, state)


def test_a_compiled_part_and_a_wrapper_on_either_side(state):
    compiled = {k.replace("net.", "net._orig_mod."): v for k, v in state.items()}
    assert renamed(compiled, state).keys() == state.keys()
    assert renamed(state, compiled).keys() == compiled.keys()
    inner = {k.removeprefix("net."): v for k, v in state.items()}
    assert renamed(state, inner).keys() == inner.keys()
    assert all(renamed(state, inner)[k] is state[f"net.{k}"] for k in inner)


@pytest.mark.parametrize("change", [{"more": 1}, {"net.0.weight": None}])
def test_names_are_left_alone_where_more_than_a_wrapper_differs(state, change):
    other = {f"module.{k}": v for k, v in state.items() if k not in change} | {
        k: v for k, v in change.items() if v is not None
    }
    assert renamed(other, state) == other


def test_what_a_module_does_on_loading_is_done(tmp_path, state):
    old = {k.replace("net.", "old."): v for k, v in state.items()}
    torch.save({"state_dict": old, "pytorch-lightning_version": "2.6.6"}, tmp_path / "old.ckpt")
    model = Renaming()
    load_weights(model, tmp_path / "old.ckpt")
    assert equal(model, state)
    with pytest.raises(ValueError, match="checkpoint of another model than Net"):
        load_weights(Net(), tmp_path / "old.ckpt")


def test_layers_that_a_trainer_would_make(tmp_path):
    torch.manual_seed(2)
    made = MadeLater()
    made.configure_model()
    torch.save(made.state_dict(), tmp_path / "w.pt")
    model = MadeLater()
    load_weights(model, tmp_path / "w.pt")
    assert equal(model, made.state_dict())
    with pytest.raises(ValueError, match=r"2 not of this model \(first late.weight\)\.$"):
        load_weights(MadeInSetup(), tmp_path / "w.pt")


def test_a_part_that_checkpoints_leave_out(tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    model = WithoutBackbone()
    load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(model.state_dict()[k], state[k]) for k in state)
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="another model than WithoutBackbone"):
        load_weights(WithoutBackbone(), tmp_path / "other.pt")


def test_layers_of_setup_are_explained(tmp_path, state):
    class Needs(MadeInSetup):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Linear(1, 1)

    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"2 missing \(first extra.weight\).* Layers that setup\(\) makes are not there"
    ):
        load_weights(Needs(), tmp_path / "w.pt")


def test_files_that_hold_objects_are_refused_with_the_way_out(tmp_path, monkeypatch):
    torch.save({"state_dict": {"w": torch.zeros(1)}, "hyper_parameters": Path()}, tmp_path / "mine.ckpt")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint of weights and plain values") as raised:
        read_checkpoint(tmp_path / "mine.ckpt")
    message = str(raised.value)
    assert "it holds a pathlib." in message
    assert "refused, since reading them can run code. Where you trust it, build the model in the environment" in message
    recipe = message.split("store the weights alone: ")[1]
    assert recipe.startswith("torch.save({'state_dict': model.state_dict()}")
    # The recipe works as it stands.
    monkeypatch.chdir(tmp_path)
    exec(recipe, {"torch": torch, "model": nn.ParameterDict({"w": torch.zeros(1)})})
    assert read_checkpoint(tmp_path / "weights.ckpt")["state_dict"].keys() == {"w"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"a": 1, "b": {}}, "found a dict with 'a', 'b'."),
        ([torch.zeros(1)], "found list."),
        ({"state_dict": {}}, "found a dict with 'state_dict'."),
    ],
)
def test_files_without_weights(tmp_path, content, text):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match="holds no weights: expected a Lightning checkpoint, or a dict of tensors"
    ) as raised:
        read_checkpoint(tmp_path / "w.pth")
    assert str(raised.value).endswith(text)


def test_broken_safetensors(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"w\.safetensors cannot be read as safetensors"):
        read_checkpoint(tmp_path / "w.safetensors")
