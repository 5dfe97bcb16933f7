"""What a signal does to a command and to the processes that it started."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

# a command that starts a process, which starts another one; the last one says that it is there, and that it was stopped
INNER = """
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path("stopped").touch()
    sys.exit()
signal.signal(signal.SIGTERM, stop)
pathlib.Path("there").touch()
time.sleep(60)
"""
MIDDLE = "import subprocess, sys; subprocess.run([sys.executable, 'inner.py'])"
OUTER = """
import os, sys
from duodiff_pipeline.stopping import run_process, stoppable
with stoppable():
    run_process([sys.executable, "middle.py"], os.environ)
"""


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise TimeoutError(path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_a_command_started_stops_with_it(tmp_path: Path, number: signal.Signals) -> None:
    for name, code in (("inner", INNER), ("middle", MIDDLE), ("outer", OUTER)):
        (tmp_path / f"{name}.py").write_text(code)
    heard = partial(signal.signal, number, signal.SIG_DFL)  # where the tests run below nohup, SIGHUP is ignored
    command = [sys.executable, "outer.py"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process:
        wait_for(tmp_path / "there")
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == 128 + number
    assert said.startswith("Stopped. The same command goes on from here")
    assert "Traceback" not in said
    wait_for(tmp_path / "stopped")


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup."""
    code = """
import os, signal
from duodiff_pipeline.stopping import stoppable
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with stoppable():
    os.kill(os.getpid(), signal.SIGHUP)
print("went on")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "went on\n"
