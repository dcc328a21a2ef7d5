"""Folders and files of results: checked before anything is computed."""

import os
import resource
from pathlib import Path

import pytest

from fbr_plugin.errors import InputError
from fbr_plugin.files import check_file, check_folder, make_folder, warn_of_files, write_text


@pytest.mark.parametrize(("name", "why"), [("taken", "File exists"), ("taken/in/it", "Not a directory")])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(InputError, match=rf"{name} cannot hold results \({why}\): name another folder$"):
        make_folder(tmp_path / name)
    make_folder(tmp_path / "free" / "in it")
    assert not [*(tmp_path / "free" / "in it").iterdir()]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a folder in which not even root can write")
def test_a_folder_without_permission_is_named() -> None:
    with pytest.raises(InputError, match=r"^/proc/self/nothing cannot hold results"):
        make_folder("/proc/self/nothing")


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "in it")
    check_file(tmp_path / "new" / "file.json")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(InputError, match=r"is a folder: name the file to write$"):
        check_file(tmp_path)


def test_files_of_an_earlier_result_are_counted(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    warn_of_files(tmp_path / "missing")
    warn_of_files(tmp_path)
    assert not recwarn.list
    write_text(tmp_path / "a.txt", "bär")
    assert (tmp_path / "a.txt").read_bytes() == "bär".encode()
    with pytest.warns(UserWarning, match="already holds 1 files: those of the same names are replaced"):
        warn_of_files(tmp_path)


def test_a_file_that_the_system_refuses_is_named_and_the_earlier_one_kept(tmp_path: Path) -> None:
    path, limits = tmp_path / "report.json", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_text(path, "earlier")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as refused:
            write_text(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refused.value.filename == str(path)
    assert path.read_text() == "earlier"
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]
