"""Pictures kept beside an audit come back as they were, belong to that audit alone, and broken files say so."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from mia_lightning.result.audit_result import AuditResult
from mia_lightning.result.picture_files import Picture, chosen_rows, read_pictures, write_pictures


def made(members: int = 4, nonmembers: int = 3, epoch: int = 2) -> AuditResult:
    member = np.arange(members + nonmembers) < members
    score = np.linspace(1, 0, members + nonmembers)
    ids = [f"<b>{i}</b>" for i in range(members + nonmembers)]
    meta = {"epoch": epoch, "step": 40, "settings": {"prefix": "audit", "primary": "membership"}}
    return AuditResult({"audit/auc": 1.0}, ids, member, {"membership": -score}, {"membership": score}, meta)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 3), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_members_at_both_ends_and_nonmembers_that_look_like_members():
    rows = chosen_rows(made(), 2)
    assert rows == [
        (0, "most exposed"),
        (1, "most exposed"),
        (3, "least exposed"),
        (2, "least exposed"),
        (4, "member-like"),
        (5, "member-like"),
    ]


def test_nobody_is_shown_twice():
    rows = [row for row, _ in chosen_rows(made(), 3)]
    assert rows == [0, 1, 2, 3, 4, 5, 6]
    assert chosen_rows(made(), 0) == []


def test_pictures_come_back(tmp_path):
    result = made()
    pictures = [Picture(0, "most exposed", {"input": png(), "error": b"\xff\xd8\xff\xe0"})]
    path = write_pictures(pictures, result, tmp_path)
    assert path.name == "audit-pictures.json"
    assert read_pictures(result, tmp_path) == pictures
    assert pictures[0].data_uri("input").startswith("data:image/png;base64,iVBOR")
    assert pictures[0].data_uri("error").startswith("data:image/jpeg;base64,")


def test_pictures_of_another_audit_are_not_shown(tmp_path):
    write_pictures([Picture(0, "most exposed", {"input": png()})], made(), tmp_path)
    assert read_pictures(made(epoch=3), tmp_path) == []
    assert read_pictures(made(), tmp_path / "elsewhere") == []


def test_what_is_no_image_is_not_embedded():
    with pytest.raises(ValueError, match="Expected a PNG or JPEG image, but the input of row 0 begins with b'<svg"):
        Picture(0, "most exposed", {"input": b"<svg onload=alert(1)>"}).data_uri("input")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"row": 1}, "row 1 is not that of '<b>0</b>'"),
        ({"row": 99}, "list index out of range"),
        ({"row": -7}, "row -7 is not that of"),
        ({"group": "best"}, "unknown group 'best'"),
        ({"parts": {"script": ""}}, "unknown parts of row 0"),
        ({"parts": {"input": "%"}}, "base64"),
    ],
)
def test_a_broken_file_is_named(tmp_path, change, told):
    result = made()
    path = write_pictures([Picture(0, "most exposed", {"input": png()})], result, tmp_path)
    content = json.loads(path.read_text())
    content["pictures"][0] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=told) as error:
        read_pictures(result, tmp_path)
    assert str(path) in str(error.value)
