"""What happens around a run: parameters are validated whole before any node, and the run is tracked."""

import logging
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from . import past_runs, pipeline_registry, tracking
from .config import Parameters, validate, validate_globals
from .datasets.files import FileDataset
from .errors import InputError
from .files import sha256_of_json
from .lineage import Lineage
from .lock import ExperimentLock
from .provenance import git_state
from .workdir import code_version

logger = logging.getLogger(__name__)


class ExperimentHooks:
    """One instance serves one run."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self.project: Path = context.project_path
        self.environment = context.env or "base"
        self.runtime_params = dict(context.config_loader.runtime_params or {})
        self.raw = context.config_loader["parameters"]
        parameters = validate(self.raw)
        globals_ = validate_globals(context.config_loader["globals"])
        self.experiment, self.duration = globals_.experiment, globals_.duration
        self.parameters, self.lineage = parameters, Lineage(parameters)
        if parameters.hardware.threads is not None:
            torch.set_num_threads(parameters.hardware.threads)
        pipeline_registry.use_parameters(self.raw)

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        catalog["work_folder"] = MemoryDataset(self.project / "data" / ".work" / self.experiment, copy_mode="assign")
        catalog["environment"] = MemoryDataset(self.environment)
        catalog["runtime_params"] = MemoryDataset(self.runtime_params)

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        if "params:hardware" in pipeline.inputs():
            self.parameters.hardware.require_present()
        require_inputs(pipeline, catalog)
        _require_backbones(pipeline, self.parameters)
        self.lock = ExperimentLock(self.project, self.experiment)
        self.lock.acquire()
        self.nodes = {node.name: i for i, node in enumerate(pipeline.nodes, start=1)}
        whole = len(pipeline.nodes) == len(pipelines["__default__"].nodes)
        names = [name for name in pipelines if name != "__default__"] if whole else run_params["pipeline_names"]
        what = f"{self.experiment}: {', '.join(names) or 'chosen nodes'}; {len(self.nodes)} steps"
        logger.info("%s%s", what, f", {self.duration}" if whole else "")
        key = experiment_key(self.raw, self.experiment)
        name = f"{self.experiment} {datetime.now():%Y-%m-%d %H:%M}"
        run = tracking.start(self.project, self.experiment, key, name)
        run.set_tags({"experiment_key": key, **source_tags(self.project, self.environment)})
        run.log_params(self.raw)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        logger.info("[%d/%d] %s", self.nodes[node.name], len(self.nodes), _shown(node))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        self.after_dataset_loaded(dataset_name, data)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        self.lineage.see(dataset_name, data)
        if dataset_name == "train_images":
            tracking.current().set_tags({"data_sha256": data.sha256})

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
        if "report" in pipeline.datasets():
            tracking.current().log_folder(self.report_folder)
        for name in (past_runs.BLOCKS, past_runs.EXITS, past_runs.CURVES, past_runs.SUGGESTED):
            if name in pipeline.datasets():
                tracking.current().log_file(catalog[name].path, past_runs.TABLES)
        tracking.current().end()
        self.lock.release()

    @hook_impl
    def on_pipeline_error(self) -> None:
        tracking.current().end("FAILED")
        self.lock.release()

    @property
    def report_folder(self) -> Path:
        return self.project / "data" / "08_reporting" / self.experiment


def experiment_key(parameters: dict[str, Any], experiment: str) -> str:
    """What runs of the same parameters and code have in common, 16 hexadecimal digits."""
    return sha256_of_json({"parameters": parameters, "experiment": experiment, "code": code_version(["."])})[:16]


def source_tags(project: Path, environment: str) -> dict[str, str]:
    """What a tracked run comes from; MLflow shows those of its own names in columns."""
    git = git_state(project)
    return {
        "environment": environment,
        "git_commit": git["commit"],
        "git_dirty": str(git["dirty"]),
        "mlflow.source.name": shlex.join(["kedro", *sys.argv[1:]]),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git["commit"],
    }


def require_inputs(pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
    """Raises InputError, naming the file, where a pipeline would read one that is not there."""
    for name in sorted(pipeline.inputs()):
        dataset = catalog.get(name)
        if isinstance(dataset, FileDataset) and not dataset.exists():
            if dataset.path.is_dir():
                way_out = f"is a folder, where a file should be: remove it and run the pipeline that makes {name}"
            else:
                way_out = f"does not exist: run the pipeline that makes {name} first"
            raise InputError(f"{dataset.path} {way_out}")


def _require_backbones(pipeline: Pipeline, parameters: Parameters) -> None:
    """Raises InputError where a backbone's file that would be taken is not there."""
    taken = {node.namespace for node in pipeline.nodes if node.short_name == "take"}
    for name, backbone in parameters.backbones.items():
        if name in taken and not Path(backbone.taken_from or "").expanduser().is_file():
            key = "from_checkpoint.path" if backbone.from_checkpoint else "file"
            raise InputError(f"backbones.{name}.{key}: there is no file {backbone.taken_from}")


def _shown(node: Node) -> str:
    words = node.func.__name__.replace("_", " ")
    return f"{words}: {node.namespace}" if node.namespace else words
