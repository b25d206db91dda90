"""Audits of volumes (B, C, D, H, W): tasks, forms of targets and outputs, neighbours, slices, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mia_lightning import Auditor, PredictabilityScorer
from mia_lightning.functional.neighbours import VOLUME_AUTO
from mia_lightning.functional.tiles import tile_log_errors, tile_ratio

DRAW = torch.Generator().manual_seed(0)
INPUTS = torch.rand(12, 1, 10, 6, 8, generator=DRAW)
LABELS = (INPUTS[:, 0] * 2.999).long()
ONE_HOT = F.one_hot(LABELS, 3).movedim(4, 1).float()
CHANNELS = torch.cat([ONE_HOT[:, :1], 1 - ONE_HOT[:, :1]], 1).roll(1, 3)
CHANNELS[:, 1, 0] = CHANNELS[:, 0, 0]
SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=8)


def network(classes: int, *more: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv3d(1, classes, 3, padding=1), *more)


class Residual(nn.Module):
    """A convolution beside what an activation lets pass, as the networks of MONAI end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = network(3, nn.PReLU()), nn.Conv3d(3, 3, 3, padding=1)

    def forward(self, volume: Tensor) -> Tensor:
        passed = self.first(volume)
        return self.second(passed) + passed


def audit(model, targets: Tensor, inputs: Tensor = INPUTS, **options):
    samples = list(zip(inputs, targets, strict=True))
    return Auditor(**{"scorer": SCORER, "batch_size": 4, **options}).run(model, samples[:6], samples[6:])


