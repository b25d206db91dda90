"""Samples of streams are followed from audit to audit, whatever their order, or it is said that they cannot be."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sweeps import latin
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from mia_lightning import MembershipAudit
from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.stream_names import require_same

pytestmark = pytest.mark.filterwarnings("ignore:The model does no better", "ignore:The feature extractor")


class Scorer:
    """A number that tells the content of a target, and costs nothing."""

    def fingerprint(self) -> str:
        return "mean"

    def __call__(self, input: Tensor, target: Tensor, task: str, **options: Any) -> Tensor:
        return target.flatten(1).mean(1)


def pairs(seed: int, size: int = 12) -> list[tuple[Tensor, Tensor]]:
    values = torch.rand(size, 2, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return [(x, y) for x, y in values]


class Stream(IterableDataset):
    """In the same order each time."""

    def __init__(self, seed: int = 0, size: int = 12) -> None:
        self.items = pairs(seed, size)

    def __iter__(self) -> Iterator[Any]:
        return (self.items[i] for i in self.order())

    def order(self) -> Any:
        return range(len(self.items))


class GlobalDraws(Stream):
    def order(self) -> Any:
        kind = random.choice(["torch", "numpy"])
        return torch.randperm(12).tolist() if kind == "torch" else np.random.permutation(12).tolist()


class OwnGenerator(Stream):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def order(self) -> Any:
        return torch.randperm(12, generator=self.generator).tolist()


class Counted(Stream):
    epoch = 0

    def order(self) -> Any:
        self.epoch += 1
        return random.Random(self.epoch).sample(range(12), 12)


class Shuffled(Stream):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.places = list(range(12))

    def order(self) -> Any:
        random.Random(1).shuffle(self.places)  # a permutation of what the time before has left
        return list(self.places)


class Rearranged(Shuffled):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.places = np.arange(12)

    def order(self) -> Any:
        self.places = self.places[np.random.RandomState(0).permutation(12)]
        return self.places


class Unseeded(Stream):
    def order(self) -> Any:
        return random.SystemRandom().sample(range(12), 12)


KINDS = [Stream, GlobalDraws, OwnGenerator, Counted, Shuffled, Rearranged, Unseeded]


def auditor(**settings: Any) -> Auditor:
    return Auditor(scorer=Scorer(), batch_size=4, task="translation", **settings)


def content(result: Any) -> dict[str, float]:
    return dict(zip(result.ids, result.errors["predictability"].tolist(), strict=True))


@pytest.mark.parametrize(("kind", "workers"), latin(2, KINDS, [0, 1]))
def test_a_name_is_the_same_sample_at_each_audit(kind: Any, workers: int) -> None:
    members = DataLoader(kind(0), 4, num_workers=workers) if workers else kind(0)
    audits = auditor()
    results = [audits.run(nn.Identity(), members, pairs(1)) for _ in range(3)]
    results.append(auditor().run(nn.Identity(), members, pairs(1), history=results))  # resumed
    assert all(content(result) == content(results[0]) for result in results)
    assert len(content(results[0])) == 24
    assert all(result.ids == results[0].ids for result in results)
    by_place = kind in (Stream, GlobalDraws, OwnGenerator)  # what draws is seeded while an audit reads
    assert (results[0].ids[0] == "member-000000") is by_place
    assert results[0].meta["streams"]["member"]["followed"]
    assert not any("stream" in note for note in results[0].meta["notes"])


def test_those_of_a_changing_order_are_named_by_content_and_it_is_stated() -> None:
    result = auditor().run(nn.Identity(), Unseeded(), Stream(1))
    assert result.meta["streams"]["member"]["ids"] == "content"
    assert result.meta["streams"]["nonmember"]["ids"] == "position"
    assert "in another order each time: samples are named by their contents" in result.meta["interpretation"]["members"]
    assert "named by their places" in result.meta["interpretation"]["nonmembers"]
    assert all(len(name) == len("member-") + 12 for name in result.ids[:12])
    assert result.ids[12:] == [f"nonmember-{i:06d}" for i in range(12)]
    assert sorted(result.positions[:12].tolist()) == list(range(12))
    assert result.ids[:12] == auditor().run(nn.Identity(), Unseeded(), Stream(1)).ids[:12]


def test_equal_samples_are_told_apart() -> None:
    stream = Unseeded()
    stream.items = stream.items[:6] * 2
    first, second = (auditor().run(nn.Identity(), stream, Stream(1)) for _ in range(2))
    assert first.ids == second.ids
    assert len(set(first.ids)) == 24
    assert sum(name.endswith("-2") for name in first.ids) == 6


class OfEpoch(Stream):
    """Shuffled by an epoch that the training tells it."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def order(self) -> Any:
        return random.Random(self.epoch).sample(range(12), 12)


