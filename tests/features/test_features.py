from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from skimage import data
from torch import Tensor, nn

from mia_lightning.features import FeatureExtractor, PredictabilityScorer, lite0_state, load_extractor


@pytest.fixture(scope="module")
def lite0() -> FeatureExtractor:
    return load_extractor()


@pytest.fixture(scope="module")
def wide_resnet() -> dict[str, Tensor]:
    """Random weights under torchvision's names, the classifier included."""
    return timm.create_model("wide_resnet50_2", pretrained=False).state_dict()


def tiny(**settings: Any) -> PredictabilityScorer:
    """A scorer whose features are the mean colours of four by four pixels."""
    return PredictabilityScorer(nn.AvgPool2d(4), **{"grid": 8, **settings})


def batch(images: int = 2, channels: int = 3, size: tuple[int, int] = (32, 32), seed: int = 0) -> Tensor:
    return torch.rand(images, channels, *size, generator=torch.Generator().manual_seed(seed))


def masks(images: int = 2, classes: int = 3, size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.randint(0, classes, (images, *size), generator=torch.Generator().manual_seed(1))


def all_generators() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


def test_all_tensors_of_the_file_fit_the_network(lite0):
    state = lite0_state()
    assert len(state) == 296
    assert {k: v.shape for k, v in timm.create_model("tf_efficientnet_lite0").state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    backbone = lite0.backbone.state_dict()
    assert torch.equal(backbone["conv_stem.weight"], state["conv_stem.weight"])
    assert torch.equal(backbone["blocks.6.0.conv_pwl.weight"], state["blocks.6.0.conv_pwl.weight"])


@pytest.mark.parametrize(("photograph", "classes"), [("coffee", {967}), ("chelsea", {281, 282, 285})])
def test_the_weights_recognise_what_they_were_trained_on(lite0, photograph, classes):
    network = timm.create_model("tf_efficientnet_lite0")
    network.load_state_dict(lite0_state())
    image = torch.from_numpy(getattr(data, photograph)()).movedim(2, 0).unsqueeze(0) / 255
    image = F.interpolate(image, size=(224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        chances = network.eval()((image - lite0.mean) / lite0.std).softmax(1)
    assert int(chances.argmax()) in classes
    assert float(chances.max()) > 0.3


def test_default_stages_start_at_a_quarter_of_the_input(lite0):
    maps = lite0(batch(1, size=(64, 96)))
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]


def test_building_draws_from_no_global_generator(monkeypatch, tmp_path, wide_resnet):
    path = tmp_path / "weights.pth"
    torch.save(wide_resnet, path)
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **kw: create(name, pretrained=False, **kw))
    before = all_generators()
    load_extractor()
    load_extractor("wide_resnet50_2", path)
    load_extractor("test_resnet.r160_in1k")
    assert all_generators() == before


def test_frozen_for_good(lite0):
    lite0.train()
    assert not any(m.training for m in lite0.modules())
    assert not any(p.requires_grad for p in lite0.parameters())
    image = batch(1).requires_grad_()
    assert not lite0(image)[0].requires_grad
    before = lite0.fingerprint()
    lite0(batch(4))
    assert lite0.fingerprint() == before


def test_autocast_does_not_reach_the_features(lite0):
    image = batch(1, size=(64, 64))
    expected = lite0(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = lite0(image)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_module_of_your_own_is_copied_not_frozen():
    encoder = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4)).train()
    scorer = PredictabilityScorer(encoder, grid=8)
    before = scorer(batch(), batch(seed=1))
    assert encoder.training
    assert all(p.requires_grad for p in encoder.parameters())
    with torch.no_grad():
        encoder[0].weight.mul_(-2.0)
    assert torch.equal(scorer(batch(), batch(seed=1)), before)


@pytest.mark.parametrize("form", [lambda m: m, lambda m: [m], lambda m: (m,), lambda m: {"features": m}])
def test_backbones_may_return_one_map_several_or_a_mapping(form):
    class Backbone(nn.Module):
        def forward(self, image: Tensor) -> Any:
            return form(F.avg_pool2d(image, 4))

    maps = FeatureExtractor(Backbone(), mean=(0.5,) * 3, std=(0.25,) * 3)(batch())
    torch.testing.assert_close(maps[0], F.avg_pool2d((batch() - 0.5) / 0.25, 4))


@pytest.mark.parametrize(("backbone", "found"), [(nn.Flatten(), r"\[\(2, 3072\)\]"), (nn.LSTM(32, 2), "'tuple'")])
def test_backbones_that_return_no_maps_are_named(backbone, found):
    image = batch() if isinstance(backbone, nn.Flatten) else batch()[:, 0]
    extractor = FeatureExtractor(backbone, mean=(0,), std=(1,), name="mine")
    extractor.mean, extractor.std = extractor.mean.squeeze(), extractor.std.squeeze()
    with pytest.raises(ValueError, match=f"'mine' returned .*{found}.*expected feature maps of shape"):
        extractor(image)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_papers_network_takes_a_local_file(tmp_path, wide_resnet, suffix):
    path = tmp_path / f"weights{suffix}"
    torch.save(wide_resnet, path) if suffix == ".pth" else save_file(wide_resnet, path)
    extractor = load_extractor("wide_resnet50_2", path)
    assert torch.equal(extractor.backbone.state_dict()["layer3.2.conv2.weight"], wide_resnet["layer3.2.conv2.weight"])
    maps = extractor(batch(1, size=(64, 64)))
    assert [tuple(m.shape[1:]) for m in maps] == [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)]
    assert extractor.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_weights_inside_a_checkpoint_are_found(tmp_path, wide_resnet):
    torch.save({"state_dict": wide_resnet, "epoch": 3}, tmp_path / "last.ckpt")
    load_extractor("wide_resnet50_2", tmp_path / "last.ckpt")


