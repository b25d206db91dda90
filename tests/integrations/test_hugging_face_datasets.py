"""Hugging Face's datasets: Arrow tables with torch's format, and streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn
from torch.utils.data import DataLoader

from mia_lightning import Auditor

datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")

SIZE = 20


def table(seed: int) -> Any:
    rng, picture = np.random.default_rng(seed), datasets.Array3D((3, 16, 16), "float32")
    rows = [{key: rng.random((3, 16, 16), dtype=np.float32) for key in ("image", "target")} for _ in range(SIZE)]
    columns = {key: [row[key] for row in rows] for key in ("image", "target")}
    features = datasets.Features({"image": picture, "target": picture})
    return datasets.Dataset.from_dict(columns, features=features).with_format("torch")


def stream(seed: int) -> Any:
    return table(seed).to_iterable_dataset(num_shards=2)


def content(result: Any) -> dict[str, float]:
    return dict(zip(result.ids, result.errors["predictability"].tolist(), strict=True))


FORMS: dict[str, Callable[[int], Any]] = {
    "table": table,
    "table in a loader": lambda seed: DataLoader(table(seed), batch_size=4, shuffle=True),
    "stream": stream,
    "stream in a loader": lambda seed: DataLoader(stream(seed), batch_size=4),
    "stream of batches": lambda seed: stream(seed).batch(6),
    "shuffled stream": lambda seed: stream(seed).shuffle(seed=seed, buffer_size=10),
    "shuffled stream with workers": lambda seed: DataLoader(
        stream(seed).shuffle(seed=seed, buffer_size=10), batch_size=4, num_workers=2
    ),
}


USUAL = ("table", "stream of batches", "shuffled stream")  # of each kind one; the others are for -m slow


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in USUAL else pytest.mark.slow) for n in FORMS])
def test_names_mean_the_same_at_each_audit(name: str, quick: Any) -> None:
    sides, auditor = (FORMS[name](0), FORMS[name](1)), Auditor(scorer=quick, batch_size=4)
    auditor.check(nn.Identity(), *sides)
    first, second = (auditor.run(nn.Identity(), *sides) for _ in range(2))
    assert content(first) == content(second)
    assert len(content(first)) == 2 * SIZE
    assert (first.ids[0] == "member-000000") is ("shuffled" not in name)
    if "stream" in name:
        assert all(entry["followed"] for entry in first.meta["streams"].values())


def test_epochs_of_a_shuffled_stream_name_the_same_samples(quick: Any) -> None:
    members, auditor, history = stream(0).shuffle(seed=0, buffer_size=10), Auditor(scorer=quick), list[Any]()
    for epoch in range(3):
        members.set_epoch(epoch)
        history.append(auditor.run(nn.Identity(), members, table(1), history=history))
        assert members.epoch == epoch
    assert all(content(result) == content(history[0]) for result in history)


def test_a_broken_row_ends_the_stream_and_the_advice_mends_it(quick: Any) -> None:
    def broken(row: dict[str, Any], index: int) -> dict[str, Any]:
        if index == 3:
            raise OSError("truncated")
        return row

    def caught(row: dict[str, Any], index: int) -> dict[str, Any]:
        try:
            return {**broken(row, index), "readable": True}
        except OSError:
            return {**row, "readable": False}

    auditor = Auditor(scorer=quick)
    with pytest.raises(RuntimeError, match=r"ended at its sample 3 with OSError.*by a column that the function of map"):
        auditor.run(nn.Identity(), stream(0).map(broken, with_indices=True), table(1))
    left = stream(0).map(caught, with_indices=True).filter(lambda row: row["readable"])
    assert auditor.run(nn.Identity(), left, table(1)).member.sum() == SIZE - 1


def test_a_broken_row_of_a_table_is_left_out_and_named(quick: Any) -> None:
    broken = table(0)[3]["image"]

    def transform(rows: dict[str, Any]) -> dict[str, Any]:
        arrays = {key: [np.asarray(value, dtype=np.float32) for value in values] for key, values in rows.items()}
        if (arrays["image"][0] == broken.numpy()).all():
            raise OSError("truncated")
        return arrays

    result = Auditor(scorer=quick).run(nn.Identity(), table(0).with_transform(transform), table(1))
    assert [e["id"] for e in result.excluded] == ["member-000003"]
    assert result.excluded[0]["reason"] == "it could not be read (OSError: truncated)"
