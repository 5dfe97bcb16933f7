"""Tables in parquet that notice when they were altered."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InputError
from .files import ANEW, sha256_of_json, whole_file

_SHA256 = b"duodiff_pipeline.sha256"


def save_table(path: Path, table: pd.DataFrame) -> None:
    """Write columns and rows, without the index; the file carries the sha256 of its content."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), _SHA256: _content_sha256(arrow).encode()}
    with whole_file(path) as beside:
        pq.write_table(arrow.replace_schema_metadata(metadata), beside)


def load_table(path: Path) -> pd.DataFrame:
    """What `save_table` wrote; raises InputError, naming the file, where it is damaged or altered."""
    try:
        arrow = pq.read_table(path)
        states = (arrow.schema.metadata or {}).get(_SHA256, b"").decode()
        intact, table = _content_sha256(arrow) == states, arrow.to_pandas()
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise InputError(f"{path} is damaged or no table: {ANEW}") from error
    if not intact:
        raise InputError(f"{path} is damaged, its content does not have the sha256 that it states: {ANEW}")
    return table


def _content_sha256(arrow: pa.Table) -> str:
    """sha256 of names, pandas' types and values, however parquet lays them out."""
    types = (arrow.schema.metadata or {}).get(b"pandas", b"").decode()
    return sha256_of_json([types, arrow.to_pydict()])