def test_a_stream_that_is_told_its_epoch_is_asked_for_the_next() -> None:
    stream, audits, results = OfEpoch(), auditor(), list[Any]()
    for epoch in range(3):
        stream.set_epoch(epoch)
        results.append(audits.run(nn.Identity(), stream, Stream(1), history=results))
        assert stream.epoch == epoch
    assert all(content(result) == content(results[0]) for result in results)
    assert results[0].ids[0] != "member-000000"


def test_another_order_than_in_the_audit_before_is_noticed() -> None:
    class OfSomethingElse(OfEpoch):
        set_epoch = None

    stream, audits = OfSomethingElse(), auditor()
    first = audits.run(nn.Identity(), stream, Stream(1))
    assert first.ids[0] == "member-000000"
    results = []
    for stream.epoch in (1, 2):
        results.append(audits.run(nn.Identity(), stream, Stream(1), history=[first, *results]))
    assert not set(first.ids[:12]) & set(results[0].ids)
    assert not results[0].meta["streams"]["member"]["followed"]
    assert any("another order, or other samples, than in the audit before" in n for n in results[0].meta["notes"])
    assert content(results[0]) == content(results[1])
    assert results[1].meta["streams"]["member"]["followed"]


def test_other_streams_are_not_taken_for_those_of_the_audit_before() -> None:
    audits = auditor()
    for seeds in ((0, 1), (2, 3)):
        result = audits.run(nn.Identity(), *map(Stream, seeds))
        assert result.meta["streams"]["member"]["followed"]
        assert result.ids[0] == "member-000000"
    changed, same = OfEpoch(2), Stream(3)
    changed.epoch = 1
    result = audits.run(nn.Identity(), changed, same)  # objects made anew, of the same samples as in the audit before
    assert result.meta["streams"]["member"]["named_by_place_before"]
    assert result.meta["streams"]["nonmember"]["followed"]


@pytest.mark.parametrize("kind", ["transforms", "part"])
def test_samples_that_cannot_be_followed_are_said_to_be_none_that_can(kind: str) -> None:
    class Transformed(Stream):
        def __iter__(self) -> Iterator[Any]:
            noise = random.SystemRandom()
            return ((x * noise.random(), y) for x, y in self.items)

    members, most = (Transformed(), None) if kind == "transforms" else (Unseeded(), 4)
    audits = auditor(max_samples=most)
    first, second = (audits.run(nn.Identity(), members, Stream(1)) for _ in range(2))
    for result in (first, second):
        assert not result.meta["streams"]["member"]["followed"]
        assert result.meta["streams"]["member"]["ids"] == "content"
        assert any("They cannot be followed over epochs" in note for note in result.meta["notes"])
    assert set(first.ids[: len(first.ids) // 2]) != set(second.ids[: len(second.ids) // 2])


def test_streams_with_ids_keep_them() -> None:
    class Named(Unseeded):
        def __iter__(self) -> Iterator[Any]:
            return ((*self.items[i], f"in{i:02d}") for i in self.order())

    result = auditor().run(nn.Identity(), Named(), Stream(1))
    assert sorted(result.ids[:12]) == [f"in{i:02d}" for i in range(12)]
    assert "member" not in result.meta["streams"]


@pytest.mark.parametrize(
    ("kind", "workers"),
    latin(2, [kind for kind in KINDS if kind is not Unseeded], [0, 1]),  # of it nobody can say
)
def test_a_stream_that_the_training_shares_goes_on_as_it_was(kind: Any, workers: int) -> None:
    def order(audited: bool) -> list[list[float]]:
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        stream, epochs = kind(0), []
        for _ in range(3):
            if audited:
                source = DataLoader(stream, 4, num_workers=workers)
                auditor().check(nn.Identity(), source, pairs(1))
                auditor().run(nn.Identity(), source, pairs(1))
            epochs.append([float(x[0, 0, 0]) for x, _ in stream])
        return epochs

    assert order(audited=True) == order(audited=False)


def test_histories_of_a_training_name_the_same_samples(tmp_path: Any) -> None:
    from lightning.pytorch import LightningModule, Trainer

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

        def training_step(self, batch: Any, _: int) -> Tensor:
            return (self(batch[0]) - batch[1]).abs().mean()

        def validation_step(self, batch: Any, _: int) -> None:
            self(batch[0])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    members = Counted(0)
    audit = MembershipAudit(members, pairs(1), scorer=Scorer(), batch_size=4, verbose=False)
    silent = {f"enable_{what}": False for what in ("checkpointing", "progress_bar", "model_summary")}
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, callbacks=[audit], default_root_dir=tmp_path, **silent
    )
    trainer.fit(Net(), DataLoader(members, 4), DataLoader(pairs(1), 4))
    assert len(audit.history) == 3
    assert all(content(result) == content(audit.history[0]) for result in audit.history)


def test_processes_must_read_alike() -> None:
    require_same([{"member": [{0: "a"}]}, {"member": [{0: "a"}]}])
    with pytest.raises(ValueError, match="stream of members gives other samples, or another order, on each process"):
        require_same([{"member": [{0: "a"}]}, {"member": [{0: "b"}]}])
