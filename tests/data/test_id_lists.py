from __future__ import annotations

import pytest

from mia_lightning.data.id_lists import read_ids

AVAILABLE = [f"s{number:02d}" for number in range(12)]


def test_a_file_and_the_ids_themselves(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("\ufeff# chosen before the test\n\ns03\n s01 \ns03\n", encoding="utf-8")
    assert read_ids(path, AVAILABLE) == read_ids(str(path), AVAILABLE) == ["s03", "s01"]
    assert read_ids(("s03", "s01", "s03"), AVAILABLE) == ["s03", "s01"]


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (
            [],
            r"The list of ids names nothing: expected an id a line, such as 's00', 's01', 's02', \.\.\. \(12 in all\)",
        ),
        (
            ["s01", "x", "y", "x"],
            "The list of ids names 2 ids that the data do not have: 'x', 'y'. Ids look like 's00'",
        ),
    ],
)
def test_ids_that_do_not_fit_are_named(ids, text):
    with pytest.raises(ValueError, match=text):
        read_ids(ids, AVAILABLE)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.txt: expected one with an id a line"):
        read_ids(tmp_path / "none.txt", AVAILABLE)
