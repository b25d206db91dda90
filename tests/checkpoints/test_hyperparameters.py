"""Which remembered arguments a class takes as they are."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule

from mia_lightning.checkpoints.hyperparameters import read_hyperparameters, remembered_arguments


class Varied(LightningModule):
    def __init__(
        self,
        bare=None,
        table=None,
        pair: tuple[int, int] = (1, 2),
        names: dict[int, str] | None = None,
        bound=None,
        width: int = 1,
    ) -> None:
        super().__init__()


class Whole(LightningModule):
    def __init__(self, hparams: dict) -> None:
        super().__init__()


class Data(LightningDataModule):
    def __init__(self, n: int = 1) -> None:
        super().__init__()


KEPT = {"bare": (3, 4), "table": {1: "a"}, "pair": (5, 6), "names": {2: "b"}, "bound": float("inf"), "width": "six"}


def test_values_are_sorted_by_whether_the_class_takes_them_as_they_are():
    found = remembered_arguments(Varied, {"hyper_parameters": KEPT | {"unheard_of": 1}})
    assert (found.section, found.owner) == ("model", "Varied")
    assert found.values == {"pair": [5, 6], "names": {"2": "b"}}
    assert found.altered == {"bare": (3, 4), "table": {1: "a"}, "bound": float("inf")}
    assert found.refused == {"width": "six"}
    assert "Not taken, since its annotations do not fit: width='six'." in str(found)
    assert "bare=(3, 4)" in str(found)
    assert "--model.bare, --model.table, --model.bound" in str(found)


def test_what_is_skipped_is_not_listed():
    found = remembered_arguments(Varied, {"hyper_parameters": KEPT}, skip={"bare", "table", "bound", "pair", "width"})
    assert (found.values, found.refused, found.altered) == ({"names": {"2": "b"}}, {}, {})
    assert remembered_arguments(Varied, {"hyper_parameters": KEPT}, skip=KEPT) is None


def test_a_dict_of_hyperparameters_belongs_to_the_argument_that_it_was():
    kept = {"hyper_parameters": {"width": 3, "lr": 0.1}, "hparams_name": "hparams"}
    assert remembered_arguments(Whole, kept).values == {"hparams": {"width": 3, "lr": 0.1}}


def test_model_and_data_module_have_entries_of_their_own():
    kept = {"hyper_parameters": {"width": 3}, "datamodule_hyper_parameters": {"n": 6}}
    assert remembered_arguments(Data, kept).values == {"n": 6}
    assert remembered_arguments(Data, kept).section == "data"
    assert remembered_arguments(Varied, kept).values == {"width": 3}
    assert remembered_arguments(Varied, {"state_dict": {}}) is None


@pytest.mark.parametrize("legacy", [False, True], ids=["mapped", "a format that cannot be mapped"])
def test_a_file_is_read_in_either_format(tmp_path, legacy):
    content = {"state_dict": {"w": torch.zeros(1)}, "hyper_parameters": {"width": 3}}
    torch.save(content, tmp_path / "w.ckpt", _use_new_zipfile_serialization=not legacy)
    assert read_hyperparameters(tmp_path / "w.ckpt")["hyper_parameters"] == {"width": 3}


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"The checkpoint \S*gone\.ckpt does not exist"):
        read_hyperparameters(tmp_path / "gone.ckpt")
    (tmp_path / "text.ckpt").write_text("no weights")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_hyperparameters(tmp_path / "text.ckpt")
