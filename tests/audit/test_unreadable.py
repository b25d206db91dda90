"""Samples that cannot be read: left out and named, up to a share of a side, whatever the kind of the data set."""

from __future__ import annotations

import multiprocessing
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sweeps import latin
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mia_lightning.audit.auditor import Auditor
from mia_lightning.audit.loading import Side
from mia_lightning.audit.unreadable import Unreadable, read_sample, read_stream
from mia_lightning.membership.record import record_sides
from mia_lightning.membership.sample_contents import Samples


class Scorer:
    """The mean of the target: costs nothing."""

    def fingerprint(self) -> str:
        return "mean"

    def __call__(self, input: Tensor, target: Tensor, task: str, **options: Any) -> Tensor:
        return target.flatten(1).mean(1)


class Pairs(Dataset):
    """Pairs that hold their own numbers; some raise."""

    def __init__(self, size: int = 40, broken: tuple[int, ...] = (), error: type[BaseException] = OSError) -> None:
        self.size, self.broken, self.error = size, broken, error

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index >= self.size:
            raise IndexError(index)
        if index in self.broken:
            raise self.error(f"image {index} is truncated")
        return torch.full((1, 4, 4), index / 512), torch.full((1, 4, 4), index / 1024)


class Rows(IterableDataset):
    """The same as an iterator that goes on after an error."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __iter__(self) -> Iterator[Any]:
        return map(self.pairs.__getitem__, range(len(self.pairs)))


class Generated(Rows):
    """The same as a generator, which an error ends."""

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self.pairs)):
            yield self.pairs[index]


pytestmark = pytest.mark.filterwarnings("ignore:The model does no better", "ignore:.*are also among the")


def auditor(**settings: Any) -> Auditor:
    return Auditor(scorer=Scorer(), batch_size=4, task="translation", **settings)


def source(kind: str, pairs: Pairs, workers: int) -> Any:
    data = {"map": pairs, "iterable": Rows(pairs), "generator": Generated(pairs)}[kind]
    return DataLoader(data, 4, num_workers=workers)


WHOLE = auditor().run(nn.Identity(), Pairs(), Pairs(20))


PLACES = [(0,), (5,), (38,), (4, 5), (0, 20)]
KINDS = latin(2, ["map", "iterable"], [0], PLACES)


@pytest.mark.parametrize(("kind", "workers", "broken"), [*KINDS, ("map", 2, (0,)), ("iterable", 1, (4, 5))])
def test_few_are_left_out_by_name_and_the_others_keep_their_numbers(kind: str, workers: int, broken: Any) -> None:
    members = source(kind, Pairs(broken=broken), workers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        auditor().check(nn.Identity(), members, Pairs(20))
    first = f"Samples of the members cannot be read: member-0000{broken[0]:02d}: it could not be read (OSError"
    assert [str(w.message).startswith(first) for w in caught] == [True] * (broken[0] < 32)  # the first batches
    result = auditor().run(nn.Identity(), members, Pairs(20))
    assert result.excluded == [
        {
            "id": f"member-{i:06d}",
            "side": "member",
            "reason": f"it could not be read (OSError: image {i} is truncated)",
        }
        for i in broken
    ]
    kept = [i for i in range(60) if i not in broken]
    assert result.ids == [WHOLE.ids[i] for i in kept]
    np.testing.assert_array_equal(result.errors["reconstruction"], WHOLE.errors["reconstruction"][kept])
    assert result.positions.tolist() == WHOLE.positions[kept].tolist()


@pytest.mark.parametrize(("kind", "workers"), [("map", 0), ("map", 2), ("iterable", 0), ("iterable", 1)])
def test_more_than_a_twentieth_fail_as_they_are_with_a_note_of_count_and_names(kind: str, workers: int) -> None:
    members, others = source(kind, Pairs(broken=(1, 7, 33)), workers), {*multiprocessing.active_children()}
    with pytest.raises(OSError, match=r"^image 1 is truncated") as failed:
        auditor().run(nn.Identity(), members, Pairs(20))
    # Each would be waited for, some seconds, wherever it is collected.
    assert not {*multiprocessing.active_children()} - others
    (note,) = failed.value.__notes__
    assert str(failed.value) == "image 1 is truncated"
    assert note.startswith("At least 3 of 40 members cannot be read, which is more than 5%: member-000001, member-")


@pytest.mark.parametrize(("size", "broken", "fails"), [(20, 1, False), (19, 1, True), (39, 2, True), (60, 3, False)])
def test_the_share_is_that_of_the_audited_side(size: int, broken: int, fails: bool) -> None:
    nonmembers = Pairs(size, tuple(range(broken)))
    if fails:
        with pytest.raises(OSError, match="truncated"):
            auditor().run(nn.Identity(), Pairs(20), nonmembers)
    else:
        result = auditor().run(nn.Identity(), Pairs(20), nonmembers)
        assert [e["id"] for e in result.excluded] == [f"nonmember-{i:06d}" for i in range(broken)]


def test_a_subset_counts_its_own_samples() -> None:
    data = Pairs(400, tuple(range(0, 400, 30)))
    result = auditor(max_samples=100, seed=2).run(nn.Identity(), data, Pairs(20))
    assert 0 < len(result.excluded) <= 5
    assert all(int(e["id"].split("-")[1]) in data.broken for e in result.excluded)
    assert len(result.excluded) + int(result.member.sum()) == 100


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("place", [0, 9, 39])
def test_a_generator_that_raises_is_over_and_the_message_says_what_to_do(workers: int, place: int) -> None:
    members = source("generator", Pairs(broken=(place,)), workers)
    with pytest.raises(RuntimeError, match=rf"stream of members ended at its sample {place} with OSError.*yield None"):
        auditor().run(nn.Identity(), members, Pairs(20))


def test_the_advice_of_that_message_works() -> None:
    class Careful(Generated):
        def __iter__(self) -> Iterator[Any]:
            for index in range(len(self.pairs)):
                try:
                    yield self.pairs[index]
                except OSError:
                    yield None

    result = auditor().run(nn.Identity(), Careful(Pairs(broken=(3,))), Pairs(20))
    assert [e["id"] for e in result.excluded] == ["member-000003"]
    assert result.member.sum() == 39


def test_an_iterator_that_stops_after_an_error_may_have_lost_samples() -> None:
    class Wrapped(Generated):
        def __iter__(self) -> Iterator[Any]:
            return map(tuple, super().__iter__())

    with pytest.raises(RuntimeError, match="ended at its sample 9"):
        auditor().run(nn.Identity(), Wrapped(Pairs(broken=(9,))), Pairs(20))


def test_an_iterator_that_raises_again_and_again_comes_to_an_end() -> None:
    def fail(index: int) -> Any:
        raise OSError("connection lost")

    items = list(read_stream(map(fail, iter(int, 1))))
    assert len(items) < 40
    assert [item.ends for item in items] == [False] * (len(items) - 1) + [True]


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", ["map", "iterable"])
def test_failures_of_the_machine_pass(kind: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        auditor().run(nn.Identity(), source(kind, Pairs(broken=(5,), error=error), 0), Pairs(20))


@pytest.mark.parametrize("size", [40, 400])
def test_a_side_that_cannot_be_read_at_all_fails_at_once(size: int) -> None:
    class Counting(Pairs):
        reads = 0

        def __getitem__(self, index: int) -> Any:
            self.reads += 1
            raise PermissionError("not yours")

    data = Counting(size)
    with pytest.raises(PermissionError, match="not yours"):
        auditor().check(nn.Identity(), Pairs(20), data)
    assert data.reads == size // 20 + 1


def test_keys_of_the_training_pass_failures_of_the_machine_on() -> None:
    with pytest.raises(MemoryError):
        Samples("member", Pairs(broken=(5,), error=MemoryError)).contents(1.0, b"")


def test_names_of_files_stay_short_where_one_cannot_be_read(tmp_path: Any) -> None:
    class Files(Pairs):
        def __getitem__(self, index: int) -> Any:
            x, y = super().__getitem__(index)
            return {"image": x, "target": y, "path": str(tmp_path / f"{index}.png")}

    result = auditor().run(nn.Identity(), Files(broken=(2,)), Files(20))
    assert result.ids[:3] == ["0.png", "1.png", "3.png"]
    assert [e["id"] for e in result.excluded] == ["member-000002"]


class Odd(Exception):
    """Cannot be made anew from its message."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.handle = lambda: None


