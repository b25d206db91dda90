"""Ray Data: what iter_torch_batches and its like return is read anew at each audit, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from torch import nn

from mia_lightning import Auditor

ray = pytest.importorskip("ray", reason="needs ray, which is in no extra: it is large")
pytest.importorskip("ray.data", reason="needs ray[data]")

SIZE = 12


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Any, Any]]:
    quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    ray.init(num_cpus=1, object_store_memory=200 * 2**20, **quiet)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rng = np.random.default_rng(0)
    keys = ("image", "target")
    rows = [{key: rng.random((3, 16, 16), dtype=np.float32) for key in keys} for _ in range(2 * SIZE)]
    yield ray.data.from_items(rows[:SIZE]), ray.data.from_items(rows[SIZE:])
    ray.shutdown()


FORMS: dict[str, Callable[[Any], Any]] = {
    "torch batches": lambda data: data.iter_torch_batches(batch_size=5),
    "batches of arrays": lambda data: data.iter_batches(batch_size=5),
    "rows": lambda data: data.iter_rows(),
    "shuffled": lambda data: data.iter_torch_batches(batch_size=5, local_shuffle_buffer_size=8),
}


@pytest.mark.parametrize("name", FORMS)
def test_names_mean_the_same_at_each_audit(name: str, sides: Any, quick: Any) -> None:
    members, nonmembers = (FORMS[name](side) for side in sides)
    auditor = Auditor(scorer=quick, batch_size=4)
    auditor.check(nn.Identity(), members, nonmembers)
    results = [auditor.run(nn.Identity(), members, nonmembers) for _ in range(2)]
    first, second = (dict(zip(r.ids, r.errors["predictability"].tolist(), strict=True)) for r in results)
    assert first == second
    assert len(first) == 2 * SIZE
    assert ("member-000000" in first) is (name != "shuffled")
