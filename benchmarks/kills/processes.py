"""Runs of the console script in processes that are killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from fbr_plugin.cli.main import main
from fbr_plugin.pipeline import stages

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LIMIT = 300.0  # seconds


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        status: its exit status; negative for a signal.
        killed: whether it was sent a signal before its end.
        seconds: from its first file to its end.
    """

    status: int
    killed: bool
    seconds: float


def run(
    words: Sequence[str],
    log: Path,
    begun: Callable[[], bool],
    kill: signal.Signals | None = None,
    after: float = 0.0,
    temporary: Path | None = None,
    alone: bool = False,
) -> Ended:
    """Run a command line; send a signal some time after its first file.

    Args:
        words: the words after `fbr-plugin`.
        log: file of its output.
        begun: whether its first file is there.
        kill: the signal; None lets it end.
        after: seconds from the first file to the signal.
        temporary: folder of temporary files.
        alone: start it anew, as Lightning's further processes need; otherwise it is a fork of this process,
            which has imported PyTorch already.
    """
    environment = {"OMP_NUM_THREADS": "1", **({"TMPDIR": str(temporary)} if temporary else {})}
    process = _Started(words, log, environment) if alone else _Forked(words, log, environment)
    start = time.monotonic()
    while not begun() and process.running() and time.monotonic() - start < LIMIT:
        time.sleep(0.01)
    first = time.monotonic()
    while process.running() and time.monotonic() - first < (after if kill else LIMIT):
        time.sleep(0.005)
    killed = kill is not None and process.running()
    if killed or process.running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.number, kill or signal.SIGKILL)
    status = process.wait()
    return Ended(status, killed, time.monotonic() - first)


class _Forked:
    """A fork of this process."""

    def __init__(self, words: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.process = get_context("fork").Process(target=_main, args=([*words], log, environment))
        self.process.start()
        assert self.process.pid is not None
        self.number = self.process.pid

    def running(self) -> bool:
        return self.process.is_alive()

    def wait(self) -> int:
        self.process.join(LIMIT)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        return self.process.exitcode if self.process.exitcode is not None else -signal.SIGKILL


class _Started:
    """A process of its own."""

    def __init__(self, words: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "fbr_plugin", *words]
        with log.open("a") as file:
            self.process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdout=file, stderr=subprocess.STDOUT
            )
        self.number = self.process.pid

    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _main(words: list[str], log: Path, environment: dict[str, str]) -> None:
    """The console script, in a fork."""
    with log.open("a") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    os.environ.update(environment)
    sys.argv = ["fbr-plugin", *words]
    stages.SAVE_EVERY = timedelta(seconds=0.3)  # so that short trainings are resumed
    main()
