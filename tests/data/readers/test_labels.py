"""Lists, names of classes and tables as users write them."""

from pathlib import Path

import pytest

from fbr_plugin.data.readers.labels import labels_from_csv, read_class_names, read_classes, read_ids
from fbr_plugin.errors import InputError


@pytest.mark.parametrize(
    ("encoding", "found"), [("latin-1", "another encoding, such as Latin-1"), ("utf-16", "UTF-16")]
)
def test_text_in_another_encoding_is_named(tmp_path: Path, encoding: str, found: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("id,kuh,bär\n1,0,1\n".encode(encoding))
    message = rf"a\.txt is not in UTF-8 but in {found}, as its line 1 shows: save it as UTF-8$"
    for read in (read_ids, read_class_names, lambda path: labels_from_csv(path, ["kuh", "bär"])):
        with pytest.raises(InputError, match=message):
            read(path)
    path.write_bytes("id,kuh,bär\n1,0,1\n".encode("utf-8-sig"))
    assert labels_from_csv(path, ["kuh", "bär"])["1"].tolist() == [0, 1]


def test_names_of_classes_are_unique_and_of_the_foreground(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("cat\ndog\ncat\n")
    with pytest.raises(InputError, match=r"classes\.txt names the class 'cat' twice: each class needs"):
        read_class_names(path)
    path.write_text("Background\ncat\n")
    with pytest.raises(InputError, match=r"classes\.txt names 'Background' as a class: leave it out"):
        read_class_names(path)
    with pytest.raises(InputError, match=r"^class_names names the class 'a' twice"):
        read_classes(tmp_path / "masks", [], None, ["a", "a"])
    path.unlink()
    with pytest.raises(InputError, match=r"^num_classes must be at least 1, got -3$"):
        read_classes(tmp_path / "masks", [], -3, None)


def test_an_id_that_is_listed_again_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("b\na\nb\n")
    with pytest.warns(
        UserWarning, match=r"a\.txt lists 1 ids more than once, the first is b: each is taken once"
    ):
        assert read_ids(tmp_path / "a.txt") == ["b", "a"]
