"""The entry point: an interrupted command, a stream of few letters, and no warning in a run."""

import errno
import io
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.processes import ended
from helpers.tiny import command, quick, write_photos

from fbr_plugin.cli import evaluate
from fbr_plugin.cli.main import main
from fbr_plugin.errors import DiskFullError


@pytest.fixture(autouse=True)
def as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder of the test's own, and leave the signals as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_command_ends_in_a_line_that_another_interrupt_does_not_break(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(words: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["fbr-plugin", "evaluate"])
    with pytest.raises(SystemExit, match=r"^interrupted$"):
        main()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    with pytest.raises(KeyboardInterrupt):
        main(["evaluate"])


@pytest.mark.parametrize("number", [1, 100_000], ids=["at the end", "in between"])
def test_output_that_nobody_reads_ends_a_command_quietly(number: int) -> None:
    code = "from fbr_plugin.cli import evaluate, main; "
    code += f"evaluate.run = lambda words: print('line' * {number}); main.main()"
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-c", code, "evaluate"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, timeout=100, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("met", [False, True])
def test_a_process_ends_with_its_launcher_before_they_have_met(met: bool) -> None:
    code = "import os, sys, time, types; from fbr_plugin.cli import evaluate, main; "
    code += f"sys.modules['torch.distributed'] = types.SimpleNamespace(is_initialized=lambda: {met}); "
    code += "evaluate.run = lambda words: (print(os.getpid(), flush=True), time.sleep(60)); main.main()"
    first = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
    words = [*first, sys.executable, "-c", code, "evaluate"]
    with subprocess.Popen(words, env={**os.environ, "LOCAL_RANK": "1"}, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        second = int(owner.stdout.readline())
        owner.kill()
    assert ended(second, 2 if met else 10) != met


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "no", "a.png"),
            "a.png: the disk is full; make room, and start again: what is",
        ),
        (OSError(errno.EDQUOT, "no", "a.png"), "a.png: the disk's quota is used up; make room"),
        (
            OSError(errno.EFBIG, "no", "a.png"),
            "a.png: the file is too large for this system; raise the",
        ),
        (OSError(errno.EROFS, "no", "a.png"), "a.png: the disk is read-only; use another folder"),
        (PermissionError(errno.EACCES, "no", "a.png"), "a.png: permission denied; change the permissions"),
        (DiskFullError(errno.ENOSPC, "no", "a.ckpt"), "a.ckpt: the disk is full; make room"),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed. "), "a data worker was ended"),
        (RuntimeError("DataLoader worker (pid(s) 3) exited unexpectedly"), "a data worker .*num_workers"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "the memory does not suffice: low",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "the memory .*batch_size"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_the_machine_fails_at_is_one_line_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def failing(words: list[str]) -> None:
        raise error

    monkeypatch.setattr(evaluate, "run", failing)
    monkeypatch.setattr(sys, "argv", ["fbr-plugin", "evaluate"])
    with pytest.raises(SystemExit, match=f"^error: {line}") as stop:
        main()
    assert "\n" not in str(stop.value)
    with pytest.raises(type(error)):
        main(["evaluate"])


def test_another_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(words: list[str]) -> None:
        raise OSError(errno.EIO, "broken", "a.png")

    monkeypatch.setattr(evaluate, "run", failing)
    monkeypatch.setattr(sys, "argv", ["fbr-plugin", "evaluate"])
    with pytest.raises(OSError, match="broken"):
        main()


def test_letters_that_the_shell_cannot_print_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(evaluate, "run", lambda words: print("bär", flush=True))
    main(["evaluate"])
    assert written.getvalue() == b"b?r\n"


def test_a_small_run_warns_of_nothing(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    common = ["--model", "CAMFBR", "--model.encoder", "small", "--model.num_classes", 2]
    common += ["--model.scales", "[1.0]"]
    common += ["--data", "FolderDataModule", "--data.root", photos, "--data.lists.val", "train", *quick(2)]
    sizes = ["--data.augmentation.crop_size", 32, "--data.loading.batch_size", 3]
    listed = photos / "ImageSets" / "Segmentation" / "train.txt"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gate = ["--model.gate.enabled", "true"]
        command("fit", *common, *gate, *sizes, "--trainer.default_root_dir", "run")
        (checkpoint,) = Path("run").rglob("epoch*.ckpt")
        command("predict", *common, "--ckpt_path", checkpoint, "--output_dir", "seeds")
        command(
            "evaluate",
            "--predictions",
            "seeds",
            "--masks",
            photos / "SegmentationClass",
            "--list_file",
            listed,
        )


def test_a_device_that_is_absent_is_named(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    words = ["fit", "--model", "CAM", "--model.encoder", "small", "--model.num_classes", 2]
    words += ["--data", "FolderDataModule", "--data.root", photos]
    with pytest.raises(ValueError, match=r"^the Trainer cannot be built: .*should be an int > 0"):
        command(*words, "--trainer.accelerator", "cpu", "--trainer.devices", "[0]")


def test_files_that_a_prediction_would_join_are_counted(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(ValueError, match=r"taken cannot hold results \(File exists\): name another folder"):
        command("pipeline", "--output", "taken", "--data", "SyntheticDataModule", "--classifier.model", "CAM")
