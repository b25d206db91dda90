"""The house: imports go down its floors, folders on a floor do not import each other, nothing is slow at import."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mia_lightning

ROOT = Path(mia_lightning.__file__).parent
FLOORS = {
    "functional": 1,
    "lightning_packages": 1,
    "registry": 2,
    "features": 2,
    "networks": 2,
    "metrics": 2,
    "errors": 3,
    "measures": 3,
    "scores": 3,
    "result": 3,
    "exported": 3,
    "figures": 4,
    "audit": 4,
    "data": 4,
    "checkpoints": 4,
    "sinks": 5,
    "report": 5,
    "attacks": 5,
    "stored": 5,
    "membership": 5,
    "callbacks": 6,
    "evidence": 6,
    "models": 7,
    "posthoc": 7,
    "cli": 8,
}
# Files of one name that are two halves of one thing.
ONE_MEANING = {
    "pix2pix": "the networks of pix2pix, and the module that trains them",
    "pix2pix_hd": "the same of pix2pixHD",
    "spade": "the same of SPADE",
    "demo": "the data of the demo, and its command",
}
VAGUE = {"facts", "frame", "given", "keeping", "lookup", "outcome", "parts", "show", "surroundings", "words"}
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT or p.stem in FLOORS)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which floor they lead to"
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {n.split(".")[1] for n in names if n.startswith("mia_lightning.") and n.split(".")[1] in FLOORS}
    return rooms


def imports_of(path: Path) -> set[str]:
    return imports_of_tree(ast.parse(path.read_text()))


def imports_of_tree(tree: ast.AST) -> set[str]:
    found = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    return found | {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_the_floors(path):
    here = room_of(path)
    up = {r for r in imported_rooms(path) if r != here and FLOORS[r] >= FLOORS[here]}
    assert not up, f"{path.relative_to(ROOT)} on floor {FLOORS[here]} imports {sorted(up)} on the same floor or above"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_files_import_each_other_in_a_circle():
    modules = {module_of(path): path for path in ROOT.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        graph[module] = set()
        # Imports for type checkers and those inside functions count, too: they tie the same two ideas together.
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                graph[module] |= {alias.name for alias in node.names} & set(modules)
            elif isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[module] |= (names & set(modules)) or ({str(node.module)} & set(modules))
        graph[module] -= {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"files import each other in a circle: {' -> '.join(error.args[1])}")


def test_a_file_name_has_one_meaning():
    files: dict[str, list[str]] = {}
    for path in FILES:
        if path.stem != "__init__":
            files.setdefault(path.stem, []).append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in files.items() if len(paths) > 1 and name not in ONE_MEANING}
    assert not twice, "one name, several files: say in each what is inside"
    assert set(ONE_MEANING) <= {name for name, paths in files.items() if len(paths) > 1}, "no longer needed"


def test_file_names_say_what_is_inside():
    assert not [str(path.relative_to(ROOT)) for path in FILES if path.stem in VAGUE]


def test_every_file_has_a_floor():
    rooms = {room_of(p) for p in ROOT.rglob("*.py")} - {"__init__", "__main__", "version"}
    assert rooms <= set(FLOORS), f"rooms without a floor: {sorted(rooms - set(FLOORS))}"


@pytest.mark.parametrize("room", ["functional", "networks"])
def test_the_lower_floors_do_not_know_lightning(room):
    for path in (ROOT / room).rglob("*.py"):
        assert not imports_of(path) & {"lightning", "pytorch_lightning", "torchmetrics", "albumentations"}, path


def loaded_with(path: Path) -> set[str]:
    """Packages that a file imports when it is imported itself: not for type checkers, nor in a function."""
    tree = ast.parse(path.read_text())
    for node in [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]:
        node.body = [ast.Pass()]
    for node in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
        node.body = [ast.Pass()]
    return imports_of_tree(tree)


def test_neither_package_of_lightning_is_imported_for_the_other():
    users = {room_of(p) for p in ROOT.rglob("*.py") if loaded_with(p) & {"lightning", "pytorch_lightning"}}
    assert users == {"attacks", "cli", "evidence", "posthoc"}, "these have trainers of their own"


def test_albumentations_lives_in_one_file():
    users = [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py") if "albumentations" in imports_of(p)]
    assert users == ["data/transforms.py"]


def test_weights_are_never_unpickled():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                flags = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert flags.get("weights_only") == "True", f"{path}:{node.lineno}"
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in {"pickle.load", "pickle.loads"}, f"{path}:{node.lineno}"


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, mia_lightning; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("torch", "lightning", "sklearn", "scipy", "numpy", "matplotlib", "albumentations", "timm"):
        assert f"'{heavy}'" not in loaded, f"import mia_lightning imports {heavy}"


@pytest.mark.parametrize("name", [n for n in mia_lightning.__all__ if n != "__version__"])
def test_public_names_resolve(name):
    thing = getattr(mia_lightning, name)
    assert thing.__name__ == name
    assert thing.__doc__
    assert name in dir(mia_lightning)


def test_an_unknown_name_lists_the_public_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'Auditr'; public names are .*'AuditResult', .*'Auditor'"):
        mia_lightning.Auditr  # noqa: B018 - the look-up is what is tested
