from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)
from torch.utils.data.distributed import DistributedSampler

from mia_lightning.audit import isolation
from mia_lightning.audit.loading import Side, Source


class Numbers(Dataset):
    def __init__(self, size: int = 11) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return torch.tensor([float(index)])


class Stream(IterableDataset):
    def __init__(self, size: int = 11) -> None:
        self.size = size

    def __iter__(self) -> Any:
        return (torch.tensor([float(i)]) for i in range(self.size))


def side(source: Source, **changes: Any) -> Side:
    settings = {"max_samples": None, "batch_size": 4, "num_workers": 0, "seed": 0}
    return Side("member", source, **(settings | changes))


def read(source: Side, rank: int = 0, world: int = 1) -> list[int]:
    """Places read; each must hold what stands there."""
    places: list[int] = []
    for positions, batch in source.batches(rank, world):
        assert batch.flatten().tolist() == positions
        places += positions
    return places


@pytest.mark.parametrize(
    "source",
    [
        Numbers(),
        [torch.tensor([float(i)]) for i in range(11)],
        Stream(),
        DataLoader(Numbers(), batch_size=4, shuffle=True, drop_last=True),
        DataLoader(Numbers(), sampler=SequentialSampler(Numbers())),
        DataLoader(Numbers(), sampler=DistributedSampler(Numbers(), num_replicas=2, rank=1)),
        DataLoader(Numbers(), batch_sampler=BatchSampler(RandomSampler(Numbers()), 4, drop_last=True)),
        DataLoader(Stream(), batch_size=3, drop_last=True),
    ],
)
def test_every_sample_is_read_once_and_in_order(source):
    assert read(side(source)) == list(range(11))


@pytest.mark.parametrize("world", [1, 2, 3, 20])
@pytest.mark.parametrize("source", [Numbers(), Stream()])
def test_processes_share_whole_batches_out(world, source):
    """A batch holds the same samples on any number of processes: the same arithmetic, the same numbers."""
    alone = [positions for positions, _ in side(source).batches()]
    assert alone == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    shares = [[positions for positions, _ in side(source).batches(rank, world)] for rank in range(world)]
    assert shares == [alone[rank::world] for rank in range(world)]
    assert sorted(chain.from_iterable(read(side(source), rank, world) for rank in range(world))) == list(range(11))


@pytest.mark.parametrize(
    "subset", [SubsetRandomSampler([9, 2, 5]), BatchSampler(SubsetRandomSampler([9, 2, 5]), 2, False)]
)
def test_a_subset_stays_a_subset(subset):
    where = {"batch_sampler": subset} if isinstance(subset, BatchSampler) else {"sampler": subset}
    assert read(side(DataLoader(Numbers(), **where))) == [2, 5, 9]


class Every(Sampler):
    def __iter__(self) -> Any:
        return iter([[0, 1]])


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ({"sampler": WeightedRandomSampler([1.0] * 11, 5)}, "WeightedRandomSampler"),
        ({"sampler": [1, 2, 3]}, "list"),
        ({"batch_sampler": Every()}, "Every"),
        ({"batch_sampler": BatchSampler(WeightedRandomSampler([1.0] * 11, 5), 2, False)}, "WeightedRandomSampler"),
    ],
)
def test_a_sampler_that_does_not_tell_its_samples_is_refused(where, name):
    with pytest.raises(ValueError, match=f"sampler, {name}, does not tell which samples it takes.*Subset"):
        side(DataLoader(Numbers(), **where))


def test_the_size_of_a_batch_sampler_is_kept():
    loader = DataLoader(Numbers(), batch_sampler=BatchSampler(RandomSampler(Numbers()), 3, drop_last=False))
    assert [positions for positions, _ in side(loader).batches()] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]


def test_the_subset_is_seeded_sorted_and_the_same_at_every_audit():
    first = read(side(Numbers(100), max_samples=10))
    assert len(set(first)) == 10
    assert first == sorted(first) == read(side(Numbers(100), max_samples=10))
    assert first != list(range(10))
    assert first != read(side(Numbers(100), max_samples=10, seed=1))
    shares = [read(side(Numbers(100), max_samples=10), rank, 3) for rank in range(3)]
    assert sorted(chain.from_iterable(shares)) == first