def test_errors_travel_out_of_workers() -> None:
    assert isinstance(pickle.loads(pickle.dumps(Unreadable(OSError("a")))).error, OSError)
    other = pickle.loads(pickle.dumps(Unreadable(Odd(1, 2))))
    assert other.reason == "it could not be read (RuntimeError: Odd: 1 and 2)"


def test_reasons_are_one_line_of_bounded_length() -> None:
    reason = Unreadable(ValueError("a\nb " + "c" * 1000)).reason
    assert reason.startswith("it could not be read (ValueError: a b cc")
    assert len(reason) < 250


def test_a_loader_and_a_sample_alone() -> None:
    side = Side("member", Pairs(broken=(3,)), max_samples=None, batch_size=4, num_workers=0, seed=0)
    assert next(positions for positions, _ in side.batches()) == [0, 1, 2]
    assert isinstance(read_sample(side.dataset, 3), Unreadable)
    with pytest.raises(OSError, match="truncated"):
        side.item(3)


def test_keys_of_the_training_are_kept_of_what_can_be_read() -> None:
    summary, record = record_sides(Pairs(broken=(3,)), Pairs(20), {}, None)
    assert summary.reason is None
    assert record is not None
    assert [len(record.keys[side]) for side in ("members", "nonmembers")] == [39, 20]
    again, _ = record_sides(Pairs(broken=(3,)), Pairs(20), {}, None)
    assert Samples("member", Pairs(broken=(3,))).contents(1.0, b"").digests
    assert again.sizes == summary.sizes == {"members": 40, "nonmembers": 20}
    broken, none = record_sides(Pairs(broken=(3, 4, 5)), Pairs(20), {}, None)
    assert none is None
    assert "OSError: image 3 is truncated" in str(broken.reason)
