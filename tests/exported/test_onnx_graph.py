"""What makes the outputs of an ONNX file is read from its graph, and a broken file is named."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mia_lightning.exported import load_exported
from mia_lightning.exported.onnx_graph import last_operations
from mia_lightning.functional.last_operation import watched

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: ONNX files cannot be run")
onnx = pytest.importorskip("onnx", reason="onnx is not installed: nothing can write ONNX files")


class Both(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([1 - x.sigmoid(), x.sigmoid()], 1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("ending", "role"),
    [
        (nn.Identity(), "linear"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.Softmax(1), "softmax"),
        (nn.LogSoftmax(1), "log_softmax"),
        (nn.Sequential(nn.Softmax(1), nn.Upsample(scale_factor=2.0, mode="bilinear")), "softmax"),
        (Both(), "mixture"),
        (nn.GELU(), "other"),
    ],
)
def test_the_last_operation_is_that_of_the_network(tmp_path: Path, ending: nn.Module, role: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), ending).eval()
    torch.onnx.export(network, (torch.rand(1, 3, 8, 8),), str(tmp_path / "m.onnx"), dynamo=False, output_names=["y"])
    assert last_operations(tmp_path / "m.onnx")["y"].role == role
    module = load_exported(tmp_path / "m.onnx")
    for batch in (1, 3):  # of one, and joined of several runs
        with torch.no_grad():
            answer, operation = watched(lambda batch=batch: module(torch.rand(batch, 3, 8, 8)))
        found = operation(answer)
        assert found is not None
        assert found.role == role


def test_operators_of_others_tell_nothing(tmp_path: Path) -> None:
    helper = onnx.helper
    values = [helper.make_tensor_value_info(name, 1, [1, 1]) for name in "xy"]
    node = helper.make_node("Sigmoid", ["x"], ["y"], domain="my.ops")
    onnx.save(helper.make_model(helper.make_graph([node], "g", values[:1], values[1:])), str(tmp_path / "m.onnx"))
    assert last_operations(tmp_path / "m.onnx")["y"].role == "other"


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08")
    with pytest.raises(ValueError, match=r"m\.onnx is not written as ONNX files are"):
        last_operations(tmp_path / "m.onnx")
