from __future__ import annotations

import multiprocessing
import os
import pickle
import sqlite3

import numpy as np
import pytest
import torch

from mia_lightning import Auditor, PredictabilityScorer
from mia_lightning.audit.cache import PredictabilityCache, content_keys
from mia_lightning.functional.picture_technique import technique_statistics

X = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])


def test_equal_content_has_equal_keys_wherever_it_stands():
    a, b, c = content_keys("s", X)
    assert a == c != b
    assert content_keys("s", X[2:]) == [a]
    assert content_keys("s", X.T.contiguous().T) == [a, b, c]


@pytest.mark.parametrize(
    "other",
    [
        X.double(),
        X.bfloat16(),
        X.to(torch.int32),
        X.view(torch.int32),
        X.unsqueeze(1),
        X.view(3, 1, 2),
        torch.nextafter(X, X + 1),
        X.flip(1),
        -X,
    ],
)
def test_any_difference_has_another_key(other):
    assert not set(content_keys("s", other)) & set(content_keys("s", X))


def test_keys_depend_on_settings_and_on_which_tensor_holds_what():
    assert not set(content_keys("t", X)) & set(content_keys("s", X))
    assert content_keys("s", X, X + 1) != content_keys("s", X + 1, X)
    assert content_keys("s", torch.zeros(1, 2)) != content_keys("s", -torch.zeros(1, 2))
    assert len(content_keys("s", torch.zeros(3), torch.zeros(3, 0, dtype=torch.bool))) == 3


@pytest.mark.parametrize("on_disk", [False, True])
def test_numbers_are_found_again(tmp_path, on_disk):
    cache = PredictabilityCache(tmp_path if on_disk else None)
    cache.put([b"a", b"b"], [0.1 + 0.2, 5e-324])
    assert cache.get([b"b", b"c", b"a"]) == [5e-324, None, 0.1 + 0.2]
    cache.put([b"a"], [2.0])
    assert cache.get([b"a"]) == [2.0]
    assert len(cache) == 2


def test_the_folder_outlives_the_process(tmp_path):
    PredictabilityCache(tmp_path / "deep" / "folder").put([b"a", b"b"], [0.1, float("nan")])
    again = PredictabilityCache(tmp_path / "deep" / "folder")
    assert again.get([b"a"]) == [0.1]
    assert PredictabilityCache().get([b"a"]) == [None]


def test_many_keys_are_looked_up_at_once(tmp_path):
    keys = [i.to_bytes(20, "big") for i in range(3000)]
    PredictabilityCache(tmp_path).put(keys, [float(i) for i in range(3000)])
    assert PredictabilityCache(tmp_path).get(keys[::-1]) == [float(i) for i in range(3000)][::-1]


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="as cache_dir, or leave cache_dir out"):
        PredictabilityCache(tmp_path / "file" / "cache")


@pytest.mark.parametrize("content", [b"SQLite format 3" * 300, b"id,split\n" * 300])
def test_a_file_that_is_no_cache_is_named(tmp_path, content):
    (tmp_path / "predictability.sqlite").write_bytes(content)
    with pytest.raises(ValueError, match=r"predictability\.sqlite is not a predictability cache .*delete it"):
        PredictabilityCache(tmp_path)


def test_a_write_that_is_cut_off_leaves_the_earlier_numbers(tmp_path):
    cache = PredictabilityCache(tmp_path)
    cache.put([b"a"], [1.0])
    with pytest.raises(sqlite3.Error, match="type 'object' is not supported"):
        cache.put([b"b", b"c"], [2.0, object()])
    assert PredictabilityCache(tmp_path).get([b"a", b"b"]) == [1.0, None]


def test_a_copy_in_another_process_opens_its_own_connection(tmp_path):
    cache = PredictabilityCache(tmp_path)
    cache.put([b"a"], [1.0])
    copied = pickle.loads(pickle.dumps(cache))
    copied.put([b"b"], [2.0])
    assert cache.get([b"b"]) == [2.0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_may_read_and_write(tmp_path):
    cache = PredictabilityCache(tmp_path)
    cache.put([b"a"], [1.0])
    inherited = cache._database()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            cache.put([b"b"], [cache.get([b"a"])[0] + 1])
            status = int(cache._database() is inherited)  # a connection must not cross a fork
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert cache.get([b"a", b"b"]) == [1.0, 2.0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_may_write_at_once(tmp_path):
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(2, timeout=60)

    def write(name: str) -> None:
        cache = PredictabilityCache(tmp_path)
        start.wait()
        for i in range(60):
            cache.put([f"{name}{i}".encode(), f"shared{i}".encode()], [float(i), float(i)])

    writers = [fork.Process(target=write, args=(name,)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    keys = [f"{name}{i}".encode() for name in ("a", "b", "shared") for i in range(60)]
    assert PredictabilityCache(tmp_path).get(keys) == [float(i) for i in range(60)] * 3


def test_what_pictures_show_is_kept_and_absent_from_caches_of_before(tmp_path):
    cache = PredictabilityCache(tmp_path)
    cache.put([b"a"], [1.0])
    cache.put([b"b", b"c"], [2.0, 3.0], [b"two", b"three"])
    again = PredictabilityCache(tmp_path)
    assert again.get_seen([b"c", b"a", b"b"]) == [b"three", None, b"two"]
    with sqlite3.connect(tmp_path / "old.sqlite") as old:
        old.execute("CREATE TABLE predictability (key BLOB PRIMARY KEY, value REAL) WITHOUT ROWID")
        old.execute("INSERT INTO predictability VALUES (?, ?)", (b"a", 1.0))
    (tmp_path / "old.sqlite").rename(tmp_path / "predictability.sqlite")
    assert PredictabilityCache(tmp_path).get([b"a"]) == [1.0]
    assert PredictabilityCache(tmp_path).get_seen([b"a"]) == [None]


def test_tint_and_features_reach_a_result_and_come_from_the_cache(tmp_path):
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.rand(3, 24, 24, generator=generator), torch.rand(3, 24, 24, generator=generator)) for _ in range(8)]
    calls = []

    class Counting(torch.nn.AvgPool2d):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    def audit():
        auditor = Auditor(scorer=PredictabilityScorer(Counting(4), grid=6), cache_dir=tmp_path)
        return auditor.run(lambda x: x, pairs[:4], pairs[4:])

    first, second = audit(), audit()
    assert sum(calls) == 8
    assert {"input_tint_first", "target_blocks", "feature_00"} <= set(first.blind)
    assert "input_height" not in first.blind  # all are as high
    for name, column in first.blind.items():
        np.testing.assert_array_equal(second.blind[name], column)
    expected = technique_statistics(torch.stack([x for x, _ in pairs]))[:, 0]
    np.testing.assert_allclose(first.blind["input_tint_first"], expected, atol=1e-5)