def test_a_subset_of_a_subset_counts_positions_in_the_data_set():
    loader = DataLoader(Numbers(100), sampler=SubsetRandomSampler(range(50, 70)))
    places = read(side(loader, max_samples=5))
    assert len(places) == 5
    assert set(places) <= set(range(50, 70))


def test_a_stream_ends_at_the_limit():
    endless = Stream(10**9)
    assert read(side(endless, max_samples=7)) == list(range(7))
    assert sorted(read(side(endless, max_samples=7), 0, 2) + read(side(endless, max_samples=7), 1, 2)) == list(range(7))


def test_lengths_are_told_where_known():
    assert (len(side(Numbers(), max_samples=5)), len(side(Stream()))) == (5, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generator_is_left_alone(workers):
    before = torch.get_rng_state()
    assert read(side(Numbers(), num_workers=workers)) == list(range(11))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_read_by_workers_is_not_repeated():
    assert read(side(DataLoader(Stream(), batch_size=3, num_workers=2))) == list(range(11))


@pytest.mark.parametrize("empty", [Numbers(0), [], DataLoader(Numbers(0)), Subset(Numbers(), [])])
def test_an_empty_side_is_refused(empty):
    with pytest.raises(ValueError, match="There are no members: the member data set is empty"):
        side(empty)


def test_an_empty_stream_is_refused():
    with pytest.raises(ValueError, match="There are no members: the member data set is empty"):
        side(Stream(0)).first()


@pytest.mark.parametrize("source", [3, None, "folder", {}])
def test_what_cannot_be_read_is_refused(source):
    with pytest.raises(TypeError, match=f"Dataset or a DataLoader of members, but got {type(source).__name__}"):
        side(source)


def test_samples_of_different_size_name_their_positions():
    sizes = [torch.zeros(3, 8, 8)] * 5 + [torch.zeros(3, 8, 9)]
    message = r"members at positions 4 to 5 differ in size.*batch_size=1"
    with pytest.raises(ValueError, match=message):
        list(side(sizes).batches())
    assert len(list(side(sizes, batch_size=1).batches())) == 6


def test_other_errors_of_the_data_pass_unchanged():
    class Broken(Numbers):
        def __getitem__(self, index: int) -> Tensor:
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        list(side(Broken()).batches())


def test_one_sample_is_read_by_its_position():
    assert side(Numbers()).item(7).tolist() == [[7.0]]
    assert Subset(Numbers(), [4])[0].tolist() == [4.0]
    assert side(Subset(Numbers(), [4, 6])).item(1).tolist() == [[6.0]]


class Buckets(BatchSampler):
    def __iter__(self) -> Iterator[list[int]]:
        yield [0, 1]


class HalfRandom(RandomSampler):
    def __iter__(self) -> Iterator[int]:
        return iter([0, 1])


class HalfDistributed(DistributedSampler):
    def __iter__(self) -> Iterator[int]:
        return iter([0, 1])


class HalfSubset(SubsetRandomSampler):
    def __iter__(self) -> Iterator[int]:
        return iter([0])


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": SequentialSampler(range(3))},
        {"sampler": RandomSampler(range(3))},
        {"batch_sampler": Buckets(SequentialSampler(Numbers()), 2, False)},
        {"sampler": HalfRandom(Numbers())},
        {"sampler": HalfSubset([0, 1])},
        {"sampler": HalfDistributed(Numbers(), num_replicas=2, rank=0)},
        {"sampler": DistributedSampler(Numbers(3), num_replicas=2, rank=0)},
    ],
)
def test_samplers_that_take_a_part_are_not_guessed_at(options):
    name = type(next(iter(options.values()))).__name__
    with pytest.raises(ValueError, match=rf"sampler, {name}, does not tell which samples it takes"):
        side(DataLoader(Numbers(), **options))


