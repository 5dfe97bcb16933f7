"""More processes for the search of an experiment, on this machine or another one, and a look at it while it runs."""

import logging
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from .config import validate
from .errors import InputError
from .hooks import require_inputs
from .lineage import Lineage

logger = logging.getLogger(__name__)

SEARCH, SEARCHES = "switch_search", "search_switch"  # the pipeline, and the function of its node
HOST, PORT = "127.0.0.1", 8080


def join_search(project: Path, env: str, runtime_params: dict[str, Any]) -> int:
    """Run trials of the search until all have ended; returns how many there are.

    Nothing is written but the study and the work folder: the trials become the result of the run that is joined. The
    key of the study holds parameters, networks, reference, code and versions of libraries, so a worker can only join
    the very search that it would run itself. Raises InputError where an input is not there yet.
    """
    bootstrap_project(project)
    with KedroSession.create(project, env=env, runtime_params=runtime_params) as session:
        assert isinstance(session, KedroSession)
        context = session.load_context()
        parameters = validate(context.config_loader["parameters"])
        parameters.hardware.require_present()
        lineage = Lineage(parameters)
        (search,) = (node for node in pipelines[SEARCH].nodes if node.func.__name__ == SEARCHES)
        alone = pipelines[SEARCH].only_nodes(search.name)
        require_inputs(alone, context.catalog)
        inputs = {name: context.catalog.load(name) for name in alone.inputs()}
        for name, data in inputs.items():
            lineage.see(name, data)
        (trials,) = search.run(inputs).values()
    return len(trials)


def show_dashboard(project: Path, env: str, experiment: str) -> None:
    """Serve optuna-dashboard on the studies of the newest search, until it is stopped.

    Raises InputError where there is none, or optuna-dashboard is not installed.
    """
    from .search.storage import JOURNAL, open_storage

    try:
        from optuna_dashboard import run_server
    except ModuleNotFoundError as error:
        raise InputError(f"the dashboard needs {error.name}: pip install optuna-dashboard") from None
    bootstrap_project(project)
    with KedroSession.create(project, env=env) as session:
        assert isinstance(session, KedroSession)
        url = validate(session.load_context().config_loader["parameters"]).switch_search.storage
    journals = (project / "data" / ".work" / experiment / SEARCH).glob(f"*/{JOURNAL}")
    newest = max(journals, key=lambda path: path.stat().st_mtime, default=None)
    if url is None and newest is None:
        raise InputError(f"{experiment} has no search yet: run the pipeline {SEARCH} first")
    storage = open_storage(newest.parent if newest else project, url, experiment).storage
    logger.info("the studies are shown on http://%s:%d", HOST, PORT)
    run_server(storage, host=HOST, port=PORT)