def answers(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(INPUTS)


@pytest.mark.parametrize(
    ("targets", "options"),
    [
        (LABELS, {}),
        (LABELS.unsqueeze(1).to(torch.uint8), {}),
        (LABELS.float(), {"task": "segmentation"}),
        (ONE_HOT, {"task": "segmentation"}),
        (ONE_HOT.to(torch.uint8), {"task": "segmentation"}),
    ],
)
def test_segmentation_in_all_forms_of_its_targets(targets, options):
    model = network(3)
    result = audit(model, targets, errors=["brier", "dice", "boundary_distance"], **options)
    expected = F.cross_entropy(answers(model), LABELS, reduction="none").flatten(1).mean(1)
    assert result.errors["reconstruction"] == pytest.approx(expected.numpy(), rel=1e-5)
    assert result.errors["predictability"] == pytest.approx(
        SCORER(INPUTS, LABELS, "segmentation", num_classes=3).numpy(), rel=1e-6
    )
    assert not result.excluded
    assert result.meta["task"] == "segmentation"
    assert "five dimensions of the inputs" in result.meta["interpretation"]["volumes"]
    assert result.meta["interpretation"]["output"].startswith("logits: the model ends in convolution")


def test_translation_and_independent_channels():
    model = network(2, nn.Sigmoid())
    pictures = audit(model, 0.9 * INPUTS.expand(-1, 2, -1, -1, -1), errors=["l2", "ssim"])
    expected = (answers(model) - 0.9 * INPUTS).abs().flatten(1).mean(1)
    assert pictures.meta["interpretation"]["task"] == "translation (float32 volumes)"
    assert pictures.errors["reconstruction"] == pytest.approx(expected.numpy(), rel=1e-5)
    assert set(pictures.meta["plausibility"]) <= {"above_constant", "above_input", "above_predictor", "caution"}
    masks = audit(model, CHANNELS, task="multilabel", errors=["brier"])
    expected = F.binary_cross_entropy(answers(model), CHANNELS, reduction="none").flatten(1).mean(1)
    assert masks.errors["reconstruction"] == pytest.approx(expected.numpy(), rel=1e-5)
    single = audit(network(1), CHANNELS[:, 0], task="multilabel", output="logits")
    assert not single.excluded
    for result in (pictures, masks, single):
        assert "volumes" in result.meta["interpretation"]


@pytest.mark.parametrize(
    ("model", "kind", "options"),
    [
        (network(3, nn.Softmax(1)), "probabilities: the model ends in softmax", {}),
        (network(3, nn.LogSoftmax(1)), "logits: the model ends in log_softmax", {}),
        (nn.Sequential(network(2), nn.ConvTranspose3d(2, 3, 1)), "logits: the model ends in convolution", {}),
        (nn.Sequential(network(3), nn.Upsample(scale_factor=1)), "logits: the model ends in convolution", {}),
        (Residual(), "logits: the model ends in convolution", {}),
        (lambda x: network(3)(x).softmax(1).clone().numpy(), "probabilities: by their values", {}),
        (lambda x: network(3)(x).argmax(1), "labels: the model returns int64", {"num_classes": 3}),
        (lambda x: network(3)(x).argmax(1, keepdim=True), "labels: the model returns int64", {"num_classes": 3}),
        (lambda x: network(3)(x).argmax(1).float(), "labels: output='labels'", {"num_classes": 3, "output": "labels"}),
        (lambda x: F.one_hot(network(3)(x).argmax(1), 3).movedim(4, 1), "labels: the model returns int64", {}),
    ],
)
def test_what_models_of_volumes_return(model, kind, options):
    result = audit(model, LABELS, **options)
    assert result.meta["interpretation"]["output"].startswith(kind)
    if kind.startswith("labels"):
        wrong = (network(3)(INPUTS).argmax(1) != LABELS).double().flatten(1).mean(1)
        assert result.errors["reconstruction"] == pytest.approx(wrong.numpy())
        assert "boundary_distance" in result.errors


def test_a_single_logit_and_its_probability():
    binary = (LABELS > 0).long()
    logit, probability = (audit(network(1, *more), binary) for more in ((), (nn.Sigmoid(),)))
    assert logit.errors["reconstruction"] == pytest.approx(probability.errors["reconstruction"], rel=1e-4)


def test_neighbours_are_flips_and_shifts_of_three_axes():
    result = audit(network(3), LABELS, scores=["membership", "neighbour", "combined"], primary="combined")
    assert result.meta["neighbours"]["used"] == list(VOLUME_AUTO)
    assert all(len(score) == 12 for score in result.scores.values())
    assert (result.errors["tile_neighbour"] != result.errors["easiest_neighbour"]).all()
    chosen = audit(network(3), LABELS, neighbours="dflip", errors=["neighbour", "tile_neighbour"])
    model, target = network(3), LABELS.flip(1)
    of_voxels = F.cross_entropy(model(INPUTS.flip(2)), target, reduction="none")
    own, there = F.cross_entropy(model(INPUTS), LABELS, reduction="none"), of_voxels.flip(1)
    in_place = tile_ratio(tile_log_errors(own.unsqueeze(1)), tile_log_errors(there.unsqueeze(1)).unsqueeze(1))
    flipped = of_voxels.flatten(1).mean(1)
    ratio = torch.tensor(chosen.errors["reconstruction"]).log() - flipped.double().log()
    assert chosen.errors["neighbour"] == pytest.approx(ratio.detach().numpy(), abs=1e-4)
    assert chosen.errors["tile_neighbour"] == pytest.approx(in_place.detach().numpy(), abs=1e-4)


def test_some_slices_are_stated_and_kept_apart_in_the_cache(tmp_path):
    options = {"cache_dir": tmp_path, "max_samples": None}
    whole = audit(network(3), LABELS, **options)
    some = audit(network(3), LABELS, slices=2, **options)
    assert some.errors["predictability"] == pytest.approx(
        SCORER(INPUTS, LABELS, "segmentation", num_classes=3, slices=2).numpy(), rel=1e-6
    )
    assert not (some.errors["predictability"] == whole.errors["predictability"]).any()
    assert "all of them" in whole.meta["interpretation"]["volumes"]
    assert "slices=2 of them" in some.meta["interpretation"]["volumes"]
    assert some.meta["settings"]["slices"] == 2


def test_a_scorer_without_slices_is_told_before_anything_runs():
    class Own:
        def __call__(self, input, target, task, *, num_classes, ignore_index):
            return torch.zeros(len(input))

        def fingerprint(self):
            return "own"

    with pytest.raises(TypeError, match=r"slices=3 limits .* the call of Own takes no argument slices="):
        Auditor(scorer=Own(), slices=3)
    with pytest.raises(ValueError, match=r"Expected slices >= 1, the number of a volume's slices, .*but got 0"):
        Auditor(slices=0)


@pytest.mark.parametrize(
    ("inputs", "targets", "options", "message"),
    [
        (INPUTS[:, 0], LABELS.unsqueeze(1), {}, "inputs do not have five dimensions.*input.unsqueeze"),
        (INPUTS[:, 0], ONE_HOT, {"task": "multilabel"}, "do not have five dimensions.*input.unsqueeze"),
        (INPUTS[:, 0], INPUTS, {"task": "translation"}, "do not have five dimensions.*input.unsqueeze"),
        (INPUTS, LABELS[:, 0], {}, "neither label map nor image.* targets of volumes have D, too"),
        (INPUTS, LABELS[:, 0], {"task": "segmentation"}, r"label map \(B, D, H, W\) .* targets of volumes have D"),
        (INPUTS, LABELS[:, 0], {"task": "multilabel"}, r"masks \(B, channels, D, H, W\).* targets of volumes have D"),
        (INPUTS, INPUTS[:, 0], {"task": "translation"}, r"target images \(B, C, D, H, W\), but got float32"),
        (INPUTS, INPUTS[:, :, :5], {}, "target is .* and has the input's size along D, H and W"),
        (INPUTS, LABELS.unsqueeze(1).expand(-1, 2, -1, -1, -1), {}, "Cannot tell the task|one-hot"),
        (INPUTS, ONE_HOT, {}, "one-hot label maps, or pictures.*task='segmentation'"),
        (INPUTS, CHANNELS, {"task": "segmentation"}, r"\(B, 1, D, H, W\).*not one-hot.*task='multilabel'"),
        (INPUTS, LABELS[:, :5], {}, "expected logits .4, classes, 5, 6, 8."),
    ],
)
def test_dimensions_that_do_not_go_together_are_told(inputs, targets, options, message):
    model = (lambda x: network(3)(x)) if inputs.ndim == 5 else nn.Identity()
    with pytest.raises(ValueError, match=message):
        audit(model, targets, inputs, **options)


def test_pictures_beside_volumes_are_refused():
    volumes = list(zip(INPUTS, LABELS, strict=True))
    pictures = list(zip(INPUTS[:, :, 0], LABELS[:, 0], strict=True))
    for sides in ((volumes, pictures), (pictures, volumes)):
        with pytest.raises(ValueError, match=r"cannot be compared. Give both sides samples of one kind"):
            Auditor(scorer=SCORER).run(network(3), *sides)


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.float32])
def test_pictures_and_label_volumes_as_inputs(dtype):
    grey = (INPUTS * 255).to(dtype) if dtype != torch.float32 else INPUTS
    result = audit(lambda x: network(3)(x.float()), LABELS, grey)
    assert result.meta["interpretation"]["input"].startswith("pictures")
    labels = audit(lambda x: network(1)(x.float()).sigmoid(), INPUTS, LABELS.unsqueeze(1))
    assert labels.meta["interpretation"]["input"].startswith("label maps")
    assert "input_boundary" in labels.blind


def test_what_is_looked_at_is_the_middle_slice():
    auditor = Auditor(scorer=SCORER)
    samples = list(zip(INPUTS, LABELS, strict=True))
    auditor.run(network(3), samples[:6], samples[6:])
    [exhibit] = auditor.exhibit(network(3), samples, "member", [2])
    assert torch.equal(exhibit.target[0], LABELS[2, :, 3])  # of 10 x 6 x 8 voxels
    assert torch.equal(exhibit.input[0], INPUTS[2, :, :, 3])
    assert torch.allclose(exhibit.prediction[0], answers(network(3))[2, :, :, 3])
