"""`kedro` commands at a fraction of their price: one process imports everything, and a fork of it runs each command.

Started by `ForkedKedro`, it reads a request a line (JSON) from its standard input and answers with the exit status.
A fork enters where the `kedro` executable enters, in the folder and with the file size limit of the request.
"""

import gc
import importlib
import json
import os
import pkgutil
import resource
import subprocess
import sys
import traceback
from pathlib import Path

PRELOADED = (
    "diffusers.schedulers.scheduling_ddim",
    "diffusers.schedulers.scheduling_dpmsolver_multistep",
    "kedro.framework.cli.project",
    "kedro.framework.session",
    "kedro.runner",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracking",
    "pyarrow.parquet",
    "sklearn.datasets",
    "sklearn.model_selection",
)


class ForkedKedro:
    """The process that forks; `folder` is where it stands and finds the logging configuration."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, folder: Path, *arguments: str, file_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run `kedro` with these arguments in `folder`, where no file may grow beyond `file_bytes`."""
        outputs = [folder / name for name in ("stdout.txt", "stderr.txt")]
        request = {"folder": str(folder), "arguments": arguments, "file_bytes": file_bytes}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        stdout, stderr = (path.read_text() for path in outputs)
        return subprocess.CompletedProcess(["kedro", *arguments], status, stdout, stderr)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    import duodiff_pipeline

    for module in pkgutil.walk_packages(duodiff_pipeline.__path__, "duodiff_pipeline."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # so that forks share it
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            answers.close()
            os._exit(_run(request))
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


def _run(request: dict) -> int:
    from kedro.framework.cli import main

    os.chdir(request["folder"])
    for number, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if request["file_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"], request["file_bytes"]))
    sys.argv = ["kedro", *request["arguments"]]
    status = 0
    try:
        main()
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    serve()
