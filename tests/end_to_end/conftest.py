"""Projects in empty folders, driven from the command line as a user would."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PARTS = ("conf", "src", "notebooks", "pyproject.toml", ".telemetry", "dvc.yaml", ".dvcignore")
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Project:
    """A copy of this project without data."""

    root: Path

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the project's virtual environment in the copy."""
        return subprocess.run(
            command,
            cwd=self.root,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def begin(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """The same, without waiting for the end; what it logs can be read as it comes."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={**self.environment, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def environment(self) -> dict[str, str]:
        """Variables of commands, with nothing that would lead them out of the copy."""
        inherited = {name: value for name, value in os.environ.items() if not _foreign(name)}
        paths = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(self.root / "src")}
        return {**inherited, **paths}

    def kedro(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("kedro", *arguments)

    def data(self, layer: str, experiment: str = "test") -> Path:
        return self.root / "data" / layer / experiment


def _foreign(name: str) -> bool:
    """Whether a variable of the environment would lead a copy to someone else's runs, configuration or data."""
    return name == "KEDRO_ENV" or (name.startswith(("MLFLOW_", "DVC_")) and name != "DVC_NO_ANALYTICS")


# seconds are the only thing that two runs may differ in
MACHINE_DEPENDENT = (
    *("timings.json", "block_seconds.json", "batch_seconds.json", "_training_seconds.json"),
    *("report.html", "seconds.svg", "seconds_by_batch.svg", "answer.md"),
)


def results(project: Project) -> dict[str, bytes]:
    """Every file that a run leaves in data/, but for those that hold seconds."""
    root = project.root / "data"
    files = [path for path in root.rglob("*") if path.is_file() and ".work" not in path.parts]
    return {
        str(path.relative_to(root)): path.read_bytes() for path in files if not path.name.endswith(MACHINE_DEPENDENT)
    }


def copy_project(root: Path) -> Project:
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, root / part)
    return Project(root)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the whole experiment has run once. Tests read it; those that change it copy it."""
    project = copy_project(tmp_path_factory.mktemp("finished"))
    result = project.kedro("run", "--env", "test")
    assert result.returncode == 0, result.stderr
    (project.root / "stdout.txt").write_text(result.stdout)
    (project.root / "stderr.txt").write_text(result.stderr)
    return project


@pytest.fixture
def continued(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project that a test may change."""
    shutil.copytree(finished.root, tmp_path / "project")
    return Project(tmp_path / "project")
