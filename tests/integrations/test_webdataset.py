"""WebDataset: pipelines over tar files, shuffled, batched and in loaders of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor, MembershipAudit

wds = pytest.importorskip("webdataset", reason="needs webdataset")

KEYS = ("image.npy", "target.npy")
SIZE = 20


@pytest.fixture
def shards(tmp_path: Path) -> Callable[..., Any]:
    """A pipeline of decoded samples of a side: two shards, 20 samples of 32 x 32."""
    for side, seed in (("in", 0), ("out", 1)):
        rng = np.random.default_rng(seed)
        for number in range(2):
            with wds.TarWriter(str(tmp_path / f"{side}-{number}.tar")) as sink:
                for i in range(SIZE // 2):
                    arrays = {key: rng.random((3, 32, 32), dtype=np.float32) for key in KEYS}
                    sink.write({"__key__": f"{side}{number}{i:02d}", **arrays})

    def open_shards(side: str, **options: Any) -> Any:
        options = {"shardshuffle": False, **options}
        return wds.WebDataset(str(tmp_path / f"{side}-{{0..1}}.tar"), **options).decode()

    return open_shards


def content(result: Any) -> dict[str, float]:
    return dict(zip(result.ids, result.errors["predictability"].tolist(), strict=True))


def audited(make: Callable[[str], Any], quick: Any, **settings: Any) -> Any:
    """Two audits of one auditor, of which names mean the same; the first is returned."""
    sides = make("in"), make("out")
    auditor = Auditor(scorer=quick, batch_size=4, **settings)
    auditor.check(nn.Identity(), *sides)
    first, second = (auditor.run(nn.Identity(), *sides) for _ in range(2))
    assert content(first) == content(second)
    assert len(content(first)) == 2 * SIZE
    assert not first.excluded
    return first


PIPELINES: dict[str, Callable[[Any], Any]] = {
    "to_tuple": lambda data: data.to_tuple(*KEYS),
    "in a loader": lambda data: DataLoader(data.to_tuple(*KEYS), batch_size=4),
    "rename": lambda data: data.rename(image=KEYS[0], target=KEYS[1], keep=False),
    "batched": lambda data: data.to_tuple(*KEYS).batched(6),
    "batched in a loader": lambda data: DataLoader(data.to_tuple(*KEYS).batched(6), batch_size=None),
    "samples in a loader without batches": lambda data: DataLoader(data.to_tuple(*KEYS), batch_size=None),
    "WebLoader": lambda data: wds.WebLoader(data.to_tuple(*KEYS), batch_size=6),
    "WebLoader of batches": lambda data: wds.WebLoader(data.to_tuple(*KEYS).batched(6), batch_size=None),
    "WebLoader with workers": lambda data: wds.WebLoader(
        data.to_tuple(*KEYS).batched(5), batch_size=None, num_workers=2
    ),
    "unbatched again": lambda data: wds.WebLoader(data.to_tuple(*KEYS), batch_size=6).unbatched(),
    "batched again": lambda data: wds.WebLoader(data.to_tuple(*KEYS), batch_size=6).unbatched().batched(3),
}


PLAIN = ("to_tuple", "rename", "WebLoader of batches", "batched again")  # of each kind one; the others are for -m slow
NAMES = [pytest.param(name, marks=() if name in PLAIN else pytest.mark.slow) for name in PIPELINES]


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_those_of_the_shards(name: str, shards: Any, quick: Any) -> None:
    result = audited(lambda side: PIPELINES[name](shards(side)), quick)
    assert result.ids[:2] == ["member-000000", "member-000001"]
    means = sorted(float(y.mean()) for side in ("in", "out") for _, y in PIPELINES["to_tuple"](shards(side)))
    np.testing.assert_allclose(sorted(result.blind["target_mean"]), means, rtol=1e-5)


def test_lists_of_samples_are_samples_or_asked_about(shards: Any, quick: Any) -> None:
    out = shards("out").to_tuple(*KEYS)

    def means(members: Any) -> list[float]:
        result = Auditor(scorer=quick, batch_size=4).run(nn.Identity(), members, out)
        return list(result.errors["reconstruction"][:SIZE])

    tuples = shards("in").to_tuple(*KEYS).listed(6)
    with pytest.raises(ValueError, match=r"could be its samples or its columns.*unlisted\(\) behind listed"):
        means(tuples)
    assert means(PIPELINES["rename"](shards("in")).listed(6)) == means(tuples.unlisted())


def test_keys_of_the_shards_are_ids_where_they_are_asked_for(shards: Any, quick: Any) -> None:
    settings = {"input_key": KEYS[0], "target_key": KEYS[1], "id_key": "__key__"}
    assert audited(shards, quick, **settings).ids[0] == "in000"


@pytest.mark.parametrize("detshuffle", [False, True])
def test_shuffled_shards_are_named_by_contents(detshuffle: bool, shards: Any, quick: Any) -> None:
    def make(side: str) -> Any:
        return shards(side, shardshuffle=10, detshuffle=detshuffle).shuffle(50).to_tuple(*KEYS)

    result = audited(make, quick)
    assert {entry["ids"] for entry in result.meta["streams"].values()} == {"content"}
    assert all(entry["followed"] for entry in result.meta["streams"].values())


def test_resampled_shards_cannot_be_followed(shards: Any, quick: Any) -> None:
    def make(side: str) -> Any:
        return shards(side, resampled=True).shuffle(50).to_tuple(*KEYS).with_epoch(8)

    auditor, sides = Auditor(scorer=quick, batch_size=4), (make("in"), make("out"))
    results = [auditor.run(nn.Identity(), *sides) for _ in range(2)]
    assert any("They cannot be followed over epochs" in note for note in results[1].meta["notes"])


def test_a_broken_sample_ends_the_stream_and_the_advice_mends_it(shards: Any, quick: Any) -> None:
    def truncated(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["__key__"] == "in003":
            raise OSError("truncated")
        return sample

    auditor = Auditor(scorer=quick, batch_size=4)
    out = shards("out").to_tuple(*KEYS)
    with pytest.raises(RuntimeError, match=r"ended at its sample 3 with OSError.*webdataset\.ignore_and_continue"):
        auditor.run(nn.Identity(), shards("in").map(truncated).to_tuple(*KEYS), out)
    handled = shards("in").map(truncated, handler=wds.ignore_and_continue).to_tuple(*KEYS)
    assert auditor.run(nn.Identity(), handled, out).member.sum() == SIZE - 1


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self(batch[0]) - batch[1]).abs().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_l1", (self(batch[0]) - batch[1]).abs().mean(), batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_training_is_unchanged_where_the_audit_reads_its_stream(
    shards: Any, quick: Any, same_with_and_without: Any
) -> None:
    """The pipeline counts its epochs, and shuffles by them."""
    audit = MembershipAudit([0], [0], scorer=quick, batch_size=4)

    def build() -> Any:
        members = shards("in", shardshuffle=10, detshuffle=True, seed=0).to_tuple(*KEYS)
        members = members.compose(wds.detshuffle(50, seed=0))
        audit.members, audit.nonmembers = members, shards("out").to_tuple(*KEYS)
        return Net(), {
            "train_dataloaders": DataLoader(members, 4),
            "val_dataloaders": DataLoader(audit.nonmembers, 4),
        }

    same_with_and_without(build, audit)
    assert content(audit.history[0]) == content(audit.history[1])
