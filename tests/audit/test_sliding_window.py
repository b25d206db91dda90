"""The adapter of sliding windows: MONAI's own answer, what networks return, and what is said where MONAI is missing."""

import sys

import pytest
import torch
from torch import nn

from mia_lightning import Auditor, AutoAdapter, MonaiSlidingWindow, PredictabilityScorer

VOLUMES = torch.rand(4, 1, 10, 12, 9, generator=torch.Generator().manual_seed(0))
SCORER = PredictabilityScorer(nn.AvgPool2d(4), grid=8)


class OneSize(nn.Module):
    """A network that takes windows of 6 x 6 x 6 and nothing else, and wraps its answer."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, window):
        if window.shape[2:] != (6, 6, 6):
            raise RuntimeError(f"expected 6 x 6 x 6 voxels but got {tuple(window.shape[2:])}")
        return {"out": self.layer(window), "features": window.mean((2, 3, 4))}


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_it_is_the_inferer_of_monai(mode):
    inferers = pytest.importorskip("monai.inferers", reason="MONAI is not installed: its sliding windows are compared")
    model, adapter = OneSize(), MonaiSlidingWindow((6, 6, 6), overlap=0.5, mode=mode)
    theirs = inferers.SlidingWindowInferer((6, 6, 6), 2, 0.5, mode=mode)(VOLUMES, lambda x: model(x)["out"])
    assert torch.allclose(adapter.predict(model, VOLUMES), theirs, atol=1e-5)


def test_an_audit_with_windows_and_without_them():
    pytest.importorskip("monai", reason="MONAI is not installed: it moves the windows")
    labels = (VOLUMES[:, 0] > 0.5).long()
    samples = list(zip(VOLUMES, labels, strict=True))
    audit = Auditor(scorer=SCORER, adapter=MonaiSlidingWindow(6, mode="gaussian"), scores=["membership", "neighbour"])
    result = audit.run(OneSize(), samples[:2], samples[2:])
    assert result.meta["interpretation"]["output"].startswith("logits")
    assert not result.excluded
    with pytest.raises(ValueError, match=r"(?s)expected 6 x 6 x 6 voxels but got \(10, 12, 9\)"):
        Auditor(scorer=SCORER).run(OneSize(), samples[:2], samples[2:])


def test_sliding_windows_of_ones_own():
    class Halves(AutoAdapter):
        def predict(self, module, input):
            return torch.cat([super(Halves, self).predict(module, part) for part in input.split(6, dim=2)], 2)

    volumes = torch.rand(4, 1, 12, 6, 6, generator=torch.Generator().manual_seed(0))
    samples = [(volume, (volume[0] > 0.5).long()) for volume in volumes]
    result = Auditor(scorer=SCORER, adapter=Halves()).run(OneSize(), samples[:2], samples[2:])
    assert result.meta["interpretation"]["output"].startswith("logits: the model ends in convolution")


def test_a_network_for_patches_is_told_of_it():
    volumes = [(volume, (volume[0] > 0.5).long()) for volume in torch.rand(4, 1, 12, 6, 6)]
    with pytest.raises(ValueError, match=r"adapter=MonaiSlidingWindow\(roi_size\)"):
        Auditor(scorer=SCORER).run(OneSize(), volumes[:2], volumes[2:])


def test_without_monai_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.inferers.inferer", None)
    with pytest.raises(ImportError, match=r"pip install 'mia-lightning\[medical\]'"):
        MonaiSlidingWindow((6, 6, 6))


def test_it_is_named_in_yaml():
    pytest.importorskip("monai", reason="MONAI is not installed: the adapter is built")
    from jsonargparse import ArgumentParser

    from mia_lightning import AuditConfig

    parser = ArgumentParser()
    parser.add_class_arguments(AuditConfig, "audit")
    options = {"roi_size": [6, 6, 6], "overlap": 0.5, "output_key": "out"}
    adapter = {"class_path": "mia_lightning.MonaiSlidingWindow", "init_args": options}
    config = parser.instantiate(parser.parse_object({"audit": {"adapter": adapter}})).audit
    config = getattr(config, "adapter", config)
    assert isinstance(config, MonaiSlidingWindow)
    assert config.output_key == "out"
    assert list(config.inferer.roi_size) == [6, 6, 6]
