"""What an audit is sliced by: entries of batches, classes of targets, files and functions, up to the result."""

import csv
import warnings

import numpy as np
import pytest
import torch

from mia_lightning import Auditor, AuditResult, AutoAdapter, Batch, PredictabilityScorer
from mia_lightning.audit.dataset_columns import column_names
from mia_lightning.functional.slice_audit import audit_slices
from mia_lightning.result.history import to_plain, write_history

SITES = ("A", "=B/1", "rare")
SCORER = PredictabilityScorer(torch.nn.AvgPool2d(4), grid=8)


class Model(torch.nn.Module):
    def forward(self, x):
        return torch.stack([x[:, 0], x[:, 1], x[:, 2]], 1)


def side(letter, count=50, kind="labels"):
    """Samples of three sites, the last of which has few; every other shows class 2, and one a pixel that is ignored."""
    generator = torch.Generator().manual_seed(ord(letter))
    samples = []
    for i in range(count):
        image = torch.rand(3, 16, 16, generator=generator)
        target = (image[0] > 0.5).long() + (image[1] > 0.5) * (i % 2)
        target[0, 0] = 255
        if kind == "masks":
            target = torch.stack([image[0] > 0.5, image[1] > 2.0, image[2] > (0.5 if i % 2 else 2.0)]).float()
        place = SITES[2] if i < 5 else SITES[i % 2]
        sample = {"image": image, "mask": target, "id": f"{letter}{i}", "site": place, "age": float(i % 2)}
        samples.append(sample | {"meta": {"scanner": i % 2}, "contrast": "" if i % 2 else "t1"})
    return samples


