"""The notebooks run on what a run left behind: one reads it through the catalog, one uses the library by itself."""

import re
from typing import Any

import nbclient
import nbformat
import pytest

from .conftest import PROJECT, Project


def shown_by(project: Project, name: str) -> list[dict[str, Any]]:
    """What the cells of a notebook put out."""
    folder = project.root / "notebooks"
    notebook = nbformat.read(folder / name, as_version=4)
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": folder}}, timeout=120).execute()
    return [output.get("data", {}) for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_the_results_notebook_runs_on_a_finished_experiment(finished: Project, monkeypatch) -> None:
    monkeypatch.setenv("KEDRO_ENV", "test")
    shown = shown_by(finished, "results.ipynb")
    assert any("image/png" in data for data in shown)
    assert any("deep dpmsolver++ 4" in data.get("text/html", "") for data in shown)


def test_the_library_notebook_draws_images_and_exits(finished: Project, monkeypatch) -> None:
    monkeypatch.setenv("EXPERIMENT", "test")
    assert sum("image/png" in data for data in shown_by(finished, "library.ipynb")) == 2


def test_the_library_notebook_imports_the_library_rooms_alone() -> None:
    cells = nbformat.read(PROJECT / "notebooks" / "library.ipynb", as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    rooms = re.findall(r"^from duodiff_pipeline\.(\w+)", code, re.MULTILINE)
    assert set(rooms) <= {"diffusion", "networks", "analysis", "metrics", "images"}
    assert len(re.findall("duodiff_pipeline", code)) == len(rooms)


@pytest.mark.parametrize("name", ["results.ipynb", "library.ipynb"])
def test_no_output_is_stored(name: str) -> None:
    cells = nbformat.read(PROJECT / "notebooks" / name, as_version=4).cells
    assert [cell["id"] for cell in cells if cell.get("outputs")] == []
