"""dvc.yaml: made from the pipelines, and reproducing no more than what changed."""

import re

import pytest
import yaml

from duodiff_pipeline.dvc_stages import make_stages

from .conftest import PROJECT, Project, copy_project


def test_the_committed_file_is_what_is_made_from_pipelines_and_catalog() -> None:
    assert yaml.safe_load((PROJECT / "dvc.yaml").read_text()) == make_stages(PROJECT)


def test_every_parameter_file_and_key_in_it_exists() -> None:
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        for path, keys in [item for entry in stage["params"] for item in entry.items()]:
            parameters = yaml.safe_load((PROJECT / path).read_text())
            for key in keys or []:
                found = parameters
                for part in key.split("."):
                    found = found[part]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose base configuration is the small one, reproduced once by DVC."""
    project = copy_project(tmp_path_factory.mktemp("dvc"))
    base, small = ((project.root / "conf" / env / "parameters.yml") for env in ("base", "test"))
    base.write_text(yaml.safe_dump(_merged(yaml.safe_load(base.read_text()), yaml.safe_load(small.read_text()))))
    assert project.run("git", "init", "-q").returncode == 0
    assert project.run("dvc", "init", "-q").returncode == 0
    result = project.kedro("run", "--env", "base")
    assert result.returncode == 0, result.stderr
    committed = project.run("dvc", "commit", "-f")
    assert committed.returncode == 0, committed.stderr
    assert project.run("git", "add", "conf", "dvc.yaml", "dvc.lock").returncode == 0
    author = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    assert project.run("git", *author, "commit", "-q", "-m", "reproduced").returncode == 0
    return project


def test_a_changed_search_parameter_executes_exactly_what_depends_on_it(reproduced: Project) -> None:
    assert "up to date" in reproduced.run("dvc", "status").stdout
    path = reproduced.root / "conf" / "base" / "parameters.yml"
    parameters = yaml.safe_load(path.read_text())
    parameters["switch_search"]["n_trials"] += 1
    path.write_text(yaml.safe_dump(parameters))

    difference = reproduced.run("dvc", "params", "diff")
    assert "switch_search.n_trials" in difference.stdout
    result = reproduced.kedro("repro")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.findall(r"Running stage '(\w+)'", result.stdout) == ["switch_search", "evaluation", "reporting"]
    assert "plans.deep_dpmsolverpp_4.fid" in reproduced.run("dvc", "metrics", "show", "--md").stdout


def _merged(base: dict, over: dict) -> dict:
    both = {key: _merged(base[key], over[key]) if isinstance(over[key], dict) else over[key] for key in over}
    return {**base, **both}
