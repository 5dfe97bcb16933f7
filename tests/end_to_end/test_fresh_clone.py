"""What the README promises, on a machine that has nothing but Python, make and git."""

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import PROJECT


@pytest.mark.slow
def test_a_fresh_clone_installs_itself_and_runs(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", str(PROJECT), str(tmp_path / "clone")], check=True)
    outside = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "PYTHONPATH") and "MAKE" not in name
    }
    result = subprocess.run(
        ["make", "run", "ENV=test"], cwd=tmp_path / "clone", env=outside, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "floor: real images" in result.stdout
    assert (tmp_path / "clone" / "data" / "08_reporting" / "test" / "report.html").is_file()


def test_an_old_python_gets_one_clear_message(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1 && exit 0\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / "Makefile").write_text((PROJECT / "Makefile").read_text())
    for needed in ("requirements.lock", "pyproject.toml"):
        (tmp_path / needed).touch()
    outside = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    result = subprocess.run(
        ["make", f"PYTHON={old}", "run"], cwd=tmp_path, env=outside, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert result.stdout.splitlines() == [
        f"Python 3.11, 3.12 or 3.13 is needed; '{old}' is Python 3.9.1. "
        "Name one with: make PYTHON=/path/to/python3.11 run"
    ]
    assert not (tmp_path / ".venv").exists()
