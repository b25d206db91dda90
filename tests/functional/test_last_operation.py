"""What made a tensor is told through views, casts, resizing and writes into buffers; numbers stay as they are."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mia_lightning.functional.last_operation import Operation, declare, operation_of, watched

NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
LINEAR = nn.Linear(3, 2)
X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def written(z: Tensor) -> Tensor:
    whole = torch.zeros(2, 2, 8, 8)
    whole[:, :, :5] = z[:, :, :5]
    whole[:, :, 5:] = z[:, :, 5:]
    return whole


CASES: dict[str, tuple[Callable[[Tensor], Tensor], str | None]] = {
    "network": (NETWORK, "linear"),
    "script": (torch.jit.script(NETWORK), "linear"),
    "scripted sigmoid": (torch.jit.script(nn.Sequential(NETWORK, nn.Sigmoid())), "sigmoid"),
    "program": (torch.export.export(nn.Sequential(NETWORK, nn.Softmax(1)), (X,)).module(), "softmax"),
    "linear layer": (lambda x: LINEAR(x.movedim(1, 3)).movedim(3, 1), "linear"),
    "residual": (lambda x: NETWORK(x) + x[:, :2], "linear"),
    "written": (lambda x: written(NETWORK(x)), "linear"),
    "in place": (lambda x: NETWORK(x).sigmoid_(), "sigmoid"),
    "written sigmoid": (lambda x: written(NETWORK(x).sigmoid()), "sigmoid"),
    "16 bits": (lambda x: NETWORK(x).half().softmax(1).float(), "softmax"),
    "cropped": (lambda x: F.interpolate(NETWORK(x).sigmoid(), scale_factor=2.0)[:, :, 4:12, 4:12], "sigmoid"),
    "1 - p": (lambda x: 1 - NETWORK(x).sigmoid(), "mixture"),
    "shifted p": (lambda x: 2 * NETWORK(x).sigmoid() - 1, "shifted"),
    "shifted logit": (lambda x: NETWORK(x) - 1, "linear"),
    "odds": (lambda x: NETWORK(x).sigmoid() / (1 - NETWORK(x).sigmoid()), "mixture"),
    "log-odds": (lambda x: (NETWORK(x).sigmoid() / (1 - NETWORK(x).sigmoid())).log(), "other"),
    "log of a mean": (lambda x: ((NETWORK(x).sigmoid() + NETWORK(x.flip(3)).sigmoid()) / 2).log(), "log_sigmoid"),
    "both": (lambda x: torch.cat([1 - NETWORK(x).sigmoid(), NETWORK(x).sigmoid()], 1), "mixture"),
    "logarithm": (lambda x: NETWORK(x).softmax(1).log(), "log_softmax"),
    "exponential": (lambda x: NETWORK(x).log_softmax(1).exp(), "softmax"),
    "bounded p": (lambda x: NETWORK(x).sigmoid().clamp(0.1, 0.9), "sigmoid"),
    "bounded logit": (lambda x: NETWORK(x).clamp(0, 1), "other"),
    "beside zeros": (lambda x: torch.cat([torch.zeros(2, 2, 8, 8), NETWORK(x)], 1), "linear"),
    "classes": (lambda x: NETWORK(x).argmax(1).float(), "discrete"),
    "planes": (lambda x: F.one_hot(NETWORK(x).argmax(1), 2).float(), "discrete"),
    "chosen numbers": (lambda x: torch.where(NETWORK(x) > 0, 1.0, 0.0), "discrete"),
    "gated": (lambda x: NETWORK(x) * NETWORK(x).sigmoid(), "other"),
    "squared": (lambda x: NETWORK(x).sigmoid() ** 2, "other"),
    "elsewhere": (lambda x: torch.from_numpy(NETWORK(x).sigmoid().numpy().copy()), None),
    "the input": (lambda x: x, None),
    "nothing": (lambda x: torch.zeros(2, 2, 8, 8), None),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_last_operation_is_told(name):
    function, role = CASES[name]
    answer, operation = watched(lambda: function(X))
    found = operation(answer)
    assert (None if found is None else found.role) == role
    assert torch.equal(answer, function(X))


@torch.no_grad()
def test_what_runs_elsewhere_says_what_it_did():
    def answer() -> Tensor:
        tensor = torch.ones(1)
        declare(tensor, Operation("sigmoid", "Sigmoid"))
        return tensor.view(1, 1)

    tensor, operation = watched(answer)
    assert operation(tensor) == Operation("sigmoid", "Sigmoid")
    declare(tensor, Operation("tanh", "Tanh"))  # nobody watches
    assert operation(tensor) == Operation("sigmoid", "Sigmoid")


@torch.no_grad()
def test_an_error_passes_and_nobody_watches_afterwards():
    def fails() -> Tensor:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        watched(fails)
    tensor = torch.ones(1)
    declare(tensor, Operation("tanh", "Tanh"))
    _, operation = watched(lambda: None)
    assert operation(tensor) is None


@pytest.mark.parametrize(
    ("name", "operands", "role"),
    [
        ("Softmax", ["linear"], "softmax"),
        ("Resize", ["softmax", "constant", None], "softmax"),
        ("Sub", ["constant", "sigmoid"], "mixture"),
        ("Sub", ["sigmoid", "constant"], "shifted"),
        ("Concat", ["mixture", "sigmoid"], "mixture"),
        ("Add", ["linear", "constant"], "linear"),
        ("Gelu", ["linear"], "other"),
        ("Add", [None, "sigmoid"], "other"),
        ("aten::add", ["constant", "constant"], "constant"),
        ("aten::relu", [None], None),
    ],
)
def test_names_of_torch_and_onnx_mean_the_same(name, operands, role):
    found = operation_of(name, [None if o is None else Operation(o, "x") for o in operands])
    assert (None if found is None else found.role) == role
