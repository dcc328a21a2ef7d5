"""A process that reads damaged files within limits of time and memory, and tells what became of each."""

import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import fbr_plugin
from fbr_plugin import baselines
from fbr_plugin.errors import UserError

LONGEST = 1000  # characters of an error's message
PACKAGES = tuple(f"{Path(*package.__path__)}{os.sep}" for package in (fbr_plugin, baselines))
STARTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
)


class Outcome(NamedTuple):
    """What became of a damaged file.

    Attributes:
        kind: `read`, `named` (an error as it should be), or a finding: `unnamed`, `memory`, `started`,
            `hang`, `crash`.
        detail: the error's kind and where it was raised.
        message: the beginning of the error's message.
        new: whether it reached lines that none before it did.
    """

    kind: str
    detail: str = ""
    message: str = ""
    new: bool = False


def serve(read: Callable[[Path], object], root: Path, pipe: Connection, memory: int) -> None:
    """Read each file whose path comes through a pipe, and send its outcome back.

    Args:
        read: a reader.
        root: folder of all files, which is in the path that an error names.
        pipe: gives paths, takes outcomes.
        memory: bytes that this process may take besides those that it has at first.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    warnings.simplefilter("ignore")
    started: list[str] = []
    sys.addaudithook(lambda event, _: started.append(event) if event.startswith(STARTS) else None)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    seen: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        """Note the steps from line to line in our code."""
        name, before = frame.f_code.co_filename, 0
        if not name.startswith(PACKAGES):
            return None

        def step(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                seen.add((name, before, frame.f_lineno))
                before = frame.f_lineno
            return step

        return step

    while True:
        path: Path = pipe.recv()
        started.clear()
        known = len(seen)
        sys.settrace(trace)
        try:
            read(path)
            outcome = Outcome("read")
        except BaseException as error:
            sys.settrace(None)
            outcome = judge(error, root)
        sys.settrace(None)
        if started:
            outcome = Outcome("started", started[0])
        pipe.send(outcome._replace(new=len(seen) > known))


def judge(error: BaseException, root: Path) -> Outcome:
    """Whether an error is as it should be: a user's, of one bounded line that names a file below `root`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "can't allocate memory" in str(cause)[:200]:
            return Outcome("memory", _place(cause))
        cause = cause.__cause__ or cause.__context__
    message, kind = str(error), type(error).__name__
    if not isinstance(error, UserError):
        fault = kind
    elif str(root) not in message:
        fault = f"{kind} without a file"
    elif len(message) > LONGEST or "\n" in message:
        fault = f"{kind} that is long"
    else:
        return Outcome("named")
    return Outcome("unnamed", f"{fault} at {_place(error)}", message[:200])


def _place(error: BaseException) -> str:
    """Where in our code an error was raised."""
    own = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith(PACKAGES)]
    frames = own or traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