def test_weights_of_another_network_are_refused(tmp_path, wide_resnet):
    path = tmp_path / "other.safetensors"
    save_file(wide_resnet, path)
    message = r"weights in .*other\.safetensors do not fit 'efficientnet_lite0': 2\d\d of 2\d\d tensors are missing"
    with pytest.raises(RuntimeError, match=message):
        load_extractor("efficientnet_lite0", path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_hold_no_weights_are_refused(tmp_path, suffix):
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(b"not weights at all" * 9)
    with pytest.raises(
        RuntimeError, match=rf"junk\{suffix} could not be read as weights \(.*\.safetensors.*state dict"
    ):
        load_extractor("efficientnet_lite0", path)


def test_nothing_is_unpickled(tmp_path):
    torch.save(nn.AvgPool2d(4), tmp_path / "module.pth")
    with pytest.raises(RuntimeError, match=r"module\.pth could not be read as weights"):
        load_extractor("efficientnet_lite0", tmp_path / "module.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights file .*none\.pth does not exist"):
        load_extractor("wide_resnet50_2", tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("name", "hint"), [("wide_resnet5", "'wide_resnet50_2' or a timm name, for example"), ("qqq", "list_models")]
)
def test_an_unknown_name_is_answered_with_known_ones(name, hint):
    with pytest.raises(ValueError, match=f"timm has no model '{name}'.*{hint}"):
        load_extractor(name)


@pytest.mark.parametrize("name", ["wide_resnet50_2", "test_resnet.r160_in1k"])
def test_an_unreachable_hub_is_answered_with_what_to_do(monkeypatch, name):
    from torchvision.models import Wide_ResNet50_2_Weights

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    create = timm.create_model
    monkeypatch.setattr(Wide_ResNet50_2_Weights, "get_state_dict", unreachable)
    monkeypatch.setattr(
        timm, "create_model", lambda n, pretrained=False, **kw: unreachable() if pretrained else create(n, **kw)
    )
    message = rf"'{name}' could not be downloaded \(OSError: no route to host\).*weights=.*efficientnet_lite0"
    with pytest.raises(RuntimeError, match=message):
        PredictabilityScorer(name)(batch(), batch())


def test_fingerprint_follows_weights_and_settings():
    def conv(scale: float = 1.0) -> nn.Module:
        module = nn.Conv2d(3, 2, 4, 4)
        with torch.no_grad():
            module.weight.fill_(scale)
            module.bias.zero_()
        return module

    changes: list[dict[str, Any]] = [
        {},
        {"grid": 9},
        {"folds": 4},
        {"ridge": 0.0},
        {"seed": 1},
        {"method": "holdout"},
        {"method": "holdout", "holdout": 0.5},
    ]
    prints = [PredictabilityScorer(conv(), **{"grid": 8, **c}).fingerprint() for c in changes]
    assert len(set(prints)) == len(changes)
    assert PredictabilityScorer(conv(), grid=8).fingerprint() == prints[0]
    assert PredictabilityScorer(conv(2.0), grid=8).fingerprint() not in prints


def test_fingerprint_follows_what_a_module_without_weights_does():
    assert tiny().fingerprint() == tiny().fingerprint()
    assert PredictabilityScorer(nn.AvgPool2d(2), grid=8).fingerprint() != tiny().fingerprint()


@pytest.mark.parametrize(
    "image",
    [
        batch(size=(16, 16)),
        batch(size=(33, 47)),
        batch(size=(16, 160)),
        batch(size=(201, 65)),
        batch(channels=1),
        batch(channels=2),
        batch(channels=12),
        masks(classes=9),
        masks(classes=2).unsqueeze(1).to(torch.uint8),
        torch.eye(5)[masks(classes=5)].movedim(3, 1),
        torch.zeros(2, 3, 32, 32),
        batch().double(),
        batch().half(),
    ],
    ids=lambda t: f"{t.dtype}{tuple(t.shape)}".removeprefix("torch."),
)
@pytest.mark.parametrize("task", ["translation", "segmentation"])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_any_input_gives_a_number(image, task, ridge):
    size = tuple(image.shape[-2:])
    target = batch(channels=2, size=size, seed=3) if task == "translation" else masks(size=size)
    found = tiny(ridge=ridge)(image, target, task, num_classes=3)
    assert found.shape == (2,)
    assert (found > 0).all()
    assert found.isfinite().all()


@pytest.mark.parametrize("size", [(32, 32), (48, 31), (20, 90)])
def test_whole_input_and_whole_target_stay_aligned(size):
    coarse = F.interpolate(batch(size=(5, 5)), size=size, mode="bicubic").clamp(0, 1)
    aligned = tiny()(coarse, 1 - coarse)
    for turned in (coarse.flip(3), coarse.flip(2)):
        assert (aligned < 0.5 * tiny()(coarse, 1 - turned)).all()


@pytest.mark.parametrize("method", ["crossfit", "holdout"])
def test_a_pair_scores_the_same_in_any_company(method):
    scorer = tiny(method=method)
    image, target = batch(4), batch(4, seed=5)
    alone = torch.cat([scorer(image[i : i + 1], target[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(scorer(image, target), alone, rtol=1e-5, atol=0)
    labels = masks(4)
    labels[0].clamp_(max=1)
    alone = torch.cat([scorer(image[i : i + 1], labels[i : i + 1], "segmentation") for i in range(4)])
    torch.testing.assert_close(scorer(image, labels, "segmentation"), alone, rtol=1e-5, atol=0)


def test_unknown_number_of_classes_is_read_from_each_image_alone():
    labels = masks(2, classes=2)
    labels[1, 0, 0], labels[1, 1], labels[1, 2] = 6, 255, -1
    image, scorer = batch(), tiny()
    found = scorer(image, labels, "segmentation")
    expected = [scorer(image[i : i + 1], labels[i : i + 1], "segmentation", num_classes=k) for i, k in ((0, 2), (1, 7))]
    assert torch.equal(found, torch.cat(expected))


def test_only_void_has_no_number():
    labels = torch.stack([masks(1)[0], torch.full((32, 32), 255)])
    for classes in (None, 3):
        assert tiny()(batch(), labels, "segmentation", num_classes=classes).isnan().tolist() == [False, True]


def test_runs_repeat_and_draw_from_no_global_generator():
    before = all_generators()
    for method in ("crossfit", "holdout"):
        first = tiny(method=method, seed=3)(batch(), batch(seed=1))
        assert torch.equal(tiny(method=method, seed=3)(batch(), batch(seed=1)), first)
        assert not torch.equal(tiny(method=method, seed=4)(batch(), batch(seed=1)), first)
    assert all_generators() == before


def test_easy_pairs_score_lower_than_hard_ones(lite0):
    photo = torch.from_numpy(data.astronaut()).movedim(2, 0).unsqueeze(0) / 255
    photo = F.interpolate(photo, size=(96, 96), mode="bilinear", antialias=True)
    scorer = PredictabilityScorer(lite0, grid=28)
    easy, foreign = scorer(photo, 1 - photo), scorer(photo, photo.flip(2))
    noise = scorer(photo, F.interpolate(batch(1, size=(28, 28)), size=(96, 96)))
    assert easy < 0.8 * foreign
    assert foreign < noise


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": 3}, "grid >= 4, but got 3"),
        ({"method": "loo"}, "'crossfit' or 'holdout', but got 'loo'"),
        ({"holdout": 0.0}, r"holdout between 0 and 1, but got 0\.0"),
        ({"holdout": 1.0}, r"holdout between 0 and 1, but got 1\.0"),
        ({"ridge": -1.0}, r"ridge >= 0, but got -1\.0"),
        ({"folds": 1}, "2 to 64 folds for grid=8, but got 1"),
        ({"folds": 65}, "2 to 64 folds for grid=8, but got 65"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)


@pytest.mark.parametrize("holdout", [0.3, 0.999, 0.001])
def test_holdout_keeps_pixels_on_both_sides(holdout):
    assert tiny(method="holdout", holdout=holdout)(batch(), batch(seed=1)).isfinite().all()
