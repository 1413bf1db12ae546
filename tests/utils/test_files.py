import pytest

from spiking_centernet.errors import ConfigError
from spiking_centernet.utils.files import atomic_write, remove_leftovers, require_writable_folder


def test_the_file_appears_only_when_the_block_ends_well(tmp_path):
    target = tmp_path / "new" / "log.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    target = tmp_path / "log.txt"
    target.write_text("old")

    def interrupted():
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "log.txt"):
        pass
    assert not list(tmp_path.iterdir())


def test_leftovers_are_what_a_killed_writer_leaves_and_nothing_else(tmp_path):
    with atomic_write(tmp_path / "a.json") as temporary:
        (tmp_path / ".hidden.json").write_text("mine")
        temporary.write_text("half")
        remove_leftovers(tmp_path)
        assert not temporary.exists()
        temporary.write_text("whole")
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden.json", "a.json"]


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(tmp_path):
    assert require_writable_folder(tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match="is a file, where a folder"):
        require_writable_folder(tmp_path / "taken")
    with pytest.raises(ConfigError, match="lies in a file"):
        require_writable_folder(tmp_path / "taken" / "below")
