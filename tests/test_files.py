import hashlib
import json
import math
import os
import stat

import pytest

from pipeline import files


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "down" / "out"


def write(path, text, error=None):
    with files.atomic_file(path) as partial:
        partial.write_text(text)
        if error:
            raise error


def write_folder(path, name, error=None):
    with files.atomic_folder(path) as partial:
        (partial / name).write_text(name)
        if error:
            raise error


def test_a_file_takes_its_name_when_it_is_whole(path):
    with files.atomic_file(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_earlier_file_and_no_other(path):
    write(path, "earlier")
    with pytest.raises(KeyboardInterrupt):
        write(path, "half", KeyboardInterrupt())
    assert path.read_text() == "earlier"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_protected_file_is_replaced_and_its_twin_is_left_alone(path, tmp_path):
    """DVC's cache and workspace are hard links to one read-only file."""
    write(path, "cached")
    path.chmod(0o444)
    os.link(path, tmp_path / "cache")
    write(path, "new")
    assert path.read_text() == "new"
    assert (tmp_path / "cache").read_text() == "cached"


def test_files_and_folders_are_as_readable_as_any_other(path, tmp_path):
    before = os.umask(0o027)
    try:
        write(path, "")
        write_folder(tmp_path / "folder", "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_a_folder_replaces_the_earlier_one_whole(path):
    write_folder(path, "old")
    write_folder(path, "new")
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_earlier_folder_and_no_other(path):
    write_folder(path, "old")
    with pytest.raises(RuntimeError):
        write_folder(path, "new", RuntimeError())
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(path.parent.iterdir()) == [path]


def test_text_is_utf_8(path):
    files.write_text(path, "mIoU \u2265 0.5\n")
    assert path.read_bytes() == b"mIoU \xe2\x89\xa5 0.5\n"


def test_json_keeps_its_order_and_ends_with_a_line(path):
    files.write_json(path, {"b": 1, "a": [0.5]})
    assert path.read_text() == '{\n  "b": 1,\n  "a": [\n    0.5\n  ]\n}\n'
    assert json.loads(path.read_text()) == {"b": 1, "a": [0.5]}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_has_no_numbers_that_are_none(path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"miou": value})
    assert not path.exists()


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_digest_is_that_of_the_bytes(path, algorithm):
    write(path, "abc")
    assert files.digest(path, algorithm) == hashlib.new(algorithm, b"abc").hexdigest()
