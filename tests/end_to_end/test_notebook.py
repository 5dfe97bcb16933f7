"""The notebook reads the results of a run through the catalog."""

import nbclient
import nbformat

from .conftest import Project


def test_the_notebook_runs_on_a_finished_experiment(finished: Project, monkeypatch) -> None:
    monkeypatch.setenv("KEDRO_ENV", "test")
    notebook = nbformat.read(finished.root / "notebooks" / "results.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, resources={"metadata": {"path": finished.root / "notebooks"}}, timeout=120
    ).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any("deep dpmsolver++ 4" in output.get("data", {}).get("text/html", "") for output in shown)
