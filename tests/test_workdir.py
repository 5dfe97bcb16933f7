from pathlib import Path

import pytest

import duodiff_pipeline.workdir
from duodiff_pipeline.errors import InputError
from duodiff_pipeline.workdir import WorkDir, code_version

PARAMETERS = {"steps": 10, "optimiser": {"rate": 1e-3}}
INPUTS = {"train": "ab", "backbone": "cd"}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two rooms that the tests may change."""
    folder = tmp_path / "package"
    for room in ("diffusion", "networks"):
        (folder / room / "inner").mkdir(parents=True)
        (folder / room / "inner" / "part.py").write_text("x = 1\n")
        (folder / room / "whole.py").write_text("y = 2\n")
    monkeypatch.setattr(duodiff_pipeline.workdir, "PACKAGE", folder)
    return folder


@pytest.fixture
def make(tmp_path, package):
    def make(node="train", parameters=PARAMETERS, inputs=INPUTS, rooms=("diffusion", "networks")) -> WorkDir:
        return WorkDir(tmp_path / ".work", node, parameters, inputs, rooms)

    return make


def test_the_same_key_is_the_same_folder(make, tmp_path):
    first = make()
    again = make(
        parameters=dict(reversed(PARAMETERS.items())),
        inputs=dict(reversed(INPUTS.items())),
        rooms=["networks", "diffusion"],
    )
    assert first.folder == again.folder == tmp_path / ".work" / "train" / first.key
    assert first.folder.is_dir()


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {**PARAMETERS, "steps": 11}},
        {"parameters": {**PARAMETERS, "optimiser": {"rate": 2e-3}}},
        {"parameters": {**PARAMETERS, "flip": False}},
        {"inputs": {**INPUTS, "train": "ac"}},
        {"inputs": {"train": "cd", "backbone": "ab"}},
        {"rooms": ("diffusion",)},
        {"node": "train_shallow"},
    ],
    ids=str,
)
def test_a_changed_parameter_input_room_or_node_is_another_folder(make, change):
    assert make(**change).folder != make().folder


@pytest.mark.parametrize("changed", ["diffusion/whole.py", "networks/inner/part.py"])
def test_a_changed_source_file_is_another_folder_until_it_is_changed_back(make, package, changed):
    before = make().folder
    source = (package / changed).read_text()
    (package / changed).write_text(source + "# a comment\n")
    assert make().folder != before
    (package / changed).write_text(source)
    assert make().folder == before


def test_a_new_or_renamed_source_file_is_another_folder(make, package):
    before = make().folder
    (package / "networks" / "whole.py").rename(package / "networks" / "renamed.py")
    renamed = make().folder
    (package / "networks" / "new.py").write_text("")
    assert len({before, renamed, make().folder}) == 3


def test_a_room_that_is_not_used_and_files_that_are_no_source_do_not_matter(make, package):
    before = make(rooms=["diffusion"]).folder
    (package / "networks" / "whole.py").write_text("z = 3\n")
    (package / "diffusion" / "notes.txt").write_text("hello")
    assert make(rooms=["diffusion"]).folder == before


def test_every_room_of_the_real_package_counts():
    rooms = ["diffusion", "networks", "images", "training", "search"]
    assert len({code_version([room]) for room in rooms}) == len(rooms)


class Computing:
    def __init__(self, value):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return self.value


def test_a_value_is_computed_once_and_remembered_by_later_runs(make):
    compute = Computing({"losses": [[1, 0.5]], "seconds": 2.5})
    assert [make().remember("result", compute) for _ in range(3)] == [compute.value] * 3
    assert compute.calls == 1


def test_a_value_is_the_same_computed_and_remembered(make):
    compute = Computing({"losses": [(1, 0.5)], 3: None})
    computed, remembered = (make().remember("result", compute) for _ in range(2))
    assert repr(computed) == repr(remembered)


def test_names_and_keys_have_values_of_their_own(make):
    first, other = make(), make(parameters={})
    assert first.remember("a", lambda: 1) == 1
    assert first.remember("b", lambda: 2) == 2
    assert other.remember("a", lambda: 3) == 3
    assert first.remember("a", lambda: 4) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_computation_that_was_killed_is_done_again(make, error):
    def killed():
        raise error

    with pytest.raises(error):
        make().remember("result", killed)
    assert make().remember("result", lambda: 7) == 7


def test_a_half_written_value_is_not_taken(make, monkeypatch):
    work = make()
    (work.folder / ".result.json.4711.part").write_text('{"losses": [')
    assert work.remember("result", lambda: 7) == 7

    def write_half(path, text):
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError("disk full")

    with monkeypatch.context() as context:
        context.setattr(Path, "write_text", write_half)
        with pytest.raises(OSError, match="disk full"):
            work.remember("other", lambda: [8, 8, 8])
    assert work.remember("other", lambda: 9) == 9


def test_it_knows_what_it_remembers(tmp_path):
    work = WorkDir(tmp_path, "node", {}, {}, [])
    assert not work.remembers("value")
    work.remember("value", lambda: 1)
    assert work.remembers("value")


def test_a_value_without_the_file_beside_it_is_computed_anew(make):
    work, compute = make(), Computing(1)
    grid = work.folder / "grid.safetensors"
    assert not work.remembers("value", grid)
    assert work.remember("value", compute, grid) == 1
    grid.touch()
    assert work.remembers("value", grid)
    assert work.remember("value", compute, grid) == 1
    assert compute.calls == 1
    grid.unlink()
    assert work.remember("value", compute, grid) == 1
    assert compute.calls == 2


@pytest.mark.parametrize("damage", [lambda text: text[:-1], lambda text: text.replace("2.5", "2.6"), lambda _: "[]"])
def test_a_value_that_was_altered_is_refused_until_it_is_deleted(make, damage):
    work, compute = make(), Computing({"seconds": 2.5})
    work.remember("result", compute)
    path = work.folder / "result.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError) as refusal:
        work.remember("result", compute)
    assert str(refusal.value) == f"{path} is damaged: delete it, and what it held is computed anew"
    path.unlink()
    assert work.remember("result", compute) == {"seconds": 2.5}
