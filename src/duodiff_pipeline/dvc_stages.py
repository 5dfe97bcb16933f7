"""dvc.yaml, made from the pipelines and the catalog: one stage a pipeline. DVC owns bytes and the reuse of stages.

`python -m duodiff_pipeline.dvc_stages` writes the file; a test holds the committed one against what is made here.
"""

from pathlib import Path
from typing import Any

import yaml
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from .config import validate
from .datasets.files import FileDataset

PROJECT = Path(__file__).parents[2]
SOURCE = "src/duodiff_pipeline"
PARAMETERS = "conf/base/parameters.yml"
METRICS = "metrics"  # what `dvc metrics show` reads


def make_stages(project: Path) -> dict[str, Any]:
    """The content of dvc.yaml for the base configuration of a project."""
    bootstrap_project(project)
    with KedroSession.create(project, env="base") as session:
        assert isinstance(session, KedroSession)
        context = session.load_context()
        catalog, parameters = context.catalog, validate(context.config_loader["parameters"])
        made = {name: pipeline for name, pipeline in pipelines.items() if name != "__default__" and pipeline.nodes}
        stages = {name: _stage(name, pipeline, catalog) for name, pipeline in made.items()}
    stages["data_preparation"]["deps"] += parameters.data_preparation.files
    if taken := [b.taken_from for b in parameters.backbones.values() if b.taken_from is not None]:
        stages["training"]["deps"] += taken
    stages["metric_reference"]["deps"] += parameters.metric_reference.files
    return {"stages": stages}


def _stage(name: str, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> dict[str, Any]:
    inputs, outputs = pipeline.inputs(), pipeline.all_outputs()
    keys = sorted(dataset.removeprefix("params:") for dataset in inputs if dataset.startswith("params:"))
    stage: dict[str, Any] = {
        "cmd": f"kedro run --env base --pipelines {name}",
        "deps": [SOURCE, "conf/base/catalog.yml", *_files(inputs, catalog)],
        # the whole file where a node takes all parameters
        "params": [{PARAMETERS: None if "parameters" in inputs else keys}],
        "outs": _files(outputs - {METRICS}, catalog),
    }
    if METRICS in outputs:
        stage["metrics"] = [{path: {"cache": False} for path in _files({METRICS}, catalog)}]
    return stage


def _files(datasets: set[str], catalog: CatalogProtocol[Any, Any]) -> list[str]:
    """Paths in the project of all datasets that are files."""
    stored = [catalog.get(name) for name in sorted(datasets) if name != "parameters" and not name.startswith("params:")]
    return [str(path.relative_to(PROJECT)) for one in stored if isinstance(one, FileDataset) for path in one.paths]


def main() -> None:
    header = "# Made by `make dvc-yaml` from pipelines and catalog; not written by hand.\n"
    (PROJECT / "dvc.yaml").write_text(header + yaml.safe_dump(make_stages(PROJECT), sort_keys=False))


if __name__ == "__main__":
    main()
