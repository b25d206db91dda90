"""What docs/architecture.md and CONTRIBUTING.md say is so."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from mia_lightning import registry

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mia_lightning"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def floors() -> dict[str, int]:
    """The floors that tests/test_architecture.py holds the imports to."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text())
    (found,) = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "FLOORS"]
    return ast.literal_eval(found)


def test_the_map_has_every_folder_on_the_floor_that_the_tests_hold_it_to():
    rows = re.findall(r"^\| (\d) \| `(\w+)/` \|", ARCHITECTURE, re.MULTILINE)
    assert {name: int(floor) for floor, name in rows} == floors()
    assert {p.parent.name for p in PACKAGE.glob("*/__init__.py")} == {name for _, name in rows}
    assert [int(floor) for floor, _ in rows] == sorted((int(floor) for floor, _ in rows), reverse=True)


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md", "SECURITY.md", "README.md"])
def test_every_file_that_is_named_exists(document):
    text = (ROOT / document).read_text()
    links = {target for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in target}
    for link in links:
        assert ((ROOT / document).parent / link).exists(), f"{document} links to {link}"
    if document == "docs/architecture.md":
        names = {n for n in re.findall(r"`([\w./]+)`", text) if re.search(r"\.(py|md|yaml)$|/$", n)}
        for name in names:
            assert any((base / name).exists() for base in (PACKAGE, ROOT)), f"{document} names {name}"


def test_methods_and_functions_that_the_walks_name_exist():
    """Each step of a walk is written ``file.py: name``."""
    steps = re.findall(r"`([\w/]+\.py): ([\w.]+)`", ARCHITECTURE)
    assert len(steps) > 20
    for file, name in steps:
        text = (PACKAGE / file).read_text()
        for part in name.split("."):
            assert re.search(rf"\b(def|class) {part}\b|^{part}\b.*=", text, re.MULTILINE), f"{file} has no {name}"


def test_the_error_of_the_guide_is_audited_as_written():
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    try:
        exec(compile(block, "CONTRIBUTING.md", "exec"), names)
        images = [(torch.rand(3, 32, 32), torch.rand(3, 32, 32)) for _ in range(6)]
        result = names["auditor"].run(torch.nn.Identity(), images[:3], images[3:])
        assert (result.scores["worst_pixel"] == -result.errors["worst_pixel"]).all()
        expected = [float((x - y).abs().max()) for x, y in images]
        assert result.errors["worst_pixel"].tolist() == pytest.approx(expected)
    finally:
        if "worst_pixel" in registry.errors:
            registry.errors.remove("worst_pixel")


def test_the_oldest_versions_that_are_tested_are_those_that_are_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = {}
    for requirement in map(Requirement, project["dependencies"]):
        allowed[requirement.name] = next(s.version for s in requirement.specifier if s.operator in (">=", "=="))
    lines = (ROOT / ".ci" / "oldest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pinned.keys() == allowed.keys()
    for name, version in pinned.items():  # 2.16.2 is a release of 2.16
        assert f"{version}.".startswith(f"{allowed[name]}."), f"{name}: {allowed[name]} is allowed, {version} is tested"
