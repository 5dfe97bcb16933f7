"""On the path of a process, kills it in the middle of writing its n-th checkpoint.

KILLED_IN_CHECKPOINT: n and what is on the disk then: half of the file, or all of it under its provisional name.
"""

import os
import signal
import sys
from typing import Any

nth, content = os.environ["KILLED_IN_CHECKPOINT"].split()
written = 0


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    global written
    if event == "os.rename" and str(arguments[1]).endswith(".ckpt"):
        written += 1
        if written == int(nth):
            if content == "half":
                os.truncate(arguments[0], os.stat(arguments[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(watch)