class Boxes(Numbers):
    """Read by boxes, of which a tensor, or one among others, is a key."""

    def __getitem__(self, box: Any) -> Tensor:
        return torch.as_tensor(box["at"][0] if isinstance(box, dict) else box)[:1].float()


class DrawsBoxes(Sampler):
    def __init__(self, make: Any, random: bool) -> None:
        self.make, self.random = make, random

    def __iter__(self) -> Any:
        return (self.make(torch.rand(4) if self.random else torch.full((4,), float(i))) for i in range(5))


@pytest.mark.parametrize("make", [Tensor.clone, Tensor.numpy, lambda box: {"at": (box, "epsg")}])
@pytest.mark.parametrize("random", [False, True])
def test_boxes_are_drawn_once_and_it_is_said_where_the_training_draws_others(make, random):
    one = side(DataLoader(Boxes(), batch_size=2, sampler=DrawsBoxes(make, random)))
    assert len(one) == 5
    assert [n.startswith("DrawsBoxes draws other pieces of the members each time") for n in one.notes] == [
        True
    ] * random


class Cuts(Numbers):
    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.RandomState(0)

    def __getitem__(self, index: int) -> Any:
        return [{"image": torch.tensor(self.generator.rand(1, 2, 2))} for _ in range(2)]


def test_generators_of_random_crops_are_sought_once_a_side(monkeypatch):
    data, searches, reached = Cuts(), [], isolation._reached
    monkeypatch.setattr(isolation, "_reached", lambda *of: searches.append(data in of) or reached(*of))
    one = side(data)
    first, second = ([batch["image"] for _, batch in one.batches()] for _ in range(2))
    assert all(map(torch.equal, first, second))
    assert len({float(image.sum()) for batch in first for image in batch}) == 22
    assert sum(searches) == 2


def generated(count: int = 11) -> Iterator[Tensor]:
    return (torch.tensor([float(i)]) for i in range(count))


@pytest.mark.parametrize("world", [1, 3])
def test_a_generator_is_read_once_and_as_it_goes(world):
    """Each process has its own; none is asked for more than it was told to read."""
    places = []
    for rank in range(world):
        items = generated()
        one = side(items, max_samples=9, num_workers=2)
        assert one.first().tolist() == [[0.0]]
        places += read(one, rank, world)
        assert [float(rest) for rest in items] == [9.0, 10.0]
    assert sorted(places) == list(range(9))


def test_the_beginning_is_spread_over_a_side_and_read_again():
    assert [batch.item() for batch in side(Numbers()).beginning(4)] == [0.0, 2.0, 5.0, 8.0]
    assert [batch.item() for batch in side(Numbers()).beginning(20)] == [*range(11)]
    assert [batch.item() for batch in side(Stream()).beginning(3)] == [0.0, 1.0, 2.0]
    items = generated()
    one = side(items, max_samples=2)
    assert [batch.item() for batch in one.beginning(3)] == [0.0, 1.0]
    assert read(one) == [0, 1]
    assert next(items).item() == 2.0


def test_a_generator_that_was_read_is_empty():
    items = generated()
    assert read(side(items)) == list(range(11))
    with pytest.raises(ValueError, match="There are no members"):
        side(items).first()


def test_prepared_batches():
    double = side(Numbers(), prepare=lambda batch: 2 * batch)
    assert double.first().tolist() == [[0.0]]
    assert double.item(3).tolist() == [[6.0]]
    assert [batch.flatten().tolist() for _, batch in double.batches(1, 3)] == [[8.0, 10.0, 12.0, 14.0]]


def test_what_cannot_be_collated_in_dicts_is_kept_as_lists():
    """Bounding boxes differ in number, and coordinate systems are objects."""
    items = [
        {"image": torch.zeros(3, 4, 4), "mask": torch.ones(4, 4), "crs": object(), "boxes": torch.zeros(n, 4)}
        for n in (1, 2)
    ]
    batch = side(items).first()
    assert batch["crs"] == [items[0]["crs"]]
    assert batch["boxes"].shape == (1, 1, 4)
    ((_, batch),) = side(items).batches()
    assert {k: v.shape for k, v in batch.items() if isinstance(v, Tensor)} == {
        "image": (2, 3, 4, 4),
        "mask": (2, 4, 4),
    }
    assert [len(boxes) for boxes in batch["boxes"]] == [1, 2]


