"""Pools of processes that start fast and never outlive the process that started them."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext
from threading import Thread
from time import sleep
from typing import Any

_PERIOD = 0.5  # seconds between looks at the parent process


def process_context() -> BaseContext:
    """How processes are started: without this one's state of CUDA and of threads, which a fork would share.

    Where the system can, they are forks of a server that imports PyTorch and Lightning once; elsewhere each
    imports them anew, which takes seconds. The server keeps the environment variables of the time when it
    was started.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["fbr_plugin.training.mixin"])
    return context


def start_pool(workers: int, begin: Callable[..., None], *given: Any) -> ProcessPoolExecutor:
    """A pool of processes; end it by `shutdown(cancel_futures=True)`.

    Normally, the processes of a pool whose owner is killed wait for work forever. These end with their owner.
    A script that starts them needs `if __name__ == "__main__":`.

    Args:
        workers: number of processes.
        begin: initialises a process.
        given: arguments of `begin`.
    """
    return ProcessPoolExecutor(workers, process_context(), _begin, (begin, given))


def end_with_launcher() -> None:
    """End this process of a training with the one that started it, as long as the processes have not met.

    They would wait for each other for half an hour. After that, a lost connection ends them.
    """
    Thread(target=_end_with_launcher, args=(os.getppid(),), daemon=True).start()


def _end_with_launcher(launcher: int) -> None:
    """Look whether the parent process is still the launcher, until the processes have met."""
    while os.getppid() == launcher:
        with suppress(KeyError, AttributeError):  # while PyTorch is not imported whole
            if sys.modules["torch.distributed"].is_initialized():
                return
        sleep(_PERIOD)
    os._exit(1)


def _begin(begin: Callable[..., None], given: tuple[Any, ...]) -> None:
    """Initialise a process."""
    Thread(target=_end_with_parent, daemon=True).start()
    begin(*given)


def _end_with_parent() -> None:
    """Wait for the end of the parent process, then end at once."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
