import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.tables import load_table, save_table

TABLE = pd.DataFrame(
    {
        "plan": ["deep", "shallow"],
        "edges": [[20.0, 60.0], []],
        "k": pd.array([3, None], "Int64"),
        "fid": [1 / 3, np.nan],
        "on_front": [True, False],
    }
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "table.parquet"


def test_round_trip_keeps_types_and_every_bit(path):
    save_table(path, TABLE)
    found = load_table(path)
    assert_frame_equal(found.drop(columns="edges"), TABLE.drop(columns="edges"), check_exact=True)
    assert [list(edges) for edges in found["edges"]] == TABLE["edges"].tolist()
    assert_frame_equal(pd.read_parquet(path), found)


def test_equal_tables_give_equal_bytes(path):
    save_table(path, TABLE)
    first = path.read_bytes()
    save_table(path, TABLE.set_index(pd.Index([7, 8])))
    assert path.read_bytes() == first


def test_a_bit_flipped_anywhere_is_refused_or_changes_nothing(path):
    save_table(path, TABLE)
    content, expected = path.read_bytes(), repr(load_table(path).to_dict("list"))
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 7
        path.write_bytes(damaged)
        try:
            found = load_table(path)
        except InputError:
            refused += 1
        else:
            assert repr(found.to_dict("list")) == expected
            assert found.dtypes.astype(str).tolist() == TABLE.dtypes.astype(str).tolist()
    assert refused > len(content) / 4


def test_a_table_of_somebody_else_is_refused(path):
    path.parent.mkdir()
    TABLE.to_parquet(path)
    with pytest.raises(InputError, match="does not have the sha256"):
        load_table(path)


def test_a_file_cut_short_is_refused(path):
    save_table(path, TABLE)
    content = path.read_bytes()
    for kept in range(0, len(content), 37):
        path.write_bytes(content[:kept])
        with pytest.raises(InputError, match="damaged or no table"):
            load_table(path)