def test_pictures_of_different_size_in_dicts_are_told():
    items = [{"image": torch.zeros(3, n, 4), "mask": torch.ones(n, 4)} for n in (4, 5)]
    with pytest.raises(ValueError, match="members at positions 0 to 1 differ in size"):
        list(side(items).batches())


@pytest.mark.parametrize("items", [[object()], [{"crs": object()}], [(torch.zeros(1), object())]])
def test_what_cannot_be_collated_at_all_fails_as_it_would_in_a_loader(items):
    with pytest.raises(TypeError, match="default_collate: batch must contain tensors"):
        side(items).first()


@dataclass
class Label:
    mask: Tensor
    name: str | None = None


def test_what_is_none_or_an_object_in_tuples_and_dicts_is_collated():
    x, y = torch.rand(3, 3, 4, 4), torch.ones(3, 4, 4)
    ((_, batch),) = side([(x[i], y[i], None) for i in range(3)]).batches()
    assert torch.equal(batch[1], y)
    assert batch[2] == [None] * 3
    ((_, batch),) = side([(x[i], (y[i], None)) for i in range(3)]).batches()
    assert torch.equal(batch[1][0], y)
    ((_, batch),) = side([(x[i], Label(y[i])) for i in range(3)]).batches()
    assert torch.equal(batch[1]["mask"], y)
    ((_, batch),) = side([{"image": x[i], "label": Label(y[i])} for i in range(3)]).batches()
    assert torch.equal(batch["label"]["mask"], y)


@pytest.mark.parametrize("as_dict", [True, False])
def test_a_sample_without_a_target_is_named(as_dict):
    x, y = torch.rand(3, 3, 4, 4), torch.ones(4, 4)
    items = [(image, None if number == 1 else y) for number, image in enumerate(x)]
    key = "mask" if as_dict else 1
    samples = [{"image": image, "mask": mask} for image, mask in items] if as_dict else items
    with pytest.raises(TypeError, match=f"The member at position 1 has None as {key!r}. Pass .* collate_fn .*named"):
        list(side(samples).batches())


def test_numbers_are_not_named_in_place_of_what_cannot_be_collated():
    samples = [(torch.rand(3, 4, 4), np.int64(1), np.float32(0.5), object()) for _ in range(3)]
    with pytest.raises(TypeError, match="at position 0 has a object as 3"):
        list(side(samples).batches())


class Buffered(Dataset[Tensor]):
    """Writes each sample into the same memory."""

    def __init__(self) -> None:
        self.buffer = torch.zeros(3, 4, 4)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        if index >= len(self):
            raise IndexError
        return self.buffer.fill_(index)


def test_samples_in_memory_that_is_used_again_keep_their_values():
    for source in (Buffered(), iter(Buffered())):
        read = side(source)
        assert [int(batch[0, 0, 0, 0]) for batch in read.beginning(3)] in ([0, 4, 8], [0, 1, 2])
        assert [int(x[0, 0, 0]) for _, batch in read.batches() for x in batch] == list(range(12))


def test_a_loader_of_ready_made_batches_is_refused():
    loader = DataLoader([torch.zeros(2, 3)], batch_size=None)
    with pytest.raises(ValueError, match="batch_size=None: its data set hands out ready-made batches"):
        Side("member", loader, max_samples=None, batch_size=2, num_workers=0, seed=0)


class Gaps(Dataset):
    """Images that hold their own numbers; of some there is nothing, or less than the collation asks for."""

    def __init__(self, size: int = 11, gaps: tuple[int, ...] = (), dark: tuple[int, ...] = ()) -> None:
        self.size, self.gaps, self.dark = size, gaps, dark

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        if index in self.gaps:
            return None
        image = torch.full((1, 4, 4), float(index))
        return image, torch.zeros(4, 4) if index in self.dark else image[0] + 1


