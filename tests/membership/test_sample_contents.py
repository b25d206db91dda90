"""What tells samples apart: bytes of files, values in memory, and what a data set returns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from mia_lightning.membership import sample_contents
from mia_lightning.membership.record import digest_of, keys_of, record_sides
from mia_lightning.membership.sample_contents import NotComparableError, Samples

SALT = bytes(16)


class Folder(Dataset):
    """Somebody's own data set of files, which augments."""

    def __init__(self, paths, masks=()):
        self.paths, self.masks = list(paths), list(masks)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return torch.rand(3, 4, 4), torch.rand(3, 4, 4)


class Noisy(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.rand(3, 4, 4), torch.rand(3, 4, 4)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.rand(3, 4, 4), torch.rand(3, 4, 4))])


class Made(Dataset):
    """Items that are made when they are asked for, always alike, in many forms."""

    def __init__(self, count=6):
        self.count, self.reads = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        return {
            "image": torch.full((2, 2), float(index)),
            "mask": np.full((2, 2), index),
            "id": f"m{index}",
            "n": index,
        }


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{i}.bin" for i in range(6)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * 50)
    return paths


def test_files_are_found_in_data_sets_of_others(files):
    samples = Samples("member", Folder(files[:3], [str(path) for path in files[3:]]))
    assert samples.kind == "files"
    contents = samples.contents(1.0, SALT)
    assert contents.names == ("0", "1", "2")
    assert len(set(contents.digests)) == 3
    swapped = Samples("member", Folder(files[3:], files[:3])).contents(1.0, SALT)
    assert swapped.digests == contents.digests, "which file is the input is a matter of settings"
    files[4].write_bytes(b"changed")
    changed = Samples("member", Folder(files[:3], files[3:])).contents(1.0, SALT)
    assert [a == b for a, b in zip(changed.digests, contents.digests, strict=True)] == [True, False, True]


def test_subsets_concatenations_and_loaders_are_looked_through(files):
    whole = Samples("member", Folder(files)).contents(1.0, SALT)
    parts = ConcatDataset([Folder(files[:2]), Subset(Folder(files), [2, 3, 4, 5])])
    for source in (parts, DataLoader(parts, batch_size=4, shuffle=True)):
        assert Samples("member", source).contents(1.0, SALT).digests == whole.digests


def test_tensors_are_taken_before_what_a_data_set_makes_of_them():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return tuple(2 * torch.rand(()) * t for t in super().__getitem__(index))

    tensors = torch.rand(2, 5, 3, 4, 4)
    plain, doubled = (Samples("member", kind(*tensors)) for kind in (TensorDataset, Doubled))
    assert plain.kind == doubled.kind == "arrays"
    assert plain.contents(1.0, SALT).digests == doubled.contents(1.0, SALT).digests


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_values_of_any_type_count_with_their_type_and_shape(dtype):
    values = (torch.rand(4, 2, 3) * 9).to(dtype)
    sources = values, values.reshape(4, 3, 2), values.to(torch.complex64), 1 - values.to(torch.float32)
    found = [Samples("member", TensorDataset(v)).contents(1.0, SALT).digests for v in sources]
    assert len(set(found)) == 4


def test_items_are_read_alike_and_leave_no_trace():
    torch.manual_seed(3)
    before, made = torch.get_rng_state(), Made()
    first, second = (Samples("member", made).contents(1.0, SALT) for _ in range(2))
    assert first == second
    assert len(set(first.digests)) == 6
    with pytest.raises(NotComparableError, match="other values each time"):
        Samples("member", Noisy()).contents(1.0, SALT)
    assert torch.equal(before, torch.get_rng_state())


def test_what_has_no_keys_says_why():
    for source, reason in ((Noisy(), "other values each time"), (Stream(), "a stream")):
        summary, record = record_sides(source, source, {}, None)
        assert record is None
        assert summary.digests == {}
        assert reason in str(summary.reason)


def test_a_data_set_that_fails_ends_nothing(files):
    files[0].unlink()
    summary, record = record_sides(Folder(files[1:] + files[:1]), Folder(files[1:]), {}, None)
    assert record is None
    assert "could not be read when it began (FileNotFoundError" in str(summary.reason)


def test_large_sides_are_stood_for_by_a_sample_within_the_limits(monkeypatch, files):
    monkeypatch.setattr(sample_contents, "MOST_ITEMS", 20)
    large = Made(400)
    summary, record = record_sides(large, Made(400), {}, None)
    assert summary.share == 20 / 400
    assert summary.sizes == {"members": 400, "nonmembers": 400}
    assert 5 <= len(record.keys["members"]) <= 45
    assert large.reads <= 46, "the first is read twice"
    monkeypatch.setattr(sample_contents, "MOST_BYTES", 150)
    assert Samples("member", Folder(files)).share() == 0.5
    monkeypatch.setattr(sample_contents, "MOST_SAMPLES", 2)
    assert Samples("member", Folder(files)).share() == pytest.approx(1 / 3)


def test_samples_are_chosen_by_name_whatever_their_order(tmp_path):
    paths = [tmp_path / f"s{i:03d}.bin" for i in range(200)]
    for path in paths:
        path.write_text(path.name)
    some = Samples("member", Folder(paths)).contents(0.2, SALT)
    others = Samples("member", Folder(paths[::-1])).contents(0.2, SALT)
    assert 20 <= len(some.names) <= 60
    assert set(some.digests) == set(others.digests)
    assert digest_of(some, "00") == digest_of(others, "00") != digest_of(others, "01")
    assert Samples("member", Folder(paths)).contents(0.2, bytes([1] * 16)).names != some.names


def test_keys_depend_on_the_salt(files):
    contents = Samples("member", Folder(files)).contents(1.0, SALT)
    assert set(keys_of(contents, "00")).isdisjoint(keys_of(contents, "01"))
    assert not {digest.hex() for digest in contents.digests} & set(keys_of(contents, "00"))
