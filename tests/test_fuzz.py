"""`python -m benchmarks.fuzz`: it finds what a reader does wrong, and damages files in the same way again."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from benchmarks.fuzz import __main__ as command
from benchmarks.fuzz.mutations import damaged
from benchmarks.fuzz.readers import READERS, Reader
from fbr_plugin.errors import InputError

VALID = b"valid\n"


def unnamed(path: Path) -> None:
    raise ValueError(f"{path} is wrong")


def without_file(path: Path) -> None:
    raise InputError("it is wrong")


def several_lines(path: Path) -> None:
    raise InputError(f"{path} is\nwrong")


def named(path: Path) -> None:
    raise InputError(f"{path} is wrong: correct it")


def memory(path: Path) -> None:
    try:
        bytes(2**40)
    except MemoryError as error:
        raise InputError(f"{path} is too large") from error


def started(path: Path) -> None:
    os.system("true")


def hang(path: Path) -> None:
    time.sleep(60)


def crash(path: Path) -> None:
    os._exit(1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory by Linux")
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        *((unnamed, "unnamed"), (without_file, "unnamed"), (several_lines, "unnamed"), (named, "named")),
        *((memory, "memory"), (started, "started"), (hang, "hang"), (crash, "crash")),
    ],
)
def test_what_a_reader_does_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[Path], None],
    kind: str,
) -> None:
    def read(path: Path) -> None:
        if path.read_bytes() != VALID:
            fault(path)

    reader = Reader(lambda folder: (folder / "a.txt").write_bytes(VALID), ("a.txt",), read)
    monkeypatch.setitem(READERS, "list", reader)
    out, kept = tmp_path / "out.json", tmp_path / "kept"
    words = ["fuzz", "--reader", "list", "--inputs", "2", "--timeout", "0.3", "--out", out, "--keep", kept]
    monkeypatch.setattr(sys, "argv", [*map(str, words)])
    monkeypatch.setenv("FBR_MAX_PIXELS", "1000000")  # or the command sets it, for later tests as well
    command.main()
    result = json.loads(out.read_text())["list"]
    assert result[kind] >= 1
    assert result[kind] + result["read"] == result["inputs"] == 2
    assert len(result["findings"]) == (kind != "named")
    assert f"a.txt: {kind}" in capsys.readouterr().out or kind == "named"
    assert kept.exists() == (kind != "named")


@pytest.mark.parametrize("name", READERS)
def test_files_are_damaged_in_the_same_way_again(tmp_path: Path, name: str) -> None:
    reader = READERS[name]
    reader.write(tmp_path)
    for file in reader.files:
        valid, suffix = (tmp_path / file).read_bytes(), Path(file).suffix
        reader.read(tmp_path / file)
        first, second = (
            [damaged(valid, suffix, valid, chance, [valid]) for _ in range(5)]
            for chance in (Random(0), Random(0))
        )
        assert first == second or suffix in (".npy", ".pkl")  # torch pickles the addresses of tensors
        assert sum(each != valid for each in first) >= 3