def some(items: list[Any]) -> Any:
    return default_collate([item for item in items if item is not None])


def bright(items: list[Any]) -> Any:
    """Drops samples with an empty mask."""
    return default_collate([item for item in items if item[1].any()])


def crops(items: list[Any]) -> Any:
    return default_collate([item for item in items for _ in range(2)])


@pytest.mark.parametrize("collate", [None, some])
@pytest.mark.parametrize("gaps", [(5,), (0,), (10,), (0, 1, 2, 3), (2, 7, 8)])
@pytest.mark.parametrize("world", [1, 2])
def test_samples_that_are_none_are_noted_and_the_others_keep_their_places(collate, gaps, world):
    found, missing = [], []
    for rank in range(world):
        data = Gaps(gaps=gaps)
        one = side(data if collate is None else DataLoader(data, 4, collate_fn=collate))
        for positions, (images, _) in one.batches(rank, world):
            assert images[:, 0, 0, 0].tolist() == positions
            found += positions
        missing += one.left_out
    assert sorted(missing) == list(gaps)
    assert sorted(found) == [i for i in range(11) if i not in gaps]
    assert float(one.first()[0].flatten()[0]) == min(found)


@pytest.mark.parametrize("dark", [(5,), (0,), (0, 1, 3), (2, 7, 8)])
def test_samples_that_the_collation_drops_are_found_one_by_one(dark):
    one = side(DataLoader(Gaps(dark=dark), 4, collate_fn=bright))
    for positions, (images, _) in one.batches():
        assert images[:, 0, 0, 0].tolist() == positions
    assert one.left_out == list(dark)


def test_samples_that_the_collation_multiplies_are_left_as_they_are():
    """Who reads the batch refuses it: which row is whose cannot be told."""
    one = side(DataLoader(Gaps(), 4, collate_fn=crops))
    assert [(len(positions), len(batch[0])) for positions, batch in one.batches()] == [(4, 8), (4, 8), (3, 6)]
    assert one.left_out == []


def test_the_opening_is_bounded_and_has_the_batches_of_the_audit():
    assert [p for p, _ in side(Numbers(100)).opening(10)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [len(p) for p, _ in side(Numbers(100), batch_size=64).opening(10)] == [20]
    assert [p for p, _ in side(Stream(), num_workers=2).opening(6)] == [[0, 1, 2, 3], [4, 5]]


def test_a_side_of_nothing_is_refused():
    with pytest.raises(ValueError, match="There are no members"):
        side(Gaps(3, gaps=(0, 1, 2))).first()


@pytest.mark.parametrize(
    "collate", [lambda items: default_collate(items[::-1]), lambda items: default_collate(items[1:] + items[:1])]
)
def test_a_collation_that_changes_the_order_is_refused(collate):
    images = [(torch.full((1, 4, 4), float(i)), torch.zeros(4, 4)) for i in range(6)]
    loader = DataLoader(images, batch_size=3, collate_fn=collate)
    with pytest.raises(ValueError, match=r"The member at position \d came in the row .* changes the order"):
        list(side(loader).batches())


def test_samples_that_are_drawn_anew_are_in_no_other_order():
    class Drawn(Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return torch.rand(1, 4, 4), torch.zeros(4, 4)

    batches = list(side(DataLoader(Drawn(), batch_size=3, collate_fn=lambda items: default_collate(items))).batches())
    assert [positions for positions, _ in batches] == [[0, 1, 2], [3, 4, 5]]


def test_a_sample_that_ends_an_iteration_does_not_end_the_side():
    class Ending(Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            if index == 4:
                raise StopIteration
            return torch.zeros(1, 4, 4), torch.zeros(4, 4)

    with pytest.raises(RuntimeError, match="raised StopIteration for the sample at position 4"):
        list(side(Ending(), batch_size=2).batches())
