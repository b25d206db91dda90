"""The notebooks run from a clean kernel on small settings; the committed ones are complete and hold nothing private."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: it reads the notebooks")
pytest.importorskip("nbclient", reason="nbclient is not installed: it runs the notebooks")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: the notebooks run in it")

from jupyter_client.kernelspec import KernelSpec  # noqa: E402 - present wherever nbclient is
from jupyter_client.manager import AsyncKernelManager  # noqa: E402 - likewise
from nbclient import NotebookClient  # noqa: E402 - likewise

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
LARGEST = 400_000  # bytes
PRIVATE = re.compile(r"(?<![\w.])/(home|root|Users|tmp|var|work|private|mnt)/|[A-Z]:\\\\|site-packages")

SMALL: dict[str, dict[str, Any]] = {
    "1_quickstart": {"EPOCHS": 2, "AUDIT_EVERY": 2, "PAIRS": 28, "WIDTH": 4},
    "2_existing_project": {"EPOCHS": 2, "TILES": 12, "WIDTH": 4, "STOP_AT": 0.01},
    "3_why_predictability": {"EPOCHS": 2, "AUDIT_EVERY": 1, "IMAGES": 20, "WIDTH": 4},
    "4_investigation": {"EPOCHS": 1, "PUBLISHED": 12, "UNPUBLISHED": 20, "WIDTH": 4},
}

# What the outputs of the code cells have to say, whatever the numbers are.
SAID = {
    "1_quickstart": (
        r"epoch 2 \| membership AUC [\d.]+ \[",
        r"Grade: \w+",
        r"With 95 % confidence the share lies between \d+ and \d+ %",
        r"report\.html \(\d+ KB\)",
    ),
    "2_existing_project": (
        r"(\d+) of \1 tensors are equal in every bit",
        r"stopped +epoch +\d+ ",
        r"expected \(input, target\).*class Mine\(AutoAdapter\)",
        r"the same AUC as in training: True",
        r"combined +AUC [\d.]+  \[",
    ),
    "3_why_predictability": (
        r"AuditResult\(epoch \d+, ",
        r"r and p +rank correlation -?[\d.]+",
        r"membership +calls +\d+ % of the members and at most 10 % of the nonmembers",
        r"combined over reconstruction: [+-][\d.]+ \(",
    ),
    "4_investigation": (
        r"(?:The claim is [A-Z ]+\n.*){3}",
        r"flagged: \d+ of \d+, of which \d+ were used",
        r"May not be concluded:\n- A p-value is not the probability",
    ),
}
SAID_SMALL = {"2_existing_project": r"stopped +epoch  1 .*\nto the end +epoch  2 "}  # its limit lies below any AUC
PICTURES = {"1_quickstart": 4, "2_existing_project": 1, "3_why_predictability": 5, "4_investigation": 2}


class HereKernel(AsyncKernelManager):
    """Starts kernels in the interpreter that runs the tests, whether or not Jupyter knows a kernel of that name."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """A specification that needs no file."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook: Any) -> Any:
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, "one cell is tagged 'parameters'"
    return tagged[0]


def text_of(notebook: Any) -> str:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "\n".join(output.get("text", output.get("data", {}).get("text/plain", "")) for output in outputs)


def pictures_of(notebook: Any) -> int:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs if "data" in output]
    return sum("image/png" in output.data or "image/jpeg" in output.data for output in outputs)


def check_outputs(notebook: Any, name: str) -> None:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    # With the few epochs of a test models have learned little, which the audit says.
    warned = [output.text for output in outputs if output.get("name") == "stderr"]
    assert not [text for text in warned if "does no better than a constant prediction" not in text]
    assert pictures_of(notebook) == PICTURES[name]
    text = text_of(notebook)
    for pattern in SAID[name]:
        assert re.search(pattern, text, re.DOTALL), pattern


def test_every_notebook_is_tested_and_listed() -> None:
    assert sorted(SMALL) == NAMES
    listed = re.findall(r"^\| \[(\w+)\.ipynb\]\((\w+)\.ipynb\)", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert [name for name, _ in listed] == NAMES
    assert all(name == target for name, target in listed)


USUAL = ("1_quickstart",)  # the others are for -m slow


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in USUAL else pytest.mark.slow) for n in sorted(SMALL)])
def test_it_runs_from_a_clean_kernel(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # no history in a user's home
    notebook = read(name)
    cell = parameters(notebook)
    named = [node.targets[0].id for node in ast.parse(cell.source).body]  # plain assignments and nothing else
    assert named == list(SMALL[name])
    cell.source = "\n".join(f"{key} = {value!r}" for key, value in SMALL[name].items())
    before = sorted(FOLDER.iterdir())

    work = tmp_path / "work"
    work.mkdir()
    client = NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(work)}}, kernel_manager_class=HereKernel
    )
    client.execute()

    check_outputs(notebook, name)
    assert re.search(SAID_SMALL.get(name, ""), text_of(notebook))
    assert sorted(FOLDER.iterdir()) == before


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_committed_one_is_complete(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < LARGEST
    notebook = read(name)
    nbformat.validate(notebook)

    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    check_outputs(notebook, name)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_committed_one_tells_nothing_of_where_it_ran(name: str) -> None:
    plain = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert set(plain["metadata"]) == {"kernelspec", "language_info"}
    assert plain["metadata"]["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    for cell in plain["cells"]:
        assert set(cell["metadata"]) <= {"tags", "execution"}
        for output in cell.get("outputs", []):
            shown = {kind: v for kind, v in output.get("data", {}).items() if not kind.startswith("image/")}
            written = json.dumps([cell["source"], shown, output.get("text", "")])
            assert not PRIVATE.search(written)
