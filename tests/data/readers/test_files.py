import os
from pathlib import Path

import pytest

from fbr_plugin.data.readers.files import coco_number, find_file, spellings
from fbr_plugin.files import replacing


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as partial:
        partial.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def write_half(path: Path) -> None:
        with replacing(path) as partial:
            partial.write_text("half of the n")
            raise OSError("disk full")

    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_half(path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "a.txt", []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append((os.fstat(number).st_size, path.exists())))
    with replacing(path) as partial:
        partial.write_text("one")
    assert synced == [(3, False)]


@pytest.mark.parametrize("name", ["9", "000000000009", "COCO_train2014_000000000009", "COCO_val2014_9"])
def test_names_of_one_image(name: str) -> None:
    assert coco_number(name) == 9
    assert spellings(name)[0] == name
    assert {"000000000009", "COCO_train2014_000000000009"} <= {*spellings(name)}


@pytest.mark.parametrize("name", ["2007_000032", "img_9", "COCO_test2014_000000000009", "9.jpg", ""])
def test_other_names_stand_for_themselves(name: str) -> None:
    assert coco_number(name) is None
    assert spellings(name) == (name,)


def test_files_are_found_by_any_name_their_own_first(tmp_path: Path) -> None:
    assert find_file(tmp_path, "9") == tmp_path / "9.png"
    (tmp_path / "COCO_val2014_000000000009.png").touch()
    assert find_file(tmp_path, "9") == tmp_path / "COCO_val2014_000000000009.png"
    (tmp_path / "9.jpeg").touch()
    assert find_file(tmp_path, "9", (".png", ".jpg", ".jpeg")) == tmp_path / "9.jpeg"
    (tmp_path / "000000000009.png").touch()
    assert find_file(tmp_path, "COCO_val2014_000000000009").name == "COCO_val2014_000000000009.png"
    assert find_file(tmp_path, "9").name == "000000000009.png"