def audit(members=None, nonmembers=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model is not trained
        auditor = Auditor(scorer=SCORER, output="logits", **options)
        return auditor.run(Model(), members or side("m"), nonmembers or side("n"))


@pytest.fixture(scope="module")
def sliced():
    return audit(slices=["site", "age", "meta.scanner", "class", "resolution"])


def test_entries_of_batches_reach_the_result_and_its_metrics(sliced):
    rows = {(one.column, one.value): one for one in sliced.sliced.rows}
    assert sliced.slices["site"][:6] == [*["rare"] * 5, "=B/1"]
    assert sliced.slices["age"][:2] == ["0", "1"]
    assert sliced.slices["meta.scanner"][:2] == ["0", "1"]
    assert sliced.slices["class"][:2] == ["0;1", "0;1;2"]
    assert set(sliced.slices["resolution"]) == {"16x16"}
    assert [rows["site", "rare"].members, rows["class", "2"].members, rows["class", "0"].members] == [5, 25, 50]
    columns = {k: [tuple(v.split(";")) for v in column] for k, column in sliced.slices.items()}
    expected = audit_slices(
        columns,
        sliced.scores["membership"],
        sliced.member,
        blind=-sliced.errors["predictability"],
    )
    for one in expected:
        kept = rows[one.column, one.value]
        assert np.array_equal(kept.auc, one.auc, equal_nan=True)
        assert np.array_equal(kept.blind, one.blind, equal_nan=True)
    assert sliced.metric("slice/site/_x3D_B_x2F_1/auc") == rows["site", "=B/1"].auc.estimate
    assert sliced.metric("slice/site/A/blind_auc_low") == rows["site", "A"].blind.low
    assert not [key for key in sliced.metrics if "/rare/" in key]
    assert "site: the batches' entry 'site'" in sliced.meta["interpretation"]["slices"]


def test_an_audit_that_is_not_sliced_is_as_it_was(sliced):
    plain = audit()
    assert plain.slices is None
    assert "slices" not in plain.meta
    assert "slices" not in plain.to_plain()
    assert plain.sliced.rows == []
    assert {k: v for k, v in sliced.metrics.items() if "/slice/" not in k} == pytest.approx(plain.metrics, nan_ok=True)


def test_files_keep_them(sliced, tmp_path):
    again = AuditResult.from_json(sliced.to_json(tmp_path / "result.json"))
    assert again.slices == sliced.slices
    assert str(again.sliced) == str(sliced.sliced)
    plain = to_plain([sliced, AuditResult.from_plain(sliced.to_plain())])
    assert plain[1]["slices"] is plain[0]["slices"]
    with sliced.to_csv(tmp_path / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[5]["slice_site"] == "'=B/1"
    path = write_history([sliced, audit()], tmp_path)
    if path.suffix == ".csv":
        text = path.read_text()
        assert "slice_site" in text.splitlines()[0]
        assert "'=B/1" in text
    else:
        import pyarrow.parquet as pq

        column = pq.read_table(path)["slice_site"].to_pylist()
        assert (column[5], column[-1]) == ("=B/1", None)


def test_a_sample_without_a_value_is_of_no_slice():
    result = audit(slices="contrast")
    assert [one.value for one in result.sliced.rows] == ["t1"]
    assert result.slices["contrast"][:2] == ["t1", ""]


def test_masks_of_independent_channels_show_the_classes_that_they_mark():
    masks = side("m", kind="masks"), side("n", kind="masks")
    result = audit(*masks, slices=["class"], task="multilabel")
    assert result.slices["class"][:2] == ["0", "0;2"]


def test_files_functions_and_mappings_say_it_by_the_id(sliced, tmp_path):
    path = tmp_path / "patients.csv"
    lines = [f"{s['id']},'{s['site']}\n" if s["site"][0] == "=" else f"{s['id']},{s['site']}\n" for s in side("m")]
    path.write_text("id,site,empty\n" + "".join(line.replace("\n", ",\n") for line in lines))
    of_file = audit(slices=["site", "class"], slice_by=str(path))
    assert of_file.slices["site"][:50] == sliced.slices["site"][:50]
    assert set(of_file.slices["site"][50:]) == {""}  # nonmembers are not in it
    assert of_file.slices["class"] == sliced.slices["class"]
    assert "patients.csv (slice_by)" in of_file.meta["interpretation"]["slices"]
    by_id = audit(slice_by={"even": lambda id: int(id[1:]) % 2 == 0, "site": {s["id"]: s["site"] for s in side("m")}})
    assert by_id.slices["even"][:2] == ["True", "False"]
    assert by_id.slices["site"] == of_file.slices["site"]
    both = audit(slices=["a", "b"], slice_by=lambda id: {"a": id[0], "b": 1})
    assert (both.slices["a"][0], both.slices["b"][0]) == ("m", "1")


class Sited(list):
    """A data set that knows the scanner of its samples without reading them."""

    def __init__(self, samples, **metadata):
        super().__init__(samples)
        self.metadata = {"scanner": [i % 2 for i in range(len(self))], "site": ["never"] * len(self)} | metadata


def test_data_sets_know_what_batches_lack():
    halves = torch.utils.data.ConcatDataset([Sited(side("m", 20)), Sited(side("q", 30))])
    some = torch.utils.data.Subset(Sited(side("n", 60), resolution=[f"{i}x1" for i in range(60)]), range(50, 0, -1))
    result = audit(halves, some, slices=["scanner", "site", "resolution"])
    assert result.slices["scanner"][:2] + result.slices["scanner"][20:22] == ["0", "1", "0", "1"]
    assert result.slices["scanner"][50:52] == ["0", "1"]  # samples 50 and 49
    assert result.slices["site"][0] == "rare"  # the batches' own entry comes first
    assert set(result.slices["resolution"]) == {"16x16"}  # one side has another column alone
    assert "scanner: the data set's column 'scanner'; site: the batches'" in result.meta["interpretation"]["slices"]
    sizes = Sited(side("m"), resolution=["9x9"] * 50), Sited(side("n"), resolution=["8x8"] * 50)
    assert audit(*sizes, slices=["resolution"], max_samples=30).slices["resolution"][29:31] == ["9x9", "8x8"]
    with pytest.raises(ValueError, match=r"has no such entry, and the data set has 'scanner', 'site'\. Name one"):
        audit(Sited(side("m")), Sited(side("n")), slices=["sex"])
    with pytest.raises(ValueError, match="has no such entry"):
        audit(Sited(side("m"), sex=["f"]), Sited(side("n"), sex=["f"]), slices=["sex"])


class Crops(Sited):
    """A data set whose entries are two crops of a picture, of whose sites it knows."""

    def __getitem__(self, place):
        one = super().__getitem__(place)
        image, mask = one["image"].flip(1), one["mask"].flip(0)
        crops = [{"image": one["image"], "mask": one["mask"]}, {"image": image, "mask": mask}]
        return [crop | {"id": one["id"]} for crop in crops]


def test_crops_have_the_values_of_their_picture():
    sites = [f"site {i}" for i in range(20)]
    sides = [Crops(side(letter, 20), site=sites) for letter in "mn"]
    result = audit(*sides, slices=["site"])
    assert result.slices["site"] == [site for site in sites for _ in range(2)] * 2


def test_what_else_metadata_holds_is_no_column():
    about = {"fps": 50, "license": "x" * 50, "shape": np.zeros((50, 2)), "sensor": {"name": "a"}}
    sited = Sited(side("m"), **about)
    assert column_names(sited) == ("scanner", "site")
    attributes = {"metadata": {"site": ["a"]}, "__len__": lambda _: 1, "__iter__": lambda _: iter(side("m", 1))}
    assert column_names(type("Stream", (torch.utils.data.IterableDataset,), attributes)()) == ()
    with pytest.raises(ValueError, match=r"the data set has 'scanner', 'site'\. Name one"):
        audit(sited, Sited(side("n"), **about), slices=["fps"])


@pytest.mark.parametrize("kind", [torch.tensor, np.array, list])
def test_tensors_and_arrays_are_columns_of_numbers(kind):
    numbers = kind([float("nan"), *([2.0] * 29), *([0.5] * 20)])
    if kind is list:
        numbers = [np.float32("nan"), *torch.full((29,), 2.0), *np.full(20, 0.5, np.float32)]
    sides = [Sited(side(letter), dose=numbers) for letter in "mn"]
    result = audit(*sides, slices=["dose"])
    assert result.slices["dose"][:50] == ["", *["2"] * 29, *["0.5"] * 20]
    assert "audit/slice/dose/2/auc" in result.metrics


def test_an_adapter_brings_what_batches_lack():
    class Mine(AutoAdapter):
        def unpack(self, batch):
            return Batch(batch["id"], batch["image"], batch["mask"], metadata={"site": [id[0] for id in batch["id"]]})

    result = audit(slices=["site", "age"], adapter=Mine())
    assert (result.slices["site"][0], result.slices["age"][1]) == ("m", "1")


def test_groups_are_what_is_counted(sliced):
    result = audit(slices=["site"], groups=lambda id: f"{id[0]}{int(id[1:]) // 5}")
    assert result.meta["slices"]["unit"] == "group"
    assert result.meta["slices"]["tested"] == 0
    assert "9 groups of members" in result.sliced.too_small(result.sliced.rows[0])
    assert sliced.meta["slices"]["unit"] == "sample"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": ["hospital"]}, r"no such entry.*slice_by=\{'hospital': 'patients.csv'\}"),
        ({"slices": ["image"]}, "Expected one image a sample"),
        ({"slice_by": {"site": {"other": "A"}}}, "No sample has a site by a mapping of the ids"),
        ({"slice_by": {"site": lambda id: {}[id]}}, "The function of slice_by failed for the id 'm0'"),
    ],
)
def test_what_cannot_be_found_fails_before_a_training(options, message):
    auditor = Auditor(scorer=SCORER, output="logits", **options)
    with pytest.raises(ValueError, match=message):
        auditor.check(Model(), side("m"), side("n"))


@pytest.mark.parametrize("source", ["absent.csv", "no_such_package.site_of", 3, "none"])
def test_sources_that_are_none_fail_when_the_auditor_is_made(source):
    with pytest.raises((TypeError, ValueError), match="Expected slice_by to be a CSV file with the columns id"):
        Auditor(scorer=SCORER, slice_by={"site": source})
