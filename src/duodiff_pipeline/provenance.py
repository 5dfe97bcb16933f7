"""Where a result comes from: code and versions."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "lightning", "diffusers", "kedro", "mlflow", "optuna", "numpy", "pillow", "scikit-learn")


def git_state(folder: Path) -> dict[str, Any]:
    """The commit and whether code or configuration differ from it; both "none" without git or a repository.

    Files of data/ do not count: the results of one run would make the code of the next look changed.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", ".", ":!data"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "none", "dirty": "none"}


def versions() -> dict[str, str]:
    """Python and the packages that results depend on."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
