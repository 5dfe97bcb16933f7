"""Keyed work folders: where a costly node keeps what it has done so far, so that it can go on after a kill.

The folder is `<root>/<node>/<key>/`; the key is a hash of the node's parameters, its inputs' sha256 and the source of
the rooms it uses. A changed parameter, input or room of code makes another key, so stale work is never reused.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import sha256_of_json, whole_file, writing
from .provenance import versions

PACKAGE = Path(__file__).parent
SHARED_CODE = [
    "config/hardware.py",
    "config/settings.py",
    "config/shared.py",
    "files.py",
    "processes.py",
    "images",
    "pipelines/measuring.py",
    "pipelines/trained.py",
    "tables.py",
]


def code_version(rooms: Sequence[str]) -> str:
    """sha256 over the source files of the given rooms, or single files, of this package."""
    digest = hashlib.sha256()
    for room in sorted(rooms):
        place = PACKAGE / room
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(str(path.relative_to(PACKAGE)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


class WorkDir:
    """The work folder of one node under one key.

    root: the experiment's work folder; parameters: what the result depends on; inputs: sha256 by name; rooms: the code
    it depends on, to which what nodes and configuration share and the versions of the libraries are added; shared:
    whether several processes work in it at once, so that what is half written may be another's; look: makes nothing,
    for who only wants to know what is there.
    """

    def __init__(
        self,
        root: Path,
        node: str,
        parameters: Mapping[str, Any],
        inputs: Mapping[str, str],
        rooms: Sequence[str],
        shared: bool = False,
        look: bool = False,
    ) -> None:
        code = code_version([*rooms, *SHARED_CODE])
        key = sha256_of_json({"parameters": parameters, "inputs": inputs, "code": code, "versions": versions()})
        self.key = key[:16]
        self.folder = root / node / self.key
        if look:
            return
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for half_written in () if shared else self.folder.glob(".*.part"):  # by a process that was killed
                half_written.unlink()

    def remember(self, name: str, compute: Callable[[], Any], with_file: Path | None = None) -> Any:
        """The JSON value that `compute` made under this name, now or in an earlier run.

        with_file: what `compute` also writes; where that is gone, it is computed anew. Raises InputError, naming the
        file, where what is remembered is damaged.
        """
        path = self._remembered(name)
        if not self.remembers(name, with_file):
            value = json.loads(json.dumps(compute()))  # JSON turns tuples to lists, keys to text
            with whole_file(path) as beside:
                beside.write_text(json.dumps({"value": value, "sha256": sha256_of_json(value)}))
        try:
            stored = json.loads(path.read_text())
            intact = stored["sha256"] == sha256_of_json(stored["value"])
        except (ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise InputError(f"{path} is damaged: delete it, and what it held is computed anew")
        return stored["value"]

    def remembers(self, name: str, with_file: Path | None = None) -> bool:
        """Whether `remember` would compute nothing under this name."""
        return self._remembered(name).is_file() and (with_file is None or with_file.is_file())

    def _remembered(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def keep(self, name: str, write: Callable[[Path], None]) -> Path:
        """The file that `write` wrote under this name, now or in an earlier run; whole or not there at all."""
        path = self.folder / name
        if not path.is_file():
            with whole_file(path) as beside:
                write(beside)
        return path
